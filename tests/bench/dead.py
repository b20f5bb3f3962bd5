"""How many directions of small models are dead, and how many of them each spec explains: a table in Markdown.

    python tests/bench/dead.py [NAMES...]

Several minutes for all.  What is counted is said in docs/audit.md; times are those of the processor, of both audits.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch

import gaugec

sys.path.insert(0, str(Path(__file__).parents[1]))
from whole_models import MODELS

HEAD = ("model", "parameters", "dead", "shipped spec", "full spec", "approximate", "data", "unread", "unexplained", "s")


def row(name: str) -> list[object]:
    """The numbers of one model."""
    whole = MODELS[name]
    model = whole.build(1 if name == "gpt_neox" else 2)  # of two layers it would be larger than what is counted
    batch = dict(whole.batch(torch.Generator().manual_seed(0)))
    start = time.process_time()
    before, now = (
        gaugec.audit(spec, model, (), batch, loss="cross_entropy") for spec in (whole.shipped, whole.spec)
    )
    seconds = round(time.process_time() - start)
    dead = now.nullity - now.unread
    return [
        name, now.parameters, dead, before.orbit, now.orbit, now.approximate, now.data, now.unread, now.unexplained,
        seconds,
    ]  # fmt: skip


def main(names: list[str]) -> None:
    """Prints the table, a row as soon as it is counted."""
    print("| " + " | ".join(HEAD) + " |", "|" + " --- |" * len(HEAD), sep="\n", flush=True)
    for name in names or list(MODELS):
        print("| " + " | ".join(map(str, row(name))) + " |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
