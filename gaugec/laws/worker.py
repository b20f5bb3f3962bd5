"""The process that `gaugec.laws.oracle` asks: one JSON line in, one out, until the input ends.

It bounds its own memory, and its own time for the case that nobody is left to kill it.
"""

from __future__ import annotations

import json
import signal
import sys

from gaugec.laws import pointwise, roots
from gaugec.laws.oracle import MEMORY, decode, encode


def main() -> None:
    """Answers questions; an exception is "no answer", which is what a law that sympy cannot prove is."""
    _bound()
    answers = {**pointwise.ANSWERS, "root": roots.solve}
    sys.setrecursionlimit(5_000)
    for line in sys.stdin:
        question, seconds, terms = json.loads(line)
        _alarm(float(seconds) + 1.0)
        try:
            answer = answers[question](*map(decode, terms))
        except MemoryError:
            raise SystemExit(1) from None  # not "no": the process ends without an answer
        except Exception:  # sympy raises what it likes, StopIteration included
            answer = None
        _alarm(0.0)
        print(json.dumps(encode(answer)), flush=True)


def _bound() -> None:
    try:
        import resource
    except ImportError:  # Windows: the time limit alone
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = MEMORY if hard == resource.RLIM_INFINITY else min(MEMORY, hard)
    if soft == resource.RLIM_INFINITY or soft > wanted:
        resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever asks; the input ends with it


def _alarm(seconds: float) -> None:
    """The system ends this process after so many seconds; 0: it does not."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, min(seconds, 1e7))


if __name__ == "__main__":
    main()
