"""Mutants that hide from a trace: hooks, other gradients, values left behind, memory, Python state, shared inputs."""

from __future__ import annotations

import random
from typing import Any

import torch
from soundness.model_bases import Around, around, replace
from soundness.mutant_registry import Change, add, finish, method, middle
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

P, T, A = "perceptron", "perceptron over tokens", "attention"


def does(action: Any) -> Change:
    """A mutation that is a statement about the model."""

    def change(model: nn.Module) -> None:
        action(model)

    return change


# --- hooks
add("hook", P, "adds to the output of up", does(lambda m: m.up.register_forward_hook(lambda mod, i, o: o + 1.0)))
add(
    "hook",
    P,
    "changes the input of down",
    does(lambda m: m.down.register_forward_pre_hook(lambda mod, i: (i[0].tanh(),))),
)
add("hook", P, "doubles a gradient", does(lambda m: m.up.weight.register_hook(lambda g: 2 * g)), "mixed")
add("hook", P, "signs of a parameter's gradient", does(lambda m: m.up.weight.register_hook(torch.sign)))
add("hook", P, "clips a parameter's gradient", does(lambda m: m.up.weight.register_hook(lambda g: g.clamp(-1e3, 1e3))))
add(
    "hook",
    P,
    "normalises a gradient after it is accumulated",
    does(lambda m: m.down.weight.register_post_accumulate_grad_hook(lambda p: (p.grad.div_(p.grad.norm()), None)[1])),
)
add(
    "hook",
    P,
    "signs of a module's gradient",
    does(
        lambda m: m.up.register_full_backward_hook(lambda mod, gi, go: tuple(g if g is None else g.sign() for g in gi))
    ),
    "mixed",
)
add(
    "hook",
    P,
    "signs of the gradient that a module gets",
    does(lambda m: m.up.register_full_backward_pre_hook(lambda mod, go: tuple(g.sign() for g in go))),
)
add(
    "hook",
    P,
    "clips the gradient of a value",
    middle(lambda m, h: (h.register_hook(lambda g: g.clamp(-1e3, 1e3)), h)[1]),
)
add("hook", P, "records the hidden units", does(lambda m: _record(m)), also=lambda m: m.__dict__["reads"]())
add("hook", P, "records them in a nested container", does(lambda m: _nested(m)))


def _record(model: Any) -> None:
    """What people do for an activation penalty: a hook appends to a list that the loss reads."""
    seen: list[Tensor] = []
    model.down.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))

    def reads() -> list[Tensor]:
        found = list(seen)
        seen.clear()
        return found

    model.__dict__["reads"] = reads


def _nested(model: Any) -> None:
    model.log = {"kept": [[]]}

    def append(module: Any, inputs: Any) -> None:
        model.log["kept"][0].append(inputs[0].detach() if not inputs[0].requires_grad else inputs[0])

    model.down.register_forward_pre_hook(append)


# --- gradients of other functions
class Signed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g.sign()


class Clipped(torch.autograd.Function):
    """The identity, whose gradient is clipped far above what one sees in a small test."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g.clamp(-1e3, 1e3)


class Reversed(torch.autograd.Function):
    """A gradient reversal: another function's gradient, and a covector all the same."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return -g


add("custom backward", P, "signs", middle(lambda m, h: Signed.apply(h)))
add("custom backward", P, "clipped", middle(lambda m, h: Clipped.apply(h)))
add("custom backward", P, "reversed", middle(lambda m, h: Reversed.apply(h)), "mixed")
add(
    "custom backward",
    P,
    "clipped on the weight",
    method("forward", lambda m, x: m.down(torch.relu(F.linear(x, Clipped.apply(m.up.weight), m.up.bias)))),
)
add("custom backward", P, "signs, on a module kept in a closure", lambda m: _closed_over(m))
add(
    "custom backward",
    P,
    "checkpoint",
    method("forward", lambda m, x: m.down(checkpoint(lambda y: torch.relu(m.up(y)), x, use_reentrant=False))),
    "sound",
)
add(
    "custom backward",
    P,
    "reentrant checkpoint",
    method(
        "forward",
        lambda m, x: m.down(checkpoint(lambda y: torch.relu(m.up(y)), x.requires_grad_(), use_reentrant=True)),
    ),
    "mixed",
)


def _closed_over(model: Any) -> nn.Module:
    """A wrapper that does not own what it calls through: copying the wrapper copies no parameter of the closure."""

    def run(owner: Any, x: Tensor) -> Tensor:
        return model.down(Signed.apply(torch.relu(model.up(x))))

    return Around(model, run)


# --- outputs that are not returned, and memory
def _keep(m: Any, h: Tensor) -> Tensor:
    m.last = h
    return h


def _global(m: Any, h: Tensor) -> Tensor:
    SEEN[:] = [h]
    return h


