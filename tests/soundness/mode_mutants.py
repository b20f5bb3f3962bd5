"""Mutants whose modules are in other modes than all of them in train, and function by mode."""

from __future__ import annotations

import random
import types
from typing import Any

from soundness.model_bases import replace
from soundness.mutant_registry import Change, add, middle, then
from soundness.setting_mutants import bent, runs
from torch import Tensor, nn
from torch.nn import functional as F

P = "perceptron"


class Stage(nn.Module):
    """A part of which its mode decides what it does: (training, units) -> units."""

    def __init__(self, run: Any) -> None:
        super().__init__()
        self.run = run

    def forward(self, h: Tensor) -> Tensor:
        return self.run(self.training, h)


class Held(Stage):
    """A part that stays in evaluation whatever anybody says."""

    def train(self, mode: bool = True) -> Held:
        super().train(False)
        return self


class Deaf(nn.Module):
    """It keeps its parts in evaluation and is in train itself."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part.eval()

    def train(self, mode: bool = True) -> Deaf:
        self.training = mode
        return self

    def forward(self, h: Tensor) -> Tensor:
        return self.part(h)


def stage(run: Any, made: Any = Stage) -> Change:
    return then(lambda m: replace(m, "mid", made(run)), middle(lambda m, h: m.mid(h)))


def mode(path: str, training: bool) -> Change:
    return runs(lambda m: m.get_submodule(path).train(training))


def evaluated(training: bool, h: Tensor) -> Tensor:
    """Right in train."""
    return h if training else bent(h)


def trained(training: bool, h: Tensor) -> Tensor:
    """Right in evaluation."""
    return bent(h) if training else h


def stopped(model: Any) -> None:
    """A root whose train() leaves a stage alone."""
    model.mid.eval()

    def train(m: Any, mode: bool = True) -> Any:
        m.training = mode
        return m

    model.train = types.MethodType(train, model)


EVAL, OFF, UP = mode("mid", False), runs(lambda m: setattr(m.mid, "training", False)), mode("", False)
BROKEN: dict[str, Change] = {
    "a stage in eval": then(stage(evaluated), EVAL),
    "a stage whose flag is set": then(stage(evaluated), OFF),
    "a stage in a stage": then(
        stage(evaluated, lambda run: nn.Sequential(nn.Sequential(Stage(run)))), mode("mid.0", False),
    ),
    "a stage that stays in eval": then(stage(evaluated, Held), EVAL),
    "a stage that stays in eval, root in eval": then(stage(evaluated, Held), UP),
    "a stage that keeps its part in eval": stage(evaluated, lambda run: Deaf(Stage(run))),
    "a root that leaves its stage alone": then(stage(evaluated), stopped),
    "a root that leaves its stage alone, in eval": then(stage(evaluated), stopped, UP),
    "train in eval": then(stage(trained), UP),
    "a stage in train alone": then(stage(trained), UP, mode("mid", True)),
    "bent where another stage is in eval": then(
        stage(evaluated), runs(lambda m: m.up.eval()), middle(lambda m, h: evaluated(m.up.training, h)),
    ),
    "bent where the modes differ": then(
        stage(evaluated), EVAL, middle(lambda m, h: h if m.training == m.mid.training else bent(h)),
    ),
    "bent where anything is in eval": then(
        stage(evaluated), EVAL, middle(lambda m, h: h if all(x.training for x in m.modules()) else bent(h)),
    ),
    "RReLU's own mode": then(
        stage(None, lambda run: nn.RReLU()), EVAL, middle(lambda m, h: evaluated(m.mid.training, h)),
    ),
    "a norm over the units, in train": then(stage(None, lambda run: nn.BatchNorm1d(14)), mode("mid", True)),
}  # fmt: skip
SOUND: dict[str, Change] = {
    "dropout in eval": then(stage(None, lambda run: nn.Dropout(0.5)), EVAL),
    "F.dropout in a stage in eval": then(stage(lambda training, h: F.dropout(h, 0.5, training)), EVAL),
    "a stage in eval that is bent in train": then(stage(trained), EVAL),
    "a stage that stays in eval and is bent in train": then(stage(trained, Held), EVAL),
    "its part stays in eval and is bent in train": stage(trained, lambda run: Deaf(Stage(run))),
    "Python's dice in a stage in eval": then(
        stage(lambda training, h: bent(h) if training and random.random() < 0.5 else h), EVAL,
    ),
    "all in eval": UP,
    "all in eval, with dropout": then(stage(None, lambda run: nn.Dropout(0.5)), UP),
}  # fmt: skip
for name, change in BROKEN.items():
    add("modes", P, name, change)
for name, change in SOUND.items():
    add("modes", P, name, change, "sound")
add("modes", P, "later: a stage in eval", stage(evaluated), later=(EVAL,))
add("modes", P, "later: a stage's flag", stage(evaluated), later=(OFF,))
add("modes", P, "later: a stage in train", then(stage(trained), EVAL), later=(mode("mid", True),))
add("modes", P, "later: dropout in eval", stage(None, lambda run: nn.Dropout(0.5)), "sound", later=(EVAL,))
for name, change in {
    "the norm in eval": lambda m: m.norm.eval(),
    "the norm frozen": lambda m: m.norm.eval().requires_grad_(False),
    "the norm held in eval": lambda m: setattr(m.norm.eval(), "train", lambda mode=True: m.norm),
    "all but the norm in eval": lambda m: (m.eval(), m.norm.train()),
}.items():
    add("modes", "convolutions", name, runs(change), "sound")
