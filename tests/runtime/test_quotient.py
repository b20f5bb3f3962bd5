"""Models and checkpoints up to their gauges: canonical representatives, copies, distances, aligned paths."""

from __future__ import annotations

import copy
import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gaugec
from gaugec.runtime import Gauge
from gaugec.runtime.certificate import unfolded
from gaugec.runtime.holdings import titles
from gaugec.runtime.quotient import canonical
from gaugec.runtime.seal import sealed
from runtime import handmade
from runtime.handmade_groups import CASES as GROUPS
from runtime.handmade_groups import compiled, drawn
from runtime.test_equivariance import CASES, Shallow, build

EXACT = 1e-12
GOLDEN = Path(__file__).parents[1] / "golden"


@functools.cache
def _llama() -> tuple[nn.Module, Gauge]:
    torch.manual_seed(0)
    model = handmade.Llama(Shallow)
    return model, handmade.compiled(model, handmade.llama_sites(Shallow))


def llama(dtype: torch.dtype = torch.float64) -> tuple[nn.Module, Gauge]:
    model, gauge = _llama()
    return copy.deepcopy(model).to(dtype), gauge


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def loss(model: nn.Module, data: Any) -> Tensor:
    return model(*data(0)).detach()


def another(model: nn.Module, seed: int) -> nn.Module:
    """A model of other numbers."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        for p in other.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=generator(seed), dtype=p.dtype))
    return other


# --- of every group


@pytest.mark.parametrize("name", GROUPS)
def test_a_copy_is_at_no_distance_and_all_copies_are_at_the_same(name: str) -> None:
    gauge, shapes = compiled(name), GROUPS[name][1]
    a, b = drawn(shapes, 1), drawn(shapes, 2)
    moved = gauge.act(a, gauge.random_element(generator(3)))
    assert any((moved[n] - a[n]).norm() > 0.3 * a[n].norm() for n in shapes)
    between = gauge.distance(a, moved)
    assert between.relative <= EXACT and not between.formless
    far = gauge.distance(a, b)
    assert far.value == float(far) == gauge.distance(b, a).value > 1
    assert abs(gauge.distance(moved, b).value - far.value) <= EXACT * far.size
    assert bool(far.searched) == ("rotation" in name and "do not meet" not in name)
    assert set(far.parameters) == {*shapes, "other"}
    assert sum(part**2 for part in far.parameters.values()) == pytest.approx(far.value**2, rel=1e-12)


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.py")), ids=lambda path: path.stem)
def test_of_compiled_files(path: Path) -> None:
    """Checkpoints of random numbers, and gauges that the compiler has written."""
    gauge = Gauge(sealed(path.read_text(encoding="utf-8")))
    shapes = {name: tuple(shape) for name, shape in unfolded(gauge.metadata)["parameters"].items()}
    a, b = drawn(shapes, 1), drawn(shapes, 2)
    moved = gauge.act(a, gauge.random_element(generator(3)))
    assert gauge.distance(a, moved).relative <= EXACT
    far = gauge.distance(a, b)
    assert far.value == gauge.distance(b, a).value < float(torch.stack([(a[n] - b[n]).norm() for n in shapes]).norm())
    assert abs(gauge.distance(moved, b).value - far.value) <= EXACT * far.size
    assert set(far.parameters) == set(shapes) and not far.searched and not far.formless
    changed, done = canonical(gauge, moved)
    start = {**a, **changed}
    assert gauge.distance(a, start).relative <= EXACT
    end = gauge.interpolate(start, b, 1.0)
    assert gauge.distance(end, b).relative <= EXACT
    straight = float(torch.stack([(start[n] - end[n]).norm() for n in shapes]).norm())
    assert straight == pytest.approx(far.value, rel=1e-12)  # from a canonical start the path is as long as the distance
    assert len(done.scaled) + len(done.shifted) + len(done.rotated) == len(titles(gauge))


@pytest.mark.parametrize("name", ["orthogonal", "orthogonal_ones", "torus", "torus, in turn"])
def test_no_element_brings_a_point_nearer(name: str) -> None:
    """The distance of a compact group is a minimum: no random element is below, and the slope along the orbit is 0."""
    gauge, shapes = compiled(name), GROUPS[name][1]
    a, b = drawn(shapes, 1), drawn(shapes, 2)
    least, nearest = float(gauge.distance(a, b)), gauge.aligned(a, b)

    def apart(point: dict[str, Tensor]) -> float:
        return float(torch.stack([(a[n] - point[n]).square().sum() for n in a]).sum().sqrt())

    assert apart(nearest) == pytest.approx(least, rel=1e-13)
    for seed in range(20):
        assert apart(gauge.act(b, gauge.random_element(generator(seed)))) >= least
    ((_, component, _),) = gauge.places()
    point = {slot: nearest[slot].unsqueeze(0) for slot in component.shapes}
    way = {slot: a[slot].unsqueeze(0) - x for slot, x in point.items()}
    assert all(slope.abs().max() < 1e-13 * least**2 for slope in component.covertical(way, point).values())


def test_singular_values_that_lie_far_apart_cost_no_more_than_digits() -> None:
    gauge, shapes = compiled("orthogonal"), GROUPS["orthogonal"][1]
    for small, bound in ((1e-4, 1e-15), (1e-6, 1e-11), (1e-8, 1e-8)):
        ladder = torch.tensor([1, small**0.5, small, small], dtype=torch.float64).repeat(3).unsqueeze(1)
        a = {name: x if name == "other" else x * ladder for name, x in drawn(shapes, 1).items()}
        one, two = (gauge.act(a, gauge.random_element(generator(seed))) for seed in (2, 3))
        assert gauge.distance(one, two).relative <= bound


def test_the_representative_of_a_shift_has_mean_zero() -> None:
    gauge, shapes = compiled("translation"), GROUPS["translation"][1]
    moved, done = canonical(gauge, drawn(shapes, 1))
    assert moved["a"].mean(0).abs().max() < 1e-15
    assert list(done.shifted) == ["shift of a"] and not done.scaled and not done.rotated


# --- of models


@pytest.mark.parametrize("case", CASES)
def test_of_a_model(case: str) -> None:
    """Copies have the same function, are at no distance, and meet in one canonical point but for rotations."""
    model, gauge, data = build(case)
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    other = gauge.random_copy(model, generator(1))
    assert all(torch.equal(start[name], p) for name, p in model.named_parameters())
    assert all(not torch.equal(start[n], p) for n, p in other.named_parameters() if n in gauge.parameters)
    assert torch.allclose(loss(model, data), loss(other, data), rtol=1e-12)
    assert gauge.distance(model, other).relative <= EXACT
    assert gauge.distance(model, other.state_dict()).relative <= EXACT
    for each in (model, other):
        done = gauge.canonicalize_(each)
        assert torch.allclose(loss(each, data), model(*data(0)), rtol=1e-12)
        assert max(done.scaled.values()) > 1.1 and not done.formless and not done.off
        again = gauge.canonicalize_(copy.deepcopy(each))
        assert max(again.scaled.values()) < 1 + 1e-13
        assert max(again.shifted.values(), default=0.0) < 1e-13
        assert again.rotated == done.rotated
        assert bool(done.rotated) == bool(done.shifted) == (case != "mlp")
    turned = {"q", "k", "v", "o"}
    for name, p in other.named_parameters():
        if name in gauge.parameters and name.split(".")[-2] not in turned:
            assert torch.allclose(p, dict(model.named_parameters())[name], rtol=1e-11, atol=1e-12), name


@pytest.mark.parametrize("case", CASES)
def test_a_path_begins_at_the_first_and_ends_at_the_function_of_the_second(case: str) -> None:
    model, gauge, data = build(case)
    other, walker = another(model, 5), copy.deepcopy(model)
    copied = gauge.random_copy(other, generator(2))
    assert all(torch.equal(x, model.state_dict()[n]) for n, x in gauge.interpolate(model, copied, 0.0).items())
    ends = []
    for end in (other, copied):
        walker.load_state_dict(gauge.interpolate(model, end, 1.0))
        assert torch.allclose(loss(walker, data), loss(other, data), rtol=1e-12)
        aligned = gauge.aligned(model, end)
        assert all(torch.equal(x, aligned[name]) for name, x in walker.state_dict().items())
        walker.load_state_dict(gauge.interpolate(model, end, 0.5))
        ends.append(loss(walker, data))
    assert torch.allclose(*ends, rtol=1e-11)  # whichever copy of the second
    walker.load_state_dict(gauge.interpolate(model, gauge.random_copy(model, generator(3)), 0.3))
    assert all(torch.allclose(p, model.state_dict()[n], rtol=1e-11, atol=1e-12) for n, p in walker.named_parameters())
    length = gauge.distance(model, other)
    half = gauge.distance(model, gauge.interpolate(model, other, 0.5))
    assert float(half) <= 1.001 * float(length) and float(half) > 0.2 * float(length)


def test_a_third_model_is_as_far_from_every_copy() -> None:
    model, gauge, _ = build("llama")
    other = another(model, 5)
    far = gauge.distance(model, other)
    assert gauge.distance(other, model).value == far.value
    for seed in range(3):
        one, two = gauge.random_copy(model, generator(seed)), gauge.random_copy(other, generator(seed + 10))
        assert abs(gauge.distance(one, two).value - far.value) <= EXACT * far.size
    third = another(model, 6)
    assert far.value <= gauge.distance(model, third).value + gauge.distance(third, other).value


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-2)])
def test_of_other_dtypes_the_numbers_are_rounded_once(dtype: torch.dtype, bound: float) -> None:
    model, gauge = llama(dtype)
    wide = copy.deepcopy(model).double()
    other = gauge.random_copy(model, generator(1))
    assert {p.dtype for p in other.parameters()} == {dtype}
    assert gauge.distance(model, other).relative <= bound
    gauge.canonicalize_(model)
    gauge.canonicalize_(wide)
    assert all(torch.equal(p, q.to(dtype)) for p, q in zip(model.parameters(), wide.parameters()))
    assert {x.dtype for x in gauge.interpolate(model, other, 0.5).values()} == {dtype}


# --- what is left alone


def test_frozen_parameters_stand_still() -> None:
    start, gauge = llama()
    for name in ("o", "gate"):
        getattr(start.layers[0], name).weight.requires_grad_(False)
    model = copy.deepcopy(start)
    other, done = gauge.random_copy(start, generator(1)), gauge.canonicalize_(model)
    assert done.off == {
        "value_rotation of layers.0.v.weight": ("layers.0.o.weight",),
        "norm_gain of layers.0.norm2.weight": ("layers.0.gate.weight",),
    }
    assert str(done).splitlines()[3] == "value_rotation of layers.0.v.weight is off: layers.0.o.weight frozen"
    for each in (model, other):
        for name in ("o", "gate", "norm2"):
            assert torch.equal(getattr(each.layers[0], name).weight, getattr(start.layers[0], name).weight)
        assert not torch.equal(each.layers[0].down.weight, start.layers[0].down.weight)
        assert torch.allclose(loss(each, CASES["llama"][2]), loss(start, CASES["llama"][2]), rtol=1e-12)


def test_units_without_canonical_form_are_told_and_stay() -> None:
    model, gauge = llama()
    with torch.no_grad():
        model.layers[0].up.weight[2] = 0
        model.layers[0].norm1.weight[3:5] = 0
    before = copy.deepcopy(model)
    done = gauge.canonicalize_(model)
    assert sorted(done.formless.values()) == [1, 2]
    assert torch.equal(model.layers[0].down.weight[:, 2], before.layers[0].down.weight[:, 2])
    assert torch.allclose(loss(model, CASES["llama"][2]), loss(before, CASES["llama"][2]), rtol=1e-12)
    assert str(done).splitlines() == [
        "4 sites scaled, by a factor of at most 9.32",
        "1 site shifted",
        "2 sites of rotations left as they are",
        "2 units without canonical form in norm_gain of layers.0.norm1.weight",
        "1 unit without canonical form in swiglu_rescale of layers.0.up.weight",
    ]
    assert gauge.distance(model, before).formless == done.formless


class Tied(nn.Module):
    """Two linear maps, of which the first goes by two names."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(5, 6, bias=False).double(), nn.Linear(6, 7, bias=False).double()
        self.again = self.a


