"""Elements of the groups as tables of exact fractions: random ones, the simplest ones, products, identities.

For the component check only, which shares no code with the proof.  A length k of 0 stands for an element of one number.
"""

from __future__ import annotations

import random
from fractions import Fraction

from gaugec.groups import GROUPS
from gaugec.sampling.evaluate import Table, inverted

TRIPLES = ((3, 4, 5), (5, 12, 13), (8, 15, 17), (7, 24, 25))


def element(group: str, k: int, rng: random.Random, turn: int = 0) -> Table:
    """A random element as a table; `turn` alternates the sign of the determinant.  No entry of it is the identity's."""
    row = GROUPS[group]
    if row.element == "vector":
        draw = _scale if row.kind == "scale" else _shift
        if row.paired:
            half = [draw(rng) for _ in range(k // 2)]
            return _vector(half + half)
        return {at: draw(rng) for at in _places(k)}
    if row.paired:
        return _planes(k, [rng.choice(TRIPLES) for _ in range(k // 2)], rng)
    if not row.transpose_inverts:
        return _regular(k, rng)
    return identity(group, k) if row.keeps_ones and k < 2 else _mirrors(k, rng, turn, row.keeps_ones)


def _scale(rng: random.Random) -> Fraction:
    return rng.choice(_SCALES)


def _shift(rng: random.Random) -> Fraction:
    return Fraction(rng.choice((-3, -2, -1, 1, 2, 3)), rng.choice((1, 2, 3)))


def _regular(k: int, rng: random.Random) -> Table:
    """A matrix that has an inverse."""
    while True:
        rows = [[Fraction(rng.choice((-2, -1, 1, 2, 3)), rng.choice((1, 2))) for _ in range(k)] for _ in range(k)]
        found = _matrix(rows)
        try:
            inverted(found, k)
        except ZeroDivisionError:
            continue
        return found


def _mirrors(k: int, rng: random.Random, turn: int, keeps_ones: bool) -> Table:
    """A product of reflections, even or odd in number by `turn`, in planes that hold the vector of ones if asked."""
    result = _matrix([[Fraction(int(i == j)) for j in range(k)] for i in range(k)])
    for _ in range(2 + turn % 2 if keeps_ones else k + (k + turn) % 2):
        while True:
            v = [Fraction(rng.choice((-2, -1, 1, 2, 3))) for _ in range(k)]
            if keeps_ones:
                v[-1] -= sum(v)
            if v[-1] and (k < 3 or len({abs(x) for x in v}) > 1):
                break
        norm = sum(x * x for x in v)
        mirror = _matrix([[int(i == j) - 2 * v[i] * v[j] / norm for j in range(k)] for i in range(k)])
        result = _product(result, mirror, k)
    return result


_SCALES = (Fraction(1, 2), Fraction(2), Fraction(3), Fraction(3, 2), Fraction(2, 3), Fraction(5, 3))


def _places(k: int) -> list[tuple[int, ...]]:
    """Where a vector of length k has entries; 0: it is one number."""
    return [(i,) for i in range(k)] if k else [()]


def _vector(values: list[Fraction]) -> Table:
    return {(i,): v for i, v in enumerate(values)}


def _matrix(rows: list[list[Fraction]]) -> Table:
    return {(i, j): v for i, row in enumerate(rows) for j, v in enumerate(row)}


def _planes(k: int, triples: list[tuple[int, int, int]], rng: random.Random) -> Table:
    half = k // 2
    rows = [[Fraction(0)] * k for _ in range(k)]
    for p, (a, b, c) in enumerate(triples):
        cosine, sine = Fraction(rng.choice((a, -a)), c), Fraction(rng.choice((b, -b)), c)
        rows[p][p] = rows[p + half][p + half] = cosine
        rows[p][p + half], rows[p + half][p] = -sine, sine
    return _matrix(rows)


def _product(a: Table, b: Table, k: int) -> Table:
    return {(i, j): sum(a[i, s] * b[s, j] for s in range(k)) for i in range(k) for j in range(k)}


def compose(group: str, left: Table, right: Table, k: int) -> Table:
    """The product of two elements."""
    match GROUPS[group].kind:
        case "rotate":
            return _product(left, right, k)
        case "shift":
            return {at: left[at] + right[at] for at in left}
        case _:
            return {at: left[at] * right[at] for at in left}


def identity(group: str, k: int) -> Table:
    """The group's identity."""
    kind = GROUPS[group].kind
    if kind == "rotate":
        return _matrix([[Fraction(int(i == j)) for j in range(k)] for i in range(k)])
    return dict.fromkeys(_places(k), Fraction(int(kind == "scale")))


def simplest(group: str, k: int) -> list[Table]:
    """Elements with one entry (or one plane) that is not the identity's, simplest first."""
    one, row = identity(group, k), GROUPS[group]
    if row.element == "vector":
        values = (2, Fraction(1, 2), 3) if row.kind == "scale" else (1, -1, 2)
        places = ((0,), (k // 2,)) if row.paired else _places(k)[:1]
        return [{**one, **dict.fromkeys(places, Fraction(value))} for value in values]
    if row.paired:
        h = k // 2
        return [{**one, **_entries({(0, 0): 0, (h, h): 0, (0, h): -1, (h, 0): 1})}]
    if row.keeps_ones:
        swaps = ({(i, i): 0, (i + 1, i + 1): 0, (i, i + 1): 1, (i + 1, i): 1} for i in range(min(k - 1, 2)))
        return [{**one, **_entries(swap)} for swap in swaps]
    if not row.transpose_inverts:
        return [{**one, **_entries(entry)} for entry in ({(0, 0): 2}, {(0, 1): 1})[: 1 if k < 2 else 2]]
    quarter, swap = ({(0, 0): 0, (1, 1): 0, (0, 1): sign, (1, 0): 1} for sign in (-1, 1))
    return [{**one, **_entries(entry)} for entry in ({(0, 0): -1}, quarter, swap)[: 1 if k < 2 else 3]]


def _entries(values: dict[tuple[int, int], int]) -> Table:
    return {at: Fraction(value) for at, value in values.items()}
