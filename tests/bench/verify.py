"""Times what a person waits for, as whole processes: `gaugec verify` of shipped specs, `gaugec compile` of a Llama.

    python tests/bench/verify.py [--rounds 5] [--layers 2 8 16 32]

Medians of runs in processes of their own, that import, read, prove and write everything anew.  Next to the time on the
wall is the time of the processor, which other processes disturb less.  The Llama is a small one of `transformers`; the
time in `torch.export`, and that of finding and proving the sites, are told apart.  Nothing is asserted here:
tests/test_recheck.py counts proofs, which no clock disturbs.
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
import gaugec, gaugec.pipeline.compile, gaugec.pipeline.find, gaugec.tracing.trace
from gaugec.proof import prove

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

timed(gaugec.tracing.trace, "exported", "export")
timed(gaugec.pipeline.find.Finder, "sites", "sites")
timed(gaugec.pipeline.compile, "_witnessed", "witness")
timed(gaugec.pipeline.compile, "verify", "verify")
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
        heads = ["compile", "wall s", "cpu s", "verify", "export", "sites", "witness", "sites", "structures", "proofs"]
        print("\n" + " ".join(f"{head:>10}" for head in [*heads, "kB"]) + "   (verify to witness in cpu s)")
        for layers in options.layers:
            runs = [whole(["stages.py", str(layers), "made.py"], folder) for _ in range(max(1, options.rounds // 2))]
            told = [json.loads(run[2].splitlines()[-1]) for run in runs]
            part = {key: statistics.median(each[key] for each in told) for key in told[0]}
            times = [median(runs, 0), median(runs, 1), *(part[k] for k in ("verify", "export", "sites", "witness"))]
            counts = [part["count"], part["structures"], part["proofs"], part["bytes"] / 1000]
            cells = [f"{layers} layers", *(f"{x:.1f}" for x in times), *(f"{x:.0f}" for x in counts)]
            print(" ".join(f"{cell:>10}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
