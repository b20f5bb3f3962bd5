"""Panels of shards that cut through what is averaged: heads of which one process has some rows and another the others.

Every process averages the squares of the rows that it has, with zeros in place of the others; the sums of these are the
averages. They are added up before the steps are taken, of all panels at once, and every process keeps all of them. Not
here: shards that are cut between heads, which need nobody.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from gaugec.runtime import shards
from gaugec.runtime.batch import stack
from gaugec.runtime.panel import Panel
from gaugec.runtime.rules.rule import Averaging, Settings
from gaugec.runtime.stepper import gradient


class Straddling(Panel):
    """A panel whose averages are known before it is stepped.

    average: of the squares of its gradients, [places, ...], as `Component.pool` gives them.
    """

    straddles = True
    average: Tensor

    def share(self, groups: Sequence[Settings]) -> Tensor:
        """What the rows of this process add to the average."""
        group = groups[self.batch.groups[self.slot]]
        slope = stack([gradient(p, group) for p in self.params])
        for factor in self.strips[0].factors:
            slope = slope * factor
        values = {self.slot: self._whole(slope)}
        values[self.slot][:, self.first : self.last] = slope.square()
        out: Tensor = self.batch.component.pool(values)[self.slot]
        return out

    def averaging(self, room: Tensor) -> tuple[Averaging, Averaging]:
        """What has been added up, of whatever gradient; and its rows of what that is spread over."""

        def unpool(x: Tensor) -> Tensor:
            out: Tensor = self.batch.component.unpool({self.slot: x}, {self.slot: self._whole(room)})[self.slot]
            return out[:, self.first : self.last]

        return (lambda slope: self.average), unpool

    def _whole(self, like: Tensor) -> Tensor:
        return like.new_zeros(len(self.params), *self.params[0].shape)


def add_up(panels: Sequence[Panel], groups: Sequence[Settings]) -> None:
    """Find the averages of all panels that straddle: one all-reduce for all of a group of processes and dtype."""
    straddling = [panel for panel in panels if isinstance(panel, Straddling)]
    shares = [(panel.share(groups), shards.shard(panel.params[0])) for panel in straddling]
    for panel, average in zip(straddling, shards.summed(shares)):
        panel.average = average
