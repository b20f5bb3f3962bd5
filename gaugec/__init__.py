"""gaugec: a compiler from declared parameter symmetries (gauges) to proved, gauge-equivariant optimizers.

`load` reads a spec, `verify` proves it, `compile` finds its gauges in a model and writes the PyTorch module that
`gaugec.runtime`'s optimizers step with, `recheck` checks such a module again from its spec and its model, `audit`
counts whether the list of gauges is complete, `suggest` writes a spec for a model. Names are looked up on first use, so
that `import gaugec.runtime` costs nothing but torch: a compiled gauge needs neither sympy nor lark nor networkx.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from gaugec.version import VERSION

if TYPE_CHECKING:
    from gaugec.errors import GaugeError, MatchError, ProofError, SpecError
    from gaugec.language import load
    from gaugec.pipeline.audit import Audit, audit
    from gaugec.pipeline.compile import compile
    from gaugec.pipeline.compiled import CompiledGauge
    from gaugec.pipeline.recheck import recheck
    from gaugec.pipeline.suggest import Suggestion, suggest
    from gaugec.pipeline.verify import verify
    from gaugec.proof.theorem import Theorem
    from gaugec.sites import Site

__version__ = VERSION
__all__ = [
    "load",
    "verify",
    "compile",
    "recheck",
    "audit",
    "suggest",
    "Audit",
    "Suggestion",
    "CompiledGauge",
    "Site",
    "Theorem",
    "GaugeError",
    "SpecError",
    "ProofError",
    "MatchError",
]

_HOMES = {
    "load": "gaugec.language",
    "verify": "gaugec.pipeline.verify",  # which needs no torch
    "compile": "gaugec.pipeline.compile",
    "recheck": "gaugec.pipeline.recheck",
    "audit": "gaugec.pipeline.audit",
    "Audit": "gaugec.pipeline.audit",
    "suggest": "gaugec.pipeline.suggest",
    "Suggestion": "gaugec.pipeline.suggest",
    "CompiledGauge": "gaugec.pipeline.compiled",
    "Site": "gaugec.sites",
    "Theorem": "gaugec.proof.theorem",
    "GaugeError": "gaugec.errors",
    "SpecError": "gaugec.errors",
    "ProofError": "gaugec.errors",
    "MatchError": "gaugec.errors",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
