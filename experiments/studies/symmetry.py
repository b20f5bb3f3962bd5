"""What respecting more symmetry costs: loss at an equal budget, each arm at its best rate; state; step time."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments import grids
from experiments.arms import Arm, compiled, gauges
from experiments.records import Record, Run, Unreadable
from experiments.tasks.characters import Characters, text_hash
from experiments.training import costs, state_bytes, trained

SEEDS = (0, 1, 2)
RATES = (2e-3, 2.8e-3, 4e-3, 5.6e-3, 8e-3, 16e-3)
STEPS, LOOK_EVERY = 300, 100
BASE = Arm("AdamW", "AdamW", options={"fused": True})


def _llama(name: str, **instead: str) -> str:
    """The shipped spec of Llama with one gauge more, or a larger one in the place of one."""
    lines_of = {"value_rotation": "value_rotation from attention", "more": ""} | instead
    lines = ["norm_gain from norms", "swiglu_rescale from mlp", lines_of["value_rotation"]]
    lines += ["qk_rotation_rope from attention", "logit_shift from head", lines_of["more"]]
    return f"architecture {name}:\n" + "".join(f"    use {line}\n" for line in lines if line)


HORIZONTAL = {"orbit": "horizontal"}
ARMS = {
    "llama": (
        BASE,
        Arm("norm_gain alone", "DDCAdamW", "architecture gains:\n    use norm_gain from norms\n"),
        Arm("llama", "DDCAdamW", "llama"),
        Arm("llama, no pooling", "DDCAdamW", "llama", {"pooling": False}),
        Arm("llama, horizontal", "DDCAdamW", "llama", HORIZONTAL),
        Arm("llama + value_basis", "DDCAdamW", _llama("with_bases", value_rotation="value_basis from attention")),
        Arm("llama + qk_pairs", "DDCAdamW", _llama("with_pairs", more="qk_pairs from planes")),
        Arm("llama + stream_rotation", "DDCAdamW", _llama("with_stream", more="stream_rotation from stream")),
        Arm("llama_full", "DDCAdamW", "llama_full"),
        Arm("llama_full, no pooling", "DDCAdamW", "llama_full", {"pooling": False}),
        Arm("llama_full, horizontal", "DDCAdamW", "llama_full", HORIZONTAL),
    ),
    "gpt2": (
        BASE,
        Arm("gpt2", "DDCAdamW", "gpt2"),
        Arm("gpt2, horizontal", "DDCAdamW", "gpt2", HORIZONTAL),
        Arm("gpt2_full", "DDCAdamW", "gpt2_full"),
    ),
}
SIZES: dict[str, dict[str, Any]] = {
    "llama": dict(
        hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=64, tie_word_embeddings=False, attn_implementation="eager",
    ),
    "gpt2": dict(
        n_embd=48, n_inner=128, n_layer=2, n_head=4, n_positions=64, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        attn_implementation="eager",
    ),
}  # fmt: skip
REDUCED = {"llama": ("AdamW", "llama", "llama_full")}


def settings(kind: str, arm: Arm, rate: float, seed: int) -> dict[str, Any]:
    """All that a run depends on."""
    return {
        "study": "symmetry",
        "task": {"kind": kind, "sizes": SIZES[kind], "length": 64, "batch": 8},
        "text": text_hash(),
        "arm": arm.settings,
        "gauges": gauges(arm.spec),
        "rate": rate,
        "seed": seed,
        "steps": STEPS,
        "look_every": LOOK_EVERY,
        "schedule": "up a tenth, then down to 0",
        "betas": [0.9, 0.99],
        "weight_decay": 0.1,
    }


def wanted(records: Sequence[Record], reduced: bool) -> list[Run]:
    """Every arm at every rate with every seed; of the reduced set three arms at three rates."""
    runs = []
    for kind, arms in ARMS.items():
        if reduced:
            arms, rates = tuple(arm for arm in arms if arm.title in REDUCED.get(kind, ())), list(RATES[:5:2])
        else:
            rates = grids.extended(RATES, {arm.title: of(records, kind, arm.title) for arm in arms}, "validation")
        runs += [
            Run(f"{kind}--{arm.slug}--{rate:g}--{seed}", settings(kind, arm, rate, seed))
            for arm in arms for rate in rates for seed in SEEDS
        ]  # fmt: skip
    return runs


def prepare(settings: Mapping[str, Any], cache: Path) -> None:
    """Compile the arm's spec in this model, where that is not done."""
    arm = Arm.of(settings["arm"])
    if arm.spec:
        task = Characters(settings["task"])
        compiled(arm.spec, task.model(0), task.example(), settings["task"], cache)


