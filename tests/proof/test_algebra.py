"""The normal form: names of summed indices, contractions that fire and ones that must not, powers, the budget."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest

from gaugec.proof.algebra import Algebra
from gaugec.proof.apply import common_positive, power
from gaugec.proof.element import Element, Pairing
from gaugec.proof.pieces import cut_at, split
from gaugec.proof.rules import RULES
from gaugec.proof.terms import Index, NeedSplit, Polynomial, Symbol, Undecided, index, variable


def leaf(algebra: Algebra, name: str) -> int:
    return algebra.symbol(("node", name), Symbol("node", name))


def monomial(algebra: Algebra, names: str, edges: list[tuple[int, ...]], sizes: dict[int, int]) -> Polynomial:
    """The sum over fresh variables of leaves read at them."""
    new = {v: algebra.fresh(size) for v, size in sizes.items()}
    parts = [
        algebra.atom(leaf(algebra, name), tuple(variable(new[v]) for v in edge)) for name, edge in zip(names, edges)
    ]
    return algebra.product(parts, summed=tuple(new.values()))


def test_summed_indices_have_no_names() -> None:
    edges = [(0, 1), (1, 2), (2, 3), (3, 0), (0, 2)]
    forms = set()
    for order in itertools.permutations(range(4)):
        algebra = Algebra(RULES, symbolic=True)
        leaf(algebra, "A")
        poly = monomial(algebra, "AAAAA", [(order[a], order[b]) for a, b in edges], dict.fromkeys(order, 7))
        forms.add(tuple(poly.items()))
    assert len(forms) == 1


def test_different_graphs_of_indices_differ() -> None:
    algebra = Algebra(RULES, symbolic=True)
    sizes = dict.fromkeys(range(6), 7)
    hexagon = monomial(algebra, "A" * 6, [(k, (k + 1) % 6) for k in range(6)], sizes)
    triangles = monomial(algebra, "A" * 6, [(0, 1), (1, 2), (2, 0), (3, 4), (4, 5), (5, 3)], sizes)
    assert hexagon != triangles
    one, two = (monomial(algebra, "AB", [(0, 1), (0, 1)], {0: 7, 1: size}) for size in (7, 9))
    assert one != two
    assert monomial(algebra, "AB", [(0, 1), (1, 0)], {0: 7, 1: 7}) != one


def test_sizes_of_indices_that_occur_nowhere() -> None:
    symbolic, counted = Algebra(RULES, symbolic=True), Algebra(RULES, symbolic=False)
    for algebra in (symbolic, counted):
        v, w = algebra.fresh(6), algebra.fresh(6)
        total = algebra.product([], summed=(v, w))
        assert total == algebra.product([algebra.size(6)] * 2)
    assert counted.product([], summed=(counted.fresh(6),)) == counted.constant(6)
    # a symbolic size is no number, and cancels only against itself
    size = symbolic.size(6)
    assert size != symbolic.constant(6)
    assert symbolic.product([size, power(symbolic, size, Fraction(-1))]) == symbolic.constant(1)
    assert symbolic.product([size, power(symbolic, symbolic.size(8), Fraction(-1))]) != symbolic.constant(1)


def turned(algebra: Algebra, group: str, k: int = 5) -> tuple[Element, tuple[Index, ...]]:
    element = Element(algebra, group, k, Pairing("halves", k))
    return element, tuple(variable(algebra.fresh(k)) for _ in range(4))


@pytest.mark.parametrize("group", ["orthogonal", "invertible"])
def test_inverses_contract_on_the_index_that_only_they_read(group: str) -> None:
    algebra = Algebra(RULES, symbolic=True)
    element, (i, j, s, t) = turned(algebra, group)
    (_, ((_, v),)) = s
    one = element.matrix((), i, s), element.matrix((), s, j, inverse=True)
    assert algebra.product(one, summed=(v,)) == algebra.delta(i, j)
    back = element.matrix((), s, i, inverse=True), element.matrix((), j, s)
    assert algebra.product(back, summed=(v,)) == algebra.delta(i, j)
    # not when the index is read a third time, is not summed, or runs over less than the axis
    third = algebra.atom(leaf(algebra, "x"), (s,))
    assert algebra.product([*one, third], summed=(v,)) != algebra.product([algebra.delta(i, j), third], summed=(v,))
    assert algebra.product(one) != algebra.delta(i, j)
    short = algebra.fresh(4)
    less = element.matrix((), i, variable(short)), element.matrix((), variable(short), j, inverse=True)
    assert algebra.product(less, summed=(short,)) != algebra.delta(i, j)
    assert element.matrix((), i, t) != element.matrix((), t, i)


def test_an_invertible_element_is_not_orthogonal() -> None:
    algebra = Algebra(RULES, symbolic=True)
    element, (i, j, s, _) = turned(algebra, "invertible")
    (_, ((_, v),)) = s
    both = [element.matrix((), s, i), element.matrix((), s, j)]
    assert algebra.product(both, summed=(v,)) != algebra.delta(i, j)


def test_elements_of_different_copies_do_not_contract() -> None:
    algebra = Algebra(RULES, symbolic=True)
    element, (i, j, s, copy) = turned(algebra, "orthogonal")
    (_, ((_, v),)) = s
    other = variable(algebra.fresh(5))
    mixed = [element.matrix((copy,), s, i), element.matrix((other,), s, j)]
    assert algebra.product(mixed, summed=(v,)) != algebra.delta(i, j)
    same = [element.matrix((copy,), s, i), element.matrix((copy,), s, j)]
    assert algebra.product(same, summed=(v,)) == algebra.delta(i, j)
    two = Element(algebra, "orthogonal", 5, Pairing("halves", 5), tag="'")
    assert algebra.product([element.matrix((), s, i), two.matrix((), s, j)], summed=(v,)) != algebra.delta(i, j)


def test_an_axis_in_two_digits_contracts_as_one() -> None:
    algebra = Algebra(RULES, symbolic=False)
    element, (i, j, _, _) = turned(algebra, "orthogonal", 6)
    a, b = algebra.fresh(2), algebra.fresh(3)
    for stride, contracts in ((3, True), (2, False)):
        at = index(0, [(stride, a), (1, b)])
        total = algebra.product([element.matrix((), at, i), element.matrix((), at, j)], summed=(a, b))
        assert (total == algebra.delta(i, j)) is contracts


def test_positive_factors_leave_only_where_their_index_is_free() -> None:
    algebra = Algebra(RULES, symbolic=True)
    element = Element(algebra, "positive", 5, Pairing("halves", 5))
    i, s = algebra.fresh(5), algebra.fresh(5)
    x = leaf(algebra, "x")
    free = algebra.product([element.scale((), variable(i), Fraction(2)), algebra.atom(x, (variable(i),))])
    factors, rest = common_positive(algebra, free, ())
    assert list(factors.values()) == [2] and rest == algebra.atom(x, (variable(i),))
    assert common_positive(algebra, free, (i,))[0] == {}
    summed = algebra.product(
        [element.scale((), variable(s), Fraction(1)), algebra.atom(x, (variable(s),))], summed=(s,)
    )
    assert common_positive(algebra, summed, ())[0] == {}
    mixed = algebra.add((1, free), (1, algebra.constant(1)))
    assert common_positive(algebra, mixed, ())[0] == {}


def test_powers_never_assume_a_sign() -> None:
    algebra = Algebra(RULES, symbolic=True)
    x = algebra.atom(leaf(algebra, "x"))
    square = algebra.product([x, x])
    assert power(algebra, square, Fraction(1, 2)) != x
    assert algebra.product([power(algebra, square, Fraction(1, 2))] * 2) == square
    assert algebra.product([x, power(algebra, x, Fraction(-1))]) == algebra.constant(1)
    assert "x ≠ 0" in algebra.nonzero.values()
    with pytest.raises(Undecided, match="division by zero"):
        power(algebra, {}, Fraction(-1))


def test_functions_of_equal_arguments_are_one_symbol() -> None:
    algebra = Algebra(RULES, symbolic=True)
    w, x = leaf(algebra, "w"), leaf(algebra, "x")

    def argument(i: int, j: int) -> Polynomial:
        s = algebra.fresh(7)
        factors = [algebra.atom(w, (variable(i), variable(s))), algebra.atom(x, (variable(j), variable(s)))]
        return algebra.product(factors, summed=(s,))

    i, j = algebra.fresh(5), algebra.fresh(5)
    one = algebra.function("tanh", (), (argument(i, j),))
    assert algebra.function("tanh", (), (argument(i, j),)) == one
    swapped = algebra.function("tanh", (), (argument(j, i),))
    assert swapped[0] == one[0] and swapped[1] == one[1][::-1]
    assert algebra.function("erf", (), (argument(i, j),))[0] != one[0]
    assert algebra.function("tanh", (("a", "1"),), (argument(i, j),))[0] != one[0]
    assert algebra.opened(*one) == argument(i, j)


def test_splitting() -> None:
    algebra = Algebra(RULES, symbolic=False)
    v = algebra.fresh(10)
    need = cut_at(algebra, variable(v), (4,), "here")
    assert need.parts == ((0, 4, 1), (4, 6, 1))
    (first, _), (second, _) = split(algebra, need)
    assert (first[0], second[0]) == (0, 4)
    w = algebra.fresh(2)
    need = cut_at(algebra, index(0, [(5, w), (1, algebra.fresh(5))]), (5,), "here")
    assert need.variable == w and [value for value, _ in split(algebra, need)] == [(0, ()), (1, ())]
    with pytest.raises(Undecided, match="outside its range"):
        cut_at(algebra, variable(v), (10,), "here")
    with pytest.raises(NeedSplit):
        Pairing("interleaved", 10).part(algebra, variable(v))
    assert Pairing("interleaved", 10).part(algebra, index(1, [(2, algebra.fresh(5))])) is not None


def test_the_budget_is_a_refusal() -> None:
    algebra = Algebra(RULES, symbolic=True, steps=50)
    x = algebra.add((1, algebra.atom(leaf(algebra, "x"))), (1, algebra.atom(leaf(algebra, "y"))))
    with pytest.raises(Undecided, match="not decided"):
        for _ in range(10):
            x = algebra.product([x, x])


def test_rules_are_a_table_with_words() -> None:
    assert len(RULES) >= 15
    assert all(row.says and row.name == name for name, row in RULES.items())


def test_the_orthogonal_rule_needs_exactly_two_atoms() -> None:
    from gaugec.proof.algebra import Algebra
    from gaugec.proof.element import Element, Pairing
    from gaugec.proof.terms import variable

    algebra = Algebra(RULES, symbolic=True)
    algebra.allow("linearity")
    element = Element(algebra, "orthogonal", 202, Pairing("halves", 202))
    i, j, s = (algebra.fresh(202) for _ in "ijs")

    def said(*columns: int) -> list[str]:
        factors = [element.matrix((), variable(s), variable(column)) for column in columns]
        made = algebra.product(factors, summed=(s,))
        return [algebra.words(mono, coefficient) for mono, coefficient in made.items()]

    assert said(i, j) == ["delta[i, j]"]
    for columns in ((i, i, j), (i, i, j, j), (i, i, i)):
        assert "delta" not in "".join(said(*columns))
