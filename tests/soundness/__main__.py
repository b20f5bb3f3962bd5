"""The tables of soundness: spec mutants, random cases, and what others find.  `make soundness` runs it.

    python -m soundness [--only spec random models] [--random N] [--first SEED] [--every K] [--models WORD] [--jobs N]

Exit 1 where something unsound is accepted or proved, or where more than one sound mutant in twenty is refused.  A case
can be looked at by itself: `--only random --first SEED --random 1 --show`.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from soundness import models_table, random_table, spec_table
from soundness.random_cases import case
from soundness.spec_mutants import mutants

CASES = 20_000
LEAST = 200  # spec mutants
T = TypeVar("T")
R = TypeVar("R")


def mapped(title: str, function: Callable[[T], R], items: Sequence[T], jobs: int) -> list[R]:
    """The results in the order of the items, by several processes; a bar on a terminal, nothing in a pipe."""
    screen = Console(stderr=True)
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=screen, disable=not screen.is_terminal, transient=True) as progress:
        task = progress.add_task(title, total=len(items))
        found: list[R] = []
        with contextlib.ExitStack() as stack:
            if jobs > 1:
                pool = stack.enter_context(multiprocessing.get_context("spawn").Pool(jobs))
                results: Iterable[R] = pool.imap(function, items, chunksize=8)
                stack.callback(pool.join)  # to end well, and not by the signal that leaving a pool sends
                stack.callback(pool.close)
            else:
                results = map(function, items)
            for result in results:
                found.append(result)
                progress.advance(task)
    return found


def report(title: str, lines: Sequence[str], start: float) -> None:
    print(f"{title} ({time.monotonic() - start:.0f} s)\n")
    print("\n".join(lines) + "\n", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="soundness", description="What the compiler accepts, against what is true.")
    parser.add_argument("--only", nargs="+", choices=("spec", "random", "models"), default=["spec", "random", "models"])
    parser.add_argument("--random", type=int, default=CASES, metavar="N", help="how many random cases")
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="the first random case")
    parser.add_argument("--models", nargs="*", default=[], metavar="WORD", help="model mutants with a word in the name")
    parser.add_argument("--every", type=int, default=1, metavar="K", help="every K-th spec mutant")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="processes")
    parser.add_argument("--show", action="store_true", help="print the texts of the random cases")
    given = parser.parse_args(arguments)
    good = True
    if "spec" in given.only:
        start = time.monotonic()
        found, malformed = mutants()
        outcomes = mapped("spec mutants", spec_table.outcome, found[:: given.every], given.jobs)
        lines, fine = spec_table.table(outcomes, malformed)
        report("Spec mutants", lines, start)
        good = good and fine and len(found) >= LEAST
    if "random" in given.only:
        start = time.monotonic()
        seeds = range(given.first, given.first + given.random)
        if given.show:
            print("\n".join(case(seed)[0] for seed in seeds))
        lines, fine = random_table.table(mapped("random cases", random_table.run, seeds, given.jobs))
        report("Random cases", lines, start)
        good = good and fine
    if "models" in given.only:
        good = not models_table.main(given.models, given.jobs) and good
    print("soundness: " + ("all as it must be" if good else "FAILED"))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
