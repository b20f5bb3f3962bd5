"""The finite numeric check: the exported graph in float64, before and after random finite group elements.

Casts between floating types are made neutral (norms often compute in float32, which would hide errors below 1e-7);
parameters are drawn at random, so that a zero-initialised one hides nothing.  The control moves one parameter of a site
alone (or, where the site has one, by an element outside the group): the output must change, so that the check can fail.

What this module does not do: it is no proof, and it shares no code with the prover or the emitted module.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gaugec.errors import first_line
from gaugec.model.preserve import SMALL
from gaugec.sites import Binding, Site
from gaugec.witness.elements import element, move, moved, view
from gaugec.witness.interpreter import Runner

Elements = list[Tensor]


@dataclass(frozen=True)
class Witness:
    """What was measured.

    error: largest relative change of an output under an element of every gauge at once (float64).
    control: the smallest relative change when only one parameter of a site moved, over `controls` such runs.
    by_gauge: the error of each gauge alone.
    dead: numbers of sites at which nothing changed when a parameter moved alone, and by what is outside the group.
    note: why there is none: the model is too large to run here, or float64 cannot run its graph.
    """

    error: float
    control: float
    controls: int
    by_gauge: tuple[tuple[str, float], ...] = ()
    note: str = ""
    dead: tuple[int, ...] = ()

    @property
    def ok(self) -> bool:
        """Did nothing change that must not (1e-10), and something at every site where it must (1e-6)?"""
        return bool(self.note) or (self.error <= 1e-10 and not self.dead)


def reference(runner: Runner, shapes: Mapping[str, tuple[int, ...]], before: Sequence[Tensor]) -> list[float]:
    """How much each output changes when all parameters do: the scale against which a change is measured."""
    other = runner.run(runner.parameters(shapes))
    scales: list[float] = []
    for a, b in zip(before, other, strict=True):
        finite = torch.isfinite(a) & torch.isfinite(b)
        scales.append((a - b)[finite].abs().max().item() if bool(finite.any()) else 0.0)
    return scales


def change(before: Sequence[Tensor], after: Sequence[Tensor], scales: Sequence[float], *, noise: float) -> float:
    """The largest change of an output against its scale; infinite where what is finite changed.

    Rounding is no change: differences below `noise` units in the last place of an entry are not counted.  An output
    that no parameter reaches must not change at all.
    """
    worst = 0.0
    for a, b, scale in zip(before, after, scales, strict=True):
        if a.numel() == 0:
            continue
        finite = torch.isfinite(a)
        if not torch.equal(finite, torch.isfinite(b)):
            return math.inf
        difference = (a - b)[finite].abs() - noise * torch.finfo(torch.float64).eps * a[finite].abs()
        largest = max(difference.max().item(), 0.0) if difference.numel() else 0.0
        if largest > 0:
            worst = max(worst, largest / scale if scale > 0 else math.inf)
    return worst


def witness(
    runner: Runner, shapes: Mapping[str, tuple[int, ...]], sites: Sequence[Site], *, seed: int = 0, budget: int = 24
) -> Witness:
    """Measures all sites; `budget` bounds the number of control runs (at least one for each gauge and role)."""
    if sum(math.prod(shape) for shape in shapes.values()) > SMALL:
        return Witness(0.0, math.inf, 0, note="the model has more than 3e8 parameters")
    try:
        return _measured(runner, shapes, sites, torch.Generator().manual_seed(seed), budget)
    except Exception as error:
        return Witness(0.0, math.inf, 0, note=f"the graph cannot run in float64: {first_line(error)[:200]}")


def _measured(
    runner: Runner,
    shapes: Mapping[str, tuple[int, ...]],
    sites: Sequence[Site],
    generator: torch.Generator,
    budget: int,
) -> Witness:
    parameters = runner.parameters(shapes)
    elements = [element(site, generator) for site in sites]
    before, seen = runner.kept(parameters)
    scales = reference(runner, shapes, before)
    everything = parameters
    by_gauge: list[tuple[str, float]] = []
    for gauge in dict.fromkeys(site.gauge for site in sites):
        own = [(site, e) for site, e in zip(sites, elements) if site.gauge == gauge]
        alone, everything = moved(parameters, own), moved(everything, own)
        by_gauge.append((gauge, change(before, runner.run(alone, seen), scales, noise=64)))
    error = change(before, runner.run(everything, seen), scales, noise=64) if sites else 0.0
    # The sites of one gauge and one set of roles are alike: a control run for each such kind, and as many more as the
    # budget allows.  A parameter may be dead by itself (a key's bias under softmax), so a site's control is the largest
    # change over its parameters; where each of them may take its share alone, it is what is outside the group.
    kinds: dict[object, list[int]] = {}
    for number, site in enumerate(sites):
        kinds.setdefault((site.gauge, tuple(b.role for b in site.bindings)), []).append(number)
    order = [number for row in itertools.zip_longest(*kinds.values()) for number in row if number is not None]
    control, runs = math.inf, 0
    dead: list[int] = []
    for position, number in enumerate(order):
        site, e = sites[number], elements[number]
        if _free(site):
            continue  # whatever moves it is an element: there is nothing else to compare with
        if runs >= budget and position >= len(kinds):
            break
        parts = range(len(site.bindings))
        largest = 0.0
        for outside, only in itertools.product((True,) if len(parts) == 1 else (False, True), parts):
            alone = _outside(parameters, site.bindings[only], generator) if outside else move(parameters, site, e, only)
            largest = max(largest, change(before, runner.run(alone, seen), scales, noise=4096))
            runs += 1
            if largest >= 1e-6:
                break
        if largest < 1e-6:
            dead.append(number)
        else:
            control = min(control, largest)
    return Witness(error, control, runs, tuple(by_gauge), dead=tuple(sorted(dead)))


def _free(site: Site) -> bool:
    """Is it one parameter that may be shifted to anything?"""
    (first, *more) = site.bindings
    return not more and first.move.kind == "shift" and math.prod(n for n, _ in first.group) == 1


def _outside(parameters: dict[str, Tensor], binding: Binding, generator: torch.Generator) -> dict[str, Tensor]:
    """A site's parameter moved by something that is not in the group: every entry by itself."""
    tensor = parameters[binding.parameter].clone().contiguous()
    target = view(tensor, binding)
    target.add_(0.5 * torch.randn(target.shape, generator=generator, dtype=torch.float64))
    return {**parameters, binding.parameter: tensor}
