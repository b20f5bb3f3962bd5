"""What a compiled file says, in words: its certificate and its components, as `gaugec report` shows them.

What this module does not do: it checks nothing; what it repeats are the claims of the file (see
`gaugec.pipeline.recheck`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from gaugec.certificate.read import Compiled
from gaugec.errors import printable
from gaugec.witness.finite import Witness


def report(file: Compiled) -> str:
    """Every gauge with its proof, every site with what it moves, what no gauge moves, the components."""
    said = file.metadata
    lines = [_count(said), *_origin(said)]
    for theorem in said["theorems"]:
        lines += ["", *_gauge(said, theorem)]
    lines += ["", "parameters that no gauge moves:", *(f"  {name}" for name in said["ungauged"] or ["none"])]
    lines += [""] * bool(said["refused"]) + [f"refused: {refusal}" for refusal in said["refused"]]
    for name, places, doc in file.components:
        lines += ["", f"{name}, in {places} place{'s' if places != 1 else ''}:"]
        lines += [f"  {line.strip()}" for line in doc.split("\n\n", 1)[-1].splitlines() if line.strip()]
    lines += ["", _witness(said["witness"])]
    return "\n".join(printable(line) for line in lines)


def proved_once(sites: int, structures: int) -> str:
    """`12 sites, 7 structures, each proved once`."""
    counts = f"{sites} site{'s' if sites != 1 else ''}, {structures} structure{'s' if structures != 1 else ''}"
    return f"{counts}, each proved once" if structures else counts


def _count(said: Mapping[str, Any]) -> str:
    return f"{said['spec']}: {proved_once(len(said['sites']), len(said['structures']))}"


def _origin(said: Mapping[str, Any]) -> Iterator[str]:
    yield f"  compiled by gaugec {said['gaugec']} with torch {said['torch']}"
    yield f"  spec   {said['spec_file']}, sha256 {said['spec_sha256']}"
    yield f"  model  {len(said['parameters'])} parameters, graph sha256 {said['graph_sha256']}"
    yield f"         {said['traced']}"
    if said["loss"]:
        yield f'         loss="{said["loss"]}": output 0 is logits that reach it and nothing else'


def _gauge(said: Mapping[str, Any], theorem: Mapping[str, Any]) -> Iterator[str]:
    sites = [site for site in said["sites"] if site["gauge"] == theorem["gauge"]]
    keys = dict.fromkeys(site["structure"] for site in sites)
    yield f"{theorem['gauge']}: {theorem['verdict']}, {len(sites)} site{'s' if len(sites) != 1 else ''}"
    yield from (f"  {step}" for step in theorem["steps"])
    yield from (f"  if {condition}" for condition in theorem["conditions"])
    for key in keys:
        proof = said["structures"][key]
        yield f"  structure {key[:12]}: {proof['verdict']}"
        yield from (f"    {step}" for step in proof["steps"])
        yield from (f"    if {condition}" for condition in proof["conditions"])
        for site in sites:
            if site["structure"] == key:
                yield from _site(said, site, proof)


def _site(said: Mapping[str, Any], site: Mapping[str, Any], proof: Mapping[str, Any]) -> Iterator[str]:
    layout = said["layouts"][site["layout"]]
    bindings = layout["bindings"]
    shifts = bindings and bindings[0]["move"]["kind"] == "shift"
    axis = math.prod(n for n, _ in bindings[0]["rest"]) if shifts else layout["size"]
    copies = f" x {layout['copies']} copies" if layout["copies"] > 1 else ""
    pairs = f", {proof['pairing']}" if proof["pairing"] else ""
    place = f" {site['place']}" if site["place"] else ""
    yield f"    site {site['index']}{place}: {proof['group']}({axis}){copies}{pairs}, {site['verdict']}"
    for binding, name in zip(bindings, site["parameters"]):
        parts = ", ".join("*".join(str(n) for n, _ in binding[part]) or "1" for part in ("copies", "group", "rest"))
        start = f" from {binding['offset']}" if binding["offset"] else ""
        shift = f", as 1 + w with 1 = {binding['shift_by']:g}" if binding["shift_by"] else ""
        yield f"      {binding['role']} = {name} [{parts}]{start}{shift}"


def _witness(said: Mapping[str, Any]) -> str:
    if said["note"]:
        return said["note"]
    if not said["controls"]:
        return "witness: there was no site to move"
    return (
        f"witness, as it was measured: under an element of every gauge outputs changed by {said['error']} of their "
        f"range beyond rounding; by at least {said['control']} when one parameter moved alone ({said['controls']} runs)"
    )


def _part(binding: Any) -> str:
    copies, group, rest = (
        "*".join(str(n) for n, _ in axes) or "1" for axes in (binding.copies, binding.group, binding.rest)
    )
    shift = f", as 1 + w with 1 = {binding.shift_by:g}" if binding.shift_by else ""
    return f" [{copies}, {group}, {rest}]" + (f" from {binding.offset}" if binding.offset else "") + shift


def _measured(measured: Witness) -> str:
    if measured.note:
        return measured.note
    if not measured.controls:
        return "witness: there is no site to move"
    return (
        f"witness (float64, casts neutral): under an element of every gauge outputs change by {measured.error:.1e} "
        f"of their range beyond rounding; by at least {measured.control:.1e} when one parameter moves alone "
        f"({measured.controls} runs)"
    )
