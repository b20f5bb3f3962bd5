"""Times a compile by its stages and by layers: a markdown table for docs/costs.md.

    python tests/bench/compile.py [--layers 2 8 32 80] [--device cpu] [--width 24]

Each row is a process of its own that compiles a Llama of transformers, of so many layers, from nothing.  `process` is
the time of the processor with imports and all, which other processes disturb less than the clock on the wall; stages
are on the wall, so let nothing else run.  `--device meta` is for shapes that no memory holds: the model is not run.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys

CHILD = """
import json, sys
import torch, transformers
import gaugec
from gaugec.progress import Progress, heard

layers, width, device = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
torch.manual_seed(0)
with torch.device(device):
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(
        hidden_size=width, intermediate_size=2 * width + 5, num_hidden_layers=layers, num_attention_heads=4,
        num_key_value_heads=2, vocab_size=41)).train()
    inputs = {"input_ids": torch.randint(3, 41, (3, 5)), "use_cache": False}
progress = Progress()
with heard(progress):
    made = gaugec.compile("llama", model, (), inputs, loss="cross_entropy")
print(json.dumps({"seconds": progress.seconds, "sites": len(made.sites)}))
"""


def main() -> None:
    """Print the table, a row as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, nargs="+", default=[2, 8, 32, 80])
    parser.add_argument("--width", type=int, default=24)
    parser.add_argument("--device", choices=("cpu", "meta"), default="cpu")
    options = parser.parse_args()
    environment = os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    before = 0.0
    for number, layers in enumerate(options.layers):
        words = [sys.executable, "-P", "-c", CHILD, str(layers), str(options.width), options.device]
        done = subprocess.run(words, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stdout + done.stderr)
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent, before = usage.ru_utime + usage.ru_stime - before, usage.ru_utime + usage.ru_stime
        told = json.loads(done.stdout.splitlines()[-1])
        if number == 0:
            heads = ["layers", "sites", "process", *told["seconds"]]
            print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
        cells = [layers, told["sites"], *(f"{x:.1f}" for x in (spent, *told["seconds"].values()))]
        print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()
