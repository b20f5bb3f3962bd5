"""What people do with an optimizer beside steps: schedulers, hooks, scalers, compiling, odd gradients, pickles."""

from __future__ import annotations

import copy
import math
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler as lrs

from gaugec.runtime import DDCAdamW, Gauge
from runtime import handmade
from runtime.test_equivariance import build

ORBITS = ("pinned", "horizontal")


@pytest.fixture(scope="module")
def compiled() -> Gauge:
    return handmade.compiled(handmade.MLP(), handmade.mlp_sites())


def mlp() -> nn.Module:
    torch.manual_seed(0)
    return handmade.MLP().double()


def same(one: nn.Module, two: nn.Module) -> bool:
    return all(torch.equal(p, q) for p, q in zip(one.parameters(), two.parameters()))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for number in range(steps):
        optimizer.zero_grad()
        model(*handmade.numbers(number)).backward()
        optimizer.step()


# --- schedulers, hooks, closures

SCHEDULERS: dict[str, Callable[[torch.optim.Optimizer], Any]] = {
    "Lambda": lambda o: lrs.LambdaLR(o, lambda n: 1 / (1 + n)),
    "Multiplicative": lambda o: lrs.MultiplicativeLR(o, lambda n: 0.9),
    "Step": lambda o: lrs.StepLR(o, 2),
    "MultiStep": lambda o: lrs.MultiStepLR(o, [1, 3]),
    "Constant": lambda o: lrs.ConstantLR(o, total_iters=2),
    "Linear": lambda o: lrs.LinearLR(o, total_iters=3),
    "Exponential": lambda o: lrs.ExponentialLR(o, 0.9),
    "Polynomial": lambda o: lrs.PolynomialLR(o, 4),
    "Cosine": lambda o: lrs.CosineAnnealingLR(o, 4),
    "warm restarts": lambda o: lrs.CosineAnnealingWarmRestarts(o, 2),
    "plateau": lambda o: lrs.ReduceLROnPlateau(o, patience=0),
    "OneCycle": lambda o: lrs.OneCycleLR(o, 3e-2, total_steps=6),
    "Cyclic": lambda o: lrs.CyclicLR(o, 1e-3, 1e-2, step_size_up=2, cycle_momentum=True),
    "chained": lambda o: lrs.ChainedScheduler([lrs.ConstantLR(o), lrs.ExponentialLR(o, 0.9)]),
    "sequential": lambda o: lrs.SequentialLR(o, [lrs.ConstantLR(o), lrs.ExponentialLR(o, 0.9)], [2]),
}


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("rate", [1e-2, torch.tensor(1e-2, dtype=torch.float64)], ids=["number", "tensor"])
def test_every_scheduler(compiled: Gauge, name: str, rate: Any) -> None:
    """The settings are those that AdamW gets, and copies stay copies while they change."""
    model = mlp()
    element = compiled.random_element(torch.Generator().manual_seed(1))
    models = [model, handmade.moved(model, compiled, element), copy.deepcopy(model)]
    runs = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, on the order of calls
        for each, kind in zip(models, (DDCAdamW, DDCAdamW, torch.optim.AdamW)):
            arguments = (each.named_parameters(), compiled) if kind is DDCAdamW else (each.named_parameters(),)
            optimizer = kind(*arguments, lr=copy.deepcopy(rate))
            scheduler = SCHEDULERS[name](optimizer)
            settings, losses = [], []
            for number in range(5):
                optimizer.zero_grad()
                loss = each(*handmade.numbers(number))
                loss.backward()
                optimizer.step()
                scheduler.step(*[1.0][: name == "plateau"])
                losses.append(float(loss.detach()))
                settings.append((float(optimizer.param_groups[0]["lr"]), optimizer.param_groups[0]["betas"]))
            runs.append((losses, settings))
    assert runs[0][1] == runs[1][1] == runs[2][1]
    assert runs[0][0] == pytest.approx(runs[1][0], rel=1e-12)
    assert name in ("Constant", "chained", "sequential") or len(set(runs[0][1])) > 1


def test_closures_and_hooks(compiled: Gauge) -> None:
    model, other = mlp(), mlp()
    optimizer = DDCAdamW(model.named_parameters(), compiled, lr=1e-2)
    seen: list[str] = []
    optimizer.register_step_pre_hook(lambda *_: seen.append("before"))
    optimizer.register_step_post_hook(lambda *_: seen.append("after"))

    def closure() -> Tensor:
        seen.append("closure")
        optimizer.zero_grad()
        loss: Tensor = model(*handmade.numbers(0))
        loss.backward()
        return loss

    loss = optimizer.step(closure)
    assert seen == ["before", "closure", "after"]
    assert torch.equal(loss, other(*handmade.numbers(0)))
    train(other, DDCAdamW(other.named_parameters(), compiled, lr=1e-2), 1)
    assert same(model, other)


