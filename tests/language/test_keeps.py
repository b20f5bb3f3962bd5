"""What is kept may be a view or a bare value."""

from __future__ import annotations

from pathlib import Path

import gaugec

TEXT = """
gauge t(n, d):
    "kept transposed"
    param  W[n, d], V[d]
    model  y = (W * V).T
    for every c in positive(d):
        W -> W * c
        V -> V / c
    keeps  y
    fix    abs(V) == 1
"""


def test_a_kept_value_may_be_transposed(tmp_path: Path) -> None:
    file = tmp_path / "t.gauge"
    file.write_text(TEXT)
    assert gaugec.verify(file).ok
    file.write_text(TEXT.replace("W -> W * c", "W -> W * c * c"))
    assert not gaugec.verify(file).ok
