"""A certificate unfolded: what stands once in `METADATA`, or as a range, written out for every site and parameter.

`folded` and `unfolded` are inverse to each other, but for the order of names; docs/certificates.md says what the fields
mean.  The standard library only.

Not here: whether a certificate is of the right form (see `gaugec.certificate.form`), or true (see `gaugec.recheck`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gaugec.runtime.assumed import EVERY
from gaugec.runtime.ranges import LENGTH, LIMIT, expand_row, fold_rows

DEFAULTS: dict[str, dict[str, Any]] = {
    "structures": {"pairing": "", "rotary": 0},
    "bindings": {"offset": 0, "copies": (), "rest": (), "exponent": "1", "dual": False, "shift_by": 0.0},
}
"""Fields of a structure and of a binding that are written only where they say something else."""


def folded(whole: Mapping[str, Any]) -> dict[str, Any]:
    """The certificate of what is written out: steps and refusals once, sites and names by ranges, no defaults."""
    refused = [" ".join(words) for words in _folded_texts((text,) for text in whole["refused"])]
    reasons = {name: " ".join(why) for name, *why in _folded_texts(whole["ungauged"].items())}
    steps = list(dict.fromkeys(s for p in (*whole["theorems"], *whole["structures"].values()) for s in p["steps"]))
    places = {step: number for number, step in enumerate(steps)}

    def proof(fields: Mapping[str, Any]) -> dict[str, Any]:
        return {**fields, "steps": [places[step] for step in fields["steps"]]}

    return {
        **whole,
        "steps": steps,
        "theorems": [proof(theorem) for theorem in whole["theorems"]],
        "structures": {
            key: proof(_without(structure, DEFAULTS["structures"])) for key, structure in whole["structures"].items()
        },
        "layouts": [
            {**layout, "bindings": [_without(binding, DEFAULTS["bindings"]) for binding in layout["bindings"]]}
            for layout in whole["layouts"]
        ],
        "sites": _folded_sites(whole["sites"]),
        "inputs": _folded_pairs(whole["inputs"]),
        "parameters": dict(_folded_pairs(whole["parameters"].items())),
        "tied": {row[0]: row[1] for row in fold_rows(whole["tied"].items())},
        "roles": _folded_roles(whole["roles"]),
        "refused": refused,
        "ungauged": {
            name: f"refused[{refused.index(why)}]" if why in refused else why for name, why in reasons.items()
        },
    }


def verdict(certificate: Mapping[str, Any], structure: str) -> str:
    """The verdict on the sites of a structure, with what was not checked."""
    unchecked = certificate["unchecked"]["what"]
    return str(certificate["structures"][structure]["verdict"]) + (f" ({unchecked})" if unchecked else "")


def unfolded(certificate: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that a certificate says, written out.

    theorems and structures with the texts of their steps; layouts and structures with every field; every site with its
    verdict and what was not checked, and its own index, place and parameters, by gauge and index; inputs, parameters,
    tied, roles (with their matrices) and ungauged by name.

    Raises ValueError for a range that does not expand, and for more than `LIMIT` names or `LENGTH` characters in all.
    """
    budget = _Budget()
    referred = {f"refused[{number}]": text for number, text in enumerate(certificate["refused"])}
    steps, structures = certificate["steps"], certificate["structures"]

    def proof(fields: Mapping[str, Any]) -> dict[str, Any]:
        return {**fields, "steps": [steps[number] for number in fields["steps"]]}

    sites = [
        {
            "gauge": entry["gauge"],
            "index": _number(index),
            "place": place,
            "verdict": verdict(certificate, entry["structure"]),
            "structure": entry["structure"],
            "layout": entry["layout"],
            "parameters": list(parameters),
        }
        for entry in certificate["sites"]
        for index, place, *parameters in budget.rows((entry["index"], entry["place"], *entry["parameters"]))
    ]
    order = {theorem["gauge"]: number for number, theorem in enumerate(certificate["theorems"])}
    return {
        **certificate,
        "theorems": [proof(theorem) for theorem in certificate["theorems"]],
        "structures": {key: {**DEFAULTS["structures"], **proof(each)} for key, each in structures.items()},
        "layouts": [
            {**layout, "bindings": [{**DEFAULTS["bindings"], **binding} for binding in layout["bindings"]]}
            for layout in certificate["layouts"]
        ],
        "sites": sorted(sites, key=lambda site: (order[site["gauge"]], site["index"])),
        "inputs": [(name, shape) for pattern, shape in certificate["inputs"] for (name,) in budget.rows((pattern,))],
        "parameters": {
            name: shape for pattern, shape in certificate["parameters"].items() for (name,) in budget.rows((pattern,))
        },
        "tied": {name: other for row in certificate["tied"].items() for name, other in budget.rows(row)},
        "roles": _unfolded_roles(certificate["roles"], budget),
        "assumed": {
            **certificate["assumed"],
            "settings": [(EVERY, *row) for row in certificate["assumed"]["everywhere"].items()]
            + [
                (owner, attribute, text)
                for attribute, value, owners in certificate["assumed"]["settings"]
                for pattern in owners
                for owner, text in budget.rows((pattern, value))
            ],
            **{
                key: [name for pattern in certificate["assumed"][key] for (name,) in budget.rows((pattern,))]
                for key in ("frozen", "parts")
            },
        },
        "refused": [text for pattern in certificate["refused"] for (text,) in budget.texts((pattern,))],
        "ungauged": {
            name: why
            for pattern, reason in certificate["ungauged"].items()
            for name, why in budget.texts((pattern, referred.get(reason, reason)))
        },
    }


