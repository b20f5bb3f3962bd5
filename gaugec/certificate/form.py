"""The form of a certificate: which entries it has and of what kind, and what is wrong with one that departs from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gaugec.runtime.certificate import DEFAULTS, NOTHING, unfolded
from gaugec.runtime.ranges import LIMIT
from gaugec.runtime.roles import ROLES


@dataclass(frozen=True)
class _Lacking:
    """A form whose `optional` fields need not be there."""

    form: dict[str, Any]
    optional: frozenset[str]


_TEXTS = [str]
_AXES, _TRIPLES, _QUADRUPLES = "axes", "axes of three numbers", "axes of four numbers"
_WIDTHS = {_AXES: 2, _TRIPLES: 3, _QUADRUPLES: 4}
_PARTS = ("copies", "group", "rest")
_SHAPE = "shape"
_NAMES = "names"
_FORM: dict[str, Any] = {
    "certificate": int,
    "gaugec": str,
    "torch": str,
    "file_sha256": str,
    "spec": str,
    "spec_file": str,
    "spec_sha256": str,
    "steps": _TEXTS,
    "theorems": [{"gauge": str, "verdict": str, "conditions": _TEXTS, "steps": [int], "sampled": bool}],
    "loss": str,
    "outputs": _TEXTS,
    "fixed": _TEXTS,
    "taken": _TEXTS,
    "traced": str,
    "inputs": [(str, _SHAPE)],
    "graph_sha256": str,
    "graph_trail": [(int, str)],
    "structures": {
        str: _Lacking(
            {"group": str, "pairing": str, "rotary": int, "verdict": str, "conditions": _TEXTS, "steps": [int]},
            frozenset(DEFAULTS["structures"]),
        )
    },
    "layouts": [
        {
            "copies": int,
            "size": int,
            "bindings": [
                _Lacking(
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
                        "factors": [
                            _Lacking(
                                {"gain": int, "offset": int, "axes": _TRIPLES, "power": str, "shift_by": float},
                                frozenset(DEFAULTS["factors"]),
                            )
                        ],
                        "sums": [
                            _Lacking(
                                {
                                    "weight": int,
                                    "weight_offset": int,
                                    "bias": int,
                                    "bias_offset": int,
                                    "offset": int,
                                    "kept": _QUADRUPLES,
                                    "summed": _TRIPLES,
                                    "coefficient": str,
                                },
                                frozenset(DEFAULTS["sums"]),
                            )
                        ],
                    },
                    frozenset(DEFAULTS["bindings"]),
                )
            ],
        }
    ],
    "sites": [
        _Lacking(
            {
                "gauge": str,
                "index": str,
                "place": str,
                "structure": str,
                "layout": int,
                "parameters": _TEXTS,
                "reads": _TEXTS,
            },
            frozenset(DEFAULTS["sites"]),
        )
    ],
    "refused": _TEXTS,
    "gauged": (int, int),
    "ungauged": {str: str},
    "parameters": {str: _SHAPE},
    "tied": {str: str},
    "roles": [{"role": str, "matrices": [(int, _AXES, _AXES, _AXES)], "parameters": _TEXTS}],
    "unchecked": {"what": str, "why": _TEXTS},
    "assumed": {
        "mode": str,
        "everywhere": {str: str},
        "settings": [(str, str, _NAMES)],
        "globals": [(str, str, str)],
        "tensors": [(str, str, _SHAPE, str)],
        "values": [(str, str)],
        "frozen": _TEXTS,
        "parts": _TEXTS,
        "unknown": _TEXTS,
    },
    "witness": {"error": str, "control": str, "controls": int, "note": str},
}


def complaint(metadata: Mapping[str, Any]) -> str:
    """What is wrong with a certificate's form, or "": types, missing and unknown fields, references, ranges."""
    return _misfit(metadata, _FORM, "METADATA") or _loose(metadata) or _misfolded(metadata) or _odd(metadata["assumed"])


def _loose(metadata: Mapping[str, Any]) -> str:
    """The first reference to what is not there, or ""."""
    layouts, structures, steps = metadata["layouts"], metadata["structures"], range(len(metadata["steps"]))
    gauges = [theorem["gauge"] for theorem in metadata["theorems"]]
    proofs = [(f'METADATA["theorems"][{number}]', theorem) for number, theorem in enumerate(metadata["theorems"])]
    proofs += [(f'METADATA["structures"][{key!r}]', structure) for key, structure in structures.items()]
    for where, proof in proofs:
        if any(number not in steps for number in proof["steps"]):
            return f"{where} has a step that is not there"
    for number, site in enumerate(metadata["sites"]):
        where = f'METADATA["sites"][{number}]'
        if site["gauge"] not in gauges:
            return f"{where} is of a gauge that is not there"
        if site["structure"] not in structures:
            return f"{where} is of a structure that is not there"
        if not 0 <= site["layout"] < len(layouts):
            return f"{where} is of a layout that is not there"
        if len(site["parameters"]) != len(layouts[site["layout"]]["bindings"]):
            return f"{where} has not one parameter for every binding of its layout"
        if _read(layouts[site["layout"]]) != {*range(len(site.get("reads", ())))}:
            return f"{where} has not one name for everything that the charts of its layout read"
    for number, layout in enumerate(layouts):
        for place, binding in enumerate(layout["bindings"]):
            if not _charted(binding) <= {axis for part in _PARTS for axis in binding.get(part, ())}:
                return f'METADATA["layouts"][{number}]["bindings"][{place}] has a chart along axes that it has not'
    return ""


