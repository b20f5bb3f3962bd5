"""The forward flow of moved values through a tensor graph: the rules, one a node kind, for formulas and models alike.

A rule reads the states of a node's operands and answers with an `Outcome`: the value moves on unchanged in kind
(neutral), it passes a step that the formula must have too (`key`), or it is kept.  What an operand must do that does
not move yet is a `Demand`.  The rules are a filter and the source of messages: what they accept is proved afterwards.

What this module does not do: it binds no parameter and proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

from gaugec.graph.ir import Along, Concatenation, Contraction, Map, Node, Sum
from gaugec.laws.meanings import degree
from gaugec.matching.states import (
    ANOTHER_LOOKUP,
    LOOKED_UP,
    ORDER,
    Blocked,
    Context,
    Demand,
    Demote,
    Extent,
    Gain,
    Number,
    Outcome,
    Seen,
    Spot,
    State,
    charted,
    inverse,
    read,
)
from gaugec.operators import aten_kind, spelled

# What would have to be true, in the words of the mathematics: a refusal names the law that it misses.
_SUM = {
    "scale": "sum of c[i] x[i] = sum of x[i] holds for c = 1 only",
    "rotate": "sum of (R x)[i] = sum of x[i] holds only where R keeps the vector of ones",
}
_MEETS = {
    "scale": "(c x) @ (y / c) = x @ y: the other side must move by the inverse, along the same axis",
    "rotate": "(R x) @ (R y) = x @ y: the other side must turn with it, along the same axis",
}
_BENT = {
    "scale": "{f} along the axis of the scales: {f}(c x) = {f}(x) holds where c is one number at most",
    "rotate": "{f}(R x) = R {f}(x): what acts on coordinates commutes with no rotation that mixes them",
}
_LENGTH = "sum of (R x)[i]² = sum of x[i]² holds for the sum over the whole axis, of nothing but the squares"
_ADDS = "g x + g y = g (x + y): what is added must move in the same way"
_ONE = "sum over i of g[i] x[i] = g (sum of x[i]) needs one element for all i"
_CUT = "L(g θ, v) has the gradient of L(θ, v), moved by g, where v, which has none, is the same at g θ and at θ"


def _power(node: Map | Along) -> str:
    name = spelled(node.function, node.attributes)
    bare = name.isidentifier()
    return f"{name}(c x) = c**n {name}(x) for c > 0, and some n" if bare else f"f(c x) = c**n f(x) for f(x) = {name}"


def step(node: Node, states: Sequence[Sequence[State]], context: Context) -> list[Outcome | Demand]:
    """Applies the rule of a node; `states`: for every operand the ways in which its value moves (none: it does not).

    A value may move in two disjoint parts that play two values of the formula (queries and keys of a fused weight);
    where a node reads both at once, each part goes its own way.  The list is empty when nothing is read where it moves.

    Raises:
        Blocked: the gauge ends here.
        Demote: a digit must leave the group.  Refine: a digit must be split.
    """
    seen = [
        found
        for i, (access, several) in enumerate(zip(node.operands, states, strict=True))
        for state in several
        if (found := read(node, i, access, state, context)) is not None
    ]
    if not seen:
        return []
    rule = _RULES.get(type(node))
    if aten_kind(node.source) == "cut":
        raise Blocked("the gradient of the moved value is cut (a detach, or a region without gradients)", node, _CUT)
    if rule is None:
        raise Blocked(f"no rule is known for {node.title}", node, f"a row of the operator table for {node.title}")
    if any(s.state.squared for s in seen):
        return [_length(node, track, context) for track in _tracks(seen)]
    if isinstance(node, Concatenation) and (parts := _parts(node, seen, context)):
        return [Outcome(part) for part in parts]
    return [rule(node, track, context) for track in _tracks(seen)]


def _tracks(seen: list[Seen]) -> list[list[Seen]]:
    """One list, unless an operand is read in two moving parts: then one for each part."""
    if len({s.operand for s in seen}) == len(seen):
        return [seen]
    tracks: dict[object, list[Seen]] = {}
    for s in seen:
        where = {(spot, s.state.digits[d].length) for d, spot in s.variables.items()}
        tracks.setdefault(frozenset(where), []).append(s)
    return list(tracks.values())


def _out(node: Node, seen: Seen, context: Context) -> dict[Number, Extent]:
    """Where the digits are in the node's value."""
    places = {mode.variable: i for i, mode in enumerate(node.modes)}
    digits: dict[Number, Extent] = {}
    for digit, spot in seen.variables.items():
        if spot.variable not in places:
            if digit in context.group | context.copies:
                raise Blocked("the moved axis is summed away", node, _SUM[context.kind])
            continue  # a bystander may go
        position = places[spot.variable]
        length = seen.state.digits[digit].length
        if seen.partial and digit in context.group:
            length = min(length, node.modes[position].size)
        digits[digit] = Extent(position, spot.start, length, spot.step)
    return digits


