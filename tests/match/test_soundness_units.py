"""Networks in which a unit's scale is no symmetry: refused, or compiled with the real model's function unchanged.

`outcome` compiles with every gauge optional, moves the real model's parameters by a random element in float64, and
compares what it returns in train and eval mode.  What is truly broken has no site at all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from match.models import BATCH, OUT, UNITS, WIDTH, Net, audit, counts, difference, mlp, outcome
from seeds import set_seed
from thinned import thinned
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

import gaugec

pytestmark = pytest.mark.usefixtures("double")
Build = Callable[[], nn.Module]
relu = torch.relu


def x(*shape: int) -> tuple[Tensor, ...]:
    set_seed(4)
    return (torch.randn(shape or (BATCH, WIDTH)),)


def no_scale(spec: str, build: Build, args: tuple[Any, ...] | None = None, loss: str | None = None) -> Any:
    set_seed(2)
    made = outcome(spec, build(), args or x(), loss)
    assert isinstance(made, gaugec.MatchError) or not counts(made)["relu_rescale"], made.report()
    return made


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "relu6": F.relu6,
    "tanh": torch.tanh,
    "squared relu": lambda h: relu(h) ** 2,
    "relu times relu": lambda h: relu(h).square(),
    "silu": F.silu,
    "elu": F.elu,
    "softplus": F.softplus,
    "hardtanh": F.hardtanh,
    "clamp at 0.1": lambda h: h.clamp(min=0.1),
    "threshold at 0.2": lambda h: F.threshold(h, 0.2, 0.0),
    "gated by itself": lambda h: relu(h) * torch.sigmoid(h),
    "rounded": lambda h: relu(h).round(),
    "cast to integers and back": lambda h: relu(h).long().double(),
    "bits read as integers": lambda h: relu(h).view(torch.int64).double(),
    "cast to fp8 and back": lambda h: relu(h).to(torch.float8_e4m3fn).double(),
    "a constant added after": lambda h: relu(h) + 1,
    "a constant added before": lambda h: relu(h + 1),
    "noise added": lambda h: relu(h) + torch.randn_like(h),
    "drawn from it": lambda h: relu(h) * torch.bernoulli(torch.sigmoid(h)),
    "over the largest unit": lambda h: relu(h) / (1 + relu(h).amax(-1, keepdim=True)),
    "over its norm": lambda h: F.normalize(relu(h), dim=-1),
    "softmax": lambda h: relu(h).softmax(-1),
    "layer norm": lambda h: F.layer_norm(relu(h), (UNITS,)),
    "sorted units": lambda h: relu(h).sort(-1)[0],
    "cumulated units": lambda h: relu(h).cumsum(-1),
    "chosen by its sign and size": lambda h: torch.where(h > 0.5, h, torch.zeros_like(h)),
}


@pytest.mark.parametrize("name", thinned(ACTIVATIONS, 3))
def test_activations_that_bend(name: str, spec: str) -> None:
    no_scale(spec, lambda: mlp(act=ACTIVATIONS[name]))


PERMUTATION = torch.randperm(UNITS, generator=torch.Generator().manual_seed(1))
BETWEEN: dict[str, Callable[[], tuple[Callable[..., Tensor], dict[str, Any]]]] = {
    "flipped": lambda: (lambda m, h: h.flip(-1), {}),
    "rolled flat": lambda: (lambda m, h: h.roll(1), {}),
    "permuted by an index": lambda: (lambda m, h: h[:, PERMUTATION], {}),
    "permuted by index_select": lambda: (lambda m, h: h.index_select(-1, PERMUTATION), {}),
    "viewed across the batch": lambda: (lambda m, h: h.reshape(UNITS, -1).t(), {}),
    "transposed and viewed": lambda: (lambda m, h: h.t().reshape(-1, UNITS), {}),
    "every second unit": lambda: (lambda m, h: h[:, ::2], dict(readers=UNITS // 2)),
    "halves added": lambda: (lambda m, h: h[:, :7] + h[:, 7:], dict(readers=7)),
    "halves multiplied": lambda: (lambda m, h: h[:, :7] * h[:, 7:], dict(readers=7)),
    "h @ h.T": lambda: (lambda m, h: h @ h.T, dict(readers=BATCH)),
    "h @ h.T @ h": lambda: (lambda m, h: h @ h.T @ h, {}),
    "a buffer added": lambda: (lambda m, h: h + m.c, dict(c=torch.randn(UNITS))),
    "an input added": lambda: (lambda m, h: h + torch.ones(UNITS), {}),
    "a unit overwritten": lambda: (lambda m, h: (h.__setitem__((slice(None), 0), 1.0), h)[1], {}),
    "added to in place": lambda: (lambda m, h: h.add_(1.0), {}),
    "one unit added to in place": lambda: (lambda m, h: (h[:, 0].add_(1.0), h)[1], {}),
    "written to a buffer": lambda: (lambda m, h: (m.c.copy_(h.mean(0)), h)[1], dict(c=torch.zeros(UNITS))),
    "averaged in a buffer": lambda: (lambda m, h: (m.c.mul_(0.9).add_(h.mean(0)), h)[1], dict(c=torch.zeros(UNITS))),
    "one layer twice": lambda: (lambda m, h: relu(m.sq(relu(m.sq(h)))), dict(sq=nn.Linear(UNITS, UNITS))),
    "two readers and a sum": lambda: (lambda m, h: h + h.sum(-1, keepdim=True), {}),
    "batch norm": lambda: (lambda m, h: relu(m.bn(h)), dict(bn=nn.BatchNorm1d(UNITS))),
}  # fmt: skip


@pytest.mark.parametrize("name", thinned(BETWEEN, 2))
def test_units_that_are_mixed_or_moved(name: str, spec: str) -> None:
    def build() -> nn.Module:
        run, parts = BETWEEN[name]()
        return mlp(run, **parts)

    no_scale(spec, build)


AFTER: dict[str, Callable[..., Any]] = {
    "the hidden state returned": lambda m, y, h: (y, h),
    "its sum returned": lambda m, y, h: (y, h.sum()),
    "its indices returned": lambda m, y, h: (y, h.argmax(-1)),
    "its mean in the loss": lambda m, y, h: y.square().mean() + h.abs().mean(),
    "a weight penalty in the loss": lambda m, y, h: y.square().mean() + m.up.weight.square().sum(),
    "a reader's penalty in the loss": lambda m, y, h: y.square().mean() + 0.1 * m.down.weight.square().sum(),
    "an orthogonality penalty": lambda m, y, h: y.sum() + (m.up.weight.T @ m.up.weight).diagonal().square().sum(),
    "a weight returned": lambda m, y, h: (y, m.up.weight),
    "a transposed weight returned": lambda m, y, h: (y, m.down.weight.T),
    "a bias returned": lambda m, y, h: (y, m.up.bias),
    "a weight used elsewhere": lambda m, y, h: y + m.up(torch.ones(WIDTH)).sum(),
    "a reader used elsewhere": lambda m, y, h: y + m.down(torch.ones(UNITS)),
    "drawn from the hidden state": lambda m, y, h: y * torch.bernoulli(torch.sigmoid(h.sum(-1, keepdim=True) - 3)),
    "a number from the hidden state": lambda m, y, h: y * h.max().item(),
    "a number from a weight": lambda m, y, h: y * m.up.weight.norm().item(),
}


@pytest.mark.parametrize("name", thinned(AFTER, 2))
def test_values_and_weights_that_are_used_elsewhere(name: str, spec: str) -> None:
    no_scale(spec, lambda: mlp(after=AFTER[name]))


def changed(change: Callable[[Any], Any]) -> Net:
    model = mlp()
    change(model)
    return model


def share_storage(m: Any) -> None:
    m.other = nn.Linear(WIDTH, UNITS)
    m.other.weight.data = m.up.weight.data
    m.run = lambda m, x: m.down(relu(m.up(x))) + m.other(x).sum(-1, keepdim=True)


def keep_in_buffer(m: Any) -> None:
    m.register_buffer("kept", m.up.weight.data[:3])
    m.run = lambda m, x: m.down(relu(m.up(x))) + (x @ m.kept.T).sum(-1, keepdim=True)


def keep_in_attribute(m: Any) -> None:
    m.kept = m.up.weight.data
    m.run = lambda m, x: m.down(relu(m.up(x))) + (x @ m.kept.T).sum(-1, keepdim=True)


def keep_in_closure(m: Any) -> None:
    kept = m.up.weight
    m.run = lambda m, x: m.down(relu(m.up(x))) + (x @ kept.T).sum(-1, keepdim=True)


def tie(m: Any) -> None:
    m.run = lambda m, x: F.linear(relu(m.up(x)), m.up.weight.T)


def reuse_both(m: Any) -> None:
    m.down = nn.Linear(UNITS, WIDTH)
    m.run = lambda m, x: m.down(relu(m.up(m.down(relu(m.up(x))).sin())))


SHARED: dict[str, Callable[[Any], Any]] = {
    "weight norm after": lambda m: parametrizations.weight_norm(m.down),
    "an orthogonal reader": lambda m: parametrizations.orthogonal(m.down),
    "two parameters in one storage": share_storage,
    "a buffer in the weight's storage": keep_in_buffer,
    "an attribute in the weight's storage": keep_in_attribute,
    "a weight in a closure": keep_in_closure,
    "writer and reader tied": tie,
    "a forward hook": lambda m: m.up.register_forward_hook(lambda module, i, o: o + 1.0),
}


@pytest.mark.parametrize("name", thinned(SHARED, 2))
def test_weights_with_two_lives(name: str, spec: str) -> None:
    no_scale(spec, lambda: changed(SHARED[name]))


def test_both_layers_used_twice(spec: str) -> None:
    """Every use lies inside: one element scales both calls.  Refusing it is allowed, a wrong site is not."""
    outcome(spec, changed(reuse_both), x())


def test_the_refusal_names_what_is_in_the_way(spec: str) -> None:
    made = outcome(spec, mlp(after=AFTER["the hidden state returned"]), x())
    refusal = next(r for r in made.refusals if r.gauge == "relu_rescale" and r.parameter.startswith("up.weight"))
    assert refusal.near and refusal.outputs and set(refusal.parameters) == {"up.weight", "up.bias", "down.weight"}
    assert str(refusal).endswith("with up.bias, down.weight: the moved value is an output of the model at aten.relu")
    made = outcome(spec, mlp(act=F.gelu), x())
    assert any("gelu has no law that lets a positive scale through" in str(r) for r in made.refusals)
    made = outcome(spec, mlp(lambda m, h: h + 1.0), x())
    assert any("the constant 1 is added to the moved value" in str(r) for r in made.refusals)
    made = outcome(spec, changed(keep_in_buffer), x())
    assert "up.weight: its storage is shared with kept" in made.report()


# --- sizes that agree


def square(between: Callable[[Tensor], Tensor]) -> Build:
    return lambda: mlp(lambda m, h: between(h), units=BATCH, width=BATCH)


@pytest.mark.parametrize(
    "between",
    [lambda h: h.T, lambda h: h @ h, lambda h: h.T.reshape(6, 6).flip(0)],
    ids=["h.T", "h @ h", "h.T flipped"],
)
def test_a_transpose_too_many_where_all_sizes_agree(between: Callable[[Tensor], Tensor], spec: str) -> None:
    no_scale(spec, square(between), x(BATCH, BATCH))


def test_all_sizes_equal_is_no_obstacle(spec: str) -> None:
    assert counts(audit(spec, square(lambda h: h)(), x(BATCH, BATCH)))["relu_rescale"] == 1


@pytest.mark.parametrize("axes", [(0, 2), (1, 2)])
def test_units_exchanged_with_batch_or_tokens(axes: tuple[int, int], spec: str) -> None:
    def run(m: Any, x: Tensor) -> Tensor:
        return m.down(relu(m.up(x)).transpose(*axes))

    no_scale(spec, lambda: Net(run, up=nn.Linear(5, 5), down=nn.Linear(5, 4)), x(5, 5, 5))


# --- the trace must not hide anything


def cut(h: Tensor) -> Tensor:
    with torch.no_grad():
        return relu(h)


class Backwards(torch.autograd.Function):
    """A ReLU whose gradient is another function's."""

    @staticmethod
    def forward(ctx: Any, h: Tensor) -> Tensor:
        return relu(h)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.sign()


