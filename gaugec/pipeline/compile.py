"""The pipeline in one screen: load, prove, trace, match, prove again on the model, witness, derive, plan, emit, seal.

What this module does not do: it decides nothing by itself; each stage is a stranger to the others and is called here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gaugec import limits
from gaugec.certificate import write
from gaugec.codegen.derive import derive
from gaugec.codegen.emit import emit
from gaugec.codegen.plan import plan
from gaugec.errors import MatchError, ProofError
from gaugec.graph.roles import roles
from gaugec.groups import GROUPS
from gaugec.language import load
from gaugec.language.tree import Entry, Gauge, Spec
from gaugec.model.context import ordinary
from gaugec.model.guest import TORCH, Model
from gaugec.model.preserve import preserved
from gaugec.model.taken import Taken, taken, trainable
from gaugec.pipeline.assumed import assumed
from gaugec.pipeline.checked import Checked, checked
from gaugec.pipeline.compiled import CompiledGauge
from gaugec.pipeline.find import Finder
from gaugec.pipeline.gauged import gauged
from gaugec.pipeline.holding import dead
from gaugec.pipeline.matrices import compatible
from gaugec.pipeline.twin import Subject, same_sites, same_structure, subject_of
from gaugec.pipeline.verify import Verification, accepted
from gaugec.progress import counted, stage
from gaugec.proof.theorem import Theorem
from gaugec.runtime.seal import sealed
from gaugec.sites import Refusal, Site
from gaugec.tracing.trace import Trace, trace
from gaugec.witness.distinct import distinct


def compile(
    spec: str | Path | Spec,
    model: Model,
    args: Sequence[Any] | Mapping[str, Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    loss: str | None = None,
    outputs: str | int | Sequence[str | int] | None = None,
    fixed: str | Sequence[str] = (),
    limit: float | None = None,
    twin: Model | tuple[Any, ...] | None = None,
) -> CompiledGauge:
    """Compiles a spec against a model and its example inputs; see the README.

    The inputs are a tuple and a dict, or a mapping by name alone (a tokenizer's batch).  `outputs`: what counts in
    training of what the model returns, by name or index ("loss", ["logits"], 0): the others need not be kept; all by
    default.  `loss="cross_entropy"` says that the first that counts is logits that reach a softmax cross-entropy over
    the last axis and nothing else.  What DistributedDataParallel, DataParallel or torch.compile wrap is compiled in
    their place; a cache that the model's config has on is off where the caller does not say.

    A model whose structure follows a size of its inputs (interpolated positions, a loop over the length) is refused,
    unless that size is called `fixed`: "all", an input, or one of its axes ("pixel_values:2"), or several.  What is
    fixed is not varied, and the gauge's `holds` refuses every other size; "x:0=y:0" says that two sizes are one.

    The model may live on the meta device.  The model is not changed.  `limit`: the seconds that each
    proof may take, 20 unless given; what takes longer is not decided, and refused.  `twin`: a small model of the same
    structure, or (model, args) or (model, args, kwargs), in which what this one is too large for is looked at.

    Raises:
        SpecError: the spec cannot be read.  ProofError: a gauge of it is not proved.
        MatchError: the model fails, or cannot be traced, a required gauge has no site, the witness contradicts a proof,
            or the twin is none.
        ValueError: the limit is not a positive number.
    """
    with limits.each(limit), ordinary():
        return _compile(spec, taken(model, args, kwargs), loss, outputs, fixed, twin)


def _compile(
    spec: str | Path | Spec,
    given: Taken,
    loss: str | None,
    outputs: object,
    fixed: object,
    twin: Model | tuple[Any, ...] | None,
) -> CompiledGauge:
    loaded = spec if isinstance(spec, Spec) else load(str(spec))
    with stage("proving the spec"):
        verification = accepted(loaded)
    for entry, theorem, good in zip(loaded.entries, verification.theorems, verification.accepted):
        if not good:
            raise _unproved(entry, theorem)
    spec_file = loaded.name if isinstance(spec, Spec) else str(spec)
    with preserved(given.model):
        given = trainable(given)
        with stage("tracing"):
            traced = trace(given.model, given.args, given.kwargs, loss=loss, outputs=outputs, fixed=fixed)
        return build(loaded, spec_file, verification, traced, given, twin)


def build(
    loaded: Spec,
    spec_file: str,
    verification: Verification,
    traced: Trace,
    given: Taken,
    twin: Model | tuple[Any, ...] | None = None,
) -> CompiledGauge:
    """The second half of `compile`: an accepted spec and a traced model to a compiled gauge.

    Raises:
        MatchError: a required gauge has no site, or the witness contradicts a proof.
    """
    finder = Finder(traced)
    model, args, kwargs, *_ = given
    with stage("finding sites"):
        sites, refusals = _found(finder, loaded, verification)
    with stage("looking at them in numbers"):
        looked = checked(model, args, kwargs or {}, traced, sites)
    if twin is not None:
        large = Subject(model, tuple(args), dict(kwargs or {}), traced)
        looked = _on_the_twin(looked, large, twin, loaded, verification)
    looked = dead(looked, traced)
    sites, refusals = list(looked.sites), [*refusals, *looked.refusals]
    for entry in loaded.entries if looked.refusals else ():
        if entry.required and not any(site.gauge == entry.gauge.name for site in sites):
            raise _no_site(entry.gauge, [r for r in refusals if r.gauge == entry.gauge.name], traced)
    with stage("writing"):
        return _written(loaded, spec_file, verification, given, finder, looked, refusals)


def _written(
    loaded: Spec,
    spec_file: str,
    verification: Verification,
    given: Taken,
    finder: Finder,
    looked: Checked,
    refusals: Sequence[Refusal],
) -> CompiledGauge:
    sites, traced, model = list(looked.sites), finder.traced, given.model
    certificate = write.make(
        spec=loaded.name,
        spec_file=spec_file,
        spec_sha256=loaded.sha256,
        theorems=stated(verification.theorems),
        graph=traced.graph,
        sites=sites,
        loss=traced.loss,
        outputs=[str(name) for name in traced.counted.names],
        fixed=traced.fixed,
        taken=given.told,
        traced=traced.second,
        parameters=traced.shapes,
        tied={name: canonical for name, canonical in traced.names.items() if name != canonical},
        roles=compatible(roles(traced.graph, traced.leaves, traced.shapes), sites, traced.shapes),
        refused=[str(refused) for refused in refusals],
        gauged=gauged(sites, traced.shapes),
        ungauged={name: _why(name, sites, refusals, finder) for name in finder.ungauged(sites)},
        unchecked={"what": sites[0].unchecked if sites else "", "why": list(looked.why)},
        witness={
            "error": f"{looked.measured.error:.1e}",
            "control": f"{looked.measured.control:.1e}",
            "controls": looked.measured.controls,
            "note": looked.measured.note,
        },
        assumed=assumed(traced, given),
        torch=TORCH,
    )
    source = sealed(emit(plan(sites, derive(sites), traced.shapes), certificate, type(model).__name__))
    made = (tuple(sites), tuple(refusals), verification, looked.measured, traced)
    return CompiledGauge(source, *made, loaded, type(model).__name__)


def _found(finder: Finder, loaded: Spec, verification: Verification) -> tuple[list[Site], list[Refusal]]:
    sites: list[Site] = []
    refusals: list[Refusal] = []
    alone = _loss_alone(finder.traced)
    of_loss: Finder | None = None
    for entry, theorem in counted(list(zip(loaded.entries, verification.theorems))):
        found, refused = finder.sites(entry, theorem)
        if alone is not None and any(refusal.outputs for refusal in refused):
            of_loss = of_loss or Finder(alone)
            more, _ = of_loss.sites(entry, theorem)
            if len(more) > len(found):
                name = finder.traced.returned.get(alone.graph.outputs[0], 0)
                cure = f"; it would hold if the loss alone counted: outputs={name!r}"
                refused = [replace(r, note=r.note + cure) if r.outputs else r for r in refused]
        if entry.required and not found and not any(refusal.tied for refusal in refused):
            raise _no_site(entry.gauge, refused, finder.traced)
        sites += found
        refusals += refused
    return distinct(largest(sites), finder.traced.shapes), refusals


def _loss_alone(traced: Trace) -> Trace | None:
    """The trace as it would be if only its loss left the model; None where no loss does, or nothing beside it."""
    graph = traced.graph
    scalars = tuple(id for id in graph.outputs if not graph[id].shape)
    if len(scalars) != 1 or len(graph.outputs) < 2 or traced.loss is not None:
        return None
    return replace(traced, graph=replace(graph, outputs=scalars))


def _on_the_twin(
    looked: Checked, large: Subject, twin: Model | tuple[Any, ...], loaded: Spec, verification: Verification
) -> Checked:
    """What was looked at in a large model, and in its twin.

    Raises:
        MatchError: the twin is another structure, or was not looked at itself; or what is wrong in it.
    """
    small = subject_of(twin, large.args, large.kwargs, _as(large.traced))
    with preserved(small.model):
        same_structure(large, small)
        sites, _ = _found(Finder(small.traced), loaded, verification)
        seen = checked(small.model, small.args, small.kwargs, small.traced, sites)
    if seen.why:
        raise MatchError(f"the twin is not looked at itself: {seen.why[0]}", help="give a smaller one, with numbers")
    same_sites(looked.sites, seen.sites)
    if not looked.why:
        return looked
    count = sum(p.numel() for p in small.model.parameters())
    what = f"witnessed and gradient checked on a twin of {count:,} parameters"
    return replace(looked, sites=tuple(replace(site, unchecked=what) for site in looked.sites))


def _as(large: Trace) -> Callable[..., Trace]:
    """Traces what counts in a large model, in its twin."""
    return lambda *given: trace(*given, loss=large.loss, outputs=large.counted.names or None, fixed=large.fixed)


def stated(theorems: Sequence[Theorem]) -> list[dict[str, Any]]:
    """The theorems of a spec, as a certificate says them."""
    return [
        {
            "gauge": theorem.name,
            "verdict": theorem.verdict,
            "conditions": list(theorem.conditions),
            "steps": list(theorem.steps),
            "sampled": theorem.sampled > 0,  # how often depends on how busy the machine was
        }
        for theorem in theorems
    ]


def _why(name: str, sites: Sequence[Site], refusals: Sequence[Refusal], finder: Finder) -> str:
    """Why no gauge moves a parameter: that it is held, or the refusal that came nearest."""
    holders = dict.fromkeys(site.gauge for site in sites if name in site.held)
    if holders:
        return f"it is held by {', '.join(holders)}, and not stepped"
    for refusal in refusals:
        if refusal.near and name in refusal.parameters:
            return str(refusal)
    if name in finder.traced.blocked:
        return finder.traced.blocked[name]
    return str(finder.farthest[name][1]) if name in finder.farthest else "no gauge of the spec holds there"


def largest(sites: Sequence[Site]) -> list[Site]:
    """Where a group and its subgroup move the same parts of the same parameters, the larger is kept."""

    def acts_on(site: Site) -> object:
        return frozenset((b.parameter, b.offset, b.copies, b.group, b.move.kind) for b in site.bindings)

    there: dict[object, list[Site]] = {}
    for site in sites:
        others = there.setdefault(acts_on(site), [])
        if not any(site.group in (other.group, *GROUPS[other.group].subgroups) for other in others):
            others[:] = [other for other in others if other.group not in GROUPS[site.group].subgroups] + [site]
    return [site for site in sites if any(site is kept for kept in there[acts_on(site)])]


def _unproved(entry: Entry, theorem: Theorem) -> ProofError:
    reason = f": {theorem.reason}" if theorem.reason else ""
    shown = "".join(f"\n{line}" for line in replace(theorem, repair="").evidence)
    advice = theorem.repair or "run `gaugec verify --explain` on the spec for the steps"
    if theorem.verdict == "not decided" and not theorem.repair:
        advice = "say it in a smaller formula, or give the proof more time: `limit=`, on the command line `--limit`"
    return ProofError(f"{theorem.name} is {theorem.verdict}{reason}{shown}", entry.gauge.span, advice)


def _no_site(gauge: Gauge, refused: Sequence[Refusal], traced: Trace) -> MatchError:
    reasons = "".join("\n  " + refusal.explained().replace("\n", "\n  ") for refusal in refused[:3])
    advice = "mark its `use` line `optional` if the model need not have it"
    if any(refusal.dead for refusal in refused):
        advice = "give inputs that differ along every axis: tokens that are not all equal, a length of at least 2"
    if any(refusal.outputs for refusal in refused) and traced.loss is None:
        advice = 'if output 0 is logits that only reach a cross-entropy, say so with loss="cross_entropy"; or ' + advice
    return MatchError(f"{gauge.name} finds no site in the model{':' if reasons else ''}{reasons}", gauge.span, advice)


__all__: list[str] = ["Verification", "build", "compile"]
