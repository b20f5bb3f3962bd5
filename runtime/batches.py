"""Places of a component that step together: parameters of equal shape stacked along a batch axis.

Small parameters are stacked, so that one operation serves every layer; large ones stay alone, as views, so that nothing
is copied.  Not here: moments, learning rates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gaugec.runtime.linalg import Frame, Tensors

STACK_CPU = 1 << 18  # elements: beyond this a copy costs more than the calls that it saves
STACK_GPU = 1 << 26


@dataclass
class Batch:
    """Places of one component that have everything in common but their numbers.

    keys: the places; slots: slot -> one parameter for each place; groups: slot -> param group.
    off: gauges that are not in force; moments, second: state in canonical coordinates, slot -> [batch, ...].
    """

    component: Any
    keys: list[str]
    slots: dict[str, list[nn.Parameter]]
    groups: dict[str, int]
    off: frozenset[str]
    live: Tensors = field(default_factory=dict)
    frame: Frame | None = None
    moments: Tensors = field(default_factory=dict)
    second: Tensors = field(default_factory=dict)
    step: int = 0

    def params(self) -> Tensors:
        """The parameters, stacked, at least in float32."""
        return {slot: stack([p.detach() for p in params]) for slot, params in self.slots.items()}

    def parts(self) -> list[Batch]:
        """The same as batches of one place each, which share this one's state."""
        out = []
        for i, key in enumerate(self.keys):
            here = slice(i, i + 1)
            one = Batch(self.component, [key], {s: [p[i]] for s, p in self.slots.items()}, self.groups, self.off)
            one.live = {name: value[here] for name, value in self.live.items()}
            if self.frame is not None:
                scales = {name: value[here] for name, value in self.frame.scales.items()}
                powers = {n: {p: value[here] for p, value in each.items()} for n, each in self.frame.powers.items()}
                one.frame = Frame(scales, powers, self.frame.off)
            one.moments = {slot: value[here] for slot, value in self.moments.items()}
            one.second = {slot: value[here] for slot, value in self.second.items()}
            one.step = self.step
            out.append(one)
        return out


def stack(tensors: Sequence[Tensor]) -> Tensor:
    """Stack along a new batch axis, contiguous, float32 at least; one tensor is not copied unless it has to be."""
    x = tensors[0].contiguous().unsqueeze(0) if len(tensors) == 1 else torch.stack(list(tensors))
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def make(
    component: Any, places: Sequence[tuple[str, dict[str, nn.Parameter], dict[str, int], frozenset[str]]]
) -> list[Batch]:
    """Batch places (key, parameters by slot, param groups by slot, gauges off) of one component."""
    alike: dict[object, list[Any]] = {}
    for place in places:
        _, params, groups, off = place
        kinds = tuple((p.dtype, p.device, p.requires_grad, groups[slot]) for slot, p in params.items())
        alike.setdefault((kinds, off), []).append(place)
    batches = []
    for same in alike.values():
        first = next(iter(same[0][1].values()))
        count = sum(p.numel() for p in same[0][1].values())
        width = max(1, (STACK_CPU if first.device.type == "cpu" else STACK_GPU) // count)
        for start in range(0, len(same), width):
            chunk = same[start : start + width]
            slots = {slot: [params[slot] for _, params, _, _ in chunk] for slot in chunk[0][1]}
            batches.append(Batch(component, [key for key, _, _, _ in chunk], slots, chunk[0][2], chunk[0][3]))
    return batches