def hooked(h: Tensor) -> Tensor:
    h.register_hook(torch.sign)
    return relu(h)


@pytest.mark.parametrize(
    "act", [lambda h: relu(h).detach(), lambda h: h * relu(h).detach(), cut, torch.no_grad()(relu)],
    ids=["detach", "detached gate", "no_grad", "no_grad function"],
)  # fmt: skip
def test_a_cut_gradient_is_refused_as_such(act: Callable[[Tensor], Tensor], spec: str) -> None:
    compiled = gaugec.compile(spec, mlp(act=act), x())
    assert not compiled.sites
    assert any("the gradient of the moved value is cut" in refusal.reason for refusal in compiled.refusals)


@pytest.mark.parametrize("act", [Backwards.apply, hooked], ids=["autograd.Function", "tensor hook"])
def test_a_gradient_of_another_function(act: Callable[[Tensor], Tensor], spec: str) -> None:
    no_scale(spec, lambda: mlp(act=act))


LENGTHS: dict[str, Callable[[Tensor], Tensor]] = {
    "a branch": lambda h: h if h.shape[1] < 9 else h + 1,
    "a branch on the batch": lambda h: h if h.shape[0] < 4 else h + 1,
    "a slice": lambda h: torch.cat([h[..., h.shape[1] - 7 :], h[..., : h.shape[1] - 7]], -1),
    "a roll": lambda h: h.roll(h.shape[1] - 7, -1),
    "a constant": lambda h: h + (h.shape[1] - 7),
    "an exponent": lambda h: h ** (h.shape[1] - 6),
}