def _read(layout: Mapping[str, Any]) -> set[int]:
    """What the charts of a layout read, by number."""
    factors, sums = (
        [each for binding in layout["bindings"] for each in binding.get(part, ())] for part in ("factors", "sums")
    )
    weights = {each["weight"] for each in sums if each.get("weight", NOTHING) != NOTHING}
    return weights | {each["bias"] for each in sums} | {each["gain"] for each in factors}


def _charted(binding: Mapping[str, Any]) -> set[tuple[int, int]]:
    """The axes of a binding along which its chart varies, or adds."""
    factors = {axis[:2] for each in binding.get("factors", ()) for axis in each["axes"]}
    return factors | {axis[:2] for each in binding.get("sums", ()) for axis in each["kept"]}


def _misfolded(metadata: Mapping[str, Any]) -> str:
    """What is wrong with the ranges, or ""."""
    if any(count < 0 for count, _ in metadata["graph_trail"]) or trail_length(metadata["graph_trail"]) > LIMIT:
        return 'METADATA["graph_trail"] is no trail'
    try:
        whole = unfolded(metadata)
    except ValueError as error:
        return str(error)
    sites, roles = whole["sites"], whole["roles"]
    if set(roles) != set(whole["parameters"]):
        return 'METADATA["roles"] is not of the parameters'
    odd = next((role for role, _ in roles.values() if role not in ROLES), None)
    if odd is not None:
        return f'METADATA["roles"] has {odd!r}, which is no role'
    seen: set[tuple[str, int]] = set()
    for site in sites:
        if (site["gauge"], site["index"]) in seen:
            return f'METADATA["sites"] has the site {site["index"]} of {site["gauge"]} twice'
        seen.add((site["gauge"], site["index"]))
    return ""


def _odd(record: Mapping[str, Any]) -> str:
    """What is wrong with the record of what was assumed, or ""."""
    if record["mode"] not in ("train", "eval"):
        return 'METADATA["assumed"]["mode"] is no mode'
    sizes = [size for _, _, own, _ in record["tensors"] for size in own]
    return 'METADATA["assumed"]["tensors"] has a size that is none' if min(sizes, default=0) < -len(sizes) else ""


def trail_length(trail: list[tuple[int, str]]) -> int:
    """How many digits a trail has when it is written out."""
    return sum(count * len(digits) for count, digits in trail)


def _misfit(value: Any, form: Any, where: str) -> str:
    """The first place where a value has not its form, or ""."""
    optional: frozenset[str] = frozenset()
    if isinstance(form, _Lacking):
        form, optional = form.form, form.optional
    if form == _SHAPE:
        return "" if _numbers(value) else f"{where} is no shape"
    if form == _NAMES:
        good = isinstance(value, tuple) and all(type(name) is str for name in value)
        return "" if good else f"{where} is no tuple of names"
    if isinstance(form, str) and form in _WIDTHS:
        good = isinstance(value, tuple) and all(_numbers(axis) and len(axis) == _WIDTHS[form] for axis in value)
        return "" if good else f"{where} is no tuple of {form}"
    if isinstance(form, type):
        return "" if type(value) is form else f"{where} is no {form.__name__}"
    if type(value) is not type(form):
        return f"{where} is no {type(form).__name__}"
    if isinstance(form, dict) and str in form:
        if any(not isinstance(key, str) for key in value):
            return f"{where} has a key that is no str"
        pairs = [(each, form[str], f"{where}[{key!r}]") for key, each in value.items()]
    elif isinstance(form, dict):
        odd = sorted(map(repr, (set(value) ^ set(form)) - (optional - set(value))))
        if odd:
            return f"{where}: the field {odd[0]} is {'not known' if odd[0] in map(repr, value) else 'missing'}"
        pairs = [(value[key], form[key], f'{where}["{key}"]') for key in form if key in value]
    elif isinstance(form, tuple):
        if len(value) != len(form):
            return f"{where} has not {len(form)} entries"
        pairs = [(each, part, f"{where}[{i}]") for i, (each, part) in enumerate(zip(value, form))]
    else:
        pairs = [(each, form[0], f"{where}[{i}]") for i, each in enumerate(value)]
    return next((wrong for each in pairs if (wrong := _misfit(*each))), "")


def _numbers(value: Any) -> bool:
    return isinstance(value, tuple) and all(type(n) is int for n in value)
