"""How often Python looks for garbage that holds itself, and what it sees.

Beside torch every look goes through half a million objects, and graphs and modules are made to stay.

What this module does not do: it frees nothing; what nothing holds is freed at once, as ever.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

OBJECTS = 50_000  # that are new when the next look is due


@contextmanager
def seldom_collected() -> Iterator[None]:
    """Inside, garbage is looked for less often; one who does not want it looked for at all is left alone."""
    before = gc.get_threshold()
    gc.set_threshold(max(before[0], OBJECTS) if before[0] else 0, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


@contextmanager
def unfrozen() -> Iterator[None]:
    """Inside, what `gc.freeze` hid is seen again; after it everything is hidden, where something was."""
    hidden = gc.get_freeze_count() > 0
    gc.unfreeze()
    try:
        yield
    finally:
        if hidden:
            gc.freeze()


__all__ = ["OBJECTS", "seldom_collected", "unfrozen"]
