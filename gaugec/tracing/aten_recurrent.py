"""Rows of the lowering table for recurrent networks: what they read of their input is known, the recurrence is not.

A cell sees its input only behind the input weights of the first layer, one for each direction: W x is a contraction.
What becomes of it together with the states and all other weights is opaque.

What this module does not do: it unrolls no loop, so the lengths of sequences stay free.
"""

from __future__ import annotations

from typing import Any

from gaugec.graph.builder import Builder, Ref
from gaugec.graph.layers import axes
from gaugec.tracing.aten import row


def _read(b: Builder, x: Ref, weight: Ref) -> Ref:
    """W x for every x of a sequence, or of many, or alone."""
    lead = axes(len(x.shape) - 1)
    return b.einsum([x, weight], [lead + "k", "nk"], lead + "n")


@row("lstm", "gru", "rnn_tanh", "rnn_relu")
def _recurrent(b: Builder, shape: Any, x: Ref, *given: Any) -> list[Ref]:
    """Sequences as a tensor (initial states, weights, settings...), or packed with their lengths before these."""
    place = max(i for i, value in enumerate(given) if isinstance(value, (list, tuple)))
    before, weights = given[:place], list(given[place])
    _, layers, _, _, both = given[place + 1 : place + 6]
    directions = 2 if both else 1
    first = range(0, len(weights) // layers, len(weights) // (layers * directions))
    read = [_read(b, x, weights[i]) for i in first]
    states = [ref for value in before for ref in (value if isinstance(value, (list, tuple)) else [value])]
    rest = [weight for i, weight in enumerate(weights) if i not in first]
    return [b.opaque(f"{b.source}, what recurs", [*read, *states, *rest], s) for s in shape]


@row("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell")
def _cell(b: Builder, shape: Any, x: Ref, state: Any, weight: Ref, *rest: Any) -> Any:
    states = list(state) if isinstance(state, (list, tuple)) else [state]
    refs = [_read(b, x, weight), *states, *(ref for ref in rest if isinstance(ref, Ref))]
    made = [b.opaque(f"{b.source}, what recurs", refs, s) for s in (shape if isinstance(shape, list) else [shape])]
    return made if isinstance(shape, list) else made[0]
