"""The parameters that an optimizer is given, by name and by group."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

Groups = Iterable[tuple[str, Tensor]] | Iterable[Mapping[str, Any]]


def _named(named_parameters: Groups) -> list[Any]:
    """Param groups of (name, parameter) pairs, whatever form they came in."""
    entries: list[Any] = list(named_parameters)
    if not entries:
        raise ValueError("the optimizer was given no parameters")
    groups: list[dict[str, Any]] = [{"params": entries}]
    if isinstance(entries[0], Mapping):
        groups = [dict(entry) for entry in entries]
    for group in groups:
        pairs = group["params"]
        pairs = list(pairs) if not isinstance(pairs, Tensor) else [pairs]
        for pair in pairs:
            if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str)):
                raise TypeError(
                    "a gauge knows parameters by name: pass model.named_parameters(), or groups of (name, parameter)"
                )
        group["params"] = pairs
        if len({id(p) for _, p in pairs}) != len(pairs):
            names: dict[int, str] = {}
            for name, p in pairs:
                if id(p) in names:
                    raise ValueError(f"{name} is the same parameter as {names[id(p)]}: give it once")
                names[id(p)] = name
    return groups
