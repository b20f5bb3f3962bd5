"""An independent judge of sites: it runs the torch module itself, in float64, and moves its parameters.

Given what a site claims (names, offsets, axes, exponents: plain data), the judge applies a random finite element with
its own index arithmetic, and compares everything that a training loop can see: outputs (or the loss), buffers after
the forward, tensors that stay on modules, and the gradient of every call, which must move as a covector at four sizes
of the loss.  Every comparison is made in one sequence of calls at whatever sizes the subject names, in the modes that
its modules are in (a model that is wholly in evaluation is trained first), on instances made afresh from the same seed,
or on one instance that is given: what lives in it alone (a state, memory that is shared) is judged there.

What this module does not do: it uses nothing of gaugec: no trace, no witness, no emitted code, no prover.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from seeds import set_seed
from torch import Tensor, nn

Inputs = tuple[tuple[Any, ...], dict[str, Any]]
Values = dict[str, np.ndarray]
GRADIENT = 1e-4  # of the largest entry: an exact covector leaves rounding, another function's gradient order one
BLIND = 1e-6  # a control that changes less than this shows nothing
SCALES = (1e-6, 1.0, 1e6, 1e12)  # of the loss: a gradient that is clipped is a covector at one size, not at another


@dataclass
class Subject:
    """A model to be judged.

    make: a fresh instance, equal to every other one, or always the same.  inputs: what it is called with, the compile
    example first; a call that fails before anything is moved is left out, the first may not fail.  also: further values
    that a training loop reads (what a hook has recorded).  tolerance: 1e-9, or more where the model itself computes in
    float32.  double: whether it must first be made to compute in float64.  counts: what a training loop reads of what
    it returns.
    """

    make: Callable[[], nn.Module]
    inputs: Sequence[Inputs]
    loss: str | None = None
    tolerance: float = 1e-9
    also: Callable[[nn.Module], list[Tensor]] = field(default=lambda model: [])
    double: bool = False
    counts: Callable[[Any], Any] = lambda made: made


@dataclass(frozen=True)
class Judgement:
    """deviation: the largest relative change of a result under the element.  gradient: by how much the gradient fails
    to move as a covector.  control: the largest change when one parameter of the site moved alone."""

    deviation: float
    gradient: float
    control: float
    tolerance: float

    @property
    def true(self) -> bool:
        """Is the site a symmetry of the model as it runs?"""
        return self.deviation <= self.tolerance and self.gradient <= max(GRADIENT, self.tolerance)

    @property
    def seeing(self) -> bool:
        """Could the judge have said no?"""
        return self.control > max(BLIND, 10 * self.tolerance)

    def __str__(self) -> str:
        word = "true" if self.true else "FALSE"
        blind = "" if self.seeing else ", nothing depends on it"
        return f"{word} ({self.deviation:.0e}, gradient {self.gradient:.0e}, control {self.control:.0e}{blind})"


# --- elements, by index arithmetic of the judge's own


def places(binding: Any) -> np.ndarray:
    """Where the binding's entries [C, K, M] are in the flat parameter."""
    sizes = []
    at = np.array([binding.offset])
    for axes in (binding.copies, binding.group, binding.rest):
        for n, stride in axes:
            at = (at[:, None] + stride * np.arange(n)).reshape(-1)
        sizes.append(int(np.prod([n for n, _ in axes], dtype=int)))
    return at.reshape(sizes)


