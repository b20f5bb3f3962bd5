"""Where a step may cut: large tensors of which it takes some rows at a time, so that what it reads stays in a cache.

Not here: how many rows a step takes (see `gaugec.runtime.batch`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import lcm, prod

from gaugec.codegen.ir import Actor, Axes, Coupling, Pool


def cuts(
    shapes: Mapping[str, tuple[int, ...]], actors: Sequence[Actor], couplings: Sequence[Coupling], pools: Sequence[Pool]
) -> tuple[tuple[str, int], ...]:
    """Slots that may be cut into rows, and the number of rows that a cut has to be a multiple of.

    A cut goes through no matrix and no rotary pair, and every slice of the slot in two along its outermost axis.
    """
    out = []
    for slot, shape in shapes.items():
        row = prod(shape[1:])
        units = [row]
        for actor in actors:
            for part in actor.stepped:
                if part.slot == slot:
                    never = (part.group if actor.kind in ("rotate", "matrix") else ()) + part.pair
                    units.append(_unit(part.offset, part.copies + part.group + part.pair + part.rest, never))
        units += [_unit(each.offset, each.kept + each.summed, ()) for each in couplings if each.slot == slot]
        units += [_pool_unit(pool) for pool in pools if pool.slot == slot]
        unit = lcm(*units)
        if 0 < unit <= prod(shape) // 2 and prod(shape) % unit == 0:
            out.append((slot, unit // row))
    return tuple(out)


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


def _pool_unit(pool: Pool) -> int:
    """The same for the pieces of a pool."""
    if not pool.cover or len(pool.pieces) > 1:
        return 0
    ((offset, axes),) = pool.pieces
    if not axes or axes[0][2]:
        return 0
    return _unit(offset, tuple((size, stride) for size, stride, _ in axes), ())
