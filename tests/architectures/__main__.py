"""Makes docs/architectures.md: every architecture compiled, and checked as the tests check a few of them.

    python -m architectures [NAME ...] [--specs] [--check] [--jobs N]

--specs: the files in specs/architectures/ are written anew, with the gauges that were found; their sentences stay.
--check: nothing is written.  Exit 1 where a row, a file or a model is not as it must be.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import os
import sys
import warnings

import torch

from architectures import names
from architectures.checks import problems
from architectures.rows import PAGE, SHIPPED, Row, architecture, kept, look, page


def examined(name: str, specs: bool) -> tuple[Row, list[str]]:
    """The row of an architecture, and what is wrong with it; specs: its file is written anew before it is checked."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    row, compiled = look(name)
    if specs and compiled is not None:
        (SHIPPED / f"{name}.gauge").write_text(architecture(name, compiled), encoding="utf-8")
    return row, problems(row, compiled)


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("names", nargs="*", metavar="NAME", help="all, unless given")
    arguments.add_argument("--specs", action="store_true", help="write the architecture files anew")
    arguments.add_argument("--check", action="store_true", help="write nothing")
    arguments.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="processes")
    options = arguments.parse_args()
    lines, wrong = kept(), []
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        examine = functools.partial(examined, specs=options.specs and not options.check)
        for row, found in pool.imap(examine, options.names or names()):
            if options.check and not lines.get(row.name, "").startswith(row.text):
                found.append(f"{row.name}: the page says something else")
            print(row.line, *found, sep="\n", flush=True)
            lines[row.name] = row.line
            wrong += found
        pool.close()
        pool.join()
    if not options.check:
        PAGE.write_text(page(lines[name] for name in names() if name in lines), encoding="utf-8")
    print(f"architectures: {len(wrong)} problems" if wrong else "architectures: all as they must be")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
