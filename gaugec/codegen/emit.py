"""From a plan to the source of a PyTorch module: one template, the same bytes for the same plan.

Text that comes from a spec or a model reaches comments, docstrings and string literals only, and cannot leave them.

Not here: decisions. Everything that the source says was decided by plan and derive.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import jinja2

from gaugec.codegen.ir import Actor, Axes, Component, Part, Plan, Pool, Solve
from gaugec.codegen.text import (
    call,
    display,
    listing,
    number,
    raised,
    signed_sum,
    spread,
    tuple_of,
    words,
)
from gaugec.errors import GaugeError
from gaugec.literals import WIDTH, flat, literal, quote

_ROUNDS = 4


def emit(plan: Plan, metadata: Mapping[str, Any]) -> str:
    """Return the source; metadata (strings, numbers, None, and lists and dicts of them) becomes a literal in it."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("gaugec.codegen", ""),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    components = [_Writer(i, component).context() for i, component in enumerate(plan.components)]
    source = environment.get_template("gauge.py.jinja").render(
        components=components,
        pieces=any(component.pools for component in plan.components),
        listing=listing([f"Component{i}()" for i in range(len(components))]),
        metadata=literal(dict(metadata), len("METADATA: dict[str, Any] = "), filled=True),
    )
    compile(source, "<gauge>", "exec", dont_inherit=True)  # a syntax check: nothing is run
    return source


# --- one component


