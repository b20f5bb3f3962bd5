"""At which other sizes the gradient of a model is looked at.

What autograd makes of a forward is one function wherever the forward is one.  A backward that is written in Python, a
hook, or what a checkpoint runs again may do another thing at another size, and no graph of the forward shows it.  Where
such code runs, the gradient is looked at wherever the forward was, at the sizes at which that code itself turns
(`gaugec.tracing.guards`), and far away: at sizes that no small number divides, and at multiples of large powers of two.

What this module does not do: it looks at no gradient (see `gaugec.witness.gradient`), and it sees no backward that is
written in C.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from torch import nn

from gaugec.model.axes import Bundle, Takes, changed, said, together
from gaugec.model.backwards import python_in_backward
from gaugec.model.inputs import LARGE, LARGER, Inputs, axes_of, elements, resized
from gaugec.model.preserve import small
from gaugec.tracing.guards import turning_points

FAR = 67  # a size that is called large: no small batch, and no small number divides it
ROUND = 128  # what goes by a multiple of 2, 4, ... 128 turns there
MOST = 24  # places beside the example


@dataclass(frozen=True)
class GradientLooks:
    """inputs: where the gradient is looked at beside the example.  python: does Python run in the backward?

    note: at which sizes that is, for people; "" where it is autograd's own gradient.
    """

    inputs: tuple[Inputs, ...] = ()
    python: bool = False
    note: str = ""


def gradient_looks(
    model: nn.Module, here: Inputs, bundles: Sequence[Bundle], others: Sequence[tuple[str, Inputs]], takes: Takes
) -> GradientLooks:
    """Where to look, of the others at which the model ran, by their names, and beyond.

    takes: does the forward run with these inputs, at a price that a look may have?
    """
    most = LARGER * elements(*here) + LARGE
    near = [inputs for _, inputs in others if elements(*inputs) <= most]
    few = GradientLooks(tuple(near[:1] + near[1:][-4:]))  # the second shape, and the last: of one row, or far away
    if not small(model) or not any(python_in_backward(model, *x) for x in (here, *(x for _, x in others))):
        return few
    places = _Places(model, here, bundles, takes)
    for name, inputs in others:
        places.add(name, inputs)
    all_seen = places.where_it_turns()
    places.far_away()
    return GradientLooks(tuple(inputs for _, inputs in places.found), True, places.note(all_seen))


class _Places:
    """Inputs at which forward and backward run, by the names of their sizes."""

    def __init__(self, model: nn.Module, here: Inputs, bundles: Sequence[Bundle], takes: Takes) -> None:
        self.model, self.here, self.bundles, self.forward_takes = model, here, bundles, takes
        self.found: list[tuple[str, Inputs]] = []
        self.known = {tuple(axes_of(*here).items())}
        self.left_out: list[str] = []

    def add(self, name: str, inputs: Inputs | None) -> bool:
        """Adds a place, if it is a new one, and remembers what was left out."""
        shape = tuple(axes_of(*inputs).items()) if inputs is not None else ()
        if shape in self.known:
            return False
        if inputs is None or len(self.found) >= MOST or not self.takes(inputs):
            self.left_out.append(name)
            return False
        self.known.add(shape)
        self.found.append((name, inputs))
        return True

    def takes(self, inputs: Inputs) -> bool:
        """Do forward and backward run?"""
        return self.forward_takes(inputs) and python_in_backward(self.model, *inputs) is not None

    def where_it_turns(self) -> bool:
        """Adds sizes at which forward or backward turn; False where what they ask of them could not all be seen."""
        asked: list[tuple[str, Inputs]] = [("", self.here)]
        all_seen = True
        for way, here in asked:  # it grows: what is asked behind a branch is seen only there
            sizes = axes_of(*here)
            there = [replace(bundle, size=sizes[bundle.axes[0]]) for bundle in self.bundles]
            turns, seen = turning_points(self.model, *here, there, backward=True)
            all_seen = all_seen and seen and not any(turn.guess for turn in turns)
            for turn in turns:
                name, inputs = f"{way}, {turn}" if way else str(turn), turn.apply(*here)
                if self.add(name, inputs) and inputs is not None and not turn.guess:
                    asked.append((name, inputs))
        return all_seen

    def far_away(self) -> None:
        """Adds large sizes of all axes, of both kinds, together where the model takes that."""
        for ways in (_odd, _round):
            change: dict[Bundle, int] = {}
            for number, bundle in enumerate(self.bundles):
                sizes = list(ways(bundle.size, number))
                new = next((n for n in sizes if self.takes(resized(*self.here, changed({bundle: n})))), 0)
                if new:
                    change[bundle] = new
                else:
                    self.left_out.append(said({bundle: sizes[0]}))
            whole, alone = together(self.here, change, self.takes)
            for each in ([whole] if whole else []) + alone:
                self.add(said(each), resized(*self.here, changed(each)))

    def note(self, all_seen: bool) -> str:
        """At which sizes the gradient is looked at."""
        sizes = "; ".join(dict.fromkeys(name for name, _ in self.found)) or "of the example alone"
        text = f"Python runs in the backward: gradient looked at with sizes {sizes}"
        left = f", not at {'; '.join(dict.fromkeys(self.left_out))}" if self.left_out else ""
        return text + left + ("" if all_seen else ", and what the backward asks of others could not be seen")


def _odd(size: int, number: int) -> Iterator[int]:
    """Large sizes without small divisors, others for every axis; and those that its own one divides."""
    yield from (n for n in _primes(max(FAR, 2 * size + 1), number + 3)[number:] if n != size)
    yield size * _primes(max(3, -(-FAR // size)), 1)[0]


def _round(size: int, number: int) -> Iterator[int]:
    """Multiples of a large power of two; and of one and the own size."""
    yield ROUND * (size // (ROUND // 2) + 1)
    yield math.lcm(ROUND, size)
    yield size * 64


def _primes(least: int, count: int) -> list[int]:
    found: list[int] = []
    n = least
    while len(found) < count:
        if n > 1 and all(n % d for d in range(2, math.isqrt(n) + 1)):
            found.append(n)
        n += 1
    return found


__all__ = ["GradientLooks", "gradient_looks"]
