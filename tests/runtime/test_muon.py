"""DDCMuon: logical matrices, routes, groups; its runs from θ and from gθ; torch's Muon where there is no gauge."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gaugec.runtime import DDCMuon, Gauge
from gaugec.runtime.layout import Slice
from gaugec.runtime.matrices import orthogonal
from gaugec.runtime.optimizer import ORBITS
from gaugec.runtime.rules.muon import COEFFICIENTS, muon, newton_schulz
from runtime import handmade
from runtime.test_equivariance import CASES, train
from runtime.test_equivariance import build as without_roles

RATES = {"lr": 2e-2, "adamw_lr": 3e-3, "weight_decay": 0.1, "frame_every": 7}


def build(case: str) -> tuple[nn.Module, Gauge, Any]:
    model, gauge, data = without_roles(case)
    return model, handmade.with_roles(model, gauge), data


def made(model: nn.Module, gauge: Gauge, **settings: Any) -> DDCMuon:
    return DDCMuon(model.named_parameters(), gauge, **{**RATES, **settings})


def copies(case: str) -> tuple[Gauge, Any, tuple[nn.Module, nn.Module]]:
    model, gauge, data = build(case)
    return gauge, data, (model, handmade.moved(model, gauge, gauge.random_element(torch.Generator().manual_seed(1))))


def apart(losses: list[Tensor]) -> float:
    return float(((losses[0] - losses[1]).abs() / losses[0].abs()).max())


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("orbit", ORBITS)
def test_two_runs_of_muon_stay_copies_of_each_other(case: str, orbit: str) -> None:
    gauge, data, models = copies(case)
    assert apart([train(model, made(model, gauge, orbit=orbit), data, 100) for model in models]) < 1e-12


@pytest.mark.parametrize("orbit", ORBITS)
def test_compiled_steps_of_muon_are_the_same(orbit: str) -> None:
    model, gauge, data = build("llama")
    other = copy.deepcopy(model)
    one = train(model, made(model, gauge, orbit=orbit), data, 15)
    two = train(other, made(other, gauge, orbit=orbit, compile=True), data, 15)
    assert apart([one, two]) < 1e-12


def test_copies_are_apart_by_the_iterations_rounding() -> None:
    gauge, data, models = copies("llama")
    by_dtype = []
    for dtype in (torch.bfloat16, torch.float32):
        runs = [copy.deepcopy(model) for model in models]
        by_dtype.append(apart([train(m, made(m, gauge, lr=1e-3, ns_dtype=dtype), data, 30) for m in runs]))
    assert 1e-7 < by_dtype[0] < 1e-3 and 1e-13 < by_dtype[1] < 1e-6


def test_the_iteration_is_odd_and_commutes_with_rotations() -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(3, 5, 8, dtype=torch.float64, generator=draw)
    turned = torch.linalg.qr(torch.randn(3, 5, 5, dtype=torch.float64, generator=draw))[0]
    y = newton_schulz(x.clone(), 5, COEFFICIENTS)
    assert torch.allclose(newton_schulz(turned @ x, 5, COEFFICIENTS), turned @ y, atol=1e-12)
    assert torch.allclose(newton_schulz(-x, 5, COEFFICIENTS), -y, atol=1e-12)
    assert torch.allclose(newton_schulz(x.mT.contiguous(), 5, COEFFICIENTS), y.mT, atol=1e-12)
    values = torch.linalg.svdvals(y)
    assert 0.6 < values.min() and values.max() < 1.3


def test_a_fused_weight_is_orthogonalised_part_by_part() -> None:
    """[q; k | v] of 2 heads of 3 rows, then [4] rows of something else, strided columns in copies."""
    rule = muon(5, COEFFICIENTS, None, torch.float64)
    x = torch.randn(2, 10, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    layout = (
        Slice("", 0, ((2, 24),), ((3, 8),), (), ((8, 1),)),
        Slice("", 48, ((2, 1),), ((4, 8),), (), ((4, 2),)),
    )
    (out,) = orthogonal(rule, [x], [layout])
    (same,) = orthogonal(rule, [x.mT.contiguous().mT], [layout])
    assert torch.equal(out, same)

    def alone(part: Tensor) -> Tensor:
        return newton_schulz(part[None], 5, COEFFICIENTS)[0] * max(1, part.shape[0] / part.shape[1]) ** 0.5

    for place, got in zip(x, out):
        for rows in (slice(0, 3), slice(3, 6)):
            assert torch.allclose(got[rows], alone(place[rows]), atol=1e-13)
        for first in (0, 1):
            assert torch.allclose(got[6:, first::2], alone(place[6:, first::2]), atol=1e-13)


@pytest.mark.parametrize("adjust", [None, "match_rms_adamw"])
@pytest.mark.parametrize("nesterov", [True, False])
def test_where_no_gauge_moves_it_is_torchs(adjust: str | None, nesterov: bool) -> None:
    """The hidden matrix of a model of which the gauge moves nothing that is trained."""
    model, gauge, data = build("mlp")
    settings = {"lr": 1e-2, "weight_decay": 0.1, "nesterov": nesterov, "adjust_lr_fn": adjust}
    frozen = [p for name, p in model.named_parameters() if name != "maps.1.weight"]
    for p in frozen:
        p.requires_grad_(False)
    model.float()
    other = copy.deepcopy(model)
    with pytest.warns(UserWarning, match="gauges are off"):
        ours = DDCMuon(model.named_parameters(), gauge, **settings)
    theirs = torch.optim.Muon([other.get_parameter("maps.1.weight")], **settings)
    numbers = lambda step: tuple(x.float() for x in data(step))  # noqa: E731
    train(model, ours, numbers, 5)
    train(other, theirs, numbers, 5)
    one, two = (m.get_parameter("maps.1.weight") for m in (model, other))
    assert torch.allclose(one, two, atol=2e-4)  # bfloat16 rounds in another order


def test_the_table_of_routes() -> None:
    model, gauge, _ = build("llama")
    opt = made(model, gauge, routes={"head.weight": "muon", "layers.0.up.weight": "adamw"})
    assert str(opt.routing()) == """\
