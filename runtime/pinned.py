"""Steps in a chart that stays, and pins: every so often the parameters go back along their orbits to where they began.

Nothing is projected. What runs along an orbit does not change the function at first order, and what it adds up to is
taken back by a group element h = ρ(θ₀)⁻¹ρ(θₜ), which does not change it at all: gains return to their size and their
readers take the difference, units return to balance, the mean of what a shift moves to what it was. The state of the
rule stays as it is. Chart, steps and h are equivariant, so the path of a gauge copy is the copy of the path.

A step of one tensor, in the parameter's own coordinates, with the factors f of its chart: the rule sees f g, and
p ← p − decay (p − centre) + f (direction). Eagerly tensor by tensor, rows that fit in a cache at a time, small tensors
of all layers together; or fused, one graph for all layers that look alike.

Not here: rules, gauges, what parameters there are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import accumulate

import torch
from torch import Tensor

from gaugec.runtime import actions
from gaugec.runtime.batch import Batch, stack, stepped
from gaugec.runtime.chart import Chart, Run, charts, joined, pooled, runs
from gaugec.runtime.frames import Frame
from gaugec.runtime.groups import raised
from gaugec.runtime.layout import Tensors
from gaugec.runtime.rules.rule import Averaging, Direction, Settings, UpdateRule, add
from gaugec.runtime.stepper import Stepper, gradient, named

SMALL = 1 << 15  # elements: below this, tensors of equal shape are stacked
TILE_CPU = 1 << 17  # elements that are stepped at a time: gradient, state, parameter and room stay in a cache together
TILE_GPU = 1 << 28


class Pinned(Stepper):
    """Steps that no gauge sees, and pins every `frame_every` of them."""

    orbit = "pinned"

    def __init__(self, rule: UpdateRule, frame_every: int, pooling: bool, compile: bool) -> None:
        super().__init__(rule, frame_every, pooling, compile)
        self._charts: dict[int, tuple[Batch, Frame | None, dict[str, Chart]]] = {}
        self._panels: tuple[list[tuple[Batch, Frame | None, int]], list[Panel]] = ([], [])
        self._room = Room()

    def advance(self, batches: Sequence[Batch], groups: Sequence[Settings]) -> None:
        """Pin where it is time, and step all places of batches; their charts are those of their first step."""
        for batch in batches:
            if batch.frame is None:
                batch.framed()
                self.look(batch)
            elif batch.step % self.frame_every == 0:
                pin(batch)
                self.look(batch)
            if batch.homes is None:
                batch.homes = means(batch)
            if not batch.state:
                batch.state = self.begin(batch)
        if self.compile:
            for batch in batches:
                batch.step += 1
                self._fused(batch, groups)
        else:
            panels = self._arranged(batches)
            for batch in batches:
                batch.step += 1
            for panel in panels:
                panel.step(groups)

    def _chart(self, batch: Batch) -> dict[str, Chart]:
        known = self._charts.get(id(batch))
        if known is None or known[0] is not batch or known[1] is not batch.frame:
            known = (batch, batch.frame, charts(batch, batch.homes or {}))
            self._charts[id(batch)] = known
        return known[2]

    # --- eager

    def _arranged(self, batches: Sequence[Batch]) -> list[Panel]:
        """The panels of batches; made anew when they, their charts or their numbers of steps are not what they were."""
        first = batches[0].step
        key = [(batch, batch.frame, batch.step - first) for batch in batches]
        known, panels = self._panels
        if len(key) != len(known) or any(
            one[0] is not two[0] or one[1] is not two[1] or one[2] != two[2] for one, two in zip(key, known)
        ):
            panels = self._made(batches)
            self._panels = (key, panels)
        return panels

    def _made(self, batches: Sequence[Batch]) -> list[Panel]:
        alike: dict[object, list[Panel]] = {}
        for batch in batches:
            chart = self._chart(batch)
            for slot, params in batch.slots.items():
                if not batch.trainable(slot):
                    continue
                p, places = params[0], range(len(params))
                if p.numel() < SMALL:
                    kind = (id(batch.component), slot, p.dtype, p.device, batch.groups[slot], batch.step)
                    alike.setdefault(kind, []).append(Panel(self, [(batch, j) for j in places], slot, chart[slot]))
                else:
                    for j in places:
                        alike[batch.keys[j], slot] = [Panel(self, [(batch, j)], slot, chart[slot].at(j))]
        out = [panel for same in alike.values() for panel in _stacked(same)]
        for panel in out:
            panel.furnish(self._room)
        return out

    # --- fused

    def _fused(self, batch: Batch, groups: Sequence[Settings]) -> None:
        """The same as one graph; what is read and written is handed to it as a list, nothing else may change."""
        chart, slots = self._chart(batch), tuple(batch.slots)
        slots = tuple(slot for slot in slots if batch.trainable(slot))
        params = {slot: x for slot, x in batch.params().items() if slot in slots}
        slopes = {slot: stack([gradient(p) for p in batch.slots[slot]]) for slot in slots}
        state = [{slot: each[slot] for slot in slots} for each in batch.state.values()]
        dicts: list[Tensors] = [params, slopes, *state, self.numbers(batch, groups, params)]
        here = [x for each in dicts for x in each.values()]
        shape = {slot: (len(chart[slot].factors), chart[slot].centre is not None) for slot in slots}
        here += [x for slot in slots for x in chart[slot].tensors]
        kind = (id(batch.component), tuple((x.dtype, x.device, x.shape) for x in here), slots, tuple(shape.values()))
        self.graph(kind, self._whole(batch, slots, shape), here)(*here)
        batch.write(params, slots)

    def _whole(
        self, batch: Batch, slots: Sequence[str], shape: dict[str, tuple[int, bool]]
    ) -> Callable[..., None]:
        component, rule = batch.component, self.rule

        def whole(*tensors: Tensor) -> None:
            (params, slopes, *state, numbers), charted = named(tensors, slots, 3 + len(rule.state))
            rest = iter(charted)
            for slot in slots:
                p, g = params[slot], slopes[slot]
                factors, centre = [next(rest) for _ in range(shape[slot][0])], next(rest) if shape[slot][1] else 0.0
                for factor in factors:
                    g = g * factor
                decay, *others = numbers[slot].unbind()
                pool, unpool = self.averaging(component, slot, {}, p)
                mine = {name: each[slot] for name, each in zip(rule.state, state)}
                step = add(torch.zeros_like(p), rule.update(g, mine, others, pool), unpool)
                for factor in factors:
                    step = step * factor
                p.copy_(p - decay * (p - centre) + step)

        return whole


# --- panels


class Room:
    """Memory that panels work in, one after the other: two tensors of the largest tile, by dtype and device."""

    def __init__(self) -> None:
        self._memory: dict[object, Tensor] = {}

    def of(self, role: int, shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
        """Uninitialized memory of a shape; the same for the same role."""
        key, count = (role, dtype, device), math.prod(shape)
        if key not in self._memory or self._memory[key].numel() < count:
            self._memory[key] = torch.empty(count, dtype=dtype, device=device)
        return self._memory[key][:count].view(*shape)


class Panel:
    """One tensor of a component at places that step together, and the views that a step of it goes through.

    members: batch and number in it of every place.  Small tensors are stacked for a step; a large one is stepped where
    it is, some rows at a time.
    """

    def __init__(
        self, stepper: Pinned, members: list[tuple[Batch, int]], slot: str, chart: Chart
    ) -> None:
        self.stepper, self.members, self.slot, self.chart = stepper, members, slot, chart
        self.params = params = [batch.slots[slot][j] for batch, j in members]
        self.dtype = stepped(params[0].dtype)
        self.direct = (
            len(params) == 1 and self.dtype == params[0].dtype and params[0].is_contiguous() and params[0].dim() > 0
        )

    @property
    def batch(self) -> Batch:
        """One of its batches: they have component, group and number of steps in common."""
        return self.members[0][0]

    def furnish(self, room: Room) -> None:
        """Find the tiles and their memory."""
        batch, slot, p = self.batch, self.slot, self.params[0]
        averaged = self.stepper.pooling and slot in batch.component.pooled
        found = runs(batch.component, slot, p.shape) if averaged else None
        if averaged and found is not None and self.chart.factors:
            self.below = pooled(self.chart.factors, batch.component, slot, p.shape)
            found = None if self.below is None else found
        limit = TILE_CPU if p.device.type == "cpu" else TILE_GPU
        row = math.prod(p.shape[1:])
        wanted = max(1, limit // (row * len(self.params)))
        self.tiles: list[Tile] = []
        if averaged and found is None:
            self.tiles.append(Tile(self, (0, p.shape[0] if p.dim() else 1), None, room))
        elif not averaged:
            count = p.shape[0] if p.dim() else 1
            self.tiles += [Tile(self, (a, min(a + wanted, count)), None, room) for a in range(0, count, wanted)]
        else:
            for run in found or ():
                size = max(run.unit, wanted // run.unit * run.unit)
                for a in range(run.rows[0], run.rows[1], size):
                    self.tiles.append(Tile(self, (a, min(a + size, run.rows[1])), run, room))
        self.home = -1

    def step(self, groups: Sequence[Settings]) -> None:
        """Step all its places."""
        batch = self.batch
        group, number = groups[batch.groups[self.slot]], batch.step
        if self.direct:
            p = self.params[0].detach()
            slope = gradient(self.params[0])
            if p.data_ptr() != self.home:
                self.home = p.data_ptr()
                for tile in self.tiles:
                    tile.place(p.unsqueeze(0))
            for tile in self.tiles:
                tile.step(slope.unsqueeze(0), group, number)
            return
        values = stack([p.detach() for p in self.params])
        slope = stack([gradient(p) for p in self.params])
        if len(self.params) == 1:
            values = values.clone() if values.data_ptr() == self.params[0].data_ptr() else values
        for tile in self.tiles:
            tile.place(values)
            tile.step(slope, group, number)
        torch._foreach_copy_([p.detach() for p in self.params], list(values.unbind(0)))


class Tile:
    """Rows of a panel, from and to, and what a step of them reads and writes; the first axis is that of places."""

    def __init__(self, panel: Panel, rows: tuple[int, int], run: Run | None, room: Room) -> None:
        self.panel, self.rows, self.run = panel, rows, run
        stepper, batch, slot = panel.stepper, panel.batch, panel.slot
        first, n = panel.params[0], len(panel.params)
        self.whole = rows == (0, first.shape[0] if first.dim() else 1)
        shape = (n, rows[1] - rows[0], *first.shape[1:]) if first.dim() else (n,)
        self.x, self.y = (room.of(role, shape, panel.dtype, first.device) for role in (0, 1))
        self.factors = tuple(self._cut(f) for f in panel.chart.factors)
        self.centre = None if panel.chart.centre is None else self._cut(panel.chart.centre)
        self.averaged = stepper.pooling and slot in batch.component.pooled
        self.shape: tuple[int, ...] = shape
        kept: tuple[int, ...] = ()
        if run is not None:
            share = (rows[1] - rows[0]) / (run.rows[1] - run.rows[0])
            sizes = (round(run.sizes[0] * share), *run.sizes[1:])
            self.shape = (n, *sizes)
            kept = (n, *(1 if mixed else size for size, mixed in zip(sizes, run.averaged)))
            begin = run.start + round(run.count * (rows[0] - run.rows[0]) / (run.rows[1] - run.rows[0]))
            part = slice(begin, begin + round(run.count * share))
            self.axes = [i + 1 for i, mixed in enumerate(run.averaged) if mixed]
        self.state: dict[str, Tensor] = {}
        for name, mixed in stepper.rule.state.items():
            here = _joint(panel, name)
            if mixed and self.averaged:
                self.state[name] = here if run is None else here[:, part].view(kept)
            else:
                self.state[name] = self._cut(here).view(self.shape)
        self.below = None
        if run is not None and self.factors:
            assert panel.below is not None
            self.below = panel.below[:, part].view(panel.below.shape[0], *kept[1:])
        self._shrunk: tuple[float, Tensor | None, Tensor | None] = (-1.0, None, None)

    def _cut(self, x: Tensor) -> Tensor:
        return x if self.whole or x.shape[1] == 1 else x[:, self.rows[0] : self.rows[1]]

    def place(self, values: Tensor) -> None:
        """Say where the parameters are: [places, *shape], contiguous."""
        self.p = self._cut(values)
        self.seen = self.p.view(self.shape)

    def step(self, slope: Tensor, group: Settings, number: int) -> None:
        """Step these rows; slope: the gradient of the whole panel."""
        rule, p, g = self.panel.stepper.rule, self.p, self._cut(slope)
        for factor in self.factors:
            g = torch.mul(g, factor, out=self.y)
        if g.dtype != p.dtype:
            g = self.y.copy_(g)
        decay = rule.decay(group)
        if rule.kernel is not None and not self.averaged and self._by_kernel(g, group, number, decay):
            return
        pool, unpool = self._averaging()
        g = g.view(self.shape) if g.is_contiguous() else self.y.copy_(g).view(self.shape)
        direction = rule.update(g, self.state, rule.numbers(group, number), pool, self.x.view(self.shape))
        if decay:
            p.mul_(1 - decay)
            if self.centre is not None:
                p.add_(self.centre, alpha=decay)
        self._add(direction, unpool)

    def _by_kernel(self, g: Tensor, group: Settings, number: int, decay: float) -> bool:
        rule, p, x = self.panel.stepper.rule, self.p, self.x
        assert rule.kernel is not None
        if not self.factors and self.centre is None:
            return rule.kernel(p, g, self.state, group, number, True)
        shrink, lift = self._shrink(decay)
        if shrink is None:
            x.zero_()
        else:
            torch.mul(p, shrink, out=x)
            for factor in self.factors[1:]:
                x.div_(factor)
            if lift is not None:
                x.add_(lift)
        if not rule.kernel(x, g, self.state, group, number, False):
            return False
        for factor in self.factors[1:]:
            x.mul_(factor)
        if self.factors:
            p.addcmul_(x, self.factors[0])
        else:
            p.add_(x)
        return True

    def _shrink(self, decay: float) -> tuple[Tensor | None, Tensor | None]:
        """What the parameter is multiplied by, and what is added, so that times the factors it is its decay."""
        if self._shrunk[0] != decay:
            shrink = lift = None
            if decay:
                shrink = -decay / self.factors[0] if self.factors else torch.tensor(-decay, dtype=self.p.dtype)
            if decay and self.centre is not None:
                lift = decay * self.centre
                for factor in self.factors:
                    lift = lift / factor
            self._shrunk = (decay, shrink, lift)
        return self._shrunk[1:]

    def _add(self, direction: Direction, unpool: Averaging) -> None:
        """Add a direction to the parameters, multiplied by the factors."""
        _, above, below = direction
        weight = float(direction.weight)
        if below is None:
            if len(self.factors) == 1:
                self.p.addcmul_(above.view_as(self.p), self.factors[0], value=weight)
                return
            for factor in self.factors:
                above = torch.mul(above.view_as(self.p), factor, out=self.x)
            self.p.add_(above.view_as(self.p), alpha=weight)
        elif self.run is not None:
            if self.below is not None:
                below.div_(self.below)
            self.seen.addcdiv_(above, below, value=weight)
        else:
            below = unpool(below)
            for factor in self.factors:
                below.div_(factor)
            self.p.addcdiv_(above.view_as(self.p), below.view_as(self.p), value=weight)

    def _averaging(self) -> tuple[Averaging, Averaging]:
        if self.run is None:
            return self.panel.stepper.averaging(self.panel.batch.component, self.panel.slot, {}, self.x, self.x)

        def pool(x: Tensor) -> Tensor:
            if len(self.axes) == 1 and x.shape[self.axes[0]] == 2:  # rotary pairs: far faster than a mean
                low, high = x.narrow(self.axes[0], 0, 1), x.narrow(self.axes[0], 1, 1)
                return low.add_(high).mul_(0.5)
            return x.mean(self.axes, keepdim=True)

        return pool, _same


def _same(x: Tensor) -> Tensor:
    return x


def _stacked(panels: list[Panel]) -> list[Panel]:
    """Join panels of one kind, as many as are stepped at a time."""
    first = panels[0]
    if len(panels) == 1:
        return panels
    width = max(1, (TILE_CPU if first.params[0].device.type == "cpu" else TILE_GPU) // first.params[0].numel())
    out = []
    for start in range(0, len(panels), width):
        some = panels[start : start + width]
        chart = joined([each.chart for each in some])
        if chart is None or len(some) == 1:
            out += some
            continue
        members = [member for each in some for member in each.members]
        out.append(Panel(first.stepper, members, first.slot, chart))
    return out


def _joint(panel: Panel, name: str) -> Tensor:
    """The state of a panel's places as one tensor [places, ...]; it moves there if it is elsewhere."""
    batches = list({id(batch): batch for batch, _ in panel.members}.values())
    if len(batches) == 1:
        numbers = [j for _, j in panel.members]
        return batches[0].state[name][panel.slot][numbers[0] : numbers[-1] + 1]
    rows = [batch.state[name][panel.slot] for batch in batches]
    starts = accumulate([x.numel() for x in rows], initial=rows[0].storage_offset())
    store = rows[0].untyped_storage().data_ptr()
    if all(x.untyped_storage().data_ptr() == store and x.storage_offset() == at for x, at in zip(rows, starts)):
        return rows[0].as_strided((len(panel.members), *rows[0].shape[1:]), rows[0].stride())
    joint = torch.cat(rows)
    for batch, part in zip(batches, joint.split([len(x) for x in rows])):
        batch.state[name][panel.slot] = part
        panel.stepper.moved(batch)
    return joint


