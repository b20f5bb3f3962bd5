"""Makes docs/architectures.md: every architecture compiled, and checked as the tests check a few of them.

    python -m architectures [NAME ...] [--specs] [--rows] [--check] [--jobs N]

--specs: the files in specs/architectures/ are written anew, with the gauges that were found; their sentences stay.
--rows: nothing is renamed and trained.  --check: nothing is written.

Exit 1 where a row, a file or a model is not as it must be.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import os
import sys

from architectures import names
from architectures.checks import examined
from architectures.rows import PAGE, kept, page


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("names", nargs="*", metavar="NAME", help="all, unless given")
    arguments.add_argument("--specs", action="store_true", help="write the architecture files anew")
    arguments.add_argument("--rows", action="store_true", help="neither rename nor train")
    arguments.add_argument("--check", action="store_true", help="write nothing")
    arguments.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="processes")
    options = arguments.parse_args()
    lines, wrong = kept(), []
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        examine = functools.partial(examined, specs=options.specs and not options.check, rows=options.rows)
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
