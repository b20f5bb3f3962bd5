"""Example inputs, and inputs of other sizes made from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from gaugec.model.interfaces import leaves, tree_map

Inputs = tuple[tuple[Any, ...], dict[str, Any]]

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


def variations(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[dict[int, int]]:
    """Which sizes to change: batch and length together, then the batch alone."""
    tensors = tensors_of(args, kwargs)
    batches = sorted({t.shape[0] for t in tensors if t.ndim > 0})
    if len(batches) != 1:
        together = {batch: batch + 2 + n for n, batch in enumerate(batches)}
        return [together, *({batch: batch + 2} for batch in batches)] if batches else []
    (batch,) = batches
    lengths = {t.shape[1] for t in tensors if t.ndim > 1}
    tries: list[dict[int, int]] = []
    if len(lengths) == 1:
        (length,) = lengths
        if length != batch and length > 1:
            tries.append({batch: batch + 2, length: length + 60})  # beyond what a branch might ask for in a small test
            tries.append({batch: batch + 2, length: length + 3})
            tries.append({batch: batch + 2, length: length - 1})
    tries.append({batch: batch + 2})
    return tries


def resized(
    args: tuple[Any, ...], kwargs: dict[str, Any], change: Mapping[int, int], axes: Sequence[int] = (0, 1)
) -> Inputs:
    """The inputs with these axes of every tensor resized as `change` says (old size -> new), by repeating rows."""

    def resize(x: Any) -> Any:
        if not isinstance(x, torch.Tensor):
            return x
        for axis in (n for n in axes if n < x.ndim):
            wanted = change.get(x.shape[axis])
            if wanted is not None:
                positions = torch.arange(wanted, device=x.device) % x.shape[axis]
                x = x.index_select(axis, positions)
        return x

    return mapped(resize, args, kwargs)
