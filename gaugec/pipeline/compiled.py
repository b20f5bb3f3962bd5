"""What `gaugec.compile` returns: the runtime's gauge, with the compiler's knowledge of sites, refusals and proofs.

What this module does not do: it compiles nothing; see `gaugec.pipeline.compile`.
"""

from __future__ import annotations

from typing import Any

from gaugec.certificate.report import _measured, _part, proved_once
from gaugec.runtime.gauge import Gauge
from gaugec.sites import Refused, Site
from gaugec.witness.finite import Witness, witness
from gaugec.witness.interpreter import Runner


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
                group = f"{site.group}({site.width})"
                lines.append(f"  site {site.index} {site.place}: {group}{copies}{pairs}, {site.verdict}")
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




