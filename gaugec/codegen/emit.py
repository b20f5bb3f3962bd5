"""From a plan to the source of a PyTorch module: mathematics first, then the places, then the certificate.

The same bytes for the same plan.  Text that comes from a spec or a model reaches comments, docstrings and string
literals only, and cannot leave them: under other names the source has the same syntax tree but for its strings.

Not here: decisions. Everything that the source says was decided by plan and derive.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gaugec.codegen.ir import Actor, Component, Coupling, Plan, Row, Solve
from gaugec.codegen.names import gauge_names, places, slot_names
from gaugec.codegen.patterns import AxisPattern, pattern
from gaugec.codegen.text import call, comment, docstring, entries, number, paragraph, words
from gaugec.errors import GaugeError
from gaugec.literals import flat, literal, quote
from gaugec.runtime.ranges import fold

_ROUNDS = 4
_GROUPS = {
    "scale": "Positive", "turn": "Torus", "shift": "Translation", "rotate": "Orthogonal", "matrix": "Invertible",
}  # fmt: skip
_HOMES = {
    "Blur": "component", "Component": "component", "Coupling": "component", "Gram": "component", "Pool": "component",
    "Invertible": "groups", "Orthogonal": "groups", "OrthogonalOnes": "groups", "Positive": "groups", "Row": "groups",
    "Strides": "groups", "Torus": "groups", "Translation": "groups", "Point": "frames", "Tensors": "layout",
    "Gain": "held", "Added": "held",
}  # fmt: skip
_LEGEND = (
    "Written by gaugec: edit the spec, not this file. One class a component of gauges that share parameters: the rows "
    "that an element moves, the frame solved from the spec's `fix` lines, and how the vertical part of a step is "
    "solved for; what all components do alike they inherit. In a pattern c are copies, k is the axis on which an "
    "element acts, p a rotary pair; along other letters all is moved alike. Every tensor has a batch axis in front: "
    "parameters of equal shape are stacked."
)
_CHARTS = (
    "A Gain or an Added says in which coordinates a tensor is moved and stepped: times a gain, or plus a weight times "
    "a bias. There the function does not see that gain or that bias: it is held as it is, and not stepped."
)


def emit(plan: Plan, metadata: Mapping[str, Any], model: str = "") -> str:
    """Return the source; metadata (strings, numbers, None, and lists and dicts of them) becomes a literal in it.

    model: what the model is called, for people.
    """
    try:
        source = _source(plan, metadata, model)
        compile(source, "<gauge>", "exec", dont_inherit=True)  # a syntax check: nothing is run
    except SyntaxError as error:
        why = f"the compiled file would be no Python ({error.msg}): a bug of gaugec, please report it"
        raise GaugeError(why) from error
    return source


def _source(plan: Plan, metadata: Mapping[str, Any], model: str) -> str:
    wide = gauge_names(list({a.name: (a.name, a.gauge) for each in plan.components for a in each.wide}.values()))
    writers = [_Writer(i, component, wide) for i, component in enumerate(plan.components)]
    classes = [line for writer in writers for line in ("", "", *writer.lines())]
    return "\n".join(
        [
            *_head(plan, str(metadata.get("spec", "")), model),
            *_imports("\n".join(classes)),
            *classes,
            "",
            "",
            *_places(writers),
            "",
            "# fmt: off",
            "METADATA: dict[str, Any] = " + literal(dict(metadata), len("METADATA: dict[str, Any] = "), filled=True),
            "",
        ]
    )


def _head(plan: Plan, spec: str, model: str) -> list[str]:
    """What the file is: spec, model, sites by gauge."""
    title = f"The gauges{f' of {words(spec)}' if spec else ''}{f' in {words(model)}' if model else ''}"
    sites: Counter[tuple[str, str, str]] = Counter()
    for component in plan.components:
        for actor in (*component.actors, *component.idle):
            sites[actor.gauge, actor.group, actor.verdict] += len(component.instances)
    for each in {actor.name: actor for component in plan.components for actor in component.wide}.values():
        sites[each.gauge, each.group, each.verdict] += 1
    lines = [f'"""{title}: frames and projectors for its parameters.', ""]
    for (gauge, group, verdict), count in sites.items():
        text = f"{words(gauge)}: {group}, {words(verdict)}, {count} site{'s' if count != 1 else ''}"
        lines += paragraph(text, "    ", "        ")
    lines += ["", *paragraph(_LEGEND)]
    if any(component.charts for component in plan.components):
        lines += ["", *paragraph(_CHARTS)]
    return [*lines, '"""', "", "from __future__ import annotations", ""]


