"""Times what a person waits for, as whole processes: `gaugec verify` of shipped specs.

    python tests/bench/verify.py [--rounds 5] [SPEC...]

Medians of runs in processes of their own, that import, read and prove everything anew.  Next to the time on the wall is
the time of the processor, which other processes disturb less.  Not here: compiles (tests/bench/compile.py).
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time


def whole(words: list[str], folder: str) -> tuple[float, float, str]:
    """Seconds on the wall and of the processor that one process takes, and what it printed."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    done = subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


def median(runs: list[tuple[float, float, str]], column: int) -> float:
    return statistics.median(float(run[column]) for run in runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("specs", metavar="SPEC", nargs="*", help="all that ship, unless given")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        names = ["-c", "import gaugec.language as l; print(*l.shipped())"]
        specs = options.specs or whole(names, folder)[2].split()
        print(f"{'gaugec verify':14} {'wall s':>8} {'cpu s':>8}")
        for spec in specs:
            runs = [whole(["-m", "gaugec", "verify", spec], folder) for _ in range(options.rounds)]
            print(f"{spec:14} {median(runs, 0):8.1f} {median(runs, 1):8.1f}", flush=True)


if __name__ == "__main__":
    main()
