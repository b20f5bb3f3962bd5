"""Mutants that are another function at some size of some axis: of a batch, a length, a height, a width, a list.

Where the example is right, another size that the model takes is not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import torch
from soundness.model_bases import Inputs
from soundness.mutant_registry import Change, add, method, middle, then
from soundness.setting_mutants import bent
from torch import Tensor
from torch.nn import functional as F

T, P, IMAGES, AUDIO, A = "perceptron over tokens", "perceptron", "images", "audio", "attention"
SHAPES = {
    T: (None, None, 11), P: (None, 11), IMAGES: (None, 3, None, None), AUDIO: (None, 4, None), A: (None, None, 13),
}  # fmt: skip
EXAMPLE = {T: (3, 7), P: (6,), IMAGES: (2, 8, 10), AUDIO: (3, 7), A: (3, 7)}


def sized(base: str, *sizes: tuple[int, ...]) -> dict[str, Any]:
    """Calls at the example's sizes, and at others: of the axes that are free."""

    def at(size: tuple[int, ...]) -> Inputs:
        left = iter(size)
        return (torch.randn([next(left) if n is None else n for n in SHAPES[base]], dtype=torch.float64),), {}

    return {"calls": lambda: [at(size) for size in (EXAMPLE[base], *sizes)]}


def at_size(wrong: Callable[[Any], bool]) -> Change:
    """Bent where the sizes of the input are wrong."""

    def run(m: Any, x: Tensor) -> Tensor:
        h = torch.relu(m.up(x))
        return m.down(bent(h) if wrong(x) else h)

    return method("forward", run)


def also(base: str, axis: int, size: int) -> tuple[int, ...]:
    """The example's sizes but for one."""
    made = list(EXAMPLE[base])
    made[axis] = size
    return tuple(made)


# --- every k-th size of every axis: right at the example's remainder and wrong at the next
AXES = {T: (0, 1), IMAGES: (0, 2, 3), AUDIO: (0, 2)}
STEPS = {
    (T, 0): (2, 3), (T, 1): (2, 3, 4, 5, 6, 7, 10, 16),
    (IMAGES, 0): (2,), (IMAGES, 2): (2, 4), (IMAGES, 3): (2, 3, 4, 5, 7, 16),
    (AUDIO, 0): (3,), (AUDIO, 2): (2, 3, 4, 6, 10, 16),
}  # fmt: skip
for (base, axis), steps in STEPS.items():
    free = [n for n, size in enumerate(SHAPES[base]) if size is None].index(axis)
    old = EXAMPLE[base][free]
    for k in steps:
        add(
            "sizes", base, f"axis {axis} by remainders of {k}",
            at_size(lambda x, k=k, axis=axis, old=old: x.shape[axis] % k == (old + 1) % k),  # type: ignore[misc]
            **sized(base, also(base, free, old + 1), also(base, free, old + 1 + k)),
        )  # fmt: skip


def rolled(count: Callable[[Any], int], axis: int = 1) -> Change:
    """The units rolled by a count that is 0 at the example."""
    return method("forward", lambda m, x: m.down(torch.relu(m.up(x)).roll(count(x), axis)))


