"""What pooling the second moment costs: training loss on the demo's task, three seeds, each at its best of three rates.

    python tests/bench/pooling.py [--steps 300] [--seeds 3] [--rates 1e-3 2e-3 4e-3]

Prints a markdown table. Everything but the optimizer is the same in every run: start, batches, betas, weight decay.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from typing import Any

import torch

import gaugec
from gaugec.demo import run as demo
from gaugec.runtime import DDCAdamW

Make = Callable[[torch.nn.Module, Any, dict[str, Any]], torch.optim.Optimizer]
OPTIMIZERS: dict[str, Make] = {
    "AdamW": lambda model, gauge, options: torch.optim.AdamW(model.parameters(), **options),
    "DDCAdamW": lambda model, gauge, options: DDCAdamW(model.named_parameters(), gauge, **options),
    "DDCAdamW, no pooling": lambda model, gauge, options: DDCAdamW(
        model.named_parameters(), gauge, pooling=False, **options
    ),
}


def final_loss(make: Make, gauge: Any, rate: float, seed: int, steps: int, text: torch.Tensor) -> float:
    """Train one model and return the mean loss of its last 20 steps."""
    model = demo.llama(seed)
    optimizer = make(model, gauge, {**demo.ADAM, "lr": rate})
    return statistics.fmean(demo.train(model, optimizer, text, steps, seed)[-20:])


def main() -> None:
    """Run the whole grid and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-3, 2e-3, 4e-3])
    options = parser.parse_args()

    text = demo.corpus()
    args, kwargs = demo.example()
    gauge = gaugec.compile(demo.SPEC, demo.llama(), args, kwargs, loss="cross_entropy")  # the same for every seed
    best: dict[str, tuple[float, list[float]]] = {}
    for name, make in OPTIMIZERS.items():
        for rate in options.rates:
            losses = [final_loss(make, gauge, rate, seed, options.steps, text) for seed in range(options.seeds)]
            print(f"{name} at {rate:g}: {statistics.fmean(losses):.4f}", file=sys.stderr, flush=True)
            if name not in best or statistics.fmean(losses) < statistics.fmean(best[name][1]):
                best[name] = (rate, losses)

    base = statistics.fmean(best["AdamW"][1])
    print(f"Loss of the last 20 of {options.steps} steps, nats a character.\n")
    print("| optimizer | best lr | loss, mean | by seed | against AdamW |")
    print("|---|---|---|---|---|")
    for name, (rate, losses) in best.items():
        mean = statistics.fmean(losses)
        print(f"| {name} | {rate:g} | {mean:.4f} | {', '.join(f'{x:.4f}' for x in losses)} | {mean - base:+.4f} |")


if __name__ == "__main__":
    main()
