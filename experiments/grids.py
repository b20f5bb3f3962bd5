"""Learning rates: every arm has the same, and where the best of one is at the edge, all get more.

What this module does not do: it makes no runs of them; see `studies`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from experiments.records import Record

LOWEST, HIGHEST = 1e-4, 0.3


def best(records: Iterable[Record], column: str) -> float:
    """The rate of least mean `column` at the end over the seeds; a run whose loss is no number is the worst."""
    by_rate: dict[float, list[float]] = {}
    for record in records:
        value = record.last[column]
        by_rate.setdefault(record.settings["rate"], []).append(value if math.isfinite(value) else math.inf)
    return min(sorted(by_rate), key=lambda rate: statistics.fmean(by_rate[rate]))


def extended(rates: Sequence[float], arms: Mapping[Any, Sequence[Record]], column: str) -> list[float]:
    """The grid, with another rate below or above where the best of an arm is at its edge, as far as it goes.

    arms: the records of each, of all rates; with none of some arm the grid is what it is.
    """
    grid = sorted({*rates, *(record.settings["rate"] for records in arms.values() for record in records)})
    if any({record.settings["rate"] for record in records} != {*grid} for records in arms.values()):
        return grid
    found = {best(records, column) for records in arms.values()}
    below = [grid[0] / 2] if grid[0] in found and grid[0] / 2 >= LOWEST else []
    above = [grid[-1] * 2] if grid[-1] in found and grid[-1] * 2 <= HIGHEST else []
    return [*below, *grid, *above]
