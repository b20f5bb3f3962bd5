"""Two copies of one function, trained alike: how far the functions come apart.

The second copy is the first one moved by a random element of every gauge of a spec, so that it computes the same; or
the first one with a little noise on its parameters, which is what any optimizer makes of a difference that it sees.
"""

from __future__ import annotations

import copy
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from experiments.arms import Arm, compiled, gauges
from experiments.records import Record, Run
from experiments.tasks.addition import Addition

SEEDS = (0, 1)
STEPS = 400
LOOKS = (1, 2, 5, 10, 20, 50, 100, 200, 400)
TASK = {"prime": 31, "width": 32, "heads": 4, "depth": 2, "share": 0.4}
NOISE = 1e-7  # on every entry, of a standard normal number
ROTATIONS = """architecture rotations:
    use norm_gain from norms
    use value_rotation, qk_rotation from attention
    use logit_shift from head
"""
EVERY = """architecture every:
    use norm_gain from norms
    use value_basis, qk_basis from attention
    use logit_shift from head
    use token_position from biases
    use stream_rotation from stream
"""
HORIZONTAL = {"orbit": "horizontal"}
SPECS = {"rotations": ROTATIONS, "every gauge": EVERY}


def pairs() -> Iterator[tuple[Arm, str]]:
    """Every arm, with what its twin is moved by: the title of a spec, or "noise"."""
    for title in SPECS:
        yield Arm("AdamW", "AdamW"), title
    for title, spec in SPECS.items():
        yield Arm(f"DDCAdamW, {title}", "DDCAdamW", spec), title
        yield Arm(f"DDCAdamW, {title}, horizontal", "DDCAdamW", spec, HORIZONTAL), title
        yield Arm(f"DDCMuon, {title}", "DDCMuon", spec), title
    yield Arm("AdamW", "AdamW"), "noise"
    yield Arm("DDCAdamW, every gauge", "DDCAdamW", EVERY), "noise"


def settings(arm: Arm, moved_by: str, seed: int) -> dict[str, Any]:
    """All that a run depends on."""
    return {
        "study": "twins",
        "task": TASK,
        "arm": arm.settings,
        "gauges": gauges(arm.spec),
        "moved by": moved_by,
        "spec of the move": SPECS.get(moved_by, ""),
        "noise": NOISE,
        "seed": seed,
        "steps": STEPS,
        "looks": [look for look in LOOKS if look <= STEPS],
        "rate": 1e-3,
        "weight_decay": 0.1,
    }


def wanted(records: Sequence[Record], reduced: bool) -> list[Run]:
    """Every arm with every seed; of the reduced set the first seed."""
    return [
        Run(f"{arm.slug}--by-{moved_by.replace(' ', '-')}--{seed}", settings(arm, moved_by, seed))
        for arm, moved_by in pairs() for seed in SEEDS[: 1 if reduced else None]
    ]  # fmt: skip


def prepare(settings: Mapping[str, Any], cache: Path) -> None:
    """Compile what the optimizer respects and what the twin is moved by, where that is not done."""
    task = Addition(settings["task"])
    for spec in {settings["arm"]["spec"], settings["spec of the move"]} - {""}:
        compiled(spec, task.model(0), task.example(), settings["task"], cache)


def carried_out(settings: Mapping[str, Any], cache: Path) -> tuple[dict[str, float], list[dict[str, float]]]:
    """Train both; a row at each look: how far the logits are apart, over their size, and what both have learned."""
    arm, task = Arm.of(settings["arm"]), Addition(settings["task"])
    here = task.model(settings["seed"])
    there, directions = twin(here, task, settings, cache)
    gauge = None
    if arm.spec:
        gauge, _ = compiled(arm.spec, task.model(0), task.example(), settings["task"], cache)
    options = {"lr": settings["rate"], "weight_decay": settings["weight_decay"]}
    both = [(model, arm.made(model, gauge, **options)) for model in (here, there)]
    with torch.no_grad():
        moved = max((p - q).abs().max().item() for p, q in zip(here.parameters(), there.parameters()))
    rows = list[dict[str, float]]()
    for step in range(1, settings["steps"] + 1):
        losses = []
        for model, optimizer in both:
            optimizer.zero_grad()
            loss = task.loss(model)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        if step in settings["looks"]:
            p, q = task.logits(here), task.logits(there)
            apart = ((p - q).norm() / (0.5 * (p.norm() + q.norm()))).item()
            rows.append({
                "step": step, "drift": apart, "training": losses[0], "training of the twin": losses[1],
                "accuracy": task.accuracy(p), "accuracy of the twin": task.accuracy(q),
            })  # fmt: skip
    return {"directions": directions, "moved by at most": moved}, rows


def twin(model: nn.Module, task: Addition, settings: Mapping[str, Any], cache: Path) -> tuple[nn.Module, int]:
    """The second copy, and along how many dead directions it was moved."""
    generator = torch.Generator().manual_seed(100 + settings["seed"])
    if spec := settings["spec of the move"]:
        gauge, directions = compiled(spec, task.model(0), task.example(), settings["task"], cache)
        return gauge.random_copy(model, generator), directions
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.add_(noise, alpha=settings["noise"])
    return other, 0


SHOWN = (1, 10, 100, 400)


def drifts(records: Sequence[Record]) -> Iterator[tuple[Arm, str, list[Record], dict[int, float]]]:
    """Every arm and what its twin is moved by, with its records and the largest drift of its seeds at each look."""
    for arm, moved_by in pairs():
        found = [r for r in records if r.settings["arm"] == arm.settings and r.settings["moved by"] == moved_by]
        if found:
            looks = [{int(row["step"]): row["drift"] for row in record.rows} for record in found]
            yield arm, moved_by, found, {step: max(look[step] for look in looks) for step in looks[0]}


def table(records: Sequence[Record]) -> str:
    """A line for each arm."""
    heads = ["arm", "twin moved by", "dead directions", *(f"after {n}" for n in SHOWN), "training loss, the twin's"]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for arm, moved_by, found, largest in drifts(records):
        losses = [statistics.fmean(r.last[key] for r in found) for key in ("training", "training of the twin")]
        columns = [arm.title, moved_by, f"{found[0].figures['directions']:.0f}"]
        columns += [f"{largest[n]:.0e}" for n in SHOWN if n in largest]
        lines.append(f"| {' | '.join([*columns, ', '.join(f'{loss:.3f}' for loss in losses)])} |")
    return "\n".join(lines)


def plot(records: Sequence[Record], path: Path) -> None:
    """Draw the drift of every arm over the steps, into an SVG file."""
    import matplotlib
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot(xlabel="step", ylabel="difference of the logits", xscale="log", yscale="log")
    for arm, moved_by, _, largest in drifts(records):
        axes.plot([*largest], [*largest.values()], label=f"{arm.title}; moved by {moved_by}", linewidth=1.2)
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    with matplotlib.rc_context({"svg.hashsalt": "gaugec", "svg.fonttype": "none"}):  # the same to the byte, with text
        figure.savefig(path, metadata={"Date": None})
