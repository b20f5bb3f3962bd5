"""The experiments.

    python -m experiments run STUDY [--processes N] [--into FOLDER] [--reduced]    what is not done yet
    python -m experiments table STUDY [--of FOLDER]    into docs/experiments.md, with its plot; or on the screen
    python -m experiments again FILE.csv ...    the same runs once more: exit 1 where their numbers are others

Studies: see experiments/README.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments import harness, page
from experiments.records import Run, Unreadable, read


def main(words: Sequence[str] | None = None) -> int:
    """Do what the words of the command line say; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="carry out the runs that are not done")
    run.add_argument("study", choices=harness.names())
    run.add_argument("--processes", type=int, choices=(1, 2), default=1)
    run.add_argument("--into", type=Path, help="where the records are written; experiments/results/STUDY unless given")
    run.add_argument("--reduced", action="store_true", help="a few runs that take minutes")
    table = commands.add_parser("table", help="make the table of the records")
    table.add_argument("study", choices=harness.names())
    table.add_argument("--of", type=Path, help="the records of this folder: the table is printed and the page stays")
    again = commands.add_parser("again", help="do runs once more and compare")
    again.add_argument("files", nargs="+", type=Path)
    options = parser.parse_args(words)
    try:
        return {"run": _run, "table": _table, "again": _again}[options.command](options)
    except (Unreadable, OSError) as error:
        print(error, file=sys.stderr)
        return 1


def _run(options: argparse.Namespace) -> int:
    folder = options.into or harness.RESULTS / options.study
    made = harness.run(options.study, folder, options.processes, options.reduced)
    print(f"{options.study}: {made} runs were made; {folder} has all that were wanted")
    return 0


def _table(options: argparse.Namespace) -> int:
    if options.of:
        print(page.table(options.study, options.of))
        return 0
    text = page.PAGE.read_text(encoding="utf-8")
    page.PAGE.write_text(page.updated(text, options.study), encoding="utf-8")
    page.plotted(options.study)
    return 0


def _again(options: argparse.Namespace) -> int:
    wrong = 0
    for path in options.files:
        record = read(path)
        made = harness.redone(record.settings["study"], Run(record.name, record.settings), harness.CACHE)
        same = made.rows == record.rows
        print(f"{path}: {'the same numbers' if same else 'other numbers'}")
        wrong += not same
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
