"""The script for a GPU runs, and says what it does not measure on a CPU."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    path = Path(__file__).parents[1] / "bench" / "gpu.py"
    monkeypatch.setattr(sys, "path", list(sys.path))
    spec = importlib.util.spec_from_file_location("gpu", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "gpu", module)
    spec.loader.exec_module(module)
    return module


def test_the_script_for_a_gpu_runs_on_a_cpu(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(script.ROWS, "DDCAdamW, pinned, compiled")
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu", "--sizes", "tiny", "--rounds", "1"])
    script.main()
    said = capsys.readouterr().out
    assert "not measured on a CPU: events, kernels, CUDA graphs" in said
    assert "DDCAdamW, pinned, CUDA graph: there are CUDA graphs on a GPU only" in said
    for row in ("AdamW, fused", "AdamW, foreach", "DDCAdamW, pinned", "Muon and AdamW", "DDCMuon"):
        assert f"| {row} | not on a CPU |" in said
