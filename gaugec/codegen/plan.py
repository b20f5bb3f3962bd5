"""From sites to components: what overlaps, in what order frames are solved, how the joint projection is solved.

networkx lives here and nowhere else.  The result is immutable, the same for the same sites, and names nothing but
parameters: gauges and roles travel only as text for people.

Not here: proofs, formulas, source text.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from math import prod

import networkx as nx

from gaugec.codegen.charts import InCharts, held, reads, united, unseen
from gaugec.codegen.cuts import cuts
from gaugec.codegen.ir import (
    Actor,
    Axes,
    Component,
    Coupling,
    Derivation,
    Derived,
    Formula,
    FrameStep,
    Plan,
    Pool,
    Row,
    Solve,
)
from gaugec.codegen.overlap import Axis, Box, Shared, disjoint, gaps, share
from gaugec.errors import GaugeError
from gaugec.groups import GROUPS
from gaugec.sites import Binding, Chart, Site


def plan(sites: Sequence[Site], derived: Derived, shapes: Mapping[str, tuple[int, ...]]) -> Plan:
    """Group the sites into components, places that look the same into instances of one component.

    A component is what the bindings of sites share, with what their charts read; a wide site joins nothing.  shapes:
    canonical parameter name -> shape.  Raises GaugeError where gauges cannot be combined exactly.
    """
    charts, free = united(sites), unseen(sites)
    graph: nx.Graph = nx.Graph()
    for i, site in enumerate(sites):
        for binding in site.bindings:
            graph.add_node(binding.parameter)
            if not site.wide:
                graph.add_edge(("site", i), binding.parameter)
    for name, chart in charts.items():
        graph.add_edges_from((name, each) for each in reads(chart))
    first: dict[object, int] = {}  # what comes first among the sites comes first in the file
    for i, site in enumerate(sites):
        for binding in site.bindings:
            first.setdefault(binding.parameter, (i + len(sites)) if site.wide else i)
    clusters = []
    for group in nx.connected_components(graph):
        last = 2 * len(sites)
        params = (each for each in group if isinstance(each, str))
        names = sorted(params, key=lambda name: (first.get(name, last), name))
        here = sorted(each[1] for each in group if not isinstance(each, str))
        clusters.append((here or [first[names[0]]], names, here))
    components: dict[object, Component] = {}
    for _, names, here in sorted(clusters):
        wide = [site for site in sites if site.wide]
        made = _component([sites[i] for i in here], names, wide, charts, free, derived, shapes)
        key = replace(made, instances=(), places=())
        if key in components:
            seen = components[key]
            made = replace(seen, instances=seen.instances + made.instances, places=seen.places + made.places)
        components[key] = made
    return Plan(tuple(components.values()))


def _component(
    sites: Sequence[Site],
    members: Sequence[str],
    wide: Sequence[Site],
    charts: Mapping[str, Chart],
    free: frozenset[tuple[str, int]],
    derived: Derived,
    shapes: Mapping[str, tuple[int, ...]],
) -> Component:
    """sites: those that make it; members: all its parameters; wide: the wide sites of the whole model.

    free: the biases in sums that the function is known not to see.
    """
    names = list(dict.fromkeys([*(binding.parameter for site in sites for binding in site.bindings), *members]))
    slots = {name: f"p{i}" for i, name in enumerate(names)}
    shape_of = {slots[name]: tuple(shapes[name]) for name in names}
    here = {slots[name]: _over(charts[name], slots) for name in names if name in charts}
    through = [(j, site) for j, site in enumerate(wide) if any(each.parameter in slots for each in site.bindings)]
    locals_ = [(f"g{i}", site) for i, site in enumerate(sites)]
    known = frozenset((slots[name], start) for name, start in free if name in slots)
    all_of = [_moved(name, site, derived, slots, shape_of, here, known) for name, site in locals_]
    wides = tuple(_moved(f"w{j}", site, derived, slots, shape_of, here, known) for j, site in through)
    actors = tuple(actor for actor in all_of if actor.stepped)
    idle = tuple(actor for actor in all_of if not actor.stepped)
    for (_, site), actor in zip(locals_, all_of, strict=True):
        _balanced(site, actor, actors)
    _compatible(actors)
    _beside(actors, wides)
    couplings = _couplings(actors, shape_of)
    partly = _partly(held(here), shape_of)
    pools = tuple(_pools((*actors, *wides), shape_of, [slot for slot, _ in partly]))
    rules = {name: derived.of(site) for name, site in locals_}
    return Component(
        slots=tuple(shape_of.items()),
        instances=(tuple(names),),
        places=(", ".join(dict.fromkeys(site.place for site in sites if site.place)),),
        actors=actors,
        frames=_frames(actors, rules),
        couplings=couplings or (),
        eliminated=_eliminated(actors, couplings or ()),
        pools=pools,
        cuts=() if couplings is None else cuts(shape_of, actors, couplings, pools),
        gram="free" if couplings is None else "blocks" if couplings else "closed",
        idle=idle,
        wide=wides,
        charts=tuple(here.items()),
        partly=partly,
        holds=_holds(here, [*locals_, *((f"w{j}", site) for j, site in through)], slots),
    )


def _over(chart: Chart, slots: Mapping[str, str]) -> Chart:
    """A chart over slots."""
    return Chart(
        tuple(replace(each, parameter=slots[each.parameter]) for each in chart.factors),
        tuple(
            replace(each, weight=slots[each.weight] if each.weight else "", bias=slots[each.bias])
            for each in chart.summands
        ),
    )


def _holds(
    charts: Mapping[str, Chart], sites: Sequence[tuple[str, Site]], slots: Mapping[str, str]
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """What charts read, and the gauges that read or move it."""
    out = {}
    for slot in dict.fromkeys(each for chart in charts.values() for each in chart.reads):
        out[slot] = tuple(
            name
            for name, site in sites
            if any(
                slots.get(each) == slot
                for binding in site.bindings
                if binding.parameter in slots
                for each in (binding.parameter, *binding.chart.reads)
            )
        )
    return tuple(out.items())


def _partly(
    regions: Mapping[str, Sequence[Box]], shapes: Mapping[str, tuple[int, ...]]
) -> tuple[tuple[str, tuple[tuple[int, Axes], ...]], ...]:
    """Of the slots of which not all is held, what is."""
    return tuple(
        (slot, tuple((box.offset, tuple((axis.size, axis.stride) for axis in box.axes)) for box in boxes))
        for slot, boxes in regions.items()
        if sum(box.count for box in boxes) != prod(shapes[slot])
    )


def _moved(
    name: str,
    site: Site,
    derived: Derived,
    slots: Mapping[str, str],
    shapes: Mapping[str, tuple[int, ...]],
    charts: Mapping[str, Chart],
    free: frozenset[tuple[str, int]],
) -> Actor:
    """A gauge as it is in the coordinates of the charts."""
    actor = _actor(name, site, derived.of(site), slots)
    actor = replace(actor, rows=tuple(_held(actor, part, held(charts).get(part.slot, ())) for part in actor.rows))
    for part in actor.rows:
        _inside(actor, part, prod(shapes[part.slot]))
    own: dict[str, Chart] = {}
    for binding in site.bindings:
        if binding.chart and binding.parameter in slots:
            slot = slots[binding.parameter]
            before, more = own.get(slot, Chart()), _over(binding.chart, slots)
            own[slot] = Chart(before.factors + more.factors, before.summands + more.summands)
    counts = {slot: prod(shape) for slot, shape in shapes.items()}
    there = InCharts(actor, charts, own, free, counts, _box).actor_there()
    if site.wide and actor.kind != "rotate":
        raise GaugeError(
            f"{site.gauge}: of the gauges that run through the whole model only rotations are compiled",
            help="leave it out of the spec",
        )
    return there


# --- parts


def _held(actor: Actor, part: Row, regions: Sequence[Box]) -> Row:
    """A row, held where it lies in what charts read."""
    box = Box(part.offset, tuple(Axis(n, s) for n, s in (*part.copies, *part.group, *part.pair, *part.rest)))
    if any(share(box, each) for each in regions):
        return replace(part, held=True)
    if part.still or all(disjoint(box, each) for each in regions):
        return part
    raise GaugeError(
        f"{actor.gauge} moves {part.role}, of which a part is held for another gauge: together they are not supported",
        help="leave one of them out of the spec",
    )


def _actor(name: str, site: Site, rule: Derivation, slots: Mapping[str, str]) -> Actor:
    kind = GROUPS[site.group].generator
    parts: list[Row] = []
    for binding, tangent in zip(site.bindings, rule.tangents):
        if binding.parameter not in slots:
            continue
        group, pair, rest = _axes(site, binding, kind)
        parts.append(
            Row(
                name=f"{name}p{len(parts)}",
                role=binding.role,
                slot=slots[binding.parameter],
                offset=binding.offset,
                copies=_squeeze(binding.copies),
                group=group,
                pair=pair,
                rest=rest,
                power=binding.move.exponent if binding.move.kind in ("scale", "shift") else Fraction(0),
                tangent=tangent,
                shift_by=binding.shift_by,
                still=binding.move.kind == "still",
            )
        )
    sizes = {prod(n for n, _ in part.group) for part in parts if not part.still}
    copies = {prod(n for n, _ in part.copies) for part in parts if not part.still}
    if not sizes:  # of a wide gauge, where its chart is all that moves
        sizes, copies = {site.size}, {site.copies}
    if len(sizes) != 1 or copies != {site.copies}:
        raise GaugeError(f"{site.gauge} at {site.place}: its bindings disagree about copies or size")
    return Actor(
        name,
        kind,
        site.gauge,
        site.group,
        site.theorem,
        site.verdict,
        site.copies,
        sizes.pop(),
        rule.equation,
        tuple(parts),
    )


def _balanced(site: Site, actor: Actor, actors: Sequence[Actor]) -> None:
    """What an element moves, and what its inverse moves, has a column for every direction of the basis.

    What a shift adds is taken out of a column before it is looked at: each leaves one less.
    """
    for dual in (False, True) if actor.kind == "matrix" else ():
        side = [part for part in actor.stepped if part.tangent.dual == dual and not part.still]
        shifts = [each for each in actors if each.kind == "shift" and _overlaps(actor, each, side, each.stepped)]
        count = sum(prod(n for n, _ in part.rest) for part in side) - len(shifts)
        if count < actor.size:
            beside = f", beside {', '.join(each.gauge for each in shifts)}" if shifts else ""
            raise GaugeError(
                f"{site.gauge} at {site.place}: {', '.join(part.role for part in side)} cannot be balanced{beside}: "
                f"they have {count} numbers in every direction of a basis of {actor.size}, and need as many as there "
                "are directions",
                help=f"gauge it by {GROUPS[site.group].subgroups[0]}, which needs no balance",
            )


def _inside(actor: Actor, part: Row, count: int) -> None:
    """A binding lies inside its parameter, and covers it where the parameter is stored as an offset."""
    box = _box(actor, part)
    if part.offset < 0 or box.end > count:
        raise GaugeError(f"{actor.gauge}: the binding of {part.role} does not lie inside its parameter")
    if part.shift_by and box.count != count:
        raise GaugeError(f"{actor.gauge}: a part of a parameter that is stored as an offset is not supported")


def _axes(site: Site, binding: Binding, kind: str) -> tuple[Axes, Axes, Axes]:
    """Axes of the coefficient, of the rotary pair, and what is left."""
    if kind == "shift":
        return _squeeze(binding.rest), (), _squeeze(binding.group)
    if not GROUPS[site.group].paired:
        return _squeeze(binding.group), (), _squeeze(binding.rest)
    group = _merge(binding.group)
    rotary = site.rotary or site.size
    if len(group) != 1 or rotary % 2 or rotary > site.size:
        raise GaugeError(f"{site.gauge} at {site.place}: a rotary axis in pieces is not supported")
    stride = group[0][1]
    if site.pairing == "halves":
        return ((rotary // 2, stride),), ((2, stride * rotary // 2),), _squeeze(binding.rest)
    return ((rotary // 2, 2 * stride),), ((2, stride),), _squeeze(binding.rest)


def _squeeze(axes: Axes) -> Axes:
    return tuple((n, stride) for n, stride in axes if n != 1)


def _merge(axes: Axes) -> Axes:
    out: list[tuple[int, int]] = []
    for n, stride in _squeeze(axes):
        if out and out[-1][1] == n * stride:
            out[-1] = (out[-1][0] * n, stride)
        else:
            out.append((n, stride))
    return tuple(out)


def _box(actor: Actor, part: Row) -> Box:
    """The part's elements, labelled: where its coefficient varies, and what a compact action mixes."""
    coefficient = part.copies + part.group
    axes = []
    step = prod(n for n, _ in coefficient)
    for i, (n, stride) in enumerate(coefficient):
        step //= n
        axes.append(Axis(n, stride, step, mixed=actor.pools == "axis" and i >= len(part.copies)))
    axes += [Axis(n, stride, 0, mixed=actor.pools == "pair") for n, stride in part.pair]
    axes += [Axis(n, stride, 0, mixed=actor.kind == "shift") for n, stride in part.rest]
    return Box(part.offset, tuple(axes))