SEEN: list[Tensor] = []
add("hidden output", P, "an attribute of the module", middle(_keep))
add("hidden output", P, "a global list", middle(_global), also=lambda m: [SEEN[0]])
add(
    "hidden output",
    P,
    "a global list of numbers",
    middle(lambda m, h: (SEEN.__setitem__(slice(None), [h.detach().norm()]), h)[1]),
    also=lambda m: [SEEN[0]],
)
add(
    "hidden output",
    P,
    "a buffer",
    middle(lambda m, h: (m.c.copy_(h.detach().mean(0)), h)[1], c=lambda: torch.zeros(14)),
)
add(
    "hidden output",
    P,
    "a running mean that the next call reads",
    middle(lambda m, h: (m.c.mul_(0.9).add_(h.detach().mean(0)), h / (1 + m.c.norm()))[1], c=lambda: torch.ones(14)),
)
add(
    "hidden output",
    P,
    "a buffer of integers",
    middle(lambda m, h: (m.c.copy_(h.detach().mean(0)), h)[1], c=lambda: torch.zeros(14, dtype=torch.long)),
)
add(
    "hidden output",
    P,
    "a copy of a weight in a buffer",
    finish(lambda m, y, h: (m.c.copy_(m.up.weight.detach()), y)[1], c=lambda: torch.zeros(14, 11)),
)
add("hidden output", P, "written into the input", around(lambda m, x: (m(x), x.copy_(torch.relu(m.up(x))[:, :11]))[0]))
add(
    "hidden output",
    P,
    "the input overwritten",
    around(lambda m, x: (x.copy_(torch.relu(m.up(x))[:, :11].detach()), m.down(torch.relu(m.up(x))))[1]),
)
add("memory", P, "ReLU on odd calls, GELU on even ones", middle(lambda m, h: _alternate(m, h)))
add("memory", P, "ReLU on the first three calls", middle(lambda m, h: _warm(m, h)))
add(
    "memory",
    P,
    "a plain counter",
    middle(lambda m, h: (setattr(m, "calls", getattr(m, "calls", 0) + 1), h)[1]),
    "mixed",
)


def _alternate(m: Any, h: Tensor) -> Tensor:
    m.calls = getattr(m, "calls", 0) + 1
    return h if m.calls % 2 else F.gelu(h)


def _warm(m: Any, h: Tensor) -> Tensor:
    """The state is kept where no attribute of a module changes."""
    state = m.__dict__.setdefault("state", {"calls": [0]})
    state["calls"][0] += 1
    return h if state["calls"][0] <= 3 else h + 1


add(
    "random numbers", P, "a layer dropped by Python's dice", middle(lambda m, h: h if random.random() < 0.75 else h + 1)
)
add("random numbers", P, "noise added", middle(lambda m, h: h + torch.rand_like(h)))
add("random numbers", P, "noise multiplied", middle(lambda m, h: h * torch.rand_like(h)), "sound")
add("random numbers", P, "noise of the size of the units", middle(lambda m, h: h + h.std() * torch.randn_like(h)))
add("random numbers", P, "drawn with the units as odds", middle(lambda m, h: h * torch.bernoulli(h / (1 + h))))


# --- memory that is shared
def _written(h: Tensor, write: Any) -> Tensor:
    """A ReLU's own output may not be written: its gradient needs it."""
    made = h.clone()
    write(made)
    return made


def _view(m: Any) -> None:
    m.register_buffer("kept", m.up.weight.data[:3])
    method("forward", lambda m, x: m.down(torch.relu(m.up(x))) + (x @ m.kept.T).sum(-1, keepdim=True))(m)


def _numpy(m: Any) -> None:
    m.kept = torch.from_numpy(m.up.weight.data.numpy())[:3]
    method("forward", lambda m, x: m.down(torch.relu(m.up(x))) + (x @ m.kept.T).sum(-1, keepdim=True))(m)


def _two(m: Any) -> None:
    m.more = nn.Linear(11, 14)
    m.more.weight.data = m.up.weight.data
    method("forward", lambda m, x: m.down(torch.relu(m.up(x))) + m.more(x).sum(-1, keepdim=True))(m)


