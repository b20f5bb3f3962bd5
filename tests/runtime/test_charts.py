"""Gauges in charts: runs from θ and gθ are copies of each other, and what charts read is held."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor

from gaugec.runtime import DDCSGD, DDCAdamW, DDCMuon, Gauge
from gaugec.runtime.optimizer import GaugeOptimizer
from gaugec.runtime.telemetry import Telemetry, vertical_part
from gaugec.sites import Binding, Move, Site
from runtime import handmade
from runtime.handmade_charts import CASES, WIDTH, Network, Packed, network, packed_sites, roles, tokens

GAUGES: dict[str, Gauge] = {}


def compiled(case: str) -> Gauge:
    if case not in GAUGES:
        GAUGES[case] = handmade.compiled(network(), CASES[case]())
    return GAUGES[case]


def train(model: Any, optimizer: torch.optim.Optimizer, steps: int, first: int = 0, clip: bool = False) -> Tensor:
    losses = []
    for step in range(first, first + steps):
        optimizer.zero_grad()
        loss = model(tokens(step))
        loss.backward()
        if clip:
            optimizer.clip_grad_norm_(0.1)
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses)


def groups(model: Any) -> list[dict[str, Any]]:
    pairs = list(model.named_parameters())
    return [{"params": pairs[::2], "lr": 1e-2}, {"params": pairs[1::2], "lr": 4e-3}]


def copies(case: str) -> tuple[Network, Network, Gauge]:
    model, gauge = network(), compiled(case)
    return model, handmade.moved(model, gauge, gauge.random_element(torch.Generator().manual_seed(1))), gauge


def gap(one: Tensor, two: Tensor) -> float:
    return float(((one - two).abs() / one.abs()).max().detach())


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("orbit", ["pinned", "horizontal"])
def test_two_runs_stay_copies_of_each_other(case: str, orbit: str) -> None:
    pair, losses = copies(case), list[Tensor]()
    gauge = pair[2]
    for model in pair[:2]:
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        optimizer = DDCAdamW(groups(model), gauge, weight_decay=0.1, orbit=orbit)
        losses.append(train(model, optimizer, 100 if case == "all" else 40))
        held = {name for component in gauge.components for place in component.instances
                for slot, name in zip(component.shapes, place) if slot in component.holds}  # fmt: skip
        assert set(optimizer.held) == held and optimizer.inactive == []
        for name, p in model.named_parameters():
            if name in held or orbit == "pinned":  # a key's bias is all vertical
                assert torch.equal(p, before[name]) == (name in held), name
            assert (p in optimizer.state and bool(optimizer.state[p])) == (name not in held), name
    assert gap(*losses) < 1e-12
    assert losses[0][0] - losses[0][-1] > 0.01  # it trains


@pytest.mark.parametrize("case", ["norm bias", "value bias", "reader shift", "stream", "all"])
def test_what_is_moved_is_seen_by_adam(case: str) -> None:
    one, two, _ = copies(case)
    losses = [train(each, torch.optim.AdamW(each.parameters(), lr=1e-2, weight_decay=0.1), 60) for each in (one, two)]
    assert gap(*losses) > 1e-6


@pytest.mark.parametrize("case", CASES)
def test_the_function_does_not_see_an_element(case: str) -> None:
    one, two, _ = copies(case)
    assert gap(one(tokens(0)), two(tokens(0))) < 1e-13
    assert max(float((p - q).detach().abs().max()) for p, q in zip(one.parameters(), two.parameters())) > 0.1


Make = Callable[[Network, Gauge], GaugeOptimizer]

STEPS: dict[str, Make] = {
    "sgd": lambda m, g: DDCSGD(m.named_parameters(), g, lr=1e-2, momentum=0.9, weight_decay=0.1),
    "muon": lambda m, g: DDCMuon(m.named_parameters(), g, lr=1e-2, adamw_lr=3e-3),
    "muon, horizontal": lambda m, g: DDCMuon(m.named_parameters(), g, lr=1e-2, adamw_lr=3e-3, orbit="horizontal"),
    "fused": lambda m, g: DDCAdamW(groups(m), g, compile=True),
    "fused, horizontal": lambda m, g: DDCAdamW(groups(m), g, compile=True, orbit="horizontal"),
}


@pytest.mark.parametrize("steps", STEPS)
def test_whatever_the_step(steps: str) -> None:
    one, two, gauge = copies("norm bias" if steps.startswith("fused") else "all")
    gauge = type("Gauge", (Gauge,), {"roles": roles(one)})(gauge.source)
    optimizers = [STEPS[steps](each, gauge) for each in (one, two)]
    losses = [train(each, optimizer, 20) for each, optimizer in zip((one, two), optimizers)]
    assert optimizers[0].held and gap(*losses) < 1e-12


def test_what_is_held_counts_in_no_norm() -> None:
    """Clipped runs stay copies; of the norm nothing is a gradient that is held."""
    one, two, gauge = copies("all")
    optimizers = [DDCAdamW(groups(each), gauge) for each in (one, two)]
    losses = [train(each, optimizer, 20, clip=True) for each, optimizer in zip((one, two), optimizers)]
    assert gap(*losses) < 1e-12
    one(tokens(0)).backward()
    before = float(optimizers[0].clip_grad_norm_(1e9))
    for name in optimizers[0].held:
        optimizers[0].named[name].grad = None
    assert float(optimizers[0].clip_grad_norm_(1e9)) == pytest.approx(before, rel=1e-14)


def test_gradients_and_parameters_are_left_as_they_were() -> None:
    """Nothing that is only for a step is seen after it, nor where one fails."""
    model, _, gauge = copies("all")
    optimizer = DDCAdamW(groups(model), gauge)
    model(tokens(0)).backward()
    slopes = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    values = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer.clip_grad_norm_(1e9)
    assert all(torch.equal(p, values[name]) for name, p in model.named_parameters())
    optimizer.step()
    assert all(torch.equal(p.grad, slopes[name]) for name, p in model.named_parameters())
    values = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer.param_groups[1]["betas"] = None
    with pytest.raises(TypeError):
        optimizer.step()
    biases = [name for name in values if name.endswith("bias") and "blocks.1" in name]
    assert all(torch.allclose(dict(model.named_parameters())[n], values[n], atol=0.1) for n in biases)
    assert all(torch.equal(p.grad, slopes[name]) for name, p in model.named_parameters())


def test_a_gradient_that_is_missing_is_zero() -> None:
    one, two, gauge = copies("all")
    losses = []
    for model in (one, two):
        optimizer = DDCAdamW(groups(model), gauge)
        for step in range(20):
            optimizer.zero_grad()
            loss = model(tokens(step))
            loss.backward()
            for name, p in model.named_parameters():
                lacks = (".q." in name and step % 3 == 0) or (".up." in name and step % 2)
                if lacks or name.startswith("norm") or ("blocks.1" in name and step % 5 == 0):
                    p.grad = None
            optimizer.step()
            losses.append(loss.detach())
    assert gap(torch.stack(losses[:20]), torch.stack(losses[20:])) < 1e-12


def _freeze(*ends: str) -> Callable[[Network], None]:
    def change(model: Network) -> None:
        for name, p in model.named_parameters():
            p.requires_grad_(not name.endswith(ends))

    return change


def _zero(model: Network) -> None:
    with torch.no_grad():
        model.blocks[0].norm1.weight[2] = 0


CHANGES = {
    "what is held is frozen": (_freeze("norm1.bias", "norm2.weight"), 0, 12),
    "a table": (_freeze("embed.weight"), 3, 12),
    "a bias that another moves into": (_freeze("q.bias"), 11, 10),
    "two of one chain": (_freeze("o.bias", "up.weight"), 21, 8),
    "readers of a gain": (_freeze("q.weight", "v.weight"), 11, 10),
    "a gain that is zero": (_zero, 5, 11),
}


@pytest.mark.parametrize("change", CHANGES)
def test_gauges_in_force_are_respected_where_others_are_off(change: str) -> None:
    """What a chart reads is stepped again where what reads it cannot be."""
    (changed, off, held), gauge = CHANGES[change], compiled("all")
    one, losses = network(), []
    changed(one)
    with pytest.warns(UserWarning, match="gauges are off") if off else nullcontext():
        optimizer = DDCAdamW(groups(one), gauge)
    assert (len(optimizer.inactive), len(optimizer.held)) == (off, held)
    element = gauge.random_element(torch.Generator().manual_seed(1))
    steps = {key: batch.off for batch in optimizer.batches for key in batch.keys}
    for key in [key for key in element if key != "wide"]:
        element[key] = {name: x for name, x in element[key].items() if key in steps and name not in steps[key]}
    if any(text.startswith("stream") for text in optimizer.inactive):
        del element["wide"]
    two = handmade.moved(one, gauge, element)
    changed(two)
    for model in (one, two):
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        with pytest.warns(UserWarning, match="gauges are off") if off else nullcontext():
            optimizer = DDCAdamW(groups(model), gauge, weight_decay=0.1)
        losses.append(train(model, optimizer, 20))
        for name, p in model.named_parameters():
            assert torch.equal(p, before[name]) == (name in optimizer.held or not p.requires_grad), name
    assert gap(*losses) < 1e-12


@pytest.mark.parametrize("orbit", ["pinned", "horizontal"])
def test_a_run_that_is_resumed(orbit: str) -> None:
    """To the bit; the weights may be loaded after the state."""
    one, gauge = network(), compiled("all")
    first = DDCAdamW(groups(one), gauge, frame_every=4, orbit=orbit)
    train(one, first, 6)
    saved, weights = copy.deepcopy(first.state_dict()), copy.deepcopy(one.state_dict())
    assert not {i for i, p in enumerate(p for g in first.param_groups for p in g["params"])
                if first.called[id(p)] in first.held} & set(saved["state"])  # fmt: skip
    other = network()
    with torch.no_grad():
        for p in other.parameters():
            p.mul_(1.5)
    second = DDCAdamW(groups(other), gauge, frame_every=4, orbit=orbit)
    second.load_state_dict(saved)
    other.load_state_dict(weights)
    assert torch.equal(train(one, first, 6, 6), train(other, second, 6, 6))
    assert all(torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters()))


def test_a_fresh_model_costs_nothing() -> None:
    """With gains of 1 and biases of 0 there is no factor, nothing is added, and no gradient is copied."""
    model, gauge = network(), compiled("all")
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "norm" in name or name.endswith("bias"):
                p.fill_(0.0 if name.endswith("bias") else 1.0)
    optimizer = DDCAdamW(groups(model), gauge)
    train(model, optimizer, 2)
    assert all(batch.sums == () and batch.frame.gains == {} for batch in optimizer.batches)


@pytest.mark.parametrize("case", ["biases and gains", "gains in the stream", "all"])
def test_tangents_are_dead_directions(case: str) -> None:
    """Of what is held too, and of what runs through the whole model; as many as the group has dimensions."""
    model, gauge = network(), compiled(case)
    model(tokens(0)).backward()
    slopes = {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in model.named_parameters()}
    sums: dict[str, Tensor] = {}
    for key, component, names in gauge.places():
        values = {slot: p.detach()[None] for slot, p in zip(component.shapes, map(model.get_parameter, names))}
        moved = {key: component.tangents(values), **component.wide_tangents(values)}
        for name, tangents in moved.items():
            here = sum((x[:, 0] * slopes[n]).flatten(1).sum(1) for x, n in zip(tangents.values(), names))
            sums[name] = sums.get(name, 0) + here
            sizes = sum(x.flatten(1).square().sum(1) for x in tangents.values())
            assert bool((sizes > 1e-6).all()) or name not in gauge.wide
        kinds = component.elements.values()
        count = sum(c * (k * (k - 1) // 2 if kind == "rotate" else k) for kind, c, k in kinds)
        assert len(next(iter(moved[key].values()))) == count
    assert all(float(x.abs().max()) < 1e-12 for x in sums.values() if len(x))


def test_models_up_to_gauges_in_charts() -> None:
    """A copy is brought to the representative of its function, and is no distance away, but for the wide rotation."""
    gauge, model = compiled("biases and gains"), network()
    other = gauge.random_copy(model, torch.Generator().manual_seed(3))
    assert max(float((p - q).detach().abs().max()) for p, q in zip(model.parameters(), other.parameters())) > 0.1
    assert gap(model(tokens(0)), other(tokens(0))) < 1e-13
    assert gauge.distance(model, other).relative < 1e-12
    near = gauge.aligned(model, other)
    assert all(torch.allclose(near[name], p, atol=1e-11) for name, p in model.named_parameters())
    before = model(tokens(0))
    gauge.canonicalize_(model)
    assert gap(before, model(tokens(0))) < 1e-13
    assert all(bool((p == 0).all()) for n, p in model.named_parameters() if n.endswith(("norm1.bias", "norm2.bias")))
    whole = compiled("all")
    turned = whole.random_copy(model, torch.Generator().manual_seed(3))
    assert gap(before, turned(tokens(0))) < 1e-12
    assert whole.distance(model, turned).wide == ("stream_rotation",)


def test_telemetry_in_charts() -> None:
    """A horizontal step has no vertical part, measured with the tangents of what is stepped."""
    gauge, model = compiled("biases and gains"), network()
    optimizer = DDCAdamW(groups(model), gauge, orbit="horizontal")
    seen = Telemetry(gauge, model)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    train(model, optimizer, 1)
    assert vertical_part(optimizer, before) < 1e-9
    look = seen.look()
    assert look["whole_vertical"] < 1e-9 and any(name.startswith("norm_bias") for name in look["drift"])


@pytest.mark.parametrize("orbit", ["pinned", "horizontal"])
def test_a_part_that_is_held(orbit: str) -> None:
    """Of a fused bias the values' part is held, and the rest is stepped."""
    torch.manual_seed(0)
    one = Packed().double()
    gauge = handmade.compiled(one, packed_sites())
    two, losses = handmade.moved(one, gauge, gauge.random_element(torch.Generator().manual_seed(1))), list[Tensor]()
    assert gap(one(tokens(0)), two(tokens(0))) < 1e-13
    for model in (one, two):
        optimizer = DDCAdamW(groups(model), gauge, orbit=orbit)
        assert "attn.bias (a part)" in optimizer.held and optimizer.inactive == []
        before = model.attn.bias.detach().clone()
        losses.append(train(model, optimizer, 60))
        same = model.attn.bias == before
        assert bool(same[2 * WIDTH :].all()) and not bool(same[:WIDTH].any())
        state = optimizer.state[model.attn.bias]  # squares are averaged by head, and where no head is turned, kept
        assert state["exp_avg_sq"].unique().numel() == 4 + bool((state["exp_avg_sq"] == 0).any())
    assert gap(*losses) < 1e-12