@pytest.mark.parametrize("name", thinned(LENGTHS, 2))
def test_a_forward_that_depends_on_the_length(name: str, spec: str) -> None:
    """Traced at length 7 every one of them is the identity."""
    no_scale(spec, lambda: mlp(lambda m, h: LENGTHS[name](h)), x(3, 7, WIDTH))


def test_a_branch_on_the_length_says_so(spec: str) -> None:
    with pytest.raises(gaugec.MatchError, match="the model's graph depends on the shape of its input"):
        gaugec.compile(spec, mlp(lambda m, h: LENGTHS["a branch"](h)), x(3, 7, WIDTH))


def test_a_hidden_state_left_on_the_module(spec: str) -> None:
    """`self.last = h` is an output too: a training loop may read it."""

    def keep(m: Any, h: Tensor) -> Tensor:
        m.last = h
        return h

    no_scale(spec, lambda: mlp(keep))


def test_a_parameter_written_by_the_forward(spec: str) -> None:
    def run(m: Any, x: Tensor) -> Tensor:
        with torch.no_grad():
            m.up.weight.mul_(0.9)
        return m.down(relu(m.up(x)))

    def written(m: Any) -> None:
        m.run = run

    no_scale(spec, lambda: changed(written))


# --- odd, and sound


def test_frozen_parameters_compile(spec: str) -> None:
    frozen = changed(lambda m: m.up.requires_grad_(False))
    assert counts(audit(spec, frozen, x()))["relu_rescale"] == 1
    assert not frozen.up.weight.requires_grad


