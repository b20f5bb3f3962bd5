"""The long way: random input of every kind for as many minutes as are given, each case in bounded time and memory.

`python tests/fuzz/run.py --minutes 10` (`make fuzz`) prints how many cases of which kind ran, what came of them, and
every failure with the seed that makes it again.  Exits with 1 when there was one.
"""

from __future__ import annotations

import argparse
import collections
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from fuzz.batch import failures, outcomes
from fuzz.gauges import DOCS, NAMES, NUMBERS, gauge
from fuzz.hostile import SPECS
from gaugec.language import shipped, shipped_text

LIMIT = 1.0
WORDS = (
    "gauge given param each model for every in keeps fix op architecture use from optional approximate W x n d k R "
    "orthogonal positive torus relu max diag outer ones inv rope rms_norm cross_entropy eps ( ) [ ] , : ? = == -> "
    "+ - * / @ ** .T _ 0 1 2.5 1e9 1e999 \" ' # . ^ \\"
).split() + ["\n", '"doc"', "(n, d):", "x @ W.T", "**-1/2", "eps=0", "\0", "\u2028", "é"]


def soup(rng: random.Random) -> str:
    """Words of the language in any order."""
    return " ".join(rng.choice((*WORDS, *NAMES, *NUMBERS)) for _ in range(rng.choice((3, 20, 200))))


def text(rng: random.Random) -> str:
    """Any characters."""
    return "".join(chr(rng.randrange(rng.choice((128, 0x2100, 0xD800)))) for _ in range(80))


def mutated(rng: random.Random, texts: list[str]) -> str:
    """A good spec with pieces exchanged, removed, doubled and inserted; or with another one's lines."""
    made = rng.choice(texts)
    for _ in range(rng.randint(1, 4)):
        if rng.random() < 0.3:
            lines = made.split("\n")
            i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
            lines[i], lines[j] = lines[j], rng.choice((lines[i], lines[j], rng.choice(rng.choice(texts).split("\n"))))
            made = "\n".join(lines)
            continue
        start = rng.randrange(len(made) + 1)
        end = min(len(made), start + rng.choice((0, 1, 2, 5, 12)))
        made = made[:start] + rng.choice(("", made[start:end] * 2, rng.choice((*WORDS, *NUMBERS, *DOCS)))) + made[end:]
    return made


def case(kind: str, seed: int, texts: list[str]) -> str:
    """The text of one case."""
    rng = random.Random(f"{kind} {seed}")
    match kind:
        case "gauge":
            return gauge(seed)
        case "soup":
            return soup(rng)
        case "text":
            return text(rng)
        case "mutated gauge":
            return mutated(rng, [gauge(seed), gauge(seed + 1)])
        case "mutated hostile":
            return mutated(rng, list(SPECS.values()))
    return mutated(rng, texts)


KINDS = ("gauge", "mutated gauge", "mutated spec", "mutated hostile", "soup", "text")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0, help="of the first case")
    parser.add_argument("--case", help="KIND:SEED, print the text of one case")
    options = parser.parse_args()
    texts = [shipped_text(name) for name in shipped()]
    if options.case:
        kind, _, seed = options.case.rpartition(":")
        print(case(kind, int(seed), texts))
        return 0
    start, seed = time.monotonic(), options.seed
    counts: collections.Counter[str] = collections.Counter()
    kinds: collections.Counter[str] = collections.Counter()
    wrong: list[str] = []
    slowest = 0.0
    while time.monotonic() - start < 60 * options.minutes:
        batch = {f"{kind}:{s}": case(kind, s, texts) for s in range(seed, seed + 10) for kind in KINDS}
        found = outcomes(batch, LIMIT)
        for each in found:
            counts[each.name.split(":")[0]] += 1
            kinds[each.kind] += 1
        slowest = max([slowest, *(each.seconds for each in found)])
        gauges = {each.name: max(1, batch[each.name].count("gauge ")) for each in found}
        for each in found:
            new = failures([each], LIMIT, gauges[each.name])
            wrong += new
            for words in new:
                print("FAILED", words, flush=True)
        seed += 10
    print(f"{sum(counts.values())} cases in {time.monotonic() - start:.0f} s, the slowest {slowest:.1f} s")
    print("  cases: " + ", ".join(f"{n} {kind}" for kind, n in sorted(counts.items())))
    print("  outcomes: " + ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items())))
    print(f"  failures: {len(wrong)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
