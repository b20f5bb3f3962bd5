"""What a compiled gauge is, in words: the one report, over its certificate.

`gaugec report` shows it of a file that it does not run, `Gauge.report` of a gauge that was loaded, and
`CompiledGauge.report` of one that was compiled here, with what only the compiler knows.  Places are shown by ranges, as
the certificate has them; `explain` writes out every site, and every step of a proof.  The standard library only.

Not here: any judgement.  What is repeated are the claims of the file (see `gaugec.recheck`).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gaugec.runtime.assumed import in_words
from gaugec.runtime.certificate import DEFAULTS, unfolded, verdict
from gaugec.runtime.coordinates import by_itself, held_entries, in_chart, sizes
from gaugec.runtime.ranges import expand, fold_rows


@dataclass(frozen=True)
class Known:
    """What the compiler knows beside the certificate.

    ways: by gauge and index of a site, the way of every moved value from its writer to its readers.  refused: every
    refusal with all that is known of it.  frozen: parameters that are not trained, so that their gauge is off.
    """

    ways: Mapping[tuple[str, int], Sequence[str]] = field(default_factory=dict)
    refused: Sequence[str] = ()
    frozen: Collection[str] = ()


def report(
    certificate: Mapping[str, Any],
    components: Iterable[tuple[str, str]] = (),
    *,
    explain: bool = False,
    known: Known | None = None,
) -> str:
    """Every gauge with its verdict and conditions, every site with what it moves, and what no gauge moves, and why.

    components: name and docstring of each.  explain: also they, every site by itself with the ways of its moved values,
    and the steps of every proof.
    """
    known = known or Known()
    if "theorems" not in certificate:  # written by hand: nothing is claimed
        return "\n".join(_components(components))
    whole = unfolded(certificate)
    lines = [f"{certificate['spec']}: {proved_once(len(whole['sites']), len(whole['structures']))}", *_origin(whole)]
    for theorem in whole["theorems"]:
        lines += ["", *_gauge(certificate, whole, theorem, explain, known)]
    lines += _refused(certificate, explain, known)
    lines += ["", "parameters that no gauge moves:"]
    lines += [f"  {name}: {_why(certificate, why)}" for name, why in certificate["ungauged"].items()] or ["  none"]
    lines += ["", *in_words(certificate["assumed"], explain=explain)]
    lines += _components(components) if explain else ()
    return "\n".join([*lines, "", _witness(certificate["witness"])])


def overview(certificate: Mapping[str, Any]) -> list[str]:
    """One line a gauge: its sites, their groups, how many copies of them, the verdicts; then what was refused.

    A gauge without a site is one line: the refusal that came nearest.  Those of which nothing came near share one.
    """
    whole = unfolded(certificate)
    found: dict[str, list[dict[str, Any]]] = {}
    for site in whole["sites"]:
        found.setdefault(site["gauge"], []).append(site)
    width = max(map(len, found), default=0)
    lines = []
    for gauge, sites in found.items():
        groups = ", ".join(sorted({_group(whole, site) for site in sites}))
        verdicts = ", ".join(sorted({site["verdict"] for site in sites}))
        copies = sum(whole["layouts"][site["layout"]]["copies"] for site in sites)
        shared = f" in {copies} copies" if copies > len(sites) else ""
        lines.append(f"  {gauge.ljust(width)}  {_count(len(sites), 'site')}{shared} of {groups}, {verdicts}")
    refused: dict[str, list[str]] = {}
    for refusal in certificate["refused"]:
        refused.setdefault(refusal.partition(" at ")[0].partition(":")[0], []).append(refusal)
    for gauge, refusals in refused.items():
        shown = refusals if gauge in found else refusals[:1]
        lines += [f"  {'refused' if gauge in found else 'no site'}: {refusal}" for refusal in shown]
    nowhere = [t["gauge"] for t in whole["theorems"] if t["gauge"] not in found and t["gauge"] not in refused]
    return [*lines, *([f"  no site: {', '.join(nowhere)}"] if nowhere else [])]


def proved_once(sites: int, structures: int) -> str:
    """`12 sites, 7 structures, each proved once`."""
    counts = f"{_count(sites, 'site')}, {_count(structures, 'structure')}"
    return f"{counts}, each proved once" if structures else counts


def _origin(whole: Mapping[str, Any]) -> Iterator[str]:
    yield f"  compiled by gaugec {whole['gaugec']} with torch {whole['torch']}"
    yield f"  spec   {whole['spec_file']}, sha256 {whole['spec_sha256']}"
    yield f"  model  {_count(len(whole['parameters']), 'parameter')}, graph sha256 {whole['graph_sha256']}"
    yield f"         {whole['traced']}"
    moved, entries = whole["gauged"]
    yield f"         gauges move {moved:,} of {entries:,} entries, {100 * moved / max(entries, 1):.1f} %"
    if whole["loss"]:
        yield f'         loss="{whole["loss"]}": output 0 is logits that reach it and nothing else'
    if whole["outputs"]:
        yield f"         of what it returns, {', '.join(whole['outputs'])} alone counts"
    yield from (f"         {how}" for how in whole["taken"])
    yield from (f"  {reason}" for reason in whole["unchecked"]["why"])


def _gauge(
    certificate: Mapping[str, Any], whole: Mapping[str, Any], theorem: Mapping[str, Any], explain: bool, known: Known
) -> Iterator[str]:
    sites = [site for site in whole["sites"] if site["gauge"] == theorem["gauge"]]
    yield f"{theorem['gauge']}: {theorem['verdict']}, {_count(len(sites), 'site')}"
    if explain:
        yield from (f"  {step}" for step in theorem["steps"])
    yield from (f"  if {condition}" for condition in theorem["conditions"])
    if explain:
        yield from _each(whole, sites, known)
        return
    for entry in certificate["sites"]:
        if entry["gauge"] == theorem["gauge"]:
            entry = {**DEFAULTS["sites"], **entry}
            conditions = whole["structures"][entry["structure"]]["conditions"]
            own = [f", if {condition}" for condition in conditions if condition not in theorem["conditions"]]
            yield f"  {'sites' if _several(entry) else 'site'} {_head(whole, entry)}{''.join(own)}"
            for binding, (pattern, *reads) in _alike(whole, entry):
                names = expand([pattern])
                frozen = sum(name in known.frozen for name in names)
                some = "frozen" if frozen == len(names) else f"{frozen} of {len(names)} frozen"
                yield f"    {_moved(binding, pattern)}" + (f" ({some}: there the gauge is off)" if frozen else "")
                yield from (f"      {line}" for line in in_chart(binding, reads))
            names = [expand([pattern])[0] for pattern in entry["reads"]]
            held = _held(whole, entry["layout"], entry["reads"] if _several(entry) else names, names)
            if not _several(entry):
                held = [pattern for (pattern,) in fold_rows((name,) for name in held)]
            yield from [f"    holds {', '.join(held)}"] * bool(held)


def _each(whole: Mapping[str, Any], sites: Sequence[Mapping[str, Any]], known: Known) -> Iterator[str]:
    """Sites one by one, under the proofs of their structures."""
    for key in dict.fromkeys(site["structure"] for site in sites):
        proof = whole["structures"][key]
        yield f"  structure {key}: {proof['verdict']}"
        yield from (f"    {step}" for step in proof["steps"])
        yield from (f"    if {condition}" for condition in proof["conditions"])
        for site in sites:
            if site["structure"] == key:
                yield f"    site {_head(whole, site)}"
                for binding, name in zip(whole["layouts"][site["layout"]]["bindings"], site["parameters"]):
                    off = " (frozen: there the gauge is off)" if name in known.frozen else ""
                    yield f"      {_moved(binding, name)}{off}"
                    yield from (f"        {line}" for line in in_chart(binding, site["reads"]))
                held = _held(whole, site["layout"], site["reads"], site["reads"])
                yield from [f"      holds {', '.join(held)}"] * bool(held)
                yield from (f"        {step}" for step in known.ways.get((site["gauge"], site["index"]), ()))


def _head(whole: Mapping[str, Any], site: Mapping[str, Any]) -> str:
    """A site, or an entry of the certificate (several by their ranges), in one line."""
    layout, proof = whole["layouts"][site["layout"]], whole["structures"][site["structure"]]
    copies = f" x {layout['copies']} copies" if layout["copies"] > 1 else ""
    pairs = f", {proof['pairing']}" if proof["pairing"] else ""
    place = f" {site['place']}" if site["place"] else ""
    return f"{site['index']}{place}: {_group(whole, site)}{copies}{pairs}, {verdict(whole, site['structure'])}"


def _alike(whole: Mapping[str, Any], entry: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], tuple[str, ...]]]:
    """What an entry of the certificate binds, with the pattern of its parameter and those of what its chart reads.

    Of one site through many layers, what is alike comes together.
    """
    found: dict[str, tuple[Mapping[str, Any], list[tuple[str, ...]]]] = {}
    for binding, name in zip(whole["layouts"][entry["layout"]]["bindings"], entry["parameters"]):
        alike, reads = by_itself(binding, entry["reads"])
        found.setdefault(repr(alike), (alike, []))[1].append((name, *reads))
    for alike, rows in found.values():
        for row in rows if _several(entry) else fold_rows(tuple(expand(row)) for row in rows):
            yield alike, row


def _several(site: Mapping[str, Any]) -> bool:
    """Is it an entry of the certificate that stands for more than one site?"""
    return str(site["index"]).startswith("{")


def _moved(binding: Mapping[str, Any], name: str) -> str:
    """What is moved, in one line, but for its chart."""
    start = f" from {binding['offset']}" if binding["offset"] else ""
    shift = f", as 1 + w with 1 = {binding['shift_by']:g}" if binding["shift_by"] else ""
    moves = f", by {binding['exponent']} a" if binding["move"] == "shift" and binding["exponent"] != "1" else ""
    return f"{binding['role']} = {name} {sizes(binding)}{start}{shift}{moves}"


def _held(whole: Mapping[str, Any], layout: int, reads: Sequence[str], names: Sequence[str]) -> list[str]:
    """What the charts of a layout hold of what they read, and of which parameters that is a part.

    names: of what is read, at one of its sites.
    """
    out = []
    for number, (read, name) in enumerate(zip(reads, names)):
        count = max(held_entries(binding, number) for binding in whole["layouts"][layout]["bindings"])
        shape = whole["parameters"].get(name, ())
        out += [read + (" (a part)" if count < math.prod(shape) else "")] if count else []
    return out


def _group(whole: Mapping[str, Any], site: Mapping[str, Any]) -> str:
    """The group with its dimension: of a shift that is what it adds, not the axis along which it adds the same."""
    layout, group = whole["layouts"][site["layout"]], whole["structures"][site["structure"]]["group"]
    added = next((binding["rest"] for binding in layout["bindings"] if binding["move"] == "shift"), None)
    return f"{group}({layout['size'] if added is None else math.prod(n for n, _ in added)})"


def _refused(certificate: Mapping[str, Any], explain: bool, known: Known) -> Iterator[str]:
    """What was refused, each once: where a parameter is gauged by nothing because of it, it is told there."""
    told = set(certificate["ungauged"].values())
    texts = [text for number, text in enumerate(certificate["refused"]) if f"refused[{number}]" not in told]
    if explain and known.refused:
        texts = list(known.refused)
    for number, text in enumerate(texts):
        yield from [""] * (not number)
        first, *more = text.splitlines() or [""]
        yield f"refused: {first}"
        yield from (f"  {line}" for line in more)


def _why(certificate: Mapping[str, Any], why: str) -> str:
    return next((text for n, text in enumerate(certificate["refused"]) if why == f"refused[{n}]"), why)


def _components(components: Iterable[tuple[str, str]]) -> Iterator[str]:
    for name, doc in components:
        yield ""
        yield f"{name}:"
        yield from (f"  {line.strip()}" for line in doc.split("\n\n", 1)[-1].splitlines() if line.strip())


def _witness(measured: Mapping[str, Any]) -> str:
    if measured["note"]:
        return f"not witnessed: {measured['note']}"
    if not measured["controls"]:
        return "witness: there was no site to move"
    return (
        f"witness (float64, casts neutral), as it was measured: under an element of every gauge outputs changed by "
        f"{measured['error']} of their range beyond rounding; by at least {measured['control']} when one parameter "
        f"moved alone ({measured['controls']} runs)"
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
