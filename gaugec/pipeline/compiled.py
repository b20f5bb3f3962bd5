"""What `gaugec.compile` returns: the runtime's gauge, with the compiler's knowledge of sites, refusals and proofs.

What this module does not do: it compiles nothing; see `gaugec.pipeline.compile`.
"""

from __future__ import annotations

from dataclasses import replace

from gaugec.language import show_architecture, unfit
from gaugec.language.tree import Spec
from gaugec.pipeline.verify import Verification
from gaugec.runtime.gauge import Gauge
from gaugec.runtime.report import Known
from gaugec.sites import Refusal, Site
from gaugec.tracing.lower import Trace
from gaugec.witness.finite import Witness, witness
from gaugec.witness.interpreter import Runner


class CompiledGauge(Gauge):
    """A compiled gauge: what `gaugec.runtime.load` would give, and how it was found.

    sites: every proved site.  refusals: where a gauge nearly held, and why not.  verification: the spec's theorems.
    measured: the numeric witness of the compilation.  spec: as it was read.  `act`, `random_element`, `save`, `report`
    and `source` as in the base; the report also knows the way of every moved value, and which parameters are frozen.
    """

    def __init__(
        self,
        source: str,
        sites: tuple[Site, ...],
        refusals: tuple[Refusal, ...],
        verification: Verification,
        measured: Witness,
        traced: Trace,
        spec: Spec,
        model: str,
    ) -> None:
        super().__init__(source)
        self.sites = sites
        self.refusals = refusals
        self.verification = verification
        self.measured = measured
        self.traced, self.spec, self._model = traced, spec, model

    def witness(self, seed: int = 0) -> Witness:
        """Runs the numeric check again with other random parameters and elements (float64, casts neutralised)."""
        runner = Runner(self.traced.program, self.traced.names, self.traced.counted, seed)
        return witness(runner, self.traced.shapes, self.sites, seed=seed)

    def architecture(self, name: str) -> str:
        """The architecture file that the sites amount to: the gauges of the spec that have one, all required.

        Raises:
            ValueError: no gauge has a site, or no spec can be called so.
        """
        found = {site.gauge for site in self.sites}
        used = [replace(entry, required=True) for entry in self.spec.entries if entry.gauge.name in found]
        if not used:
            raise ValueError("no gauge has a site: there is nothing that an architecture could use")
        if why := unfit(name):
            raise ValueError(why)
        return show_architecture(name, f"The gauges of {self._model}.", used)

    def known(self) -> Known:
        """What a report may say beside the certificate."""
        ways = {(site.gauge, site.index): site.way for site in self.sites}
        return Known(ways, tuple(refusal.explained() for refusal in self.refusals), frozenset(self.traced.frozen))
