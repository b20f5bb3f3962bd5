"""Carrying out the runs of a study: those that are not done, in up to two processes, with a line that tells how far.

What this module does not do: it knows neither models nor optimizers; see `studies`.
"""

from __future__ import annotations

import functools
import importlib
import multiprocessing
import pkgutil
import platform
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TextIO, cast

import torch

import gaugec
from experiments import ROOT, studies
from experiments.records import Record, Run, read_all, still_to_do, write

RESULTS = ROOT / "experiments" / "results"
CACHE = ROOT / "build" / "experiments" / "gauges"  # what was compiled: once for all runs


class Study(Protocol):
    """A module of `studies`; one that also has `plot(records, path)` is drawn, as SVG."""

    def wanted(self, records: Sequence[Record], reduced: bool) -> list[Run]:
        """The runs, in the light of those that are done; reduced: the few that a reader may redo in minutes."""

    def prepare(self, settings: Mapping[str, Any], cache: Path) -> None:
        """Do once what many runs share: compile into the folder `cache` what is not there."""

    def carried_out(
        self, settings: Mapping[str, Any], cache: Path
    ) -> tuple[dict[str, float], list[dict[str, float]]]:
        """Do a run: its figures, and its rows."""

    def table(self, records: Sequence[Record]) -> str:
        """The records as markdown."""


def names() -> list[str]:
    """The studies that there are."""
    return [module.name for module in pkgutil.iter_modules(studies.__path__)]


def study(name: str) -> Study:
    """A study by its name."""
    return cast(Study, importlib.import_module(f"experiments.studies.{name}"))


def run(name: str, folder: Path, processes: int = 1, reduced: bool = False) -> int:
    """Carry out what is wanted and not done, into `folder`; return how many runs that were.

    Raises Unreadable where a record in the folder was made with other settings.
    """
    made = 0
    while todo := still_to_do(study(name).wanted(read_all(folder), reduced), read_all(folder)):
        line = Line(len(todo), sys.stderr)
        for each in todo if processes > 1 else ():  # not twice at once; one process does it when it comes to it
            line.show(f"preparing {each.name}")
            study(name).prepare(each.settings, CACHE)
        work = functools.partial(redone, name, cache=CACHE)
        for record in _spread(work, todo, processes):
            write(folder, record)
            made += 1
            line.finished(record.name)
        line.end()
    return made


def redone(name: str, wanted: Run, cache: Path) -> Record:
    """Carry out one run on one thread, whatever is in any folder."""
    torch.set_num_threads(1)
    study(name).prepare(wanted.settings, cache)
    figures, rows = study(name).carried_out(wanted.settings, cache)
    return Record(wanted.name, wanted.settings, versions(), figures, tuple(rows))


def versions() -> dict[str, str]:
    """What numbers may depend on beside the settings."""
    import transformers

    return {
        "gaugec": gaugec.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }


def _spread(work: functools.partial[Record], todo: Sequence[Run], processes: int) -> Iterator[Record]:
    if processes == 1:
        yield from map(work, todo)
        return
    with multiprocessing.get_context("spawn").Pool(min(processes, len(todo))) as pool:
        yield from pool.imap_unordered(work, todo)
        pool.close()
        pool.join()


class Line:
    """How far the runs are, on one line of a terminal; nothing in a pipe."""

    def __init__(self, total: int, stream: TextIO) -> None:
        self.total, self.stream = total, stream
        self.done, self.start, self.alive = 0, time.monotonic(), stream.isatty()

    def show(self, what: str) -> None:
        """Say what the work is at."""
        if self.alive:
            self.stream.write(f"\r\x1b[K{self.done} of {self.total} runs, {what}")
            self.stream.flush()

    def finished(self, name: str) -> None:
        """Count a run."""
        self.done += 1
        each = (time.monotonic() - self.start) / self.done
        self.show(f"{each * (self.total - self.done) / 60:.0f} min left, {name}")

    def end(self) -> None:
        """Leave the line."""
        if self.alive:
            self.stream.write("\n")
