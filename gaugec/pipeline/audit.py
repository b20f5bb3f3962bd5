"""Auditing a list of gauges: how many directions of the parameters are dead, and how many of them the gauges explain.

Dead are the directions along which no output moves, whatever the input: the null space of the Jacobian at random
parameters. A gauge explains the tangents of its orbit. Where both numbers are equal, the list is complete.

What this module does not do: it looks for no gauge, and believes no proof: it counts. Not here either: what a person
is shown (see `audited` and `page`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gaugec.errors import MatchError
from gaugec.language import show_theorem
from gaugec.language.tree import Spec
from gaugec.model.guest import Model
from gaugec.pipeline.audited import Audit, Explained, Scaled, Share
from gaugec.pipeline.compile import compile
from gaugec.pipeline.compiled import CompiledGauge
from gaugec.progress import stage
from gaugec.tracing.trace import Trace
from gaugec.witness import bases, rank
from gaugec.witness.carriers import Dwelling, carriers
from gaugec.witness.jacobian import Jacobian, Vocabulary, vocabularies
from gaugec.witness.tangents import dimension, tangents

WHOLE = 3000  # parameters whose singular vectors are found in minutes
LIMIT = 10000  # parameters that are looked at beside the orbit in minutes
CARRIED = 600  # dead directions among which small sets of parameters are looked for
LITTLE = 1e-9  # of a trace: nothing
EPS = 0.1  # with it, what is nearly dead is plainly alive

Shapes = Mapping[str, tuple[int, ...]]


def audit(
    spec: str | Path | Spec,
    model: Model,
    args: Sequence[Any] | Mapping[str, Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    loss: str | None = None,
    outputs: str | int | Sequence[str | int] | None = None,
    fixed: str | Sequence[str] = (),
    twin: Model | tuple[Any, ...] | None = None,
) -> Audit:
    """Count the dead directions of a model, and those that the gauges of a spec explain.

    spec, model, args, kwargs, loss, outputs, fixed: as for `gaugec.compile`.  The model is looked at at random
    parameters, in float64 and without casts, at inputs that are drawn again and again.  twin: for a model of more than
    10,000 parameters, a small model of the same structure as for `gaugec.compile`, which is counted in its place; what
    the gauges explain of the model then follows by the formulas of the groups.

    Raises what `gaugec.compile` raises, and MatchError for a model of more than 10,000 parameters without a twin.
    """
    words = dict(loss=loss, outputs=outputs, fixed=fixed)
    compiled = compile(spec, model, args, kwargs, twin=twin, **words)  # type: ignore[arg-type]
    if twin is None:
        return counted(compiled, type(model).__name__)
    small = twin if isinstance(twin, tuple) else (twin, args, kwargs)
    return counted(compile(spec, *small, **words), type(small[0]).__name__, compiled, type(model).__name__)  # type: ignore[arg-type]


def counted(compiled: CompiledGauge, name: str, large: CompiledGauge | None = None, large_name: str = "") -> Audit:
    """The audit of what was compiled, a model of this name; large: of which it is the twin."""
    traced = compiled.traced
    shapes = _trained(traced)
    total = _entries(shapes)
    if total > LIMIT:
        raise MatchError(
            f"the model has {total:,} parameters, and {LIMIT:,} are counted at most",
            help="give a small model of the same structure: few layers, narrow, with a vocabulary wider than it; "
            "as twin=, on the command line --twin, it is counted in place of this one",
        )
    count = _Count(compiled, shapes, 0)
    notes = list(_narrow(traced))
    if count.left and total <= WHOLE:
        with stage("counting at another point"):
            other = _Count(compiled, shapes, 1)
        if len(other.null) != len(count.null):
            more, count = abs(len(other.null) - len(count.null)), min(count, other, key=lambda c: len(c.null))
            notes.append(f"at another random point {more} more are dead: at such a point something is inactive")
    kept, data = count.null, 0 if not count.left else None
    tables = vocabularies(traced)
    if count.left and tables:
        with stage("counting with a larger vocabulary"):
            kept = count.with_more_rows(tables)
        data = len(count.null) - len(kept)
    with stage("counting without eps"):
        sharp = count.sharp()
    if not sharp.clear:
        notes.append("how many more are dead where every eps is 0 is in doubt: no clear gap is there")
    carried: list[Dwelling] = []
    if len(kept) > len(count.explained) and len(kept) <= CARRIED:
        with stage("looking where they live"):
            carried = carriers(kept, count.explained, count.places)
    elif len(kept) > len(count.explained):
        notes.append(f"which parameters carry what is not explained is looked for up to {CARRIED:,} dead directions")
    gauges, error = _gauges(compiled, count, large), max(count.errors.values(), default=0.0)
    notes += [
        f"a tangent of {gauge} moves the outputs by {far:.0e} of what the most visible direction does: it explains "
        "nothing, and is not what was proved; please report it"
        for gauge, far in count.errors.items()
        if far >= rank.FLOOR
    ]
    found = count.spectrum
    return Audit(
        spec=str(compiled.metadata["spec"]),
        model=name,
        parameters=total,
        unread=len(found.unread),
        nullity=len(count.null),
        orbit=len(count.orbit),
        data=data,
        unexplained=len(kept) - len(count.explained),
        approximate=len(sharp.null) - len(count.null),
        alive=found.alive,
        least=found.least,
        clear=found.clear and error < rank.FLOOR,
        whole=total <= WHOLE,
        rows=found.rows,
        error=error,
        shares=tuple(_shares(count, kept)),
        gauges=tuple(gauges),
        carriers=tuple(carried),
        notes=tuple(notes),
        scaled=None if large is None else _scaled(gauges, count, large, large_name),
        certificate=compiled.metadata,
    )


class _Count:
    """What was counted at one random point.

    spectrum: of the Jacobian; null: an orthonormal basis of what is dead, one a row, over the entries of the trained
    parameters in their order.  alone: of every gauge with a site an orthonormal basis of its orbit; orbit: of all
    together.  Both are without the entries that nothing reads, and without gauges whose tangents are not dead.
    explained: the orbit with these entries.  errors: by gauge how far a tangent moves the outputs.
    """

    def __init__(self, compiled: CompiledGauge, shapes: Shapes, seed: int) -> None:
        self.traced, self.shapes = compiled.traced, shapes
        total = _entries(shapes)
        with stage("drawing a point"):
            self.point = rank.generic(self.traced, shapes, seed)
        by_gauge: dict[str, list[Any]] = {}
        with stage("counting the orbits"):
            for site in compiled.sites:
                by_gauge.setdefault(site.gauge, []).append(tangents(self.point, site, shapes))
            every = {gauge: bases.stacked(parts) for gauge, parts in by_gauge.items()}
        jacobian = Jacobian(self.traced, self.point, shapes, EPS)
        with stage("counting dead directions"):
            if total <= WHOLE:
                self.spectrum = rank.dead(jacobian)
            else:
                self.spectrum = rank.beside(jacobian, bases.span(bases.stacked([*every.values()], total)))
        self.null = self.spectrum.null
        with stage("counting the orbits"):
            self.errors = {gauge: rank.moved(x, self.spectrum.matrix) for gauge, x in every.items()}
            self.alone = {
                gauge: bases.span(bases.without(x, self.spectrum.unread))
                for gauge, x in every.items()
                if self.errors[gauge] < rank.FLOOR
            }
            self.orbit = bases.span(bases.stacked([*self.alone.values()], total))
            self.explained = bases.stacked([self.orbit, bases.units(self.spectrum.unread, total)], total)

    @property
    def left(self) -> int:
        """How many dead directions are neither explained nor unread."""
        return len(self.null) - len(self.explained)

    @property
    def places(self) -> dict[str, slice]:
        """The columns of every parameter."""
        found, start = {}, 0
        for name, shape in self.shapes.items():
            found[name] = slice(start, start + math.prod(shape))
            start += math.prod(shape)
        return found

    def with_more_rows(self, tables: Mapping[str, Vocabulary]) -> Any:
        """A basis of what stays dead when tables have more rows."""
        more = rank.longer({name: (max(v.rows, v.width + 1), v.width) for name, v in tables.items()})
        wider = rank.beside(Jacobian(self.traced, self.point, self.shapes, EPS, more))
        return rank.read_of(wider, self.null.shape[1])

    def sharp(self) -> rank.Spectrum:
        """What is dead where every eps is 0, beside what is dead with one."""
        return rank.beside(Jacobian(self.traced, self.point, self.shapes, 0.0), self.null)


def _trained(traced: Trace) -> dict[str, tuple[int, ...]]:
    return {name: shape for name, shape in traced.shapes.items() if name not in traced.frozen}


def _entries(shapes: Shapes) -> int:
    return sum(math.prod(shape) for shape in shapes.values())


def _narrow(traced: Trace) -> list[str]:
    """What is to be said of tables that are too short to show all that their readers can do."""
    return [
        f"{name} has {v.rows} rows of length {v.width}: they do not span what is read, so that more may be dead than "
        "with a larger vocabulary"
        for name, v in vocabularies(traced).items()
        if v.rows <= v.width
    ]


def _shares(count: _Count, kept: Any) -> Iterator[Share]:
    data, rest = bases.apart(count.null, kept), bases.apart(kept, count.explained)
    for name, place in count.places.items():
        reached = {gauge: bases.trace(basis, place) for gauge, basis in count.alone.items()}
        yield Share(
            parameter=name,
            shape=tuple(count.shapes[name]),
            entries=place.stop - place.start,
            dead=bases.trace(count.null, place),
            explained=bases.trace(count.orbit, place),
            unread=sum(place.start <= column < place.stop for column in count.spectrum.unread.tolist()),
            data=bases.trace(data, place),
            unexplained=bases.trace(rest, place),
            gauges=tuple((gauge, part) for gauge, part in reached.items() if part > LITTLE),
        )


def _gauges(compiled: CompiledGauge, count: _Count, large: CompiledGauge | None) -> list[Explained]:
    found = []
    for entry, theorem in zip(compiled.spec.entries, compiled.verification.theorems, strict=True):
        sites = [site for site in compiled.sites if site.gauge == theorem.name]
        theirs = [site for site in large.sites if site.gauge == theorem.name] if large is not None else []
        found.append(
            Explained(
                gauge=theorem.name,
                doc=entry.gauge.doc,
                theorem=show_theorem(entry.gauge),
                group=", ".join(sorted({site.group for site in sites})),
                verdict=", ".join(sorted({site.verdict for site in sites})) or theorem.verdict,
                sites=len(sites),
                orbit=len(count.alone.get(theorem.name, ())),
                formula=sum(map(dimension, sites)),
                large=None if large is None else sum(map(dimension, theirs)),
            )
        )
    return found


def _scaled(gauges: Sequence[Explained], count: _Count, large: CompiledGauge, name: str) -> Scaled:
    exact = sum(each.formula for each in gauges) == len(count.orbit)
    return Scaled(name, _entries(_trained(large.traced)), sum(each.large or 0 for each in gauges), exact)
