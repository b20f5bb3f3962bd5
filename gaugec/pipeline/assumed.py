"""The record of what a compile assumed of a model and its inputs: what its certificate says of them.

What this module does not do: it watches nothing (see `gaugec.tracing.reads`) and compares nothing (see
`gaugec.runtime.differences`).
"""

from __future__ import annotations

from typing import Any

from gaugec.model.inputs import tensors_of
from gaugec.model.taken import Taken
from gaugec.runtime.assumed import OR_LEFT_OUT, folded
from gaugec.runtime.inputs import inputs
from gaugec.runtime.told import facts
from gaugec.tracing.trace import Trace


def assumed(traced: Trace, given: Taken) -> dict[str, Any]:
    """The field `assumed` of a certificate; see `gaugec.runtime.assumed`."""
    model, args, kwargs = given.model, given.args, given.kwargs or {}
    tensors, values = inputs(model, args, kwargs)
    values |= {name: values[name] + OR_LEFT_OUT for name in given.added}
    free: dict[int, dict[int, int]] = {}
    for number, x in enumerate(tensors_of(tuple(args), dict(kwargs))):
        own = {axis: as_one for (which, axis), as_one in traced.free.items() if which == number}
        free.setdefault(id(x), {}).update(own)
    read = traced.settings
    whole = {
        "mode": "eval" if read.evaluated else "train",
        "settings": read.read,
        "globals": list(read.globals),
        "tensors": [(name, *facts(x, free.get(id(x)))) for name, x in tensors.items()],
        "values": list(values.items()),
        "frozen": [name for name, p in model.named_parameters() if not p.requires_grad],
        "parts": list(read.parts),
        "unknown": list(read.unknown),
    }
    return folded(whole, read.common)


__all__ = ["assumed"]