class _Writer:
    """Turns one component into lines of source."""

    def __init__(self, index: int, component: Component) -> None:
        self.index = index
        self.component = component
        self.actors = {actor.name: actor for actor in component.actors}
        self.shift = self._shifts()

    def _shifts(self) -> dict[str, float]:
        shifts: dict[str, set[float]] = {}
        for actor in self.component.actors:
            for part in actor.parts:
                shifts.setdefault(part.slot, set()).add(part.shift_by)
        for values in shifts.values():
            if len(values) > 1:
                raise GaugeError("a gain that is stored as an offset is moved by another gauge too: not supported")
        return {slot: values.pop() for slot, values in shifts.items()}

    def name(self, part: str) -> str:
        return f"C{self.index}{part}"

    def context(self) -> dict[str, Any]:
        """What the template reads; every entry under a function's name is a list of its lines."""
        component = self.component
        slots = [slot for slot, _ in component.slots]
        coupled = {name for cross in component.crosses for name in (cross.left, cross.right)}
        if component.gram == "free":
            coupled = set(self.actors)
        return {
            "index": self.index,
            "doc": self.doc(),
            "slots": literal(dict(component.slots), 49, 4),
            "kinds": literal({a.name: (_kind(a), a.copies, a.size) for a in component.actors}, 58, 4),
            "moves": literal({a.name: tuple(dict.fromkeys(p.slot for p in a.parts)) for a in component.actors}, 49, 4),
            "instances": self.instances(),
            "parts": [self.table(part, actor) for actor in component.actors for part in actor.parts],
            "pools": [self.pool_table(pool) for pool in component.pools],
            "pooled": flat(tuple(pool.slot for pool in component.pools)),
            "offsets": self.offsets(),
            "cuts": literal(self.cuts(), 37, 4),
            "products": self.slots_of("scale"),
            "squares": self.slots_of("scale", "turn"),
            "alive": self.alive(),
            "powers": self.powers(),
            "frame": self.frame(),
            "point": [f"{quote(slot)}: {self.moved(slot)}," for slot in slots],
            "canonical": self.scalings(lambda part: part.power),
            "pull": self.scalings(lambda part: part.tangent.pull),
            "pool": self.pool(),
            "unpool": self.unpool(),
            "lift": self.lift(),
            "covertical": self.covertical(),
            "blank": self.blank(bool(coupled)),
            "rights": self.rights(),
            "blocks": self.blocks(bool(coupled)),
            "right": self.right(coupled),
            "factors": self.factors(coupled),
            "inverse_alone": display(
                [f"{quote(a.name)}: {self.inverse(a)}" for a in component.actors if a.name not in coupled], 8, 21
            ),
            "inverses": self.coupled_inverses(coupled),
            "diagonal": self.diagonal(coupled),
            "crosses": self.crosses(),
            "eliminated": flat(self.eliminated(coupled)),
            "coupled": flat(tuple(actor.name for actor in component.actors if actor.name in coupled))
            if coupled
            else "",
            "kept": flat(tuple(f"q{j}" for j, cross in enumerate(component.crosses) if not cross.summed)),
            "free": component.gram == "free",
            "act": self.act(),
            "unmoved": [f"{quote(slot)}: {self.unmoved(slot)}," for slot in slots],
        }

    def doc(self) -> list[str]:
        lines = []
        for actor in self.component.actors:
            head = f"{actor.name}: {words(actor.gauge)}, {actor.group} on {actor.copies} x {actor.size}"
            text = words(actor.theorem)
            if actor.verdict != "proved":
                text += f" ({words(actor.verdict)})"
            if actor.equation:
                text += f" Canonical form: {words(actor.equation)}."
            lines += textwrap.wrap(
                f"{head}. {text}", WIDTH - 6, subsequent_indent="    ", break_long_words=True, break_on_hyphens=False
            )
        return lines

    def instances(self) -> list[str]:
        lines = []
        for names, place in zip(self.component.instances, self.component.places):
            if place:
                lines += [f"# {line}" for line in textwrap.wrap(words(place), WIDTH - 12)]
            lines.append(literal(names, 8, 8) + ",")
        return lines

    def table(self, part: Part, actor: Actor) -> str:
        role = words(part.role)[:60]
        arguments = [
            quote(part.slot),
            *(flat(x) for x in (part.offset, part.copies, part.group, part.pair, part.rest)),
        ]
        return call("", f"{self.name(part.name)} = Slice", arguments) + f"  # {role}"

    def pool_table(self, pool: Pool) -> str:
        pieces = [f"Piece({flat(offset)}, {flat(axes)})" for offset, axes in _pieces(pool)]
        head = f"{self.name('POOL_' + pool.slot)} = ("
        if len(pieces) == 1 and len(head + pieces[0]) + 2 <= WIDTH:
            return f"{head}{pieces[0]},)"
        lines = []
        for offset, axes in _pieces(pool):
            lines.append(call("    ", "Piece", [flat(offset), flat(axes)], 4) + ",")
        return "\n".join([head, *lines, ")"])

    def moved(self, slot: str) -> str:
        shift = self.shift[slot]
        return f"params[{quote(slot)}]" + (f" + {shift!r}" if shift else ".clone()")

    def unmoved(self, slot: str) -> str:
        shift = self.shift[slot]
        return f"point[{quote(slot)}]" + (f" - {shift!r}" if shift else "")

    def slots_of(self, *kinds: str) -> str:
        """A tuple of the slots that gauges of these kinds move; empty text where there are none."""
        moved = {part.slot for actor in self.component.actors if actor.kind in kinds for part in actor.parts}
        return flat(tuple(slot for slot, _ in self.component.slots if slot in moved)) if moved else ""

    def scaling(self) -> list[Actor]:
        return [actor for actor in self.component.actors if actor.kind == "scale"]

    # frames

    def powers(self) -> str:
        """The powers of each scale that canonical, pull and push use."""
        out = {}
        for actor in self.scaling():
            used = {float(power) for part in actor.parts for power in (part.power, part.tangent.pull)}
            out[actor.name] = tuple(sorted(used, reverse=True))
        return literal(out, 52, 4)

    def norms(self, solve: Solve, values: str) -> list[str]:
        return [
            f"n{i} = frames.norm({values}, {tuple_of([self.name(part) for part in parts])})"
            for i, parts in enumerate(solve.norms)
        ]

    def shifted(self) -> list[Part]:
        """The parts that a shift moves and a frame reads: their norms are taken of what the shift leaves alone."""
        slot_of = {part.name: part.slot for actor in self.component.actors for part in actor.parts}
        solves = [solve for step in self.component.frames for solve in (*step.start, *step.rounds)]
        read = {slot_of[name] for solve in solves for parts in solve.norms for name in parts}
        moved = [part for actor in self.component.actors if actor.kind == "shift" for part in actor.parts]
        return [part for part in moved if part.slot in read]

    def centred(self) -> list[str]:
        """Lines that take the shifts out of the point at which scales are solved for."""
        return [f"frames.centre(point, {self.name(part.name)})" for part in self.shifted()]

    def alive(self) -> list[str]:
        lines = self.centred()
        for step in self.component.frames:
            for solve in step.rounds or step.start:
                lines += self.norms(solve, "point")
                lines.append(f"live[{quote(solve.actor)}] = frames.alive({solve.formula})")
        return lines

    def frame(self) -> dict[str, Any]:
        """Lines of `frame`, and which slots it has to copy because a later frame reads them moved."""
        slot_of = {part.name: part.slot for actor in self.component.actors for part in actor.parts}
        reads: list[tuple[str, set[str]]] = []
        for step in self.component.frames:
            for solve in (*step.start, *step.rounds):
                reads.append((solve.actor, {slot_of[part] for parts in solve.norms for part in parts}))
        used = set().union(*(slots for _, slots in reads)) if reads else set()
        moved: set[str] = set()
        copied: set[str] = set()
        for actor, slots in reads:
            copied |= slots & moved
            moved |= {part.slot for part in self.actors[actor].parts}
        copied |= {part.slot for part in self.shifted()}
        lines = self.centred()
        for step in self.component.frames:
            for solve in step.start:
                lines += [
                    f"# {solve.actor}: {words(self.actors[solve.actor].equation)}"
                    + (", one-sided" if step.rounds else "")
                ]
                lines += self.norms(solve, "point")
                name = quote(solve.actor)
                lines.append(f"out.scales[{name}] = frames.settle({solve.formula}, live[{name}])")
                lines += self.stretch("point", self.actors[solve.actor], f"out.scales[{name}]", copied)
            if step.rounds:
                lines.append(f"for _ in range({_ROUNDS}):  # any fixed number of rounds is exact")
                for solve in step.rounds:
                    name = quote(solve.actor)
                    inner = self.norms(solve, "point")
                    inner.append(f"scale = frames.settle({solve.formula}, live[{name}])")
                    inner.append(f"out.scales[{name}] = out.scales[{name}] * scale")
                    inner += self.stretch("point", self.actors[solve.actor], "scale", copied)
                    lines += ["    " + line for line in inner]
        order = [slot for slot, _ in self.component.slots if slot in used]
        point = [
            f"{quote(slot)}: {self.moved(slot) if slot in copied or self.shift[slot] else f'params[{quote(slot)}]'},"
            for slot in order
        ]
        return {"point": point, "lines": lines}

    def stretch(self, values: str, actor: Actor, scale: str, slots: set[str]) -> list[str]:
        return [
            f"actions.stretch({values}, {self.name(part.name)}, {raised(scale, part.power)})"
            for part in actor.parts
            if part.slot in slots
        ]

    def scalings(self, power: Callable[[Part], Fraction]) -> str:
        """A table: slot -> (slice, gauge, power of its scale)."""
        entries: dict[str, list[str]] = {}
        for actor in self.scaling():
            for part in actor.parts:
                entry = f"({self.name(part.name)}, {quote(actor.name)}, {number(power(part))})"
                entries.setdefault(part.slot, []).append(entry)
        lines = [f"        {quote(slot)}: {tuple_of(each)}," for slot, each in entries.items()]
        return "\n".join(["{", *lines, "    }"]) if lines else "{}"

    def offsets(self) -> str:
        """The last argument of `scaled`, where gains are stored as offsets."""
        shifts = {slot: shift for slot, shift in self.shift.items() if shift}
        return f", {flat(shifts)}" if shifts else ""

    def cuts(self) -> dict[str, int]:
        """Slots that a step may take a number of rows at a time, and the number that it has to be a multiple of."""
        if self.component.gram == "free":
            return {}
        out = {}
        for slot, shape in self.component.slots:
            row, unit = math.prod(shape[1:]), math.prod(shape[1:])
            for actor in self.component.actors:
                for part in actor.parts:
                    if part.slot == slot:
                        never = (part.group if actor.kind == "rotate" else ()) + part.pair
                        axes = part.copies + part.group + part.pair + part.rest
                        unit = math.lcm(unit, _unit(part.offset, axes, never))
            for cross in self.component.crosses:
                if cross.slot == slot:
                    unit = math.lcm(unit, _unit(cross.offset, cross.kept + cross.summed, ()))
            for pool in self.component.pools:
                if pool.slot == slot:
                    unit = math.lcm(unit, _pool_unit(pool))
            if 0 < unit <= math.prod(shape) // 2 and math.prod(shape) % unit == 0:
                out[slot] = unit // row
        return out

    # pools

    def pool(self) -> list[str]:
        lines = []
        for pool in self.component.pools:
            key, function = quote(pool.slot), "pool" if pool.cover else "blur"
            lines.append(f"if {key} in out:")
            lines.append(f"    out[{key}] = pooling.{function}(out[{key}], {self.name('POOL_' + pool.slot)})")
        return lines

    def unpool(self) -> list[str]:
        lines = []
        for pool in self.component.pools:
            if pool.cover:
                key, table = quote(pool.slot), self.name("POOL_" + pool.slot)
                lines.append(f"if {key} in spread:")
                lines.append(f"    spread[{key}] = pooling.unpool(spread[{key}], {table}, out[{key}])")
        return lines

    # tangents

    def lift(self) -> list[str]:
        lines = []
        for actor in self.component.actors:
            a = f"coefficients[{quote(actor.name)}]"
            for part in actor.parts:
                name, weight = self.name(part.name), part.tangent.weight
                alpha = "alpha" if weight == 1 else "-alpha" if weight == -1 else f"{number(weight)} * alpha"
                match part.tangent.kind:
                    case "scale":
                        lines.append(f"actions.add_scaled(values, point, {name}, {a}, {alpha})")
                    case "shift":
                        lines.append(f"actions.add_constant(values, {name}, {a}, {alpha})")
                    case "plane":
                        lines.append(f"actions.add_turn(values, point, {name}, {a}, {alpha})")
                    case _:
                        generator = f"-{a}.mT" if part.tangent.dual else a
                        lines.append(f"actions.add_rotation(values, point, {name}, {generator}, {alpha})")
        return lines

    def covertical(self) -> list[str]:
        lines = []
        for actor in self.component.actors:
            terms = []
            for part in actor.parts:
                name = self.name(part.name)
                match part.tangent.kind:
                    case "scale":
                        terms.append((part.tangent.weight, f"actions.total(products, {name})"))
                    case "shift":
                        terms.append((part.tangent.weight, f"actions.total(update, {name})"))
                    case "plane":
                        terms.append((Fraction(1), f"actions.torque(update, point, {name})"))
                    case _:
                        moment = f"actions.moment(update, point, {name})"
                        terms.append((Fraction(1), f"-{moment}.mT" if part.tangent.dual else moment))
            total = signed_sum(terms)
            if actor.kind == "rotate":
                skew = "skew_ones" if actor.keeps_ones else "skew"
                lines += spread(f"{quote(actor.name)}: solvers.{skew}(", total, "),")
            else:
                lines += spread(f"{quote(actor.name)}: (", total, "),")
        return lines

    def blank(self, coupled: bool) -> list[str]:
        """Entries of the dict that `measure` adds to."""
        lines = []
        for actor in self.component.actors:
            k, dtype = actor.name[1:], "step" if actor.kind == "rotate" else "double"
            zeros = f"actions.zeros(point, {quote(_kind(actor))}, {actor.copies}, {actor.size})"
            lines.append(f"{quote('right ' + actor.name)}: {zeros},")
            if actor.kind != "shift":
                lines.append(f'"{"s" if dtype == "step" else "d"}{k}": {zeros},')
        for j, cross in enumerate(self.component.crosses):
            lines.append(f'"q{j}": actions.room_for(point, batch, {flat(cross.kept)}),')
        if coupled:
            lines.append('"size": torch.zeros(batch, dtype=torch.float64, device=next(iter(point.values())).device),')
        return lines

    def rights(self) -> list[str]:
        """What `measure` does for the right hand sides: scales first, then the room that they needed is free."""
        lines = []
        for actor in sorted(self.component.actors, key=lambda actor: actor.kind != "scale"):
            out = f"out[{quote('right ' + actor.name)}]"
            for part in actor.parts:
                name, weight = self.name(part.name), number(part.tangent.weight)
                match part.tangent.kind:
                    case "scale":
                        lines.append(f"actions.add_total({out}, products, {name}, {weight})")
                    case "shift":
                        lines.append(f"actions.add_total({out}, update, {name}, {weight})")
                    case "plane":
                        lines.append(f"actions.add_torque({out}, update, point, {name}, room)")
                    case _ if part.tangent.dual:
                        lines.append(f"actions.add_moment({out}, point, update, {name}, -1.0)")
                    case _:
                        lines.append(f"actions.add_moment({out}, update, point, {name}, 1.0)")
        return lines

    def blocks(self, coupled: bool) -> list[str]:
        """What `measure` does for the Gram matrix: its diagonal blocks (d, or S of a rotation), its cross blocks q."""
        lines = []
        for actor in self.component.actors:
            k = actor.name[1:]
            for part in actor.parts:
                name, weight = self.name(part.name), number(part.tangent.weight**2)
                if actor.kind == "rotate":
                    lines.append(f'actions.add_moment(out["s{k}"], point, point, {name}, {weight})')
                elif actor.kind != "shift":
                    lines.append(f'actions.add_total(out["d{k}"], squares, {name}, {weight})')
        for j, cross in enumerate(self.component.crosses):
            field = "squares" if cross.field == "square" else "point"
            arguments = [f'out["q{j}"]', field, quote(cross.slot)]
            arguments += [flat(x) for x in (cross.offset, cross.kept, cross.summed)]
            lines.append(call("", "actions.add_block", arguments, 8))
        if coupled:
            lines.append('actions.add_size(out["size"], update)')
        return lines

    def right(self, coupled: set[str]) -> list[str]:
        lines = []
        for actor in self.component.actors:
            value = f"measured[{quote('right ' + actor.name)}]"
            if actor.kind == "rotate":
                skew = "skew_ones" if actor.keeps_ones else "skew"
                value = f"solvers.{skew}({value}{'.double()' if actor.name in coupled else ''})"
            lines.append(f"{quote(actor.name)}: {value},")
        return lines

    def factors(self, coupled: set[str]) -> list[str]:
        """What `solve` prepares: names for the blocks, and what inverts the diagonal ones."""
        lines = []
        for actor in self.component.actors:
            k = actor.name[1:]
            if actor.kind == "shift":
                count = sum((part.tangent.weight**2 * _count(part) for part in actor.parts), Fraction(0))
                lines.append(f"d{k} = {number(count)}")
            elif actor.kind != "rotate":
                lines.append(f'd{k} = measured["d{k}"]')
                if actor.name in coupled:
                    lines.append(f"i{k} = solvers.inverse(d{k})")
            else:
                lines.append(f's{k} = measured["s{k}"]' + (".double()" if actor.name in coupled else ""))
                if actor.name in coupled:
                    ones = "_ones" if actor.keeps_ones else ""
                    lines.append(f"f{k} = solvers.factor{ones}(s{k})")
        return lines

    def inverse(self, actor: Actor) -> str:
        """The diagonal block of a gauge that is not coupled, inverted, applied to its right hand side."""
        k, right = actor.name[1:], f"right[{quote(actor.name)}]"
        if actor.kind == "shift":
            return f"{right} / d{k}"
        if actor.kind != "rotate":
            return f"{right} * solvers.inverse(d{k})"
        ones = "_ones" if actor.keeps_ones else ""
        return f"solvers.sylvester{ones}(s{k}, {right}, tolerance)"

    def coupled_inverses(self, coupled: set[str]) -> list[str]:
        lines = []
        for actor in self.component.actors:
            k = actor.name[1:]
            value = {"shift": f"x / d{k}", "rotate": f"solvers.unfactor(f{k}, x)"}.get(actor.kind, f"x * i{k}")
            if actor.name in coupled:
                lines.append(f"{quote(actor.name)}: lambda x: {value},")
        return lines

    def diagonal(self, coupled: set[str]) -> list[str]:
        lines = []
        for actor in self.component.actors:
            k, skew = actor.name[1:], "skew_ones" if actor.keeps_ones else "skew"
            value = f"solvers.{skew}(x @ s{k})" if actor.kind == "rotate" else f"x * d{k}"
            if actor.name in coupled:
                lines.append(f"{quote(actor.name)}: lambda x: {value},")
        return lines

    def crosses(self) -> list[str]:
        lines = []
        for j, each in enumerate(self.component.crosses):
            arguments = [quote(each.left), quote(each.right), f'measured["q{j}"]']
            arguments.append(flat((each.letters, each.left_view[2], each.right_view[2])))
            arguments += [flat(each.left_view[:2]), flat(each.right_view[:2]), number(each.weight)]
            lines.append(call("", "solvers.Cross", arguments, 12) + ",")
        return lines

    def eliminated(self, coupled: set[str]) -> tuple[str, ...]:
        """Gauges without cross blocks between them, the large ones first: they leave the joint system beforehand."""
        out: list[str] = []
        order = sorted(
            (actor for actor in self.component.actors if actor.name in coupled),
            key=lambda actor: -actor.copies * actor.size ** (2 if actor.kind == "rotate" else 1),
        )
        for actor in order:
            met = [{x.left, x.right} for x in self.component.crosses if actor.name in (x.left, x.right)]
            if not any(len(pair) == 1 or pair & set(out) for pair in met):
                out.append(actor.name)
        return tuple(out)

    def act(self) -> list[str]:
        lines = []
        for actor in self.component.actors:
            e = f"element[{quote(actor.name)}]"
            for part in actor.parts:
                name = self.name(part.name)
                match actor.kind:
                    case "scale":
                        lines.append(f"actions.stretch(point, {name}, {raised(e, part.power)})")
                    case "shift":
                        lines.append(f"actions.add_constant(point, {name}, {e}, {number(part.tangent.weight)})")
                    case "turn":
                        lines.append(f"actions.turn(point, {name}, {e})")
                    case _:
                        lines.append(f"actions.rotate(point, {name}, {e})")
        return lines


