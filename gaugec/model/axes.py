"""The axes of a model's inputs that may have other sizes: which belong together, and which sizes the model takes.

A forward says by running.  An axis that takes another size alone is free by itself; those of one size that do not are
tried together (a batch that several tensors have, an image that must be square).  What no change is taken of is fixed.

What this module does not do: it compares nothing, and does not know what the forward does at the sizes that it takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from gaugec.model.inputs import Axis, Inputs, axes_of, resized

PRIMES = (61, 67, 71, 73)  # steps that leave no remainder by a smaller number as it was
Takes = Callable[[Inputs], bool]


@dataclass(frozen=True)
class Group:
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


def changed(change: Mapping[Group, int]) -> dict[Axis, int]:
    """New sizes of groups as new sizes of their axes."""
    return {axis: new for group, new in change.items() for axis in group.axes}


def said(change: Mapping[Group, int]) -> str:
    """A change of sizes, for people."""
    return ", ".join(dict.fromkeys(f"{group.size}->{new}" for group, new in change.items()))


def groups(here: Inputs, takes: Takes) -> list[Group]:
    """The axes that may have other sizes, in groups that change together."""
    found: list[Group] = []
    by_size: dict[int, list[Axis]] = {}
    for axis, n in axes_of(*here).items():
        by_size.setdefault(n, []).append(axis)
    for n, axes in by_size.items():
        if n == 1:
            continue  # at every other size it is another graph (`gaugec.model.run.several`)
        rest = []
        for axis in axes:
            alone = Group((axis,), n)
            group = _sized(alone, here, takes, len(found))
            if group is None:
                rest.append(axis)
            else:
                found.append(group)
        found += _together(rest, n, here, takes, len(found))
    return found


def _together(axes: list[Axis], n: int, here: Inputs, takes: Takes, number: int) -> Iterator[Group]:
    """Groups of axes of one size none of which changes alone."""
    if len(axes) < 2:
        return
    whole = _sized(Group(tuple(axes), n), here, takes, number)
    if whole is not None:
        yield whole
        return
    # a batch and a feature that are alike by accident; a square image beside one
    for position in dict.fromkeys(axis for _, axis in axes):
        some = tuple(a for a in axes if a[1] == position)
        if 1 < len(some) < len(axes) and (group := _sized(Group(some, n), here, takes, number)) is not None:
            yield group
    for tensor in dict.fromkeys(tensor for tensor, _ in axes):
        some = tuple(a for a in axes if a[0] == tensor)
        if 1 < len(some) < len(axes) and (group := _sized(Group(some, n), here, takes, number)) is not None:
            yield group


def _sized(group: Group, here: Inputs, takes: Takes, number: int) -> Group | None:
    def taken(sizes: Iterable[int]) -> int:
        return next((n for n in sizes if takes(resized(*here, changed({group: n})))), 0)

    far = taken(_far(group, number))
    if not far:
        return None
    return Group(group.axes, group.size, far, taken(n for n in _near(group.size) if n != far))


def _far(group: Group, number: int) -> list[int]:
    n, prime = group.size, PRIMES[number % len(PRIMES)]
    steps = (3, 2, 1) if group.batch else (prime, 31, 13, 7, 5, 3, 2, 1)
    # what divides a size that is taken (patches, strides, windows) may have to divide every other
    others = [3 * n, 2 * n, *(n + d for d in _divisors(n)), n + 32, n + 16, n + 8, n + 4, n - 1]
    return list(dict.fromkeys(m for m in (*(n + step for step in steps), *others) if m > 1 and m != n))


def _near(n: int) -> list[int]:
    steps = (1, 2, 3, *reversed(_divisors(n)), 4, 8, 16, 32)
    return list(dict.fromkeys(m for m in (*(n + s for s in steps), 2 * n, n - 1, n // 2) if m > 1 and m != n))


def _divisors(n: int) -> list[int]:
    return [d for d in range(n // 2, 1, -1) if n % d == 0]


__all__ = ["Group", "changed", "groups", "said"]
