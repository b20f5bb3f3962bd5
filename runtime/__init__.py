"""What a compiled gauge needs while training: optimizers, linear algebra, loading. Imports torch, no compiler."""

from __future__ import annotations

from gaugec.runtime.adamw import DDCAdamW
from gaugec.runtime.gauge import Gauge, load

__all__ = ["DDCAdamW", "Gauge", "load"]
