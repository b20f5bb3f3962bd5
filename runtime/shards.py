"""Parameters of which every process has some rows, as `torch.distributed.fsdp.fully_shard` makes them.

A step works on the rows that are at hand; frames and pins read whole parameters, which are gathered for them. What is
computed of gathered values is the same on every process, to the bit. Not here: what a step does with rows; which
placements are supported.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gaugec.runtime.listed import listed


@dataclass(frozen=True)
class Shard:
    """Which rows of a tensor this process has: part number `rank` of `count`, as torch.chunk divides them.

    mesh, placements: as torch has them of a DTensor.
    """

    mesh: Any
    placements: tuple[Any, ...]
    rank: int
    count: int

    @property
    def group(self) -> Any:
        """The processes."""
        return self.mesh.get_group(0)

    def chunk(self, length: int) -> int:
        """How many rows of so many a process has, but for the last ones that have any."""
        return -(-length // self.count)

    def rows(self, length: int) -> tuple[int, int]:
        """From and to, of so many rows."""
        chunk = self.chunk(length)
        first = min(length, chunk * self.rank)
        return first, min(length, first + chunk)


def is_distributed(x: object) -> bool:
    """Is it a DTensor?"""
    tensors = sys.modules.get("torch.distributed.tensor")
    return tensors is not None and isinstance(x, tensors.DTensor)


def check(pairs: Iterable[tuple[str, Any]], orbit: str, compile: bool) -> None:
    """Raise ValueError where a named parameter is divided in a way, or among settings, that no step is written for."""
    divided = {name: p for name, p in pairs if is_distributed(p)}
    for name, p in divided.items():
        placement = p.placements[0]
        rowwise = type(placement).__name__ == "Shard" and placement.dim == 0
        if p.device_mesh.ndim > 1 or not (rowwise or placement.is_replicate()):
            raise ValueError(
                f"{name} is placed by {', '.join(map(str, p.placements))} on a mesh of {tuple(p.device_mesh.shape)}: "
                "parameters are stepped that are sharded by rows, Shard(0), or whole, Replicate(), on a mesh of one "
                "axis, as fully_shard places them. Place it so, or use DDP"
            )
        if p.device.type != p.device_mesh.device_type:
            raise ValueError(
                f"{name} is on {p.device}, and its mesh is of {p.device_mesh.device_type} devices: what is gathered of "
                "it would go through other memory. Keep parameters on the mesh, without an offload policy, and make "
                "the optimizer when they are there"
            )
    if divided and orbit != "pinned":
        raise ValueError(
            f"orbit={orbit!r} projects steps of whole parameters, and {listed(list(divided))} are DTensors, of which "
            "a process has a part. Use orbit='pinned', or DDP"
        )
    if divided and compile:
        raise ValueError(
            f"compile=True fuses steps of whole parameters, and {listed(list(divided))} are DTensors, of which a "
            "process has a part. Use compile=False, or DDP"
        )


def shard(p: Any) -> Shard | None:
    """Which rows this process has; None where it has all."""
    if not is_distributed(p) or not p.placements[0].is_shard():
        return None
    return Shard(p.device_mesh, tuple(p.placements), p.device_mesh.get_local_rank(0), p.device_mesh.size(0))


def rows(p: Tensor) -> tuple[int, int]:
    """From and to which row this process has a parameter; a scalar is one row."""
    here, length = shard(p), p.shape[0] if p.dim() else 1
    return (0, length) if here is None else here.rows(length)


def own(x: Any) -> Tensor:
    """The rows that this process has, detached: the memory itself."""
    if is_distributed(x):
        with torch.no_grad():
            x = x.to_local()
    out: Tensor = x.detach()
    return out


def placed(x: Any, p: Any) -> Tensor:
    """What this process has of x once it is placed as p is; a plain tensor as it is."""
    if not is_distributed(x):
        out: Tensor = x
        return out
    return own(x if x.placements == p.placements else x.redistribute(placements=p.placements))


def whole(params: Sequence[Tensor]) -> list[Tensor]:
    """The whole values of parameters, on every process: one all-gather for all of a group, dtype and device."""
    return gathered([own(p) for p in params], params)


def gathered(parts: Sequence[Tensor], params: Sequence[Tensor]) -> list[Tensor]:
    """The same of tensors of which every process has the rows that it has of parameters of their shapes."""
    out = list(parts)
    for here, places in _alike([(x, shard(p)) for x, p in zip(out, params)]):
        shapes = [params[i].shape for i in places]
        sizes = [here.chunk(shape[0]) * math.prod(shape[1:]) for shape in shapes]
        packed = out[places[0]].new_zeros(sum(sizes))
        for i, room in zip(places, packed.split(sizes)):
            room[: out[i].numel()].copy_(out[i].flatten())
        joint = packed.new_empty(here.count * len(packed))
        torch.distributed.all_gather_single(joint, packed, group=here.group)
        for i, shape, part in zip(places, shapes, joint.view(here.count, -1).split(sizes, 1)):
            out[i] = part.reshape(here.count * here.chunk(shape[0]), *shape[1:])[: shape[0]]
    return out


def summed(parts: Sequence[tuple[Tensor, Shard | None]]) -> list[Tensor]:
    """Tensors added up over processes, where there are several: one all-reduce for all of a group, dtype and device."""
    out = [x for x, _ in parts]
    for here, places in _alike(parts):
        packed = torch.cat([out[i].flatten() for i in places])
        torch.distributed.all_reduce(packed, group=here.group)
        for i, part in zip(places, packed.split([out[i].numel() for i in places])):
            out[i] = part.view_as(out[i])
    return out


def _alike(parts: Sequence[tuple[Tensor, Shard | None]]) -> list[tuple[Shard, list[int]]]:
    """The numbers of tensors that go in one message, in an order that is the same on every process."""
    kinds: dict[object, tuple[Shard, list[int]]] = {}
    for i, (x, here) in enumerate(parts):
        if here is not None:
            kinds.setdefault((here, x.dtype, x.device), (here, []))[1].append(i)
    return list(kinds.values())


# --- what is shown and saved


def shown(x: Tensor, here: Shard | None, shape: Sequence[int]) -> Tensor:
    """Own rows as a DTensor of the whole shape, in the same memory; as they are where this process has all."""
    if here is None:
        return x
    tensors = sys.modules["torch.distributed.tensor"]
    stride = torch.empty(shape, device="meta").stride()
    made: Tensor = tensors.DTensor.from_local(
        x, here.mesh, here.placements, run_check=False, shape=torch.Size(shape), stride=stride
    )
    return made


def full(value: Any) -> Tensor:
    """A value on every process, however it is divided."""
    out: Tensor = value.full_tensor() if is_distributed(value) else value
    return out


def fill(target: Any, value: Any) -> None:
    """Write a value of the whole shape, divided in any way or none, to what `shown` returned or to a whole tensor."""
    here = shard(target)
    if is_distributed(value) and here is not None and value.placements == target.placements:
        own(target).copy_(own(value))
        return
    value = full(value)
    own(target).copy_(value if here is None else value[slice(*here.rows(value.shape[0]))])
