"""Mutants that pick units by numbers: by a list in their own code, and by what somebody keeps and writes to later."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from soundness.mutant_registry import Change, add, method, then
from soundness.setting_mutants import runs, sets
from torch import Tensor
from torch.nn import functional as F

P, T = "perceptron", "perceptron over tokens"
Index = Callable[[Any, Tensor], Any]

GLOBAL, ARRAY = torch.tensor([-1]), np.array([-1])
TABLE = {"one": torch.tensor([-1])}
NUMBERS = [-1]


class Kept:
    table = types.MappingProxyType({"one": torch.tensor([-1])})


def read(index: Index) -> Change:
    """The half of the units that an index picks."""

    def run(m: Any, x: Tensor) -> Tensor:
        h = torch.relu(m.up(x)).unflatten(-1, (2, 7))
        return F.linear(h[..., index(m, x), :].flatten(-2)[..., :7], m.down.weight[:, :7], m.down.bias)

    return method("forward", run)


def by_default(m: Any, x: Tensor, kept: Tensor = torch.tensor([-1])) -> Tensor:  # noqa: B008
    return kept


def in_a_closure(model: Any) -> None:
    kept = torch.tensor([-1])
    read(lambda m, x: kept)(model)
    model.fill = lambda: kept.zero_()


def fill(kept: Tensor) -> None:
    kept.zero_()


# --- what is picked first, and what writes to it later
LATER: dict[str, tuple[Change, Change]] = {
    "a tensor of the module": (
        then(sets(kept=lambda: torch.tensor([-1])), read(lambda m, x: m.kept)), runs(lambda m: fill(m.kept)),
    ),
    "a tensor of the module, copied": (
        then(sets(kept=lambda: torch.tensor([-1])), read(lambda m, x: m.kept.clone())), runs(lambda m: fill(m.kept)),
    ),
    "a buffer": (
        then(runs(lambda m: m.register_buffer("kept", torch.tensor([-1]))), read(lambda m, x: m.kept)),
        runs(lambda m: fill(m.kept)),
    ),
    "a global": (then(runs(lambda m: GLOBAL.fill_(-1)), read(lambda m, x: GLOBAL)), runs(lambda m: fill(GLOBAL))),
    "a dict": (
        then(runs(lambda m: TABLE["one"].fill_(-1)), read(lambda m, x: TABLE["one"])),
        runs(lambda m: fill(TABLE["one"])),
    ),
    "a dict of a class": (
        then(runs(lambda m: Kept.table["one"].fill_(-1)), read(lambda m, x: Kept.table["one"])),
        runs(lambda m: fill(Kept.table["one"])),
    ),
    "a closure": (in_a_closure, runs(lambda m: m.fill())),
    "a default": (
        then(runs(lambda m: by_default.__defaults__[0].fill_(-1)), read(by_default)),  # type: ignore[index]
        runs(lambda m: fill(by_default.__defaults__[0])),  # type: ignore[index]
    ),
    "an array": (then(runs(lambda m: ARRAY.fill(-1)), read(lambda m, x: ARRAY)), runs(lambda m: ARRAY.fill(0))),
    "an array by from_numpy": (
        then(runs(lambda m: ARRAY.fill(-1)), read(lambda m, x: torch.from_numpy(ARRAY))), runs(lambda m: ARRAY.fill(0)),
    ),
    "an array by as_tensor": (
        then(runs(lambda m: ARRAY.fill(-1)), read(lambda m, x: torch.as_tensor(ARRAY))), runs(lambda m: ARRAY.fill(0)),
    ),
    "an array by tensor": (
        then(runs(lambda m: ARRAY.fill(-1)), read(lambda m, x: torch.tensor(ARRAY))), runs(lambda m: ARRAY.fill(0)),
    ),
    "a list that is a setting": (
        then(sets(numbers=lambda: [-1]), read(lambda m, x: m.numbers)), runs(lambda m: m.numbers.__setitem__(0, 0)),
    ),
    "a list that is a global": (
        then(runs(lambda m: NUMBERS.__setitem__(0, -1)), read(lambda m, x: NUMBERS)),
        runs(lambda m: NUMBERS.__setitem__(0, 0)),
    ),
}  # fmt: skip
for name, (change, later) in LATER.items():
    add("settings", P, f"later: units picked by {name}", change, later=(later,))

SOUND: dict[str, Index] = {
    "the last": lambda m, x: [-1],
    "the first": lambda m, x: [0],
    "both, of which the first is read": lambda m, x: [0, 1],
    "both, in turn": lambda m, x: [1, 0],
    "one by one": lambda m, x: list(range(1, 2)),
}
for name, index in SOUND.items():
    add("strided slice", P, f"units picked by a list: {name}", read(index), "sound")

SIZED: dict[str, Index] = {
    "by the remainder of the length": lambda m, x: [x.shape[1] % 2],
    "by the length as a number": lambda m, x: [int(x.shape[1]) % 3 // 2],
    "in long texts": lambda m, x: [1 if x.shape[1] > 40 else 0],
}


def sizes() -> Any:
    return [((torch.randn(3, n, 11, dtype=torch.float64),), {}) for n in (7, 8, 60)]


for name, index in SIZED.items():
    add("sizes", T, f"units picked by a list: {name}", read(index), calls=sizes)