class _Budget:
    """How much a certificate may still stand for."""

    def __init__(self) -> None:
        self.names, self.length = LIMIT, LENGTH

    def rows(self, patterns: Sequence[str]) -> list[tuple[str, ...]]:
        """The rows that a row of patterns stands for."""
        rows = expand_row(patterns)
        self.names -= len(rows) * len(patterns)
        self.length -= len(rows) * sum(map(len, patterns))
        if self.names < 0 or self.length < 0:
            raise ValueError(f"it stands for more than {LIMIT} names, or {LENGTH} characters")
        return rows

    def texts(self, patterns: Sequence[str]) -> list[tuple[str, ...]]:
        """The same for a row of a name and a text, or of a text alone: the words of a text are names by themselves."""
        *names, text = patterns
        words = text.split(" ")
        return [(*row[: len(names)], " ".join(row[len(names) :])) for row in self.rows((*names, *words))]


def _folded_sites(sites: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    alike: dict[tuple[str, str, int], list[tuple[str, ...]]] = {}
    for site in sites:
        row = (str(site["index"]), site["place"], *site["parameters"])
        alike.setdefault((site["gauge"], site["structure"], site["layout"]), []).append(row)
    return [
        {
            "gauge": gauge,
            "index": index,
            "place": place,
            "structure": structure,
            "layout": layout,
            "parameters": parameters,
        }
        for (gauge, structure, layout), rows in alike.items()
        for index, place, *parameters in fold_rows(rows)
    ]


def _folded_pairs(pairs: Iterable[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Names and what they stand for, with the names of equal ones by ranges."""
    alike: dict[Any, list[tuple[str]]] = {}
    for name, value in pairs:
        alike.setdefault(value, []).append((name,))
    return [(pattern, value) for value, names in alike.items() for (pattern,) in fold_rows(names)]


def _folded_roles(roles: Mapping[str, tuple[str, list[tuple[Any, ...]]]]) -> list[dict[str, Any]]:
    """Every role with its matrices once, with the names of the parameters that have it by ranges."""
    alike: dict[Any, list[str]] = {}
    for name, (role, matrices) in roles.items():
        alike.setdefault((role, tuple(matrices)), []).append(name)
    return [
        {"role": role, "matrices": list(matrices), "parameters": [name for (name,) in fold_rows((n,) for n in names)]}
        for (role, matrices), names in alike.items()
    ]


def _unfolded_roles(roles: Iterable[Mapping[str, Any]], budget: _Budget) -> dict[str, tuple[str, list[Any]]]:
    """Every parameter's role and matrices; ValueError where one has two."""
    out: dict[str, tuple[str, list[Any]]] = {}
    for entry in roles:
        for pattern in entry["parameters"]:
            for (name,) in budget.rows((pattern,)):
                if name in out:
                    raise ValueError(f"{name[:80]!r} has two roles")
                out[name] = entry["role"], entry["matrices"]
    return out


def _folded_texts(rows: Iterable[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Rows of a name and a text, or of a text alone, folded word by word."""
    return fold_rows((*names, *text.split(" ")) for *names, text in rows)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise ValueError(f"{text[:80]!r} is no number of a site")
    return int(text)


def _without(fields: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if key not in defaults or value != defaults[key]}
