"""Times optimizer steps on a GPU, in one call of some minutes: milliseconds by events and by the wall, and kernels.

    python tests/bench/gpu.py [--sizes 34M 350M 1300M] [--rounds N] [--minutes M] [--device cuda]

No model is run: parameters of Llamas, gradients of random numbers.  All optimizers of a size run side by side in one
process, ten steps each in turn, so that every tenth, at which orbits are pinned, is in every round; a row has the
median of the rounds and the least and the most.  `events` is the time between two CUDA events, `wall` with the wait for
the device: where they are equal, the step waits for its own launches.  `GB/s` is of 7 passes over the parameters, which
AdamW makes.  What is not begun after M minutes is left out, and said.

A CUDA graph is recorded of `step` where torch can: the rows say why not where it cannot.  torch.optim.AdamW with
`capturable=True` can.  DDCAdamW cannot: at a pin it looks at numbers on the host, between pins it counts on the host,
and the numbers of a step are copied from there.  Its compiled step is one graph of fused kernels a batch instead.

On a CPU (`--device cpu --sizes tiny`) the script can be tried, and the wall is all that is measured: no events, no
kernels, no CUDA graph.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

sys.path.insert(0, str(Path(__file__).parent))
import step as steps
from step import handmade

from gaugec.runtime import DDCAdamW, DDCMuon

PASSES = 7 * 4  # bytes a parameter in float32


class Tiny(handmade.Shape):
    width, units, heads, kv, head, layers, vocab = 16, 24, 2, 2, 8, 2, 32


class Medium(handmade.Shape):
    width, units, heads, kv, head, layers, vocab = 1024, 2752, 16, 16, 64, 24, 32000


class Large(handmade.Shape):
    width, units, heads, kv, head, layers, vocab = 2048, 5504, 16, 16, 128, 24, 32000


SIZES = {"tiny": Tiny, "34M": steps.Big, "350M": Medium, "1300M": Large}
Make = Callable[[torch.nn.Module, Any], Callable[[], Any]]


class Taken(NamedTuple):
    """Milliseconds of a step: by events, on a CPU none, and by the wall."""

    events: float | None
    wall: float


def fused(model: torch.nn.Module, gauge: Any) -> Callable[[], Any]:
    return torch.optim.AdamW(model.parameters(), fused=True).step


def foreach(model: torch.nn.Module, gauge: Any) -> Callable[[], Any]:
    return torch.optim.AdamW(model.parameters(), foreach=True).step


def pinned(model: torch.nn.Module, gauge: Any) -> Callable[[], Any]:
    return DDCAdamW(model.named_parameters(), gauge).step


def compiled(model: torch.nn.Module, gauge: Any) -> Callable[[], Any]:
    return DDCAdamW(model.named_parameters(), gauge, compile=True).step


def hidden(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """The matrices that Muon is meant for."""
    return {name: p for name, p in model.named_parameters() if name.startswith("layers.") and p.dim() == 2}


def muon(model: torch.nn.Module, gauge: Any) -> Callable[[], Any]:
    """torch.optim.Muon on hidden matrices, and fused AdamW on everything else."""
    matrices = hidden(model)
    rest = [p for name, p in model.named_parameters() if name not in matrices]
    both = torch.optim.Muon(matrices.values()), torch.optim.AdamW(rest, fused=True)
    return lambda: [each.step() for each in both]


def pinned_muon(model: torch.nn.Module, gauge: Any) -> Callable[[], Any]:
    return DDCMuon(model.named_parameters(), handmade.with_roles(model, gauge)).step


def recorded(make: Make) -> Make:
    """The step of an optimizer as a CUDA graph that is replayed."""

    def made(model: torch.nn.Module, gauge: Any) -> Callable[[], Any]:
        step = make(model, gauge)
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):  # torch asks for some steps before, on another stream
            for _ in range(3):
                step()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
        return graph.replay

    return made


def capturable(model: torch.nn.Module, gauge: Any) -> Callable[[], Any]:
    return torch.optim.AdamW(model.parameters(), fused=True, capturable=True).step


ROWS: dict[str, Make] = {
    "AdamW, fused": fused,
    "AdamW, foreach": foreach,
    "DDCAdamW, pinned": pinned,
    "DDCAdamW, pinned, compiled": compiled,
    "AdamW, fused, CUDA graph": recorded(capturable),
    "DDCAdamW, pinned, CUDA graph": recorded(pinned),
    "Muon and AdamW": muon,
    "DDCMuon": pinned_muon,
}


def ten(step: Callable[[], Any], cuda: bool) -> Taken:
    """The mean of ten steps."""
    if not cuda:
        start = time.perf_counter()
        for _ in range(10):
            step()
        return Taken(None, (time.perf_counter() - start) * 100)
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start = time.perf_counter()
    begin.record()
    for _ in range(10):
        step()
    end.record()
    torch.cuda.synchronize()
    return Taken(begin.elapsed_time(end) / 10, (time.perf_counter() - start) * 100)


def kernels(step: Callable[[], Any]) -> float:
    """Kernels of a step, the mean over ten."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as seen:
        for _ in range(10):
            step()
        torch.cuda.synchronize()
    return sum(event.device_type == torch.autograd.DeviceType.CUDA for event in seen.events()) / 10


