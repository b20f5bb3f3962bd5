"""The optimizer as an optimizer: state, resuming, frozen and missing parameters, singular orbits, dtypes."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from typing import Any

import pytest
import torch
from thinned import thinned
from torch import Tensor, nn

from gaugec.runtime import DDCAdamW, Gauge, kernels
from gaugec.runtime.names import plain
from runtime import handmade


def llama(dtype: torch.dtype = torch.float64) -> tuple[nn.Module, Gauge]:
    torch.manual_seed(0)
    model = handmade.Llama().to(dtype)
    return model, handmade.compiled(model, handmade.llama_sites())


def step(model: nn.Module, optimizer: torch.optim.Optimizer, number: int) -> float:
    optimizer.zero_grad()
    loss = model(handmade.tokens(number))
    loss.backward()
    optimizer.step()
    return float(loss.detach())


def values(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], two[name]) for name in one)


def test_untouched_parameters_take_adamw_steps() -> None:
    model, gauge = llama()
    other = copy.deepcopy(model)
    ours = DDCAdamW(model.named_parameters(), gauge, lr=1e-2, weight_decay=0.1)
    theirs = torch.optim.AdamW(other.parameters(), lr=1e-2, weight_decay=0.1)
    for number in range(5):
        for p, q in zip(model.parameters(), other.parameters()):
            p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(number), dtype=p.dtype)
            q.grad = p.grad.clone()
        ours.step()
        theirs.step()
    assert "embed.weight" not in gauge.parameters
    assert torch.allclose(model.embed.weight, other.embed.weight, rtol=1e-14, atol=1e-15)
    assert not torch.allclose(model.head.weight, other.head.weight, rtol=1e-3)


def test_state_is_smaller_than_adamw() -> None:
    model, gauge = llama()
    ours, theirs = DDCAdamW(model.named_parameters(), gauge), torch.optim.AdamW(model.parameters())
    sizes = []
    for optimizer in (ours, theirs):
        step(model, optimizer, 0)
        states = optimizer.state_dict()["state"].values()
        sizes.append(sum(x.numel() for state in states for name, x in state.items() if name != "gauge"))
    assert sizes[0] < 0.92 * sizes[1]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("stop", [0, 4])
@pytest.mark.parametrize("orbit", ["pinned", "horizontal"])
def test_resuming_is_exact(dtype: torch.dtype, stop: int, orbit: str) -> None:
    """From step 4, between two frames or pins, or from step 0."""
    model, gauge = llama(dtype)

    def make(model: nn.Module) -> DDCAdamW:
        return DDCAdamW(model.named_parameters(), gauge, lr=1e-2, frame_every=3, orbit=orbit)

    optimizer = make(model)
    for number in range(stop):
        step(model, optimizer, number)
    file = io.BytesIO()
    torch.save((optimizer.state_dict(), model.state_dict()), file)
    file.seek(0)
    state, weights = torch.load(file, weights_only=True)
    other = handmade.Llama().to(dtype)
    other.load_state_dict(weights)
    resumed = make(other)
    resumed.load_state_dict(state)
    for number in range(stop, stop + 5):
        assert step(model, optimizer, number) == step(other, resumed, number)
    assert same(values(model), values(other))
    for key, frame in optimizer.frames.items():
        assert all(torch.equal(scale, resumed.frames[key].scales[name]) for name, scale in frame.scales.items())


def test_closures_schedulers_and_groups() -> None:
    model, gauge = llama()
    optimizer = DDCAdamW(model.named_parameters(), gauge, lr=1e-2)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda number: 0.0 if number else 1.0)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = model(handmade.tokens(0))
        loss.backward()
        return loss

    first = optimizer.step(closure)
    scheduler.step()
    before = values(model)
    second = optimizer.step(closure)
    assert float(second.detach()) < float(first.detach())
    assert all(torch.allclose(before[name], value, rtol=1e-15, atol=0) for name, value in values(model).items())


def test_prefixes_of_wrappers_do_not_matter() -> None:
    model, gauge = llama()
    names = [(f"module._orig_mod.{name}", p) for name, p in model.named_parameters()]
    step(model, DDCAdamW(names, gauge), 0)
    assert plain("_orig_mod.module.a._orig_mod.weight") == "a.weight"


@pytest.mark.parametrize("grouped", [True, False])
def test_parameters_given_twice_are_refused(grouped: bool) -> None:
    model, gauge = llama()
    pairs = list(model.named_parameters())
    twice: Any = (
        [{"params": pairs}, {"params": [("again", pairs[0][1])]}] if grouped else [*pairs, ("again", pairs[0][1])]
    )
    with pytest.raises(ValueError):
        DDCAdamW(twice, gauge)


def test_wrong_shapes_are_refused() -> None:
    model, gauge = llama()
    pairs = [(n, nn.Parameter(p[:-1].detach()) if n == "layers.0.o.weight" else p) for n, p in model.named_parameters()]
    with pytest.raises(ValueError, match=r"layers\.0\.o\.weight has the shape \(11, 24\), compiled for \(12, 24\)"):
        DDCAdamW(pairs, gauge)


def test_sparse_gradients_are_refused() -> None:
    model, gauge = llama()
    optimizer = DDCAdamW(model.named_parameters(), gauge)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    model.head.weight.grad = torch.zeros_like(model.head.weight).to_sparse()
    with pytest.raises(RuntimeError, match="sparse"):
        optimizer.step()


def test_what_is_no_gauge_is_refused() -> None:
    model, _ = llama()
    with pytest.raises(TypeError, match=r"gaugec\.compile"):
        DDCAdamW(model.named_parameters(), "llama")  # type: ignore[arg-type]


def test_settings_of_all_groups_can_be_read_and_frames_stretched() -> None:
    model, gauge = llama()
    optimizer = DDCAdamW(model.named_parameters(), gauge, frame_every=2, pooling=False)
    assert (optimizer.frame_every, optimizer.pooling, optimizer.compile) == (2, False, False)
    step(model, optimizer, 0)
    optimizer.frame_every = 10
    frames = optimizer.frames
    for number in range(1, 4):
        step(model, optimizer, number)
    for key, frame in optimizer.frames.items():
        assert all(torch.equal(frames[key].scales[name], x) for name, x in frame.scales.items())
    assert copy.deepcopy(optimizer).frame_every == 10
    with pytest.raises(ValueError, match=r"^frame_every is a number of steps, 1 or more, not 0$"):
        optimizer.frame_every = 0


@pytest.mark.parametrize("orbit", ["pinned", "horizontal"])
def test_frozen_parameters_turn_gauges_off(orbit: str) -> None:
    model, gauge = llama()
    model.layers[0].o.weight.requires_grad_(False)
    with pytest.warns(UserWarning, match="1 gauges are off"):
        optimizer = DDCAdamW(model.named_parameters(), gauge, lr=1e-2, orbit=orbit)
    assert optimizer.inactive == ["0.0.value_rotation: layers.0.o.weight frozen"]
    before = values(model)
    for number in range(3):
        step(model, optimizer, number)
    assert torch.equal(before["layers.0.o.weight"], model.layers[0].o.weight)
    assert all(not torch.equal(before[n], p) for n, p in model.named_parameters() if n != "layers.0.o.weight")


@pytest.mark.parametrize("orbit", ["pinned", "horizontal"])
def test_all_gradients_none_leaves_a_component_alone(orbit: str) -> None:
    model, gauge = llama()
    optimizer = DDCAdamW(model.named_parameters(), gauge, lr=1e-2, orbit=orbit)
    step(model, optimizer, 0)
    before = values(model)
    optimizer.zero_grad()
    model(handmade.tokens(1)).backward()
    for name, p in model.named_parameters():
        if name.startswith("layers.1."):
            p.grad = None
    optimizer.step()
    for name, p in model.named_parameters():
        assert torch.equal(before[name], p) == name.startswith("layers.1."), name
    loss = [step(model, optimizer, number) for number in range(2, 5)]
    assert all(map(torch.isfinite, map(torch.tensor, loss)))
    other = DDCAdamW(model.named_parameters(), gauge, lr=1e-2, orbit=orbit)
    other.load_state_dict(optimizer.state_dict())
    assert {batch.step for batch in other.batches} == {4, 5}


@pytest.mark.parametrize("orbit", ["pinned", "horizontal"])
def test_singular_orbits_are_said_and_stay_finite(orbit: str) -> None:
    model, gauge = llama()
    with torch.no_grad():
        model.layers[0].norm1.weight[3] = 0
        model.layers[0].up.weight[2] = 0
        model.layers[1].down.weight[:, 4] = 0
        model.layers[1].norm2.weight[:6] = 0
    with pytest.warns(UserWarning, match="zero norm"):
        optimizer = DDCAdamW(model.named_parameters(), gauge, lr=1e-2, orbit=orbit)
    for number in range(20):
        step(model, optimizer, number)
    assert all(p.isfinite().all() for p in model.parameters())
    assert model.layers[0].norm1.weight[3] != 0
    assert (model.layers[0].up.weight[2] != 0).any()
    assert (model.layers[1].norm2.weight != 0).all()


@pytest.mark.parametrize("orbit", ["pinned", "horizontal"])
def test_units_that_die_in_training_stay_finite(orbit: str) -> None:
    model, gauge = llama(torch.float32)
    optimizer = DDCAdamW(model.named_parameters(), gauge, lr=1e-2, weight_decay=0.1, orbit=orbit)
    step(model, optimizer, 0)
    with torch.no_grad():
        model.layers[0].norm1.weight[3] = 0
        model.layers[0].up.weight[2] = 1e-30
        model.layers[1].down.weight[:, 4] = 0
        model.layers[1].v.weight.zero_()
        model.layers[1].o.weight.zero_()
    for number in range(1, 6):
        step(model, optimizer, number)
    assert all(p.isfinite().all() for p in model.parameters())


def test_zero_gradients_stay_finite() -> None:
    model, gauge = llama()
    optimizer = DDCAdamW(model.named_parameters(), gauge, lr=1e-2, weight_decay=0.1)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    for _ in range(3):
        optimizer.step()
    assert all(p.isfinite().all() for p in model.parameters())


def test_bfloat16_follows_float32() -> None:
    model, gauge = llama(torch.float32)
    half = copy.deepcopy(model).bfloat16()
    losses = []
    for each in (model, half):
        optimizer = DDCAdamW(each.named_parameters(), gauge, lr=1e-2)
        for number in range(10):
            for p, q in zip(each.parameters(), model.parameters()):
                p.grad = torch.randn(q.shape, generator=torch.Generator().manual_seed(number)).to(p.dtype)
            optimizer.step()
        assert all(p.dtype == next(each.parameters()).dtype for p in each.parameters())
        losses.append(float(each(handmade.tokens(0)).detach()))
        state = optimizer.state_dict()["state"]
        gauged = {i for i, (name, _) in enumerate(each.named_parameters()) if name in gauge.parameters}
        assert {state[i]["exp_avg"].dtype for i in gauged} == {torch.float32}
    assert abs(losses[0] - losses[1]) < 0.1


def test_it_learns() -> None:
    model, gauge = llama(torch.float32)
    optimizer = DDCAdamW(model.named_parameters(), gauge, lr=3e-2, weight_decay=0.0, frame_every=5)
    losses = []
    for _ in range(60):
        losses.append(step(model, optimizer, 0))
    assert losses[-1] < 0.5 * losses[0]


def test_stacking_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers stacked or one by one: the same parameters, to rounding."""
    ends = []
    for stack in (1, 1 << 20):
        monkeypatch.setattr("gaugec.runtime.batch.STACK_CPU", stack)
        model, gauge = llama()
        optimizer = DDCAdamW(model.named_parameters(), gauge, lr=1e-2)
        for number in range(5):
            step(model, optimizer, number)
        ends.append((values(model), len(optimizer.batches)))
    assert ends[0][1] == 5 and ends[1][1] == 3
    assert all(torch.allclose(ends[0][0][name], ends[1][0][name], rtol=1e-10, atol=1e-12) for name in ends[0][0])