def _elsewhere(node: Node, seen: Seen, variable: int) -> list[int]:
    """The other operands that read a variable."""
    return [i for i, a in enumerate(node.operands) if i != seen.operand and variable in a.variables]


def played(state: State) -> object:
    """The value of the formula that a state plays; one that has been through a rotary embedding is another value."""
    return ("turned", state.tag) if state.zone else state.tag


def _tags(moved: Sequence[Seen]) -> tuple[object, ...]:
    return tuple(sorted((played(s.state) for s in moved), key=repr))


# -- contraction -------------------------------------------------------------------------------------------------
def _contraction(node: Contraction, moved: list[Seen], context: Context) -> Outcome | Demand:
    if len(moved) == 1:
        return _read_once(node, moved[0], context)
    return _met(node, moved, context)


def _applied(node: Contraction, seen: Seen, state: State, context: Context) -> Outcome:
    """The value where a parameter is a weight of what is summed; one that is looked up may be seen as a part of it."""
    weighed = bool(set(node.operands[seen.operand].variables) & set(node.summed))
    if not weighed or not _is_role(seen.state):
        return Outcome(state)
    looked_up = all(a.node in context.chosen for i, a in enumerate(node.operands) if i != seen.operand)
    return Outcome(state, ("apply", seen.state.tag), otherwise=(None,) if looked_up else ())


def _looked_up(node: Contraction, seen: Seen, context: Context) -> Outcome | None:
    """The value where a digit that takes part is looked up by index; None where none is.

    Along the group only a scale can be looked up, by one row of indices; copies can be under every group: entry j then
    moves by the element of the copy that index[j] names.  Of several rows the digit is followed along the innermost:
    whether the others agree the proof decides.
    """
    others = [a for i, a in enumerate(node.operands) if i != seen.operand]
    choosers = [a for a in others if a.node in context.chosen]
    summed = {d: s.variable for d, s in seen.variables.items() if s.variable in node.summed}
    picked = {d: v for d, v in summed.items() if any(v in a.variables for a in choosers)} if choosers else {}
    picked = {d: v for d, v in picked.items() if d in context.group | context.copies}
    acting = {d: s.variable for d, s in seen.variables.items() if d in context.group}
    if not picked or (picked.keys() & acting.keys() and not acting.keys() <= summed.keys()):
        return None
    if context.kind != "scale" and picked.keys() & acting.keys():
        raise Blocked("the moved axis is looked up by index", node, ORDER)
    ((digit, entry), *more) = picked.items()
    chooser = next(a for a in choosers if entry in a.variables)
    rows = [v for v in chooser.variables if v != entry]
    places = {mode.variable: i for i, mode in enumerate(node.modes)}
    spot, length = seen.variables[digit], seen.state.digits[digit].length
    whole = spot == Spot(entry) and length == node.sizes[entry] and chooser.index[-1].plain == entry
    readers = {i for i, a in enumerate(node.operands) if entry in a.variables}
    busy = digit in context.copies and any(v in node.summed or _elsewhere(node, seen, v) for v in acting.values())
    several = len(rows) != 1 if digit in context.group else not rows
    if more or not whole or several or not set(rows) <= places.keys() or len(readers) != 2 or busy:
        raise Blocked("not supported: the moved axis is looked up by more than one row of indices", node, LOOKED_UP)
    still = replace(seen, variables={d: s for d, s in seen.variables.items() if d != digit})
    digits = {**_out(node, still, context), digit: Extent(places[rows[-1]], 0, node.sizes[rows[-1]])}
    lookups = (*seen.state.lookups, (digit, context.chosen[chooser.node]))
    return _applied(node, seen, replace(seen.state, digits=digits, lookups=lookups), context)