def test_tied_parameters_stay_one() -> None:
    sites, shapes = GROUPS["positive"]
    (one,) = sites
    bindings = tuple(replace(b, parameter=f"{b.parameter}.weight") for b in one.bindings)
    gauge = Gauge(handmade.written([replace(one, bindings=bindings)], {f"{n}.weight": shapes[n] for n in shapes}))
    model = Tied()
    other = gauge.random_copy(model, generator(1))
    assert other.again.weight is other.a.weight and not torch.equal(other.a.weight, model.a.weight)
    assert gauge.canonicalize_(other).scaled and other.again.weight is other.a.weight
    moved = gauge.aligned(other, model)
    assert moved["a.weight"] is moved["again.weight"]
    assert gauge.distance(model, other).relative <= EXACT
    assert list(gauge.distance(model, other).parameters) == ["a.weight", "b.weight"]


class Units(nn.Module):
    """Hidden units, of whose first map a second name is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(5, 7, bias=False), nn.Linear(7, 3, bias=False)
        self.again = self.up

    def forward(self, x: Tensor) -> Tensor:
        return self.down(torch.relu(self.up(x)))


def test_a_checkpoint_keeps_what_was_tied_when_the_gauge_was_compiled() -> None:
    """Both names, whether they share memory or not; one of them alone; and two that differ are refused."""
    model, x = Units(), torch.randn(4, 5)
    gauge = gaugec.compile("relu_mlp", model, (x,))
    state = model.state_dict()
    assert set(state) == {"up.weight", "again.weight", "down.weight"} and gauge.metadata["tied"]
    apart = {name: value.clone() for name, value in state.items()}
    alone = {name: value for name, value in state.items() if name != "up.weight"}
    for each in (state, apart, alone):
        moved, _ = canonical(gauge, each)
        assert set(moved) == set(each)
        both = moved["again.weight"], moved.get("up.weight", moved["again.weight"])
        assert torch.equal(*both) and not torch.equal(both[0], state["again.weight"])
        assert gauge.distance(model, each).value == 0
        other = Units()
        other.load_state_dict(gauge.interpolate(each, Units(), 0.5), strict=each is not alone)
    with pytest.raises(ValueError) as error:
        canonical(gauge, {**apart, "again.weight": apart["again.weight"] + 1})
    assert str(error.value) == (
        "again.weight was tied to up.weight when the gauge was compiled, and differs from it in the checkpoint"
    )
    assert set(gauge.distance(model, alone).parameters) == {"up.weight", "down.weight"}


# --- what does not fit


class Other(Tensor):
    """Numbers that are kept in another way."""


def test_what_does_not_fit_is_said() -> None:
    gauge, shapes = compiled("positive"), GROUPS["positive"][1]
    a = drawn(shapes, 1)

    def refused(b: Any) -> str:
        with pytest.raises((ValueError, TypeError)) as error:
            gauge.distance(a, b)
        return str(error.value)

    assert refused([1]) == "the second is a list: a model, or tensors by name, is asked for"
    assert refused({"other": a["other"]}) == "the second lacks parameters that the gauge moves: a; b"
    assert refused({**a, "b": a["b"].int()}) == (
        "b of the second has the dtype torch.int32: a gauge moves real floating point numbers"
    )
    assert refused({**a, "b": a["b"] / 0}) == "b of the second holds NaN or infinity"
    assert refused({**a, "b": a["b"].to("meta")}) == "b of the second is on the meta device: it has no numbers"
    other = a["b"].as_subclass(Other)
    assert refused({**a, "b": other}) == "b of the second is a Other: gather, or dequantise, it first"
    assert refused({**a, "more": torch.ones(2)}) == "only the second has more"
    assert refused({**a, "other": torch.ones(2)}) == "other has the shape (3,) in the first and (2,) in the second"
    assert refused({**a, "_orig_mod.a": a["a"]}) == "two parameters have the name a, as a and as _orig_mod.a"
    square = compiled("torus")
    both = drawn(GROUPS["torus"][1], 1)
    with pytest.raises(ValueError) as error:
        square.distance(both, {**both, "b": both["a"]})
    assert str(error.value) == (
        "a and b of the second are one tensor, and were two parameters when the gauge was compiled"
    )
    with pytest.raises(ValueError, match=r"^t is a number, 0 at the first and 1 at the second, not nan$"):
        gauge.interpolate(a, a, float("nan"))


def test_wrappers_and_what_is_no_parameter_are_carried_along() -> None:
    gauge, shapes = compiled("positive"), GROUPS["positive"][1]
    a, b = drawn(shapes, 1), drawn(shapes, 2)
    counted = {**a, "count": torch.tensor(3)}
    wrapped = {f"module.{name}": x for name, x in b.items()} | {"module.count": torch.tensor(5)}
    assert gauge.distance(counted, wrapped).value == gauge.distance(a, b).value
    for t, count in ((0.4, 3), (0.5, 5), (1.0, 5)):
        there = gauge.interpolate(counted, wrapped, t)
        assert list(there) == list(counted) and there["count"] == count
    assert gauge.interpolate({**a, "note": "text"}, b, 0.5).keys() == a.keys()
