"""How an action moves each parameter: along which axis it scales, turns or shifts it, as the matcher needs it.

Read from the action's normal form, so it does not matter how the spec spells the action.  What does not fit one of the
kinds is "general", which is a fact about the kind and no failure of the proof.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

from gaugec.graph.statement import Movement
from gaugec.proof.algebra import Algebra
from gaugec.proof.normal import Evaluator, World
from gaugec.proof.terms import Index, Number, Polynomial, plain, variable


@dataclass(frozen=True)
class Motion(Movement):
    """A `Movement` with what else the action's normal form says.

    kind is "scale", "rotate", "shift", "none" (the action is the identity) or "general" (two axes at once, and all that
    fits nothing else).  inverse: a rotation by the inverse element instead of the element.  element_axes: of a shift,
    the parameter's axis that each axis of the element runs along.  shift_by: the moved quantity is parameter + shift_by
    (affine scales).  coefficient: of a shift.
    """

    inverse: bool = False
    element_axes: tuple[int, ...] = ()
    shift_by: Fraction = Fraction(0)
    coefficient: Fraction = Fraction(1)


def classify(evaluator: Evaluator, world: World, action: int, leaf: int) -> Motion:
    """The movement of parameter `leaf` by the node `action`, read in a world where the element is not in pairs."""
    algebra, node = evaluator.algebra, evaluator.graph[leaf]
    free = [algebra.fresh(mode.size) for mode in node.modes]
    axis = {v: mode.axis for v, mode in zip(free, node.modes, strict=True)}
    at = tuple(variable(v) for v in free)
    poly = evaluator.value(world, action, at)
    own = evaluator.atom(node, at)
    if poly == own:
        return Motion("none")
    (((own_factor,), _),) = own
    rest = algebra.minus(poly, own)
    shift = _shift(algebra, rest, axis)
    if shift is not None:
        return shift
    scale = _scale(algebra, poly, own_factor[:2], axis)
    if scale is not None:
        return scale
    return _rotate(algebra, poly, own_factor[:2], axis) or Motion("general")


def _shift(algebra: Algebra, rest: Polynomial, axis: dict[int, int]) -> Motion | None:
    if len(rest) != 1:
        return None
    (((factors, bound), coefficient),) = rest.items()
    if bound or len(factors) != 1 or factors[0][2] != 1 or algebra.symbols[factors[0][0]].tag != "a":
        return None
    where = [plain(ix) for ix in factors[0][1]]
    if any(v not in axis for v in where) or len(set(where)) != len(where):
        return None
    runs = tuple(axis[v] for v in where if v is not None)
    constant = set(axis.values()) - set(runs)
    if len(constant) != 1:
        return Motion("general", element_axes=runs)
    return Motion("shift", constant.pop(), element_axes=runs, coefficient=Fraction(coefficient))


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


def _rotate(
    algebra: Algebra, poly: Polynomial, own: tuple[int, tuple[Index, ...]], axis: dict[int, int]
) -> Motion | None:
    if len(poly) != 1:
        return None
    (((factors, bound), coefficient),) = poly.items()
    if coefficient != 1 or len(bound) != 1 or len(factors) != 2 or any(e != 1 for _, _, e in factors):
        return None
    mine = [ixs for s, ixs, _ in factors if s == own[0]]
    turns = [(algebra.symbols[s].tag, ixs) for s, ixs, _ in factors if algebra.symbols[s].tag in ("R", "Ri")]
    if len(mine) != 1 or len(turns) != 1:
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
    return Motion("rotate", axis[v], dual=dual, inverse=inverse)


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