def _read_once(node: Contraction, seen: Seen, context: Context) -> Outcome | Demand:
    if (found := _looked_up(node, seen, context)) is not None:
        return found
    acting = {d: s.variable for d, s in seen.variables.items() if d in context.group}
    summed = [d for d, v in acting.items() if v in node.summed]
    if summed and not seen.partial:
        for digit, variable in acting.items():
            # the groups of a convolution; of rotary pairs there are copies, for the pairs are those of one axis
            shared = context.kind == "scale" and not context.paired and _elsewhere(node, seen, variable)
            if digit not in summed and not shared:
                raise Demote(digit, "it stays while the rest of the moved axis is contracted", node, _ONE)
        alone = _alone(node, seen, acting, context)
        if alone is not None:
            raise Demote(alone, "what meets the rest of the moved axis does not have it", node, _ONE)
        partner = _partner(node, seen, acting, context)
        if not any(_elsewhere(node, seen, v) for v in acting.values()):
            if context.keeps_ones and not seen.state.chart:
                return Outcome(None, ("sum", played(seen.state)))
            raise Blocked("the moved axis is summed away", node, _SUM[context.kind])
        if partner is None:
            raise Blocked("the moved axis is contracted with values that do not move", node, _MEETS[context.kind])
        return Demand(partner, "contract", seen.state, seen.variables)
    for digit, spot in seen.variables.items():
        if digit in context.copies and spot.variable in node.summed:
            raise Demote(digit, "values with different group elements are added up", node, _ONE)
    zone, gate, masked = seen.state.zone or seen.partial, False, True
    gains: list[tuple[Gain, Fraction]] = []
    own = set(node.operands[seen.operand].variables)
    weighed = bool(own & set(node.summed))
    for digit, variable in acting.items():
        others = _elsewhere(node, seen, variable)
        if not others:
            continue
        if context.paired and not any(context.depends[node.operands[i].node] for i in others):
            zone = True
        elif context.kind == "scale":
            # a dropout mask on the axis leaves a scale alone, and is no gate of the formula; nor is what chooses a row
            quiet = context.noise | context.chosen.keys()
            gates = [node.operands[i].node for i in others if node.operands[i].node not in quiet]
            gate = gate or bool(gates)
            # what no parameter reaches (the mask of a pruned weight) may stand there whatever the formula, and so may
            # any unmoved factor of a parameter itself: it only says how the parameter is written
            masked = masked and (_is_role(seen.state) or not any(context.depends[id] for id in gates))
        elif len(acting) == 1 and all(_gain(node, i, variable, context) for i in others):
            gains += [(context.vectors[node.operands[i].node][:2], Fraction(1)) for i in others]
        else:
            raise Demote(
                digit,
                "it is weighted by values that vary along it",
                node,
                "diag(w) R = R diag(w) only where w is constant",
            )
    state = replace(
        seen.state, digits=_out(node, seen, context), zone=zone, chart=charted(seen.state.chart, *gains)
    )
    applied = _applied(node, seen, state, context)
    if gate:
        key = ("weigh" if weighed else "gate", played(seen.state))
        other = None if masked else _partner(node, seen, acting, context)
        instead = None if other is None else Demand(other, _meets(node), seen.state, seen.variables)
        return Outcome(state, key, otherwise=(applied.key,) if masked else (), instead=instead)
    if applied.key is None and _is_role(seen.state) and len(node.operands) > 1:
        # a parameter times data: where the axis that a weight sums over has length 1, that is all there is of the sum
        return Outcome(state, ("apply", seen.state.tag), otherwise=(None,))
    return applied


