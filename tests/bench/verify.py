"""Times what a person waits for, as whole processes: `gaugec verify` of every shipped spec, `gaugec compile` of a Llama.

    python tests/bench/verify.py [--rounds N] [--layers 2 8 16 32] [--find]

Medians of N runs, each in a process of its own that imports, reads, proves and writes everything anew.  Next to the time
on the wall is the time of the processor, which other processes disturb less.  A compile is of a small `transformers`
Llama; its time in `torch.export` is told apart, and the time that finding and proving sites takes per layer.  Nothing is
asserted here: tests/test_recheck.py counts proofs, which no clock disturbs.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STAGES = """
import json, sys, time
import torch, transformers
import gaugec, gaugec.driver, gaugec.finding, gaugec.trace
from gaugec import prove

layers, spent = int(sys.argv[1]), {}

def timed(owner, name, label):
    inner = getattr(owner, name)
    def outer(*args, **kwargs):
        start = time.process_time()
        try:
            return inner(*args, **kwargs)
        finally:
            spent[label] = spent.get(label, 0.0) + time.process_time() - start
    setattr(owner, name, outer)

timed(gaugec.trace, "exported", "export")
timed(gaugec.finding.Finder, "sites", "sites")
timed(gaugec.driver, "_witnessed", "witness")
timed(gaugec.driver, "verify", "verify")
config = transformers.LlamaConfig(hidden_size=24, intermediate_size=29, num_hidden_layers=layers, num_attention_heads=4,
    num_key_value_heads=2, head_dim=6, vocab_size=41, pad_token_id=0, bos_token_id=1, eos_token_id=2)
torch.manual_seed(0)
model = transformers.LlamaForCausalLM(config).train()
inputs = {"input_ids": torch.randint(3, 41, (3, 5)), "use_cache": False}
start = time.process_time()
made = gaugec.compile("llama", model, (), inputs, loss="cross_entropy")
spent["compile"] = time.process_time() - start
made.save(sys.argv[2])
print(json.dumps(spent | {"count": len(made.sites), "structures": len(made.metadata["structures"]),
    "proofs": prove.proofs_made(), "bytes": len(made.source)}))
"""


def whole(words: list[str], folder: str) -> tuple[float, float, str]:
    """Seconds on the wall and of the processor that one process takes, and what it printed."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    done = subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


def median(runs: list[tuple[float, float, str]], column: int) -> float:
    return statistics.median(float(run[column]) for run in runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--layers", type=int, nargs="*", default=[2, 8, 16, 32])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        names = ["-c", "import gaugec.language as l; print(*l.shipped())"]
        specs = whole(names, folder)[2].split()
        print(f"{'gaugec verify':14} {'wall s':>8} {'cpu s':>8}")
        for spec in specs:
            runs = [whole(["-m", "gaugec", "verify", spec], folder) for _ in range(options.rounds)]
            print(f"{spec:14} {median(runs, 0):8.1f} {median(runs, 1):8.1f}", flush=True)
        (Path(folder) / "stages.py").write_text(STAGES)
        print(f"\n{'compile':>8} {'wall s':>8} {'cpu s':>8}  of which cpu s: {'verify':>7} {'export':>7} {'sites':>7}"
              f" {'witness':>8}  {'sites':>6} {'structures':>10} {'proofs':>7} {'kB':>6}")  # fmt: skip
        for layers in options.layers:
            runs = [whole(["stages.py", str(layers), "made.py"], folder) for _ in range(max(1, options.rounds // 2))]
            told = [json.loads(run[2].splitlines()[-1]) for run in runs]
            part = {key: statistics.median(each[key] for each in told) for key in told[0]}
            print(f"{layers:>3} layer {median(runs, 0):8.1f} {median(runs, 1):8.1f} {'':17}{part['verify']:7.2f}"
                  f" {part['export']:7.2f} {part['sites']:7.2f} {part['witness']:8.2f}  {part['count']:6.0f}"
                  f" {part['structures']:10.0f} {part['proofs']:7.0f} {part['bytes'] / 1000:6.0f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
