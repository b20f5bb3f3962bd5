"""Times a compile by its stages and by layers: a markdown table for docs/costs.md.

    python tests/bench/compile.py [--layers 2 8 32 80] [--width 24]
    python tests/bench/compile.py --shape 70b

Each row is a process of its own that compiles a Llama of transformers, of so many layers, from nothing.  `process` is
the time of the processor with imports and all, which other processes disturb less than the clock on the wall; so are
the stages.  `GB` is the most memory that the process held.  `--shape 70b` has the sizes
of Llama 3 of 70 billion parameters, 80 layers of them, on the meta device: no numbers, and the model is not run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys

CHILD = """
import json, resource, sys, time
import torch, transformers
import gaugec
from gaugec.progress import Progress, heard

class Spent(Progress):
    def enter(self, name):
        self.count()
        self._stack.append(name)
        self.seconds.setdefault(name, 0.0)

    def leave(self):
        self.count()
        self._stack.pop()

    def count(self):
        since, self._since = self._since, time.process_time()
        if self._stack:
            self.seconds[self._stack[-1]] += self._since - since

sizes, device = json.loads(sys.argv[1]), sys.argv[2]
torch.manual_seed(0)
with torch.device(device):
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes)).train()
    inputs = {"input_ids": torch.randint(3, 41, (3, 5)), "use_cache": False}
spent = Spent()
with heard(spent):
    made = gaugec.compile("llama", model, (), inputs, loss="cross_entropy")
used = resource.getrusage(resource.RUSAGE_SELF)
parameters = sum(p.numel() for p in model.parameters())
print(json.dumps({"seconds": spent.seconds, "sites": len(made.sites), "process": used.ru_utime + used.ru_stime,
                  "memory": used.ru_maxrss / 2**20, "parameters": parameters}))
"""
LARGE = {
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
}


def main() -> None:
    """Print the table, a row as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, nargs="+")
    parser.add_argument("--width", type=int, default=24)
    parser.add_argument("--device", choices=("cpu", "meta"))
    parser.add_argument("--shape", choices=("small", "70b"), default="small")
    options = parser.parse_args()
    small = options.shape == "small"
    width = options.width
    sizes = {
        "hidden_size": width,
        "intermediate_size": 2 * width + 5,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 41,
    }
    environment = os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    device = options.device or ("cpu" if small else "meta")
    for number, layers in enumerate(options.layers or ([2, 8, 32, 80] if small else [80])):
        given = json.dumps({**(sizes if small else LARGE), "num_hidden_layers": layers})
        words = [sys.executable, "-P", "-c", CHILD, given, device]
        done = subprocess.run(words, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stdout + done.stderr)
        told = json.loads(done.stdout.splitlines()[-1])
        if number == 0:
            heads = ["layers", "parameters", "sites", "GB", "process", *told["seconds"]]
            print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
        numbers = [told["memory"], told["process"], *told["seconds"].values()]
        cells = [layers, f"{told['parameters']:,}", told["sites"], *(f"{x:.1f}" for x in numbers)]
        print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()
