"""What `gaugec.compile` returns: the runtime's gauge, with the compiler's knowledge of sites, refusals and proofs.

What this module does not do: it compiles nothing; see `gaugec.pipeline.compile`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from gaugec.certificate.report import proved_once
from gaugec.runtime.loading import Gauge
from gaugec.sites import Site
from gaugec.witness.finite import Runner, Witness, witness


@dataclass(frozen=True)
class Refused:
    """A place where a gauge nearly held: falsy.

    parameter: from which the search began, and what else would have moved; parameters: their names alone.
    reason, operation, place: what ended it and where.  outputs: a moved value would have left the model.
    near: some readers of the moved value were found, so that this is a site but for one obstacle.
    axis: which axis of which parameter was followed.  law: what would have to hold.  line: of source code, if known.
    """

    gauge: str
    parameter: str
    reason: str
    operation: str
    place: str
    outputs: bool
    near: bool = True
    parameters: tuple[str, ...] = ()
    note: str = ""
    axis: str = ""
    law: str = ""
    line: str = ""

    def __bool__(self) -> bool:
        return False

    def explained(self) -> str:
        """The refusal with the axis that was followed, the line of source code, and the law that is missing."""
        more = (("followed", self.axis), ("source", self.line), ("missing", self.law))
        return "\n".join([str(self), *(f"  {what}: {text}" for what, text in more if text)])

    def __str__(self) -> str:
        where = " at " + self.operation if self.operation and f"at {self.operation}" not in self.reason else ""
        where += f" in {self.place}" if self.place else ""
        return f"{self.gauge} at {self.parameter}: {self.reason}{where}{self.note}"


class CompiledGauge(Gauge):
    """A compiled gauge: what `gaugec.runtime.load` would give, and how it was found.

    sites: every proved site.  refusals: where a gauge nearly held, and why not.  verification: the spec's theorems.
    measured: the numeric witness of the compilation.  `act`, `random_element`, `save` and `source` as in the base.
    """

    def __init__(
        self,
        source: str,
        sites: tuple[Site, ...],
        refusals: tuple[Refused, ...],
        verification: Any,
        measured: Witness,
        traced: Any,
    ) -> None:
        super().__init__(source)
        self.sites = sites
        self.refusals = refusals
        self.verification = verification
        self.measured = measured
        self._traced = traced

    def witness(self, seed: int = 0) -> Witness:
        """Runs the numeric check again with other random parameters and elements (float64, casts neutralised)."""
        runner = Runner(self._traced.program, self._traced.names, self._traced.loss, seed)
        return witness(runner, self._traced.shapes, self.sites, seed=seed)

    def report(self, *, explain: bool = False) -> str:
        """Every gauge, site and proof; every parameter gauged, or not and why.

        explain: under every site also the way of each moved value from its writer to its readers.
        """
        lines = [
            f"spec {self.metadata['spec']}, {self._traced.second}",
            proved_once(len(self.sites), len(self.metadata["structures"])),
        ]
        for theorem in self.verification.theorems:
            sites = [site for site in self.sites if site.gauge == theorem.name]
            lines.append("")
            lines.append(f"{theorem.name}: {theorem.verdict}, {len(sites)} site{'s' if len(sites) != 1 else ''}")
            lines += [f"  {step}" for step in theorem.steps]
            lines += [f"  if {condition}" for condition in theorem.conditions]
            for site in sites:
                copies = f" x {site.copies} copies" if site.copies > 1 else ""
                pairs = f", {site.pairing}" if site.pairing else ""
                axis = math.prod(n for n, _ in site.bindings[0].rest) if site.group == "translation" else site.size
                lines.append(f"  site {site.index} {site.place}: {site.group}({axis}){copies}{pairs}, {site.verdict}")
                for b in site.bindings:
                    off = " (frozen: the gauge is off)" if b.parameter in self._traced.frozen else ""
                    lines.append(f"    {b.role} = {b.parameter}{_part(b)}{off}")
                lines += [f"      {step}" for step in site.way if explain]
            for refusal in self.refusals:
                if refusal.gauge == theorem.name:
                    first, *more = refusal.explained().splitlines()
                    lines += [f"  refused: {first}", *(f"    {line}" for line in more)]
        lines += ["", "parameters that no gauge moves:"]
        lines += [f"  {name}: {self._why(name)}" for name in self.metadata["ungauged"]] or ["  none"]
        lines += ["", _measured(self.measured)]
        return "\n".join(lines)

    def _why(self, name: str) -> str:
        for refusal in self.refusals:
            if refusal.near and name in refusal.parameters:
                return str(refusal)
        return self._traced.blocked.get(name) or "no gauge of the spec holds there"


def _part(binding: Any) -> str:
    copies, group, rest = (
        "*".join(str(n) for n, _ in axes) or "1" for axes in (binding.copies, binding.group, binding.rest)
    )
    shift = f", as 1 + w with 1 = {binding.shift_by:g}" if binding.shift_by else ""
    return f" [{copies}, {group}, {rest}]" + (f" from {binding.offset}" if binding.offset else "") + shift


def _measured(measured: Witness) -> str:
    if measured.note:
        return measured.note
    if not measured.controls:
        return "witness: there is no site to move"
    return (
        f"witness (float64, casts neutral): under an element of every gauge outputs change by {measured.error:.1e} "
        f"of their range beyond rounding; by at least {measured.control:.1e} when one parameter moves alone "
        f"({measured.controls} runs)"
    )