parameter                        step   role    matrices
layers.{0..1}.q.weight           muon   matrix  6 of [4, 12]
layers.{0..1}.k.weight           muon   matrix  2 of [4, 12]
layers.{0..1}.v.weight           muon   matrix  2 of [4, 12]
layers.{0..1}.o.weight           muon   matrix  6 of [12, 4]
layers.{0..1}.gate.weight        muon   matrix  [14, 12]
layers.1.up.weight               muon   matrix  [14, 12]
layers.{0..1}.down.weight        muon   matrix  [12, 14]
head.weight                      muon   head    [17, 12]      overruled
embed.weight                     adamw  table   [17, 12]
layers.0.up.weight               adamw  matrix  [14, 12]      overruled
layers.{0..1}.norm{1..2}.weight  adamw  gain
norm.weight                      adamw  gain"""


@pytest.mark.parametrize(
    "routes, message",
    [
        ({"nothing": "muon"}, "routes has 'nothing', which the optimizer was not given"),
        ({"head.weight": "sgd"}, "routes has the step 'sgd': it should be 'muon' or 'adamw'"),
        (
            {"norm.weight": "muon"},
            "routes has the step 'muon' for norm.weight, which has no logical matrices: its role is 'gain'",
        ),
        ({3: "muon"}, "routes has 3, which the optimizer was not given"),
        (["head.weight"], "routes is ['head.weight']: it should be a dict from names to 'muon' or 'adamw'"),
    ],
)
def test_a_route_that_is_none_is_refused(routes: Any, message: str) -> None:
    model, gauge, _ = build("llama")
    with pytest.raises((TypeError, ValueError)) as caught:
        made(model, gauge, routes=routes)
    assert str(caught.value) == message


def test_a_gauge_without_roles_is_refused() -> None:
    model, gauge, _ = without_roles("llama")
    with pytest.raises(ValueError, match="this gauge does not say which parameters are matrices: compile the model"):
        made(model, gauge)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"ns_steps": True}, "ns_steps is True: it should be a number of steps, 1 to 99"),
        ({"ns_coefficients": 5}, "ns_coefficients is 5: it should be three finite numbers"),
        ({"ns_coefficients": "abc"}, "ns_coefficients is 'abc': it should be three finite numbers"),
        ({"decay_gains": "no"}, "decay_gains is 'no': it should be True or False"),
        (
            {"ns_dtype": torch.float8_e4m3fn},
            "ns_dtype is torch.float8_e4m3fn: it should be None, torch.bfloat16, torch.float16, torch.float32 or "
            "torch.float64",
        ),
    ],
)
def test_wrong_settings_of_muon_are_refused(settings: dict[str, Any], message: str) -> None:
    model, gauge, _ = build("llama")
    with pytest.raises(ValueError) as caught:
        made(model, gauge, **settings)
    assert str(caught.value) == message


def test_what_is_no_gauge_is_refused() -> None:
    model, _, _ = build("llama")
    with pytest.raises(TypeError, match=r"gauge should be what gaugec\.compile or gaugec\.runtime\.load returns"):
        DDCMuon(model.named_parameters(), 3)  # type: ignore[arg-type]


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.module."])
def test_roles_are_found_behind_wrappers_names(prefix: str) -> None:
    """Where not all of the model's parameters are given, too; and in a gauge that was compiled of a wrapped model."""
    model, gauge, _ = build("llama")
    inside = {name.replace("layers.0.", "layers.0._checkpoint_wrapped_module."): r for name, r in gauge.roles.items()}
    wrapped: Gauge = type("Gauge", (Gauge,), {"roles": inside})(gauge.source)
    pairs = [(prefix + name, p) for name, p in model.named_parameters() if name != "embed.weight"]
    expected = {prefix + name: gauge.roles[name].role for name, _ in model.named_parameters() if name != "embed.weight"}
    for each in (gauge, wrapped):
        for name in ("head.weight", prefix + "head.weight"):
            rows = DDCMuon(pairs, each, routes={name: "muon"}).routing()
            assert {row.name: row.role for row in rows} == expected
            assert [row.name for row in rows if row.overruled] == [prefix + "head.weight"]


