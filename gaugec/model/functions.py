"""Which functions of the guest's run in a forward, and which sources of chance, time and files they call.

A forward reaches more than its modules: the closures of its functions, the globals that they name, attributes of the
functions themselves.  Where these are is known once it is known what ran.

What this module does not do: it looks at no value (see `gaugec.model.reachable`).  Functions of torch, of gaugec
and of Python's own library are not the guest's; and what ran in another thread is not seen.
"""

from __future__ import annotations

import contextlib
import datetime
import gc
import io
import os
import sys
import time
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any

from gaugec.garbage import unfrozen
from gaugec.model.source_files import home, is_guest

_CLOCKS = ("time", "monotonic", "perf_counter", "process_time", "thread_time")
_CHANCE = "draws from the system's random numbers"
_SOURCES: dict[int, str] = {
    **{id(getattr(time, name)): "reads the clock" for name in _CLOCKS},
    **{id(getattr(time, f"{name}_ns")): "reads the clock" for name in _CLOCKS},
    id(os.urandom): _CHANCE,
    id(io.open): "opens a file",
    id(os.open): "opens a file",
}


class Ran:
    """What ran: codes of the guest's functions with their globals, and what they asked of the world, with the line."""

    def __init__(self) -> None:
        self.codes: dict[CodeType, dict[str, Any]] = {}
        self.asked: dict[str, str] = {}

    def closures(self) -> list[FunctionType]:
        """The functions with variables of their own that ran and are still there, not those that a call made."""
        codes = {code for code in self.codes if code.co_freevars}
        if not codes:
            return []
        with unfrozen():
            found = [x for x in gc.get_referrers(*codes) if type(x) is FunctionType]
        return sorted(found, key=lambda f: (f.__module__ or "", f.__qualname__))


@contextlib.contextmanager
def listening() -> Iterator[Ran]:
    """Everything that runs in this thread inside is written down; a profiler that was there is put back.

    No garbage is collected inside: what others have run at that moment (`gc.callbacks`) is nothing that a forward does.
    """
    ran = Ran()
    known: dict[CodeType, bool] = {}

    def hear(frame: Any, event: str, what: Any) -> None:
        code = frame.f_code
        if event == "c_call":
            asked = _asked(what, frame)
            if asked is not None:
                ran.asked.setdefault(asked, f"{os.path.basename(code.co_filename)}:{frame.f_lineno}")
        elif event == "call":
            guest = known.get(code)
            if guest is None:
                guest = known[code] = is_guest(code.co_filename)
            if guest:
                ran.codes.setdefault(code, frame.f_globals)

    before: Any = sys.getprofile()
    written_in_c = hasattr(before, "enable")  # `cProfile`, which cannot be set as a function is
    if written_in_c:
        before.disable()
    collects = gc.isenabled()
    gc.disable()
    sys.setprofile(hear)
    try:
        yield ran
    finally:
        if collects:
            gc.enable()
        sys.setprofile(None if written_in_c else before)
        if written_in_c:
            before.enable()


def _asked(what: Any, frame: Any) -> str | None:
    """What a call of a built-in function asks of the world.

    Python's own library asks for time and files by itself; what it draws is drawn for the one who called it.
    """
    asked = _SOURCES.get(id(what)) or ("reads the clock" if _says_now(what) else None)
    while asked == _CHANCE and frame is not None and home(frame.f_code.co_filename) == "python":
        frame = frame.f_back
    return asked if asked is not None and frame is not None and is_guest(frame.f_code.co_filename) else None


def _says_now(what: Any) -> bool:
    """Is a built-in function a way to ask for the date of today?"""
    owner = getattr(what, "__self__", None)
    return isinstance(owner, type) and issubclass(owner, datetime.date) and what.__name__ in ("now", "utcnow", "today")


__all__ = ["Ran", "listening"]
