"""Which sizes of the inputs stay as they are: the caller's word that training has no other.

A structure that follows a size (interpolated positions, a loop over the length) is one function at one size.  What is
fixed is never varied; that no other size comes is assumed, written into the certificate, and looked at in training.

What this module does not do: it knows nothing of what a model does at other sizes.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from torch import Tensor

from gaugec.errors import MatchError, printable
from gaugec.model.inputs import Axis, Inputs, numbers_of

ALL = "all"


def fixed_axes(asked: object, tensors: Mapping[str, Tensor], here: Inputs) -> dict[str, Axis]:
    """The axes that a caller calls fixed, by name, such as "pixel_values:2".

    asked: "all", the name of an input (all of its axes), or one with an axis ("pixel_values:2"), or several of these.
    tensors: the inputs by name, see `gaugec.runtime.inputs`.

    Raises:
        MatchError: it is none of these.
    """
    words = [asked] if isinstance(asked, str) else list(asked) if isinstance(asked, Sequence) else [asked]
    numbers = numbers_of(*here)
    found: dict[str, Axis] = {}
    for word in words:
        for name, axis in _named(word, tensors):
            found[f"{name}:{axis}"] = (numbers[id(tensors[name])], axis)
    return {name: found[name] for name in sorted(found)}


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


__all__ = ["ALL", "fixed_axes"]