@pytest.mark.parametrize("pooling", [True, False])
def test_pieces_change_nothing(monkeypatch: pytest.MonkeyPatch, pooling: bool) -> None:
    """Layers whole or some rows at a time, and both after a resume: the same parameters, to rounding."""
    monkeypatch.setattr("gaugec.runtime.batch.STACK_CPU", 1)
    ends = []
    for limit in (50, 1 << 20):
        monkeypatch.setattr("gaugec.runtime.batch.TILE_CPU", limit)
        model, gauge = llama()
        optimizer = DDCAdamW(model.named_parameters(), gauge, lr=1e-2, weight_decay=0.1, frame_every=2, pooling=pooling)
        for number in range(5):
            step(model, optimizer, number)
        rows = {slot for batch in optimizer.batches for tile in batch.tiles() for slot in tile.rows}
        assert rows == (set("qkvo") | {"gate", "up", "down", "head"} if limit == 50 else set())
        ends.append(values(model))
    assert all(torch.allclose(ends[0][name], ends[1][name], rtol=1e-10, atol=1e-12) for name in ends[0])


def test_no_warnings_when_all_is_well() -> None:
    model, gauge = llama()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(model, DDCAdamW(model.named_parameters(), gauge), 0)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", thinned([torch.float32, torch.float64, torch.bfloat16], 3))
