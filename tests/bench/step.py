"""Times optimizer steps on the parameters of a Llama and prints ratios to the fused AdamW of torch.

    python tests/bench/step.py [--small] [--rounds N] [--device cuda]

No model is run: parameters and gradients are random numbers of the right shapes.
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


class Big(handmade.Shape):
    width, units, heads, kv, head, layers, vocab = 512, 1376, 8, 8, 64, 8, 8192


class Small(handmade.Shape):
    width, units, heads, kv, head, layers, vocab = 256, 688, 4, 4, 64, 4, 4096


class Bigger(handmade.Shape):
    width, units, heads, kv, head, layers, vocab = 768, 2048, 12, 12, 64, 12, 16384


def once(optimizer: torch.optim.Optimizer, cuda: bool) -> float:
    start = time.perf_counter()
    optimizer.step()
    if cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--size", choices=("small", "big", "bigger"), default="big")
    arguments.add_argument("--rounds", type=int, default=4)
    arguments.add_argument("--device", default="cpu")
    arguments.add_argument("--profile", action="store_true")
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
    floor = statistics.fmean(times["AdamW fused"])
    state = {
        name: sum(x.numel() for s in o.state_dict()["state"].values() for x in s.values()) for name, o in runs.items()
    }
    print(f"{count / 1e6:.1f}M parameters, {torch.get_num_threads()} threads")
    for name, taken in times.items():
        mean = statistics.fmean(taken)
        print(
            f"{name:28} {mean * 1e3:8.1f} ms  {mean / floor:5.2f} x fused  "
            f"median {statistics.median(taken) * 1e3:8.1f} ms  "
            f"{mean / count * 1e9:6.2f} ns/parameter  state {state[name] / state['AdamW fused']:.3f}"
        )


if __name__ == "__main__":
    main()
