"""Times optimizer steps on the parameters of a Llama and prints ratios to the fused AdamW of torch.

    python tests/bench/step.py [--sizes small big bigger] [--rounds N] [--device cuda] [--compile] [--horizontal]
                               [--bases]
    python tests/bench/step.py --train [--sizes big] [--bases]

With `--train` the model is run, on 2,048 tokens, and what is timed is a training step: forward, backward and the
optimizer's step, ten of these to one forward and backward, so that a pin is among them.

Else no model is run: parameters and gradients are random numbers of the right shapes, 5, 34 and 110 million of them.
All optimizers run side by side in one process, ten steps each in turn, so that every tenth, at which orbits are pinned
or frames are taken, is in every round; a row has the median of the rounds and the least and the most.  On one thread
of a CPU the times are those of the process, which other processes disturb less than the clock on the wall.  `calls`
counts the operations that a step gives to torch.

Passes over memory, counted as tensors of the parameters' size that are read or written, for a weight that one scale
moves.  AdamW reads p, g, m, v and writes p, m, v: 7.

    pinned, eager                               horizontal, eager, beside that
    decay       p -> u             2            canonical   p -> θ̂            2
    pull        g -> ĝ             2            products    u θ̂ -> s, sum     4
    Adam        u, ĝ, m, v -> u, m, v  7        squares     θ̂ θ̂ -> s, sum     3
    push, add   p, u -> p          3            lift        u, θ̂ -> u         3

That is 14, and a step takes as many rows at a time as stay in a cache with all of these, so that 7 reach the memory;
compiled, there are only these.  Horizontal: 26, whole tensors at a time.  A pin reads a component once for its
norms and moves what a scale moves, every tenth step.  A second scale adds 2, and a pooled moment is small.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

sys.path.insert(0, str(Path(__file__).parents[1] / "runtime"))
import handmade

from gaugec.runtime import DDCAdamW

PASSES = {"AdamW": "7", "pinned": "14, 7 to memory", "compiled": "7", "horizontal": "26"}


class Big(handmade.Shape):
    width, units, heads, kv, head, layers, vocab = 512, 1376, 8, 8, 64, 8, 8192


class Small(handmade.Shape):
    width, units, heads, kv, head, layers, vocab = 256, 688, 4, 4, 64, 4, 4096


class Bigger(handmade.Shape):
    width, units, heads, kv, head, layers, vocab = 768, 2048, 12, 12, 64, 12, 16384


class Calls(TorchDispatchMode):
    """Counts what is given to torch."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def timed(function: Callable[[], Any], cuda: bool) -> float:
    clock = time.process_time if not cuda and torch.get_num_threads() == 1 else time.perf_counter
    start = clock()
    function()
    if cuda:
        torch.cuda.synchronize()
    return clock() - start


def llama(shape: type[handmade.Shape], device: str, values: str = "orthogonal") -> Any:
    """Parameters with gradients, and their gauges; values: the group of a head's value basis."""
    torch.manual_seed(0)
    model = handmade.Llama(shape).to(device)
    for p in model.parameters():
        p.grad = torch.randn_like(p) * 1e-3
    sites = [replace(x, group=values) if x.group == "orthogonal" else x for x in handmade.llama_sites(shape)]
    return model, handmade.compiled(model, sites)


def optimizers(shape: type[handmade.Shape], options: argparse.Namespace) -> dict[str, torch.optim.Optimizer]:
    """What is timed, by name; the first is what the others are compared to."""
    model, gauge = llama(shape, options.device)
    from_canonical, _ = llama(shape, options.device)
    for _, component, names in gauge.places():
        params = dict(from_canonical.named_parameters())
        values = {slot: params[name].detach()[None] for slot, name in zip(component.shapes, names)}
        frame = component.frame(values)
        with torch.no_grad():
            for (_, x), name in zip(component.canonical(values, frame).items(), names):
                params[name].copy_(x[0])
    runs: dict[str, torch.optim.Optimizer] = {
        "AdamW, fused": torch.optim.AdamW(model.parameters(), fused=True),
        "DDCAdamW, pinned": DDCAdamW(model.named_parameters(), gauge),
        "DDCAdamW, pinned, from a canonical start": DDCAdamW(from_canonical.named_parameters(), gauge),
    }
    if options.compile:
        runs["DDCAdamW, pinned, compiled"] = DDCAdamW(model.named_parameters(), gauge, compile=True)
    if options.horizontal:
        runs["DDCAdamW, horizontal"] = DDCAdamW(model.named_parameters(), gauge, orbit="horizontal")
    if options.bases:
        whole, bases = llama(shape, options.device, "invertible")
        for orbit in ("pinned", "horizontal") if options.horizontal else ("pinned",):
            runs[f"DDCAdamW, bases, {orbit}"] = DDCAdamW(whole.named_parameters(), bases, orbit=orbit)
    return runs