def test_shifts_that_meet_across_tensors() -> None:
    """Tokens, positions and types trade vectors, with rates and decays of their own."""
    shapes = {"token": (9, 4), "position": (5, 4), "type": (2, 4)}

    def trade(i: int, one: str, two: str) -> Site:
        pairs = [(one, 1), (two, -1)]
        moved = [Binding(n, n, 0, (), ((shapes[n][0], 4),), ((4, 1),), Move("shift", Fraction(w))) for n, w in pairs]
        return handmade.site("trade", i, "translation", 1, 9, moved)

    gauge = Gauge(handmade.written([trade(0, "token", "position"), trade(1, "token", "type")], shapes))
    start = {n: torch.randn(*s, generator=torch.Generator().manual_seed(len(n)), dtype=torch.float64)
             for n, s in shapes.items()}  # fmt: skip
    element = gauge.random_element(torch.Generator().manual_seed(5))
    for orbit in ("pinned", "horizontal"):
        ends = []
        for values in (start, gauge.act(start, element)):
            p = {n: torch.nn.Parameter(x.clone()) for n, x in values.items()}
            rates = zip(p.items(), (1e-2, 3e-3, 2e-2), (0.1, 0.7, 0.0))
            optimizer = DDCAdamW([{"params": [pair], "lr": lr, "weight_decay": wd} for pair, lr, wd in rates], gauge,
                                 orbit=orbit, frame_every=7)  # fmt: skip
            for step in range(40):
                g = torch.Generator().manual_seed(step)
                rows = [x[torch.randint(len(x), (6,), generator=g)] for x in p.values()]
                loss = (sum(rows) - torch.randn(6, 4, generator=g, dtype=torch.float64)).square().sum()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            ends.append(p["token"][:, None, None] + p["position"][:, None] + p["type"])
        assert float((ends[0] - ends[1]).detach().abs().max()) < 1e-11, orbit
