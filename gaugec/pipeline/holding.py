"""Gauges that would hold what is alive are refused: what an optimizer does not step must be nothing that learns.

What this module does not do: it finds no sites, and looks at no model that was not witnessed.
"""

from __future__ import annotations

from dataclasses import replace

from gaugec.codegen.charts import united
from gaugec.pipeline.checked import Checked
from gaugec.sites import Refusal
from gaugec.tracing.trace import Trace
from gaugec.witness.held import seen
from gaugec.witness.interpreter import Runner


def dead(looked: Checked, traced: Trace) -> Checked:
    """What was looked at, without the sites whose charts read a gain or a bias that the outputs see.

    Whether they do follows from all charts together, so that all is looked at again where a site is gone.
    """
    sites, refusals = list(looked.sites), list(looked.refusals)
    while not looked.measured.note:
        runner = Runner(traced.program, traced.names, traced.counted)
        alive = seen(runner, traced.shapes, united(sites))
        if not alive:
            break
        for site in sites:
            for name in [name for name in site.held if name in alive][:1]:
                names = tuple(dict.fromkeys(binding.parameter for binding in site.bindings))
                reason = (
                    f"it would hold {name}, which would learn no more, and which an output sees beside what it moves"
                )
                refusals.append(Refusal(site.gauge, ", ".join(names), reason, "", "", False, True, names))
        sites = [site for site in sites if alive.isdisjoint(site.held)]
    return replace(looked, sites=tuple(sites), refusals=tuple(refusals))


__all__ = ["dead"]
