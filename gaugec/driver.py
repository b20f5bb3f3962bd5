"""The pipeline in one screen: load, prove, trace, match, prove again on the model, witness, derive, plan, emit.

What this module does not do: it decides nothing by itself; each stage is a stranger to the others and is called here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from torch import nn

from gaugec import laws
from gaugec.compiled import CompiledGauge, Refused
from gaugec.derive import derive
from gaugec.emit import emit
from gaugec.errors import MatchError, ProofError
from gaugec.formula import all_dims, lower
from gaugec.gradient import TOLERANCE, covariance
from gaugec.groups import GROUPS
from gaugec.language import load
from gaugec.language.tree import Entry, Gauge, Spec
from gaugec.match import Candidate, Matcher, Refusal, regions
from gaugec.pattern import patterns
from gaugec.plan import plan
from gaugec.prove import Theorem, prove_invariance, prove_statement, structure
from gaugec.sample import counterexample, sample
from gaugec.sites import Site
from gaugec.siting import make_site, pairings
from gaugec.tensor import Movement, Statement
from gaugec.trace import Trace, trace
from gaugec.witness import Runner, Witness, witness

VERSION = 1


@dataclass(frozen=True)
class Verification:
    """Every theorem of a spec, in the order of its gauges.  `ok`: all of them may be used as the spec says."""

    spec: str
    theorems: tuple[Theorem, ...]
    accepted: tuple[bool, ...]

    @property
    def ok(self) -> bool:
        """Is every gauge proved, or approximate where the spec allows that?"""
        return all(self.accepted)

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        lines = [f"{self.spec}:"]
        for theorem in self.theorems:
            lines.append(f"  {theorem.name}: {theorem.verdict}" + (f" ({theorem.reason})" if theorem.reason else ""))
            lines += [f"    if {condition}" for condition in theorem.conditions]
            lines += [f"    {line}" for line in theorem.counterexample.splitlines()]
        return "\n".join(lines)


def verify(spec: str | Path | Spec) -> Verification:
    """Proves every gauge of a spec (a shipped name, a path, or what `load` returned); needs no model.

    Raises:
        SpecError: the spec cannot be read.
    """
    loaded = spec if isinstance(spec, Spec) else load(str(spec))
    theorems = tuple(_theorem(entry) for entry in loaded.entries)
    accepted = tuple(
        theorem.verdict == "proved" or (theorem.verdict == "approximate" and entry.approximate)
        for theorem, entry in zip(theorems, loaded.entries)
    )
    return Verification(loaded.name, theorems, accepted)


def _theorem(entry: Entry) -> Theorem:
    """Prover and component check, which share no code; both must agree before anything is called proved."""
    gauge = entry.gauge
    dims = all_dims(gauge)
    theorem = prove_statement(lower(gauge))
    if theorem.verdict == "refused":
        return replace(theorem, counterexample=counterexample(lambda sizes: lower(gauge, sizes), dims))
    checked = sample(lambda sizes: lower(gauge, sizes), dims) if theorem.verdict == "proved" else None
    if checked is not None and not checked:
        return replace(
            theorem, verdict="refused", reason=f"the component check disagrees with the proof: {checked.reason}"
        )
    return replace(theorem, sampled=checked.samples if checked is not None else 0)


def compile(
    spec: str | Path | Spec,
    model: nn.Module,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    loss: str | None = None,
) -> CompiledGauge:
    """Compiles a spec against a model and its example inputs; see the README.

    `loss="cross_entropy"` says that output 0 is logits that reach a softmax cross-entropy over the last axis and
    nothing else.  The model may live on the meta device.  The model is not changed.

    Raises:
        SpecError: the spec cannot be read.  ProofError: a gauge of it is not proved.
        MatchError: the model cannot be traced, a required gauge has no site, or the witness contradicts a proof.
    """
    loaded = spec if isinstance(spec, Spec) else load(str(spec))
    verification = verify(loaded)
    for entry, theorem, accepted in zip(loaded.entries, verification.theorems, verification.accepted):
        if not accepted:
            raise _unproved(entry, theorem)
    traced = trace(model, args, kwargs, loss=loss)
    finder = _Finder(traced)
    sites: list[Site] = []
    refusals: list[Refused] = []
    for entry, theorem in zip(loaded.entries, verification.theorems):
        found, refused = finder.sites(entry, theorem)
        if entry.required and not found:
            raise _no_site(entry.gauge, refused, traced)
        sites += found
        refusals += refused
    sites = _largest(sites)
    measured = _witnessed(traced, sites)
    if measured.dead:
        # a site from which nothing reaches an output has nothing to prove, and its parameters nothing to learn
        refusals += [_unseen(sites[number]) for number in measured.dead]
        sites = [site for number, site in enumerate(sites) if number not in measured.dead]
        measured = _witnessed(traced, sites)
        for entry in loaded.entries:
            if entry.required and not any(site.gauge == entry.gauge.name for site in sites):
                raise _no_site(entry.gauge, [r for r in refusals if r.gauge == entry.gauge.name], traced)
    _gradient_agrees(model, args, kwargs or {}, sites, traced)
    metadata = {
        "version": VERSION,
        "spec": loaded.name,
        "spec_file": loaded.name if isinstance(spec, Spec) else str(spec),
        "spec_sha256": loaded.sha256,
        "graph_sha256": hashlib.sha256(repr(traced.graph.nodes).encode()).hexdigest(),
        "loss": loss or "",
        "traced": traced.second,
        "sites": [_record(site) for site in sites],
        "refused": [str(refused) for refused in refusals],
        "witness": {
            "error": f"{measured.error:.1e}",
            "control": f"{measured.control:.1e}",
            "controls": measured.controls,
            "note": measured.note,
        },
        "ungauged": finder.ungauged(sites),
    }
    source = emit(plan(sites, derive(sites), traced.shapes), metadata)
    return CompiledGauge(source, tuple(sites), tuple(refusals), verification, measured, traced)


def _largest(sites: Sequence[Site]) -> list[Site]:
    """Where a group and its subgroup move the same parts of the same parameters, the larger is kept."""

    def acts_on(site: Site) -> object:
        return frozenset((b.parameter, b.offset, b.copies, b.group, b.move.kind) for b in site.bindings)

    best: dict[object, Site] = {}
    for site in sites:
        known = best.get(acts_on(site))
        if known is None or GROUPS[site.group].dimension(site.size) > GROUPS[known.group].dimension(known.size):
            best[acts_on(site)] = site
    return [site for site in sites if best[acts_on(site)] is site]


def recheck(path: str | Path) -> Verification:
    """Proves again the spec that a compiled file was made from, and compares its hash.

    The spec is looked for where it was when the file was compiled (a shipped name, or a path as it was typed).

    Raises:
        ProofError: the spec has changed since.  SpecError: it is not there any more.
    """
    from gaugec.runtime import load as load_compiled

    metadata = load_compiled(path).metadata
    if not isinstance(metadata.get("spec_file"), str):
        raise ProofError(f"{path} does not say from which spec it was compiled", help="compile the model again")
    loaded = load(metadata["spec_file"])
    if loaded.sha256 != metadata.get("spec_sha256"):
        raise ProofError(
            f"the spec {loaded.name} is not the one that {path} was compiled from",
            help="compile the model again with the present spec",
        )
    return verify(loaded)


def _gradient_agrees(
    model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], sites: Sequence[Site], traced: Trace
) -> None:
    """Holds the model's own gradients at two gauge copies against each other.

    Raises:
        MatchError: they do not transform into each other: they are not the gradient of what was proved.
    """
    for gauge, share in covariance(model, args, kwargs, sites, traced.names, traced.loss).items():
        if not share <= TOLERANCE:
            raise MatchError(
                f"the gradient is not that of the forward: under {gauge} it is off by {share:.1e} of its size",
                help="a hook or a custom backward changes it; a gauge of the function is none of such a training",
            )


def _unseen(site: Site) -> Refused:
    """A site whose parameters change no output when one of them moves alone."""
    names = tuple(binding.parameter for binding in site.bindings)
    reason = "no output depends on it, with these example inputs (do the tokens differ?)"
    return Refused(site.gauge, ", ".join(dict.fromkeys(names)), reason, "", site.place, False, True, names)


def _record(site: Site) -> dict[str, Any]:
    return {
        "gauge": site.gauge,
        "index": site.index,
        "group": site.group,
        "copies": site.copies,
        "size": site.size,
        "place": site.place,
        "verdict": site.verdict,
        "parameters": [f"{binding.role}: {binding.parameter}" for binding in site.bindings],
        "certificate": [f"{key}: {value}" for key, value in site.certificate],
    }


def _unproved(entry: Entry, theorem: Theorem) -> ProofError:
    reason = f": {theorem.reason}" if theorem.reason else ""
    shown = f"\n{theorem.counterexample}" if theorem.counterexample else ""
    advice = "the kept value changes; run `gaugec verify` on the spec for the steps"
    if theorem.verdict == "approximate":
        advice = "mark the `use` line `approximate` to accept the bound: " + "; ".join(theorem.conditions)
    return ProofError(f"{theorem.name} is {theorem.verdict}{reason}{shown}", entry.gauge.span, advice)


def _no_site(gauge: Gauge, refused: Sequence[Refused], traced: Trace) -> MatchError:
    reasons = "".join(f"\n  {refusal}" for refusal in refused[:3])
    advice = "mark its `use` line `optional` if the model need not have it"
    if any(refusal.outputs for refusal in refused) and traced.loss is None:
        advice = 'if output 0 is logits that only reach a cross-entropy, say so with loss="cross_entropy"; or ' + advice
    return MatchError(f"{gauge.name} finds no site in the model{':' if reasons else ''}{reasons}", gauge.span, advice)


def _degree(function: str, attributes: tuple[tuple[str, object], ...]) -> Fraction | None:
    """The proved degree of a function, for the matcher's filter."""
    numbers = dict(attributes)
    if function == "pow":
        exponent = numbers["exponent"]
        return exponent if isinstance(exponent, Fraction) else None
    if function in ("max", "min"):
        return Fraction(1) if laws.holds(f"{function} scale") else None
    return laws.degree(laws.definition(function, numbers))


