"""`gaugec demo`: the whole road on a real Llama, from the spec's proof to two training runs that stay gauge copies.

A small `LlamaForCausalLM` of `transformers` learns the source text of Python's standard library, by the character.
AdamW and DDCAdamW, on pinned and on horizontal orbits, each start once from θ and once from gθ, a random gauge copy of
the same function. The table says how far the two runs of each optimizer come apart and how much of each path runs along
the gauge orbits, where nothing is learned. `gaugec.demo.run` is also the task of tests/bench. Not here: tuning,
validation, generation.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

import gaugec
from gaugec.demo.task import batches, corpus, example, llama, loss_of, parameters, restore, train
from gaugec.runtime import DDCAdamW, Gauge, load, telemetry
from gaugec.screen import console, show_sites, show_verification, working

SPEC = "llama"
# A calm learning rate: at three times this one rounding errors grow tenfold every dozen steps.
ADAM: dict[str, Any] = {"lr": 1e-3, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.1}
WATCHED = 10  # the drift is measured on every tenth step: it costs more than the step


@dataclass
class Run:
    """One training run: its loss at every step, and of the watched steps their length and the part along the orbits."""

    optimizer: str
    start: str
    losses: list[float] = field(default_factory=list)
    lengths: list[float] = field(default_factory=list)
    drifts: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def final(self) -> float:
        """Mean loss of the last 20 steps, in nats a character."""
        last = self.losses[-20:]
        return sum(last) / len(last)

    @property
    def drift(self) -> float:
        """Share of the path that ran along the gauge orbits, between 0 and 1."""
        return sum(self.drifts) / max(sum(self.lengths), 1e-300)


def run(folder: Path, *, steps: int = 300, seed: int = 0) -> None:
    """Run the demo, print it as it goes, and leave the module, the table, the curves and their plot in `folder`.

    Raises GaugeError when a proof or the compilation fails.
    """
    out = console()
    folder.mkdir(parents=True, exist_ok=True)
    with working(f"proving {SPEC}"):
        start = time.perf_counter()
        verification = gaugec.verify(SPEC)
        seconds = time.perf_counter() - start
    show_verification(out, SPEC, verification, seconds)

    model = llama(seed)
    with working("compiling"):
        start = time.perf_counter()
        args, kwargs = example()
        compiled = gaugec.compile(SPEC, model, args, kwargs, loss="cross_entropy")
        seconds = time.perf_counter() - start
    size = sum(parameter.numel() for parameter in model.parameters())
    out.print(f"\na {type(model).__name__} of {size:,} parameters, compiled in {seconds:.1f} s")
    show_sites(out, compiled.metadata)
    compiled.save(folder / "llama_gauge.py")
    gauge = load(folder / "llama_gauge.py")  # as anyone would who has the file and no compiler

    text = corpus()
    origin = parameters(model)
    element = gauge.random_element(torch.Generator().manual_seed(seed + 1))
    starts = {"θ": origin, "gθ": gauge.act(origin, element)}
    moved = [name for name in origin if not torch.equal(origin[name], starts["gθ"][name])]
    out.print(f"\na random gauge copy gθ moves {len(moved)} of {len(origin)} tensors; the loss of the first batch")
    first = next(batches(text, 1, seed))
    for name, params in starts.items():
        restore(model, params)
        out.print(f"  from {name.ljust(2)}  {loss_of(model, first).item():.6f}")

    optimizers: dict[str, Callable[[], torch.optim.Optimizer]] = {
        "AdamW": lambda: torch.optim.AdamW(model.parameters(), **ADAM),
        "DDCAdamW": lambda: DDCAdamW(model.named_parameters(), gauge, **ADAM),
        "DDCAdamW, horizontal": lambda: DDCAdamW(model.named_parameters(), gauge, orbit="horizontal", **ADAM),
    }
    out.print(f"\n{steps} steps on {len(text):,} characters of Python's standard library")
    runs = []
    for optimizer, make in optimizers.items():
        for name, params in starts.items():
            restore(model, params)
            runs.append(_watched(out, Run(optimizer, name), model, make(), gauge, text, steps, seed))

    table = _table(runs)
    out.print("\n" + table)
    (folder / "table.md").write_text(table + "\n", encoding="utf-8")
    _save_curves(runs, folder / "curves.csv")
    _plot(runs, folder / "curves.png")
    out.print(f"\nin {folder}: llama_gauge.py, table.md, curves.csv, curves.png")


def _watched(
    out: Console,
    run: Run,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    gauge: Gauge,
    text: Tensor,
    steps: int,
    seed: int,
) -> Run:
    """Train with a progress bar on a terminal or one line in a pipe, and fill in `run`."""
    label = f"{run.optimizer} from {run.start}"
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=out, disable=not out.is_terminal, transient=True) as progress:
        task = progress.add_task(label, total=steps)

        def watch(step: int, loss: float, do: Callable[[], None]) -> None:
            before = parameters(model) if step % WATCHED == WATCHED // 2 else None  # between two pins
            start = time.perf_counter()
            do()
            run.seconds += time.perf_counter() - start
            if before is not None:
                length, drift = telemetry.along(gauge, before, parameters(model))
                run.lengths.append(length)
                run.drifts.append(drift)
            progress.update(task, advance=1, description=f"{label}  loss {loss:.3f}")

        run.losses = train(model, optimizer, text, steps, seed, watch)
    out.print(f"  {label.ljust(28)}  loss {run.final:.4f}, {1e3 * run.seconds / steps:.1f} ms an optimizer step")
    return run


def _pairs(runs: Sequence[Run]) -> Iterator[tuple[Run, Run, list[float]]]:
    """The two runs of each optimizer, from θ and from gθ, and how far apart their losses are at each step."""
    for first, second in zip(runs[::2], runs[1::2], strict=True):
        yield first, second, [abs(a - b) for a, b in zip(first.losses, second.losses, strict=True)]


def _table(runs: Sequence[Run]) -> str:
    """The result as a markdown table."""
    rows = [("optimizer", "loss from θ", "loss from gθ", "largest difference", "drift along the orbits")]
    for first, second, apart in _pairs(runs):
        drift = f"{100 * max(first.drift, second.drift):.2g} %"
        rows.append((first.optimizer, f"{first.final:.4f}", f"{second.final:.4f}", f"{max(apart):.1e}", drift))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows]
    return "\n".join([lines[0], rule, *lines[1:]])


def _save_curves(runs: Sequence[Run], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["step", *(f"{run.optimizer} from {run.start}" for run in runs)])
        writer.writerows([step, *values] for step, values in enumerate(zip(*(run.losses for run in runs), strict=True)))


def _plot(runs: Sequence[Run], path: Path) -> None:
    """Loss of the four runs, and under it the distance between the two of each optimizer."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (above, below) = pyplot.subplots(2, 1, figsize=(8, 7), sharex=True, layout="constrained")
    for (first, second, apart), colour in zip(_pairs(runs), ("tab:orange", "tab:blue"), strict=False):
        above.plot(first.losses, color=colour, linewidth=1, label=f"{first.optimizer} from θ")
        above.plot(second.losses, color=colour, linewidth=1, linestyle="--", label=f"{second.optimizer} from gθ")
        below.semilogy([max(value, 1e-9) for value in apart], color=colour, linewidth=1, label=first.optimizer)
    above.set_ylabel("loss, nats a character")
    below.set_ylabel("|loss from θ − loss from gθ|")
    below.set_xlabel("step")
    for axes in (above, below):
        axes.legend()
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