def _imports(classes: str) -> list[str]:
    """What the classes use, from its home."""
    used = {node.id for node in ast.walk(ast.parse(classes)) if isinstance(node, ast.Name)}
    homes: dict[str, list[str]] = {}
    for name, home in sorted(_HOMES.items()):
        if name in used:
            homes.setdefault(home, []).append(name)
    lines = [f"from gaugec.runtime.{home} import {', '.join(names)}" for home, names in sorted(homes.items())]
    return ["from typing import Any", "", *lines]


def _places(writers: Sequence[_Writer]) -> list[str]:
    """Every component with the parameters that its tensors are, place after place."""
    lines = ["# Where they are: for every tensor its parameters, place after place.", "COMPONENTS = ("]
    for writer in writers:
        names = {}
        for slot, column in zip(writer.slots.values(), zip(*writer.component.instances)):
            folded = fold(column)
            names[slot] = folded[0] if len(folded) == 1 else tuple(folded)
        lines.append(call("", f"Component{writer.index}", [literal(names, 16, 8)], 4, tail=","))
    return [*lines, ")"] if writers else [lines[0], "COMPONENTS = ()"]


class _Writer:
    """Turns one component into the lines of a class."""

    def __init__(self, index: int, component: Component, wide: Mapping[str, str]) -> None:
        self.index = index
        self.component = component
        self.shapes = dict(component.slots)
        self.slots = slot_names([slot for slot, _ in component.slots], component.instances)
        self.all = (*component.actors, *component.idle)
        self.gauges = gauge_names([(actor.name, actor.gauge) for actor in self.all])
        self.gauges |= {actor.name: wide[actor.name] for actor in component.wide}
        self.actors = {actor.name: actor for actor in component.actors}

    def lines(self) -> Iterator[str]:
        """The class."""
        component = self.component
        counts = {
            "gauges": len(component.actors),
            "rows": sum(len(actor.rows) for actor in (*self.all, *component.wide)),
            "pools": sum(len(pool.pieces) for pool in component.pools),
            "couplings": len(component.couplings),
            "idle": len(component.idle),
            "wide": len(component.wide),
            "charts": sum(len(chart.factors) + len(chart.summands) for _, chart in component.charts),
        }
        text = "".join(f", {what}={count}" for what, count in counts.items() if count)
        yield f"class Component{self.index}(Component{text}):"
        yield from self.doc()
        yield ""
        yield f"    shapes = {literal({self.slots[slot]: shape for slot, shape in component.slots}, 13, 4)}"
        offsets = {self.slots[slot]: offset for slot, offset in self.offsets().items() if offset}
        if offsets:
            yield f"    offsets = {literal(offsets, 14, 4)}  # the tensor plus this is moved"
        if component.actors:
            yield from self.group("gauges", component.actors)
        if component.idle:
            yield "    # what they move is held, or the same in the coordinates of the charts: no step sees them"
            yield from self.group("idle", component.idle)
        if component.wide:
            yield "    # gauges that run through the whole model: what they move here"
            yield from self.group("wide", component.wide)
        if component.charts:
            yield from entries("charts", list(self.charts()), 4)
            holds = {self.slots[slot]: tuple(self.gauges[each] for each in names) for slot, names in component.holds}
            yield "    # what is not stepped, and for which gauges"
            yield f"    holds = {literal(holds, 12, 4)}"
        if component.partly:
            yield "    # where only a part of a tensor is held: where that begins, and its axes"
            yield f"    partly = {literal({self.slots[slot]: boxes for slot, boxes in component.partly}, 13, 4)}"
        if component.pools:
            yield from entries("pools", list(self.pools()), 4)
        if component.couplings:
            yield from entries("couplings", [self.coupling(each) for each in component.couplings], 4)
        if component.cuts:
            yield f"    cuts = {literal({self.slots[slot]: rows for slot, rows in component.cuts}, 11, 4)}"
        if component.gram == "free":
            yield "    whole = True"
        if component.frames:
            yield ""
            yield from self.fix()
        yield ""
        yield from self.coefficients()

    def doc(self) -> list[str]:
        """Where the component is, and what its gauges say."""
        count = len(self.component.instances)
        where = words(places(self.component.places))
        lines = paragraph(f"{count} place{'s' if count != 1 else ''}{': ' if where else ''}{where}", '    """', "    ")
        lines.append("")
        for actor in (*self.all, *self.component.wide):
            text = f"{self.gauges[actor.name]}: {words(actor.theorem)}"
            text += "" if actor.verdict == "proved" else f" ({words(actor.verdict)})"
            lines += paragraph(text, "    ", "        ")
        return [*lines, '    """']

    def offsets(self) -> dict[str, float]:
        """By tensor what is added to it before it is moved: the same for all that move it."""
        out: dict[str, float] = {}
        for actor in (*self.all, *self.component.wide):
            for row in actor.rows:
                if out.setdefault(row.slot, row.shift_by) != row.shift_by:
                    raise GaugeError("a gain that is stored as an offset is moved by another gauge too: not supported")
        return out

    # --- rows

    def group(self, name: str, actors: Sequence[Actor]) -> Iterator[str]:
        """Gauges, one after the other."""
        yield f"    {name} = ("
        for actor in actors:
            yield from self.gauge(actor)
        yield "    )"

    def charts(self) -> Iterator[str]:
        """What tensors are multiplied by, and what is added to them."""
        for slot, chart in self.component.charts:
            for factor in chart.factors:
                more = [f"offset={factor.offset}"] if factor.offset else []
                more += [f"power={number(factor.power)}"] if factor.power != 1 else []
                more += [f"plus={number(factor.shift_by)}"] if factor.shift_by else []
                texts = [quote(self.slots[slot]), quote(self.slots[factor.parameter]), flat(factor.axes), *more]
                yield call("", "Gain", texts, 8, tail=",")
            for each in chart.summands:
                starts = (each.weight_offset, each.bias_offset)
                more = [f"offset={each.offset}"] if each.offset else []
                more += [f"starts={flat(starts)}"] if any(starts) else []
                more += [f"weight={number(each.coefficient)}"] if each.coefficient != 1 else []
                matrix = quote(self.slots[each.weight]) if each.weight else "None"
                texts = [quote(self.slots[slot]), matrix, quote(self.slots[each.bias])]
                yield call("", "Added", [*texts, flat(each.kept), flat(each.summed), *more], 8, tail=",")

    def gauge(self, actor: Actor) -> Iterator[str]:
        """The group of a gauge, with the rows that it moves."""
        group = "OrthogonalOnes" if actor.keeps_ones else _GROUPS[actor.kind]
        yield f"        {group}({quote(self.gauges[actor.name])}, copies={actor.copies}, size={actor.size}).moves("
        for row in actor.rows:
            yield call("", "Row", self.row(row, actor), 12, tail=",")
        yield "        ),"

    def row(self, row: Row, actor: Actor) -> list[str]:
        kinds = zip("ckpr", (row.copies, row.group, row.pair, row.rest))
        axes = [(kind, n, stride) for kind, each in kinds for n, stride in each]
        written = pattern(self.shapes[row.slot], row.offset, axes, {"c": actor.copies, "k": actor.size, "p": 2})
        box, sizes = "", list[str]()
        if written is None:
            given = {"copies": row.copies, "group": row.group, "pair": row.pair, "rest": row.rest}
            text = ", ".join([str(row.offset), *(f"{name}={flat(each)}" for name, each in given.items() if each)])
            text = f"Strides({text})"
        else:
            box, text, sizes = written.box, quote(written.text), _sizes(written)
        power, pull = actor.kind in ("scale", "shift"), -row.power if actor.kind == "scale" else 0
        if power and (row.tangent.weight != row.power or row.tangent.pull != pull):
            raise GaugeError(f"{actor.gauge}: its tangent is not that of a power of the scale: not supported")
        return [
            quote(row.role),
            quote(self.slots[row.slot] + box),
            text,
            *([f"power={number(row.power)}"] if actor.kind == "scale" or (power and row.power != 1) else []),
            *(["dual=True"] if row.tangent.dual else []),
            *sizes,
        ]

    def pools(self) -> Iterator[str]:
        for pool in self.component.pools:
            for offset, axes in pool.pieces:
                tensor, name = self.slots[pool.slot], "Pool" if pool.cover else "Blur"
                kinds = [("k" if averaged else "r", n, stride) for n, stride, averaged in axes]
                written = pattern(self.shapes[pool.slot], offset, kinds, {})
                if written is None:
                    arguments = [quote(tensor), flat((offset, axes))]
                else:
                    arguments = [quote(tensor + written.box), quote(written.text), *_sizes(written)]
                yield call("", name, arguments, 8, tail=",")

    def coupling(self, each: Coupling) -> str:
        """A cross block by patterns where field and coefficients have them, else by strides."""
        sizes = {a.name: a.copies * a.size for a in self.component.actors}
        axes = [(letter, *axis) for letter, axis in zip(each.letters, each.kept)]
        axes += [("r", *axis) for axis in each.summed]
        field = pattern(self.shapes[each.slot], each.offset, axes, {}, named=True)
        sides = [
            pattern(
                (sizes[name],), view[0], [(letter, *axis) for letter, axis in zip(view[2], view[1])], {}, named=True
            )
            for name, view in ((each.left, each.left_view), (each.right, each.right_view))
        ]
        tensor, more = self.slots[each.slot], list[str]()
        if field is None or None in sides or any(side and side.box for side in sides):
            texts = [
                flat((each.offset, each.kept, each.summed, each.letters)),
                flat(each.left_view),
                flat(each.right_view),
            ]
        else:
            texts = [quote(written.text) for written in (field, *sides) if written]
            tensor, more = tensor + field.box, _sizes(field)
        pair = (self.gauges[each.left], self.gauges[each.right])
        arguments = [flat(pair), quote(tensor), *texts, f"squares={each.field == 'square'}"]
        return call("", "Coupling", [*arguments, f"weight={number(each.weight)}", *more], 8, tail=",")

    # --- functions

    def fix(self) -> Iterator[str]:
        """The frame: every scale by the formula that solves its `fix` line, in order."""
        yield "    def fix(self, point: Point) -> None:"
        yield '        """Solve for the scales that bring the parameters to canonical form."""'
        for step in self.component.frames:
            for solve in step.start:
                yield from self.settle("start" if step.rounds else "settle", solve, 8)
            if step.rounds:
                yield f"        for _ in point.rounds({_ROUNDS}):"
                for solve in step.rounds:
                    yield from self.settle("settle", solve, 12)

    def settle(self, how: str, solve: Solve, indent: int) -> Iterator[str]:
        """One scale, or the matrices of one gauge; how: "start" by one side of the equation."""
        sided, actor = ", by one side" if how == "start" else "", self.actors[solve.actor]
        if actor.kind == "matrix":
            yield from comment(f"balance what an element and its inverse move{sided}", indent)
            arguments = [quote(self.gauges[actor.name]), *([solve.formula] if solve.formula else [])]
            yield call("", "point.balance", arguments, indent)
            return
        yield from comment(f"fix {words(actor.equation)}{sided}", indent)
        role_of = {row.name: row.role for row in self.actors[solve.actor].rows}
        roles = [role_of[rows[0]] for rows in solve.norms]
        formula = re.sub(r"\bn([0-9]+)\b", lambda match: f"norm({quote(roles[int(match[1])])})", solve.formula)
        yield call("", f"point.{how}", [quote(self.gauges[solve.actor]), f"lambda norm: {formula}"], indent)

    def coefficients(self) -> Iterator[str]:
        """How the vertical part is solved for."""
        component = self.component
        met = {name for each in component.couplings for name in (each.left, each.right)}
        yield "    def coefficients(self, gram: Gram) -> Tensors:"
        if component.gram == "free":
            yield '        """Of the vertical part of a step, of all gauges together."""'
            yield "        return gram.iterate()"
            return
        if not component.actors:
            yield '        """No gauge moves along with this component alone."""'
            yield "        return {}"
            return
        if not met:
            yield '        """Of the vertical part of a step: no two gauges meet in the Gram matrix."""'
        else:
            pairs = [
                f"{self.gauges[each.left]} meets {self.gauges[each.right]} in {self.slots[each.slot]}"
                for each in component.couplings
            ]
            text = f"Of the vertical part of a step: {', '.join(dict.fromkeys(pairs))}."
            yield from docstring(text, 8)
        alone = [
            f"{quote(self.gauges[a.name])}: gram.{'sylvester' if a.kind in ('rotate', 'matrix') else 'divide'}"
            f"({quote(self.gauges[a.name])}),"
            for a in component.actors
            if a.name not in met
        ]
        if alone:
            yield "        alone = {" if met else "        return {"
            yield from (f"            {line}" for line in alone)
            yield "        }"
        if met:
            first = [quote(self.gauges[name]) for name in component.eliminated]
            rest = tuple(self.gauges[a.name] for a in component.actors if a.name in met - {*component.eliminated})
            yield call(f"return {'alone | ' if alone else ''}", "gram.eliminate", [*first, f"rest={flat(rest)}"], 8)


def _sizes(written: AxisPattern) -> list[str]:
    return [f"{name}={size}" for name, size in written.sizes.items()]