def _unit(offset: int, axes: Axes, never: Axes) -> int:
    """The number of elements that a cut through a slice has to be a multiple of; 0 where it may not be cut."""
    if not axes:
        return 0
    run = 1
    for size, stride in sorted(axes, key=lambda axis: axis[1]):
        if stride != run:
            return 0
        run *= size
    outer = max(axes, key=lambda axis: axis[1])
    return 0 if outer in never or offset % outer[1] else outer[1]


def _pieces(pool: Pool) -> list[tuple[int, tuple[tuple[int, int, bool], ...]]]:
    """The pieces, each with its axes in the order of the memory: so is the state, and rows are a run of it."""
    return [(offset, tuple(sorted(axes, key=lambda axis: -axis[1]))) for offset, axes in pool.pieces]


def _pool_unit(pool: Pool) -> int:
    """The same for the pieces of a pool."""
    if not pool.cover or len(pool.pieces) > 1:
        return 0
    ((offset, axes),) = _pieces(pool)
    if not axes or axes[0][2]:
        return 0
    return _unit(offset, tuple((size, stride) for size, stride, _ in axes), ())


def _kind(actor: Actor) -> str:
    return "rotate ones" if actor.keeps_ones else actor.kind


def _count(part: Part) -> int:
    out = 1
    for n, _ in part.rest:
        out *= n
    return out
