"""Runs hostile specs in a process of their own: bounded memory, a watchdog, one line of JSON a spec.

`python watch.py LIMIT [TICK]` reads lines of JSON [name, text] and writes [name, seconds, outcome, words]: the outcome
is a verdict, "error" for a GaugeError, "defect" for anything else.  With TICK the limit and the seconds are counted on
a clock on which every look takes so long (see `clocks`), else on the system's.
"""

from __future__ import annotations

import faulthandler
import json
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[1]))

from clocks import Clock

MEMORY = 3 << 30
VERDICTS = ("proved", "approximate", "refused", "not decided")
LATE = 600.0  # seconds of the system after which the watchdog prints where the process hangs and ends it


def judged(path: Path, limit: float) -> tuple[str, str]:
    """What comes of a spec: a kind and the words."""
    import gaugec

    try:
        result = gaugec.verify(path, limit=limit)
    except gaugec.GaugeError as error:
        drawn = str(error)
        if not (error.message and error.help):
            return "defect", f"an error without message or help: {drawn}"
        if not all(c.isprintable() for line in drawn.split("\n") for c in line):
            return "defect", f"an error with a control character: {drawn!r}"
        return "error", drawn
    except BaseException:
        return "defect", traceback.format_exc()
    words = str(result)
    for theorem in result.theorems:
        if theorem.verdict not in VERDICTS:
            return "defect", f"the verdict {theorem.verdict}"
        if "broke off" in theorem.reason or "cannot be evaluated" in theorem.reason:
            return "defect", words
        if theorem.verdict == "not decided" and not theorem.reason.startswith("not "):
            return "defect", words
    accepted = [t.verdict == "proved" for t in result.theorems]
    if list(result.accepted) != accepted:
        return "defect", f"accepted {result.accepted}: {words}"
    return ",".join(sorted({t.verdict for t in result.theorems})), words


def main() -> None:
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    except ImportError:
        pass
    from gaugec import limits

    limit, tick = float(sys.argv[1]), sys.argv[2:]
    clock: Callable[[], float] = Clock(float(tick[0])) if tick else time.monotonic
    with TemporaryDirectory() as folder:
        path = Path(folder) / "hostile.gauge"
        for line in sys.stdin:
            name, text = json.loads(line)
            path.write_text(text, encoding="utf-8", errors="surrogatepass")
            faulthandler.dump_traceback_later(LATE, exit=True)
            start = clock()
            with limits.clock(clock):
                outcome, words = judged(path, limit)
            seconds = clock() - start
            faulthandler.cancel_dump_traceback_later()
            print(json.dumps([name, seconds, outcome, words[:4000]]), flush=True)


if __name__ == "__main__":
    main()
