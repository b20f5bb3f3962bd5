"""Elements of the groups as tables of exact fractions: random ones, the simplest ones, products, identities.

For the component check only, which shares no code with the proof.
"""

from __future__ import annotations

import random
from fractions import Fraction

from gaugec.sampling.evaluate import Table, inverted

MATRICES = ("orthogonal", "orthogonal_ones", "torus", "invertible")
TRIPLES = ((3, 4, 5), (5, 12, 13), (8, 15, 17), (7, 24, 25))


def element(group: str, k: int, rng: random.Random, turn: int = 0) -> Table:
    """A random element as a table; `turn` alternates the sign of the determinant.  No entry of it is the identity's."""
    if group == "positive":
        return _vector([rng.choice(_SCALES) for _ in range(k)])
    if group == "positive_pairs":
        half = [rng.choice(_SCALES) for _ in range(k // 2)]
        return _vector(half + half)
    if group == "translation":
        return _vector([Fraction(rng.choice((-3, -2, -1, 1, 2, 3)), rng.choice((1, 2, 3))) for _ in range(k)])
    if group == "torus":
        return _planes(k, [rng.choice(TRIPLES) for _ in range(k // 2)], rng)
    if group == "invertible":
        while True:
            rows = [[Fraction(rng.choice((-2, -1, 1, 2, 3)), rng.choice((1, 2))) for _ in range(k)] for _ in range(k)]
            found = _matrix(rows)
            try:
                inverted(found, k)
            except ZeroDivisionError:
                continue
            return found
    total = group == "orthogonal_ones"
    if total and k < 2:
        return identity(group, k)
    result = _matrix([[Fraction(int(i == j)) for j in range(k)] for i in range(k)])
    for _ in range(2 + turn % 2 if total else k + (k + turn) % 2):
        while True:
            v = [Fraction(rng.choice((-2, -1, 1, 2, 3))) for _ in range(k)]
            if total:
                v[-1] -= sum(v)
            if v[-1] and (k < 3 or len({abs(x) for x in v}) > 1):
                break
        norm = sum(x * x for x in v)
        mirror = _matrix([[int(i == j) - 2 * v[i] * v[j] / norm for j in range(k)] for i in range(k)])
        result = _product(result, mirror, k)
    return result


_SCALES = (Fraction(1, 2), Fraction(2), Fraction(3), Fraction(3, 2), Fraction(2, 3), Fraction(5, 3))


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
    if group in MATRICES:
        return _product(left, right, k)
    if group == "translation":
        return {at: left[at] + right[at] for at in left}
    return {at: left[at] * right[at] for at in left}


def identity(group: str, k: int) -> Table:
    """The group's identity."""
    if group in MATRICES:
        return _matrix([[Fraction(int(i == j)) for j in range(k)] for i in range(k)])
    return _vector([Fraction(int(group != "translation"))] * k)


def simplest(group: str, k: int) -> list[Table]:
    """Elements with one entry (or one plane) that is not the identity's, simplest first."""
    one = identity(group, k)
    found: list[Table] = []
    if group in ("positive", "positive_pairs"):
        found += [{**one, **{(i,): Fraction(v) for i in _pair(group, k)}} for v in (2, Fraction(1, 2), 3)]
    elif group == "translation":
        found += [{**one, (0,): Fraction(v)} for v in (1, -1, 2)]
    elif group == "invertible":
        found.append({**one, (0, 0): Fraction(2)})
        if k > 1:
            found.append({**one, (0, 1): Fraction(1)})
    elif group == "torus":
        h = k // 2
        turned: Table = {(0, 0): Fraction(0), (h, h): Fraction(0), (0, h): Fraction(-1), (h, 0): Fraction(1)}
        found.append({**one, **turned})
    elif group == "orthogonal_ones":
        for i in range(min(k - 1, 2)):
            swap: Table = {
                (i, i): Fraction(0),
                (i + 1, i + 1): Fraction(0),
                (i, i + 1): Fraction(1),
                (i + 1, i): Fraction(1),
            }
            found.append({**one, **swap})
    else:
        found.append({**one, (0, 0): Fraction(-1)})
        if k > 1:
            zero: Table = {(0, 0): Fraction(0), (1, 1): Fraction(0)}
            found.append({**one, **zero, (0, 1): Fraction(-1), (1, 0): Fraction(1)})
            found.append({**one, **zero, (0, 1): Fraction(1), (1, 0): Fraction(1)})
    return found


def _pair(group: str, k: int) -> tuple[int, ...]:
    return (0, k // 2) if group == "positive_pairs" else (0,)
