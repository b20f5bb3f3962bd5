"""What a step cannot follow, said once and with the parameters' names: units without a canonical form, large shifts.

A unit whose norm is zero (pruned, masked, not yet trained), or whose scale is beyond what numbers hold, has no
canonical form: its scale is held, and it is stepped in the last coordinates that it had.  A shift that is large beside
what it is added to leaves few digits of it: steps are accurate up to `SHIFTS`.

Not here: what is done about it (see `gaugec.runtime.frames`).  On the CPU every new frame is looked at; elsewhere one
of `EVERY`, since a look waits for the device.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from gaugec.runtime import frames, shards
from gaugec.runtime.batch import Batch
from gaugec.runtime.layout import cut
from gaugec.runtime.listed import listed

SHIFTS = {torch.float64: 1e5, torch.float32: 1e2, torch.bfloat16: 1e1, torch.float16: 1e1}
"""How many times larger than the spread of what it is added to a shift may be, by dtype of the parameter."""
EVERY = 64
RARELY = 1024  # steps between two looks at the shifts, which grow slowly
LEVELS = 7  # from a look to who called the optimizer's step


class Watch:
    """Looks at the batches of one optimizer and warns; called: names of parameters by id."""

    def __init__(self) -> None:
        self.said: set[str] = set()
        self.seen: dict[str, int] = {}  # the step at which the shifts of a place were looked at last

    def look(self, batch: Batch, called: Mapping[int, str]) -> None:
        """Warn of units that have lost their canonical form since the last look, and of shifts that have grown."""
        if batch.step - self.seen.setdefault(batch.keys[0], batch.step) >= RARELY:
            self.seen[batch.keys[0]] = batch.step
            self.shifts(batch, called)
        if not batch.lost or (batch.device.type != "cpu" and batch.step % EVERY):
            return
        lost, batch.lost = batch.lost, {}
        found = [text for text in units(batch, lost, called) if _whose(text) not in self.said]
        self.said.update(map(_whose, found))
        if found:
            warnings.warn(
                "units have lost their canonical form in training (a norm that has become zero, a head that has become "
                f"singular, or a scale beyond {batch.far:g}); they keep the scale that they had (place.gauge: "
                f"number in parameters): {listed(found)}",
                stacklevel=LEVELS,
            )

    def shifts(self, batch: Batch, called: Mapping[int, str]) -> None:
        """Warn of shifts that are too large for an accurate step."""
        found = [text for text in shifted(batch, called) if text not in self.said]
        self.said.update(found)
        if found:
            warnings.warn(
                "shifts are so large beside what they are added to that steps lose digits "
                f"(parameter: shift over spread, and the most that its dtype bears): {listed(found)}",
                stacklevel=LEVELS,
            )


def units(batch: Batch, where: Mapping[str, Tensor], called: Mapping[int, str]) -> list[str]:
    """ "place.gauge: number in parameters" of the units in a mask by gauge, place by place; of matrices, of the copies.

    The parameters are those whose norm is zero there, or where none is, all that the gauge moves.
    """
    return [
        text
        for name, mask in where.items()
        if bool(mask.any())
        for j in range(len(batch.keys))
        if bool(mask[j].any())
        for text in [
            f"{batch.keys[j]}.{name}: {int(mask[j].sum())} in {', '.join(_zero(batch, name, j, mask[j], called))}"
        ]
    ]


def _zero(batch: Batch, gauge: str, place: int, mask: Tensor, called: Mapping[int, str]) -> list[str]:
    parts = batch.component.by_name[gauge].parts
    names = {row.slot: called[id(batch.slots[row.slot][place])] for row, _ in parts}
    values = {slot: x.unsqueeze(0).contiguous() for slot in names for x in shards.whole([batch.slots[slot][place]])}
    norms = [(row.slot, frames.norm(values, [part])[0]) for row, part in parts]
    zero = [slot for slot, norm in norms if bool((norm[mask.expand_as(norm)] == 0).any())]
    return [names[slot] for slot in dict.fromkeys(zero)] or list(names.values())


def shifted(batch: Batch, called: Mapping[int, str]) -> Iterator[str]:
    """ "parameter: ratio, most" of every shift whose ratio is above the most that the parameter's dtype bears."""
    for gauge in batch.component.gauges:
        if gauge.kind != "shift" or gauge.name in batch.off:
            continue
        for row, part in gauge.parts:
            for p in batch.slots[row.slot] if part.rest else ():
                x = cut({row.slot: shards.whole([p])[0].unsqueeze(0).contiguous()}, part)
                variance, mean = torch.var_mean(x, tuple(range(x.dim() - len(part.rest), x.dim())), correction=0)
                ratio = float(mean.abs().max() / variance.mean().sqrt().clamp_min(torch.finfo(variance.dtype).tiny))
                if not ratio <= SHIFTS.get(p.dtype, SHIFTS[torch.float32]):
                    yield f"{called[id(p)]}: {ratio:.1e}, {SHIFTS[p.dtype]:g}"


def _whose(text: str) -> str:
    return text.partition(":")[0]
