"""What was proved, as data: the `METADATA` of a compiled file.  docs/certificates.md says what every field means.

`make` writes a certificate, `complaint` says what is wrong with the form of one that was read, `sealed` puts the hash
of the text into the text, `intact` compares the two, `restated` writes a certificate into a text again.

What this module does not do: it proves and reads nothing, and believes nothing that a certificate says.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import gaugec
from gaugec.certificate.form import VERSION, complaint
from gaugec.graph.ir import Graph, Node
from gaugec.literals import literal
from gaugec.runtime.seal import BLANK, intact, sealed, unified
from gaugec.sites import Binding, Site

if TYPE_CHECKING:
    from gaugec.language.tree import Spec
    from gaugec.proof.theorem import Theorem

HEAD = "METADATA: dict[str, Any] = "
TOLERATED = ("gaugec", "torch", "witness")
"""Fields that another machine or another release may write differently: a recheck measures and says them anew."""

_HASHED = tuple(field.name for field in fields(Node) if field.compare and field.name != "source")


# --- writing -------------------------------------------------------------------------------------------------------
def make(
    spec: Spec,
    spec_file: str,
    theorems: Sequence[Theorem],
    graph: Graph,
    sites: Sequence[Site],
    *,
    loss: str | None,
    traced: str,
    parameters: Mapping[str, tuple[int, ...]],
    tied: Mapping[str, str],
    refused: Sequence[str],
    ungauged: Sequence[str],
    witness: Mapping[str, Any],
    torch: str,
) -> dict[str, Any]:
    """The certificate of one compilation; `file_sha256` is blank until the file is `sealed`."""
    fingerprint, trail = fingerprints(graph)
    layouts: list[dict[str, Any]] = []
    structures: dict[str, dict[str, Any]] = {}
    placed: list[dict[str, Any]] = []
    for site in sites:
        layout = {"copies": site.copies, "size": site.size, "bindings": [_binding(b) for b in site.bindings]}
        if layout not in layouts:
            layouts.append(layout)
        key = next(value for name, value in site.certificate if name == "structure")
        known = structures.setdefault(key, _structure(site))
        if {**known, "sites": 0} != {**_structure(site), "sites": 0}:
            raise AssertionError(f"two proofs of one structure: {key}")
        known["sites"] += 1
        placed.append(
            {
                "gauge": site.gauge,
                "index": site.index,
                "place": site.place,
                "verdict": site.verdict,
                "structure": key,
                "layout": layouts.index(layout),
                "parameters": [b.parameter for b in site.bindings],
            }
        )
    return {
        "certificate": VERSION,
        "gaugec": gaugec.__version__,
        "torch": torch,
        "file_sha256": BLANK,
        "spec": spec.name,
        "spec_file": spec_file,
        "spec_sha256": spec.sha256,
        "theorems": stated(theorems),
        "loss": loss or "",
        "traced": traced,
        "inputs": [(node.name, node.shape) for node in graph.leaves("input")],
        "graph_sha256": fingerprint,
        "graph_trail": trail,
        "structures": structures,
        "layouts": layouts,
        "sites": placed,
        "refused": list(refused),
        "ungauged": list(ungauged),
        "parameters": dict(parameters),
        "tied": dict(tied),
        "witness": dict(witness),
    }


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


def fingerprints(graph: Graph) -> tuple[str, str]:
    """A hash of all that matching and proving read of a graph, and two of its digits after every node.

    Names of ATen operations do not enter: they are another release's business.  Where two graphs differ the two trails
    part, at that node or (one time in 256) the next.
    """
    digest = hashlib.sha256()
    trail: list[str] = []
    for node in graph:
        digest.update(repr([getattr(node, name) for name in _HASHED]).encode())
        trail.append(digest.hexdigest()[:2])
    digest.update(repr((graph.outputs, graph.buffers, graph.cuts)).encode())
    return digest.hexdigest(), "".join(trail)


def departure(graph: Graph, trail: str) -> Node | None:
    """The first node that a trail of another graph does not pass, None where it passes them all."""
    mine = fingerprints(graph)[1]
    for node in graph:
        at = slice(2 * node.id, 2 * node.id + 2)
        if mine[at] != trail[at]:
            return node
    return None


def _binding(binding: Binding) -> dict[str, Any]:
    return {
        "role": binding.role,
        "offset": binding.offset,
        "copies": binding.copies,
        "group": binding.group,
        "rest": binding.rest,
        "move": binding.move.kind,
        "exponent": str(binding.move.exponent),
        "dual": binding.move.dual,
        "shift_by": binding.shift_by,
    }


def _structure(site: Site) -> dict[str, Any]:
    """What was proved of a site's structure: the same for every site that shares it."""
    return {
        "group": site.group,
        "pairing": site.pairing,
        "rotary": site.rotary,
        "verdict": site.verdict,
        "conditions": [value for name, value in site.certificate if name == "condition"],
        "steps": [value for name, value in site.certificate if name == "step"],
        "sites": 0,
    }


# --- the seal ------------------------------------------------------------------------------------------------------


def restated(source: str, changes: Mapping[str, Any]) -> str:
    """The source of the compiler with some fields of its certificate set to other values."""
    tree = ast.parse(source)
    (node,) = (n for n in tree.body if isinstance(n, ast.AnnAssign) and ast.unparse(n.target) == "METADATA")
    lines = source.split("\n")
    value = {**ast.literal_eval(node.value or ast.Dict([], [])), **changes}
    head, tail = lines[: node.lineno - 1], lines[node.end_lineno :]
    return "\n".join([*head, HEAD + literal(value, len(HEAD)), *tail])


# --- the form ------------------------------------------------------------------------------------------------------


__all__ = [
    "BLANK", "HEAD", "TOLERATED", "VERSION", "complaint", "departure", "fingerprints", "intact", "make", "restated",
    "sealed", "stated", "unified",
]  # fmt: skip
