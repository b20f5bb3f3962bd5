"""Hands specs to `watch.py` and judges what comes back: no defect, nothing late, nothing that ended the process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

SLACK = 10.0  # seconds beyond the limit, on a machine that does other things too


class Outcome(NamedTuple):
    """What came of one spec."""

    name: str
    seconds: float
    kind: str
    words: str


def outcomes(specs: Mapping[str, str], limit: float) -> list[Outcome]:
    """Every spec's outcome; one that ends the process has the kind "dead", and the next ones get a new process."""
    found: list[Outcome] = []
    left = list(specs.items())
    while left:
        lines = "".join(json.dumps(pair) + "\n" for pair in left)
        command = [sys.executable, str(Path(__file__).with_name("watch.py")), str(limit)]
        done = subprocess.run(command, input=lines, capture_output=True, text=True)
        here = [Outcome(*json.loads(line)) for line in done.stdout.splitlines()]
        found += here
        left = left[len(here) :]
        if left:
            name, _ = left.pop(0)
            found.append(Outcome(name, 0.0, "dead", f"exit {done.returncode}: {done.stderr[-3000:]}"))
    return found


def failures(found: Iterable[Outcome], limit: float, gauges: int = 1) -> list[str]:
    """What is wrong with outcomes, in words."""
    wrong = []
    for each in found:
        if each.kind in ("dead", "defect"):
            wrong.append(f"{each.name}: {each.kind}: {each.words}")
        elif each.seconds > gauges * limit + SLACK:
            wrong.append(f"{each.name}: {each.seconds:.1f} s, with a limit of {limit:g} s")
    return wrong
