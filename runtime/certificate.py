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

NOTHING = -1  # the weight of a sum that has none
DEFAULTS: dict[str, dict[str, Any]] = {
    "structures": {"pairing": "", "rotary": 0},
    "bindings": {
        "offset": 0, "copies": (), "rest": (), "exponent": "1", "dual": False, "shift_by": 0.0,
        "factors": [], "sums": [],
    },
    "factors": {"offset": 0, "power": "1", "shift_by": 0.0},
    "sums": {"weight": NOTHING, "weight_offset": 0, "bias_offset": 0, "offset": 0, "summed": (), "coefficient": "1"},
    "sites": {"reads": []},
}  # fmt: skip
"""Fields that are written only where they say something else: of a structure, of a binding, of a factor and of a sum in
its chart, and of a site."""


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
            {**layout, "bindings": [_folded_binding(binding) for binding in layout["bindings"]]}
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


def held(layout: Mapping[str, Any], reads: Sequence[str]) -> list[str]:
    """The parameters that the charts of a layout hold, each once: gains, and biases that are summed.

    reads: what the charts of a site read, or the patterns of several sites.
    """
    gains = (each["gain"] for binding in layout["bindings"] for each in binding.get("factors", ()))
    biases = (each["bias"] for binding in layout["bindings"] for each in binding.get("sums", ()))
    numbers = {*gains, *biases}
    return [name for number, name in enumerate(reads) if number in numbers]


def unfolded(certificate: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that a certificate says, written out.

    theorems and structures with the texts of their steps; layouts and structures with every field; every site with its
    verdict and what was not checked, and its own index, place, parameters, and what its charts read and hold, by gauge
    and index; inputs, parameters, tied, roles (with their matrices) and ungauged by name.

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
            "parameters": names[: len(entry["parameters"])],
            "reads": (reads := names[len(entry["parameters"]) :]),
            "held": held(certificate["layouts"][entry["layout"]], reads),
        }
        for entry in certificate["sites"]
        for index, place, *names in budget.rows(
            (entry["index"], entry["place"], *entry["parameters"], *entry.get("reads", ()))
        )
    ]
    order = {theorem["gauge"]: number for number, theorem in enumerate(certificate["theorems"])}
    return {
        **certificate,
        "theorems": [proof(theorem) for theorem in certificate["theorems"]],
        "structures": {key: {**DEFAULTS["structures"], **proof(each)} for key, each in structures.items()},
        "layouts": [
            {**layout, "bindings": [_unfolded_binding(binding) for binding in layout["bindings"]]}
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


def _folded_binding(binding: Mapping[str, Any]) -> dict[str, Any]:
    chart = {part: [_without(each, DEFAULTS[part]) for each in binding[part]] for part in ("factors", "sums")}
    return _without({**binding, **chart}, DEFAULTS["bindings"])


def _unfolded_binding(binding: Mapping[str, Any]) -> dict[str, Any]:
    chart = {part: [{**DEFAULTS[part], **each} for each in binding.get(part, ())] for part in ("factors", "sums")}
    return {**DEFAULTS["bindings"], **binding, **chart}


def _folded_sites(sites: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    alike: dict[tuple[str, str, int, int], list[tuple[str, ...]]] = {}
    for site in sites:
        row = (str(site["index"]), site["place"], *site["parameters"], *site["reads"])
        alike.setdefault((site["gauge"], site["structure"], site["layout"], len(site["parameters"])), []).append(row)
    return [
        _without(
            {
                "gauge": gauge,
                "index": index,
                "place": place,
                "structure": structure,
                "layout": layout,
                "parameters": names[:count],
                "reads": names[count:],
            },
            DEFAULTS["sites"],
        )
        for (gauge, structure, layout, count), rows in alike.items()
        for index, place, *names in fold_rows(rows)
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