def _meet(one: Box, two: Box) -> Shared | None:
    """The smaller box seen by both, `inner` being `one`'s side; None where neither contains the other squarely."""
    if one.count <= two.count:
        return share(one, two)
    seen = share(two, one)
    if seen is None:
        return None
    return Shared(seen.offset, seen.axes, seen.outer, seen.inner, seen.outer_start, seen.inner_start)


def _overlaps(
    actor: Actor, other: Actor, left: Sequence[Row], right: Sequence[Row]
) -> list[tuple[Row, Row, Shared | None]]:
    out = []
    for one in left:
        for two in right:
            if one.slot == two.slot and one is not two:
                a, b = _box(actor, one), _box(other, two)
                if not disjoint(a, b):
                    out.append((one, two, _meet(a, b)))
    return out


def _compatible(actors: Sequence[Actor]) -> None:
    """A frame must commute with every rotation and shift beside it: constant along what they mix."""
    for actor in actors:
        if actor.kind not in ("scale", "matrix"):
            continue
        for other in actors:
            if other.kind == "scale" or other is actor:
                continue
            for one, two, seen in _overlaps(actor, other, actor.stepped, other.stepped):
                if seen is None or any(a.step and b.mixed for a, b in zip(seen.inner, seen.outer)):
                    raise GaugeError(
                        f"{actor.gauge} and {other.gauge} both move {one.role}/{two.role}, and the {actor.kind} of the "
                        "first does not commute with the action of the second: together they are not supported"
                    )
                several = other.kind == "shift" and len(other.stepped) > 1
                if several and any(a.step and b.step for a, b in zip(seen.inner, seen.outer)):
                    raise GaugeError(
                        f"{actor.gauge} and {other.gauge} both move {one.role}/{two.role}, and the second adds the "
                        "same elsewhere, where the scale of the first is not: together they are not supported"
                    )


