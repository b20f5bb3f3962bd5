"""One run, one CSV: its settings, what it was made with, its figures, and a row for every look at it.

A file is there when its run is finished, and only then. What this module does not do: it runs nothing.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HEADS = ("settings", "made with", "figures")


@dataclass(frozen=True)
class Run:
    """A run that is wanted: the name of its file, and all that it depends on, as JSON has it."""

    name: str
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Record:
    """A run that is finished.

    made_with: versions and the processor, which settings leave open.  figures: what was measured of the whole run.
    rows: the looks at it, all with the same columns.
    """

    name: str
    settings: Mapping[str, Any]
    made_with: Mapping[str, str]
    figures: Mapping[str, float]
    rows: tuple[Mapping[str, float], ...]

    @property
    def last(self) -> Mapping[str, float]:
        """The last look."""
        return self.rows[-1]


class Unreadable(ValueError):
    """A file that is no record, or a record of something else; the message is for people."""


def plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they come back out of a file: tuples are lists, keys are strings."""
    return json.loads(json.dumps(settings))


def write(folder: Path, record: Record) -> None:
    """Write a record to `folder/name.csv`, all at once or not at all."""
    text = io.StringIO()
    for head, value in zip(HEADS, (record.settings, record.made_with, record.figures)):
        text.write(f"# {head}: {json.dumps(value, sort_keys=True)}\n")
    table = csv.DictWriter(text, list(record.rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(record.rows)
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{record.name}.part"
    part.write_text(text.getvalue(), encoding="utf-8")
    os.replace(part, folder / f"{record.name}.csv")


def read(path: Path) -> Record:
    """Read a record.  Raises Unreadable for a file that is none."""
    lines = path.read_text(encoding="utf-8").splitlines()
    try:
        heads = [json.loads(line.removeprefix(f"# {head}: ")) for head, line in zip(HEADS, lines, strict=False)]
        rows = tuple({key: _number(value) for key, value in row.items()} for row in csv.DictReader(lines[len(HEADS) :]))
        settings, made_with, figures = heads
    except ValueError as error:
        raise Unreadable(f"{path} is not the record of a run: {error}") from error
    if not rows:
        raise Unreadable(f"{path} is not the record of a run: it has no rows")
    return Record(path.stem, settings, made_with, figures, rows)


def read_all(folder: Path) -> list[Record]:
    """The records of a folder, by name."""
    return [read(path) for path in sorted(folder.glob("*.csv"))]


def still_to_do(wanted: Iterable[Run], records: Iterable[Record]) -> list[Run]:
    """The runs that have no record.  Raises Unreadable where a record of this name was made with other settings."""
    done = {record.name: record for record in records}
    left = []
    for run in wanted:
        record = done.get(run.name)
        if record is None:
            left.append(run)
        elif changed := _differing(plain(run.settings), record.settings):
            raise Unreadable(
                f"{run.name}.csv was made with other settings ({', '.join(changed)}): give another folder with --into, "
                "or take the file away"
            )
    return left


def _differing(one: Mapping[str, Any], two: Mapping[str, Any]) -> list[str]:
    return sorted(key for key in {*one, *two} if key not in one or key not in two or one[key] != two[key])


def _number(text: str) -> float:
    return int(text) if text.lstrip("-").isdigit() else float(text)