def test_a_parameter_in_another_layout(spec: str) -> None:
    """A weight that is stored transposed is moved by its indices, not by its memory."""

    def transpose(m: Any) -> None:
        m.up.weight = nn.Parameter(torch.randn(WIDTH, UNITS).T)

    assert counts(audit(spec, changed(transpose), x()))["relu_rescale"] == 1


def test_the_model_is_left_as_it_was(spec: str) -> None:
    model = mlp(bn=nn.BatchNorm1d(OUT), after=lambda m, y, h: m.bn(y)).eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    compiled = gaugec.compile(spec, model, x())
    assert not any(module.training for module in model.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert difference(model, x(), compiled) <= 1e-9


def test_an_output_with_huge_constants_does_not_blind_the_witness(spec: str) -> None:
    """Padded vocabularies have logits of -1e9: the sites are as good as without."""
    padded = mlp(after=lambda m, y, h: torch.cat([y, torch.full((y.shape[0], 1), -1e9)], -1))
    assert counts(outcome(spec, padded, x()))["relu_rescale"] == 1


def test_a_part_that_the_output_forgets_does_not_spoil_the_rest(spec: str) -> None:
    """`y + 0 * other(x)` is how people keep DDP quiet."""
    parts = dict(one=nn.Linear(WIDTH, 4), two=nn.Linear(4, OUT))
    quiet = mlp(after=lambda m, y, h: y + 0.0 * m.two(relu(m.one(torch.ones(3, WIDTH)))).sum(0), **parts)
    assert counts(outcome(spec, quiet, x()))["relu_rescale"] >= 1