def _is_role(state: State) -> bool:
    """Is it a parameter itself, or a part of one?"""
    return isinstance(state.tag, tuple) and state.tag[0] == "role"


def _partner(node: Node, seen: Seen, acting: Mapping[Number, int], context: Context) -> int | None:
    """The operand that meets the moved axis and could move: it depends on parameters, and masks apart it is alone."""
    quiet = context.noise if context.kind == "scale" else frozenset()
    others = {i for v in acting.values() for i in _elsewhere(node, seen, v) if node.operands[i].node not in quiet}
    found = [i for i in others if all(v in node.operands[i].variables for v in acting.values())]
    return found[0] if len(found) == len(others) == 1 and context.depends[node.operands[found[0]].node] else None


def _alone(node: Node, seen: Seen, acting: Mapping[Number, int], context: Context) -> Number | None:
    """A digit of the moved axis that only meets what cannot move, where another one meets what can."""
    met = {
        digit: any(context.depends[node.operands[i].node] for i in _elsewhere(node, seen, variable))
        for digit, variable in acting.items()
    }
    return next((digit for digit, moves in met.items() if not moves), None) if any(met.values()) else None


def _meets(node: Contraction) -> str:
    """Are products of moved values summed, or is each a value of its own?"""
    return "contract" if node.summed else "times"


def _met(node: Contraction, moved: list[Seen], context: Context) -> Outcome:
    first = moved[0]
    acting = {d: s.variable for d, s in first.variables.items() if d in context.group}
    for other in moved[1:]:
        if other.state.lookups != first.state.lookups:
            raise Blocked(ANOTHER_LOOKUP, node, LOOKED_UP)
        for digit, spot in first.variables.items():
            if digit in context.group | context.copies and other.variables.get(digit) != spot:
                if digit in context.copies:
                    raise Demote(digit, "its two factors have different copies", node, _ONE)
                raise Blocked("two moved axes meet that are not one index", node, _MEETS[context.kind])
        if (set(other.variables) ^ set(first.variables)) & (context.group | context.copies):
            raise Blocked("two moved values meet whose moved axes differ", node, _MEETS[context.kind])
    inside = {s.operand for s in moved}
    rest = {i for v in acting.values() for i, a in enumerate(node.operands) if v in a.variables and i not in inside}
    if context.kind == "scale":
        exponent = sum((s.state.exponent for s in moved), Fraction(0))
        tags, summed = _tags(moved), any(v in node.summed for v in acting.values())
        if exponent == 0:
            # each product of a sum of them is kept as the sum is
            return Outcome(None, (_meets(node), *tags), otherwise=() if node.summed else (("contract", *tags),))
        if summed:
            raise Blocked("the scales do not cancel where the moved axis is summed", node, _SUM["scale"])
        if rest:
            raise Blocked(
                "a product of moved values is gated", node, "not supported: a gate on a product of moved values"
            )
        return Outcome(
            replace(first.state, digits=_out(node, first, context), exponent=exponent, tag=None),
            ("product", *tags),
        )
    if rest or len(moved) != 2:
        raise Blocked("more than two values meet along the moved axis", node, _MEETS["rotate"])
    one, two = (node.operands[s.operand] for s in moved)
    square = one == two and first.state == moved[1].state and not first.partial and not first.state.chart
    if square and not set(acting.values()) & set(node.summed):
        return Outcome(replace(first.state, digits=_out(node, first, context), squared=True))
    for digit, variable in acting.items():
        if variable not in node.summed:
            raise Demote(digit, "both factors keep it", node, "(R x)[i] (R y)[i] is no function of x[i] y[i]")
    if first.state.chart != inverse(moved[1].state.chart):
        raise Blocked("the gains of what meets do not cancel", node, _MEETS["rotate"])
    return Outcome(None, ("contract", *_tags(moved)), otherwise=(None,) if square else ())


