"""derive and plan: frames solved by sympy, layouts against brute force, orders, cycles, refusals."""

from __future__ import annotations

import dataclasses
import itertools
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gaugec.codegen.derive import derive
from gaugec.codegen.overlap import Axis, Box, disjoint, gaps, share
from gaugec.codegen.plan import plan
from gaugec.errors import GaugeError
from gaugec.groups import GROUPS
from gaugec.language.tree import Binary, Call, Expr, Fix, Name, Number
from gaugec.laws import oracle
from gaugec.runtime import Gauge
from gaugec.sites import Binding, Move, Site
from runtime import handmade
from runtime.handmade import DOWN, ROTATE, SHIFT, UP, linear, norm, one, site, vector


def number(value: int | Fraction) -> Number:
    return Number(Fraction(value))


def power(x: Expr, n: int | Fraction) -> Binary:
    return Binary("**", x, number(n))


def scaled(fix: Fix | None, moves: dict[str, Fraction | int] | None = None, group: str = "positive") -> Any:
    moves = moves or {"W1": 1, "W2": -1}
    bindings = [linear(role, role.lower(), 3, 4, Move("scale", Fraction(e)), 0) for role, e in moves.items()]
    return site("gauge", 0, group, 1, 3, bindings, handmade.equation(fix.left, fix.right) if fix else ())


W1, W2 = norm("rownorm", "W1"), norm("colnorm", "W2")


@pytest.mark.parametrize(
    ("fix", "moves", "roles", "text"),
    [
        (Fix(W1, W2), None, ("W1", "W2"), "n1.sqrt() / n0.sqrt()"),
        (Fix(W1, one()), None, ("W1",), "1 / n0"),
        (Fix(one(), W2), None, ("W2",), "n0"),
        (Fix(norm("abs", "W1"), number(2)), None, ("W1",), "2 / n0"),
        (Fix(Binary("+", power(Name("W1"), 2), power(Name("b"), 2)), one()), None, ("W1",), "1 / n0"),
        (
            Fix(Binary("+", power(Name("W1"), 2), power(Name("b"), 2)), one()),
            {"W1": 1, "b": 1},
            ("W1", "b"),
            "1 / (n0.pow(2) + n1.pow(2)).sqrt()",
        ),
        (Fix(Binary("*", W1, power(W2, 3)), Binary("/", one(), number(3))), {"W1": 2, "W2": -1}, ("W1", "W2"), None),
        (Fix(W1, W2), {"W1": 1, "W2": -2}, ("W1", "W2"), "(n1 / n0).pow(1 / 3)"),
    ],
)
def test_fixes_are_solved(fix: Fix, moves: Any, roles: tuple[str, ...], text: str | None) -> None:
    """The formula, evaluated, satisfies the equation that it was solved from."""
    made = scaled(fix, moves)
    formula = derive([made]).of(made).frame
    assert formula is not None and formula.roles == roles
    sizes = {"W1": 0.7, "W2": 2.3, "b": 1.9}
    moves = moves or {"W1": 1, "W2": -1}

    class Float(float):
        def sqrt(self) -> Float:
            return Float(float(self) ** 0.5)

        def pow(self, n: float) -> Float:
            return Float(float(self) ** n)

        def __add__(self, x: float) -> Float:
            return Float(float(self) + float(x))

        def __mul__(self, x: float) -> Float:
            return Float(float(self) * float(x))

        def __truediv__(self, x: float) -> Float:
            return Float(float(self) / float(x))

        def __rtruediv__(self, x: float) -> Float:
            return Float(float(x) / float(self))

    scale = float(eval(formula.text, {f"n{i}": Float(sizes[role]) for i, role in enumerate(formula.roles)}))

    def value(x: Expr) -> float:
        match x:
            case Number():
                return float(x.value)
            case Name():
                return sizes[x.id] * scale ** float(moves[x.id]) if x.id in moves else 0.0
            case Call():
                return value(x.args[0])
            case Binary():
                left, right = value(x.left), value(x.right)
                return {"+": left + right, "*": left * right, "/": left / (right or 1), "**": left**right}[x.op]
        raise AssertionError(x)

    assert value(fix.left) == pytest.approx(value(fix.right), rel=1e-12)
    if text is not None and moves.get("W2") != -2:
        assert formula.text == text


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (None, "0 fix lines where one is needed"),
        (Fix(W1, Binary("*", number(2), W1)), "no positive solution"),
        (Fix(Binary("*", W1, W2), one()), "no positive solution"),
        (Fix(norm("rownorm", "W9"), one()), "no positive solution"),
        (Fix(Name("W1"), one()), "cannot change the sign of W1"),
        (Fix(power(Name("W1"), 3), one()), "cannot tell the sign of W1"),
        (Fix(Call("exp", (W1,)), one()), "a fix is made of norms"),
        (Fix(Call("rownorm", (W1,)), one()), "a norm in a fix is taken of one parameter"),
        (Fix(Binary("+", power(W1, 2), power(W1, 5)), one()), "this fix|sympy cannot solve"),
        (dataclasses.replace(handmade.llama_sites()[-1], fix=handmade.abs_fix()), "has no frame to solve a fix for"),
        (dataclasses.replace(handmade.llama_sites()[-1], group="invertible"), "goes the same way"),
    ],
)
def test_fixes_that_cannot_be_solved_are_refused(made: Fix | Site | None, message: str) -> None:
    with pytest.raises(GaugeError, match=message):
        derive([made if isinstance(made, Site) else scaled(made)])


