"""Sites that scale the same entries: what is one group, or inside another, is kept once."""

from __future__ import annotations

from fractions import Fraction

from gaugec.sites import Axes, Binding, Move, Site
from gaugec.witness.distinct import distinct

SHAPES = {"a": (6,), "b": (6,)}


def made(gauge: str, group: str, size: int, *slices: tuple[int, Axes], pairing: str = "", plus: float = 0.0) -> Site:
    """A gauge that scales slices of a, and those of b against them."""
    bindings = [
        Binding(name, name, offset, (), axes, (), Move("scale", Fraction(power)), plus)
        for name, power in (("a", 1), ("b", -1))
        for offset, axes in slices
    ]
    rotary = size if pairing else 0
    return Site(gauge, 0, group, 1, size, pairing, rotary, tuple(bindings), (), "proved", "", "", ())


ALL = made("each entry", "positive", 6, (0, ((6, 1),)))
TWO = made("two halves", "positive", 3, (0, ((3, 1),)), (3, ((3, 1),)))
HALVES = made("pairs of halves", "positive_pairs", 6, (0, ((6, 1),)), pairing="halves")
NEIGHBOURS = made("pairs of neighbours", "positive_pairs", 6, (0, ((6, 1),)), pairing="interleaved")
PLUS = made("pairs beside one", "positive_pairs", 6, (0, ((6, 1),)), pairing="halves", plus=1.0)
FIRST = made("the first half", "positive", 3, (0, ((3, 1),)))


def kept(*sites: Site) -> list[str]:
    return [site.gauge for site in distinct(sites, SHAPES)]


def test_of_two_that_are_one_that_of_fewer_slices_stays() -> None:
    assert kept(TWO, HALVES) == kept(HALVES, TWO) == ["pairs of halves"]
    assert kept(TWO, PLUS) == ["pairs beside one"]


def test_what_is_inside_another_goes() -> None:
    assert kept(TWO, ALL) == kept(ALL, TWO, HALVES, NEIGHBOURS, FIRST) == ["each entry"]


def test_what_is_another_group_stays() -> None:
    assert kept(HALVES, NEIGHBOURS) == ["pairs of halves", "pairs of neighbours"]
    assert kept(FIRST, HALVES) == ["the first half", "pairs of halves"]
    assert kept(TWO, NEIGHBOURS) == ["two halves", "pairs of neighbours"]
