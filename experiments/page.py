"""The page of the experiments: between its markers stands what the records give, and so do the plots beside it.

    <!-- table symmetry -->
    ...
    <!-- end -->
"""

from __future__ import annotations

import re
from pathlib import Path

from experiments import ROOT
from experiments.harness import RESULTS, study
from experiments.records import read_all

PAGE = ROOT / "docs" / "experiments.md"


def table(name: str, folder: Path | None = None) -> str:
    """The table of a study, of the records in this folder, or of the committed ones."""
    return study(name).table(read_all(folder or RESULTS / name))


def plotted(name: str) -> Path | None:
    """Draw the plot of a study beside the page, of the committed records; None where a study has none."""
    plot = getattr(study(name), "plot", None)
    if plot is None:
        return None
    path = PAGE.with_name(f"experiments-{name}.svg")
    plot(read_all(RESULTS / name), path)
    return path


def updated(text: str, name: str) -> str:
    """The page with the table of a study as it is now.  Raises ValueError where the page has no place for it."""
    place = re.compile(rf"(<!-- table {re.escape(name)} -->\n).*?(<!-- end -->)", re.S)
    if not place.search(text):
        raise ValueError(f"the page has no <!-- table {name} --> ... <!-- end -->")
    return place.sub(lambda found: f"{found[1]}\n{table(name)}\n\n{found[2]}", text)
