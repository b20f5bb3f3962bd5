"""The scripts in `examples/` run, and go on where they ended."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

import pytest
import torch

EXAMPLES = Path(__file__).parents[1] / "examples"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_trainer_goes_on_where_it_ended(tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    trainer = script("trainer")
    whole = trainer.run(tmp_path / "whole", 6, save_every=6)
    (tmp_path / "parts").mkdir()
    shutil.copy(tmp_path / "whole" / "gauge.py", tmp_path / "parts")  # compiled once
    trainer.run(tmp_path / "parts", 4, save_every=4)
    parts = trainer.run(tmp_path / "parts", 6, save_every=6)
    assert whole.state.global_step == parts.state.global_step == 6
    one, two = whole.model.state_dict(), parts.model.state_dict()
    assert [name for name, x in one.items() if not torch.equal(x, two[name])] == []
    start = trainer.model().state_dict()
    assert [name for name, x in one.items() if torch.equal(x, start[name])] == []
    (tmp_path / "class").mkdir()
    shutil.copy(tmp_path / "whole" / "gauge.py", tmp_path / "class")
    trainer.run(tmp_path / "class", 2, save_every=2, by_class=True)  # of parameters without names, in groups
    done = trainer.run(tmp_path / "class", 4, save_every=4, by_class=True)
    optimizer = done.optimizer.optimizer
    assert done.state.global_step == 4 and type(optimizer).__name__ == "ByClass"
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.01, 0.0]
    assert next(iter(optimizer.named)) == "model.embed_tokens.weight"


def test_training_goes_on_where_it_ended(tmp_path: Path) -> None:
    train = script("train")
    whole = train.run(tmp_path / "whole", 6)
    (tmp_path / "parts").mkdir()
    shutil.copy(tmp_path / "whole" / "gauge.py", tmp_path / "parts")  # compiled once
    train.run(tmp_path / "parts", 4)
    assert train.run(tmp_path / "parts", 2) == whole
    one, two = (torch.load(tmp_path / name / "checkpoint.pt", weights_only=True) for name in ("whole", "parts"))
    assert one["step"] == two["step"] == 6
    assert all(torch.equal(x, two["model"][name]) for name, x in one["model"].items())
