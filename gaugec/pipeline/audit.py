"""Auditing a list of gauges: how many directions of the parameters are dead, and how many of them the gauges explain.

Dead are the directions along which no output moves, whatever the input: the null space of the Jacobian at random
parameters. A gauge explains the tangents of its orbit. Where both numbers are equal, the list is complete.

What this module does not do: it looks for no gauge, and believes no proof: it counts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gaugec.errors import MatchError
from gaugec.language.tree import Spec
from gaugec.model.guest import Model
from gaugec.pipeline.compile import compile
from gaugec.pipeline.compiled import CompiledGauge
from gaugec.progress import stage
from gaugec.witness.rank import Spectrum, dead, generic, nullity, span

LIMIT = 3000  # parameters whose singular vectors are found in minutes
EPS = 0.1  # with it, what is nearly dead is plainly alive
MORE = 1.15  # rows for every parameter


@dataclass(frozen=True)
class Share:
    """Of one parameter: entries, how many dead directions it has, and how many of them are explained; in parts."""

    parameter: str
    entries: int
    dead: float
    explained: float


@dataclass(frozen=True)
class Audit:
    """What was counted.

    parameters: entries that are trained.  unread: of these, that no output reads at any input that was drawn.
    nullity: dead directions, those included; with an eps of 0.1 in all norms.  orbit: dimension of the orbit of all
    gauges together.  approximate: how many directions more are dead where every eps is 0.  alive, least: the least
    singular value that counts, and the largest that does not, over the largest; clear: whether a gap is between them.
    shares: by parameter.  error: how far the tangent that moves the outputs most does, over what a random one does.
    """

    parameters: int
    unread: int
    nullity: int
    orbit: int
    approximate: int
    alive: float
    least: float
    clear: bool
    shares: tuple[Share, ...]
    error: float

    @property
    def unexplained(self) -> int:
        """Dead directions that no gauge of the spec explains."""
        return self.nullity - self.orbit - self.unread

    def text(self) -> str:
        """For people."""
        lines = [
            f"{self.parameters:,} parameters have {self.nullity} dead directions: the gauges explain {self.orbit}, "
            f"{self.unread} are entries that nothing reads, {self.unexplained} are not explained",
            f"least singular value that counts {self.alive:.0e}, largest that does not {self.least:.0e}, of the largest"
            + ("" if self.clear else ": NO CLEAR GAP, so that the count is in doubt"),
        ]
        if self.approximate:
            lines.append(f"{self.approximate} more where every eps is 0: symmetries but for eps")
        width = max(len(share.parameter) for share in self.shares)
        lines.append(f"{'parameter'.ljust(width)}  entries    dead  explained")
        lines += [
            f"{share.parameter.ljust(width)}  {share.entries:7}  {share.dead:6.1f}  {share.explained:9.1f}"
            for share in self.shares
        ]
        return "\n".join(lines)


def audit(
    spec: str | Path | Spec,
    model: Model,
    args: Sequence[Any] | Mapping[str, Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    loss: str | None = None,
    outputs: str | int | Sequence[str | int] | None = None,
    fixed: str | Sequence[str] = (),
) -> Audit:
    """Count the dead directions of a small model, and those that the gauges of a spec explain.

    spec, model, args, kwargs, loss, outputs, fixed: as for `gaugec.compile`.  The model is looked at at random
    parameters, in float64 and without casts, at inputs that are drawn anew for every row of the Jacobian.

    Raises what `gaugec.compile` raises, and MatchError for a model of more than 3,000 parameters.
    """
    compiled = compile(spec, model, args, kwargs, loss=loss, outputs=outputs, fixed=fixed)
    return counted(compiled)


def counted(compiled: CompiledGauge) -> Audit:
    """The audit of what was compiled; see `audit`."""
    traced = compiled.traced
    shapes = {name: shape for name, shape in traced.shapes.items() if name not in traced.frozen}
    total = sum(math.prod(shape) for shape in shapes.values())
    if total > LIMIT:
        raise MatchError(
            f"the model has {total:,} parameters, and {LIMIT:,} are counted at most",
            help="give a small model of the same structure: few layers, narrow, with a vocabulary wider than it",
        )
    point = generic(traced)
    with stage("counting dead directions"):
        spectrum = dead(traced, point, shapes, math.ceil(MORE * total), EPS)
    with stage("counting them without eps"):
        sharp = nullity(traced, point, shapes, math.ceil(MORE * total), 0.0)
    with stage("counting the orbit"):
        orbit, error = span(_tangents(compiled, point, shapes), spectrum)
    return _told(shapes, spectrum, sharp, orbit, error)


def _tangents(compiled: CompiledGauge, point: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> Any:
    """The tangents of the orbit at a point, one a row, over the parameters in their order."""
    found = []
    for _, component, names in compiled.places():
        values = {slot: point[name][None] for slot, name in zip(component.shapes, names, strict=True)}
        made = {names[i]: x[:, 0] for i, x in enumerate(component.tangents(values).values())}
        number = len(next(iter(made.values())))
        like = next(iter(made.values()))
        found.append([made.get(name, like.new_zeros(number, *shape)).flatten(1) for name, shape in shapes.items()])
    return found


def _told(
    shapes: Mapping[str, tuple[int, ...]], spectrum: Spectrum, sharp: int, orbit: Any, error: float
) -> Audit:
    shares, start = [], 0
    for name, shape in shapes.items():
        end = start + math.prod(shape)
        explained = float(orbit[:, start:end].square().sum())
        lost = float(spectrum.null[:, start:end].square().sum())
        shares.append(Share(name, end - start, lost, explained))
        start = end
    return Audit(
        parameters=start,
        unread=spectrum.unread,
        nullity=len(spectrum.null),
        orbit=len(orbit),
        approximate=sharp - len(spectrum.null),
        alive=spectrum.alive,
        least=spectrum.least,
        clear=spectrum.clear,
        shares=tuple(shares),
        error=error,
    )