def test_a_fix_whose_sides_are_one_power_asks_no_other_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where a side is a constant, or where the model lacks a parameter."""

    def asked(*_: object) -> None:
        raise AssertionError("asked")

    monkeypatch.setattr(oracle, "ask", asked)
    both = Binary("+", power(Name("W1"), 2), power(Name("b"), 2))
    for fix in (Fix(W1, W2), Fix(W1, one()), Fix(both, one()), Fix(both, power(W2, 2))):
        assert derive([scaled(fix)])


def test_tangents_and_pulls() -> None:
    sites = handmade.llama_sites()
    rules = derive(sites)
    gain, unit, value, turn, shift = (rules.of(sites[i]) for i in (0, 5, 7, 9, 11))
    assert [(t.kind, t.weight, t.pull) for t in gain.tangents] == [("scale", 1, -1)] + [("scale", -1, 1)] * 3
    assert [t.weight for t in unit.tangents] == [1, -1]
    assert [(t.kind, t.dual) for t in value.tangents] == [("matrix", False), ("matrix", True)]
    assert [t.kind for t in (*turn.tangents, *shift.tangents)] == ["plane", "plane", "shift"]
    pools = [GROUPS[sites[i].group].pools for i in (0, 5, 7, 9, 11)]
    assert pools == ["nothing", "nothing", "axis", "pair", "nothing"]
    assert len(rules.derivations) == 7  # gains differ by their number of readers


def shapes(sites: list[Any]) -> dict[str, tuple[int, ...]]:
    return {b.parameter: (99, 99) for s in sites for b in s.bindings}


def test_equal_layers_are_one_component() -> None:
    sites = handmade.llama_sites()
    made = plan(sites, derive(sites), shapes(sites))
    assert [len(c.instances) for c in made.components] == [2, 2, 1]
    assert [c.gram for c in made.components] == ["closed", "blocks", "blocks"]
    assert [[a.gauge for a in c.actors] for c in made.components][1] == ["norm_gain", "swiglu_rescale"]
    assert [step.start[0].actor for step in made.components[1].frames] == ["g0", "g1"]
    assert plan(sites, derive(sites), shapes(sites)) == made


def test_frames_follow_what_they_read() -> None:
    """The unit's frame reads what the gain moves, in whatever order the sites come."""
    sites = [s for s in handmade.llama_sites() if s.gauge in ("norm_gain", "swiglu_rescale")][::-1]
    made = plan(sites, derive(sites), shapes(sites))
    component = next(c for c in made.components if len(c.actors) == 2)
    gauges = {actor.name: actor.gauge for actor in component.actors}
    assert [gauges[step.start[0].actor] for step in component.frames] == ["norm_gain", "swiglu_rescale"]


def test_a_cycle_starts_one_sided() -> None:
    sites = handmade.mlp_sites((3, 4, 5, 6, 7))
    (component,) = plan(sites, derive(sites), shapes(sites)).components
    (step,) = component.frames
    assert [solve.formula for solve in step.start] == ["1 / n0"] * 3
    assert [solve.actor for solve in step.start] == ["g0", "g1", "g2"]
    assert [solve.formula for solve in step.rounds] == ["n1.sqrt() / n0.sqrt()"] * 3


