"""Times optimizer steps on the parameters of a Llama and prints ratios to the fused AdamW of torch.

    python tests/bench/step.py [--size small] [--rounds N] [--device cuda] [--compile]

No model is run: parameters and gradients are random numbers of the right shapes.  On one thread of a CPU the times are
those of the process, which other processes disturb less than the clock on the wall.

Passes over memory, counted as tensors of the parameters' size that are read or written, for a weight that one scale
moves (`PASSES`; AdamW reads p, g, m, v and writes p, m, v: 7):

    pull        g -> ĝ                 2        canonical   p -> θ̂             2
    canonical   p -> θ̂                 2        lift        u, θ̂ -> u          3
    decay       θ̂ -> u                 2        push        u -> u             2
    Adam        u, ĝ, m, v -> u, m, v  7        add         p, u -> p          3
    products    u θ̂ -> s, sum of s     4
    squares     θ̂ θ̂ -> s, sum of s     3

That is 30, but a step goes through them a tile at a time (`TILE_CPU`), and if a tile stays in the cache 10 of them
reach the memory: g, p, m, v read, m, v, u written; then p, u read, p written.  Compiled, there are only these 10.  A
second scale adds 6; a rotation of heads of width k reads and writes little and multiplies 6 k times an element.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "runtime"))
import handmade

from gaugec.runtime import DDCAdamW

PASSES = {"AdamW": "7", "eager": "30, 10 to memory", "compiled": "10"}


class Big(handmade.Shape):
    width, units, heads, kv, head, layers, vocab = 512, 1376, 8, 8, 64, 8, 8192


class Small(handmade.Shape):
    width, units, heads, kv, head, layers, vocab = 256, 688, 4, 4, 64, 4, 4096


class Bigger(handmade.Shape):
    width, units, heads, kv, head, layers, vocab = 768, 2048, 12, 12, 64, 12, 16384


def once(optimizer: torch.optim.Optimizer, cuda: bool) -> float:
    clock = time.process_time if not cuda and torch.get_num_threads() == 1 else time.perf_counter
    start = clock()
    optimizer.step()
    if cuda:
        torch.cuda.synchronize()
    return clock() - start


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--size", choices=("small", "big", "bigger"), default="big")
    arguments.add_argument("--rounds", type=int, default=4)
    arguments.add_argument("--device", default="cpu")
    arguments.add_argument("--profile", action="store_true")
    arguments.add_argument("--compile", action="store_true", help="time compile=True as well")
    options = arguments.parse_args()
    shape = {"small": Small, "big": Big, "bigger": Bigger}[options.size]
    torch.manual_seed(0)
    model = handmade.Llama(shape).to(options.device)
    count = sum(p.numel() for p in model.parameters())
    gauge = handmade.compiled(model, handmade.llama_sites(shape))
    for p in model.parameters():
        p.grad = torch.randn_like(p) * 1e-3
    cuda = options.device != "cpu"
    runs: dict[str, torch.optim.Optimizer] = {
        "AdamW fused": torch.optim.AdamW(model.parameters(), fused=True),
        "AdamW": torch.optim.AdamW(model.parameters(), foreach=False),
        "DDCAdamW, frames every 10": DDCAdamW(model.named_parameters(), gauge, frame_every=10),
    }
    ours = runs["DDCAdamW, frames every 10"]
    if options.compile:
        runs["the same, compiled"] = DDCAdamW(model.named_parameters(), gauge, frame_every=10, compile=True)
    once(ours, cuda)
    if options.profile:
        with torch.profiler.profile(record_shapes=True) as profile:
            for _ in range(3):
                once(ours, cuda)
        averages = profile.key_averages(group_by_input_shape=True)
        print(averages.table(sort_by="self_cpu_time_total", row_limit=25, max_name_column_width=40))
        return
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(options.rounds):
        for name, optimizer in runs.items():
            once(optimizer, cuda)
            times[name] += [once(optimizer, cuda) for _ in range(10)]
    floor = statistics.median(times["AdamW fused"])
    state = {
        name: sum(x.numel() for s in o.state_dict()["state"].values() for x in s.values()) for name, o in runs.items()
    }
    print(f"{count / 1e6:.1f}M parameters, {torch.get_num_threads()} threads")
    for name, taken in times.items():
        median = statistics.median(taken)
        kind = "AdamW" if name.startswith("AdamW") else "compiled" if "compiled" in name else "eager"
        print(
            f"{name:28} {median * 1e3:8.1f} ms  {median / floor:5.2f} x fused  "
            f"mean {statistics.fmean(taken) * 1e3:8.1f} ms  {median / count * 1e9:6.2f} ns/parameter  "
            f"state {state[name] / state['AdamW fused']:.3f}  passes {PASSES[kind]}"
        )


if __name__ == "__main__":
    main()