def _forgets(function: str) -> bool:
    return function in ("softmax", "log_softmax", "cross_entropy") and laws.holds(f"{function} shift")


def _movements(theorem: Theorem) -> dict[str, Movement]:
    """The prover's movements as the matcher reads them; what it cannot follow is "general"."""
    turned = {m.inverse for m in theorem.movements.values() if m.kind == "rotate"}
    made: dict[str, Movement] = {}
    for role, found in theorem.movements.items():
        simple = found.coefficient == 1 and len(turned) <= 1
        if found.kind != "none":
            kind = found.kind if simple else "general"
            made[role] = Movement(kind, found.axis, found.exponent, found.dual, found.shift_by)
    return made


class _Finder:
    """Finds and proves the sites of one traced model."""

    def __init__(self, traced: Trace) -> None:
        self.traced, self.graph = traced, traced.graph
        self.names = {leaf: name for name, leaf in traced.leaves.items()}
        tied: dict[str, list[str]] = {}
        for name, canonical in traced.names.items():
            if name != canonical:
                tied.setdefault(canonical, []).append(name)
        self.said = {
            leaf: f"{name} (tied to {', '.join(tied[name])})" if name in tied else name
            for leaf, name in self.names.items()
        }
        self.tied = {leaf: ", ".join(tied[name]) for leaf, name in self.names.items() if name in tied}
        blocked = {traced.leaves[name]: why for name, why in traced.blocked.items() if name in traced.leaves}
        self.matcher = Matcher(self.graph, blocked, self.said, _degree, _forgets)
        self.near: dict[str, str] = {}

    def sites(self, entry: Entry, theorem: Theorem) -> tuple[list[Site], list[Refused]]:
        """Every proved site of one gauge, and what came near."""
        gauge = entry.gauge
        statement: Statement = lower(gauge)
        all_patterns, why = patterns(statement, _movements(theorem), _degree, _forgets)
        if not all_patterns:
            raise MatchError(
                f"{gauge.name} is proved, but not supported yet: {why}",
                gauge.span,
                "mark it `optional`, or state it with whole axes",
            )
        candidates, refused = self.matcher.find(all_patterns)
        sites: list[Site] = []
        said: list[Refused] = []
        for candidate in candidates:
            proved, pairing = self._prove(candidate)
            if proved.verdict == "proved" or (proved.verdict == "approximate" and entry.approximate):
                steps = dict.fromkeys((*theorem.steps, *proved.steps, *proved.conditions))
                key = structure(self.graph, candidate.kept, regions(self.graph, candidate), candidate.cut, pairing)
                certificate = [("structure", key), *(("step", step) for step in steps)]
                sites.append(
                    make_site(
                        self.graph, candidate, self.names, gauge, len(sites), pairing, proved.verdict, certificate
                    )
                )
            else:
                leaf = candidate.bound[0].leaf
                reason = f"{proved.verdict} on the model: {proved.reason}"
                place = self.graph[candidate.kept[0]].place
                moved = tuple(self.names[id] for id in dict.fromkeys(b.leaf for b in candidate.bound))
                said.append(Refused(gauge.name, self.said[leaf], reason, "", place, False, True, moved))
        near = [refusal for refusal in refused if refusal.near]
        if not near and not sites:
            # nothing came near: the three that came farthest, values that leave the model first
            far = sorted((r for r in refused if r.progress > 0), key=lambda r: (not r.leaves, -r.progress))
            near = far[:3]
        said += [self._said(gauge, refusal) for refusal in near]
        return sites, list(dict.fromkeys(said))

    def _prove(self, candidate: Candidate) -> tuple[Theorem, tuple[str, int]]:
        moved = regions(self.graph, candidate)
        best: tuple[Theorem, tuple[str, int]] | None = None
        for pairing in pairings(self.matcher, candidate):
            theorem = prove_invariance(
                self.graph, candidate.kept, moved, candidate.pattern.statement.group, candidate.cut, *pairing
            )
            if theorem.verdict == "proved":
                return theorem, pairing
            best = best or (theorem, pairing)
        if best is None:
            return Theorem("", "refused", "its axis has no pairs to rotate"), ("", 0)
        return best

    def _said(self, gauge: Gauge, refusal: Refusal) -> Refused:
        node = self.graph[refusal.node] if refusal.node is not None else None
        roles = [self.said[leaf] for _, leaf in refusal.roles if leaf != refusal.leaf]
        note = ""
        tied = [
            leaf for leaf in dict.fromkeys([refusal.leaf, *(leaf for _, leaf in refusal.roles)]) if leaf in self.tied
        ]
        if tied and node is not None:
            one, other = self.names[tied[0]], self.tied[tied[0]]
            note = f"; {one} and {other} are one tied weight, and every use of it would move"
        others = f", with {', '.join(roles)}" if roles else ""
        return Refused(
            gauge.name,
            self.said[refusal.leaf] + others,
            refusal.reason,
            node.source or node.function if node is not None else "",
            node.place if node is not None else "",
            refusal.leaves,
            refusal.near,
            tuple(self.names[leaf] for _, leaf in refusal.roles),
            note,
        )

    def ungauged(self, sites: Sequence[Site]) -> list[str]:
        """The parameters that no site moves, in the model's order."""
        moved = {binding.parameter for site in sites for binding in site.bindings}
        return [name for name in dict.fromkeys(self.traced.names.values()) if name not in moved]


def _witnessed(traced: Trace, sites: Sequence[Site]) -> Witness:
    """The fifth condition of soundness.

    Raises:
        MatchError: an output changed that must not, or the control did not change it.
    """
    measured = witness(Runner(traced.program, traced.names, traced.loss), traced.shapes, sites)
    if measured.error > 1e-10:
        worst = max(measured.by_gauge, key=lambda pair: pair[1], default=("", 0.0))
        raise MatchError(
            f"the numeric witness contradicts the proof of {worst[0]}: outputs changed by {measured.error:.1e} "
            f"(control {measured.control:.1e})",
            help="this is a defect of gaugec or a graph that float64 cannot run faithfully; nothing was compiled",
        )
    return measured


__all__: list[str] = ["Verification", "compile", "recheck", "verify"]