def _beside(actors: Sequence[Actor], wide: Sequence[Actor]) -> None:
    """What a gauge makes of a step must go along with every wide one: nothing of it is particular to what is mixed."""
    for actor in actors:
        for other in wide:
            for one, _, seen in _overlaps(actor, other, actor.stepped, other.stepped):
                clash = seen is None
                for mine, theirs in zip(seen.inner, seen.outer) if seen else ():
                    if actor.kind == "shift":
                        clash |= theirs.mixed and mine.mixed and not other.keeps_ones
                    else:
                        clash |= theirs.mixed and bool(mine.step or mine.mixed)
                if clash:
                    raise GaugeError(
                        f"{actor.gauge} and {other.gauge} both move {one.role}, along one axis, and the second runs "
                        "through the whole model: together they are not supported",
                        help="leave one of them out of the spec",
                    )


# --- frames


def _frames(actors: Sequence[Actor], rules: Mapping[str, Derivation]) -> tuple[FrameStep, ...]:
    """Order the frames so that each is solved from what the ones before it have brought to canonical form."""
    framed = [actor for actor in actors if rules[actor.name].frame is not None]
    order = {actor.name: i for i, actor in enumerate(framed)}
    by_name = {actor.name: actor for actor in framed}

    def reads(actor: Actor, formula: Formula) -> list[Row]:
        return [part for part in actor.rows if part.role in formula.roles]

    def graph(formulas: Mapping[str, Formula], nodes: Sequence[str]) -> nx.DiGraph:
        edges: nx.DiGraph = nx.DiGraph()
        edges.add_nodes_from(nodes)
        for name in nodes:
            for other in nodes:
                if other != name and _overlaps(
                    by_name[name], by_name[other], reads(by_name[name], formulas[name]), by_name[other].rows
                ):
                    edges.add_edge(other, name)
        return edges

    full = {name: formula for name in order if (formula := rules[name].frame) is not None}
    whole = graph(full, list(order))
    condensed = nx.condensation(whole)
    ranks = {node: min(order[name] for name in condensed.nodes[node]["members"]) for node in condensed}
    steps = []
    for node in nx.lexicographical_topological_sort(condensed, key=lambda node: ranks[node]):
        members = sorted(condensed.nodes[node]["members"], key=order.__getitem__)
        if len(members) == 1:
            steps.append(FrameStep((_line(by_name[members[0]], full[members[0]]),)))
        else:
            steps.append(_cycle(members, by_name, rules, graph, order))
    return tuple(steps)


