"""The memory in which tensors lie, of every layout: who shares it, what was in it, a mark on it, a copy elsewhere.

A plain tensor has sizes, strides and one storage.  One that is sparse, compressed, nested or jagged is made of plain
ones; of what is opaque (mkldnn) nobody says where it lies.

What this module does not do: it looks at no Python object beside tensors (see `gaugec.model.reachable`).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from gaugec.model.interfaces import FakeTensor, StorageWeakRef, storage

_ROWS = (torch.sparse_csr, torch.sparse_bsr)
_COLUMNS = (torch.sparse_csc, torch.sparse_bsc)


def plain(x: Tensor) -> bool:
    """Has it sizes, strides and one storage?"""
    return x.layout is torch.strided and not x.is_nested and not is_lazy(x)


def changeable(x: Tensor) -> bool:
    """Can it be written in place, entry by entry, with other floating numbers?"""
    if not plain(x) or x.is_inference() or not x.is_floating_point():
        return False
    return x.numel() > 0 and all(n < 2 or stride for n, stride in zip(x.shape, x.stride()))


def parts(x: Tensor) -> list[Tensor]:
    """The plain tensors that it is made of, in whose memory it lies; none where nobody says."""
    if plain(x):
        return [x]
    x = x.detach()
    if x.layout is torch.sparse_coo:
        return [x._indices(), x._values()]
    if x.layout in _ROWS:
        return [x.crow_indices(), x.col_indices(), x.values()]
    if x.layout in _COLUMNS:
        return [x.ccol_indices(), x.row_indices(), x.values()]
    return [x.values()] if x.is_nested else []


def kind(x: Tensor) -> str:
    """What somebody calls it who asks why it is no plain tensor."""
    if x.is_nested:
        return "nested" if x.layout is torch.strided else "jagged"
    return "quantized" if x.is_quantized else str(x.layout).removeprefix("torch.").strip("_").replace("_", " ")


class MarkedMemory:
    """Memory of plain tensors that has a mark, as long as it lives: another tensor may get the same later.

    alive: of a storage, by its identity, a reference that does not keep it, or None where somebody else does.
    """

    def __init__(self, kept: Iterable[Tensor] = ()) -> None:
        self.alive: dict[int, Any] = {storage(x): None for x in kept if plain(x)}

    def __contains__(self, x: Tensor) -> bool:
        if not plain(x) or storage(x) not in self.alive:
            return False
        weak = self.alive[storage(x)]
        return weak is None or not weak.expired()

    def add(self, x: Tensor) -> None:
        """Mark the memory of a plain tensor."""
        if x not in self:
            self.alive[storage(x)] = StorageWeakRef(x.untyped_storage())

    def drop(self, x: Tensor) -> None:
        """Take the mark away, if there is one."""
        self.alive.pop(storage(x), None)


def share_memory(one: Tensor, two: Tensor) -> bool:
    """Do two tensors live in the same memory, by whatever road (a view, `.data`, a numpy array)?"""
    return any(_overlap(a, b) for a in parts(one) for b in parts(two))


def _overlap(one: Tensor, two: Tensor) -> bool:
    if storage(one) == storage(two):
        return True
    a, b = one.untyped_storage(), two.untyped_storage()
    if one.device != two.device or one.is_meta or not a.nbytes() or not b.nbytes():
        return False
    first, second = a.data_ptr(), b.data_ptr()
    return bool(first) and first < second + b.nbytes() and second < first + a.nbytes()


def values(x: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Every part with a copy of what is in it; nothing of what has no numbers."""
    if is_lazy(x) or isinstance(x, FakeTensor) or x.is_meta:
        return []
    return [(part, part.detach().clone()) for part in parts(x)]


def put_back(part: Tensor, value: Tensor) -> None:
    """Writes what was in it, where something else is; a tensor of another shape gets new memory."""
    with torch.inference_mode(part.is_inference()), torch.no_grad():
        if part.shape != value.shape:
            part.data = value
        elif not torch.equal(part.detach(), value):
            part.detach().copy_(value)


def copied_model(model: nn.Module) -> nn.Module:
    """A deep copy, in memory of its own, also of tensors of which `copy.deepcopy` makes none.

    What has no numbers, or is opaque, is no floating tensor there; what is expanded has an entry of its own for each of
    its places; what a module keeps of a computation (the weight of an old weight norm) is none of its own.
    """
    memo: dict[int, Any] = {}
    for module in model.modules():
        for x in [*module._parameters.values(), *module._buffers.values(), *module.__dict__.values()]:
            if isinstance(x, Tensor) and _odd(x):
                empty = x.is_meta or x.is_mkldnn
                made = torch.zeros(x.shape, dtype=torch.bool) if empty else x.detach().clone()
                trained = x.requires_grad and not empty
                memo[id(x)] = nn.Parameter(made, trained) if isinstance(x, nn.Parameter) else made
    return copy.deepcopy(model, memo)


def _odd(x: Tensor) -> bool:
    if type(x) not in (Tensor, nn.Parameter, nn.Buffer) or not plain(x) or x.is_meta:
        return not is_lazy(x)
    return not x.is_leaf or any(n > 1 and stride == 0 for n, stride in zip(x.shape, x.stride()))


__all__ = ["MarkedMemory", "changeable", "copied_model", "kind", "parts", "plain", "put_back", "share_memory", "values"]