def test_a_cycle_that_neither_side_breaks_is_refused() -> None:
    one_way = site(
        "a",
        0,
        "positive",
        1,
        4,
        [linear("W1", "u", 4, 5, UP, 0), linear("W2", "v", 4, 5, DOWN, 0)],
        handmade.balance_fix(),
    )
    other = site(
        "b",
        0,
        "positive",
        1,
        5,
        [linear("W1", "u", 4, 5, UP, 1), linear("W2", "v", 4, 5, DOWN, 1)],
        handmade.balance_fix(),
    )
    sites = [one_way, other]
    with pytest.raises(GaugeError, match="in a circle"):
        plan(sites, derive(sites), shapes(sites))


def test_combinations_that_are_not_exact_are_refused() -> None:
    gain = site(
        "gain", 0, "positive", 1, 4, [vector("g", "g", 4, UP), linear("W", "w", 3, 4, DOWN, 1)], handmade.abs_fix()
    )
    stream = site("stream", 0, "orthogonal", 1, 4, [linear("W", "w", 3, 4, ROTATE, 1)])
    with pytest.raises(GaugeError, match="gain and stream both move W/W"):
        plan([gain, stream], derive([gain, stream]), shapes([gain, stream]))
    shift = site("shift", 0, "translation", 1, 4, [linear("U", "w", 4, 3, SHIFT, 0)])
    units = site(
        "units",
        0,
        "positive",
        1,
        3,
        [linear("W1", "w", 4, 3, UP, 1), linear("W2", "v", 3, 4, DOWN, 0)],
        handmade.balance_fix(),
    )
    # a shift does not reach the frame: norms are taken of what it leaves alone
    gauge = Gauge(handmade.written([shift, units], shapes([shift, units])))
    params = {name: torch.randn(shape, dtype=torch.float64) for name, shape in shapes([shift, units]).items()}
    shifted = gauge.act(params, {"0.0": {"shift": torch.randn(1, 1, 3, dtype=torch.float64)}})
    (component,) = gauge.components
    frames = []
    for values in (params, shifted):
        batch = {slot: values[name][None] for slot, name in zip(component.shapes, component.instances[0])}
        frames.append(component.frame(batch).scales["units"])
    assert torch.allclose(*frames, rtol=1e-12)