def _length(node: Node, moved: list[Seen], context: Context) -> Outcome:
    """The squared length of a value that turns, from its squared entries: it is kept, whatever the formula."""
    seen = moved[0]
    group = {d: s.variable for d, s in seen.variables.items() if d in context.group}
    summed = set(node.summed) if isinstance(node, Contraction) else set()
    others = [v for v in group.values() if _elsewhere(node, seen, v)]
    if len(moved) > 1 or others or seen.partial or not summed & set(group.values()):
        raise Blocked("the squares of a value that turns are read one by one", node, _LENGTH)
    for digit, variable in group.items():
        if variable not in summed:
            raise Demote(digit, "it stays while the squares along the rest of the moved axis are summed", node, _ONE)
    tag = played(seen.state)
    return Outcome(None, ("contract", tag, tag), otherwise=(None,))


# -- the other kinds ---------------------------------------------------------------------------------------------
def _sum(node: Sum, moved: list[Seen], context: Context) -> Outcome | Demand:
    if node.constant:
        raise Blocked(f"the constant {float(node.constant):g} is added to the moved value", node, _ADDS)
    inside = {s.operand for s in moved}
    for i, access in enumerate(node.operands):
        if i not in inside and access.node not in context.zeros:
            seen = moved[0]
            if _along_ones(node, i, moved, context):
                continue
            if not context.depends[access.node]:
                raise Blocked("a value that does not move is added to one that does", node, _ADDS)
            return Demand(i, "add", seen.state, seen.variables)
    digits = [_out(node, s, context) for s in moved]
    one = moved[0].state
    for s, d in zip(moved[1:], digits[1:]):
        if s.state.lookups != one.lookups:
            raise Blocked(ANOTHER_LOOKUP, node, LOOKED_UP)
        if (
            _alive(d, context) != _alive(digits[0], context)
            or s.state.exponent != one.exponent
            or s.state.dual != one.dual
            or s.state.chart != one.chart
        ):
            raise Blocked("the values that are added move differently", node, _ADDS)
    zone = any(s.state.zone or s.partial for s in moved)
    states = [Outcome(replace(s.state, digits=d, zone=zone)) for s, d in zip(moved, digits)]
    return _joined(states, moved)


def _gain(node: Contraction, operand: int, variable: int, context: Context) -> bool:
    """Is an operand a vector among the parameters, plus a number or not, read along the axis of what turns?"""
    access = node.operands[operand]
    *_, length = context.vectors.get(access.node, (0,))
    along = [ix.plain for ix in access.index] == [variable]
    return context.wide and length == node.sizes[variable] and along


def _along_ones(node: Sum, operand: int, moved: Sequence[Seen], context: Context) -> bool:
    """Is what is added constant along the axis, where every element leaves the vector of ones?"""
    variables = {spot.variable for seen in moved for d, spot in seen.variables.items() if d in context.group}
    still = not variables & set(node.operands[operand].variables)
    return context.keeps_ones and still and not any(seen.state.chart for seen in moved)


def _alive(digits: Mapping[Number, Extent], context: Context) -> dict[Number, Extent]:
    """Without the bystanders."""
    return {digit: extent for digit, extent in digits.items() if digit in context.group | context.copies}


def _joined(states: list[Outcome], moved: list[Seen]) -> Outcome:
    tags = {s.state.tag for s in moved}
    state = states[0].state
    assert state is not None
    if len(tags) == 1:
        return Outcome(state)
    return Outcome(replace(state, tag=None), ("add", *sorted(tags, key=repr)))


def _map(node: Map, moved: list[Seen], context: Context) -> Outcome:
    name = spelled(node.function, node.attributes)
    if context.kind != "scale":
        raise Blocked(f"{name} acts on each coordinate by itself", node, _BENT[context.kind].format(f=name))
    if len(moved) != 1 or len(node.operands) != 1:
        raise Blocked(f"{name} of several values", node, f"a law of {name} in two arguments")
    (seen,) = moved
    n = degree(node.function, node.attributes)
    if n is None:
        raise Blocked(f"{name} has no law that lets a positive scale through", node, _power(node))
    if n == 0:  # it is kept by itself, whatever the formula
        return Outcome(None, ("map", node.function, node.attributes, seen.state.tag), otherwise=(None,))
    state = replace(seen.state, digits=_out(node, seen, context), exponent=seen.state.exponent * n, tag=None)
    return Outcome(state, ("map", node.function, node.attributes, seen.state.tag))


