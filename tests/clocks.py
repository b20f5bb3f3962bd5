"""Clocks that a test owns, for `gaugec.limits.clock`: on them a limit is an amount of work, the same everywhere."""

from __future__ import annotations

import math

TICK = 5e-5


class Clock:
    """A clock that stands still, or on which every look at it takes `tick` seconds.

    time: what it shows now.  looks: how often it was looked at, which is once for every step of a proof.
    """

    def __init__(self, tick: float = 0.0) -> None:
        self.tick, self.time, self.looks = tick, 0.0, 0

    def __call__(self) -> float:
        self.looks += 1
        self.time += self.tick
        return self.time

    def run_out(self) -> None:
        """Time goes on until no limit is left."""
        self.time = math.inf
