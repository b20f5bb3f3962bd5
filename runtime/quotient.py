"""Models and checkpoints up to their gauges: canonical representatives, copies, distances, aligned paths.

Scales and shifts have a canonical form: the `fix` line of the spec, and of what a shift adds to, the representative of
least norm (mean zero).  Rotations have none, and an invertible basis is balanced up to one; between two points the
nearest one is solved for (see `alignment`).  All
is computed in float64 on the CPU, place after place, and rounded once.

Not here: training.  An optimizer keeps its state in coordinates of the parameters that it was made with: move them
before it is made.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from gaugec.runtime import elements, frames, multipliers
from gaugec.runtime.alignment import Alignment, align
from gaugec.runtime.component import Component
from gaugec.runtime.frames import FAR, FAR_HALF
from gaugec.runtime.holdings import Holding, Source, holding, titles
from gaugec.runtime.layout import Tensors
from gaugec.runtime.listed import listed
from gaugec.runtime.names import bare
from gaugec.runtime.shifts import along

if TYPE_CHECKING:
    from gaugec.runtime.gauge import Gauge


class Position(NamedTuple):
    """Where a point stands on its orbit.

    values: its canonical representative, slot -> [1, *shape].  scales, shifts: what brought the point there, first the
    scales and matrices, then the shifts, gauge -> [1, copies, size, ...].  live: gauge with scales -> where there is a
    canonical form.
    """

    values: Tensors
    scales: Tensors
    shifts: Tensors
    live: Tensors


def position(
    component: Component, point: Tensors, off: Collection[str] = frozenset(), far: float = FAR
) -> Position:
    """Bring a point, slot -> [1, *shape] in float64, to its canonical representative, as new tensors.

    off: gauges that stand still.  far: a scale beyond it, or below its inverse, is none; such units keep a scale of 1.
    """
    frame = component.frame(component.summed(point), off=frozenset(off), far=far)
    scales, live = _to_ones(component, component.charted(point), off, far)
    scales, live = {**frame.scales, **scales}, {**frame.live, **live}
    scaled = component.act(point, {**elements.identities(component), **scales})
    there = component.charted(scaled)
    shifts = {**_to_least_norm(component, there, off), **_to_zero(component, there, off)}
    values = component.act(scaled, {**elements.identities(component), **shifts}) if shifts else scaled
    return Position(values, scales, shifts, live)


def put(component: Component, values: Tensors, there: Position) -> Tensors:
    """Move canonical values to where a point stood that had the position `there`, as new tensors."""
    still = elements.identities(component)
    for element in (there.shifts, there.scales):
        undone = {name: elements.inverse(component.elements[name][0], x) for name, x in element.items()}
        values = component.act(values, {**still, **undone}) if undone else values
    return values


def _to_ones(
    component: Component, point: Tensors, off: Collection[str], far: float
) -> tuple[Tensors, Tensors]:
    """The scales of gauges that move only what is held, after which it is of norm 1; and where there are some."""
    scales, live = Tensors(), Tensors()
    for gauge in component.idle:
        if gauge.framed and gauge.name not in off:
            row, part = gauge.all[0]
            scale = frames.norm(point, [part]).pow(-1 / row.power)
            live[gauge.name] = frames.alive(scale, far)
            scales[gauge.name] = torch.where(live[gauge.name], scale, torch.ones_like(scale))
    return scales, live


def _to_zero(component: Component, point: Tensors, off: Collection[str]) -> Tensors:
    """The shifts of gauges that move nothing but what is held after which that has no part along them."""
    shifts, values = Tensors(), {slot: x.clone() for slot, x in point.items()}
    for gauge in component.unheld:
        if gauge.kind == "shift" and gauge.name not in (*off, *component.by_name) and gauge.name in component.elements:
            shifts[gauge.name] = -gauge.covertical(values, values, {}) / gauge.count  # type: ignore[attr-defined]
            gauge.lift(values, values, shifts[gauge.name], 1.0)
    return shifts


def _to_least_norm(component: Component, point: Tensors, off: Collection[str]) -> Tensors:
    """The shifts, of all gauges jointly, after which the norm of the point is least."""
    shifts = [gauge for gauge in component.shifts if gauge.name not in off]
    return {name: -a for name, a in along(shifts, point).items()} if shifts else {}


# --- canonical representatives


@dataclass(frozen=True)
class Canonicalized:
    """What was done to bring parameters to canonical form, by site: "gauge of a parameter".

    scaled: the largest factor, or one over it, by which a unit was scaled, or a head's basis stretched.  shifted: the
    root mean square of what was added.  rotated: sites of rotations, which have no canonical form and were left as they
    are.  formless: sites with units that have none (a norm of zero, a scale out of range, a singular head) and were
    left as they are, and how many.  off: sites that were left alone because they would move frozen parameters, and
    which.
    """

    scaled: dict[str, float] = field(default_factory=dict)
    shifted: dict[str, float] = field(default_factory=dict)
    rotated: list[str] = field(default_factory=list)
    formless: dict[str, int] = field(default_factory=dict)
    off: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def __str__(self) -> str:
        """One line for each kind of site."""
        most = max(self.scaled.values(), default=1.0)
        lines = [f"{_count(len(self.scaled), 'site')} scaled, by a factor of at most {most:.3g}"]
        lines += [f"{_count(len(self.shifted), 'site')} shifted"] if self.shifted else []
        lines += [f"{_count(len(self.rotated), 'site')} of rotations left as they are"] if self.rotated else []
        lines += formless_in_words(self.formless)
        lines += [f"{title} is off: {', '.join(names)} frozen" for title, names in self.off.items()]
        return "\n".join(lines)


def formless_in_words(formless: Mapping[str, int]) -> list[str]:
    """A line for each site with units that have no canonical form."""
    return [f"{_count(count, 'unit')} without canonical form in {title}" for title, count in formless.items()]


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def canonical(gauge: Gauge, source: Source) -> tuple[dict[str, Tensor], Canonicalized]:
    """The moved parameters of the same function at its canonical representative, by the names that they came with.

    Tied parameters stay one tensor, and gauges that would move frozen ones are off.  Copies on the devices and in the
    dtypes of the source.  Raises as `holdings.holding`.
    """
    held = holding(gauge, source, "the model" if isinstance(source, nn.Module) else "the checkpoint")
    done = Canonicalized()
    moved: dict[str, Tensor] = {}
    called = titles(gauge)
    for key, component, names in gauge.places():
        frozen = held.off(component, names)
        here = position(component, held.at(component.shapes, names), frozen, _far(held, names))
        moved |= _named_values(held, component, names, here.values)
        for action in (*component.gauges, *component.idle):
            title = called[key, action.name]
            if action.name in frozen:
                done.off[title] = tuple(frozen[action.name])
            elif action.framed:
                _note_scales(done, title, here.scales[action.name], here.live[action.name])
            elif action.name in here.shifts:
                done.shifted[title] = elements.length(action.kind, here.shifts[action.name])
            else:
                done.rotated.append(title)
    return moved, done


def _note_scales(done: Canonicalized, title: str, scales: Tensor, live: Tensor) -> None:
    done.scaled[title] = math.exp(float(multipliers.stretches(scales).log().abs().max()))
    if not bool(live.all()):
        done.formless[title] = int((~live).sum())


def canonicalize_(gauge: Gauge, model: nn.Module) -> Canonicalized:
    """Move a model to the canonical representative of its function, in place; see `canonical`."""
    moved, done = canonical(gauge, model)
    _write(model, moved)
    return done


# --- copies


def random_copy(gauge: Gauge, model: nn.Module, generator: torch.Generator | None = None) -> nn.Module:
    """A deep copy of a model, moved by a random element of every gauge: other parameters, the same function.

    Scales are e^(0.7 N), rotations of both determinants.  Gauges that would move frozen parameters stand still.
    """
    held = holding(gauge, model, "the model")
    element = gauge.random_element(generator)
    off = {name for _, component, names in gauge.places() for name in held.off(component, names) if name in gauge.wide}
    wide = {name: x for name, x in element.get(elements.WIDE, {}).items() if name not in off}
    moved: dict[str, Tensor] = {}
    for key, component, names in gauge.places():
        frozen, still = held.off(component, names), elements.identities(component)
        here = {name: still[name] if name in frozen else x for name, x in element[key].items()} | wide
        moved |= _named_values(held, component, names, component.act(held.at(component.shapes, names), here))
    other = copy.deepcopy(model)
    _write(other, moved)
    return other


# --- between two


@dataclass(frozen=True)
class Distance:
    """How far two functions' parameters are apart, modulo the gauges; `float(distance)` is the number.

    value: the Euclidean distance of aligned canonical representatives, over all parameters.  size: the root mean square
    of the norms of the two.  parameters: the part of every parameter; its squares add up.  formless: sites with units
    that have no canonical form in one of the two, which count as they are, and how many.  wide: gauges that run through
    the whole model, modulo which the distance is not.  searched: sites of rotations
    that move entries together, whose minimum was searched for: the value is the least that was found.
    """

    value: float
    size: float
    parameters: dict[str, float]
    formless: dict[str, int]
    searched: tuple[str, ...]
    wide: tuple[str, ...] = ()

    def __float__(self) -> float:
        return self.value

    @property
    def relative(self) -> float:
        """The value over the size; 0 of a gauge copy, to rounding."""
        return self.value / self.size if self.size else 0.0


class _Met(NamedTuple):
    """Two points of one place: their positions, and what brings the second nearest to the first."""

    first: Position
    second: Position
    alignment: Alignment


def _meet(component: Component, names: tuple[str, ...], one: Holding, two: Holding) -> _Met:
    first, second = (position(component, each.at(component.shapes, names)) for each in (one, two))
    return _Met(first, second, align(component, first.values, second.values))


def distance(gauge: Gauge, a: Source, b: Source) -> Distance:
    """The distance of two models or checkpoints modulo all compiled gauges.

    Each is brought to its canonical representative, and the rotations are solved for that bring these nearest to each
    other.  The same, to the bit, for (b, a).  Of a gauge copy in float64 at most 1e-12 of the size, for elements of
    ordinary length; where a head's matrices have singular values that lie far apart digits are lost.  Parameters that
    no gauge moves count as they are; frozen ones count like the others.  Raises as `holdings.holding`, and
    ValueError for parameters that only one of the two has.
    """
    one, two = _two(gauge, a, b)
    called = titles(gauge)
    parts: dict[str, float] = {}
    formless: dict[str, int] = {}
    searched: list[str] = []
    size = 0.0
    for key, component, names in gauge.places():
        met = _meet(component, names, one, two)
        parts |= zip(names, met.alignment.squares.values())
        size += sum(float(x.square().sum()) for here in (met.first, met.second) for x in here.values.values())
        for name, live in met.first.live.items():
            lost = int((~(live & met.second.live[name])).sum())
            if lost:
                formless[called[key, name]] = lost
        if met.alignment.searched:
            searched += [called[key, action.name] for action in component.gauges if action.mixes]
    for name, here in one.others.items():
        x, y = one.point(here), two.point(two.others[name])
        parts[here] = float((x - y).square().sum())
        size += float(x.square().sum() + y.square().sum())
    roots = {name: math.sqrt(square) for name, square in parts.items()}
    value, size = math.sqrt(math.fsum(parts.values())), math.sqrt(size / 2)
    return Distance(value, size, roots, formless, tuple(searched), tuple(gauge.wide))


def aligned(gauge: Gauge, a: Source, b: Source) -> dict[str, Tensor]:
    """All entries of b, by its names, with b's function moved along its orbit to where it is nearest to a.

    It stands where a stands on its own orbit: averages and paths between a and it are those of canonical coordinates.
    """
    one, two = _two(gauge, a, b)
    out = {name: x.clone() for name, x in two.entries.items()}
    for _, component, names in gauge.places():
        met = _meet(component, names, one, two)
        nearest = component.act(met.second.values, met.alignment.element)
        out |= _named_values(two, component, names, put(component, nearest, met.first))
    return out


def interpolate(gauge: Gauge, a: Source, b: Source, t: float) -> dict[str, Tensor]:
    """The point t of the straight path from a to `aligned(gauge, a, b)`: all entries of a, by its names.

    At t = 0 it is a, to the bit; at t = 1 it has b's function.  What is not floating point, a count, is that of the
    nearer end; an entry that only a has stays as it is.  Raises as `distance`, and ValueError for t that is no number.
    """
    if not math.isfinite(t):
        raise ValueError(f"t is a number, 0 at the first and 1 at the second, not {t!r}")
    one, end = holding(gauge, a, "the first"), aligned(gauge, a, b)
    two = holding(gauge, b, "the second")
    other = {two.called[name]: x for name, x in end.items()}
    other |= {name: end[here] for name, here in two.known.items()}
    tied = {here: name for name, known in one.known.items() for here in one.tied[known]}
    out: dict[str, Tensor] = {}
    for name, x in one.entries.items():
        y = other.get(tied.get(name, one.called[name]))
        if y is None:
            out[name] = x.clone()
        elif not x.is_floating_point():
            out[name] = (x if t < 0.5 else y).clone()
        else:
            wide = (1 - t) * x.double() + t * y.to(x.device, torch.float64)
            out[name] = x.clone() if t == 0 else wide.to(x.dtype)
    return out


# --- from holdings and back


def _two(gauge: Gauge, a: Source, b: Source) -> tuple[Holding, Holding]:
    """Both, with the same other parameters; ValueError where one has what the other has not."""
    one, two = holding(gauge, a, "the first"), holding(gauge, b, "the second")
    alone = [sorted({*here.others} - {*there.others}) for here, there in ((one, two), (two, one))]
    for names, which in zip(alone, ("first", "second")):
        if names:
            raise ValueError(f"only the {which} has {listed(names)}")
    for name, here in one.others.items():
        shapes = [tuple(each.entries[each.others[name]].shape) for each in (one, two)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"{here} has the shape {shapes[0]} in the first and {shapes[1]} in the second")
    return one, two


def _named_values(held: Holding, component: Component, names: tuple[str, ...], values: Tensors) -> dict[str, Tensor]:
    """Values of one place as they are held: by every name of a parameter, on its device and in its dtype."""
    out: dict[str, Tensor] = {}
    for slot, name in zip(component.shapes, names):
        here = held.known[bare(name)]
        value = values[slot].squeeze(0).to(held.entries[here].device, held.entries[here].dtype)
        out |= dict.fromkeys(held.tied[here], value)
    return out


def _far(held: Holding, names: tuple[str, ...]) -> float:
    half = any(held.entries[held.known[bare(name)]].dtype == torch.float16 for name in names)
    return FAR_HALF if half else FAR


@torch.no_grad()
def _write(model: nn.Module, moved: Mapping[str, Tensor]) -> None:
    entries = model.state_dict()
    for name, value in moved.items():
        entries[name].copy_(value)