@pytest.mark.parametrize("orbit", ORBITS)
def test_gradients_may_be_accumulated(compiled: Gauge, orbit: str) -> None:
    model, other = mlp(), mlp()
    x, y = handmade.numbers(0)
    one, two = (DDCAdamW(each.named_parameters(), compiled, lr=1e-2, orbit=orbit) for each in (model, other))
    for _ in range(3):
        one.zero_grad()
        two.zero_grad()
        model(x, y).backward()
        for part in (slice(0, 8), slice(8, 16)):
            (other(x[part], y[part]) / 2).backward()
        one.step()
        two.step()
    assert all(torch.allclose(p, q, rtol=1e-10, atol=1e-12) for p, q in zip(model.parameters(), other.parameters()))


def test_autocast_and_a_scaler(compiled: Gauge) -> None:
    model = mlp().float()
    optimizer = DDCAdamW(model.named_parameters(), compiled, lr=1e-2)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    losses = []
    for number in range(12):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(*(x.float() for x in handmade.numbers(0)))
        scaler.scale(loss).backward()
        if number == 5:
            model.maps[0].weight.grad[0, 0] = math.inf
        before = copy.deepcopy(model)
        scaler.unscale_(optimizer)
        optimizer.clip_grad_norm_(10.0)
        scaler.step(optimizer)
        assert same(model, before) == (number == 5)
        scaler.update()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    assert optimizer.batches[0].step == 11


@pytest.mark.slow
def test_a_compiled_model_and_a_compiled_step(compiled: Gauge) -> None:
    model, other = mlp(), mlp()
    fast = torch.compile(model, backend="aot_eager")
    optimizer = DDCAdamW(fast.named_parameters(), compiled, lr=1e-2)
    plain = DDCAdamW(other.named_parameters(), compiled, lr=1e-2)
    step = torch.compile(optimizer.step)
    for number in range(3):
        for each, each_optimizer, each_step in ((fast, optimizer, step), (other, plain, plain.step)):
            each_optimizer.zero_grad()
            each(*handmade.numbers(number)).backward()
            each_step()
    assert optimizer.batches[0].step == 3
    assert all(torch.allclose(p, q, rtol=1e-10, atol=1e-12) for p, q in zip(model.parameters(), other.parameters()))


# --- gradients


@pytest.mark.parametrize("orbit", ORBITS)
@pytest.mark.parametrize("value", [math.inf, math.nan])
@pytest.mark.parametrize(("case", "name", "most"), [("mlp", "maps.1.weight", 1), ("llama", "layers.0.q.weight", 2)])
def test_an_entry_that_is_no_number_stays_where_it_is(
    orbit: str, value: float, case: str, name: str, most: int
) -> None:
    """In its own entry, as with AdamW, and where second moments are averaged in that of its partners; nowhere else."""
    model, gauge, data = build(case)
    optimizer = DDCAdamW(model.named_parameters(), gauge, lr=1e-2, frame_every=1, orbit=orbit)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in range(4):
            for p in model.parameters():
                p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(number), dtype=p.dtype)
            if number == 1:
                model.get_parameter(name).grad[0, 0] = value  # type: ignore[index]
            optimizer.step()
    spoiled = {n: int((~p.isfinite()).sum()) for n, p in model.named_parameters() if not p.isfinite().all()}
    assert set(spoiled) == {name} and spoiled[name] <= most


@pytest.mark.parametrize("orbit", ORBITS)
@pytest.mark.parametrize("case", ["gradients", "dead", "layers"])
def test_zeros_stay_finite(orbit: str, case: str) -> None:
    model, gauge, data = build("llama")
    with torch.no_grad():
        if case == "dead":
            model.layers[0].up.weight[2], model.layers[0].norm1.weight[3] = 0, 0
        if case == "layers":
            model.layers[0].down.weight.zero_()
            model.layers[1].o.weight.zero_()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        optimizer = DDCAdamW(model.named_parameters(), gauge, lr=1e-2, weight_decay=0.1, frame_every=2, orbit=orbit)
        for number in range(6):
            model.zero_grad()
            model(*data(number)).backward()
            for p in model.parameters():
                if case == "gradients":
                    torch.zero_(p.grad)  # type: ignore[arg-type]
            optimizer.step()
    assert all(p.isfinite().all() for p in model.parameters())
    if case == "layers":
        assert (model.layers[0].down.weight != 0).any() and (model.layers[1].o.weight != 0).any()


# --- pickles


def test_a_gauge_pickles_into_another_process(compiled: Gauge) -> None:
    code = (
        "import pickle, sys; gauge = pickle.load(sys.stdin.buffer); "
        "print(type(gauge).__module__, len(gauge.parameters), 'sympy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(compiled), capture_output=True, check=True)
    assert done.stdout.decode().split() == ["gaugec.runtime.gauge", str(len(compiled.parameters)), "False"]
    assert copy.deepcopy(compiled).source == compiled.source
