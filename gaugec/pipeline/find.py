"""Finds and proves the sites of one traced model, and says for people what came near and why it is none.

What this module does not do: it traces, witnesses and emits nothing (see `gaugec.pipeline.compile`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from gaugec.errors import MatchError
from gaugec.graph.ir import Node
from gaugec.graph.statement import Region
from gaugec.language.lower import lower_fixes
from gaugec.language.tree import Entry, Gauge
from gaugec.matching.search import Candidate, Matcher, Miss, regions
from gaugec.matching.site import make_site, pairings
from gaugec.pipeline.followed import followed
from gaugec.proof.prove import Theorem, prove_invariance
from gaugec.proof.shifts import sight
from gaugec.sites import Refusal, Site
from gaugec.tracing.compare import shrunk
from gaugec.tracing.trace import Trace


def _operation(node: Node) -> str:
    """What a node is called where a refusal shows it: the operation's own name in the model."""
    return node.source or (node.title if node.title != node.word else "")


def _acting(leaf: Node, candidate: Candidate) -> int:
    """The axis of the first bound parameter along which the group acts."""
    digits = candidate.bound[0].digits
    acting = candidate.group or tuple(digits)  # a shift may be constant along no axis
    return next(leaf.modes[e.position].axis for d, e in sorted(digits.items()) if d in acting)


