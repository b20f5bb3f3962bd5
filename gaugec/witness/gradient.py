"""The gradient that training sees must transform as the covector that the proof speaks of.

A proof is about the function.  A custom backward, a hook on a tensor or on a parameter gives another gradient than
that of the function, which no graph of the forward shows.  Here the model runs at θ and at gθ, for an element g of all
gauges at once, and its two gradients are held against each other: <∇L(θ), u> = <∇L(gθ), g(θ + u) - gθ> for random u,
for losses of many sizes.  What it returns is compared too: a forward that does another thing when it is traced is seen.

Two models run.  A copy in float64, casts neutral, shows what is off by a millionth.  The model itself, in the type that
it is trained in, is coarser and sees what a copy loses: hooks of autograd's own nodes, closures that speak of the
model, a branch on the type.  Where the two have different gradients in one type, that parameter is hooked.

What this module does not do: it proves nothing, and it does not see what is wrong for other inputs only.  Hooks that
run after a gradient is accumulated are not called: they may be an optimizer.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from gaugec.errors import MatchError, first_line
from gaugec.model.context import as_trained
from gaugec.model.inputs import copied, mapped
from gaugec.model.interfaces import after_accumulation, unheard
from gaugec.model.memory import changeable, copied_model
from gaugec.model.outputs import Counted
from gaugec.model.preserve import small
from gaugec.sites import Site
from gaugec.witness.elements import element, moved, pulled
from gaugec.witness.neutral import Neutral, wide
from gaugec.witness.passes import SIZES, Pass, Values, run

Data = tuple[tuple[Any, ...], dict[str, Any]]

DIRECTIONS = 4


@dataclass(frozen=True)
class _Rounding:
    """What is let pass for the rounding of a type.

    share: the largest difference, relatively.  faint: of the largest gradient; what is fainter is measured against it.
    """

    share: float
    faint: float
    eps: float


def _rounding(dtype: torch.dtype) -> _Rounding:
    eps = torch.finfo(dtype).eps
    if dtype == torch.float64:
        return _Rounding(1e-6, 1e-5, eps)
    return _Rounding(1e-3, 1e-2, eps) if dtype == torch.float32 else _Rounding(64 * eps, 16 * eps, eps)


@dataclass(frozen=True)
class Gradient:
    """What was found, where nothing is wrong with the whole.

    hooked: parameters, by canonical names, whose gradient in the model is not that in a copy of it.
    rounded: gauges that move a value that is rounded to 16 bits, though they are trained in more, and to which type.
    why: why the gradient was not checked, or "".
    """

    hooked: frozenset[str] = frozenset()
    rounded: Mapping[str, str] = field(default_factory=dict)
    why: str = ""


def covariance(
    model: nn.Module,
    places: Sequence[Data],
    sites: Sequence[Site],
    names: Mapping[str, str],
    counted: Counted,
    still: Collection[str] = (),
    *,
    by_hand: bool = False,
) -> Gradient:
    """Holds the model's own gradients at two gauge copies against each other.

    places: the inputs of the example, then others that the model takes.  names: of every parameter the canonical one.
    still: parameters that are left at their values.  by_hand: the backward is not autograd's alone: losses of every
    size, and the model itself, are looked at in all places.

    The model is afterwards as it was, to the bit.

    Raises:
        MatchError: they do not transform into each other: they are not the gradient of what was proved; or the model's
            forward or backward fails.
    """
    if not sites:
        return Gradient()
    if not small(model):
        return Gradient(why=_unseen(model))
    later = [name for name, p in model.named_parameters() if after_accumulation(p)]
    with as_trained(model, moved=True):
        point = _Point(model, sites, names, counted, still)
        coarsest = point.in_float64(places, thorough=by_hand)
        own = places if by_hand else places[:1]
        hooked = {name for place in own for name in point.in_its_own_type(place, coarsest)}
    why = [f"the gradient of {name} is not finite where it was looked at" for name in sorted(point.blind)]
    why += [f"a hook runs after the gradient of {name} is accumulated" for name in later]
    coarse = any(p.dtype.itemsize < 4 for p in model.parameters() if wide(p.dtype))
    rounded = {gauge: str(kind).removeprefix("torch.") for gauge, kind in point.rounded.items() if not coarse}
    return Gradient(frozenset(hooked), rounded, why[0] if why else "")


def _unseen(model: nn.Module) -> str:
    meta = any(p.is_meta for p in model.parameters())
    return "the parameters have no values" if meta else "the model has more than 3e8 parameters"


@dataclass(frozen=True)
class _Subject:
    """A model at one input, to be run at values of its parameters.

    names: of every parameter the canonical one.  sizes: of the loss.  neutral: what makes its casts neutral.
    """

    model: nn.Module
    data: Data
    names: Mapping[str, str]
    counted: Counted
    sizes: Sequence[float]
    rounding: _Rounding
    neutral: Neutral | None = None

    def at(self, values: Mapping[str, Tensor]) -> Pass:
        return run(self.model, values, self.names, self.data, self.counted, self.sizes, self.neutral)


class _Point:
    """One θ of a model, and gθ.

    theta: by canonical names, in float64.  pairs: every site with its element.  blind: parameters whose gradient is not
    finite here.  rounded: gauges that move what is cast to 16 bits, and the type of that.
    """

    def __init__(
        self,
        model: nn.Module,
        sites: Sequence[Site],
        names: Mapping[str, str],
        counted: Counted,
        still: Collection[str],
    ) -> None:
        self.model, self.names, self.counted = model, names, counted
        self.generator = torch.Generator().manual_seed(0)
        self.theta: Values = {}
        for name, p in model.named_parameters():
            if changeable(p):
                # away from the zeros and ones of an initialisation, at which a wrong gradient may hide
                noise = 0.1 * torch.randn(p.shape, generator=self.generator) * (names[name] not in still)
                self.theta[names[name]] = (p.detach().cpu() + noise).to(p.dtype).double().contiguous()
        self.pairs = [(site, element(site, self.generator)) for site in sites]
        self.moved = {binding.parameter for site in sites for binding in site.bindings}
        self.blind: set[str] = set()
        self.rounded: dict[str, torch.dtype] = {}
        self.gauges = tuple(dict.fromkeys(site.gauge for site in sites))

    def in_float64(self, places: Sequence[Data], thorough: bool) -> torch.dtype:
        """Compares a copy in float64 at several inputs; thorough: for losses of every size at each.

        Returns: the floating type of the fewest digits that a value passes through.
        """
        neutral = Neutral()
        with _refused("the model cannot take a training step in float64"):
            twin = copied_model(self.model).cpu().double()
            for p in twin.parameters():
                p.requires_grad_(p.is_floating_point())
            for number, place in enumerate(places):
                data, sizes = mapped(_double, *place), SIZES if thorough or not number else SIZES[:1]
                subject = _Subject(twin, data, self.names, self.counted, sizes, _rounding(torch.float64), neutral)
                before = subject.at(self.theta)
                self._reached(before)
                self.compare(subject, before)
                for gauge in self.gauges if before.casts else ():
                    kind = _rounded(before, subject.at(moved(self.theta, self.of(gauge))))
                    self.rounded |= {} if kind is None else {gauge: kind}
        return neutral.coarsest

    def in_its_own_type(self, place: Data, coarsest: torch.dtype) -> frozenset[str]:
        """Compares the model itself at one input, and with a copy of it in the same type.

        Returns: the parameters of which the copy has another gradient.
        """
        kinds = {coarsest, *(p.dtype for p in self.model.parameters() if wide(p.dtype))}
        rounding = _rounding(max(kinds, key=lambda kind: torch.finfo(kind).eps))
        # 16 bits with a short range know no other sizes than their own
        sizes = SIZES[:1] if torch.float16 in kinds else SIZES
        own = _Subject(self.model, copied(*place), self.names, self.counted, sizes, rounding)
        there = moved(self.theta, self.pairs)
        with _refused("the model cannot take a training step"), unheard(self.model.parameters()):
            before, after = own.at(self.theta), own.at(there)
            twin = replace(own, model=copied_model(self.model)).at(there)
            self._reached(twin, after)
            if not all(_same(*x, rounding.eps) for x in zip(after.outputs, twin.outputs, strict=True)):
                raise MatchError(
                    "a copy of the model is another function than the model",
                    help="a hook or a closure speaks of the model itself: let it read what it is given",
                )
            hooked = frozenset(
                name
                # at all other sizes both are as many times those for 1
                for size in ({**after.gradients, **twin.gradients} if after.gradients else ())
                for name, x in after.gradient(size).items()
                if not _same(x, twin.gradient(size)[name], rounding.eps)
            )
            self.compare(own, before, hooked, after)
        return hooked

    def _reached(self, seen: Pass, by: Pass | None = None) -> None:
        """A copy whose forward reads the original's parameters, through a closure, shows nothing of the model."""
        lost = sorted((self.moved & seen.without) - (by.without if by is not None else frozenset()))
        if lost:
            raise MatchError(f"no gradient reaches {lost[0]} in a copy of the model")

    def of(self, gauge: str) -> list[tuple[Site, Tensor]]:
        """The sites of one gauge, with their elements."""
        return [pair for pair in self.pairs if pair[0].gauge == gauge]

    def compare(
        self, subject: _Subject, before: Pass, hooked: frozenset[str] = frozenset(), known: Pass | None = None
    ) -> None:
        """Compares θ with gθ, but for the gradients of parameters that are hooked and moved: these have no site.

        known: the pass at gθ, where it was made.

        Raises:
            MatchError: something has changed that must not.
        """

        swing = self.swing(before)

        def share(pairs: Sequence[tuple[Site, Tensor]], known: Pass | None = None) -> float:
            there = moved(self.theta, pairs)
            after = known or subject.at(there)
            worst = _change(before.outputs, after.outputs, subject.rounding, swing)
            for size in (n for n in subject.sizes if n in before.gradients or n in after.gradients):
                one, two = before.gradient(size), after.gradient(size)
                both = {name: (one[name], two[name]) for name in one if name not in hooked & self.moved}
                worst = max(worst, self.unlike(both, pairs, size, subject.rounding))
            return worst

        if share(self.pairs, known) <= subject.rounding.share:
            for size in before.gradients:
                # a loss of yet another size may be one at which two gauge copies part
                if not before.proportional(size, subject.rounding.eps, hooked | self.blind):
                    raise MatchError(
                        "the gradient is not that of the forward: it is not proportional to the loss, at "
                        f"{size:.0e} times its size",
                        help="a hook or a custom backward cuts or rounds it",
                    )
            return
        alone = {gauge: share(self.of(gauge)) for gauge in self.gauges}
        gauge = max(alone, key=lambda name: alone[name])
        raise MatchError(
            f"the gradient is not that of the forward: under {gauge} it is off by {alone[gauge]:.1e} of its size",
            help="a hook or a custom backward changes it, or the forward is another function at other sizes",
        )

    def swing(self, at: Pass) -> float:
        """By how much the loss would change, to first order, if every parameter changed by as much as it is.

        A loss is the sum of terms of that size; where they cancel, its rounding is theirs, not that of what is left.
        """
        gradient = at.gradient(1.0) if at.gradients else {}
        terms = (float((self.theta[name] * x).abs().sum()) for name, x in gradient.items())
        return sum(term for term in terms if math.isfinite(term))

    def unlike(
        self,
        gradients: Mapping[str, tuple[Tensor, Tensor]],
        pairs: Sequence[tuple[Site, Tensor]],
        size: float,
        rounding: _Rounding,
    ) -> float:
        """By how much two gradients differ as covectors, in a few directions.

        Each is compared by itself: a large gradient does not hide a small one (one that is rounding beside the others
        is no gradient).
        """
        worst = 0.0
        back = pulled(self.theta, pairs, {name: after.double() for name, (_, after) in gradients.items()})
        unknown = _read_by(self.moved - gradients.keys(), pairs)
        gradients = {name: both for name, both in gradients.items() if name not in unknown}
        for _ in range(DIRECTIONS):
            u = {
                name: torch.randn(x.shape, generator=self.generator, dtype=torch.float64) * x.square().mean().sqrt()
                for name, x in self.theta.items()
            }
            sizes = {name: float((one * u[name]).square().sum().sqrt()) for name, (one, _) in gradients.items()}
            largest = max((n for n in sizes.values() if math.isfinite(n)), default=0.0)
            for name, (before, _) in gradients.items():
                one = float((before * u[name]).sum())
                two = float((back[name] * u[name]).sum())
                if not math.isfinite(one) and not math.isfinite(two) and (size == 1.0 or name in self.blind):
                    self.blind.add(name)
                    continue
                scale = max(sizes[name], rounding.faint * largest, max(1e-12, 32 * rounding.eps) * size)
                away = abs(one - two) / scale
                worst = max(worst, away if math.isfinite(away) else math.inf)
        return worst


