"""Indices, factors, monomials and symbols: the data of `gaugec.proof.algebra`.

A *symbol* is a tensor without a definition here: a leaf, a cut node, a part of the group's element, the Kronecker
delta, a size, or a function of a normalised polynomial (interned: equal functions of equal arguments are one symbol).
A *factor* is (symbol, indices, exponent); a *monomial* is a sorted tuple of factors with the sizes of its summed
indices; a *polynomial* maps monomials to rational coefficients.  Summed indices are the labels -1, -2, ... in an order
that does not depend on their names; free indices are non-negative numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

Number = int | Fraction
Index = tuple[int, tuple[tuple[int, int], ...]]
"""offset + sum(stride * variable), terms sorted by descending stride."""
Factor = tuple[int, tuple[Index, ...], Number]
Monomial = tuple[tuple[Factor, ...], tuple[int, ...]]
Polynomial = dict[Monomial, Number]
Factors = dict[tuple[int, tuple[Index, ...]], Number]
Raw = tuple[Number, Factors, dict[int, int]]

DUMMY = 1 << 40  # labels of the indices that a function acts along, inside its interned argument
MARK = 1 << 41


class Undecided(Exception):
    """The normal form cannot be computed; the message says why in a reader's words."""


class NeedSplit(Exception):
    """A variable must be split into parts: `parts` are (start, length, step), variable = start + step * part."""

    def __init__(self, variable: int, parts: tuple[tuple[int, int, int], ...]) -> None:
        super().__init__(f"variable {variable} must be split")
        self.variable = variable
        self.parts = parts


@dataclass(frozen=True)
class Symbol:
    """What an atom's number stands for.

    kind: "node", "one-hot", "element", "delta", "size", "function", "base" (what a pow stands on).
    name: how reports call it.  data: for functions the argument polynomials, over slots 0.. and dummies DUMMY...
    `reads`: how many of the leading indices say where a function along an axis is read, or which row of a one-hot is.
    extent: length of the summed axis (group elements, softmax, what a one-hot picks from).  alias: how side conditions
    call it, where its name is that of one layer of many.
    """

    kind: str
    name: str
    tag: str = ""
    data: tuple[Polynomial, ...] = ()
    attributes: tuple[object, ...] = ()
    reads: int = 0
    extent: int = 0
    positive: bool = False
    alias: str = ""


def number(value: Number) -> Number:
    """An int where the value is one: hashing and printing are cheaper."""
    return value.numerator if isinstance(value, Fraction) and value.denominator == 1 else value


def index(offset: int, terms: Iterable[tuple[int, int]]) -> Index:
    """The sorted index of the given terms; terms of one variable are joined, zero strides dropped."""
    joined: dict[int, int] = {}
    for stride, variable in terms:
        joined[variable] = joined.get(variable, 0) + stride
    return offset, tuple(sorted(((s, v) for v, s in joined.items() if s), key=lambda t: (-t[0], t[1])))


def variable(v: int) -> Index:
    """The index that is the bare variable v."""
    return 0, ((1, v),)


def plain(ix: Index) -> int | None:
    """The variable, when the index is a bare one."""
    offset, terms = ix
    return terms[0][1] if offset == 0 and len(terms) == 1 and terms[0][0] == 1 else None


def shifted(ix: Index, by: int) -> Index:
    """The index moved by a constant."""
    return ix[0] + by, ix[1]


def scaled(ix: Index, by: int) -> Index:
    """The index times a constant."""
    return index(by * ix[0], ((by * s, v) for s, v in ix[1]))


def joined(parts: Iterable[Index]) -> Index:
    """The sum of indices."""
    parts = tuple(parts)
    return index(sum(p[0] for p in parts), (t for p in parts for t in p[1]))


def substituted(ix: Index, values: Mapping[int, Index]) -> Index:
    """The index with variables replaced by indices."""
    offset, terms = ix
    if not any(v in values for _, v in terms):
        return ix
    out: list[tuple[int, int]] = []
    for stride, v in terms:
        value = values.get(v)
        if value is None:
            out.append((stride, v))
        else:
            offset += stride * value[0]
            out.extend((stride * s, w) for s, w in value[1])
    return index(offset, out)


def relabelled(indices: tuple[Index, ...], labels: Mapping[int, int]) -> tuple[Index, ...]:
    """The indices with other names for their variables."""
    out: list[Index] = []
    for offset, terms in indices:
        if len(terms) == 1:
            stride, v = terms[0]
            out.append((offset, ((stride, labels.get(v, v)),)))
        else:
            out.append((offset, tuple(sorted(((s, labels.get(v, v)) for s, v in terms), key=lambda t: (-t[0], t[1])))))
    return tuple(out)