class Finder:
    """Finds and proves the sites of one traced model."""

    def __init__(self, traced: Trace) -> None:
        self.traced, self.graph = traced, traced.graph
        self.names = {leaf: name for name, leaf in traced.leaves.items()}
        tied: dict[str, list[str]] = {}
        for name, canonical in traced.names.items():
            if name != canonical:
                tied.setdefault(canonical, []).append(name)
        self.labels = {
            leaf: f"{name} (tied to {', '.join(tied[name])})" if name in tied else name
            for leaf, name in self.names.items()
        }
        self.tied = {leaf: ", ".join(tied[name]) for leaf, name in self.names.items() if name in tied}
        blocked = {traced.leaves[name]: why for name, why in traced.blocked.items() if name in traced.leaves}
        self.matcher = Matcher(self.graph, blocked, self.labels, partial(sight, self.graph))
        self.elsewhere = [graph for graph in traced.elsewhere if not shrunk(self.graph, graph)]
        self.farthest: dict[str, tuple[tuple[object, ...], Refusal]] = {}

    def sites(self, entry: Entry, theorem: Theorem) -> tuple[list[Site], list[Refusal]]:
        """Every proved site of one gauge, and what came near."""
        gauge = entry.gauge
        all_patterns, why = followed(gauge, theorem)
        if not all_patterns and not entry.required:
            return [], [Refusal(gauge.name, "", f"proved, not matched yet: {why}", "", "", False, False)]
        if not all_patterns:
            raise MatchError(
                f"{gauge.name} is proved, but not matched yet: {why}",
                gauge.span,
                "mark it `optional`, or state it with whole axes",
            )
        candidates, misses = self.matcher.find(all_patterns)
        sites: list[Site] = []
        refusals: list[Refusal] = []
        for candidate in candidates:
            proved, pairing = self._prove(candidate)
            if proved.verdict == "proved" or (proved.verdict == "approximate" and entry.approximate):
                certificate = [
                    ("structure", proved.structure),
                    *(("condition", condition) for condition in proved.conditions),
                    *(("step", step) for step in proved.steps),
                ]
                at = (len(sites), pairing, proved.verdict, certificate)
                fix = lower_fixes(gauge)
                sites.append(make_site(self.graph, candidate, self.names, *at, theorem=gauge.doc, fix=fix))
            else:
                leaf, kept = candidate.bound[0].leaf, self.graph[candidate.kept[0]]
                axis = self._axis(leaf, _acting(self.graph[leaf], candidate))
                reason = f"{proved.verdict} on the model: {proved.reason}"
                moved = tuple(self.names[id] for id in dict.fromkeys(b.leaf for b in candidate.bound))
                law = "the kept value is the same polynomial after the element has acted"
                where = (_operation(kept), kept.place)
                refusals.append(
                    Refusal(gauge.name, self.labels[leaf], reason, *where, False, True, moved, "", axis, law, kept.line)
                )
        near = [miss for miss in misses if miss.near and not miss.stray]
        # of every parameter the search that came farthest
        far: dict[int, Miss] = {}
        for miss in sorted(misses, key=lambda r: r.far, reverse=True):
            if miss.progress > 0:
                far.setdefault(miss.leaf, miss)
        for miss in far.values():
            self._remember(miss, self._refusal(gauge, miss))
        far = {leaf: miss for leaf, miss in far.items() if not miss.stray} or far
        if not near and not sites:
            near = list(far.values())[:5]
            tied = [miss for miss in near if miss.leaf in self.tied] if all_patterns[0].kind == "shift" else []
            near = tied[:1] or near  # a shift goes on from everywhere: that one is tied says why
            leaving = next((miss for miss in far.values() if miss.leaves), None)
            if leaving is not None and not any(miss.leaves for miss in near[:3]):
                near[2:] = [leaving, *near[2:4]]  # for that there is a cure: a word on the loss
        refusals += [self._refusal(gauge, miss) for miss in near]
        return sites, list(dict.fromkeys(refusals))

    def _remember(self, miss: Miss, refusal: Refusal) -> None:
        """Of all gauges, the refusal that came farthest at every parameter that it would have moved."""
        for name in dict.fromkeys((self.names[miss.leaf], *refusal.parameters)):
            if name not in self.farthest or self.farthest[name][0] < miss.far:
                self.farthest[name] = (miss.far, refusal)

    def _prove(self, candidate: Candidate) -> tuple[Theorem, tuple[str, int]]:
        moved = regions(self.graph, candidate)
        best: tuple[Theorem, tuple[str, int]] | None = None
        for pairing in pairings(self.matcher, candidate):
            theorem = prove_invariance(
                self.graph, candidate.kept, moved, candidate.pattern.statement.group, candidate.cut, *pairing
            )
            if theorem.verdict == "proved":
                return self._elsewhere(candidate, moved, theorem, pairing), pairing
            best = best or (theorem, pairing)
        if best is None:
            return Theorem("", "refused", "its axis has no pairs to rotate"), ("", 0)
        return best

    def _elsewhere(
        self, candidate: Candidate, moved: tuple[Region, ...], theorem: Theorem, pairing: tuple[str, int]
    ) -> Theorem:
        """The theorem where it is one at the other sizes at which the model was traced, too.

        What a shift adds is so many times a vector, and what is read of a table a part: they may be the example's."""
        group = candidate.pattern.statement.group
        for graph in self.elsewhere:
            there = prove_invariance(graph, candidate.kept, moved, group, candidate.cut, *pairing)
            if there.verdict != "proved":
                reason = f"it holds at the sizes of the example alone; at others {there.reason}"
                return replace(there, reason=reason)
        return theorem

    def _refusal(self, gauge: Gauge, miss: Miss) -> Refusal:
        node = self.graph[miss.node] if miss.node is not None else None
        roles = [self.labels[leaf] for _, leaf in miss.roles if leaf != miss.leaf]
        note = ""
        tied = [leaf for leaf in dict.fromkeys([miss.leaf, *(leaf for _, leaf in miss.roles)]) if leaf in self.tied]
        if tied and node is not None:
            one, other = self.names[tied[0]], self.tied[tied[0]]
            note = f"; {one} and {other} are one tied weight, and every use of it would move"
        others = f", with {', '.join(roles)}" if roles else ""
        return Refusal(
            gauge.name,
            self.labels[miss.leaf] + others,
            miss.reason,
            _operation(node) if node is not None else "",
            node.place if node is not None else "",
            miss.leaves,
            miss.near,
            tuple(self.names[leaf] for _, leaf in miss.roles),
            note,
            self._axis(miss.leaf, miss.axis, miss.span),
            miss.law,
            node.line if node is not None else "",
            bool(note),
        )

    def _axis(self, leaf: int, axis: int, span: tuple[int, int] | None = None) -> str:
        """Which axis was followed, in words."""
        part = f", entries {span[0]} to {span[0] + span[1] - 1}" if span is not None else ""
        return f"axis {axis} of {self.names[leaf]}, of length {self.graph[leaf].shape[axis]}{part}"

    def ungauged(self, sites: Sequence[Site]) -> list[str]:
        """The parameters that no site moves, in the model's order."""
        moved = {binding.parameter for site in sites for binding in site.bindings}
        return [name for name in dict.fromkeys(self.traced.names.values()) if name not in moved]
