"""What an element does to the regions of a model, by brute force on tables of fractions: the tests' own oracle."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from fractions import Fraction

import mpmath

from gaugec.graph.ir import Graph, Leaf
from gaugec.graph.statement import Digit, Region
from gaugec.sampling.elements import element
from gaugec.sampling.evaluate import Evaluation, Table, as_float, inverted, table_of


def places(region: Region) -> Iterator[tuple[dict[int, int], tuple[int, ...]]]:
    """Every point of a region: the value of each digit, and the index along the leaf's modes."""
    digits = region.digits
    for values in itertools.product(*(range(d.length) for d in digits)):
        index = [0] * (1 + max(d.mode for d in digits))
        for d, value in zip(digits, values):
            index[d.mode] += d.start + d.step * value
        yield dict(enumerate(values)), tuple(index)


def flat(digits: tuple[Digit, ...], values: dict[int, int], part: str) -> int:
    """The row-major position of the digits of one part."""
    position = 0
    for m in sorted((m for m, d in enumerate(digits) if d.part == part), key=lambda m: digits[m].order):
        position = position * digits[m].length + values[m]
    return position


def elements(regions: tuple[Region, ...], group: str, rotary: int, rng: random.Random) -> dict[int, Table]:
    """One random element a copy."""
    sizes = {"copy": 1, "group": 1, "rest": 1}
    for d in regions[0].digits:
        sizes[d.part] *= d.length
    k = sizes["rest"] if group == "translation" else rotary or sizes["group"]
    return {copy: element(group, k, rng, copy) for copy in range(sizes["copy"])}


def acted(
    graph: Graph, leaves: dict[int, Table], regions: tuple[Region, ...], by: dict[int, Table], group: str
) -> dict[int, Table]:
    """The leaves after the element has acted (pairs are halves)."""
    out = {id: dict(table) for id, table in leaves.items()}
    for region in regions:
        old, new = leaves[region.leaf], out[region.leaf]
        points = [(values, _along(graph, region, index)) for values, index in places(region)]
        lines: dict[tuple[int, ...], dict[int, tuple[int, ...]]] = {}
        for values, at in points:
            rest = tuple(v for m, v in values.items() if region.digits[m].part != "group")
            lines.setdefault(rest, {})[flat(region.digits, values, "group")] = at
        for values, at in points:
            g, copy = flat(region.digits, values, "group"), flat(region.digits, values, "copy")
            table = by[copy]
            if region.kind == "scale":
                if (g,) in table:
                    new[at] = table[g,] ** int(region.exponent) * (old[at] + region.shift_by) - region.shift_by
            elif region.kind == "shift":
                new[at] = old[at] + table[flat(region.digits, values, "rest"),]
            else:
                k = 1 + max(i for i, _ in table)
                if g >= k:
                    continue
                if region.dual:
                    back = inverted(table, k)
                    table = {(i, j): back[j, i] for i, j in back}
                line = lines[tuple(v for m, v in values.items() if region.digits[m].part != "group")]
                new[at] = sum(table[g, s] * old[line[s]] for s in range(k))
    return out


def _along(graph: Graph, region: Region, index: tuple[int, ...]) -> tuple[int, ...]:
    node = graph[region.leaf]
    position = [0] * len(node.shape)
    for mode, value in zip(node.modes, index, strict=True):
        position[mode.axis] += mode.stride * value
    return tuple(position)


def invariant(
    graph: Graph,
    kept: tuple[int, ...],
    regions: tuple[Region, ...],
    group: str,
    rotary: int = 0,
    seed: int = 0,
) -> bool:
    """Whether one random element leaves the kept values as they are, at one random point."""
    rng = random.Random(seed)
    leaves = {
        node.id: {
            at: Fraction(rng.choice((-3, -2, -1, 1, 2, 3)), rng.choice((2, 3)))
            for at in itertools.product(*map(range, node.shape))
        }
        for node in graph
        if isinstance(node, Leaf)
    }
    with mpmath.workdps(40):
        moved = acted(graph, leaves, regions, elements(regions, group, rotary, rng), group)
        for id in kept:
            before, after = table_of(Evaluation(graph, leaves), id), table_of(Evaluation(graph, moved), id)
            for at, value in before.items():
                if abs(as_float(value) - as_float(after[at])) > mpmath.mpf(10) ** -25 * (1 + abs(as_float(value))):
                    return False
    return True