add("aliasing buffer", P, "rows of up", does(_view))
add("aliasing buffer", P, "up through numpy", does(_numpy))
add("aliasing buffer", P, "two parameters in one storage", does(_two))
add(
    "aliasing buffer",
    P,
    "a buffer that nothing reads",
    does(lambda m: m.register_buffer("kept", m.up.weight.data[:3])),
    "mixed",
)
add(
    "aliasing buffer",
    P,
    "a parameter that is expanded",
    does(lambda m: replace(m, "up.bias", nn.Parameter(torch.randn(1).expand(14)))),
)
add("in-place write", P, "one unit set to one", middle(lambda m, h: _written(h, lambda z: z[:, 0].fill_(1.0))))
add("in-place write", P, "one unit set to zero", middle(lambda m, h: _written(h, lambda z: z[:, 0].zero_())), "mixed")
add("in-place write", P, "added to", middle(lambda m, h: _written(h, lambda z: z.add_(0.5))))
add("in-place write", P, "doubled", middle(lambda m, h: _written(h, lambda z: z.mul_(2.0))), "sound")
add(
    "in-place write",
    P,
    "index_put",
    middle(lambda m, h: h.index_put((torch.arange(h.shape[0]), torch.arange(h.shape[0])), torch.tensor(1.0))),
)
add(
    "in-place write", P, "masked fill by size", middle(lambda m, h: _written(h, lambda z: z.masked_fill_(z > 0.5, 0.5)))
)
add("in-place write", P, "the weight decays in the forward", finish(lambda m, y, h: (m.up.weight.data.mul_(0.9), y)[1]))
add(
    "in-place write",
    P,
    "the weight is normalised before use",
    method("forward", lambda m, x: (_normalise(m), m.down(torch.relu(m.up(x))))[1]),
)
add(
    "in-place write",
    P,
    "the bias is written under no_grad",
    method("forward", lambda m, x: (_shift(m), m.down(torch.relu(m.up(x))))[1]),
)


def _normalise(m: Any) -> None:
    with torch.no_grad():
        m.up.weight.div_(m.up.weight.norm(dim=1, keepdim=True))


def _shift(m: Any) -> None:
    with torch.no_grad():
        m.up.bias.clamp_(min=0.0)


add("requires_grad=False", P, "up is frozen", does(lambda m: m.up.requires_grad_(False)), "sound")
add("requires_grad=False", P, "all is frozen", does(lambda m: m.requires_grad_(False)), "sound")
add(
    "requires_grad=False",
    P,
    "switched off by the forward",
    method("forward", lambda m, x: (m.up.weight.requires_grad_(False), m.down(torch.relu(m.up(x))))[1]),
    "mixed",
)

# --- parameters as inputs, containers, functional calls


add(
    "shared input",
    P,
    "a weight in the example inputs",
    around(lambda m, x, w: m(x) + (x @ w.T).sum(-1, keepdim=True)),
    inputs=lambda model, args, kwargs: ((*args, model.inner.up.weight), kwargs),
)
add(
    "shared input",
    P,
    "a weight nested in keywords",
    around(lambda m, x, extra: m(x) + (x @ extra["w"][0].T).sum(-1, keepdim=True)),
    inputs=lambda model, args, kwargs: (args, {"extra": {"w": [model.inner.up.weight]}}),
)
add(
    "shared input",
    P,
    "a view of a weight's data",
    around(lambda m, x, w: m(x) + (x @ w.T).sum(-1, keepdim=True)),
    inputs=lambda model, args, kwargs: ((*args, model.inner.up.weight.data[:4]), kwargs),
)
add(
    "container",
    P,
    "functional_call with its own parameters",
    around(lambda m, x: torch.func.functional_call(m, dict(m.named_parameters()), (x,))),
    "sound",
)
add(
    "container",
    P,
    "functional_call with scaled parameters",
    around(lambda m, x: torch.func.functional_call(m, {k: 2 * v for k, v in m.named_parameters()}, (x,))),
    "mixed",
)
add(
    "container",
    P,
    "functional_call with detached parameters",
    around(lambda m, x: torch.func.functional_call(m, {k: v.detach() for k, v in m.named_parameters()}, (x,))),
)
add(
    "container",
    P,
    "functional_call with shifted parameters",
    around(lambda m, x: torch.func.functional_call(m, {k: v + 0.1 for k, v in m.named_parameters()}, (x,))),
)
add("container", P, "vmap over rows", around(lambda m, x: torch.vmap(m)(x)), "mixed")
add("container", P, "the gradient as output", around(lambda m, x: torch.func.grad(lambda y: m(y).sum())(x)), "mixed")
add("container", P, "weights in a ParameterList", lambda m: _listed(m), "sound")
add("container", P, "weights stacked and unstacked", method("forward", lambda m, x: _stacked(m, x)), "sound")


def _listed(m: Any) -> nn.Module:
    made = Around(nn.Identity(), lambda inner, x: x)
    made.ws = nn.ParameterList([m.up.weight, m.down.weight])
    made.run = lambda inner, x: F.linear(torch.relu(F.linear(x, made.ws[0])), made.ws[1])
    return made


def _stacked(m: Any, x: Tensor) -> Tensor:
    both = torch.cat([m.up.weight, m.up.bias[:, None]], 1)
    return m.down(torch.relu(F.linear(F.pad(x, (0, 1), value=1.0), both)))