def test_a_basis_that_another_gauge_reads_starts_by_one_side() -> None:
    """A scale of the output's rows, whose norms a basis changes, and which changes what the basis is balanced by."""
    basis = site("basis", 0, "invertible", 2, 4, [
        Binding("A", "v", 0, ((2, 24),), ((4, 6),), ((6, 1),), ROTATE),
        Binding("B", "w", 0, ((2, 4),), ((4, 1),), ((5, 8),), Move("rotate", dual=True)),
    ])  # fmt: skip
    rows = [linear("W1", "w", 5, 8, UP, 0), linear("W2", "u", 6, 5, DOWN, 1)]
    units = site("units", 0, "positive", 1, 5, rows, handmade.balance_fix())
    sites, sizes = [basis, units], {"v": (8, 6), "w": (5, 8), "u": (6, 5)}
    (made,) = plan(sites, derive(sites), sizes).components
    (step,) = made.frames
    assert [solve.formula for solve in step.start] == ["dual=False", "1 / n0"]
    assert [solve.formula for solve in step.rounds] == ["", "n1.sqrt() / n0.sqrt()"]
    gauge = Gauge(handmade.written(sites, sizes))
    (component,) = gauge.components
    generator = torch.Generator().manual_seed(0)
    params, noise = (
        {name: torch.randn(shape, dtype=torch.float64, generator=generator) for name, shape in sizes.items()}
        for _ in range(2)
    )
    later, element = {name: x + 0.2 * noise[name] for name, x in params.items()}, gauge.random_element(generator)

    def frames(values: dict[str, torch.Tensor], *held: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        batch = {slot: values[name][None] for slot, name in zip(component.shapes, component.instances[0])}
        frame = component.frame(batch, dict(zip(("basis", "units"), held)) or None)
        assert frame.live["basis"].all() and frame.live["units"].all()
        return frame.scales["basis"], frame.scales["units"]

    def turn(one: torch.Tensor, two: torch.Tensor) -> torch.Tensor:
        return two @ element["0.0"]["basis"] @ torch.linalg.inv(one)

    first, moved = frames(params), frames(gauge.act(params, element))
    rotation = turn(first[0], moved[0])
    assert torch.allclose(rotation @ rotation.mT, torch.eye(4, dtype=torch.float64).expand_as(rotation), atol=1e-12)
    assert torch.allclose(moved[1] * element["0.0"]["units"], first[1], rtol=1e-12)
    second, again = frames(later, *first), frames(gauge.act(later, element), *moved)
    assert torch.allclose(turn(second[0], again[0]), rotation, atol=1e-11), "the rotation that is left has changed"
    assert torch.allclose(again[1] * element["0.0"]["units"], second[1], rtol=1e-11)


def test_bases_that_another_gauge_mixes_are_refused() -> None:
    back = Move("rotate", dual=True)
    basis = site("basis", 0, "invertible", 1, 4, [linear("A", "v", 4, 6, ROTATE, 0), linear("B", "w", 5, 4, back, 1)])
    turn = site("turn", 0, "orthogonal", 1, 4, [linear("R", "w", 5, 4, ROTATE, 1)])
    for pair in ([basis, turn], [turn, basis]):
        with pytest.raises(GaugeError, match="basis and turn both move B/R, and the matrix of the first does not"):
            plan(pair, derive(pair), shapes(pair))
    along = site("along", 0, "positive", 1, 4, [linear("W", "w", 5, 4, UP, 1), vector("g", "g", 4, DOWN)],
                 handmade.abs_fix())  # fmt: skip
    with pytest.raises(GaugeError, match="along and basis both move W/B, and the scale of the first does not"):
        plan([basis, along], derive([basis, along]), shapes([basis, along]))
    plain = [linear("W", "w", 5, 4, UP, 0), vector("g", "g", 5, DOWN)]
    gain = site("gain", 0, "positive", 1, 5, plain, handmade.abs_fix())
    (component,) = plan([basis, gain], derive([basis, gain]), shapes([basis, gain])).components
    assert [step.start[0].actor for step in component.frames] == ["g1", "g0"] and component.gram == "free"


def test_bindings_outside_their_parameter_are_refused() -> None:
    sites = handmade.mlp_sites()
    small = {**shapes(sites), "maps.0.weight": (11, 6)}
    with pytest.raises(GaugeError, match="does not lie inside its parameter"):
        plan(sites, derive(sites), small)
    half = handmade.llama_sites(plus=1.0)[:1]
    with pytest.raises(GaugeError, match="stored as an offset"):
        plan(half, derive(half), shapes(half))


# --- layouts


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    """Digits with strides that multiply up, some of them skipping."""
    stride, axes = 1, []
    for _ in range(draw(st.integers(1, 3))):
        size = draw(st.integers(1, 3))
        axes.append((size, stride))
        stride *= size * draw(st.sampled_from([1, 1, 2, 3]))
    step, out = 1, []
    for size, at in axes:
        varies = draw(st.booleans())
        out.append(Axis(size, at, step if varies else 0, draw(st.booleans())))
        step *= size if varies else 1
    order = draw(st.permutations(out))
    return Box(draw(st.integers(0, 6)), tuple(order))


def elements(region: Box) -> dict[int, tuple[int, tuple[bool, ...]]]:
    """Every element: the coefficient's index."""
    out = {}
    for index in itertools.product(*(range(d.size) for d in region.axes)):
        at = region.offset + sum(i * d.stride for i, d in zip(index, region.axes))
        out[at] = (sum(i * d.step for i, d in zip(index, region.axes)), ())
    return out


@settings(max_examples=300, deadline=None)
@given(boxes(), boxes())
def test_layouts_against_brute_force(one_region: Box, two: Box) -> None:
    left, right = elements(one_region), elements(two)
    if disjoint(one_region, two):
        assert not set(left) & set(right)
    seen = share(one_region, two)
    if seen is None:
        return
    assert set(left) <= set(right)
    for index in itertools.product(*(range(n) for n, _ in seen.axes)):
        at = seen.offset + sum(i * stride for i, (_, stride) in zip(index, seen.axes))
        assert left[at][0] == seen.inner_start + sum(i * d.step for i, d in zip(index, seen.inner))
        assert right[at][0] == seen.outer_start + sum(i * d.step for i, d in zip(index, seen.outer))


def test_layouts_that_are_known() -> None:
    rows = Box(30, (Axis(5, 6, 1), Axis(6, 1)))  # rows 5..10 of [10, 6]
    columns = Box(0, (Axis(6, 1, 1), Axis(10, 6)))
    seen = share(rows, columns)
    assert seen is not None and seen.outer_start == 0 and seen.axes == ((5, 6), (6, 1))
    assert share(columns, rows) is None
    third = [Box(4 * i, (Axis(2, 12), Axis(4, 1))) for i in range(3)]
    assert all(disjoint(a, b) for a, b in itertools.combinations(third, 2))
    assert gaps([Box(3, (Axis(2, 1),))], 8) == [Box(0, (Axis(3, 1),)), Box(5, (Axis(3, 1),))]
    assert gaps(third, 24) is None
