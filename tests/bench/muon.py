"""Times steps of DDCMuon on the parameters of a Llama and prints ratios to torch.optim.Muon with the fused AdamW.

    python tests/bench/muon.py [--sizes small big] [--rounds N] [--steps N] [--device cuda]

torch's Muon has the hidden matrices, its AdamW the others; DDCMuon decides by itself. "whole": every parameter as one
matrix, as torch takes it; else heads are matrices of their own, which is less work. No model is run: the parameters are
those of `step`. All run side by side in one process; a row has the median of the rounds, and the least and the most.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "runtime"))
import handmade
import step

from gaugec.runtime import DDCMuon, Gauge
from gaugec.runtime.roles import Matrices, Role

RATES = {"lr": 1e-4, "weight_decay": 1e-2}


class Both:
    """torch's Muon and AdamW as one."""

    def __init__(self, model: torch.nn.Module, gauge: Gauge) -> None:
        hidden = [p for name, p in model.named_parameters() if gauge.roles[name].role == "matrix"]
        others = [p for name, p in model.named_parameters() if gauge.roles[name].role != "matrix"]
        self.muon, self.adamw = torch.optim.Muon(hidden, **RATES), torch.optim.AdamW(others, fused=True, **RATES)

    def step(self) -> None:
        self.muon.step()
        self.adamw.step()


def whole(gauge: Gauge, model: torch.nn.Module) -> Gauge:
    """The same with every parameter as one matrix."""
    roles = {}
    for name, (role, _) in gauge.roles.items():
        shape = tuple(model.get_parameter(name).shape)
        one = [Matrices(0, (), ((shape[0], shape[1]),), ((shape[1], 1),))] if len(shape) == 2 else []
        roles[name] = Role(role, tuple(one))
    made: Gauge = type("Gauge", (Gauge,), {"roles": roles})(gauge.source)
    return made


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--sizes", choices=("small", "big", "bigger"), nargs="+", default=["small", "big"])
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--steps", type=int, default=10, help="of a round")
    arguments.add_argument("--device", default="cpu")
    options = arguments.parse_args()
    print("| parameters | optimizer | a step, ms | over torch's | least..most |\n|---|---|---|---|---|")
    for size in options.sizes:
        table({"small": step.Small, "big": step.Big, "bigger": step.Bigger}[size], options)


def table(shape: type[handmade.Shape], options: argparse.Namespace) -> None:
    """Print the rows of one size."""
    model, plain = step.llama(shape, options.device)
    gauge = handmade.with_roles(model, plain)
    settings: dict[str, Any] = {**RATES, "adamw_lr": 1e-4}
    runs: dict[str, Any] = {
        "torch Muon and fused AdamW": Both(model, gauge),
        "DDCMuon": DDCMuon(model.named_parameters(), gauge, **settings),
        "DDCMuon, whole": DDCMuon(model.named_parameters(), whole(gauge, model), **settings),
        "DDCMuon, float32": DDCMuon(model.named_parameters(), gauge, ns_dtype=torch.float32, **settings),
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run.step()
    for _ in range(options.rounds):
        for name, run in runs.items():
            spent = [step.timed(run.step, options.device != "cpu") for _ in range(options.steps)]
            times[name].append(statistics.fmean(spent))
    base, *_ = runs
    count = sum(p.numel() for p in model.parameters()) / 1e6
    for name, taken in times.items():
        ratios = sorted(one / other for one, other in zip(taken, times[base]))
        print(
            f"| {count:.1f}M | {name} | {statistics.median(taken) * 1e3:.1f} | {statistics.median(ratios):.2f} | "
            f"{ratios[0]:.2f}..{ratios[-1]:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
