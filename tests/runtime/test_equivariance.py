"""Training from θ and from gθ: the same losses, the same end points, and steps with no vertical part."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gaugec.runtime import DDCAdamW, Gauge
from gaugec.runtime.telemetry import drift, vertical_part
from runtime import handmade


class Shallow(handmade.Shape):
    """One layer: what two have in common is seen on the other Llama."""

    layers = 1


CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[], list[Any]], Callable[[int], tuple[Tensor, ...]]]] = {
    "llama": (handmade.Llama, handmade.llama_sites, lambda step: (handmade.tokens(step),)),
    "gemma gains": (
        lambda: handmade.Llama(Shallow, plus=1.0),
        lambda: handmade.llama_sites(Shallow, plus=1.0),
        lambda step: (handmade.tokens(step),),
    ),
    "mlp": (handmade.MLP, handmade.mlp_sites, handmade.numbers),
}


def build(case: str) -> tuple[nn.Module, Gauge, Callable[[int], tuple[Tensor, ...]]]:
    make, sites, data = CASES[case]
    torch.manual_seed(0)
    model = make().double()
    return model, handmade.compiled(model, sites()), data


def groups(model: nn.Module) -> list[dict[str, Any]]:
    pairs = list(model.named_parameters())
    return [{"params": pairs[::2], "lr": 3e-3}, {"params": pairs[1::2], "lr": 1e-3}]


def train(model: nn.Module, optimizer: torch.optim.Optimizer, data: Any, steps: int) -> Tensor:
    losses = []
    for step in range(steps):
        optimizer.zero_grad()
        loss = model(*data(step))
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("orbit", ["pinned", "horizontal"])
def test_two_runs_stay_copies_of_each_other(case: str, orbit: str) -> None:
    model, gauge, data = build(case)
    element = gauge.random_element(torch.Generator().manual_seed(1))
    other, plain_one = handmade.moved(model, gauge, element), copy.deepcopy(model)
    plain_two = copy.deepcopy(other)
    ours = [
        train(each, DDCAdamW(groups(each), gauge, weight_decay=0.1, frame_every=10, orbit=orbit), data, 100)
        for each in (model, other)
    ]
    apart = ((ours[0] - ours[1]).abs() / ours[0].abs()).max()
    assert apart < 1e-12
    end = gauge.act(dict(model.named_parameters()), element)
    for name, p in other.named_parameters():
        assert torch.allclose(end[name], p.detach(), rtol=1e-9, atol=1e-10), name
    adam = [
        train(each, torch.optim.AdamW(groups(each), weight_decay=0.1), data, 100) for each in (plain_one, plain_two)
    ]
    assert ((adam[0] - adam[1]).abs() / adam[0].abs()).max() > 1e-4


def test_without_pooling_rotations_show() -> None:
    model, gauge, data = build("llama")
    other = handmade.moved(model, gauge, gauge.random_element(torch.Generator().manual_seed(1)))
    ours = [train(each, DDCAdamW(groups(each), gauge, pooling=False), data, 30) for each in (model, other)]
    assert ((ours[0] - ours[1]).abs() / ours[0].abs()).max() > 1e-6


def basis(component: Any, point: dict[str, Tensor]) -> Tensor:
    """Orthonormal columns that span the tangents of one place at a point."""
    tangents = torch.cat([x[:, 0].flatten(1) for x in component.tangents(point).values()], 1)
    vectors, values, _ = torch.linalg.svd(tangents.T, full_matrices=False)
    return vectors[:, values > 1e-10 * values[0]]


@pytest.mark.parametrize("case", ["llama", "mlp"])
@pytest.mark.parametrize("projected", [True, False])
def test_vertical_part_of_every_step(case: str, projected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a dense basis of the tangents at the canonical point: nothing is left, and without projection much is."""
    model, gauge, data = build(case)
    if not projected:
        for component in gauge.components:
            monkeypatch.setattr(type(component), "project", staticmethod(lambda update, *_: update))
    optimizer = DDCAdamW(groups(model), gauge, weight_decay=0.1, frame_every=3, orbit="horizontal")
    for step in range(8):
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        train(model, optimizer, lambda _, step=step: data(step), 1)
        along = whole = 0.0
        for batch in optimizer.batches:
            for one in batch.parts():
                names = {id(p): name for name, p in model.named_parameters()}
                old = {slot: before[names[id(p[0])]].unsqueeze(0) for slot, p in one.slots.items()}
                assert one.frame is not None
                point = one.component.canonical(old, one.frame)
                now = one.component.canonical(one.params(), one.frame)
                update = torch.cat([(now[slot] - point[slot]).flatten() for slot in point])
                if case == "mlp":
                    vectors = basis(one.component, point)
                else:  # the moved quantity has no offset here, so the canonical point is a set of parameters
                    vectors = basis(one.component, point)
                along += float((vectors.T @ update).square().sum())
                whole += float(update.square().sum())
        ratio = (along / whole) ** 0.5
        assert abs(ratio - vertical_part(optimizer, before)) < 1e-9
        if projected:
            assert ratio < 1e-10
        elif step > 0:
            assert ratio > 0.02