def ours(optimizer: torch.optim.Optimizer) -> DDCAdamW:
    assert isinstance(optimizer, DDCAdamW)
    return optimizer


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--sizes", choices=("small", "big", "bigger"), nargs="+", default=["big"])
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--device", default="cpu")
    arguments.add_argument("--compile", action="store_true", help="time compile=True as well")
    arguments.add_argument("--horizontal", action="store_true", help="time horizontal orbits as well")
    arguments.add_argument("--bases", action="store_true", help="time the whole bases of values as well")
    arguments.add_argument("--train", action="store_true", help="time training steps instead")
    options = arguments.parse_args()
    shapes = [{"small": Small, "big": Big, "bigger": Bigger}[size] for size in options.sizes]
    if options.train:
        heads = "parameters", "optimizer", "forward and backward, ms", "step, ms", "both, over AdamW", "least..most"
        print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
        for shape in shapes:
            training(shape, options)
        return
    heads = "parameters", "optimizer", "a step, ms", "over AdamW", "least..most", "first step, s", "calls", "passes"
    print(f"| {' | '.join(heads)} | state |\n|{'---|' * 9}")
    for shape in shapes:
        table(shape, options)


def training(shape: type[handmade.Shape], options: argparse.Namespace) -> None:
    """Print the rows of one size for training steps: every optimizer takes ten steps to one forward and backward."""
    cuda, runs = options.device != "cpu", optimizers(shape, options)
    model, _ = llama(shape, options.device)
    data = torch.randint(shape.vocab, (8, 257), generator=torch.Generator().manual_seed(1)).to(options.device)
    for optimizer in runs.values():
        optimizer.step()
    passes, times = list[float](), {name: list[float]() for name in runs}
    for _ in range(options.rounds):
        passes.append(timed(lambda: model(data).backward(), cuda))
        for name, optimizer in runs.items():
            times[name].append(statistics.fmean(timed(optimizer.step, cuda) for _ in range(10)))
    base, *_ = runs
    count = sum(p.numel() for p in model.parameters())
    run = statistics.median(passes)
    for name, taken in times.items():
        ratios = sorted((run + one) / (run + other) for one, other in zip(taken, times[base]))
        print(
            f"| {count / 1e6:.1f}M | {name} | {run * 1e3:.0f} | {statistics.median(taken) * 1e3:.1f} | "
            f"{statistics.median(ratios):.4f} | {ratios[0]:.4f}..{ratios[-1]:.4f} |",
            flush=True,
        )


def table(shape: type[handmade.Shape], options: argparse.Namespace) -> None:
    """Print the rows of one size."""
    cuda, runs = options.device != "cpu", optimizers(shape, options)
    first, calls = dict[str, float](), dict[str, str]()
    for name, optimizer in runs.items():
        start = time.perf_counter()
        optimizer.step()
        first[name] = time.perf_counter() - start
        if "compiled" in name:  # torch takes no graph while it is being listened to
            calls[name] = f"{len(ours(optimizer).batches)} graphs"
            continue
        with Calls() as counted:
            optimizer.step()
        calls[name] = str(counted.count)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(options.rounds):
        for name, optimizer in runs.items():
            times[name].append(statistics.fmean(timed(optimizer.step, cuda) for _ in range(10)))
    sizes = {
        name: sum(x.numel() for s in o.state_dict()["state"].values() for key, x in s.items() if key != "gauge")
        for name, o in runs.items()
    }
    base, *_ = runs
    count = sum(p.numel() for group in runs[base].param_groups for p in group["params"])
    for name, taken in times.items():
        ratios = sorted(one / other for one, other in zip(taken, times[base]))
        passes = PASSES.get("AdamW" if name == base else name.split(", ")[-1], PASSES["pinned"])
        passes = "" if "bases" in name else passes
        print(
            f"| {count / 1e6:.1f}M | {name} | {statistics.median(taken) * 1e3:.1f} | {statistics.median(ratios):.2f} | "
            f"{ratios[0]:.2f}..{ratios[-1]:.2f} | {first[name]:.1f} | {calls[name]} | {passes} | "
            f"{sizes[name] / sizes[base]:.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
