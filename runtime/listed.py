"""A list in one message: its first entries, and how many more there are.

The standard library only.  Not here: lists of names, which are written as ranges (see `gaugec.runtime.ranges`).
"""

from __future__ import annotations

from collections.abc import Sequence

SHOWN = 8


def listed(texts: Sequence[str]) -> str:
    """ "one; two; and 3 more"."""
    more = f"; and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return "; ".join(texts[:SHOWN]) + more
