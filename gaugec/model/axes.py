"""The axes of a model's inputs that may have other sizes: which belong together, and which sizes the model takes.

A forward says by running.  An axis that takes another size alone is free by itself; those of one size that do not are
tried together (a batch that several tensors have, an image that must be square), and are free as one.  What no change
is taken of is fixed; and so is what takes a size at which it cannot be looked at.

What this module does not do: it compares nothing, and does not know what the forward does at the sizes that it takes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from gaugec.model.inputs import Axis, Inputs, axes_of, resized

PRIMES = (61, 67, 71, 73)  # steps that leave no remainder by a smaller number as it was
Takes = Callable[[Inputs], bool]


class Unseen(Exception):
    """A model takes inputs of these sizes, and cannot be looked at there: no size of the axes that changed is free."""


@dataclass(frozen=True)
class Bundle:
    """Axes of one size that change together.  far, near: sizes that the model takes, if any but the own one.

    The far one lies beyond what a branch in a small example might ask for, and differs from the own one by a number
    that has no small divisor, where the model takes such; the near one shows what goes by every other remainder.
    """

    axes: tuple[Axis, ...]
    size: int
    far: int = 0
    near: int = 0

    @property
    def batch(self) -> bool:
        """Is it the first axis of all of its tensors?"""
        return all(axis == 0 for _, axis in self.axes)


def changed(change: Mapping[Bundle, int]) -> dict[Axis, int]:
    """New sizes of bundles as new sizes of their axes."""
    return {axis: new for bundle, new in change.items() for axis in bundle.axes}


def said(change: Mapping[Bundle, int]) -> str:
    """A change of sizes, for people."""
    return ", ".join(dict.fromkeys(f"{bundle.size}->{new}" for bundle, new in change.items()))


def bundles(
    here: Inputs, takes: Takes, fixed: Collection[Axis] = (), as_one: Iterable[tuple[Axis, ...]] = ()
) -> list[Bundle]:
    """The axes that may have other sizes, in bundles that change together; `takes` may raise `Unseen`.

    fixed: axes that are never varied.  as_one: axes that never have two sizes (see `gaugec.model.fixed`).
    """
    found: list[Bundle] = []
    by_size: dict[int, list[Axis]] = {}
    sizes = axes_of(*here)
    done = set(fixed)
    for axes in as_one:
        whole = Bundle(axes, sizes[axes[0]])
        free = whole.size > 1 and not done.intersection(axes)
        bundle = _sized(whole, here, takes, len(found)) if free else None
        found += [bundle] if bundle is not None else []
        done.update(axes)
    for axis, n in sizes.items():
        if axis not in done:
            by_size.setdefault(n, []).append(axis)
    for n, alike in by_size.items():
        if n == 1:
            continue  # at every other size it is another graph (`gaugec.model.run.several`)
        rest = []
        for axis in alike:
            alone = Bundle((axis,), n)
            bundle = _sized(alone, here, takes, len(found))
            if bundle is None:
                rest.append(axis)
            else:
                found.append(bundle)
        found += _together(rest, n, here, takes, len(found))
    return found


def together(
    here: Inputs, change: Mapping[Bundle, int], takes: Takes
) -> tuple[dict[Bundle, int], list[dict[Bundle, int]]]:
    """As many of these changes as the model takes at once, and the rest, each by itself."""
    whole: dict[Bundle, int] = {}
    alone: list[dict[Bundle, int]] = []
    if len(change) < 2 or takes(resized(*here, changed(change))):
        return dict(change), alone
    for bundle, new in change.items():
        if takes(resized(*here, changed({**whole, bundle: new}))):
            whole[bundle] = new
        else:
            alone.append({bundle: new})
    return whole, alone


def _together(axes: list[Axis], n: int, here: Inputs, takes: Takes, number: int) -> Iterator[Bundle]:
    """Groups of axes of one size none of which changes alone."""
    if len(axes) < 2:
        return
    whole = _sized(Bundle(tuple(axes), n), here, takes, number)
    if whole is not None:
        yield whole
        return
    # a batch and a feature that are alike by accident; a square image beside one
    for position in dict.fromkeys(axis for _, axis in axes):
        some = tuple(a for a in axes if a[1] == position)
        if 1 < len(some) < len(axes) and (bundle := _sized(Bundle(some, n), here, takes, number)) is not None:
            yield bundle
    for tensor in dict.fromkeys(tensor for tensor, _ in axes):
        some = tuple(a for a in axes if a[0] == tensor)
        if 1 < len(some) < len(axes) and (bundle := _sized(Bundle(some, n), here, takes, number)) is not None:
            yield bundle


def _sized(bundle: Bundle, here: Inputs, takes: Takes, number: int) -> Bundle | None:
    def taken(sizes: Iterable[int]) -> int:
        return next((n for n in sizes if takes(resized(*here, changed({bundle: n})))), 0)

    try:
        far = taken(_far(bundle, number))
        near = taken(n for n in _near(bundle.size) if n != far) if far else 0
    except Unseen:
        return None
    return Bundle(bundle.axes, bundle.size, far, near) if far else None


def _far(bundle: Bundle, number: int) -> list[int]:
    n, prime = bundle.size, PRIMES[number % len(PRIMES)]
    steps = (3, 2, 1) if bundle.batch else (prime, 31, 13, 7, 5, 3, 2, 1)
    # what divides a size that is taken (patches, strides, windows) may have to divide every other
    others = [3 * n, 2 * n, *(n + d for d in _divisors(n)), n + 32, n + 16, n + 8, n + 4, n - 1]
    return list(dict.fromkeys(m for m in (*(n + step for step in steps), *others) if m > 1 and m != n))


def _near(n: int) -> list[int]:
    steps = (1, 2, 3, *reversed(_divisors(n)), 4, 8, 16, 32)
    return list(dict.fromkeys(m for m in (*(n + s for s in steps), 2 * n, n - 1, n // 2) if m > 1 and m != n))


def _divisors(n: int) -> list[int]:
    return [d for d in range(n // 2, 1, -1) if n % d == 0]


__all__ = ["Bundle", "Takes", "Unseen", "bundles", "changed", "said", "together"]