def element(site: Any, rng: np.random.Generator) -> np.ndarray:
    """A random finite element: scales [C, K], matrices [C, K, K] or shifts [C, M]."""
    c, k = site.copies, site.size
    if site.group == "positive":
        return np.exp(rng.uniform(-1.2, 1.2, (c, k)))
    if site.group == "positive_pairs":
        half = np.exp(rng.uniform(-1.2, 1.2, (c, k // 2)))
        return np.concatenate([half, half], 1) if site.pairing == "halves" else np.repeat(half, 2, 1)
    if site.group == "translation":
        return rng.normal(size=(c, places(site.bindings[0]).shape[2]))
    if site.group == "torus":
        made = np.tile(np.eye(k), (c, 1, 1))
        r = site.rotary or k
        for copy in range(c):
            for plane in range(r // 2):
                one, two = (plane, plane + r // 2) if site.pairing == "halves" else (2 * plane, 2 * plane + 1)
                angle = rng.uniform(0.3, 6.0)
                made[copy, [one, two], [one, two]] = np.cos(angle)
                made[copy, one, two], made[copy, two, one] = -np.sin(angle), np.sin(angle)
        return made
    if site.group in ("orthogonal", "orthogonal_ones"):
        made = np.empty((c, k, k))
        for copy in range(c):
            if site.group == "orthogonal":
                made[copy] = np.linalg.qr(rng.normal(size=(k, k)))[0]
                made[copy, :, 0] *= (-1) ** copy
            else:  # keeps the vector of ones: turns only what is orthogonal to it
                basis = np.linalg.qr(np.concatenate([np.ones((k, 1)), rng.normal(size=(k, k - 1))], 1))[0]
                turn = np.eye(k)
                turn[1:, 1:] = np.linalg.qr(rng.normal(size=(k - 1, k - 1)))[0]
                made[copy] = basis @ turn @ basis.T
        return made
    if site.group == "invertible":
        return np.eye(k) + 0.4 * rng.normal(size=(c, k, k))
    raise ValueError(f"the judge knows no element of {site.group}")


def _act(binding: Any, x: np.ndarray, e: np.ndarray) -> np.ndarray:
    """The entries [C, K, M] moved."""
    move = binding.move
    if move.kind == "scale":
        factor = e[:, :, None] ** float(move.exponent)
        return factor * (x + binding.shift_by) - binding.shift_by
    if move.kind == "rotate":
        return (np.linalg.inv(e).swapaxes(1, 2) if move.dual else e) @ x
    return x + e[:, None, :]


def _coact(binding: Any, x: np.ndarray, e: np.ndarray) -> np.ndarray:
    """A gradient's entries [C, K, M], moved as a covector: by the inverse transpose of the action's linear part."""
    move = binding.move
    if move.kind == "scale":
        return x / e[:, :, None] ** float(move.exponent)
    if move.kind == "rotate":
        return (e if move.dual else np.linalg.inv(e).swapaxes(1, 2)) @ x
    return x


def _everywhere(rule: Callable[..., np.ndarray], values: Values, site: Any, e: np.ndarray, only: Any = None) -> Values:
    moved = dict(values)
    for binding in site.bindings:
        if only is None or binding is only:
            flat = moved[binding.parameter].copy().reshape(-1)
            at = places(binding)
            flat[at] = rule(binding, flat[at], e)
            moved[binding.parameter] = flat.reshape(values[binding.parameter].shape)
    return moved


# --- running the model


def draw(model: nn.Module, seed: int) -> Values:
    """Random parameters away from special values, of a size that keeps activations near one."""
    rng = np.random.default_rng(seed)
    made: Values = {}
    for name, p in model.named_parameters():
        if p.is_floating_point() and p.layout is torch.strided:
            noise = rng.normal(size=tuple(p.shape))
            wide = max(1, p[0].numel()) if p.ndim > 1 else 1
            made[name] = noise / np.sqrt(wide) if p.ndim > 1 else rng.choice([-1.0, 1.0], p.shape) * (0.6 + 0.3 * noise)
    return made


def _double(x: Any) -> Any:
    """Floating inputs in double precision, in containers as they come."""
    if isinstance(x, Tensor):
        return x.detach().clone().double() if x.dtype.is_floating_point else x.clone()
    if isinstance(x, dict):
        return {k: _double(v) for k, v in x.items()}
    return type(x)(_double(v) for v in x) if type(x) in (tuple, list) else x


def _tensors(value: Any, depth: int = 0) -> Iterator[Tensor]:
    """All tensors in an output, a dataclass, or a container on a module."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item, depth + 1)
    elif isinstance(value, (list, tuple, set)):
        for item in value:
            yield from _tensors(item, depth + 1)
    elif hasattr(value, "__dataclass_fields__") and depth < 8:
        for name in value.__dataclass_fields__:
            yield from _tensors(getattr(value, name), depth + 1)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield torch.tensor(float(value))


def _left(model: nn.Module) -> list[Tensor]:
    """Tensors that lie about on modules."""
    own = ("_parameters", "_buffers", "_modules")
    hold = (v for m in model.modules() for k, v in m.__dict__.items() if k not in own and not callable(v))
    return [t for value in hold for t in _tensors(value) if not isinstance(t, nn.Parameter)]


@dataclass
class Run:
    """results: of all calls.  gradients: of every call, at every size of the loss, over that size."""

    results: list[Tensor]
    gradients: dict[tuple[int, float], Values]


def run(subject: Subject, values: Values, usable: Sequence[int] | None = None, gradients: bool = False) -> Run:
    """One sequence of calls of an instance with these parameters.

    Raises:
        whatever the first call raises, or any call named in `usable`.
    """
    set_seed(3)
    random.seed(3)
    np.random.seed(3)
    model = subject.make()
    if subject.double:
        model = model.double()
    if not model.training:
        model.train()
    named = dict(model.named_parameters())
    with torch.no_grad():
        for name, value in values.items():
            named[name].copy_(torch.from_numpy(np.ascontiguousarray(value)).reshape(value.shape))
    results: list[Tensor] = []
    found: dict[tuple[int, float], Values] = {}
    for number, (args, kwargs) in enumerate(subject.inputs):
        if usable is not None and number not in usable:
            continue
        set_seed(100 + number)
        given = (_double(args), _double(kwargs)) if subject.double else copy.deepcopy((args, kwargs))
        made = model(*given[0], **given[1])
        shown = [*_tensors(subject.counts(made)), *subject.also(model)]
        if subject.loss is not None:
            logits = shown[0]
            targets = torch.randint(logits.shape[-1], logits.shape[:-1])
            shown[0] = -torch.log_softmax(logits, -1).gather(-1, targets.unsqueeze(-1))
        for x in (*shown, *model.buffers(), *_left(model), *_tensors(given)):
            results += _numbers(x.detach())
        if gradients:
            found.update({(number, scale): g for scale, g in _gradients(shown, named).items()})
    return Run(results, found)


def _numbers(x: Tensor) -> list[Tensor]:
    """What is in it, in double precision; nothing of what is no plain array."""
    if x.is_sparse:
        x = x.to_dense()
    if x.layout is not torch.strided or x.is_meta or x.is_nested or x.is_quantized:
        return []
    return [(torch.view_as_real(x.resolve_conj()) if x.is_complex() else x).to(torch.float64, copy=True)]


def _gradients(shown: Sequence[Tensor], named: Mapping[str, nn.Parameter]) -> dict[float, Values]:
    """Of a random combination of what a training loop sees, at every size of it, over that size."""
    set_seed(7)
    terms = [(x * torch.randn(x.shape, dtype=x.dtype)).sum() for x in shown if x.requires_grad]
    total = torch.stack([t.double() for t in terms]).sum() if terms else None
    found: dict[float, Values] = {}
    for scale in SCALES:
        for p in named.values():
            p.grad = None
        if total is not None:
            (scale * total).backward(retain_graph=True)
        found[scale] = {n: p.grad.to_dense().double().numpy() / scale for n, p in named.items() if p.grad is not None}
    return found


def usable(subject: Subject, values: Values) -> list[int]:
    """The inputs that the model takes and learns from; the first must be one."""
    good = [0]
    run(subject, values, good, gradients=True)
    for number in range(1, len(subject.inputs)):
        try:
            run(subject, values, [number], gradients=True)
        except Exception:
            continue
        good.append(number)
    return good


def apart(one: Sequence[Tensor], two: Sequence[Tensor], scales: Sequence[float]) -> float:
    """The largest difference of two lists of results against their scales; rounding of huge entries is none."""
    if len(one) != len(two) or any(a.shape != b.shape for a, b in zip(one, two)):
        return float("inf")
    worst = 0.0
    for a, b, scale in zip(one, two, scales):
        finite = torch.isfinite(a)
        if not torch.equal(finite, torch.isfinite(b)):
            return float("inf")
        a, b = a[finite], b[finite]
        if a.numel():
            far = float(((a - b).abs() - 64 * torch.finfo(torch.float64).eps * a.abs()).clamp(min=0).max())
            worst = max(worst, far / scale if scale > 0 else (float("inf") if far > 0 else 0.0))
    return worst


def _covector(one: Values, two: Values, site: Any, e: np.ndarray) -> float:
    """How far `two` is from `one` moved as a covector, against the largest entry of each."""
    if set(one) != set(two):
        return float("inf")
    whole = {b.parameter: one.get(b.parameter) for b in site.bindings}
    if any(v is None for v in whole.values()):  # a frozen parameter has no gradient: nothing to move there
        site = _Only(tuple(b for b in site.bindings if whole[b.parameter] is not None))
    expected = _everywhere(_coact, one, site, e)
    size = max((float(np.abs(v[np.isfinite(v)]).max()) for v in one.values() if np.isfinite(v).any()), default=0.0)
    worst = 0.0
    for name, value in expected.items():
        if value.size:
            own = max(float(np.nanmax(np.abs(value))), 1e-6 * size)  # a dead gradient is rounding, and no scale
            known = np.isfinite(value)
            if not np.array_equal(known, np.isfinite(two[name])):
                return float("inf")
            far = float(np.abs(value - two[name])[known].max()) if known.any() else 0.0
            worst = max(worst, far / own if own > 0 else 0.0)
    return worst


@dataclass(frozen=True)
class _Only:
    bindings: tuple[Any, ...]


class Judge:
    """Judges the sites of one model: the runs at the unmoved parameters are shared."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        model = subject.make()
        self.values, other = draw(model, 1), draw(model, 2)
        self.good = usable(subject, self.values)
        self.before = run(subject, self.values, self.good, gradients=True)
        far = run(subject, other, self.good).results
        self.scales = [
            float((a - b)[torch.isfinite(a) & torch.isfinite(b)].abs().max()) if _comparable(a, b) else 0.0
            for a, b in zip(self.before.results, far)
        ]

    def judge(self, site: Any, number: int = 0) -> Judgement:
        """Moves the site's parameters together, then each alone."""
        rng = np.random.default_rng(40 + number)
        e = element(site, rng)
        after = run(self.subject, _everywhere(_act, self.values, site, e), self.good, gradients=True)
        deviation = apart(self.before.results, after.results, self.scales)
        gradient = max(_covector(one, after.gradients[at], site, e) for at, one in self.before.gradients.items())
        control = 0.0
        for binding in site.bindings:
            alone = self._alone(site, binding, e, rng)
            control = max(control, apart(self.before.results, run(self.subject, alone, self.good).results, self.scales))
            if control > 1e-3:
                break
        return Judgement(deviation, gradient, control, self.subject.tolerance)

    def steady(self) -> bool:
        """Is the same sequence of calls the same again?  An instance that is given may have gone on."""
        again = run(self.subject, self.values, self.good).results
        return apart(self.before.results, again, self.scales) <= self.subject.tolerance

    def _alone(self, site: Any, binding: Any, e: np.ndarray, rng: np.random.Generator) -> Values:
        if len(site.bindings) > 1:
            return _everywhere(_act, self.values, site, e, only=binding)
        # one parameter by itself: an element outside the group, every entry for itself
        flat = self.values[binding.parameter].copy().reshape(-1)
        at = places(binding)
        flat[at] += 0.5 * rng.normal(size=at.shape)
        return {**self.values, binding.parameter: flat.reshape(self.values[binding.parameter].shape)}


def _comparable(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool((torch.isfinite(a) & torch.isfinite(b)).any())
