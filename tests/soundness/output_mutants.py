"""Mutants that return more than what is trained on: what counts is named, and the rest need not be kept.

The judge looks at what counts alone.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from typing import Any

import torch
from soundness.mutant_registry import Change, add, finish, method, then
from soundness.size_mutants import sized
from torch import Tensor, nn

P, T = "perceptron", "perceptron over tokens"
Pair = namedtuple("Pair", "y h")


class Summed(Pair):
    """A named tuple with a property, which is no output."""

    @property
    def both(self) -> Any:
        return self.y + self.h.mean(-1, keepdim=True)


def first(made: Any) -> Any:
    return made[0]


def item(*names: Any) -> Callable[[Any], Any]:
    """What is returned under these keys and indices, one inside the other."""

    def counts(made: Any) -> Any:
        for name in names:
            made = made[name]
        return made

    return counts


def by_length(wrong: Callable[[Tensor], bool]) -> Change:
    """Two outputs that change places."""

    def run(m: Any, x: Tensor) -> Any:
        h = torch.relu(m.up(x))
        y = m.down(h)
        return (h, y) if wrong(x) else (y, h)

    return method("forward", run)


def tells(m: Any, y: Tensor, h: Tensor) -> Any:
    return (y, h) if m.tells else (h, y)


def head(m: nn.Module) -> None:
    m.aux = nn.Linear(14, 4)


def staged(m: nn.Module) -> None:
    m.stage = nn.Identity()


def beside_the_input(m: Any, x: Tensor) -> Any:
    h = torch.relu(m.up(x))
    return x, h, m.down(h)


def normed(h: Tensor) -> Tensor:
    return h / h.norm(dim=-1, keepdim=True)


Row = tuple[str, Change, Any, Callable[[Any], Any], dict[str, Any]]
LONG, NEAR = sized(T, (3, 60)), sized(T, (3, 8))
BROKEN: dict[str, Row] = {
    "the hidden units": (P, finish(lambda m, y, h: (y, h)), 1, item(1), {}),
    "the last of three": (P, finish(lambda m, y, h: (y, y, h)), 2, item(2), {}),
    "under a key that is a number": (P, finish(lambda m, y, h: {1: h, 0: y}), 1, item(1), {}),
    "under a key that is a number, as a text": (P, finish(lambda m, y, h: {1: h, 0: y}), "1", item(1), {}),
    "in a nested dict": (P, finish(lambda m, y, h: {"y": y, "aux": {"h": h}}), "aux", item("aux", "h"), {}),
    "a field": (P, finish(lambda m, y, h: Pair(y, h)), "h", item(1), {}),
    "what is computed of two fields": (P, finish(lambda m, y, h: Summed(y, h)), "both", lambda made: made.both, {}),
    "a penalty beside the output": (P, finish(lambda m, y, h: (y, h.square().mean())), [0, 1], lambda made: made, {}),
    "a penalty in a list of several": (
        P, finish(lambda m, y, h: {"y": y, "losses": [y.mean(), h.mean()]}), "losses", item("losses"), {},
    ),
    "a weight itself": (P, finish(lambda m, y, h: (y, m.up.weight)), [1, 0], lambda made: made, {}),
    "a weight's view": (P, finish(lambda m, y, h: (y, m.down.weight[:, 0])), 1, item(1), {}),
    "read by another that counts": (
        P, then(head, finish(lambda m, y, h: {"h": h, "y": y, "aux": m.aux(h + 0.3)})), ["y", "aux"],
        lambda made: [made["y"], made["aux"]], {},
    ),
    "of direction": (P, finish(lambda m, y, h: (y, normed(h))), [0, 1], lambda made: made, {}),
    "two that change places, over 50 tokens": (T, by_length(lambda x: x.shape[1] > 50), 0, first, LONG),
    "two that change places, as a number": (T, by_length(lambda x: int(x.shape[1]) % 11 == 8), 0, first, NEAR),
    "two that change places, by 61": (T, by_length(lambda x: x.shape[1] % 61 != 7), 0, first, NEAR),
    "two that change places later": (
        P, then(lambda m: setattr(m, "tells", True), finish(tells)), 0, first,
        {"later": (lambda m: setattr(m, "tells", False),)},
    ),
    "two that change places in evaluation": (
        P, then(staged, finish(lambda m, y, h: (y, h)[:: 1 if m.stage.training else -1])), 0, first,
        {"later": (lambda m: m.stage.eval() and None,)},
    ),
    "the hidden units beside the input": (P, method("forward", beside_the_input), 1, item(1), {}),
}  # fmt: skip
SOUND: dict[str, Row] = {
    "the output beside the hidden units": (P, finish(lambda m, y, h: (y, h)), 0, first, {}),
    "by its name": (P, finish(lambda m, y, h: {"h": h, "y": y}), "y", item("y"), {}),
    "by its place in a dict": (P, finish(lambda m, y, h: {"h": h, "y": y}), 1, item("y"), {}),
    "by a key that is a number": (P, finish(lambda m, y, h: {1: y, 0: h}), 1, item(1), {}),
    "a field, of two": (P, finish(lambda m, y, h: Pair(y, h)), "y", first, {}),
    "two of three": (P, finish(lambda m, y, h: (y, h, 2 * y)), [2, 0], lambda made: (made[2], made[0]), {}),
    "a nested list": (P, finish(lambda m, y, h: {"h": h, "out": [y, {"mean": y.mean()}]}), "out", item("out"), {}),
    "a weight itself, which does not count": (P, finish(lambda m, y, h: (y, m.up.weight)), 0, first, {}),
    "a penalty that does not count": (
        P, finish(lambda m, y, h: {"y": y, "aux": h.square().mean()}), "y", item("y"), {},
    ),
    "the direction, which does not count": (P, finish(lambda m, y, h: (y, normed(h))), 0, first, {}),
    "over tokens": (T, finish(lambda m, y, h: (y, h)), 0, first, LONG),
}  # fmt: skip
MIXED: dict[str, Row] = {
    "a further head beside it": (  # the units' scale moves it too
        P, then(head, finish(lambda m, y, h: {"h": h, "y": y, "aux": m.aux(h)})), ["y", "aux"],
        lambda made: [made["y"], made["aux"]], {},
    ),
}  # fmt: skip
for expects, table in {"broken": BROKEN, "sound": SOUND, "mixed": MIXED}.items():
    for name, (base, change, outputs, counts, more) in table.items():
        add("outputs", base, name, change, expects, outputs=outputs, counts=counts, **more)
