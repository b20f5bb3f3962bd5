"""Which gauges in charts are combined, and which are refused, with the reason."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from gaugec.codegen.derive import derive
from gaugec.codegen.plan import plan
from gaugec.errors import GaugeError
from gaugec.sites import Binding, Chart, Factor, Move, Site, Summand
from runtime import handmade_charts as charts
from runtime.handmade import DOWN, ROTATE, SHIFT, UP, balance_fix, equation, linear, norm, one, site, vector

SHAPES = {"W": (4, 6), "V": (5, 4), "g": (6,), "h": (6,), "b": (6,), "B": (4,), "U": (3, 6), "c": (9,)}


def times(gain: str, power: Fraction | int = 1, stride: int = 1) -> Chart:
    return Chart((Factor(gain, 0, ((6, stride, 1),), Fraction(power)),))


def plus(weight: str = "W", bias: str = "b", out: int = 4, inner: int = 6, start: int = 0) -> Chart:
    return Chart((), (Summand(weight, 0, bias, start, ((out, 1, inner, 0),), ((inner, 1, 1),)),))


def shifted(chart: Chart, name: str = "W", out: int = 4, inner: int = 6) -> Binding:
    """Rows of a matrix to which a number each is added."""
    return Binding("W", name, 0, (), ((inner, 1),), ((out, inner),), SHIFT, chart=chart)


def shift(*bindings: Binding, size: int = 6, gauge: str = "shift") -> Site:
    return site(gauge, 0, "translation", 1, size, bindings)


def stands(name: str, size: int, chart: Chart) -> Binding:
    return charts.still("B", name, size, chart)


def units(*more: Binding) -> Site:
    """The rows of W against the columns of V."""
    moved = [linear("W1", "W", 4, 6, UP, 0), *more, linear("W2", "V", 5, 4, DOWN, 1)]
    return site("units", 0, "positive", 1, 4, moved, balance_fix())


def gains(*more: Binding) -> Site:
    fix = equation(norm("abs", "g"), one())
    return site("gain", 0, "positive", 1, 6, [vector("g", "g", 6, UP), linear("W", "W", 4, 6, DOWN, 1), *more], fix)


def wide(made: Site) -> Site:
    return replace(made, wide=True)


HELD = shift(shifted(times("g")), gauge="by g")
ADDED = shift(shifted(Chart()), stands("B", 4, plus()), gauge="by b")
BIAS = site("bias", 0, "translation", 1, 1, [charts.constant("b", "b", 6), stands("B", 4, plus())])

REFUSED = {
    "one gain, two powers": ([HELD, shift(shifted(times("g", -1)))], "multiply W by g in different ways"),
    "one gain, two axes": (
        [HELD, shift(shifted(Chart((Factor("g", 0, ((4, 6, 1),)),))))], "multiply W by g in different ways"),
    "one bias, two axes": (
        [ADDED, shift(shifted(Chart()), stands("B", 4, Chart((), (Summand("W", 0, "b", 0, ((4, 1, 1, 0),),
         ((6, 4, 1),)),))))], "add b to B in different ways"),
    "a root of a gain": ([shift(shifted(times("g", Fraction(1, 2))))], "a power that is no integer"),
    "a gain behind a gain": (
        [HELD, shift(Binding("g", "g", 0, (), ((6, 1),), (), SHIFT, chart=times("h")))],
        "W is moved times g, and one of the two in other coordinates"),
    "a bias that is added to itself": ([shift(stands("B", 4, plus(bias="B", inner=4)), shifted(Chart()))], "circle"),
    "a wide scale": ([wide(units())], "only rotations are compiled"),
    "a scale along the stream": (
        [gains(), wide(site("stream", 0, "orthogonal", 1, 6, [linear("W", "W", 4, 6, ROTATE, 1)]))],
        "gain and stream both move W, along one axis, and the second runs through the whole model"),
    "a gain that is moved, and not all that it multiplies": (
        [gains(), shift(shifted(times("g"), "U", 3))], "it moves .*, which is held, and not all that"),
    "a rotation of what a gain multiplies": (
        [HELD, site("turn", 0, "orthogonal", 1, 6, [linear("W", "W", 4, 6, ROTATE, 1)])], "multiplies unlike"),
    "a scale of a gain that is held, and of more than that holds it": (
        [HELD, site("gain", 0, "positive", 1, 6, [vector("g", "g", 6, UP), linear("U", "U", 3, 6, DOWN, 1),
         linear("W", "W", 4, 6, DOWN, 1)], equation(norm("abs", "g"), one()))], None),
    "units without their bias": ([ADDED, units()], "unlike"),
    "units with their bias": ([ADDED, units(vector("b1", "B", 4, UP))], None),
    "units without their bias, where the function does not see it": ([ADDED, BIAS, units()], None),
    "a shift of what is added": (
        [ADDED, shift(Binding("b", "b", 0, (), (), ((6, 1),), SHIFT), size=1)], "does not say what that does"),
    "a vector that is traded and scaled": (
        [units(vector("b1", "B", 4, UP)), shift(charts.constant("B", "B", 4), charts.constant("V", "W", 24), size=1)],
        "disagree about copies or size"),
    "parts that overlap": (
        [shift(shifted(Chart()), stands("B", 4, plus(bias="c"))),
         shift(shifted(Chart(), "U", 3), stands("h", 3, plus("U", "c", 3, start=2)))], "parts of .* that overlap"),
    "a gauge of a part of what is held": (
        [shift(shifted(Chart()), stands("B", 4, plus(bias="c"))),
         site("half", 0, "orthogonal", 1, 4, [Binding("c", "c", 4, (), ((4, 1),), (), ROTATE)])],
        "of which a part is held"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case: str) -> None:
    sites, message = REFUSED[case]
    if message is None:
        assert plan(sites, derive(sites), SHAPES).components
        return
    with pytest.raises(GaugeError, match=message):
        plan(sites, derive(sites), SHAPES)


def test_what_is_held_joins_and_what_is_wide_does_not() -> None:
    """A component is what gauges and charts share; a wide gauge is told of in each."""
    sites = [HELD, shift(shifted(times("h"), "U", 3)), wide(site("stream", 0, "orthogonal_ones", 1, 6, [
        Binding("W", "W", 0, (), ((6, 1),), ((4, 6),), Move("rotate", dual=True), chart=times("g")),
        Binding("U", "U", 0, (), ((6, 1),), ((3, 6),), Move("rotate", dual=True), chart=times("h")),
        vector("b", "b", 6, ROTATE),
    ]))]  # fmt: skip
    made = plan(sites, derive(sites), SHAPES).components
    assert [each.instances for each in made] == [(("W", "g"),), (("U", "h"),), (("b",),)]
    assert [[actor.gauge for actor in each.wide] for each in made] == [["stream"]] * 3
    assert [(each.actors, each.pools[0].cover) for each in made][2] == ((), True)
    assert [dict(each.holds) for each in made] == [{"p1": ("g0", "w0")}, {"p1": ("g0", "w0")}, {}]


def test_a_gauge_that_moves_nothing_but_what_is_held_is_idle() -> None:
    sites = [gains(), HELD]
    (made,) = plan(sites, derive(sites), SHAPES).components
    assert [actor.gauge for actor in made.idle] == ["gain"] and [actor.gauge for actor in made.actors] == ["by g"]
    assert [row.role for row in made.idle[0].rows] == ["g"]