def _cycle(
    members: Sequence[str],
    actors: Mapping[str, Actor],
    rules: Mapping[str, Derivation],
    graph: Callable[[Mapping[str, Formula], Sequence[str]], nx.DiGraph],
    order: Mapping[str, int],
) -> FrameStep:
    """Break a cycle: one-sided forms that can be solved in order, then rounds of the full forms from there."""
    full = {name: formula for name in members if (formula := rules[name].frame) is not None}
    for side in (0, 1):
        sided = {name: formula for name in members if (formula := rules[name].sided[side]) is not None}
        if len(sided) != len(members):
            continue
        edges = graph(sided, members)
        if nx.is_directed_acyclic_graph(edges):
            names = list(nx.lexicographical_topological_sort(edges, key=order.__getitem__))
            return FrameStep(
                tuple(_line(actors[name], sided[name]) for name in names),
                tuple(_line(actors[name], full[name]) for name in names),
            )
    gauges = " and ".join(dict.fromkeys(actors[name].gauge for name in members))
    raise GaugeError(
        f"the frames of {gauges} depend on one another in a circle, and neither side of their fix alone breaks it"
    )


def _line(actor: Actor, formula: Formula) -> Solve:
    norms = tuple(tuple(part.name for part in actor.rows if part.role == role) for role in formula.roles)
    return Solve(actor.name, formula.text, norms)