def prepared(shape: type[handmade.Shape], options: argparse.Namespace, until: float) -> dict[str, tuple[Any, float]]:
    """The steps of every row that can be, with the seconds of the first; a row that cannot is printed."""
    cuda, out = options.device != "cpu", dict[str, tuple[Any, float]]()
    for name, make in ROWS.items():
        why = "the minutes are over" if time.monotonic() > until else None
        if "CUDA graph" in name and not cuda:
            why = "there are CUDA graphs on a GPU only"
        model, gauge = (None, None) if why else steps.llama(shape, options.device)
        start = time.perf_counter()
        try:
            if model is not None:
                step = make(model, gauge)
                step()
                if cuda:
                    torch.cuda.synchronize()
                out[name] = (step, time.perf_counter() - start)
        except (RuntimeError, ValueError) as error:
            why = f"refused: {str(error).strip().splitlines()[0][:160]}"
            if cuda:
                torch.cuda.synchronize()
        if why:
            print(f"{name}: {why}", flush=True)
    return out


def table(size: str, options: argparse.Namespace, until: float) -> None:
    """Print the rows of one size."""
    shape, cuda = SIZES[size], options.device != "cpu"
    count = sum(p.numel() for p in handmade.Llama(shape).to("meta").parameters())
    print(f"\n## {count / 1e6:.1f}M parameters\n", flush=True)
    rows = prepared(shape, options, until)
    taken: dict[str, list[Taken]] = {name: [] for name in rows}
    for number in range(options.rounds):
        if number and time.monotonic() > until:
            print(f"the minutes are over after {number} of {options.rounds} rounds", flush=True)
            break
        for name, (step, _) in rows.items():
            taken[name].append(ten(step, cuda))
    base = [each.events or each.wall for each in taken["AdamW, fused"]]
    heads = "optimizer", "events, ms", "wall, ms", "over AdamW", "least..most", "kernels", "GB/s", "first step, s"
    print(f"\n| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for name, (step, first) in rows.items():
        mine = [each.events or each.wall for each in taken[name]]
        ratios = sorted(one / other for one, other in zip(mine, base))
        events = f"{statistics.median(mine):.3f}" if cuda else "not on a CPU"
        wall = statistics.median(each.wall for each in taken[name])
        seen = f"{kernels(step):.0f}" if cuda else "not on a CPU"
        speed = PASSES * count / statistics.median(mine) / 1e6
        print(
            f"| {name} | {events} | {wall:.3f} | {statistics.median(ratios):.2f} | {ratios[0]:.2f}..{ratios[-1]:.2f} | "
            f"{seen} | {speed:.0f} | {first:.1f} |",
            flush=True,
        )


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--sizes", choices=tuple(SIZES), nargs="+", default=["34M", "350M"])
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--minutes", type=float, default=7.0)
    arguments.add_argument("--device", default="cuda")
    options = arguments.parse_args()
    until = time.monotonic() + 60 * options.minutes
    cuda = options.device != "cpu"
    print(f"{torch.cuda.get_device_name() if cuda else 'CPU'}, torch {torch.__version__}")
    if not cuda:
        print("not measured on a CPU: events, kernels, CUDA graphs; GB/s and ratios are of the wall")
    for size in options.sizes:
        if time.monotonic() > until:
            print(f"\n{size}: the minutes are over", flush=True)
            continue
        table(size, options, until)
        if cuda:
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