def _along(node: Along, moved: list[Seen], context: Context) -> Outcome:
    name = node.function
    if len(moved) != 1 or moved[0].operand != 0:
        raise Blocked(f"{name} of several moved values", node, f"a law of {name} in two arguments")
    (seen,) = moved
    acting = {spot.variable for digit, spot in seen.variables.items() if digit in context.group | context.copies}
    if acting & set(node.bound) or context.kind == "rotate":
        raise Blocked(f"{name} mixes or bends the moved axis", node, _BENT[context.kind].format(f=name))
    n = degree(node.function, node.attributes)
    if n is None:
        raise Blocked(f"{name} has no law that lets a positive scale through", node, _power(node))
    if n == 1:
        return Outcome(replace(seen.state, digits=_out(node, seen, context)))
    state = replace(seen.state, digits=_out(node, seen, context), exponent=seen.state.exponent * n, tag=None)
    return Outcome(state, ("along", node.function, seen.state.tag))


def _concatenation(node: Concatenation, moved: list[Seen], context: Context) -> Outcome | Demand:
    inside = {s.operand for s in moved}
    if context.wide and all(node.joined != spot.variable for spot in moved[0].variables.values()):
        for i, access in enumerate(node.operands):
            if i not in inside and context.depends[access.node]:
                return Demand(i, "add", moved[0].state, moved[0].variables)
    still = [access.node for i, access in enumerate(node.operands) if i not in inside]
    if any(id not in context.zeros for id in still):
        raise Blocked("a moved value is joined with one that does not move", node, ORDER)
    along = node.joined
    one = moved[0].state
    for s in moved:
        mine, theirs = (
            (each.tag, each.exponent, each.dual, each.lookups, each.chart) for each in (s.state, one)
        )
        if mine != theirs:
            raise Blocked("values that move differently are joined", node, ORDER)
    across = [s for s in moved if along in {spot.variable for spot in s.variables.values()}]
    if (across or any(s.partial for s in moved)) and not context.paired:
        raise Blocked("pieces of the moved axis are put together in another way", node, ORDER)
    places = {mode.variable: i for i, mode in enumerate(node.modes)}
    digits: dict[Number, Extent] = {}
    shared = set(one.digits).intersection(*(s.variables for s in moved)) if len(moved) > 1 else set(moved[0].variables)
    for digit in sorted(context.group | context.copies | shared):
        spots = {s.variables.get(digit, Spot(along)) for s in moved}
        if len(spots) != 1:
            raise Blocked("pieces of the moved axis are put together in another way", node, ORDER)
        (spot,) = spots
        position = places[spot.variable]
        length = node.modes[position].size if spot.variable == along else one.digits[digit].length
        digits[digit] = Extent(position, spot.start, length, spot.step)
    zone = any(s.state.zone or s.partial for s in moved) or bool(across)
    return Outcome(replace(one, digits=digits, zone=zone))


def _parts(node: Concatenation, moved: list[Seen], context: Context) -> list[State]:
    """The pieces that move, each a part of the longer axis along which they are joined; none where they are others."""
    if context.paired:
        return []
    parts = [_part(node, seen, context) for seen in moved]
    return [part for part in parts if part is not None] if None not in parts else []


def _part(node: Concatenation, seen: Seen, context: Context) -> State | None:
    """A piece that moves along the axis that is joined: a part of a longer axis; None where it is another."""
    across = [d for d, spot in sorted(seen.variables.items()) if spot.variable == node.joined]
    if not set(across) & (context.group | context.copies) or seen.partial:
        return None
    digits, start = _out(node, seen, context), node.pieces[seen.operand][0]
    first = digits[across[0]]
    return replace(seen.state, digits={**digits, across[0]: replace(first, start=first.start + start)})


_RULES: Mapping[type[Node], Callable[[Any, list[Seen], Context], Outcome | Demand]] = {
    Contraction: _contraction,
    Sum: _sum,
    Map: _map,
    Along: _along,
    Concatenation: _concatenation,
}
