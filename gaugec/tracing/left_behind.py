"""Tensors that depend on a parameter and outlive the forward that made them: outputs that no trace shows.

They are found by what is still alive when the outputs are gone, wherever it is kept: a list of a hook, a global, a
container on a module.

What this module does not do: it sees what one call does, and no more.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from gaugec.model.calls import known_memory
from gaugec.model.interfaces import DispatchMode, StorageWeakRef, leaves, storage
from gaugec.model.memory import plain


class LeftBehind(DispatchMode):
    """Follows what depends on a parameter from operation to operation, by the memory in which it lies."""

    def __init__(self, model: nn.Module, inputs: Any) -> None:
        super().__init__()
        self.known = known_memory(model, inputs)
        self.moved: dict[int, Any] = {storage(p): None for p in model.parameters() if plain(p)}
        self.made: list[tuple[str, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        depends = any(self._depends(x) for x in leaves(args, kwargs or {}) if isinstance(x, Tensor))
        made = func(*args, **(kwargs or {}))
        for x in leaves(made):
            if isinstance(x, Tensor) and plain(x):
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
        if not plain(x) or storage(x) not in self.moved:
            return False
        weak = self.moved[storage(x)]
        return weak is None or not weak.expired()

    def left(self) -> list[str]:
        """The operations whose results are still alive."""
        return [name for name, weak in self.made if not weak.expired()]


__all__ = ["LeftBehind"]
