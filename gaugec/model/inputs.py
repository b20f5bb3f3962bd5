"""Example inputs, and inputs of other sizes made from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

from gaugec.model.interfaces import leaves, tree_map

Inputs = tuple[tuple[Any, ...], dict[str, Any]]
Axis = tuple[int, int]  # the number of a tensor in the order of `tensors_of`, and one of its axes

# elements of the inputs, in units of the example's and at all, beyond which a forward for real may want more time and
# memory than there is
LARGER, LARGE = 8, 200_000


def tensors_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[torch.Tensor]:
    """Every tensor among the example inputs, however nested."""
    return [x for x in leaves(args, kwargs) if isinstance(x, torch.Tensor)]


def elements(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """How many numbers all tensors among the inputs hold."""
    return sum(x.numel() for x in tensors_of(args, kwargs))


def mapped(function: Callable[[Any], Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Inputs:
    """The inputs with the function's value in place of every leaf; a tensor that is given twice stays one tensor.

    A forward may ask for that (self-attention of `MultiheadAttention(x, x, x)`), and export sees it.
    """
    known: dict[int, Any] = {}

    def once(x: Any) -> Any:
        if not isinstance(x, torch.Tensor):
            return function(x)
        if id(x) not in known:
            known[id(x)] = function(x)
        return known[id(x)]

    made = tree_map(once, (args, kwargs))
    return made[0], made[1]


def copied(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Inputs:
    """The inputs with tensors of their own, for what writes to them or marks them."""
    return mapped(lambda x: x.detach().clone() if isinstance(x, torch.Tensor) else x, args, kwargs)


def axes_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[Axis, int]:
    """The size of every axis of every tensor; a tensor that is handed in twice is one."""
    found: dict[Axis, int] = {}
    for number, x in _once(args, kwargs).values():
        found.update({(number, axis): n for axis, n in enumerate(x.shape)})
    return found


def numbers_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[int, int]:
    """The identity of every tensor -> its number, the first where it is handed in twice."""
    return {identity: number for identity, (number, _) in _once(args, kwargs).items()}


def alike(args: tuple[Any, ...], kwargs: dict[str, Any], axes: Iterable[Axis]) -> dict[Axis, Axis]:
    """These axes in every place where their tensors are handed in -> the axis, see `axes_of`."""
    first = numbers_of(args, kwargs)
    wanted = set(axes)
    return {
        (number, axis): (first[id(x)], axis)
        for number, x in enumerate(tensors_of(args, kwargs))
        for axis in range(x.ndim)
        if (first[id(x)], axis) in wanted
    }


def resized(args: tuple[Any, ...], kwargs: dict[str, Any], change: Mapping[Axis, int]) -> Inputs:
    """The inputs with these axes at new sizes, by repeating rows; a tensor that is handed in twice still is one."""
    numbers = numbers_of(args, kwargs)

    def resize(x: Any) -> Any:
        if not isinstance(x, torch.Tensor):
            return x
        y = x
        for axis, n in enumerate(x.shape):
            wanted = change.get((numbers[id(x)], axis), n)
            if wanted != n:
                y = y.index_select(axis, torch.arange(wanted, device=x.device) % n)
        return y

    return mapped(resize, args, kwargs)


def _once(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[int, tuple[int, torch.Tensor]]:
    """Every tensor once, by its identity, with the first number that it has."""
    found: dict[int, tuple[int, torch.Tensor]] = {}
    for number, x in enumerate(tensors_of(args, kwargs)):
        found.setdefault(id(x), (number, x))
    return found
