"""Questions to sympy about definitions that somebody else wrote, in another process that can be killed.

sympy cannot be interrupted and may take any time and memory on a hostile `op` line, so `ask` sends the question to a
worker (`gaugec.laws.worker`), waits as long as the limit of `gaugec.limits` says, and kills the worker when it is over.
The worker bounds its own memory, and it dies with whoever started it.  It is started at the first question, not before,
and lives for the next one.  Only trees of our own travel, as JSON: nothing is pickled and nothing is evaluated.

What this module does not do: it imports no sympy and knows no law.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from gaugec import limits
from gaugec.operators import Term

MEMORY = 2 << 30  # bytes of address space that a worker may take
ANSWERING = "from gaugec.laws.worker import main; main()"
_FINDING = "import sys; sys.path[:] = {path!r}"
_DYING = "not decided: the process that asks sympy gave no answer, or took too much memory"


def ask(question: str, *terms: Term, seconds: float | None = None) -> Any:
    """The answer of `gaugec.laws.worker` to a question about the terms: None, a truth value, a number, text or a list.

    `seconds` bounds it further than the limits that hold where it is called.

    Raises:
        Exceeded: there was no answer in time, or the memory did not suffice.  It is no answer and must not be kept.
    """
    left, reason = limits.left()
    if left == float("inf"):
        left = limits.seconds_a_proof()
        reason = f"not decided in {left:g} s"
    if seconds is not None and seconds < left:
        left, reason = seconds, f"not decided in {seconds:g} s"
    if left <= 0:
        raise limits.Exceeded(reason)
    line = json.dumps([question, min(left, 1e6), [encode(term) for term in terms]])
    reply, late = WORKER.exchange(line, left)
    if reply is None:
        raise limits.Exceeded(reason if late or limits.left()[0] <= 0 else _DYING)
    return decode(json.loads(reply))


def encode(term: Any) -> Any:
    """A term, or an answer, as JSON: numbers in hexadecimal, which has no limit of digits."""
    if term is None or isinstance(term, bool | str):
        return term
    if isinstance(term, int | Fraction):
        return {"n": f"{term.numerator:x}", "d": f"{term.denominator:x}"}
    if isinstance(term, tuple | list):
        return [encode(part) for part in term]
    raise TypeError(f"a {type(term).__name__} is no part of a definition")


def decode(value: Any) -> Any:
    """The inverse of `encode`; lists become tuples, and numbers fractions."""
    if isinstance(value, dict):
        number = Fraction(int(value["n"], 16), int(value["d"], 16))
        return number.numerator if number.denominator == 1 else number
    if isinstance(value, list):
        return tuple(decode(part) for part in value)
    return value


class Worker:
    """A process that answers questions: started when one comes, ended when it is late, and started anew for the next.

    program: the Python that it runs, which reads one line of JSON and writes one, for ever.
    """

    def __init__(self, program: str = ANSWERING) -> None:
        self.program = program
        self.process: subprocess.Popen[str] | None = None
        self._owner = 0
        self._late = False
        self._lock = threading.Lock()

    def exchange(self, line: str, seconds: float) -> tuple[str | None, bool]:
        """One line there and one back, None where none came; and whether that was for want of time."""
        with self._lock:
            self._late = False
            return self._exchange(line, seconds), self._late

    def stop(self) -> None:
        """Ends the process."""
        process, self.process = self.process, None
        if process is None or self._owner != os.getpid():
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            try:
                if stream is not None:
                    stream.close()
            except OSError:  # a question that it never read
                pass

    def _start(self) -> subprocess.Popen[str]:
        if self.process is not None and self._owner == os.getpid() and self.process.poll() is None:
            return self.process
        path: Sequence[str] = [entry for entry in sys.path if entry]  # not the folder in which somebody works
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", f"{_FINDING.format(path=path)}\n{self.program}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="ascii",
        )
        self._owner = os.getpid()
        return self.process

    def _exchange(self, line: str, seconds: float) -> str | None:
        try:
            process = self._start()
        except OSError:
            return None
        assert process.stdin is not None and process.stdout is not None
        timer = threading.Timer(min(seconds, threading.TIMEOUT_MAX), self._overdue, (process,))
        timer.daemon = True
        timer.start()
        reply = ""
        try:
            process.stdin.write(line + "\n")
            process.stdin.flush()
            reply = process.stdout.readline()
        except (OSError, ValueError):
            reply = ""
        finally:
            timer.cancel()
            if not reply.endswith("\n"):  # late, dead, or the reader was interrupted: what comes next is unknown
                self.stop()
        return reply if reply.endswith("\n") else None

    def _overdue(self, process: subprocess.Popen[str]) -> None:
        self._late = True
        process.kill()


WORKER = Worker()
atexit.register(WORKER.stop)
