"""Where directions live: the fewest parameters that carry them.

Of what is dead and not explained only classes are known: what is explained may be added to each. A set of parameters
carries a class where one of its directions moves those parameters alone. Sets are made small by leaving parameters out
while they carry one still: none of those found can be smaller by leaving out more, though another may be smaller.

Not here: what is dead, what explains it.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gaugec.witness.bases import together

FLOOR = 1e-8  # of a square: below it a direction does not move a parameter
PAIRED = 100  # parameters of which all pairs are tried
SMALL = 6  # parameters that are a small set


@dataclass(frozen=True)
class Dwelling:
    """parameters: names.  directions: how many they carry, beside what is explained and what sets before them carry."""

    parameters: tuple[str, ...]
    directions: int


def carriers(null: Tensor, explained: Tensor, places: Mapping[str, slice]) -> list[Dwelling]:
    """Small sets of parameters that carry what is in `null` and not in `explained`.

    Both are orthonormal bases, one a row, the second in the span of the first; places: the columns of the parameters.
    """
    inside = explained @ null.T  # coordinates in `null`, one a row
    found: list[Dwelling] = []

    def grown(chosen: Sequence[str]) -> Tensor:
        return together(inside, _within(null, [places[name] for name in chosen]))

    def more(chosen: Sequence[str]) -> int:
        return len(grown(chosen)) - len(inside)

    def take(chosen: Sequence[str]) -> None:
        nonlocal inside
        found.append(Dwelling(tuple(chosen), more(chosen)))
        inside = grown(chosen)

    for sets in _few(list(places)):
        for chosen in _most_first(sets, more):
            take(chosen)
    while len(inside) < len(null):
        small = _left_out(list(places), lambda chosen: more(chosen) > 0)
        if len(small) > SMALL:  # no few parameters carry what is left: those that carry all of it
            small = _left_out(list(places), lambda chosen: len(grown(chosen)) == len(null))
        if not more(small):
            break  # what is left is too near to what is explained to be told from it
        take(small)
    return found


def _left_out(names: Sequence[str], enough: Callable[[Sequence[str]], bool]) -> list[str]:
    """What is left when as many names are left out as can be while there is enough; all of them are."""
    kept, size = list(names), max(1, len(names) // 2)
    while True:
        at = 0
        while at < len(kept):
            fewer = kept[:at] + kept[at + size :]
            if fewer and enough(fewer):
                kept = fewer
            else:
                at += size
        if size == 1:
            return kept
        size //= 2


def _few(names: Sequence[str]) -> Iterator[list[list[str]]]:
    """Parameters one by one, and all pairs of them where these are not too many."""
    yield [[name] for name in names]
    if len(names) <= PAIRED:
        yield [[one, other] for n, one in enumerate(names) for other in names[n + 1 :]]


def _most_first(sets: Sequence[list[str]], more: Callable[[Sequence[str]], int]) -> Iterator[list[str]]:
    """Those that carry something, by how much it is beside what was taken before: never more than at first."""
    heap = [(-more(chosen), number) for number, chosen in enumerate(sets)]
    heapq.heapify(heap)
    while heap and heap[0][0]:
        before, number = heapq.heappop(heap)
        now = -more(sets[number])
        if now == before:
            yield sets[number]
        elif now:
            heapq.heappush(heap, (now, number))


def _within(null: Tensor, chosen: Sequence[slice]) -> Tensor:
    """The directions that move the chosen columns alone: their coordinates in `null`, one a row, orthonormal."""
    inner = torch.cat([null[:, place] for place in chosen], 1)
    small = inner.shape[1] < len(null)
    squares, vectors = torch.linalg.eigh(inner.T @ inner if small else inner @ inner.T)
    kept = vectors[:, squares > 1 - FLOOR]
    return (inner @ kept if small else kept).T
