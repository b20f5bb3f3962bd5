"""The gradient that training sees must transform as the covector that the proof speaks of.

A proof is about the function.  A custom backward, a hook on a tensor or on a parameter gives another gradient than
that of the function, which no graph of the forward shows.  Here the model itself runs, in float64, at θ and at gθ, and
its two gradients are held against each other: <∇L(θ), u> = <∇L(gθ), g(θ + u) - gθ> for random u, for a small loss and
for a large one (a gradient that is clipped is right for the small one).  What the model returns is compared too: a
forward that does another thing when it is traced is seen here.

What this module does not do: it proves nothing, and it does not see what is wrong for other inputs only.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gaugec.errors import MatchError
from gaugec.model.inputs import LARGE, LARGER, elements, mapped
from gaugec.model.interfaces import leaves
from gaugec.model.preserve import small
from gaugec.sites import Site
from gaugec.witness.elements import element, move
from gaugec.witness.interpreter import cross_entropy

TOLERANCE = 1e-4  # norms that cast to float32 leave 1e-7; a gradient of another function leaves order one
DIRECTIONS = 4
SIZES = (1.0, 1e6)  # of the loss
COARSE = 3e-2  # the same, in 32 bits
FAINT = 1e-2  # of the largest gradient: what is fainter is measured against this


@dataclass(frozen=True)
class _Seen:
    """One pass: what the model returned, and for every size of the loss the gradient of a combination of it."""

    outputs: list[Tensor]
    gradients: list[dict[str, Tensor]]
    without: frozenset[str]
    in_python: bool


def covariance(
    model: nn.Module,
    inputs: Sequence[tuple[tuple[Any, ...], dict[str, Any]]],
    sites: Sequence[Site],
    names: Mapping[str, str],
    loss: str | None,
) -> dict[str, float]:
    """Gauge -> by how much the model's own gradient fails to be a covector under it, or its outputs change, relatively.

    inputs: those of the example, then others that the model takes; some of them, that are not much larger.

    Empty where the model cannot run here (see `gaugec.model.preserve.small`).  The model is not changed.

    Raises:
        MatchError: the model's forward or backward fails.
    """
    if not small(model):
        return {}
    own = [(p, p.grad) for p in model.parameters()]
    try:
        for p in model.parameters():
            p.grad = None
        most = LARGER * elements(*inputs[0]) + LARGE
        near = [x for x in inputs if elements(*x) <= most]
        # the example, the second shape, and the last: of one row, or far away
        found, in_python = _covariance(model, torch.float64, near[:2] + near[2:][-4:], sites, names, loss)
        if in_python and any(p.dtype == torch.float32 for p in model.parameters()):
            # a backward that is written in Python may do another thing in the type that is trained in
            shares, _ = _covariance(model, torch.float32, inputs[:1], sites, names, loss)
            found = {gauge: max(share, shares[gauge] * TOLERANCE / COARSE) for gauge, share in found.items()}
        return found
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise MatchError(f"the model cannot take a training step in float64: {reason}") from error
    finally:
        for p, gradient in own:
            p.grad = gradient


def _covariance(
    model: nn.Module,
    dtype: torch.dtype,
    places: Sequence[tuple[tuple[Any, ...], dict[str, Any]]],
    sites: Sequence[Site],
    names: Mapping[str, str],
    loss: str | None,
) -> tuple[dict[str, float], bool]:
    """The worst of every gauge at one θ and all inputs; and whether a backward is written in Python."""
    generator = torch.Generator().manual_seed(0)
    twin = copy.deepcopy(model).cpu()
    if not twin.training:  # as it is traced: see `gaugec.model.run.trained_modes`
        twin.train()
    if dtype == torch.float64:
        twin = twin.double()
    with torch.no_grad():
        for p in twin.parameters():
            if p.is_floating_point():
                # away from the zeros and ones of an initialisation, at which a wrong gradient may hide
                p.add_(0.1 * torch.randn(p.shape, generator=generator, dtype=torch.float64))
                p.requires_grad_(True)
    state = copy.deepcopy(twin.state_dict())
    floating = [(names[n], p) for n, p in twin.named_parameters() if p.is_floating_point()]
    theta = {name: p.detach().double().clone().contiguous() for name, p in floating}
    moved = {binding.parameter for site in sites for binding in site.bindings}
    pairs = {
        gauge: [(site, element(site, generator)) for site in sites if site.gauge == gauge]
        for gauge in dict.fromkeys(site.gauge for site in sites)
    }
    found = dict.fromkeys(pairs, 0.0)
    in_python = False
    for place in places:
        inputs, keywords = mapped(lambda x: _real(x, dtype), *place)
        before = _pass(twin, state, theta, (inputs, keywords), loss)
        if moved & before.without:
            # a copy whose forward reads the original's parameters, through a closure, shows nothing of the model
            raise MatchError(f"no gradient reaches {sorted(moved & before.without)[0]} in a copy of the model")
        in_python = in_python or before.in_python
        for gauge, moves in pairs.items():
            share = _failure(twin, state, theta, before, moves, (inputs, keywords), loss, generator)
            found[gauge] = max(found[gauge], share)
    return found, in_python


def _in_python(outputs: Sequence[Tensor]) -> bool:
    """Is a function with a backward in Python (`torch.autograd.Function`) among those that lead to an output?"""
    todo: list[Any] = [x.grad_fn for x in outputs]
    seen: set[Any] = set()
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        if isinstance(node, torch.autograd.function.BackwardCFunction):
            return True
        seen.add(node)
        todo += [following for following, _ in node.next_functions]
    return False


def _real(x: Any, dtype: torch.dtype) -> Any:
    if not isinstance(x, Tensor):
        return x
    return x.detach().cpu().to(dtype) if x.dtype.is_floating_point else x.detach().cpu()


def _moved(theta: Mapping[str, Tensor], pairs: Sequence[tuple[Site, Tensor]]) -> dict[str, Tensor]:
    moved = dict(theta)
    for site, e in pairs:
        moved = move(moved, site, e)
    return moved


def _failure(
    model: nn.Module,
    state: Mapping[str, Tensor],
    theta: Mapping[str, Tensor],
    before: _Seen,
    pairs: Sequence[tuple[Site, Tensor]],
    data: tuple[Any, Any],
    loss: str | None,
    generator: torch.Generator,
) -> float:
    """The largest difference of the two sides over a few directions, against a typical size of one side."""
    there = _moved(theta, pairs)
    after = _pass(model, state, there, data, loss)
    worst = _change(before.outputs, after.outputs)
    for one, two in zip(before.gradients, after.gradients, strict=True):
        worst = max(worst, _unlike(theta, there, one, two, pairs, generator))
    return worst


def _change(before: Sequence[Tensor], after: Sequence[Tensor]) -> float:
    """The largest change of an output against its spread."""
    worst = 0.0
    for a, b in zip(before, after, strict=True):
        if a.shape != b.shape or not torch.equal(torch.isfinite(a), torch.isfinite(b)):
            return math.inf
        a, b = a[torch.isfinite(a)], b[torch.isfinite(b)]
        if a.numel():
            spread = max(float(a.max() - a.min()), float(a.abs().max()) * 1e-3, 1e-30)
            worst = max(worst, float((a - b).abs().max()) / spread)
    return worst


def _unlike(
    theta: Mapping[str, Tensor],
    there: Mapping[str, Tensor],
    before: Mapping[str, Tensor],
    after: Mapping[str, Tensor],
    pairs: Sequence[tuple[Site, Tensor]],
    generator: torch.Generator,
) -> float:
    """By how much two gradients differ as covectors, in a few directions.

    A gauge moves every parameter by itself, so each is compared by itself: a large gradient does not hide a small one
    (one that is rounding beside the others is no gradient).
    """
    worst = 0.0
    for _ in range(DIRECTIONS):
        u = {
            name: torch.randn(x.shape, generator=generator, dtype=torch.float64) * x.square().mean().sqrt()
            for name, x in theta.items()
        }
        pushed = _moved({name: x + u[name] for name, x in theta.items()}, pairs)
        sizes = {name: float((before[name] * u[name]).square().sum().sqrt()) for name in theta}
        largest = max((size for size in sizes.values() if math.isfinite(size)), default=0.0)
        for name, size in sizes.items():
            one = float((before[name] * u[name]).sum())
            two = float((after[name] * (pushed[name] - there[name])).sum())
            if not math.isfinite(size):
                continue  # a gradient that overflows here overflows in training too, and steps nowhere
            size = max(size, FAINT * largest)
            worst = max(worst, abs(one - two) / size if size > 1e-12 else 0.0)
    return worst


def _pass(
    model: nn.Module, state: Mapping[str, Tensor], values: Mapping[str, Tensor], data: tuple[Any, Any], loss: str | None
) -> _Seen:
    """The outputs, and the gradient of a random combination of them; zeros where a parameter has none."""
    model.load_state_dict(dict(state))  # buffers too: a forward may have written them
    parameters = {name: p for name, p in model.named_parameters() if p.is_floating_point()}
    with torch.no_grad():
        for name, p in parameters.items():
            if name in values:
                p.copy_(values[name])
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)
        made = model(*data[0], **data[1])
        returned = leaves(dict(made) if isinstance(made, Mapping) else made)
        outputs = [x for x in returned if isinstance(x, Tensor) and x.dtype.is_floating_point]
        if loss is not None:
            outputs[0] = cross_entropy(outputs[0])
        torch.manual_seed(2)
        weighted = [(x * torch.randn(x.shape, dtype=x.dtype)).sum() for x in outputs if x.requires_grad]
    in_python = _in_python(outputs)
    gradients: list[dict[str, Tensor]] = []
    without = {name for name in parameters if name in values}
    for size in SIZES if weighted else ():
        for p in parameters.values():
            p.grad = None
        (size * torch.stack([x.double() for x in weighted]).sum()).backward(retain_graph=size != SIZES[-1])
        without -= {name for name, p in parameters.items() if p.grad is not None}
        gradients.append(
            {
                name: (torch.zeros_like(p) if p.grad is None else p.grad.detach().to_dense()).double()
                for name, p in parameters.items()
                if name in values
            }
        )
    # a buffer that the forward writes is an output too: what is written there is read later
    written = [b for name, b in model.named_buffers() if b.is_floating_point() and not b.is_sparse]
    return _Seen([x.detach().double().clone() for x in (*outputs, *written)], gradients, frozenset(without), in_python)