def test_matrices_of_another_shape_are_refused() -> None:
    """Of a parameter that no gauge moves: the others are checked when the gauge is bound."""
    model, gauge, _ = build("llama")
    model.embed.weight = nn.Parameter(torch.randn(40, 12, dtype=torch.float64))
    made(model, gauge)
    with pytest.raises(ValueError) as caught:
        made(model, gauge, routes={"embed.weight": "muon"})
    assert str(caught.value) == "embed.weight has the shape (40, 12), and was compiled as [17, 12]"


def test_a_parameter_that_comes_later_has_its_role() -> None:
    model, gauge, data = build("llama")
    later = ("layers.0.up.weight", "head.weight")
    pairs = [pair for pair in model.named_parameters() if pair[0] not in later]
    with pytest.warns(UserWarning, match="not given"):
        opt = DDCMuon(pairs, gauge)
    count, rows = len(opt.param_groups), str(opt.routing())
    other = [(name, model.get_parameter(name)) for name in later]
    for wrong in ([*other, ("norm.weight", model.norm.weight)], [*other, other[0]]):
        with pytest.raises(ValueError):
            opt.add_param_group({"params": wrong})
        assert len(opt.param_groups) == count and str(opt.routing()) == rows
    opt.add_param_group({"params": other})
    added = [(group["step"], *group["param_names"]) for group in opt.param_groups[count:]]
    assert added == [("muon", "layers.0.up.weight"), ("adamw", "head.weight")]
    before = model.layers[0].up.weight.detach().clone()
    train(model, opt, data, 1)
    values = torch.linalg.svdvals(model.layers[0].up.weight - before * (1 - 1e-3 * 0.1))
    assert values.min() > 0.5e-3 and values.max() < 1.5e-3
    other, again = copy.deepcopy((model, opt))
    assert torch.equal(train(model, opt, data, 2), train(other, again, data, 2))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_matrices_of_16_bits_that_no_gauge_moves(dtype: torch.dtype) -> None:
    model, gauge, data = build("llama")
    model.to(dtype)
    opt = made(model, gauge, routes={"embed.weight": "muon"})
    losses = train(model, opt, data, 4)
    assert torch.isfinite(losses).all()
    assert opt.state[model.embed.weight]["momentum_buffer"].dtype == dtype


@pytest.mark.parametrize("orbit", ORBITS)
def test_the_iteration_may_be_changed_in_a_run(orbit: str) -> None:
    model, gauge, data = build("llama")
    opt = made(model, gauge, orbit=orbit)
    train(model, opt, data, 2)
    other = copy.deepcopy(model)
    again = made(other, gauge, orbit=orbit)
    again.load_state_dict(opt.state_dict())
    for group in (*opt.param_groups, *again.param_groups):
        group["ns_steps"] = 2
    one, two = train(model, opt, data, 2), train(other, again, data, 2)  # this one never knew five
    assert torch.equal(one, two)


def test_the_step_of_a_group_stays() -> None:
    model, gauge, data = build("llama")
    opt = made(model, gauge)
    as_adamw = made(model, gauge, routes=dict.fromkeys(dict(model.named_parameters()), "adamw"), decay_gains=True)
    with pytest.raises(ValueError, match="take other steps than the optimizer's: group 0 has the step 'muon'"):
        opt.load_state_dict(as_adamw.state_dict())
    opt.param_groups[1]["step"] = "muon"
    with pytest.raises(RuntimeError, match="group 1 has the step 'muon' now, and had 'adamw' when it was added"):
        train(model, opt, data, 1)


