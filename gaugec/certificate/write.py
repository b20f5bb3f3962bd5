"""What was proved, as data: the `METADATA` of a compiled file.  docs/certificates.md says what every field means.

`make` writes a certificate, `complaint` says what is wrong with the form of one that was read, `sealed` puts the hash
of the text into the text, `intact` compares the two, `restated` writes a certificate into a text again.

What this module does not do: it proves and reads nothing, and believes nothing that a certificate says.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import gaugec
from gaugec.codegen.text import literal
from gaugec.graph.ir import Graph, Node
from gaugec.sites import Binding, Site

if TYPE_CHECKING:
    from gaugec.language.tree import Spec
    from gaugec.proof.theorem import Theorem

VERSION = 1
BLANK = "0" * 64
HEAD = "METADATA: dict[str, Any] = "
TOLERATED = ("gaugec", "torch", "witness")
"""Fields that another machine or another release may write differently: a recheck measures and says them anew."""

_SEAL = re.compile(r'(?<="file_sha256": ")[0-9a-f]{64}(?=")')
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
def unified(text: str) -> str:
    """The text with plain line ends, which are no change."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def sealed(source: str) -> str:
    """The source with its own hash in it."""
    if len(_SEAL.findall(source)) != 1:
        raise AssertionError("a certificate has one field file_sha256")
    return _SEAL.sub(_hash(source), source)


def intact(text: str) -> bool:
    """Is the hash that the text carries its own?"""
    found = _SEAL.findall(text)
    return len(found) == 1 and found[0] == _hash(unified(text))


def _hash(text: str) -> str:
    return hashlib.sha256(_SEAL.sub(BLANK, text).encode("utf-8", "surrogatepass")).hexdigest()


def restated(source: str, changes: Mapping[str, Any]) -> str:
    """The source of the compiler with some fields of its certificate set to other values."""
    tree = ast.parse(source)
    (node,) = (n for n in tree.body if isinstance(n, ast.AnnAssign) and ast.unparse(n.target) == "METADATA")
    lines = source.split("\n")
    value = {**ast.literal_eval(node.value or ast.Dict([], [])), **changes}
    head, tail = lines[: node.lineno - 1], lines[node.end_lineno :]
    return "\n".join([*head, HEAD + literal(value, len(HEAD)), *tail])


# --- the form ------------------------------------------------------------------------------------------------------
_TEXTS = [str]
_AXES = "axes"
_SHAPE = "shape"
_FORM: dict[str, Any] = {
    "certificate": int,
    "gaugec": str,
    "torch": str,
    "file_sha256": str,
    "spec": str,
    "spec_file": str,
    "spec_sha256": str,
    "theorems": [{"gauge": str, "verdict": str, "conditions": _TEXTS, "steps": _TEXTS, "sampled": bool}],
    "loss": str,
    "traced": str,
    "inputs": [(str, _SHAPE)],
    "graph_sha256": str,
    "graph_trail": str,
    "structures": {
        str: {
            "group": str,
            "pairing": str,
            "rotary": int,
            "verdict": str,
            "conditions": _TEXTS,
            "steps": _TEXTS,
            "sites": int,
        }
    },
    "layouts": [
        {
            "copies": int,
            "size": int,
            "bindings": [
                {
                    "role": str,
                    "offset": int,
                    "copies": _AXES,
                    "group": _AXES,
                    "rest": _AXES,
                    "move": str,
                    "exponent": str,
                    "dual": bool,
                    "shift_by": float,
                }
            ],
        }
    ],
    "sites": [
        {
            "gauge": str,
            "index": int,
            "place": str,
            "verdict": str,
            "structure": str,
            "layout": int,
            "parameters": _TEXTS,
        }
    ],
    "refused": _TEXTS,
    "ungauged": _TEXTS,
    "parameters": {str: _SHAPE},
    "tied": {str: str},
    "witness": {"error": str, "control": str, "controls": int, "note": str},
}


def complaint(metadata: Mapping[str, Any]) -> str:
    """What is wrong with the form of a certificate, or "": types, missing and unknown fields, references."""
    found = _misfit(metadata, _FORM, "METADATA")
    if found:
        return found
    layouts, structures = metadata["layouts"], metadata["structures"]
    for number, site in enumerate(metadata["sites"]):
        where = f'METADATA["sites"][{number}]'
        if site["structure"] not in structures:
            return f"{where} is of a structure that is not there"
        if not 0 <= site["layout"] < len(layouts):
            return f"{where} is of a layout that is not there"
        if len(site["parameters"]) != len(layouts[site["layout"]]["bindings"]):
            return f"{where} has not one parameter for every binding of its layout"
    return ""


def _misfit(value: Any, form: Any, where: str) -> str:
    """The first place where a value has not its form, or ""."""
    if form == _SHAPE:
        return "" if _numbers(value) else f"{where} is no shape"
    if form == _AXES:
        good = isinstance(value, tuple) and all(_numbers(axis) and len(axis) == 2 for axis in value)
        return "" if good else f"{where} is no tuple of axes"
    if isinstance(form, type):
        return "" if type(value) is form else f"{where} is no {form.__name__}"
    if type(value) is not type(form):
        return f"{where} is no {type(form).__name__}"
    if isinstance(form, dict) and str in form:
        wrong = [key for key in value if not isinstance(key, str)]
        if wrong:
            return f"{where} has a key that is no str"
        pairs = [(each, form[str], f"{where}[{key!r}]") for key, each in value.items()]
    elif isinstance(form, dict):
        if set(value) != set(form):
            odd = sorted(map(repr, set(value) ^ set(form)))[0]
            return f"{where}: the field {odd} is {'not known' if odd in map(repr, value) else 'missing'}"
        pairs = [(value[key], form[key], f'{where}["{key}"]') for key in form]
    elif isinstance(form, tuple):
        if len(value) != len(form):
            return f"{where} has not {len(form)} entries"
        pairs = [(each, part, f"{where}[{i}]") for i, (each, part) in enumerate(zip(value, form))]
    else:
        pairs = [(each, form[0], f"{where}[{i}]") for i, each in enumerate(value)]
    return next((said for each in pairs if (said := _misfit(*each))), "")


def _numbers(value: Any) -> bool:
    return isinstance(value, tuple) and all(type(n) is int for n in value)


__all__ = [
    "BLANK", "HEAD", "TOLERATED", "VERSION", "complaint", "departure", "fingerprints", "intact", "make", "restated",
    "sealed", "stated", "unified",
]  # fmt: skip
