"""Hands specs to `watch.py` and judges what comes back: no defect, nothing late, nothing that ended the process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

SLACK = 10.0  # seconds of the system's clock beyond the limit, on a machine that does other things too
TICK = 4e-4  # seconds that a look takes on a clock that counts them


class Outcome(NamedTuple):
    """What came of one spec."""

    name: str
    seconds: float
    kind: str
    words: str


def outcomes(specs: Mapping[str, str], limit: float, tick: float | None = None) -> list[Outcome]:
    """Every spec's outcome; one that ends the process has the kind "dead", and the next ones get a new process.

    With a `tick` the clock counts looks: what comes of a spec is then the same on every machine; 0: it stands still.
    """
    found: list[Outcome] = []
    left = list(specs.items())
    while left:
        lines = "".join(json.dumps(pair) + "\n" for pair in left)
        command = [sys.executable, str(Path(__file__).with_name("watch.py")), str(limit)]
        command += [] if tick is None else [str(tick)]
        done = subprocess.run(command, input=lines, capture_output=True, text=True)
        here = [Outcome(*json.loads(line)) for line in done.stdout.splitlines()]
        found += here
        left = left[len(here) :]
        if left:
            name, _ = left.pop(0)
            found.append(Outcome(name, 0.0, "dead", f"exit {done.returncode}: {done.stderr[-3000:]}"))
    return found


def failures(found: Iterable[Outcome], limit: float, gauges: int = 1, slack: float = SLACK) -> list[str]:
    """What is wrong with outcomes, in words; each gauge has its limit twice, for the proof and for the evidence."""
    wrong = []
    for each in found:
        if each.kind in ("dead", "defect"):
            wrong.append(f"{each.name}: {each.kind}: {each.words}")
        elif each.seconds > 2 * gauges * limit + slack:
            wrong.append(f"{each.name}: {each.seconds:.1f} s, with a limit of {limit:g} s")
    return wrong
