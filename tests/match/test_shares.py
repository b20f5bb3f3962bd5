"""How much is read along an axis that is not resized: as many positions of a table as tokens, else always the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from match.models import OUT, UNITS, WIDTH, Net, audit, counts
from torch import Tensor, nn

pytestmark = pytest.mark.usefixtures("double")
ROWS, HEAD, LENGTH = 9, 12, 5
READ = "no rule is known for aten.matmul (what it reads depends on the size of an input)"


def placed(m: Any, x: Tensor) -> Tensor:
    found: Tensor = m.down(torch.relu(m.up(x + m.table[: x.shape[1]])))
    return found


@pytest.mark.parametrize("trained", [True, False])
def test_a_table_is_read_in_whole_at_its_own_length(trained: bool, spec: str) -> None:
    """There Python cuts nothing, and the graph is the same."""
    rows = torch.randn(ROWS, WIDTH)
    parts = dict(up=nn.Linear(WIDTH, UNITS), down=nn.Linear(UNITS, OUT), table=nn.Parameter(rows) if trained else rows)
    compiled = audit(spec, Net(placed, **parts), (torch.randn(3, LENGTH, WIDTH),))
    assert counts(compiled) == {"relu_rescale": 1}


CUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "a slice": lambda h: h[..., : 2 * h.shape[1]],
    "what is narrowed": lambda h: torch.narrow(h, -1, 0, min(HEAD, 2 * h.shape[1])),
    "a branch": lambda h: h[..., : HEAD if h.shape[1] < 50 else 6],
}


@pytest.mark.parametrize("name", CUTS)
def test_a_share_of_queries_and_keys_that_follows_the_length(name: str, spec: str) -> None:
    """At fewer tokens than the example's an element would mix what is read with what is not."""
    cut = CUTS[name]

    def run(m: Any, x: Tensor) -> Tensor:
        return (cut(m.q(x)) @ cut(m.k(x)).mT).softmax(-1) @ x

    model = Net(run, q=nn.Linear(WIDTH, HEAD), k=nn.Linear(WIDTH, HEAD))
    compiled = audit(spec, model, (torch.randn(3, LENGTH, WIDTH),))
    assert not compiled.sites
    assert READ in {refusal.reason for refusal in compiled.refusals if refusal.gauge == "qk_rotation"}
