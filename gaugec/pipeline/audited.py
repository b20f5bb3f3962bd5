"""What an audit has counted, and how it is told: in words here, as a page in `page`.

What this module does not do: it counts nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gaugec.pipeline import page
from gaugec.witness.carriers import Dwelling

NAMED = 4  # parameters of a set that are named in words


@dataclass(frozen=True)
class Share:
    """Of one parameter: how much of it is dead.

    dead: the trace of the projector onto all dead directions over the entries of the parameter: dead directions that
    live here, in parts.  explained, unread, data, unexplained: the parts of it, which add up to it.  gauges: the same
    trace for the orbit of every gauge alone that reaches the parameter, by name; orbits overlap, so that these may add
    up to more than is explained.
    """

    parameter: str
    shape: tuple[int, ...]
    entries: int
    dead: float
    explained: float
    unread: int
    data: float
    unexplained: float
    gauges: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Explained:
    """What one gauge explains.

    doc, theorem: what it says of itself, and what it claims, as text of a spec.  group, verdict: of its sites.
    orbit: the dimension of its orbit alone, as it was counted.  formula: what the groups of its sites have, added up.
    large: the same of the model whose twin was counted, None where there is no twin.
    """

    gauge: str
    doc: str
    theorem: str
    group: str
    verdict: str
    sites: int
    orbit: int
    formula: int
    large: int | None = None


@dataclass(frozen=True)
class Scaled:
    """What follows for the model whose twin was counted.

    model, parameters: its name, and entries that are trained.  orbit: dimension of the orbit, by the formulas of the
    groups; exact: whether they gave in the twin what was counted there (else the number is an upper bound).
    """

    model: str
    parameters: int
    orbit: int
    exact: bool


@dataclass(frozen=True)
class Audit:
    """What was counted.

    spec, model: names.  parameters: entries that are trained.  nullity: dead directions, with an eps of 0.1 in all
    norms: of these `orbit` are explained by all gauges together, `unread` are entries that no output reads at any input
    that was drawn, `data` come alive with more rows in the tables that inputs are looked up in (None: there are none),
    and `unexplained` are none of these.  approximate: how many directions more are dead where every eps is 0.
    alive, least: the least singular value that counts, and the largest that does not, over the largest; clear: whether
    a gap is between them, and rows that were not looked at agree.  whole: whether all singular values were taken; else
    it was looked for dead directions beside the orbit.  rows: of the Jacobian that were looked at.  error: how far the
    tangent that moves the outputs most does, over what the most visible direction does.  shares: by parameter.
    gauges: of the spec, with or without a site.  carriers: small sets of parameters that carry what is unexplained.
    notes: what a reader must know beside.  scaled: of the model, where a twin of it was counted.  certificate: of the
    compiled gauge, with the proofs and the refusals.
    """

    spec: str
    model: str
    parameters: int
    unread: int
    nullity: int
    orbit: int
    data: int | None
    unexplained: int
    approximate: int
    alive: float
    least: float
    clear: bool
    whole: bool
    rows: int
    error: float
    shares: tuple[Share, ...]
    gauges: tuple[Explained, ...]
    carriers: tuple[Dwelling, ...]
    notes: tuple[str, ...]
    scaled: Scaled | None
    certificate: Mapping[str, Any] = field(repr=False)

    def html(self) -> str:
        """A page that shows it, whole in itself, the same to the byte for the same audit."""
        return page.html(self)

    def save_html(self, path: str | os.PathLike[str]) -> None:
        """Write the page to a file, as UTF-8.  Raises OSError where it cannot be written."""
        with open(path, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(self.html())

    def text(self) -> str:
        """For people."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        data = f", {self.data} come from the data" if self.data else ""
        yield (
            f"{self.parameters:,} parameters have {self.nullity} dead directions: the gauges explain {self.orbit}, "
            f"{self.unread} are entries that nothing reads{data}, {self.unexplained} are not explained"
        )
        yield self.gap
        if self.approximate:
            yield f"{self.approximate} more where every eps is 0: symmetries but for eps"
        yield from self.notes
        if self.scaled is not None:
            yield self.scaling
        for carrier in self.carriers:
            yield in_words(carrier)
        yield from _table(self.gauges, [("gauge", "gauge"), ("group", "group"), ("sites", "sites"), ("orbit", "orbit")])
        yield from _table(self.shares, [(name, name) for name in ("parameter", "entries", "dead", "explained")])

    @property
    def gap(self) -> str:
        """How the count was told, in words."""
        told = f"least singular value that counts {self.alive:.0e}, largest that does not {self.least:.0e}"
        told += ", of the largest"
        return told if self.clear else told + ": NO CLEAR GAP, so that the count is in doubt"

    @property
    def scaling(self) -> str:
        """What follows for the large model, in words; "" where there is none."""
        if self.scaled is None:
            return ""
        large = self.scaled
        told = f"counted on a twin of {self.parameters:,} parameters: of the {large.parameters:,} of {large.model} "
        told += f"the gauges explain {'' if large.exact else 'at most '}{large.orbit:,} dead directions"
        if not large.exact:
            told += " (gauges overlap in the twin, where their formulas give more than was counted)"
        if self.unexplained or self.data or self.data is None:
            return f"{told}; how many more there are is not known: what is not explained is not scaled"
        return f"{told}, and in the twin there are no others but of unread entries"


def in_words(carrier: Dwelling) -> str:
    """Where unexplained directions live."""
    many = carrier.directions != 1
    head = f"{carrier.directions} unexplained direction{'s live' if many else ' lives'} in "
    first, rest = carrier.parameters[:NAMED], carrier.parameters[NAMED:]
    return head + " with ".join(first) + (f" and {len(rest)} more" if rest else "")


def _table(rows: Any, columns: list[tuple[str, str]]) -> Iterator[str]:
    if not rows:
        return
    cells = [[title for title, _ in columns]]
    for row in rows:
        values = [getattr(row, name) for _, name in columns]
        cells.append([f"{x:.1f}" if isinstance(x, float) else str(x) for x in values])
    widths = [max(len(line[n]) for line in cells) for n in range(len(columns))]
    words = [isinstance(getattr(rows[0], name), str) for _, name in columns]
    for line in cells:
        yield "  ".join(
            x.ljust(width) if word else x.rjust(width) for x, width, word in zip(line, widths, words)
        ).rstrip()
