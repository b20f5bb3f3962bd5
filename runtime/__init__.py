"""What a compiled gauge needs while training: optimizers, linear algebra, loading. Imports torch, no compiler.

Names are looked up on first use: `ranges` and `seal`, which the compiler shares, cost no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gaugec.runtime.adamw import DDCAdamW
    from gaugec.runtime.gauge import Gauge, load
    from gaugec.runtime.muon import DDCMuon
    from gaugec.runtime.quotient import Canonicalized, Distance
    from gaugec.runtime.sgd import DDCSGD
    from gaugec.runtime.telemetry import Telemetry

__all__ = ["DDCAdamW", "DDCMuon", "DDCSGD", "Gauge", "load", "Canonicalized", "Distance", "Telemetry"]

_HOMES = {
    "DDCAdamW": "gaugec.runtime.adamw",
    "DDCMuon": "gaugec.runtime.muon",
    "DDCSGD": "gaugec.runtime.sgd",
    "Gauge": "gaugec.runtime.gauge",
    "load": "gaugec.runtime.gauge",
    "Canonicalized": "gaugec.runtime.quotient",
    "Distance": "gaugec.runtime.quotient",
    "Telemetry": "gaugec.runtime.telemetry",
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