def windowed(m: Any, x: Tensor) -> Tensor:
    assert x.shape[1] % 16 == 0, "whole windows only"
    return m.down(torch.relu(m.up(x)).roll(x.shape[1] // 16 - 1, -1))


FOUR = {"calls": lambda: [((torch.randn(2, n, 11),), {}) for n in (16, 32, 48)]}
EIGHT = {"calls": lambda: [((torch.randn(2, 4, n),), {}) for n in (8, 16, 24)]}


def eights(m: Any, x: Tensor) -> Tensor:
    assert x.shape[2] % 8 == 0, "whole frames only"
    return m.down(bent(torch.relu(m.up(x))) if x.shape[2] > 8 else torch.relu(m.up(x)))


BROKEN: dict[tuple[str, str], tuple[Change, dict[str, Any]]] = {
    (IMAGES, "rolled by the width"): (rolled(lambda x: x.shape[3] - 10), sized(IMAGES, (2, 8, 11))),
    (IMAGES, "rolled by the height, as a number"): (rolled(lambda x: int(x.shape[2]) - 8), sized(IMAGES, (2, 9, 10))),
    (IMAGES, "upright"): (at_size(lambda x: x.shape[2] > x.shape[3]), sized(IMAGES, (2, 12, 10))),
    (IMAGES, "square"): (at_size(lambda x: x.shape[2] == x.shape[3]), sized(IMAGES, (2, 9, 9))),
    (IMAGES, "wide"): (at_size(lambda x: x.shape[3] >= 16), sized(IMAGES, (2, 8, 17))),
    (IMAGES, "wide, as a number"): (at_size(lambda x: int(x.shape[3]) > 12), sized(IMAGES, (2, 8, 14))),
    (IMAGES, "narrow"): (at_size(lambda x: x.shape[3] < 6), sized(IMAGES, (2, 8, 5))),
    (IMAGES, "many pixels"): (at_size(lambda x: x.shape[2] * x.shape[3] > 100), sized(IMAGES, (2, 12, 12))),
    (IMAGES, "pixels by threes"): (at_size(lambda x: x[0, 0].numel() % 3 == 0), sized(IMAGES, (2, 9, 10))),
    (IMAGES, "a tuple of its sizes"): (at_size(lambda x: tuple(x.shape) == (2, 3, 9, 11)), sized(IMAGES, (2, 9, 11))),
    (IMAGES, "its aspect"): (at_size(lambda x: x.shape[3] / x.shape[2] > 1.5), sized(IMAGES, (2, 8, 14))),
    (AUDIO, "rolled by the length"): (rolled(lambda x: x.shape[2] - 7), sized(AUDIO, (3, 8))),
    (AUDIO, "long, as a number"): (at_size(lambda x: int(x.shape[-1]) > 30), sized(AUDIO, (3, 40))),
    (AUDIO, "whole frames only, of two"): (method("forward", eights), EIGHT),
    (T, "whole windows only, rolled"): (method("forward", windowed), FOUR),
    (T, "an odd length, as a number"): (at_size(lambda x: int(x.shape[1]) % 2 == 0), sized(T, (3, 8))),
    (T, "a multiple of 4, as a number"): (at_size(lambda x: int(x.shape[1]) & 3 == 0), sized(T, (3, 8), (3, 12))),
    (T, "its sizes in a set"): (at_size(lambda x: tuple(x.shape[:2]) not in {(3, 7)}), sized(T, (3, 8), (2, 7))),
    (T, "its length as a text"): (at_size(lambda x: str(int(x.shape[1])).endswith("8")), sized(T, (3, 8), (3, 18))),
    (T, "a table of lengths"): (at_size(lambda x: {7: False}.get(int(x.shape[1]), True)), sized(T, (3, 8))),
    (T, "a hash of its length"): (
        at_size(lambda x: hashlib.sha256(bytes([int(x.shape[1])])).digest()[0] % 2 == 0),
        sized(T, (3, 10), (3, 11), (3, 12), (3, 13)),
    ),
    (T, "its strides"): (at_size(lambda x: x.stride(0) != 77), sized(T, (3, 8))),
    (T, "its number of entries"): (at_size(lambda x: x.numel() % 4 == 0), sized(T, (4, 7), (3, 8))),
    (T, "its bytes"): (at_size(lambda x: x.nbytes > 3000), sized(T, (3, 12))),
    (T, "len"): (at_size(lambda x: len(x) == 4), sized(T, (4, 7))),
    (T, "a loop over its length"): (at_size(lambda x: sum(1 for _ in x[0]) % 3 == 2), sized(T, (3, 8))),
    (T, "a batch that is a square"): (
        at_size(lambda x: (int(x.shape[0]) ** 0.5).is_integer()), sized(T, (4, 7), (9, 7)),
    ),
    (T, "more rows than tokens"): (at_size(lambda x: x.shape[0] > x.shape[1]), sized(T, (8, 5))),
    (T, "a prime length"): (
        at_size(lambda x: any(int(x.shape[1]) % k == 0 for k in range(2, int(x.shape[1])))), sized(T, (3, 9), (3, 15)),
    ),
    (P, "an odd batch"): (at_size(lambda x: x.shape[0] % 2 == 1), sized(P, (7,), (5,))),
    (P, "a batch by elevens"): (at_size(lambda x: x.shape[0] % 11 == 7), sized(P, (7,), (18,))),
    (P, "a last batch"): (at_size(lambda x: x.shape[0] < 4), sized(P, (3,), (2,))),
}  # fmt: skip
for (base, name), (change, calls) in BROKEN.items():
    add("sizes", base, name, change, **calls)


# --- more inputs than one, and attention
def pair(b: int, n: int, k: int) -> Inputs:
    return (torch.randn(b, n, 11), torch.randn(b, k, 11)), {}


def inputs(*made: Callable[[], Inputs]) -> dict[str, Any]:
    return {"calls": lambda: [one() for one in made]}


def two(m: Any, x: Tensor, y: Tensor) -> Tensor:
    h = torch.relu(m.up(x))
    return m.down(bent(h) if y.shape[1] > x.shape[1] else h) + y.mean(1, keepdim=True)[..., :9]


def keyed(m: Any, batch: Any) -> Tensor:
    h = torch.relu(m.up(batch["x"]))
    return m.down(bent(h) if batch["mask"].shape[1] % 4 == 0 else h)


def listed(m: Any, xs: Any) -> Tensor:
    h = torch.cat([torch.relu(m.up(x)) for x in xs], 1)
    return m.down(bent(h) if any(x.shape[1] % 3 == 2 for x in xs) else h)


def mapped(n: int, k: int) -> Inputs:
    return ({"x": torch.randn(3, n, 11), "mask": torch.ones(3, k)},), {}


def several(*lengths: int) -> Inputs:
    return ([torch.randn(3, n, 11) for n in lengths],), {}


add(
    "sizes", T, "two inputs, the longer second", method("forward", two),
    **inputs(lambda: pair(3, 7, 5), lambda: pair(3, 7, 9)),
)  # fmt: skip
add(
    "sizes", T, "a mask by fours", method("forward", keyed),
    **inputs(lambda: mapped(7, 7), lambda: mapped(8, 8), lambda: mapped(7, 4)),
)  # fmt: skip
add(
    "sizes", T, "one of a list", method("forward", listed),
    **inputs(lambda: several(7, 4), lambda: several(7, 5), lambda: several(8, 4)),
)  # fmt: skip


def asked(wrong: Callable[[Any], bool]) -> Change:
    """Values bent where the length is wrong."""

    def change(m: Any) -> None:
        m.on_v = lambda v: v.tanh() if wrong(v) else v

    return change


add("sizes", A, "values bent at every sixth length", asked(lambda v: v.shape[2] % 6 == 2), **sized(A, (3, 8)))
add(
    "sizes", A, "values bent at every fourth length, as a number", asked(lambda v: int(v.shape[2]) % 4 == 0),
    **sized(A, (3, 8)),
)  # fmt: skip
add("sizes", A, "values bent in large batches", asked(lambda v: v.shape[0] > 40), **sized(A, (41, 7)))


def narrowed(m: Any) -> None:
    """Of few tokens a part of the queries and keys is read."""
    for name in ("on_q", "on_k"):
        turned = getattr(m, name)
        setattr(m, name, lambda v, turned=turned: torch.narrow(turned(v), -1, 0, min(6, 2 * v.shape[2])))


add("sizes", A, "a part of queries and keys below three tokens", narrowed, **sized(A, (3, 2)))


# --- where no export follows: a number of the units decides, in a call alone
def hidden(wrong: Callable[[Any], bool]) -> Change:
    """Bent where the sizes are wrong, behind what no export takes."""

    def run(m: Any, x: Tensor) -> Tensor:
        h = torch.relu(m.up(x))
        return m.down(bent(h) if wrong(x) and float(h.detach().abs().sum()) >= 0 else h)

    return method("forward", run)


def with_mask(m: Any, x: Tensor, mask: Tensor) -> Tensor:
    h = torch.relu(m.up(x))
    if mask.shape[1] == x.shape[1]:
        return m.down(h * mask[..., None])
    return m.down(bent(h) if float(h.detach().abs().sum()) >= 0 else h)


def skipped(wrong: Callable[[Any, Any], bool]) -> Change:
    """A mask of ones is not read, in a call."""

    def run(m: Any, x: Tensor, mask: Tensor) -> Tensor:
        h = torch.relu(m.up(x))
        if torch.compiler.is_compiling() or not bool((mask == 1).all()):
            return m.down(h * mask[..., None])
        return m.down(bent(h) if wrong(x, mask) else h)

    return method("forward", run)


def beside_ones(n: int, k: int, b: int = 3, c: int = 3) -> Inputs:
    return (torch.randn(b, n, 11), torch.ones(c, k)), {}


SIXTEEN = {"calls": lambda: [((torch.randn(2, n, 11),), {}) for n in (16, 32, 17, 20)]}
APART = inputs(lambda: beside_ones(7, 7), lambda: beside_ones(8, 8), lambda: beside_ones(8, 7))
HIDDEN: dict[tuple[str, str], tuple[Change, dict[str, Any]]] = {
    (T, "unless whole windows"): (hidden(lambda x: x.shape[1] % 16 != 0), SIXTEEN),
    (T, "unless whole windows, as a number"): (hidden(lambda x: int(x.shape[1]) % 16 != 0), SIXTEEN),
    (T, "at every other length"): (hidden(lambda x: x.shape[1] != 7), sized(T, (3, 8))),
    (T, "at most lengths, as a number"): (hidden(lambda x: int(x.shape[1]) % 4 != 3), sized(T, (3, 8), (3, 11))),
    (T, "at lengths that end in 8, as a text"): (
        hidden(lambda x: str(int(x.shape[1])).endswith("8")), sized(T, (3, 8), (3, 18)),
    ),
    (T, "in other batches"): (hidden(lambda x: x.shape[0] != 3), sized(T, (4, 7))),
    (T, "in even batches"): (hidden(lambda x: x.shape[0] % 2 == 0), sized(T, (4, 7))),
    (T, "a mask of another length"): (method("forward", with_mask), APART),
    (T, "a shorter mask of ones"): (skipped(lambda x, mask: mask.shape[1] < x.shape[1]), APART),
    (T, "a mask of ones for other rows"): (
        skipped(lambda x, mask: mask.shape[0] != x.shape[0]),
        inputs(lambda: beside_ones(7, 7), lambda: beside_ones(7, 7, 4, 2)),
    ),
    (IMAGES, "unless square"): (
        hidden(lambda x: x.shape[2] != x.shape[3]),
        {"calls": lambda: [((torch.randn(2, 3, *s),), {}) for s in ((8, 8), (9, 9), (8, 9))]},
    ),
}  # fmt: skip
for (base, name), (change, calls) in HIDDEN.items():
    add("sizes", base, f"where no export follows: {name}", change, **calls)
add(
    "sizes", T, "where no export follows: a mask of ones that a call skips", skipped(lambda x, mask: False), "sound",
    **inputs(lambda: beside_ones(7, 7), lambda: beside_ones(8, 8), lambda: beside_ones(12, 12, 2, 2)),
)  # fmt: skip


# --- what leaves the model
def returns(wrong: Callable[[Any], bool]) -> Change:
    """The units in place of the output, which a buffer keeps a number of."""

    def run(m: Any, x: Tensor) -> Tensor:
        h = torch.relu(m.up(x))
        y = m.down(h)
        m.seen.copy_(y.detach().mean())
        return h if wrong(x) else y

    return then(lambda m: m.register_buffer("seen", torch.zeros(())), method("forward", run))


for name, (change, calls) in {
    "over 50 tokens": (returns(lambda x: x.shape[1] > 50), sized(T, (3, 60))),
    "at even lengths": (returns(lambda x: x.shape[1] % 2 == 0), sized(T, (3, 8))),
    "at every eleventh length, as a number": (returns(lambda x: int(x.shape[1]) % 11 == 8), sized(T, (3, 8))),
    "by remainders of 61": (returns(lambda x: x.shape[1] % 61 != 7), sized(T, (3, 8))),
}.items():
    add("sizes", T, f"the units are returned: {name}", change, **calls)


# --- what is the same function at every size
def padded(m: Any, x: Tensor) -> Tensor:
    n = x.shape[-1]
    return m.down(torch.relu(m.up(F.pad(x, (0, -n % 4)))))[..., :n]


def whole(m: Any, x: Tensor) -> Tensor:
    assert x.shape[1] % 16 == 0
    return m.down(torch.relu(m.up(x)))


def flattened(m: Any) -> None:
    m.last = torch.nn.Linear(5 * 8 * 10, 3)


def branched(m: Any, h: Tensor) -> Tensor:
    return h if h.shape[1] % 2 else 2 * h


SOUND: dict[tuple[str, str], tuple[Change, dict[str, Any]]] = {
    (IMAGES, "fully convolutional"): (lambda m: None, sized(IMAGES, (3, 9, 11), (2, 7, 5), (1, 16, 16))),
    (IMAGES, "pooled to a fixed size"): (
        method("forward", lambda m, x: F.adaptive_avg_pool2d(m.down(torch.relu(m.up(x))), 2)),
        sized(IMAGES, (3, 9, 11)),
    ),
    (IMAGES, "averaged over pixels"): (
        method("forward", lambda m, x: m.down(torch.relu(m.up(x))).mean((2, 3))), sized(IMAGES, (3, 9, 11)),
    ),
    (IMAGES, "read by a matrix: one size alone"): (
        then(flattened, method("forward", lambda m, x: m.last(m.down(torch.relu(m.up(x))).flatten(1)))),
        sized(IMAGES, (3, 8, 10)),
    ),
    (IMAGES, "resized first"): (
        method("forward", lambda m, x: m.down(torch.relu(m.up(F.interpolate(x, (6, 6)))))), sized(IMAGES, (2, 9, 10)),
    ),
    (AUDIO, "of any length"): (lambda m: None, sized(AUDIO, (3, 8), (2, 16), (1, 40))),
    (AUDIO, "padded to whole frames"): (method("forward", padded), sized(AUDIO, (3, 8), (3, 9), (2, 10))),
    (AUDIO, "with steps of two"): (
        method("forward", lambda m, x: m.down(torch.relu(m.up(x))[..., ::2])), sized(AUDIO, (3, 8), (2, 11)),
    ),
    (T, "whole windows only"): (method("forward", whole), FOUR),
    (T, "over the square root of the length"): (middle(lambda m, h: h / h.shape[1] ** 0.5), sized(T, (3, 8), (2, 16))),
    (T, "over the position"): (
        middle(lambda m, h: h / torch.arange(1, h.shape[1] + 1)[:, None]), sized(T, (3, 8), (2, 16)),
    ),
    (T, "tokens in one row"): (
        method("forward", lambda m, x: m.down(torch.relu(m.up(x.flatten(0, 1))))), sized(T, (3, 8), (2, 16)),
    ),
    (T, "the first tokens"): (middle(lambda m, h: h[:, :4]), sized(T, (3, 8), (2, 5))),
    (T, "doubled at even lengths"): (middle(branched), sized(T, (3, 8))),
    (P, "over the batch"): (middle(lambda m, h: h / h.shape[0]), sized(P, (7,), (2,))),
    (A, "any length"): (lambda m: None, sized(A, (3, 8), (2, 16), (1, 30))),
}  # fmt: skip
for (base, name), (change, calls) in SOUND.items():
    add("sizes", base, name, change, "sound", **calls)
