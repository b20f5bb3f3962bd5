"""From the charts of bindings to those of parameters, and what a gauge does in them.

A parameter has one chart, whatever gauges move it: the factors and summands of all of them.  What a gauge does is said
in the coordinates of its own chart; here it is said in those of the parameter's.  Where that is no longer the same kind
of movement with a constant power the gauges cannot be combined.

Not here: components, frames, source text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from math import prod

from gaugec.codegen.ir import Actor, Row
from gaugec.codegen.overlap import Axis, Box, Shared, disjoint, share
from gaugec.errors import GaugeError
from gaugec.sites import Chart, Factor, Site, Summand

Boxed = Callable[[Actor, Row], Box]


def united(sites: Sequence[Site]) -> dict[str, Chart]:
    """The chart of every parameter that has one: all factors and summands that the sites give it.

    Raises GaugeError where two sites contradict each other about one gain or one bias.
    """
    factors: dict[str, dict[str, Factor]] = {}
    summands: dict[str, dict[tuple[int, str, int, str, int], Summand]] = {}
    for site in sites:
        for binding in site.bindings:
            name = binding.parameter
            for factor in map(_merged, binding.chart.factors):
                if factors.setdefault(name, {}).setdefault(factor.parameter, factor) != factor:
                    raise GaugeError(
                        f"{site.gauge} and another gauge multiply {name} by {factor.parameter} in different ways: "
                        "together they are not supported",
                        help="leave one of them out of the spec",
                    )
            for each in binding.chart.summands:
                key = (each.offset, each.weight, each.weight_offset, each.bias, each.bias_offset)
                if summands.setdefault(name, {}).setdefault(key, each) != each:
                    raise GaugeError(
                        f"{site.gauge} and another gauge add {each.bias} to {name} in different ways: together they "
                        "are not supported",
                        help="leave one of them out of the spec",
                    )
    for site in sites:
        for name, factor in _beside(site, factors):
            factors.setdefault(name, {})[factor.parameter] = factor
    names = dict.fromkeys([*factors, *summands])
    out = {name: Chart(tuple(factors.get(name, {}).values()), tuple(summands.get(name, {}).values())) for name in names}
    _check(out)
    return out


def _beside(site: Site, factors: Mapping[str, Mapping[str, Factor]]) -> list[tuple[str, Factor]]:
    """Where a scale moves a gain that is held: the factors by which all else that it moves stands still.

    c g and W / c are one function with g and W, so that it is one of W * g.
    """
    held = {gain for there in factors.values() for gain in there}
    gains = [binding for binding in site.bindings if binding.parameter in held and binding.move.kind == "scale"]
    if len(gains) != 1 or site.wide:
        return []
    (gain,) = gains
    out = []
    for each in site.bindings:
        power = -each.move.exponent / gain.move.exponent
        axes = [*zip((*each.copies, *each.group), (*gain.copies, *gain.group))]
        if each is gain or each.move.kind != "scale" or each.shift_by or gain.rest or power.denominator != 1:
            continue
        if gain.parameter in factors.get(each.parameter, {}) or any(one[0] != two[0] for one, two in axes):
            continue
        steps = tuple((one[0], one[1], two[1]) for one, two in axes)
        out.append((each.parameter, _merged(Factor(gain.parameter, gain.offset, steps, power, gain.shift_by))))
    return out


def _check(charts: Mapping[str, Chart]) -> None:
    """Raise GaugeError for charts that no optimizer is compiled for."""
    for name, chart in charts.items():
        gains = [each.parameter for each in chart.factors]
        if any(each.power.denominator != 1 for each in chart.factors):
            raise GaugeError(
                f"{name} is moved times {gains[0]} to a power that is no integer: not supported, gains may be negative",
                help="leave the gauge out of the spec",
            )
        if (gains and chart.summands) or any(gain in charts for gain in gains):
            raise GaugeError(
                f"{name} is moved times {gains[0]}, and one of the two in other coordinates as well: not supported",
                help="leave one of the gauges out of the spec",
            )
    left = {name: {each.bias for each in chart.summands} for name, chart in charts.items() if chart.summands}
    while left:
        ready = [name for name, biases in left.items() if not biases & (left.keys() - {name}) and name not in biases]
        if not ready:
            raise GaugeError(
                f"what is added to {', '.join(sorted(left))} reads one another in a circle: not supported",
                help="leave one of the gauges out of the spec",
            )
        left = {name: biases for name, biases in left.items() if name not in ready}


def _merged(factor: Factor) -> Factor:
    """The same with axes that follow on one another as one."""
    out: list[tuple[int, int, int]] = []
    for size, stride, step in sorted(factor.axes, key=lambda axis: -axis[1]):
        if size > 1 and out and out[-1][1:] == (size * stride, size * step):
            out[-1] = (out[-1][0] * size, stride, step)
        elif size > 1:
            out.append((size, stride, step))
    return replace(factor, axes=tuple(out))


def region(each: Factor | Summand) -> Box:
    """What of a gain or of a bias is read, and so held."""
    if isinstance(each, Factor):
        return Box(each.offset, tuple(Axis(size, step) for size, _, step in each.axes if step))
    strides = [(axis[0], axis[-1]) for axis in (*each.kept, *each.summed)]
    return Box(each.bias_offset, tuple(Axis(size, stride) for size, stride in strides if stride))


def held(charts: Mapping[str, Chart]) -> dict[str, tuple[Box, ...]]:
    """By slot what charts read of it; of two that overlap, the larger."""
    out: dict[str, list[Box]] = {}
    every: list[Factor | Summand] = []
    for chart in charts.values():
        every += [*chart.factors, *chart.summands]
    for each in every:
        name, box = (each.parameter if isinstance(each, Factor) else each.bias), region(each)
        others = out.setdefault(name, [])
        if any(share(box, other) for other in others):
            continue
        others[:] = [other for other in others if not share(other, box)]
        if not all(disjoint(box, other) for other in others):
            raise GaugeError(
                f"two gauges hold parts of {name} that overlap: together they are not supported",
                help="leave one of them out of the spec",
            )
        others.append(box)
    return {name: tuple(boxes) for name, boxes in out.items()}


def unseen(sites: Sequence[Site]) -> frozenset[tuple[str, int]]:
    """The biases in sums, and where they begin, that the function does not see: a site moves all of one by any vector.

    With b -> b + a, B -> B - W a the function is that of B + W b, with b = 0.  So all that moves W and B and leaves a
    b of 0 as it is, moves W and B + W b alike, whatever b is.
    """
    return frozenset(
        (binding.parameter, binding.offset)
        for site in sites
        for binding in site.bindings
        if binding.move.kind == "shift" and all(n == 1 for n, _ in (*binding.copies, *binding.group))
        for each in (each for other in site.bindings for each in other.chart.summands)
        if (each.bias, each.bias_offset) == (binding.parameter, binding.offset)
        and share(region(each), Box(binding.offset, tuple(Axis(*axis) for axis in binding.rest)))
        and region(each).count == prod(n for n, _ in binding.rest)
    )


def reads(chart: Chart) -> tuple[str, ...]:
    """Everything that a chart reads: what is held, and the weights of its sums."""
    return (*chart.reads, *(each.weight for each in chart.summands if each.weight))


def _places(
    each: Summand, on: Mapping[str, Sequence[Row]], at: Callable[[Sequence[Row], int], object]
) -> Iterator[tuple[int, int, int]]:
    """Entries of target, weight and bias that meet in a sum: of slices in strides these say what all do.

    Every kept entry with the first summed one; and with all of them, one kept entry for every row that moves them.
    """
    kept = [(each.offset, each.weight_offset, each.bias_offset)]
    for size, *strides in each.kept:
        kept = [(x + i * strides[0], w + i * strides[1], b + i * strides[2]) for x, w, b in kept for i in range(size)]
    summed = [(0, 0)]
    for size, w_stride, b_stride in each.summed:
        summed = [(w + i * w_stride, b + i * b_stride) for w, b in summed for i in range(size)]
    met = set()
    for x, w, b in kept:
        yield x, w, b
        found = tuple(None if (row := at(rows, i)) is None else row[0] for rows, i in zip(on.values(), (x, w, b)))  # type: ignore[index]
        if found not in met:
            met.add(found)
            yield from ((x, w + more, b + other) for more, other in summed)


class InCharts:
    """What a gauge does in the coordinates of the parameters' charts; slots and what is held are those of a component.

    charts: by slot, over slots.  own: by slot, what the gauge's own bindings have.  free: see `unseen`.  counts:
    entries by slot.
    """

    def __init__(
        self,
        actor: Actor,
        charts: Mapping[str, Chart],
        own: Mapping[str, Chart],
        free: frozenset[tuple[str, int]],
        counts: Mapping[str, int],
        box: Boxed,
    ) -> None:
        self.actor, self.charts, self.own, self.free, self.counts, self.box = actor, charts, own, free, counts, box
        self.moved = {row.slot for row in actor.rows if not row.still}

    def actor_there(self) -> Actor:
        """The gauge with its rows as they are there; those that stand still are left out.

        Raises GaugeError where it is another movement there.
        """
        for slot, chart in self.charts.items():
            self._whole(slot, chart)
            for each in chart.summands:
                if each not in self.own.get(slot, Chart()).summands:
                    self._carried(slot, each)
        rows = [self._there(row) for row in self.actor.rows]
        self._alike(rows)
        left = tuple(row for row in rows if not row.still)
        changed = [new for old, new in zip(self.actor.rows, rows) if old.power != new.power]
        if changed and any(not row.held for row in left):
            raise self._refused(f"it does to {changed[0].role} what its fix line does not say")
        return replace(self.actor, rows=left)

    def _extra(self, slot: str) -> list[Factor]:
        """The factors of a slot that the gauge does not know of."""
        mine = {factor.parameter for factor in self.own.get(slot, Chart()).factors}
        return [factor for factor in self.charts.get(slot, Chart()).factors if factor.parameter not in mine]

    def _whole(self, slot: str, chart: Chart) -> None:
        """A gain that the gauge moves scales all of a tensor: all of that is moved too, or known to be so scaled."""
        if not any(factor.parameter in self.moved for factor in self._extra(slot)):
            return
        rows = [row for row in self.actor.rows if row.slot == slot]
        if sum(self.box(self.actor, row).count for row in rows) != self.counts[slot]:
            gain = next(f.parameter for f in chart.factors if f.parameter in self.moved)
            raise self._refused(f"it moves {gain}, which is held, and not all that {gain} multiplies")

    def _there(self, row: Row) -> Row:
        power = row.power
        for factor in self._extra(row.slot):
            seen = self._seen(row, factor)
            gains = [each for each in self.actor.rows if each.slot == factor.parameter and not each.still]
            if not gains:
                if self.actor.kind != "scale" and any(b.step and a.mixed for a, b in zip(seen.inner, seen.outer)):
                    raise self._refused(f"it mixes entries of {row.role} that {factor.parameter} multiplies unlike")
                continue
            if self.actor.kind != "scale" or factor.shift_by != gains[0].shift_by:
                raise self._refused(f"it moves {factor.parameter}, which is held, by no scale")
            if len(gains) > 1 or row.still or not self._together(gains[0], factor, seen):
                raise self._refused(f"it scales {factor.parameter} and {row.role} along different axes")
            power += factor.power * gains[0].power
        if power == row.power:
            return row
        tangent = replace(row.tangent, weight=power, pull=-power)
        return replace(row, power=power, tangent=tangent, still=not power)

    def _seen(self, row: Row, factor: Factor) -> Shared:
        """A row through the axes along which a factor varies and those along which it does not."""
        axes, covered = list[Axis](), 1
        for size, stride, step in sorted(factor.axes, key=lambda axis: axis[1]):
            if stride % covered:
                raise self._refused(f"{factor.parameter} multiplies {row.role} along axes that lie askew")
            if stride > covered:
                axes.append(Axis(stride // covered, covered))
            axes.append(Axis(size, stride, step))
            covered = size * stride
        count = self.counts[row.slot]
        if count % covered:
            raise self._refused(f"{factor.parameter} multiplies {row.role} along axes that lie askew")
        if count > covered:
            axes.append(Axis(count // covered, covered))
        seen = share(self.box(self.actor, row), Box(0, tuple(axes)))
        if seen is None:
            raise self._refused(f"{factor.parameter} multiplies {row.role} along axes that lie askew")
        return seen

    def _together(self, gain: Row, factor: Factor, seen: Shared) -> bool:
        """Is every entry of a row scaled by the same unit as the entry of the gain that multiplies it?"""
        pairs = [(mine, theirs) for mine, theirs in zip(seen.inner, seen.outer) if mine.size > 1]
        if any(mine.step and not theirs.step for mine, theirs in pairs):
            return False
        entries = Box(
            factor.offset + seen.outer_start,
            tuple(Axis(mine.size, theirs.step, mine.step) for mine, theirs in pairs if theirs.step),
        )
        met = share(entries, self.box(self.actor, gain))
        return met is not None and not met.outer_start and all(a.step == b.step for a, b in zip(met.inner, met.outer))

    def _alike(self, rows: Sequence[Row]) -> None:
        """A shift of a tensor that a gain multiplies is another number there: so there is one row of it."""
        if self.actor.kind != "shift":
            return
        stepped = [row for row in rows if not row.still and not row.held]
        if len(stepped) > 1 and any(self._extra(row.slot) for row in stepped):
            raise self._refused(f"it shifts {stepped[0].role} and more, which gains multiply")

    def _carried(self, slot: str, each: Summand) -> None:
        """A sum that the gauge does not know of is moved as what it is added to, or the function does not see it."""
        on = {name: [row for row in self.actor.rows if row.slot == name and not row.still and self._met(row, each)]
              for name in (slot, each.weight, each.bias)}  # fmt: skip
        if (each.bias, each.bias_offset) in self.free and not (self.actor.kind == "shift" and on[each.bias]):
            return
        if self.actor.kind == "shift" and (on[each.weight] or on[each.bias]):
            raise self._refused(f"it shifts what is added to {slot}, {each.bias}, and does not say what that does")
        if self.actor.kind == "shift" or not any(on.values()):
            return
        weight, bias = (self.own.get(name, Chart()).factors for name in (each.weight, each.bias))
        undone = {each.parameter: each.power for each in weight} == {each.parameter: -each.power for each in bias}
        if not undone or not all(self._goes(each, on, place) for place in _places(each, on, self._at)):
            raise self._refused(f"it moves {slot} and what is added to it, {each.bias}, unlike")

    def _goes(self, each: Summand, on: Mapping[str, Sequence[Row]], place: tuple[int, int, int]) -> bool:
        """Is one product of weight and bias moved as the entry that it is added to?"""
        target, weight, bias = (
            self._at(rows, offset) for rows, offset in zip(on.values(), place, strict=True)
        )
        if self.actor.kind == "scale":
            powers: dict[object, Fraction] = {}
            for found, sign in ((target, -1), (weight, 1), (bias, 1)):
                if found is not None:
                    powers[found[1:]] = powers.get(found[1:], Fraction(0)) + sign * found[0].power
            return not any(powers.values())
        if weight is None or bias is None:
            one = weight if bias is None else bias
            same = None if one is None or target is None else (one[0].tangent.dual == target[0].tangent.dual)
            return (one is None and target is None) or (bool(same) and one[1:] == target[1:])  # type: ignore[index]
        opposite = self.actor.kind != "matrix" or weight[0].tangent.dual != bias[0].tangent.dual
        return target is None and opposite and weight[1:] == bias[1:]

    def _at(self, rows: Sequence[Row], offset: int) -> tuple[Row, int, tuple[int, ...]] | None:
        """The row that moves an entry, the place of its coefficient, and its own along what else is mixed."""
        for row in rows:
            box = self.box(self.actor, row)
            rest, place, mixed = offset - box.offset, 0, list[int]()
            for axis in sorted((a for a in box.axes if a.size > 1), key=lambda axis: -axis.stride):
                digit = min(max(rest, 0) // axis.stride, axis.size - 1)
                rest -= digit * axis.stride
                place += digit * axis.step
                mixed += [digit] if axis.mixed and not axis.step else []
            if not rest:
                return row, place, tuple(mixed)
        return None

    def _met(self, row: Row, each: Summand) -> bool:
        """May a row move something that a sum reads?"""
        if row.slot == each.bias:
            return not disjoint(self.box(self.actor, row), region(each))
        if row.slot == each.weight:
            strides = [(axis[0], axis[-2]) for axis in (*each.kept, *each.summed)]
            axes = tuple(Axis(size, stride) for size, stride in strides if stride)
            return not disjoint(self.box(self.actor, row), Box(each.weight_offset, axes))
        return True

    def _refused(self, why: str) -> GaugeError:
        return GaugeError(
            f"{self.actor.gauge} cannot be combined with the gauges that hold gains or biases: {why}",
            help="leave it out of the spec, or those that hold them",
        )


