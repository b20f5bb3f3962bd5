"""What one proof may cost: a deadline, the memory that it may take, the size of an exact number.

A stage that may be made to work long by what it reads calls `check` where it works; outside of `within` that is free.
`Exceeded` is no answer: whoever catches it may only say "not decided".  Limits nest, and the nearest one rules.
Time is told by one clock, `now`, which `clock` replaces: on a clock that counts, a limit means work and not seconds.

What this module does not do: it interrupts nobody.  What cannot call `check` (sympy) is asked in another process, see
`gaugec.laws.oracle`.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from fractions import Fraction

SECONDS = 20.0
MEMORY = 1 << 30  # bytes by which the process may grow during one proof
BITS = 14_000  # of an exact number: Python writes down no more than 4,300 digits
DEPTH = 30_000  # calls inside each other
_LOOK = 0.02  # seconds between two looks at the memory


class Exceeded(Exception):
    """A limit was reached: the message is the reason, as in "not decided in 20 s"."""


@dataclass
class _Budget:
    until: float
    reason: str
    most: int
    look: float = 0.0


_BUDGET: ContextVar[_Budget | None] = ContextVar("gaugec_budget", default=None)
_EACH: ContextVar[float] = ContextVar("gaugec_seconds_a_proof", default=SECONDS)
_CLOCK: ContextVar[Callable[[], float]] = ContextVar("gaugec_clock", default=time.monotonic)


def now() -> float:
    """Seconds on the clock that every limit goes by; only differences mean something."""
    return _CLOCK.get()()


@contextmanager
def clock(read: Callable[[], float]) -> Iterator[None]:
    """What runs inside is limited by this clock instead of the system's; `read()` is seconds that never go back."""
    token = _CLOCK.set(read)
    try:
        yield
    finally:
        _CLOCK.reset(token)


def seconds_a_proof() -> float:
    """The time that each proof has; `each` sets it."""
    return _EACH.get()


@contextmanager
def each(seconds: float | None) -> Iterator[None]:
    """Every proof that starts inside has so many seconds; None leaves it as it is.

    Raises ValueError for what is no positive, finite number.
    """
    if seconds is not None:
        number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
        if not number or not 0 < seconds < float("inf"):
            raise ValueError(f"a time limit is a positive number of seconds, not {seconds!r:.60}")
        seconds = float(min(seconds, 1e9))
    token = _EACH.set(_EACH.get() if seconds is None else seconds)
    try:
        yield
    finally:
        _EACH.reset(token)


@contextmanager
def proof() -> Iterator[None]:
    """One proof: its time starts now, unless it is a part of another one."""
    if _BUDGET.get() is not None:
        yield
    else:
        with within(_EACH.get()):
            yield


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """What runs inside is over after so many seconds, or with the time of what it is a part of."""
    outer = _BUDGET.get()
    until = now() + seconds
    if outer is not None and outer.until <= until:
        yield
        return
    most = outer.most if outer is not None else _resident() + MEMORY
    token = _BUDGET.set(_Budget(until, f"not decided in {seconds:g} s", most))
    try:
        yield
    finally:
        _BUDGET.reset(token)


@contextmanager
def deep() -> Iterator[None]:
    """Recursion may go as deep as a formula within the language's limits does."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, DEPTH))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def check() -> None:
    """Raises `Exceeded` when the time is over or the memory is used up; costs less than a microsecond."""
    budget = _BUDGET.get()
    if budget is None:
        return
    at = now()
    if at > budget.until:
        raise Exceeded(budget.reason)
    if at > budget.look:
        budget.look = at + _LOOK
        if _resident() > budget.most:
            raise Exceeded(f"not decided within {MEMORY >> 20} MiB of memory")


def active() -> bool:
    """Whether a proof is going on."""
    return _BUDGET.get() is not None


def left() -> tuple[float, str]:
    """How many seconds are left, and what to say when they are over."""
    budget = _BUDGET.get()
    if budget is None:
        return math.inf, "not decided"
    return budget.until - now(), budget.reason


def bounded(value: int | Fraction) -> int | Fraction:
    """The value; raises `Exceeded` where it has too many digits to be worked with."""
    if value.numerator.bit_length() + value.denominator.bit_length() > BITS:
        raise Exceeded(_digits())
    return value


def bounded_power(value: int | Fraction, exponent: int) -> int | Fraction:
    """value ** exponent; raises `Exceeded` instead of writing down a number with too many digits."""
    bits = value.numerator.bit_length() + value.denominator.bit_length()
    if value not in (0, 1, -1) and bits * abs(exponent) > 2 * BITS:
        raise Exceeded(_digits())
    return bounded(Fraction(value) ** exponent)


def _digits() -> str:
    return f"not decided: a number has more than {int(BITS * math.log10(2)):,} digits"


def _resident() -> int:
    """Bytes of memory that the process holds now (Linux), or held at most (elsewhere); 0 where nobody says."""
    try:
        with open("/proc/self/statm", "rb") as stream:
            return int(stream.read().split()[1]) * _PAGE
    except (OSError, IndexError, ValueError):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return 0
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


def _page() -> int:
    try:
        import resource

        return resource.getpagesize()
    except ImportError:
        return 4096


_PAGE = _page()
