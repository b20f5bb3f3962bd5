"""Leaves a model as it was, whatever its forward did: caches that grew, attributes and buffers that it set.

A forward that runs to be looked at runs at sizes, and on tensors, that are not those of training: a table that it keeps
of them would be found there later.

What this module does not do: what a forward keeps elsewhere (in a global, in a closure) it does not see; and the values
of parameters are kept only of a model of fewer than `SMALL` elements.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from gaugec.model.dice import dice_kept
from gaugec.model.memory import put_back, values

SMALL = 3e8  # elements of all parameters: of more, no copy is made, and nothing is run to be compared
DEPTH = 6  # of containers in containers


class _Kept:
    """What a model is made of, and what its containers and tensors held."""

    def __init__(self, model: nn.Module, parameters: bool) -> None:
        self.containers: dict[int, tuple[Any, Any]] = {}
        self.tensors: dict[int, list[tuple[Tensor, Tensor]]] = {}
        self.own = {id(p): p for p in model.parameters()}
        for p in self.own.values() if parameters and small(model) else ():
            self._tensor(p)
        for module in model.modules():
            self._keep(module.__dict__, 0)

    def _keep(self, value: Any, depth: int) -> None:
        if isinstance(value, Tensor):
            if id(value) not in self.own:
                self._tensor(value)
        elif isinstance(value, (dict, list, set, deque)) and depth <= DEPTH and id(value) not in self.containers:
            self.containers[id(value)] = (value, value.copy())
            for item in list(value.values()) if isinstance(value, dict) else list(value):
                self._keep(item, depth + 1)
        elif isinstance(value, tuple) and depth <= DEPTH:
            for item in value:
                self._keep(item, depth + 1)

    def _tensor(self, x: Tensor) -> None:
        self.tensors[id(x)] = values(x)

    def back(self) -> None:
        for container, content in self.containers.values():
            if isinstance(container, dict) and _same(container, content):
                continue
            if isinstance(container, list):
                container[:] = content
                continue
            container.clear()
            (container.extend if isinstance(container, deque) else container.update)(content)
        for parts in self.tensors.values():
            for part, value in parts:
                put_back(part, value)


def small(model: nn.Module) -> bool:
    """May its parameters be copied, and have they values?"""
    own = [p for p in model.parameters() if not is_lazy(p)]
    return sum(p.numel() for p in own) <= SMALL and not any(p.is_meta for p in own)


def _same(one: dict[Any, Any], two: dict[Any, Any]) -> bool:
    return list(one) == list(two) and all(a is b for a, b in zip(one.values(), two.values()))


@contextlib.contextmanager
def preserved(model: nn.Module | None, *, parameters: bool = True) -> Iterator[None]:
    """The model, the states of random numbers and torch's default type are afterwards what they were before.

    parameters: also their values, of which a copy is made.  What is no module is let pass.
    """
    if not isinstance(model, nn.Module):
        yield
        return
    kept, kind = _Kept(model, parameters), torch.get_default_dtype()
    try:
        with dice_kept(model):
            yield
    finally:
        kept.back()
        torch.set_default_dtype(kind)


__all__ = ["DEPTH", "SMALL", "preserved", "small"]
