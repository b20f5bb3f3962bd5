"""The inputs of a call by name: its tensors, and all else in words.

Not here: what differs from those of a compile (see `gaugec.runtime.differences`).
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from gaugec.runtime.holders import attributes, is_object, lookup
from gaugec.runtime.told import DEPTH, told

NESTED = 100  # containers inside each other


def inputs(
    model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors among a model's inputs by name, and all else in words; what is what it would be by default is left
    out."""
    tensors: dict[str, Tensor] = {}
    values: dict[str, str] = {}

    def within(name: str, value: Any, depth: int) -> None:
        if isinstance(value, Tensor):
            tensors[name] = value
            first = next(other for other, x in tensors.items() if x is value)
            if first != name:
                values[f"{name} itself"] = f"the same as {first}"
        elif isinstance(value, Mapping) and value and depth < NESTED:
            for key, item in value.items():
                within(f"{name}[{key!r}]" if name else str(key), item, depth + 1)
        elif isinstance(value, list | tuple) and value and depth < NESTED:
            for number, item in enumerate(value):
                within(f"{name}[{number}]", item, depth + 1)
        else:
            values[name] = told(value)
            if is_object(value) and depth < DEPTH:
                for attribute in attributes(value):
                    within(f"{name}.{attribute}", lookup(value, attribute), depth + 1)

    for name, value in _by_name(model, args, kwargs).items():
        within(name, value, 0)
    return tensors, values


def _by_name(model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    try:
        bound = inspect.signature(model.forward).bind(*args, **kwargs)
    except (TypeError, ValueError):
        return {**{f"input {number}": x for number, x in enumerate(args)}, **kwargs}
    found: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        parameter = bound.signature.parameters[name]
        if parameter.kind is parameter.VAR_KEYWORD:
            found.update(value)
        elif parameter.kind is parameter.VAR_POSITIONAL:
            found.update({f"{name}[{number}]": x for number, x in enumerate(value)})
        elif isinstance(value, Tensor) or told(value) != told(parameter.default):
            found[name] = value
    return found
