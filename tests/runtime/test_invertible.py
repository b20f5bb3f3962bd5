"""The whole basis of a head: its polar frame, and training from θ and from gθ with elements far from rotations."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from architectures.rows import build
from architectures.training import Double
from architectures.training import apart as trained_apart
from match.models import counts, llama, spec_file
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

import gaugec
from gaugec.errors import GaugeError
from gaugec.runtime import DDCSGD, DDCAdamW, DDCMuon, Gauge, polar
from gaugec.runtime.telemetry import conditions, drift, vertical_part
from runtime import handmade

LLAMA = """architecture basis:
    "A Llama with the whole basis of its values."
    use norm_gain from norms
    use swiglu_rescale from mlp
    use value_basis, qk_rotation_rope from attention
    use logit_shift from head
"""
SHORT = """architecture short:
    "What is moved beside the values."
    use norm_gain from norms
    use value_basis from attention
"""
GPT2 = """architecture basis:
    "A GPT-2 with the whole bases of its heads."
    use norm_gain from norms optional
    use value_basis, qk_basis from attention
"""
EVERYTHING = """architecture everything:
    "Bases beside what else there is."
    use norm_gain from norms optional
    use layer_scale from gates optional
    use value_basis, qk_basis from attention optional
"""
Pair = tuple[nn.Module, nn.Module, Any]


def eye(x: Tensor) -> Tensor:
    return torch.eye(x.shape[-1], dtype=torch.float64).expand_as(x)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Any]:
    model, args, kwargs = llama(num_hidden_layers=1)
    spec = spec_file(tmp_path_factory.mktemp("basis"), LLAMA, "basis")
    return model.double(), gaugec.compile(spec, model, args, kwargs, loss="cross_entropy")


@pytest.fixture
def pair(compiled: tuple[nn.Module, Any]) -> Pair:
    """A Llama, a copy of it that is moved by a random element, and that element."""
    model, gauge = compiled
    element = gauge.random_element(torch.Generator().manual_seed(1))
    one = copy.deepcopy(model)
    return one, handmade.moved(one, gauge, element), element


def data(step: int) -> Tensor:
    return torch.randint(3, 23, (3, 7), generator=torch.Generator().manual_seed(step))


def trained(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> Tensor:
    losses = []
    for step in steps:
        optimizer.zero_grad()
        with Double():
            logits = model(input_ids=data(step), use_cache=False).logits
            loss = nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), data(step)[:, 1:].flatten())
            loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses)


def apart(pair: Pair, gauge: Gauge, make: Callable[[nn.Module], torch.optim.Optimizer], steps: int) -> float:
    """The largest relative difference of losses, and of end points, of training a model and its moved copy."""
    one, two, element = pair
    first, second = (trained(each, make(each), range(steps)) for each in (one, two))
    assert first[-1] < first[0] - 1e-3
    end = gauge.act({name: p.detach() for name, p in one.named_parameters()}, element)
    ends = [float((end[name] - p.detach()).norm() / p.detach().norm()) for name, p in two.named_parameters()]
    return max(float(((first - second) / first).abs().max()), *ends)


# --- the frame


def test_a_polar_frame_balances_and_turns_into_a_rotation_of_itself() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y, bias = (torch.randn(2, 3, 5, n, generator=generator, dtype=torch.float64) for n in (7, 9, 1))
    t = torch.randn(2, 3, 5, 5, generator=generator, dtype=torch.float64)
    rows = [(x, False), (bias, False), (y, True)]
    frame, inverse, live = polar.balanced(rows, None, 1e12)
    assert live.shape == (2, 3, 1) and live.all()
    assert torch.allclose(frame @ inverse, eye(frame), atol=1e-12)
    gram = frame @ (x @ x.mT + bias @ bias.mT) @ frame.mT
    assert torch.allclose(gram, inverse.mT @ y @ y.mT @ inverse, rtol=1e-12, atol=1e-12)
    other = [(t @ x, False), (t @ bias, False), (torch.linalg.inv(t).mT @ y, True)]
    turn = polar.balanced(other, None, 1e12)[0] @ t @ inverse
    assert torch.allclose(turn @ turn.mT, eye(turn), atol=1e-11)
    again, _, _ = polar.balanced([(1.3 * x, False), (bias, False), (y, True)], frame, 1e12)
    other[0] = (1.3 * t @ x, False)
    later, _, _ = polar.balanced(other, turn @ frame @ torch.linalg.inv(t), 1e12)
    assert torch.allclose(later @ t, turn @ again, atol=1e-10), "the rotation that is left has changed"


@pytest.mark.parametrize("number", [0.0, torch.nan, torch.inf])
def test_a_copy_without_a_frame_stands_by_itself(number: float) -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(1, 4, 5, n, generator=generator, dtype=torch.float64) for n in (7, 9))
    whole, _, _ = polar.balanced([(x, False), (y, True)], None, 1e12)
    y[:, 1] = number
    x[:, 2, 4] = x[:, 2, 3]
    frame, _, live = polar.balanced([(x, False), (y, True)], None, 1e12)
    assert live.flatten().tolist() == [True, False, False, True]
    assert torch.equal(frame[:, [0, 3]].round(decimals=12), whole[:, [0, 3]].round(decimals=12))


def test_the_normal_equations_of_a_basis_are_solved() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(2, 3, 5, n, generator=generator, dtype=torch.float64) for n in (7, 9))
    a = torch.randn(2, 3, 5, 5, generator=generator, dtype=torch.float64)
    p, q = x @ x.mT, y @ y.mT
    assert torch.allclose(polar.solve(polar.factor(torch.stack([p, q], 2)), a @ p + q @ a), a, atol=1e-10)


# --- training


@pytest.mark.parametrize(
    ("orbit", "every", "rule", "steps"),
    [
        ("pinned", 1, DDCAdamW, 100),
        ("pinned", 10, DDCAdamW, 100),
        ("pinned", 1, DDCMuon, 40),
        ("pinned", 10, DDCMuon, 100),
        ("pinned", 10, DDCSGD, 100),
        ("horizontal", 1, DDCAdamW, 40),
        ("horizontal", 10, DDCAdamW, 100),
        ("horizontal", 1, DDCMuon, 20),
        ("horizontal", 10, DDCMuon, 40),
    ],
)
def test_two_runs_stay_copies(
    pair: Pair, compiled: tuple[nn.Module, Any], orbit: str, every: int, rule: Any, steps: int
) -> None:
    gauge = compiled[1]
    lr = 0.1 if rule is DDCSGD else 3e-3

    def make(model: nn.Module) -> torch.optim.Optimizer:
        made: torch.optim.Optimizer = rule(
            model.named_parameters(), gauge, lr=lr, weight_decay=0.1, frame_every=every, orbit=orbit
        )
        return made

    assert apart(pair, gauge, make, steps) <= 1e-11


def test_two_compiled_runs_stay_copies(compiled: tuple[nn.Module, Any], tmp_path: Path) -> None:
    model, args, kwargs = llama(num_hidden_layers=1)
    gauge = gaugec.compile(spec_file(tmp_path, SHORT, "short"), model, args, kwargs, loss="cross_entropy")
    element = gauge.random_element(torch.Generator().manual_seed(1))
    pair = (model.double(), handmade.moved(model, gauge, element), element)

    def make(model: nn.Module) -> torch.optim.Optimizer:
        return DDCAdamW(model.named_parameters(), gauge, lr=3e-3, weight_decay=0.1, frame_every=3, compile=True)

    eager = copy.deepcopy(pair[0])
    assert apart(pair, gauge, make, 12) <= 1e-10
    trained(eager, DDCAdamW(eager.named_parameters(), gauge, lr=3e-3, weight_decay=0.1, frame_every=3), range(12))
    for p, q in zip(eager.parameters(), pair[0].parameters(), strict=True):
        assert torch.allclose(p, q, rtol=1e-10, atol=1e-12)


def test_a_run_goes_on_from_its_state(compiled: tuple[nn.Module, Any]) -> None:
    model, gauge = compiled
    for orbit in ("pinned", "horizontal"):
        one = copy.deepcopy(model)
        first = DDCAdamW(one.named_parameters(), gauge, lr=3e-3, frame_every=3, orbit=orbit)
        trained(one, first, range(5))
        two = copy.deepcopy(one)
        second = DDCAdamW(two.named_parameters(), gauge, lr=3e-3, frame_every=3, orbit=orbit)
        saved = copy.deepcopy(first.state_dict())
        second.load_state_dict(saved)
        trained(one, first, range(5, 12))
        trained(two, second, range(5, 12))
        for p, q in zip(one.parameters(), two.parameters(), strict=True):
            assert torch.equal(p, q)
        (place,) = [entry["gauge"] for entry in saved["state"].values() if "value_basis" in entry.get("gauge", {})]
        place["value_basis"]["scale"][1] = 0.0
        with pytest.raises(ValueError, match=r"0\.0\.value_basis has matrices with entries, or those of"):
            second.load_state_dict(saved)


def test_the_state_of_adamw_is_taken_over(pair: Pair, compiled: tuple[nn.Module, Any]) -> None:
    """Second moments by squares of the matrices: none is negative, and both runs go the same way in the beginning."""
    one, gauge = pair[0], compiled[1]
    plain = torch.optim.AdamW(one.named_parameters(), lr=1e-3)
    trained(one, plain, range(3))
    optimizer = DDCAdamW(one.named_parameters(), gauge, lr=1e-3)
    optimizer.load_state_dict(plain.state_dict())
    trained(one, optimizer, range(3, 6))
    assert all((entry["exp_avg_sq"] >= 0).all() and "step" in entry for entry in optimizer.state.values())


def test_a_horizontal_step_has_no_vertical_part(pair: Pair, compiled: tuple[nn.Module, Any]) -> None:
    gauge = compiled[1]
    for orbit, least, most in (("horizontal", 0.0, 1e-10), ("pinned", 1e-4, 1.0)):
        model = copy.deepcopy(pair[1])
        optimizer = DDCAdamW(model.named_parameters(), gauge, lr=3e-3, weight_decay=0.1, orbit=orbit)
        trained(model, optimizer, range(3))
        before = {name: p.detach().clone() for name, p in optimizer.named.items()}
        trained(model, optimizer, range(3, 4))
        assert least <= vertical_part(optimizer, before) <= most


def test_pins_bring_a_basis_back(compiled: tuple[nn.Module, Any]) -> None:
    """Where every step is pinned a head stays balanced in the coordinates that it began in; else it drifts."""
    model, gauge = compiled
    drifted = []
    for every in (1, 1000):
        one = copy.deepcopy(model)
        optimizer = DDCAdamW(one.named_parameters(), gauge, lr=1e-2, frame_every=every)
        trained(one, optimizer, range(21))
        optimizer.zero_grad(set_to_none=False)
        for group in optimizer.param_groups:
            group["lr"], group["weight_decay"] = 0.0, 0.0
        optimizer.step()  # a pin alone
        moved = drift(gauge, dict(model.named_parameters()), dict(one.named_parameters()))
        drifted.append(next(x for name, x in moved.items() if name.startswith("value_basis")))
    assert drifted[0] < drifted[1]


@pytest.mark.parametrize("orbit", ["pinned", "horizontal"])
def test_heads_that_begin_with_nothing(compiled: tuple[nn.Module, Any], orbit: str) -> None:
    """An output projection of zeros, and a head of two equal rows: said, stepped as they are, and alive later."""
    model, gauge = copy.deepcopy(compiled[0]), compiled[1]
    attention = model.model.layers[0].self_attn
    with torch.no_grad():
        attention.o_proj.weight.zero_()
    with pytest.warns(UserWarning, match=r"heads that are singular.*0\.0\.value_basis: 2 in .*o_proj\.weight"):
        optimizer = DDCAdamW(model.named_parameters(), gauge, lr=3e-3, frame_every=2, orbit=orbit)
    losses = trained(model, optimizer, range(20))
    assert losses.isfinite().all() and losses[-1] < losses[0]
    assert optimizer.frames["0.0"].live["value_basis"].all()
    assert max(conditions(gauge, dict(model.named_parameters())).values()) < 1e6


# --- models up to their gauges


def test_models_up_to_their_bases(pair: Pair, compiled: tuple[nn.Module, Any]) -> None:
    gauge, (one, two, _) = compiled[1], pair
    assert gauge.distance(one, two).relative <= 1e-12
    third = copy.deepcopy(one)
    with torch.no_grad():
        for p in third.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(2)))
    assert float(gauge.distance(one, third)) > 0.1
    assert abs(float(gauge.distance(one, third)) - float(gauge.distance(two, third))) <= 1e-10
    done = gauge.canonicalize_(two)
    (title,) = [name for name in done.scaled if name.startswith("value_basis")]
    assert done.scaled[title] > 1.5 and not done.formless
    assert gauge.canonicalize_(two).scaled[title] == pytest.approx(1.0, abs=1e-12)
    with Double():
        logits = [each(input_ids=data(0), use_cache=False).logits.log_softmax(-1) for each in (one, two)]
    assert torch.allclose(*logits, rtol=1e-9, atol=1e-10)
    assert gauge.distance(one, two).relative <= 1e-12
    assert max(drift(gauge, one, one).values()) <= 1e-12
    moved = {name: x for name, x in drift(gauge, one, pair[1]).items() if name.startswith("value_basis")}
    assert min(moved.values()) > 0.1


# --- compiling


def test_the_larger_of_two_groups_is_kept(tmp_path: Path) -> None:
    model, args, kwargs = llama()
    text = LLAMA.replace("value_basis", "value_rotation, value_basis")
    both = gaugec.compile(spec_file(tmp_path, text, "basis"), model, args, kwargs, loss="cross_entropy")
    assert counts(both)["value_basis"] == 2 and "value_rotation" not in counts(both)


def test_bases_of_every_layer_of_a_gpt2(tmp_path: Path) -> None:
    import transformers

    heads, size, layers = 3, 4, 2
    config = transformers.GPT2Config(
        n_embd=12, n_head=heads, n_layer=layers, n_inner=17, vocab_size=23, n_positions=16,
        attn_pdrop=0.0, resid_pdrop=0.0, embd_pdrop=0.0,
    )  # fmt: skip
    model = transformers.GPT2LMHeadModel(config).double()
    inputs = {"input_ids": data(0), "use_cache": False}
    compiled = gaugec.compile(spec_file(tmp_path, GPT2, "basis"), model, (), inputs)
    assert counts(compiled)["value_basis"] == counts(compiled)["qk_basis"] == layers
    for key, component, names in compiled.places():
        params = {slot: dict(model.named_parameters())[n].detach()[None] for slot, n in zip(component.shapes, names)}
        found = component.tangents(params)
        matrix = torch.cat([x.flatten(1) for x in found.values()], 1)
        bases = [gauge for gauge in component.gauges if gauge.kind == "matrix"]
        count = sum(gauge.copies * gauge.size**2 for gauge in bases)
        assert not bases or count == 2 * heads * size**2, key
        assert torch.linalg.matrix_rank(matrix) == len(matrix), key


def test_what_is_narrower_than_its_basis_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "narrow.gauge"
    path.write_text(
        'gauge narrow(n, d, e, k):\n    "Two maps."\n    given x[n, d]\n    param A[k, d], B[e, k]\n'
        "    model y = x @ A.T @ B.T\n    for every T in invertible(k):\n        A -> T @ A\n        B -> B @ inv(T)\n"
        "    keeps y\n",
        encoding="utf-8",
    )
    model = nn.Sequential(nn.Linear(7, 5, bias=False), nn.Linear(5, 4, bias=False))
    with pytest.raises(GaugeError, match="B cannot be balanced: they have 4 numbers in every"):
        gaugec.compile(path, model, (torch.randn(3, 7),))


def test_a_shift_takes_one_number_of_every_direction() -> None:
    """A head as wide as the model: without the mean that a LayerNorm forgets, its output weight has no basis."""
    sizes = {"n_embd": 4, "n_layer": 1, "n_head": 1, "n_inner": 3, "vocab_size": 9, "n_positions": 6}
    model = GPT2LMHeadModel(GPT2Config(**sizes, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, use_cache=False))
    with pytest.raises(GaugeError, match="cannot be balanced, beside reader_shift_bias: they have 3 numbers in every"):
        gaugec.compile("gpt2_full", model, (torch.arange(5)[None],), loss="cross_entropy")


@pytest.mark.parametrize(
    ("name", "sites"),
    [
        ("dinov2", {"value_basis": 2, "qk_basis": 2, "layer_scale": 4, "norm_gain": 5}),  # a scale that reads the basis
        ("lora_llama", {"value_basis": 14, "norm_gain": 5}),  # two low-rank factors on a frozen base
    ],
)
def test_bases_in_other_models(name: str, sites: dict[str, int], tmp_path: Path) -> None:
    case = build(name)
    found = case.compiled(spec_file(tmp_path, EVERYTHING, "everything"))
    assert counts(found) == sites
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "[0-9]+ gauges are off", UserWarning)  # of the frozen base
        assert trained_apart(found, case) <= 1e-12