# --- pins


def means(batch: Batch) -> Tensors:
    """Of every shift in force, the coefficient of the parameters' part along it: [batch, copies, size] in float64."""
    shifts = [gauge for gauge in batch.component.gauges if gauge.kind == "shift" and gauge.name not in batch.off]
    values = batch.params() if shifts else {}
    out: Tensors = {}
    for gauge in shifts:
        out[gauge.name] = gauge.covertical(values, values, {}) / gauge.count
        if len(shifts) > 1:  # what one has taken, another that moves the same tensor does not take again
            values = {slot: x.clone() for slot, x in values.items()}
            gauge.lift(values, values, out[gauge.name], -1.0)
    return out


def pin(batch: Batch) -> None:
    """Move a batch's parameters back along their orbits, in place; a unit that comes to life gets its chart, where it is.

    Parameters of 16 bits are moved by powers of two alone, and only from √2 on: a factor near 1 would round away.
    """
    frame = batch.frame
    assert frame is not None
    now = batch.component.frame(batch.params(), frame.scales, batch.known(), batch.off, batch.far)
    half = any(stepped(p[0].dtype) != p[0].dtype for p in batch.slots.values())
    element: Tensors = {}
    scales = dict(frame.scales)
    for name, here in now.live.items():
        before = frame.live[name]
        factor = torch.where(here & before, now.scales[name] / scales[name], 1.0)
        element[name] = torch.exp2(factor.log2().round()) if half else factor
        scales[name] = torch.where(here & ~before, now.scales[name], scales[name])
    batch.watched(now.live)
    if any(not torch.equal(here, frame.live[name]) for name, here in now.live.items()):
        dtype = next(iter(batch.params().values())).dtype
        batch.frame = Frame(scales, off=frame.off, live=now.live).ready(batch.component.powers, dtype)
    _move(batch, element)


def _move(batch: Batch, element: Tensors) -> None:
    """Multiply by an element's scales, and bring shifts to where they began."""
    component, values = batch.component, batch.params()
    moved = set[str]()
    for name, factor in element.items():
        if bool((factor == 1).all()):
            continue
        for row, part in component.by_name[name].parts:
            offset = component.offsets.get(row.slot, 0.0)
            if offset:
                values[row.slot].add_(offset)
            actions.stretch(values, part, raised(factor, row.power))
            if offset:
                values[row.slot].sub_(offset)
            moved.add(row.slot)
    batch.write(values, moved)
    if not batch.homes:
        return
    here, values = means(batch), batch.params()
    for name, home in batch.homes.items():
        component.by_name[name].lift(values, values, home - here[name], 1.0)
        moved.update(component.by_name[name].slots)
    batch.write(values, moved)
