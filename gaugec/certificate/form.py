"""The form of a certificate: which entries it has and of what kind, and what is wrong with one that departs from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

VERSION = 1


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
