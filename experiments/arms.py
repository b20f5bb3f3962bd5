"""The arms of a comparison: an optimizer, and which gauges it respects; compiled once, and kept in a file.

What this module does not do: it picks no rate and runs nothing.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

import gaugec
from gaugec.runtime import DDCSGD, DDCAdamW, DDCMuon, Gauge, load

DDC = {"DDCAdamW": DDCAdamW, "DDCMuon": DDCMuon, "DDCSGD": DDCSGD}
PLAIN = {"AdamW": torch.optim.AdamW, "SGD": torch.optim.SGD}

# the dead directions that one copy of a group of width k has
DIMENSIONS = {
    "positive": lambda k: k,
    "positive_pairs": lambda k: k // 2,
    "torus": lambda k: k // 2,
    "translation": lambda k: k,
    "orthogonal": lambda k: k * (k - 1) // 2,
    "orthogonal_ones": lambda k: (k - 1) * (k - 2) // 2,
    "invertible": lambda k: k * k,
}


@dataclass(frozen=True)
class Arm:
    """One optimizer of a comparison.

    title: for people.  optimizer: its class.  spec: for gaugec's, the shipped spec that it respects, or the text of one
    of ours.  options: of the optimizer, the same in every run.
    """

    title: str
    optimizer: str
    spec: str = ""
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def slug(self) -> str:
        """The title in a file's name."""
        return "-".join("".join(c if c.isalnum() or c == "_" else " " for c in self.title).split())

    @property
    def settings(self) -> dict[str, Any]:
        """All of it, for a record."""
        return {**dataclasses.asdict(self), "options": dict(self.options)}

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Arm:
        """The arm of a record."""
        return cls(**settings)

    def made(self, model: nn.Module, gauge: Gauge | None, **options: Any) -> torch.optim.Optimizer:
        """The optimizer of a model."""
        options = {**self.options, **options}
        if self.optimizer in PLAIN:
            return PLAIN[self.optimizer](model.parameters(), **options)
        return DDC[self.optimizer](model.named_parameters(), gauge, **options)


@functools.cache
def gauges(spec: str) -> list[str]:
    """The names of a spec's gauges, by its name or of its text; of none, none."""
    return [entry.gauge.name for entry in read(spec).entries] if spec else []


def read(spec: str) -> Any:
    """A spec by its name, or of its text, as gaugec.compile takes it."""
    if "\n" not in spec:
        return gaugec.load(spec)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spec.gauge"
        path.write_text(spec, encoding="utf-8")
        return gaugec.load(path)


class Compiled(NamedTuple):
    """A gauge, and the number of dead directions at all its sites: the dimensions of their groups, added up."""

    gauge: Gauge
    directions: int


def compiled(spec: str, model: nn.Module, inputs: Mapping[str, Any], what: Mapping[str, Any], cache: Path) -> Compiled:
    """What a spec, by name or as text, gives in a model: of the folder `cache`, or compiled now and kept there.

    inputs: keywords of gaugec.compile, with the example inputs.  what: all that the model depends on, as JSON has it.
    """
    key = json.dumps([spec, gauges(spec), what, gaugec.__version__, torch.__version__], sort_keys=True)
    path = cache / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.py"
    told = path.with_suffix(".json")
    if not told.exists():
        cache.mkdir(parents=True, exist_ok=True)
        found = gaugec.compile(read(spec), model, **inputs)
        found.save(path)
        told.write_text(json.dumps({"directions": directions(found)}), encoding="utf-8")
    return Compiled(load(path), json.loads(told.read_text(encoding="utf-8"))["directions"])


def directions(found: gaugec.CompiledGauge) -> int:
    """The dimensions of the groups at all sites, added up."""
    return sum(site.copies * DIMENSIONS[site.group](site.rotary or site.width) for site in found.sites)
