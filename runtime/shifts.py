"""What of some values runs along shifts: what an orbit is pinned to, and what parameters decay to.

Not here: when shifts move.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gaugec.runtime import solvers
from gaugec.runtime.groups import Translation
from gaugec.runtime.layout import Tensors


def along(shifts: Sequence[Translation], values: Tensors) -> Tensors:
    """The coefficients of the part of values along shifts, of all jointly: [batch, copies, size] in float64.

    Where no two move one tensor these are means.  Else the part is one, and the coefficients need not be.
    """
    right = {gauge.name: gauge.covertical(values, values, {}) for gauge in shifts}
    counts = {gauge.name: gauge.count for gauge in shifts}
    slots = [slot for gauge in shifts for slot in gauge.slots]
    if len(slots) == len({*slots}):
        return {name: x / counts[name] for name, x in right.items()}
    moved = {slot: values[slot] for slot in slots}

    def gram(a: Tensors) -> Tensors:
        out = {slot: torch.zeros_like(x, dtype=torch.float64) for slot, x in moved.items()}
        for gauge in shifts:
            gauge.lift(out, out, a[gauge.name], 1.0)
        return {gauge.name: gauge.covertical(out, out, {}) for gauge in shifts}

    def precondition(x: Tensors) -> Tensors:
        return {name: each / counts[name] for name, each in x.items()}

    return solvers.solve(gram, right, precondition, solvers.size(moved), 1e-16)
