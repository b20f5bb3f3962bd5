"""What a forward does beside returning its value: tensors that it leaves where a training loop may read them, state
that makes the next call another function, and random choices that are not torch's.

A trace shows none of it.  The model runs twice, as in training, on its example inputs; what it leaves is found by what
is still alive when the outputs are gone, wherever it is kept: a list of a hook, a global, a container on a module.

What this module does not do: it sees what these calls do, and no more.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from gaugec.errors import MatchError
from gaugec.model.inputs import copied
from gaugec.model.interfaces import DispatchMode, StorageWeakRef, leaves, storage, writes
from gaugec.model.preserve import DEPTH, small
from gaugec.model.run import quiet, trained_modes

_OWN = ("_parameters", "_buffers", "_modules", "training")


def watch(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> frozenset[str]:
    """Runs the forward.  A forward that cannot run here is let pass: the export will say why.

    Returns: the buffers that it writes.  What it writes stays written: see `gaugec.model.preserve`.

    Raises:
        MatchError: it leaves a tensor that depends on a parameter, it writes to a parameter, it changes its own state,
            or it draws from Python's random numbers.
    """
    if any(is_lazy(p) for p in model.parameters()):
        return frozenset()
    inputs = copied(args, kwargs)
    known = {name: p.detach().clone() for name, p in model.named_parameters()} if small(model) else {}
    versions = {name: writes(p) for name, p in model.named_parameters()}
    dice = random.getstate()
    records = _Records(model, inputs)
    with trained_modes(model), quiet(), torch.random.fork_rng(devices=[]), torch.enable_grad():
        try:
            with records:
                made = model(*inputs[0], **inputs[1])  # what is set up once, on the first call, is no memory
            before = dict(_state(model))
            held = {name: (b, writes(b), b.clone()) for name, b in model.named_buffers()}
            with records:
                made = model(*inputs[0], **inputs[1])
        except Exception:
            return frozenset()
    after, rolled = dict(_state(model)), random.getstate() != dice
    del made
    gc.collect()
    left = records.left()
    now = dict(model.named_buffers())
    written = frozenset(name for name, was in held.items() if name not in now or _written(now[name], *was))
    for name, p in model.named_parameters():
        if writes(p) != versions.get(name) or (name in known and not _equal(p.detach(), known[name])):
            raise MatchError(
                f"the forward writes to the parameter {name}",
                help="what training steps on must be written by the optimizer alone",
            )
    if rolled:
        raise MatchError(
            "the forward draws from Python's random numbers", help="a trace freezes what is drawn: use torch's"
        )
    changed = [name for name, value in after.items() if before.get(name) != value]
    if changed:
        raise MatchError(
            f"the forward changes {changed[0]}: its next call may be another function",
            help="what is proved of one call must hold for all: keep no state, or keep it in a buffer",
        )
    if left:
        raise MatchError(
            f"the forward leaves a tensor behind that depends on a parameter (made by {left[0]})",
            help="what leaves the forward unseen cannot be proved invariant: return it instead",
        )
    return written


def _equal(one: Tensor, two: Tensor) -> bool:
    return one.shape == two.shape and (one.is_meta or torch.equal(one.nan_to_num(), two.nan_to_num()))


def _written(now: Tensor, before: Tensor, version: int, value: Tensor) -> bool:
    return now is not before or writes(now) != version or not _equal(now, value)


def _state(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Every plain value on a module, in containers too."""

    def within(name: str, value: Any, depth: int) -> Iterator[tuple[str, Any]]:
        if isinstance(value, (bool, int, float, str)) or value is None:
            yield name, value
        elif depth < DEPTH and isinstance(value, Mapping):
            for key, item in value.items():
                yield from within(f"{name}[{key!r}]", item, depth + 1)
        elif depth < DEPTH and isinstance(value, (list, tuple)):
            for number, item in enumerate(value):
                yield from within(f"{name}[{number}]", item, depth + 1)

    for path, module in model.named_modules():
        for name, value in module.__dict__.items():
            if name not in _OWN and not name.endswith("_hooks"):
                yield from within(f"{path}.{name}".lstrip("."), value, 0)


class _Records(DispatchMode):
    """Follows what depends on a parameter from operation to operation, by the memory in which it lies."""

    def __init__(self, model: nn.Module, inputs: Any) -> None:
        super().__init__()
        known = [*model.parameters(), *model.buffers(), *(x for x in leaves(inputs) if isinstance(x, Tensor))]
        self.known = {storage(x) for x in known}
        self.moved: dict[int, Any] = {storage(p): None for p in model.parameters()}
        self.made: list[tuple[str, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        depends = any(self._depends(x) for x in leaves(args, kwargs or {}) if isinstance(x, Tensor))
        made = func(*args, **(kwargs or {}))
        for x in leaves(made):
            if isinstance(x, Tensor) and x.layout is torch.strided:
                memory = storage(x)
                if memory in self.known:
                    continue
                if depends and not self._depends(x):
                    weak = StorageWeakRef(x.untyped_storage())
                    self.moved[memory] = weak
                    self.made.append((str(getattr(func, "_overloadpacket", func)), weak))
                elif not depends:
                    self.moved.pop(memory, None)
        return made

    def _depends(self, x: Tensor) -> bool:
        if x.layout is not torch.strided or storage(x) not in self.moved:
            return False
        weak = self.moved[storage(x)]
        return weak is None or not weak.expired()

    def left(self) -> list[str]:
        """The operations whose results are still alive."""
        return [name for name, weak in self.made if not weak.expired()]


__all__ = ["watch"]