def test_groups_are_divided() -> None:
    model, gauge, _ = build("llama")
    pairs = dict(model.named_parameters())
    first = {name: pairs.pop(name) for name in ("layers.0.q.weight", "layers.0.norm1.weight", "head.weight")}
    head = [("embed.weight", pairs.pop("embed.weight"))]
    alone = [("norm.weight", pairs.pop("norm.weight"))]
    plain = [("layers.1.q.weight", pairs.pop("layers.1.q.weight"))]
    groups = [
        {"params": list(first.items()), "lr": 1e-3, "adamw_lr": 1e-4},
        {"params": list(pairs.items()), "decay_gains": True, "weight_decay": 0.0},
        {"params": head, "step": "muon", "lr": 5e-4},
        {"params": alone, "step": "adamw", "adamw_lr": 7e-5},
        {"params": plain, "weight_decay": 0.0},
    ]
    opt = DDCMuon(groups, gauge, lr=2e-2, weight_decay=0.3, adamw_weight_decay=0.2)
    shown = [(g["step"], g["lr"], g["weight_decay"], len(g["params"])) for g in opt.param_groups]
    assert shown == [
        ("muon", 1e-3, 0.3, 1),
        ("adamw", 1e-4, 0.2, 1),
        ("adamw", 1e-4, 0.0, 1),
        ("muon", 2e-2, 0.0, 12),
        ("adamw", 3e-4, 0.0, 3),
        ("muon", 5e-4, 0.3, 1),
        ("adamw", 7e-5, 0.2, 1),
        ("muon", 2e-2, 0.0, 1),
    ]
    with pytest.raises(ValueError, match="step of group 8 is 'sgd': it should be 'muon' or 'adamw'"):
        opt.add_param_group({"params": [("more", nn.Parameter(torch.zeros(2)))], "step": "sgd"})


def test_one_scheduler_serves_both() -> None:
    model, gauge, data = build("llama")
    opt = made(model, gauge)
    schedule = torch.optim.lr_scheduler.LambdaLR(opt, lambda step: 0.5**step)
    train(model, opt, data, 1)
    schedule.step()
    assert [group["lr"] for group in opt.param_groups] == [1e-2, 1.5e-3, 1.5e-3]


@pytest.mark.parametrize("orbit", ORBITS)
def test_resuming_muon_is_exact(orbit: str) -> None:
    """In the middle of an interval, in float32, and with other groups than by default."""
    model, gauge, data = build("llama")
    model.float()
    opt = made(model, gauge, orbit=orbit, routes={"head.weight": "muon"})
    train(model, opt, data, 4)
    file = io.BytesIO()
    torch.save((model.state_dict(), opt.state_dict()), file)
    one = train(model, opt, lambda step: data(step + 4), 6)
    file.seek(0)
    weights, state = torch.load(file, weights_only=True)
    other = copy.deepcopy(model)
    other.load_state_dict(weights)
    again = made(other, gauge, orbit=orbit, routes={"head.weight": "muon"})
    again.load_state_dict(state)
    assert torch.equal(one, train(other, again, lambda step: data(step + 4), 6))
    elsewhere = made(copy.deepcopy(model), gauge, orbit=orbit)
    with pytest.raises(ValueError, match=r"head\.weight is in group 1, was in 0"):
        elsewhere.load_state_dict(state)


def test_copies_of_muon_go_on_alike() -> None:
    model, gauge, data = build("llama")
    opt = made(model, gauge)
    train(model, opt, data, 3)
    other, again = copy.deepcopy((model, opt))
    assert str(again.routing()) == str(opt.routing())
    one, two = (train(m, o, lambda step: data(step + 3), 5) for m, o in ((model, opt), (other, again)))
    assert torch.equal(one, two)


def test_clipping_maximizing_and_frozen_parameters() -> None:
    gauge, data, models = copies("llama")
    losses = []
    for model in models:
        for name in ("layers.0.norm1.weight", "layers.1.o.weight"):
            model.get_parameter(name).requires_grad_(False)
        with pytest.warns(UserWarning, match="gauges are off"):
            opt = made(model, gauge, maximize=True, lr=1e-3, weight_decay=0.0)
        run = []
        for _ in range(8):
            opt.zero_grad()
            loss = model(*data(0))
            loss.backward()
            opt.clip_grad_norm_(0.1)
            opt.step()
            run.append(loss.detach())
        losses.append(torch.stack(run))
    assert losses[0][-1] > losses[0][0]
    assert torch.isfinite(losses[0]).all()
