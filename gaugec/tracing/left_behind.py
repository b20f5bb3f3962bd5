"""Tensors that depend on a parameter and outlive the forward that made them: outputs that no trace shows.

They are found by what is still alive when the outputs are gone, wherever it is kept: a list of a hook, a global, a
container on a module.

One kind is let be: a weight that is made of parameters alone, set on its module anew in every call and read there, as
pruning and older norms of weights do it.  A training loop could read it as it could read the parameters themselves;
that none does is an assumption, which the certificate states.

What this module does not do: it sees what one call does, and no more.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gaugec.model.calls import known_memory
from gaugec.model.interfaces import DispatchMode, leaves, storage
from gaugec.model.memory import MarkedMemory, plain

Place = tuple[str, str]  # the path of a module, and an attribute


class LeftBehind(DispatchMode):
    """Follows what depends on a parameter from operation to operation, by the memory in which it lies.

    moved: what depends on a parameter.  varied: what depends on an input, or on chance.  read: what was read together
    with that.
    """

    def __init__(self, model: nn.Module, inputs: Any) -> None:
        super().__init__()
        self.model = model
        self.known = known_memory(model, inputs)
        self.moved = MarkedMemory(model.parameters())
        self.varied = MarkedMemory(x for x in leaves(inputs) if isinstance(x, Tensor))
        self.read = MarkedMemory()
        self.made: list[tuple[str, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [x for x in leaves(args, kwargs or {}) if isinstance(x, Tensor)]
        depends = any(x in self.moved for x in given)
        varies = any(x in self.varied for x in given) or torch.Tag.nondeterministic_seeded in func.tags
        for x in given if varies else ():
            if x in self.moved:
                self.read.add(x)
        made = func(*args, **(kwargs or {}))
        for x in leaves(made):
            if isinstance(x, Tensor) and plain(x):
                if varies:
                    self.varied.add(x)
                if storage(x) in self.known:
                    continue
                if depends and x not in self.moved:
                    self.moved.add(x)
                    self.made.append((str(getattr(func, "_overloadpacket", func)), self.moved.alive[storage(x)]))
                elif not depends:
                    self.moved.drop(x)
        return made

    def take_weights(self) -> frozenset[Place]:
        """Takes them off the modules on which the call set them, so that they do not count as left; where they were.

        What stands in their place has their values, and nothing of how they were made.
        """
        found = set()
        for path, module in self.model.named_modules():
            for name, x in module.__dict__.items():
                if isinstance(x, Tensor) and self._is_weight(x):
                    found.add((path, name))
                    module.__dict__[name] = x.detach().clone()
        return frozenset(found)

    def _is_weight(self, x: Tensor) -> bool:
        """Was it made in this call of parameters alone, in memory of its own, and read by what depends on an input?"""
        own = plain(x) and storage(x) not in self.known
        return own and x in self.moved and x in self.read and x not in self.varied

    def left(self) -> list[str]:
        """The operations whose results are still alive."""
        return [name for name, weak in self.made if not weak.expired()]


__all__ = ["LeftBehind", "Place"]
