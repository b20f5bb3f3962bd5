"""Mutants whose gradient is another function's at some size of the loss, of the batch, or in some type.

The forward is that of the base; only the backward knows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from soundness.mutant_registry import Change, add, method, middle
from soundness.setting_mutants import runs
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

P, S = "perceptron", "perceptron in single"
NODES: list[Any] = []
Rule = Callable[[Tensor], Tensor]


class Passing(torch.autograd.Function):
    """The identity, whose gradient passes a rule: (gradient, value) -> gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rule: Callable[..., Tensor]) -> Tensor:
        ctx.rule = rule
        ctx.save_for_backward(x)
        return x.clone()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return ctx.rule(g, ctx.saved_tensors[0]), None


def of_weight(rule: Rule) -> Change:
    """The rule on the first weight alone."""

    def run(m: Any, x: Tensor) -> Tensor:
        weight = Passing.apply(m.up.weight, lambda g, w: rule(g))
        return m.down(torch.relu(F.linear(x, weight, m.up.bias)))

    return method("forward", run)


def accumulated(rule: Rule) -> Change:
    """A hook before the gradient of the first weight is accumulated, which no list of hooks on a tensor shows."""

    def change(m: Any) -> None:
        with torch.enable_grad():  # the node that accumulates lives as long as somebody holds it
            node = m.up.weight.expand_as(m.up.weight).grad_fn.next_functions[0][0]
        node.register_prehook(lambda grads: (rule(grads[0]),))
        NODES.append(node)

    return change


def on_node(rule: Rule, after: bool) -> Callable[[Any, Tensor], Tensor]:
    """A hook on the node of the graph that made the units."""

    def run(m: Any, h: Tensor) -> Tensor:
        if h.grad_fn is not None and after:
            h.grad_fn.register_hook(lambda into, outof: tuple(None if g is None else rule(g) for g in into))
        elif h.grad_fn is not None:
            h.grad_fn.register_prehook(lambda grads: tuple(rule(g) for g in grads))
        return h

    return run


def hooked(rule: Rule) -> Change:
    """A hook of a module that gives the units on."""

    def change(m: Any) -> None:
        m.mid, m.middle = nn.Identity(), lambda h: m.mid(h)
        m.mid.register_full_backward_pre_hook(lambda module, grads: tuple(rule(g) for g in grads))

    return change


def rooted(g: Tensor) -> Tensor:
    return g.sign() * g.abs().sqrt()


RULES: dict[str, Rule] = {
    "clamped at 1e-8": lambda g: g.clamp(-1e-8, 1e-8),
    "clamped at 1e8": lambda g: g.clamp(-1e8, 1e8),
    "clamped at 1e-3": lambda g: g.clamp(-1e-3, 1e-3),
    "rooted": rooted,
    "zero below 1e-8": lambda g: torch.where(g.abs() < 1e-8, 0.0, g),
    "zero above 1e10": lambda g: torch.where(g.abs() > 1e10, 0.0, g),
    "an eps of 1e-8": lambda g: g + 1e-8,
    "normed above 1e9": lambda g: g / (g.norm() / 1e9).clamp(min=1.0),
    "normed when tiny": lambda g: g if float(g.norm()) > 1e-5 else g / (1e-12 + g.norm()),
    "through half precision": lambda g: g.half().to(g.dtype),
    "rows that overflow left out": lambda g: torch.where(g.norm(dim=-1, keepdim=True) > 2.5e12, 0.0, g),
    "rounded to 1e-7": lambda g: (g * 1e7).round() / 1e7,
}
VALUES: dict[str, Callable[..., Tensor]] = {
    "where units are small": lambda g, x: g * (x.abs() < 1.0),
    "times the units": lambda g, x: g * x,
    "straight through a saturation": lambda g, x: g * (1 - x.tanh() ** 2),
    "in large batches": lambda g, x: g.sign() if x.shape[0] > 5 else g,
    "by its type": lambda g, x: g if x.dtype == torch.float64 else g.clamp(-0.01, 0.01),
}
for name, rule in RULES.items():
    add("gradients", P, f"a custom backward: {name}", middle(lambda m, h, r=rule: Passing.apply(h, lambda g, x: r(g))))
