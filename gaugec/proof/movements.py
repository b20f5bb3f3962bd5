"""How an action moves each parameter: along which axis it scales, turns or shifts it, as the matcher needs it.

Read from the action's normal form, so it does not matter how the spec spells the action: D R D^-1 x is a rotation in
the chart that multiplies by D^-1, x - W a one that stays in the chart that adds W b, where b moves by a.  What does not
fit one of the kinds is "general", which is a fact about the kind and no failure of the proof.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from gaugec.graph.statement import Movement
from gaugec.proof.algebra import Algebra
from gaugec.proof.normal import STILL, Evaluator, World
from gaugec.proof.terms import Factor, Index, Number, Polynomial, plain, variable


@dataclass(frozen=True)
class Motion(Movement):
    """A `Movement` with what else the action's normal form says.

    kind is also "none" (the action is the identity), and "general" for all that fits nothing else (two axes at once).
    inverse: a rotation by the inverse element instead of the element.
    """

    inverse: bool = False


class Reader:
    """Reads the movements of a statement's roles off the nodes that hold the moved parameters.

    actions: leaf -> the node of its action; roles: leaf -> its role; world: where the element is not in pairs.
    """

    def __init__(
        self, evaluator: Evaluator, world: World, actions: Mapping[int, int], roles: Mapping[int, str]
    ) -> None:
        self.evaluator, self.world, self.actions, self.roles = evaluator, world, actions, roles
        self.algebra, self.graph = evaluator.algebra, evaluator.graph

    def motions(self) -> dict[str, Motion]:
        """The motion of every role that has an action.

        What no kind fits may still stay in a chart that adds W b to it; whatever such a chart holds, another shift that
        is constant along nothing is seen in one that adds the held vector itself."""
        found = {leaf: self._motion(leaf) for leaf in self.actions}
        for leaf, motion in found.items():
            if motion.kind == "general":
                found[leaf] = self._still(leaf, [role for role in self.roles if role != leaf]) or motion
        named = {self.roles[leaf]: leaf for leaf in self.roles}
        held = [named[bias] for motion in found.values() for _, bias in motion.summands]
        for leaf, motion in found.items():
            if motion.kind == "shift" and not motion.constant and leaf not in held:
                found[leaf] = self._still(leaf, [], held) or motion
        return {self.roles[leaf]: motion for leaf, motion in found.items()}

    def _motion(self, leaf: int) -> Motion:
        algebra, node = self.algebra, self.graph[leaf]
        free = [algebra.fresh(mode.size) for mode in node.modes]
        axis = {v: mode.axis for v, mode in zip(free, node.modes, strict=True)}
        at = tuple(variable(v) for v in free)
        poly = self.evaluator.value(self.world, self.actions[leaf], at)
        own = self.evaluator.atom(node, at)
        if poly == own:
            return Motion("none")
        (((own_factor,), _),) = own
        found = (
            self._shift(algebra.minus(poly, own), axis)
            or _scale(algebra, poly, own_factor[:2], axis)
            or self._rotation(poly, own_factor[:2], axis)
        )
        return found or Motion("general")

    def _vectors(self, factors: Sequence[Factor]) -> list[tuple[int, Index, Number]] | None:
        """Factors that are vectors among the parameters: leaf, index, exponent; None where one is something else."""
        found: list[tuple[int, Index, Number]] = []
        symbols = {self._symbol(leaf): leaf for leaf in self.roles if len(self.graph[leaf].modes) == 1}
        for s, ixs, e in factors:
            if s not in symbols:
                return None
            found.append((symbols[s], ixs[0], e))
        return found

    def _plus(self, leaf: int) -> Fraction:
        """The number that is added to a vector where it is read: its symbol is that of the sum."""
        return self.evaluator.plus.get(leaf, Fraction(0))

    def _symbol(self, leaf: int) -> int:
        at = tuple(variable(self.algebra.fresh(mode.size)) for mode in self.graph[leaf].modes)
        (((factor,), _),) = self.evaluator.atom(self.graph[leaf], at)
        return factor[0]

    def _shift(self, rest: Polynomial, axis: dict[int, int]) -> Motion | None:
        """coefficient * a[axes], times powers of vectors along other axes."""
        if len(rest) != 1:
            return None
        (((factors, bound), coefficient),) = rest.items()
        element = [factor for factor in factors if self.algebra.symbols[factor[0]].tag == "a"]
        vectors = self._vectors([factor for factor in factors if factor not in element])
        if bound or vectors is None or len(element) != 1 or element[0][2] != 1:
            return None
        where = [plain(ix) for ix in element[0][1]]
        along = [plain(ix) for _, ix, _ in vectors]
        used = [*where, *along]
        if any(v not in axis for v in used) or len(set(used)) != len(used):
            return None
        runs = {axis[v] for v in where if v is not None}
        constant = tuple(sorted(set(axis.values()) - runs))
        powers = tuple(
            (self.roles[leaf], axis[v], self._plus(leaf), Fraction(-e))
            for (leaf, _, e), v in zip(vectors, along)
            if v is not None
        )
        at = constant[0] if constant else 0
        return Motion("shift", at, Fraction(coefficient), constant=constant, factors=powers)

    def _rotation(
        self, poly: Polynomial, own: tuple[int, tuple[Index, ...]], axis: dict[int, int]
    ) -> Motion | None:
        """x turned along one axis, and what it is turned in: D R D^-1 x, D a power of a vector."""
        if len(poly) != 1:
            return None
        (((factors, bound), coefficient),) = poly.items()
        if coefficient != 1 or len(bound) != 1:
            return None
        mine = [ixs for s, ixs, e in factors if s == own[0] and e == 1]
        turns = [
            (self.algebra.symbols[s].tag, ixs)
            for s, ixs, e in factors
            if self.algebra.symbols[s].tag in ("R", "Ri") and e == 1
        ]
        others = [f for f in factors if f[0] != own[0] and self.algebra.symbols[f[0]].tag not in ("R", "Ri")]
        vectors = self._vectors(others)
        if len(mine) != 1 or len(turns) != 1 or vectors is None or len(factors) != 2 + len(others):
            return None
        summed = variable(-1)
        differing = [k for k, (ix, was) in enumerate(zip(mine[0], own[1], strict=True)) if ix != was]
        if len(differing) != 1 or mine[0][differing[0]] != summed:
            return None
        free = own[1][differing[0]]
        tag, at = turns[0]
        if at == (free, summed):
            dual, inverse = False, tag == "Ri"
        elif at == (summed, free):
            dual, inverse = True, tag == "R"
        else:
            return None
        v = plain(free)
        if v is None:
            return None
        powers: dict[int, dict[Index, Number]] = {}
        for leaf, ix, e in vectors:
            powers.setdefault(leaf, {})[ix] = e
        if any(set(each) != {summed, free} or each[summed] != -each[free] for each in powers.values()):
            return None
        chart = tuple(
            (self.roles[leaf], axis[v], self._plus(leaf), Fraction(each[summed])) for leaf, each in powers.items()
        )
        return Motion("rotate", axis[v], dual=dual, inverse=inverse, factors=chart)

    def _still(self, leaf: int, others: Sequence[int], alone: Sequence[int] = ()) -> Motion | None:
        """The chart in which a role stays: W b is added to it, of two other roles; or a vector of those `alone`."""
        rank = len(self.graph[leaf].modes)
        pairs = [(w, b) for w in others for b in others if w != b and len(self.graph[w].modes) == rank + 1]
        for w, b in [*((w, b) for w, b in pairs if len(self.graph[b].modes) == 1), *((None, b) for b in alone)]:
            if self._stays(leaf, w, b):
                return Motion("still", summands=(("" if w is None else self.roles[w], self.roles[b]),))
        return None

    def _stays(self, leaf: int, weight: int | None, bias: int) -> bool:
        """Is x + W b the same before and after?  The axis of W that x has not is that of b."""
        algebra, modes = self.algebra, self.graph[leaf].modes
        at = tuple(variable(algebra.fresh(mode.size)) for mode in modes)

        def value(id: int, ixs: tuple[Index, ...], moved: bool) -> Polynomial:
            if moved and id in self.actions:
                return self.evaluator.value(self.world, self.actions[id], ixs)
            return self.evaluator.value(STILL, id, ixs)

        def whole(moved: bool) -> Polynomial:
            if weight is None:
                return algebra.add((1, value(leaf, at, moved)), (1, value(bias, at, moved)))
            sizes = [mode.size for mode in self.graph[weight].modes]
            other = next(iter(set(range(len(sizes))) - _placed([m.size for m in modes], sizes)), None)
            if other is None or sizes[other] != self.graph[bias].modes[0].size:
                return {}
            v = algebra.fresh(sizes[other])
            inside = list(at)
            inside.insert(other, variable(v))
            parts = [value(weight, tuple(inside), moved), value(bias, (variable(v),), moved)]
            return algebra.add((1, value(leaf, at, moved)), (1, algebra.product(parts, 1, (v,))))

        if weight is None and [m.size for m in modes] != [m.size for m in self.graph[bias].modes]:
            return False
        before = whole(False)
        return bool(before) and before == whole(True)


def _placed(some: Sequence[int], among: Sequence[int]) -> set[int]:
    """Where in a list of distinct sizes the sizes of another stand, in its order."""
    places = [among.index(size) for size in some if size in among]
    return set(places) if places == sorted(places) and len(places) == len(some) else set(range(len(among)))


def _scale(
    algebra: Algebra, poly: Polynomial, own: tuple[int, tuple[Index, ...]], axis: dict[int, int]
) -> Motion | None:
    """p * product of c^e, or the affine (p + s) * product of c^e - s."""
    found: dict[bool, tuple[dict[int, Fraction], Number]] = {}
    constant: Number = 0
    for (factors, bound), coefficient in poly.items():
        scales: dict[int, Fraction] = {}
        mine = False
        for s, ixs, e in factors:
            if (s, ixs) == own and e == 1:
                mine = True
                continue
            v = plain(ixs[0]) if len(ixs) == 1 else None
            if algebra.symbols[s].tag != "c" or v not in axis or axis[v] in scales:
                return None
            scales[axis[v]] = Fraction(e)
        if bound:
            return None
        if not scales and not mine:
            constant = coefficient
            continue
        if mine in found:
            return None
        found[mine] = (scales, coefficient)
    if True not in found or found[True][1] != 1 or not found[True][0]:
        return None
    scales, _ = found[True]
    by: Number = 0
    if False in found:
        other, by = found[False]
        if other != scales:
            return None
    if constant != -by:
        return None
    if len(scales) != 1:
        return Motion("general")
    ((at, exponent),) = scales.items()
    return Motion("scale", at, exponent, shift_by=Fraction(by))


def oriented(found: Mapping[str, Motion], orthogonal: bool) -> dict[str, Motion]:
    """The motions with the element replaced by its inverse where every rotation uses that; plain for orthogonal ones.

    An action by the inverse of every element is the same family of moves, so the matcher need not know of it.
    """
    turns = [motion for motion in found.values() if motion.kind == "rotate"]
    if orthogonal:  # the inverse transposed is the element itself; one's transpose is its inverse
        turned = {role: replace(m, dual=False) if m.kind == "rotate" else m for role, m in found.items()}
    else:
        turned = dict(found)
    if turns and all(motion.inverse for motion in turns):
        return {role: replace(m, inverse=False) if m.kind == "rotate" else m for role, m in turned.items()}
    return {role: Motion("general") if m.kind == "rotate" and m.inverse else m for role, m in turned.items()}
