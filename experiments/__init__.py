"""Experiments: what gauge-equivariant optimizers do to training, measured; not installed, and public API only.

`python -m experiments --help` in the root of a checkout, in an environment where gaugec is installed.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# `python -m` puts this checkout first, whose folder gaugec/ is a part of the package and not the package: the installed
# one is meant. Last, it still serves to find `experiments` itself, in the processes that are started for the runs too.
sys.path[:] = [*(place for place in sys.path if Path(place or ".").resolve() != ROOT), str(ROOT)]