# --- the joint normal equations


def _couplings(actors: Sequence[Actor], shapes: Mapping[str, tuple[int, ...]]) -> tuple[Coupling, ...] | None:
    """The Gram blocks between different gauges; None where one of them has no simple form."""
    out: list[Coupling] = []
    for i, actor in enumerate(actors):
        own = actor.stepped
        if any(_overlaps(actor, actor, own[j : j + 1], own[j + 1 :]) for j in range(len(own))):
            return None
        for other in actors[i + 1 :]:
            for one, two, seen in _overlaps(actor, other, own, other.stepped):
                if seen is None:
                    return None
                if _orthogonal(actor, other, seen):
                    continue
                block = _block(actor, other, one, two, seen)
                if block is None:
                    return None
                out.append(block)
    return tuple(out)


def _orthogonal(actor: Actor, other: Actor, seen: Shared) -> bool:
    """A skew generator meets a scale that is constant along what it mixes: A_ij times a symmetric matrix sums to 0."""
    kinds = {actor.kind, other.kind}
    if kinds not in ({"scale", "rotate"}, {"scale", "turn"}):
        return False
    sides = (seen.inner, seen.outer) if actor.kind == "scale" else (seen.outer, seen.inner)
    return not any(scale.step and turn.mixed for scale, turn in zip(*sides))