def carried_out(settings: Mapping[str, Any], cache: Path) -> tuple[dict[str, float], list[dict[str, float]]]:
    """Train, and measure state and step; figures: parameters, dead directions, bytes of state, ratios of time."""
    arm, task, seed = Arm.of(settings["arm"]), Characters(settings["task"]), settings["seed"]
    model = task.model(seed)
    gauge, directions = (None, 0)
    if arm.spec:
        gauge, directions = compiled(arm.spec, task.model(0), task.example(), settings["task"], cache)
    options = {"lr": settings["rate"], "betas": tuple(settings["betas"]), "weight_decay": settings["weight_decay"]}
    optimizer = arm.made(model, gauge, **options)
    rows = trained(task, model, optimizer, 1000 + seed, settings)
    figures = {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "directions": directions,
        "state bytes": state_bytes(optimizer),
        **costs(task, model, optimizer),
    }
    return figures, rows


def of(records: Sequence[Record], kind: str, title: str) -> list[Record]:
    """The records of one arm in one model."""
    return [r for r in records if r.settings["task"]["kind"] == kind and r.settings["arm"]["title"] == title]


HEAD = (
    "| arm | dead directions of its gauges | best rate | validation loss | over AdamW's | state, bytes a parameter "
    "| step | training step |\n|---|---|---|---|---|---|---|---|"
)


def table(records: Sequence[Record]) -> str:
    """Two tables for each model: each arm at the rate where the mean over its seeds is least, and at every rate.

    Raises Unreadable for records on different texts.
    """
    if len({record.settings["text"] for record in records}) > 1:
        raise Unreadable("these runs are on different texts, of different releases of Python: make them anew on one")
    parts = []
    for kind, arms in ARMS.items():
        base = of(records, kind, BASE.title)
        if not base:
            continue
        count = base[0].figures["parameters"]
        found = [here for arm in arms if (here := of(records, kind, arm.title))]
        lines = [f"{kind}, {count:,} parameters:", "", HEAD, *(row(here, base) for here in found)]
        lines += ["", f"{kind}, the mean validation loss at every rate:", "", *every_rate(found)]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def row(records: Sequence[Record], base: Sequence[Record]) -> str:
    """The line of an arm, beside AdamW's records."""
    rate = grids.best(records, "validation")
    chosen = {r.settings["seed"]: r for r in records if r.settings["rate"] == rate}
    against = grids.best(base, "validation")
    beside = {r.settings["seed"]: r for r in base if r.settings["rate"] == against}
    losses = [r.last["validation"] for r in chosen.values()]
    more = [r.last["validation"] - beside[seed].last["validation"] for seed, r in chosen.items() if seed in beside]
    tried = sorted({r.settings["rate"] for r in records})
    at_edge = " (the edge)" if rate in (tried[0], tried[-1]) else ""
    figures = [r.figures for r in records]
    arm = records[0].settings["arm"]
    columns = (
        arm["title"],
        f"{figures[0]['directions']:,}",
        f"{rate:g}{at_edge}",
        spread(losses),
        "" if arm["title"] == BASE.title else spread(more, "+"),
        f"{figures[0]['state bytes'] / figures[0]['parameters']:.2f}",
        f"{statistics.median(f['step over AdamW'] for f in figures):.1f}",
        f"{statistics.median(f['training step over AdamW'] for f in figures):.2f}",
    )
    return f"| {' | '.join(columns)} |"


def every_rate(arms: Sequence[Sequence[Record]]) -> list[str]:
    """The lines of a table: each arm at each rate, the mean over its seeds."""
    rates = sorted({record.settings["rate"] for records in arms for record in records})
    lines = [f"| arm | {' | '.join(f'{rate:g}' for rate in rates)} |", f"|{'---|' * (len(rates) + 1)}"]
    for records in arms:
        ends = [[r.last["validation"] for r in records if r.settings["rate"] == rate] for rate in rates]
        means = [f"{statistics.fmean(values):.3f}" if values else "" for values in ends]
        lines.append(f"| {' | '.join([records[0].settings['arm']['title'], *means])} |")
    return lines


def spread(values: Sequence[float], sign: str = "") -> str:
    """Mean ± standard deviation."""
    return f"{statistics.fmean(values):{sign}.3f} ± {statistics.stdev(values) if len(values) > 1 else 0:.3f}"
