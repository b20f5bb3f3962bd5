"""What the work is at: stages, how many of how many, and the seconds that each took.

A stage says what it begins; whoever listens is told.  Where nobody does that costs nothing.

What this module does not do: it shows nothing (see `gaugec.screen`) and limits nothing (see `gaugec.limits`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")


@dataclass
class Progress:
    """The stages so far, in order: seconds of each, and what runs now, as `name` or `name, 3 of 7`.

    seconds: by name; a stage inside another one counts for itself and not for the outer one.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    now: str = ""
    _start: float = field(default_factory=time.perf_counter)
    _since: float = field(default_factory=time.perf_counter)
    _stack: list[str] = field(default_factory=list)

    @property
    def total(self) -> float:
        """Seconds since the work began."""
        return time.perf_counter() - self._start

    @property
    def elapsed(self) -> float:
        """Seconds since the last stage began or ended."""
        return time.perf_counter() - self._since

    def enter(self, name: str) -> None:
        """A stage begins."""
        self._count()
        self._stack.append(name)
        self.seconds.setdefault(name, 0.0)
        self.now = name

    def leave(self) -> None:
        """The innermost stage ends."""
        self._count()
        self._stack.pop()
        self.now = self._stack[-1] if self._stack else ""

    def _count(self) -> None:
        since, self._since = self._since, time.perf_counter()
        if self._stack:
            self.seconds[self._stack[-1]] += self._since - since


_HEARD: ContextVar[Progress | None] = ContextVar("gaugec_progress", default=None)


@contextmanager
def heard(progress: Progress) -> Iterator[None]:
    """`progress` is told of what runs inside."""
    token = _HEARD.set(progress)
    try:
        yield
    finally:
        _HEARD.reset(token)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """What runs inside is one stage of the work."""
    progress = _HEARD.get()
    if progress is None:
        yield
        return
    progress.enter(name)
    try:
        yield
    finally:
        progress.leave()


def counted(items: Sequence[T]) -> Iterator[T]:
    """The items, each told to whoever listens: `name, 3 of 7`."""
    progress = _HEARD.get()
    name = progress.now if progress is not None else ""
    for number, item in enumerate(items, 1):
        if progress is not None:
            progress.now = f"{name}, {number} of {len(items)}"
        yield item