def test_compiled_steps_follow_the_others(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing is compiled after the first step, whatever a scheduler does."""
    model, gauge = llama(dtype)
    graphs: list[Any] = []
    compiled = kernels.compiled
    monkeypatch.setattr(kernels, "compiled", lambda graph, *rest: graphs.append(graph) or compiled(graph, *rest))
    other = copy.deepcopy(model)
    model.layers[0].o.weight.requires_grad_(False)
    other.layers[0].o.weight.requires_grad_(False)
    optimizers = []
    for each, fused in ((model, False), (other, True)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            options: dict[str, Any] = {"lr": 1e-2, "weight_decay": 0.1, "frame_every": 3, "compile": fused}
            optimizers.append(DDCAdamW(each.named_parameters(), gauge, **options))
    for number in range(6):
        for each, optimizer in zip((model, other), optimizers):
            for p in each.parameters():
                p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(number)).to(dtype)
            optimizer.param_groups[0].update(lr=1e-2 * 0.9**number, betas=(0.9 - 0.01 * number, 0.999))
            optimizer.step()
        assert len(graphs) == 4
    close = {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 4e-2}[dtype]
    for name, p in model.named_parameters():
        assert torch.allclose(p, other.state_dict()[name], rtol=close, atol=close), name


def test_no_compiler_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise OSError("no g++ here")

    model, gauge = llama()
    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(RuntimeError, match=r"compile=True needs .* C\+\+ compiler .* compile=False.* no g\+\+ here"):
        DDCAdamW(model.named_parameters(), gauge, compile=True)


@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
def test_copies_go_on_alike(how: str) -> None:
    model, gauge = llama()
    optimizer = DDCAdamW(model.named_parameters(), gauge, lr=1e-2, frame_every=3)
    for number in range(4):
        step(model, optimizer, number)
    pair = (model, optimizer)
    other, copied = copy.deepcopy(pair) if how == "deepcopy" else pickle.loads(pickle.dumps(pair))
    assert {id(p) for group in copied.param_groups for p in group["params"]} == {id(p) for p in other.parameters()}
    for number in range(4, 8):
        assert step(model, optimizer, number) == step(other, copied, number)
    assert same(values(model), values(other))
