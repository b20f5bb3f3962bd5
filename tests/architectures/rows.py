"""What every shipped gauge finds in a model, as a row of `docs/architectures.md`, and the page that they make.

What this module does not do: it judges nothing; see `tests/architectures/checks.py`.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gaugec
from architectures import build
from gaugec.language import show_architecture
from gaugec.pipeline.verify import accepted

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "architectures.md"
SHIPPED = ROOT / "specs" / "architectures"
HEAD = """# Architectures

What `gaugec.compile("auto", model)` finds in small real models: `tests/architectures` builds them, from transformers or
by hand, with two layers and random weights; `make architectures` makes this page. Every one ships as a spec of its own,
`gaugec show NAME`, which requires the gauges that were found.

- *sites*: places, and the copies of the group that act in them, where there are more: one for each head or expert.
  All are proved, unless it says otherwise.
- *gauged*: the share of the parameters' entries that some gauge moves.
- *does not hold*: the gauges that came near somewhere, in how many places, and what ended it there.
- *s*: seconds of the processor that a compile takes on one core, without the proofs of the gauges themselves, which are
  the same for all.

| architecture | sites | gauged | does not hold | s |
|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Row:
    """One line of the page.

    sites: by gauge how many, and how many copies.  verdicts: all that occur.  gauged: moved entries and all entries.
    refused: by gauge, what ended the search and in how many places.  whole: why the model as a whole is refused.
    """

    name: str
    sites: Mapping[str, tuple[int, int]]
    verdicts: tuple[str, ...] = ()
    gauged: tuple[int, int] = (0, 1)
    refused: tuple[str, ...] = ()
    whole: str = ""
    seconds: float = 0.0

    @property
    def text(self) -> str:
        """The line, all but the seconds."""
        found = [f"{gauge} {places(*count)}" for gauge, count in sorted(self.sites.items())]
        verdicts = [f"({', '.join(self.verdicts)})"] if set(self.verdicts) - {"proved"} else []
        missing = [f"refused as a whole: {self.whole}"] if self.whole else self.refused
        share = f"{100 * self.gauged[0] / self.gauged[1]:.0f} %"
        columns = (f"`{self.name}`", "<br>".join([*found, *verdicts]), share, "<br>".join(missing))
        return "| " + " | ".join(column.replace("|", "\\|") for column in columns) + " |"

    @property
    def line(self) -> str:
        """The line as it stands on the page."""
        return f"{self.text} {self.seconds:.0f} |"


def places(sites: int, copies: int) -> str:
    """`3`, or `3 (6 copies)` where there are more copies than sites."""
    return f"{sites} ({copies} copies)" if copies > sites else str(sites)


def short(refusal: Any) -> str:
    """What ended a search, without the names of the model."""
    if refusal.tied:
        return "a tied weight would move"
    reason = re.split(r"; |, where ", refusal.reason)[0].replace("`", "")
    reason = re.sub(r"\b\w+(\.\w+)+\.(weight|bias)\b", "a parameter", reason)
    if refusal.operation and refusal.operation not in reason:
        reason += f" at {refusal.operation}"
    return reason


def refused(refusals: Iterable[Any]) -> tuple[str, ...]:
    """The near misses of every gauge, each reason once, with its number of places."""
    counted = Counter((refusal.gauge, short(refusal)) for refusal in refusals if refusal.near)
    return tuple(f"{gauge}: {why}" + (f" ({n})" if n > 1 else "") for (gauge, why), n in sorted(counted.items()))


def found(compiled: Any) -> dict[str, tuple[int, int]]:
    """By gauge: how many sites, and how many copies they have together."""
    gauges = sorted({site.gauge for site in compiled.sites})
    made = {gauge: [site.copies for site in compiled.sites if site.gauge == gauge] for gauge in gauges}
    return {gauge: (len(copies), sum(copies)) for gauge, copies in made.items()}


def look(name: str, spec: Any = "auto") -> tuple[Row, Any]:
    """The row of an architecture, and what was compiled; None where the model is refused as a whole."""
    case = build(name)
    accepted(gaugec.load("auto"))
    start = time.process_time()
    try:
        compiled = case.compiled(spec)
    except gaugec.MatchError as error:
        return Row(name, {}, whole=error.message.splitlines()[0], seconds=time.process_time() - start), None
    row = Row(
        name,
        found(compiled),
        tuple(sorted({site.verdict for site in compiled.sites})),
        tuple(compiled.metadata["gauged"]),
        refused(compiled.refusals),
        seconds=time.process_time() - start,
    )
    return row, compiled


def architecture(name: str, compiled: Any) -> str:
    """The text of its architecture file: the gauges that have a site.

    Of the file that is there the sentence stays, the order, what is optional, and what only a tied weight forbids: it
    holds in models of the same code whose weights are not tied.
    """
    path = SHIPPED / f"{name}.gauge"
    doc, said = f"The gauges of {name}.", ()
    if path.exists():
        now = gaugec.load(str(path))
        doc, said = now.doc, now.entries
    tied = {refusal.gauge for refusal in compiled.refusals if refusal.tied}
    found = {site.gauge for site in compiled.sites}
    stay = [entry for entry in said if entry.gauge.name in found | tied]
    new = found - {entry.gauge.name for entry in stay}
    added = [replace(entry, required=True) for entry in gaugec.load("auto").entries if entry.gauge.name in new]
    return show_architecture(name, doc, [*stay, *added])


def kept() -> dict[str, str]:
    """The lines of the page as it is, by architecture."""
    if not PAGE.exists():
        return {}
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    return {line.split("`")[1]: line for line in lines if line.startswith("| `")}


def page(lines: Iterable[str]) -> str:
    """The whole page."""
    return HEAD + "".join(f"{line}\n" for line in lines)