for name in ("clamped at 1e-8", "zero below 1e-8", "clamped at 1e8", "zero above 1e10"):
    rule = RULES[name]
    add("gradients", P, f"a weight's own: {name}", of_weight(rule))
    add("gradients", P, f"before it is accumulated: {name}", accumulated(rule))
    add("gradients", P, f"a hook on the units: {name}", middle(lambda m, h, r=rule: (h.register_hook(r), h)[1]))
    add("gradients", P, f"a hook on their node: {name}", middle(on_node(rule, after=False)))
for name in ("clamped at 1e-3", "rooted"):
    add("gradients", P, f"before it is accumulated: {name}", accumulated(RULES[name]))
    add("gradients", P, f"a hook after their node: {name}", middle(on_node(RULES[name], after=True)))
for name, of_value in VALUES.items():
    base = S if name == "by its type" else P
    add("gradients", base, f"a custom backward: {name}", middle(lambda m, h, r=of_value: Passing.apply(h, r)))
add(
    "gradients", P, "a module's hook: normed above 1e9",
    hooked(lambda g: g / (g.norm() / 1e6).clamp(min=1)),
)  # fmt: skip
add(
    "gradients", P, "after it is accumulated: clamped at 1e8",
    runs(lambda m: m.up.weight.register_post_accumulate_grad_hook(lambda p: (p.grad.clamp_(-1e8, 1e8), None)[1])),
)  # fmt: skip


def packed(m: Any, x: Tensor) -> Tensor:
    """What is kept for the backward is kept in eight bits."""
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (t * 8).round() / 8, lambda t: t):
        return m.down(torch.relu(m.up(x)))


def recomputed(m: Any, x: Tensor) -> Tensor:
    """Another function is recomputed than ran."""
    calls = [0]

    def part(y: Tensor) -> Tensor:
        calls[0] += 1
        return torch.relu(m.up(y) + 0.3 * (calls[0] > 1))

    return m.down(checkpoint(part, x, use_reentrant=False))


add("gradients", P, "saved in eight bits", method("forward", packed))
add("gradients", P, "a checkpoint that recomputes another", method("forward", recomputed))
add("gradients", P, "in large batches only",
    middle(lambda m, h: Passing.apply(h, lambda g, x: g.sign() if g.shape[0] > 40 else g)),
    calls=lambda: [((torch.randn(n, 11),), {}) for n in (6, 50)])  # fmt: skip


# --- gradients that are the function's own
class Linear(torch.autograd.Function):
    """A matrix product by hand, with its own gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(x, w)
        return x @ w.T

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, w = ctx.saved_tensors
        return g @ w, g.T @ x


def checkpointed(**options: Any) -> Change:
    def run(m: Any, x: Tensor) -> Tensor:
        return m.down(checkpoint(lambda y: torch.relu(m.up(y)), x, use_reentrant=False, **options))

    return method("forward", run)


def drawn(m: Any, x: Tensor) -> Tensor:
    return m.down(checkpoint(lambda y: F.dropout(torch.relu(m.up(y)), 0.2), x, use_reentrant=False))


def moved(m: Any, x: Tensor) -> Tensor:
    with torch.autograd.graph.save_on_cpu():
        return m.down(torch.relu(m.up(x)))


SOUND: dict[str, Change] = {
    "the identity": middle(lambda m, h: Passing.apply(h, lambda g, x: g)),
    "NaNs guarded": middle(lambda m, h: Passing.apply(h, lambda g, x: torch.nan_to_num(g, 0.0, torch.inf, -torch.inf))),
    "doubled": middle(lambda m, h: Passing.apply(h, lambda g, x: 2 * g)),
    "a checkpoint": checkpointed(),
    "a checkpoint with dropout": method("forward", drawn),
    "a checkpoint that keeps no dice": checkpointed(preserve_rng_state=False),
    "saved elsewhere": method("forward", moved),
    "a hook that only looks": middle(lambda m, h: (h.register_hook(lambda g: None), h)[1]),
    "a hook on their node that only looks": middle(
        lambda m, h: (h.grad_fn is not None and h.grad_fn.register_hook(lambda *_: None), h)[1]
    ),
    "kept": middle(lambda m, h: (h.requires_grad and h.retain_grad(), h)[1]),
    "a product by hand": method("forward", lambda m, x: m.down(torch.relu(Linear.apply(x, m.up.weight) + m.up.bias))),
}  # fmt: skip
for name, change in SOUND.items():
    add("gradients", P, f"sound: {name}", change, "sound")
