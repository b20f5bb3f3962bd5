"""Which sizes of the inputs stay as they are, and which are always one: the caller's word on those of training.

A structure that follows a size (interpolated positions, a loop over the length) is one function at one size.  What is
fixed is never varied; that no other size comes is assumed, written into the certificate, and looked at in training.
So is what is one size ("x:0=y:0"): a batch that two inputs have, where the forward would also run with two batches and
be another function there.

What this module does not do: it knows nothing of what a model does at other sizes.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from gaugec.errors import MatchError, printable
from gaugec.model.inputs import Axis, Inputs, numbers_of

ALL = "all"


@dataclass(frozen=True)
class Fixed:
    """What a caller says of sizes, by the words that stand in the certificate.

    still: axes that never have another size ("pixel_values:2").  as_one: axes that always have one and the same
    ("x:0=y:0").  names: every axis of the inputs -> its word.
    """

    still: Mapping[str, Axis] = field(default_factory=dict)
    as_one: Mapping[str, tuple[Axis, ...]] = field(default_factory=dict)
    names: Mapping[Axis, str] = field(default_factory=dict)

    @property
    def words(self) -> tuple[str, ...]:
        """All that was said."""
        return (*self.still, *self.as_one)


def fixed_axes(asked: object, tensors: Mapping[str, Tensor], here: Inputs) -> Fixed:
    """What a caller says of the sizes of the inputs.

    asked: "all", the name of an input (all of its axes), one with an axis ("pixel_values:2"), axes that are always one
    size ("x:0=y:0"), or several of these.  tensors: the inputs by name, see `gaugec.runtime.inputs`.

    Raises:
        MatchError: it is none of these.
    """
    words = [asked] if isinstance(asked, str) else list(asked) if isinstance(asked, Sequence) else [asked]
    numbers = numbers_of(*here)
    names: dict[Axis, str] = {}
    tensors = {name: x for name, x in tensors.items() if id(x) in numbers}  # not what an object of the guest's holds
    for name, x in tensors.items():
        names |= {place: f"{name}:{place[1]}" for place in _places(x, numbers) if place not in names}
    still: dict[str, Axis] = {}
    groups: list[set[Axis]] = []
    for word in words:
        if isinstance(word, str) and "=" in word and word not in tensors:
            groups = _joined(groups, _one_size(word, tensors, numbers))
        else:
            still |= {f"{name}:{axis}": (numbers[id(tensors[name])], axis) for name, axis in _named(word, tensors)}
    several = [group for group in groups if len(group) > 1]  # one tensor that is given twice has one size anyhow
    as_one = {"=".join(sorted(names[axis] for axis in group)): tuple(sorted(group)) for group in several}
    return Fixed(dict(sorted(still.items())), dict(sorted(as_one.items())), names)


def _places(x: Tensor, numbers: Mapping[int, int]) -> list[Axis]:
    return [(numbers[id(x)], axis) for axis in range(x.ndim)]


def _one_size(word: str, tensors: Mapping[str, Tensor], numbers: Mapping[int, int]) -> set[Axis]:
    """The axes that "x:0=y:0" calls one size."""
    sizes: dict[Axis, int] = {}
    if len(set(word.split("="))) < 2:
        raise _no_axis(word, tensors)
    for part in word.split("="):
        named = _named(part, tensors) if ":" in part else []
        if len(named) != 1:
            raise _no_axis(word, tensors)
        for name, axis in named:
            sizes[numbers[id(tensors[name])], axis] = tensors[name].shape[axis]
    if len(set(sizes.values())) > 1:
        several = ", ".join(map(str, sizes.values()))
        message = f"fixed={printable(word)!r}: the sizes are {several}"
        raise MatchError(message, help="give an example in which they are one")
    return set(sizes)


def _joined(groups: Iterable[set[Axis]], new: set[Axis]) -> list[set[Axis]]:
    """Groups of which no two have an axis in common."""
    apart = [group for group in groups if not group & new]
    return [*apart, new.union(*(group for group in groups if group & new))]


def _named(word: object, tensors: Mapping[str, Tensor]) -> list[tuple[str, int]]:
    if not isinstance(word, str):
        raise _no_axis(word, tensors)
    if word == ALL:
        return [(name, axis) for name, x in tensors.items() for axis in range(x.ndim)]
    if word in tensors:
        return [(word, axis) for axis in range(tensors[word].ndim)]
    name, colon, number = word.rpartition(":")
    digits = number.removeprefix("-")
    if not colon or name not in tensors or not (digits.isascii() and digits.isdecimal() and len(digits) < 4):
        raise _no_axis(word, tensors)
    rank = tensors[name].ndim
    if not -rank <= int(number) < rank:
        axes = f"the axes 0 to {rank - 1}" if rank else "no axis"
        raise MatchError(f"fixed={printable(word)!r}: {printable(name)} has {axes}", help="name one of them")
    return [(name, int(number) % rank)]


def _no_axis(word: object, tensors: Mapping[str, Tensor]) -> MatchError:
    close = difflib.get_close_matches(str(word).rpartition(":")[0] or str(word), tensors, 1)
    hint = f"did you mean {printable(close[0])}? " if close else ""
    return MatchError(
        f"fixed={printable(repr(word))[:80]} names no size of the inputs",
        help=f"{hint}say an input ({', '.join(map(printable, tensors))}), one of its axes as NAME:AXIS, or all",
    )


__all__ = ["ALL", "Fixed", "fixed_axes"]