def _block(actor: Actor, other: Actor, one: Row, two: Row, seen: Shared) -> Coupling | None:
    kinds = {actor.kind, other.kind}
    if kinds not in ({"scale"}, {"scale", "shift"}):
        return None
    letters = "abcdefghijklmnopqrstuvwxy"
    kept: list[tuple[int, int]] = []
    summed: list[tuple[int, int]] = []
    names = ""
    left: list[tuple[int, int]] = []
    right: list[tuple[int, int]] = []
    left_names = right_names = ""
    for (n, stride), mine, theirs in zip(seen.axes, seen.inner, seen.outer):
        if not mine.step and not theirs.step:
            summed.append((n, stride))
            continue
        letter = letters[len(kept)]
        kept.append((n, stride))
        names += letter
        if mine.step:
            left.append((n, mine.step))
            left_names += letter
        if theirs.step:
            right.append((n, theirs.step))
            right_names += letter
    return Coupling(
        left=actor.name,
        right=other.name,
        slot=one.slot,
        field="square" if kinds == {"scale"} else "value",
        weight=one.tangent.weight * two.tangent.weight,
        offset=seen.offset,
        kept=tuple(kept),
        summed=tuple(summed),
        left_view=(seen.inner_start, tuple(left), left_names),
        right_view=(seen.outer_start, tuple(right), right_names),
        letters=names,
    )


def _eliminated(actors: Sequence[Actor], couplings: Sequence[Coupling]) -> tuple[str, ...]:
    """Gauges without couplings between them, the large ones first: they leave the joint system beforehand."""
    out: list[str] = []
    coupled = {name for each in couplings for name in (each.left, each.right)}
    order = sorted(
        (actor for actor in actors if actor.name in coupled),
        key=lambda actor: -actor.copies * actor.size ** (2 if actor.kind in ("rotate", "matrix") else 1),
    )
    for actor in order:
        met = [{each.left, each.right} for each in couplings if actor.name in (each.left, each.right)]
        if not any(len(pair) == 1 or pair & set(out) for pair in met):
            out.append(actor.name)
    return tuple(out)


# --- pools


def _pools(
    actors: Sequence[Actor], shapes: Mapping[str, tuple[int, ...]], partly: Collection[str]
) -> list[Pool]:
    """How the squares of each slot are averaged over what compact actions mix; partly: slots of which a part is held,
    be that all that is mixed of it."""
    out = []
    for slot, shape in shapes.items():
        some = [(actor, part) for actor in actors if actor.pools != "nothing" for part in actor.rows]
        mixed = [(actor, part) for actor, part in some if part.slot == slot]
        boxes = [_box(actor, part) for actor, part in mixed if not part.held]
        if not boxes and not (mixed and slot in partly):
            continue
        pieces = _cover(boxes, prod(shape))
        flags = [(piece.offset, _averaged(piece)) for piece in pieces or boxes]
        out.append(Pool(slot, tuple(flags), pieces is not None))
    return out


def _averaged(piece: Box) -> tuple[tuple[int, int, bool], ...]:
    """The axes in the order of the memory: so is the state, and rows are a run of it."""
    return tuple(sorted(((d.size, d.stride, d.mixed) for d in piece.axes), key=lambda axis: -axis[1]))


def _cover(boxes: Sequence[Box], count: int) -> list[Box] | None:
    """Disjoint pieces that cover the parameter, each with every axis that is mixed there; None where there are none."""
    pieces: list[Box] = []
    for box in sorted(boxes, key=lambda box: box.count):
        if all(disjoint(box, piece) for piece in pieces):
            pieces.append(box)
    if sum(piece.count for piece in pieces) != count:
        rest = gaps(pieces, count)
        if rest is None:
            return None
        pieces += rest
    out = []
    for piece in sorted(pieces, key=lambda piece: piece.offset):
        plain = Box(piece.offset, tuple(Axis(d.size, d.stride) for d in piece.axes))
        for box in boxes:
            if disjoint(plain, box):
                continue
            seen = share(plain, box)
            if seen is None:
                return None
            plain = Box(
                plain.offset,
                tuple(Axis(a.size, a.stride, 0, a.mixed or b.mixed) for a, b in zip(seen.inner, seen.outer)),
            )
        out.append(plain)
    return out