def _read_by(names: Collection[str], pairs: Sequence[tuple[Site, Tensor]]) -> set[str]:
    """What movements of parameters read, directly or not: if these have no gradients, of its own a part is missing."""
    reads: dict[str, set[str]] = {}
    for binding in (binding for site, _ in pairs for binding in site.bindings):
        weights = (each.weight for each in binding.chart.summands)
        reads.setdefault(binding.parameter, set()).update(binding.chart.reads, weights)
    found, todo = set[str](), list(names)
    while todo:
        more = reads.get(todo.pop(), set()) - found
        found |= more
        todo += more
    return found


def _rounded(before: Pass, after: Pass) -> torch.dtype | None:
    """A type to which something is cast that is not the same in two passes."""
    for (kind, one), (_, two) in zip(before.casts, after.casts):
        near = 1e-6 * float(one[0]) if one[0].isfinite() else 0.0
        if not torch.allclose(one, two, rtol=0.0, atol=near, equal_nan=True):  # a mean of nothing is no number in both
            return kind
    return None


def _change(before: Sequence[Tensor], after: Sequence[Tensor], rounding: _Rounding, swing: float) -> float:
    """The largest change of an output against its spread, or a hundredth of its size; rounding is none.

    swing: the size of the terms that an output of one number is made of.
    """
    worst = 0.0
    for a, b in zip(before, after, strict=True):
        if a.shape != b.shape or not torch.equal(torch.isfinite(a), torch.isfinite(b)):
            return math.inf
        a, b = a[torch.isfinite(a)], b[torch.isfinite(b)]
        if a.numel():
            size = float(a.abs().max())
            spread = max(float(a.max() - a.min()), size * 1e-2, 1e-30)
            rounded = 64 * rounding.eps * max(size, swing if a.numel() == 1 else 0.0)
            worst = max(worst, (float((a - b).abs().max()) - rounded) / spread)
    return worst


def _same(one: Tensor, two: Tensor, eps: float) -> bool:
    """Are two results of one computation equal, but for the order of a sum?"""
    finite = torch.isfinite(one)
    if one.shape != two.shape or not torch.equal(finite, torch.isfinite(two)):
        return False
    one, two = one[finite], two[finite]
    return not one.numel() or bool((one - two).abs().max() <= 32 * eps * one.abs().max())


def _double(x: Any) -> Any:
    if not isinstance(x, Tensor):
        return x
    return x.detach().cpu().double() if x.dtype.is_floating_point else x.detach().cpu()


@contextlib.contextmanager
def _refused(what: str) -> Iterator[None]:
    """An exception of the model is a refusal."""
    try:
        yield
    except MatchError:
        raise
    except Exception as error:
        raise MatchError(
            f"{what}: {first_line(error)[:200]}",
            help="a copy of it, on the CPU, must run with these inputs and backward",
        ) from error