def test_float32_steps_are_horizontal() -> None:
    model, gauge, data = build("llama")
    model = model.float()
    optimizer = DDCAdamW(model.named_parameters(), gauge, lr=1e-2, weight_decay=0.1, frame_every=3)
    for _ in range(3):
        train(model, optimizer, data, 1)
    # The rounding of θ - u drowns a step of 1e-2; so the step itself is looked at, not what it did to θ.
    seen = []
    for component in gauge.components:
        torch.manual_seed(0)
        for batch in optimizer.batches:
            if batch.component is component:
                point = component.canonical(batch.params(), batch.frame)
                update = {slot: torch.randn_like(x) for slot, x in point.items()}
                left = component.project({slot: x.clone() for slot, x in update.items()}, point, batch.off)
                vectors = basis(component, {slot: x[:1].double() for slot, x in point.items()})
                flat = torch.cat([x[0].double().flatten() for x in left.values()])
                seen.append(float((vectors.T @ flat).norm() / flat.norm()))
    assert max(seen) < 1e-5


@pytest.mark.parametrize("case", CASES)
def test_tangents_are_dead_directions(case: str) -> None:
    """The loss gradient annihilates every tangent, at the parameters themselves."""
    model, gauge, data = build(case)
    model(*data(0)).backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    for _, component, names in gauge.places():
        params = {
            slot: dict(model.named_parameters())[name].detach().unsqueeze(0)
            for slot, name in zip(component.shapes, names)
        }
        tangents = component.tangents(params)
        products = sum(
            (tangents[slot][:, 0] * gradients[name]).flatten(1).sum(1) for slot, name in zip(component.shapes, names)
        )
        size = sum(float(gradients[name].norm()) for name in names)
        assert products.abs().max() < 1e-12 * max(1.0, size)
        numbers = {
            "scale": lambda c, k: c * k,
            "turn": lambda c, k: c * k,
            "shift": lambda c, k: c * k,
            "rotate": lambda c, k: c * k * (k - 1) // 2,
        }
        assert len(products) == sum(numbers[kind](c, k) for kind, c, k in component.elements.values())


@pytest.mark.parametrize("case", CASES)
def test_act_is_an_action_and_leaves_the_loss_alone(case: str) -> None:
    model, gauge, data = build(case)
    params = {name: p.detach() for name, p in model.named_parameters()}
    same = gauge.act(params, gauge.identity())
    assert all(torch.allclose(same[name], params[name], rtol=1e-15, atol=1e-15) for name in params)
    one, two = (gauge.random_element(torch.Generator().manual_seed(seed)) for seed in (1, 2))
    assert torch.allclose(handmade.moved(model, gauge, one)(*data(0)), model(*data(0)), rtol=1e-12)
    for key, component, _ in gauge.places():
        for name, (kind, _, _) in component.elements.items():
            g, h = one[key][name], two[key][name]
            product = {"scale": lambda: h * g, "rotate": lambda: h @ g}.get(kind, lambda: h + g)()  # noqa: B023
            twice = gauge.act(gauge.act(params, {key: {name: g}}), {key: {name: h}})
            once = gauge.act(params, {key: {name: product}})
            assert all(torch.allclose(twice[each], once[each], rtol=1e-12, atol=1e-12) for each in params), (key, name)


@pytest.mark.parametrize("case", CASES)
def test_frames_bring_every_copy_to_one_point(case: str) -> None:
    """Scales only: the canonical point of gθ is that of θ; and the canonical point is on the orbit."""
    model, gauge, _ = build(case)
    params = {name: p.detach() for name, p in model.named_parameters()}
    element = gauge.random_element(torch.Generator().manual_seed(3))
    for key, component, names in gauge.places():
        only = {key: {n: e for n, e in element[key].items() if component.elements[n][0] == "scale"}}
        points = []
        for values in (params, gauge.act(params, only)):
            batch = {slot: values[name].unsqueeze(0) for slot, name in zip(component.shapes, names)}
            points.append(component.canonical(batch, component.frame(batch)))
        for slot in points[0]:
            assert torch.allclose(points[0][slot], points[1][slot], rtol=1e-12, atol=1e-13)
    lengths = drift(gauge, params, gauge.act(params, element))
    assert all(0.1 < length <= math.pi for length in lengths.values())
    assert all(length < 1e-14 for length in drift(gauge, params, params).values())


def test_balance_of_a_chain_gets_close() -> None:
    """The fixed rounds are exact for equivariance whatever their number, and near balance after four."""
    model, gauge, _ = build("mlp")
    (component,) = gauge.components
    batch = {
        slot: p.detach().unsqueeze(0) for slot, p in zip(component.shapes, dict(model.named_parameters()).values())
    }
    point = component.canonical(batch, component.frame(batch))
    first, second = point["maps.0"][0].norm(dim=1), point["maps.1"][0].norm(dim=0)
    assert ((first / second).log().abs() < 0.05).all()
