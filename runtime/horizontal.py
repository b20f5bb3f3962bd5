"""Steps of which nothing runs along the orbits: pulled to canonical coordinates, stepped there, projected, pushed back.

Not here: what a step of one component does; rules, gauges, what parameters there are.
"""

from __future__ import annotations

from collections.abc import Sequence

from gaugec.runtime.batch import Batch
from gaugec.runtime.halves import Halves
from gaugec.runtime.joint import Joint
from gaugec.runtime.panel import Scratch
from gaugec.runtime.rules.rule import Settings
from gaugec.runtime.stepper import Mover, Stepper

JOINT_CPU = 1 << 22  # elements that are projected together: fewer are more calls, more are more memory
JOINT_GPU = 1 << 26


class Horizontal(Stepper):
    """Steps whose vertical part, at the canonical point, is removed."""

    orbit = "horizontal"

    def advance(self, batches: Sequence[Batch], groups: Sequence[Settings]) -> None:
        """Step all places of batches, in frames that are taken anew every `frame_every` steps."""
        for batch in batches:
            if batch.frame is None or batch.step % self.frame_every == 0:
                batch.framed()
                self.look(batch)
            if not batch.state:
                batch.state = self.begin(batch, groups)
        joints = self.arranged(batches, [batch.state for batch in batches], groups)
        for batch in batches:
            batch.step += 1
        for joint in joints:
            joint.step(groups)

    def made(self, batches: Sequence[Batch], groups: Sequence[Settings]) -> Sequence[Mover]:
        """Batches that look alike together, so many at a time."""
        alike: dict[object, list[list[Batch]]] = {}
        for batch in batches:
            kinds = tuple((p[0].dtype, p[0].device, p[0].requires_grad) for p in batch.slots.values())
            kind = (id(batch.component), batch.off, kinds, tuple(batch.groups.values()), batch.step)
            parts = alike.setdefault(kind, [[]])
            limit = JOINT_CPU if batch.device.type == "cpu" else JOINT_GPU
            if parts[-1] and _count([*parts[-1], batch]) > limit:
                parts.append([])
            parts[-1].append(batch)
        room = Scratch()
        together = sorted((part for parts in alike.values() for part in parts), key=_count, reverse=True)
        joints: list[Mover] = []
        for part in together:  # the largest first: all others work in its memory
            component = part[0].component
            fused = self.compile and not (component.whole or component.mixed)
            joints.append((Halves if fused else Joint)(self, part, groups, room))
        return joints


def _count(batches: Sequence[Batch]) -> int:
    return sum(p.numel() for batch in batches for params in batch.slots.values() for p in params)
