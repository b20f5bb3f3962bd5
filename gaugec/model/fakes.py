"""Fake tensors of a model whose layers are alike: an operation on sizes on which it ran before is not worked out again.

torch remembers operations too, but makes the symbols of a remembered result anew, and to work with new symbols costs
more than the operation.  Here a result is the remembered one again, with its symbols.  What an operation asks of sizes
it asked when it first ran on them.

What this module does not do: it remembers nothing of an operation that writes, that is not torch's own, or whose result
depends on numbers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gaugec.model.interfaces import FakeTensor, FakeTensorMode, OpOverload, again

_PLAIN = (bool, int, float, str, type(None), torch.dtype, torch.device, torch.layout, torch.memory_format)
_BY_NUMBERS = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape, torch.Tag.nondeterministic_seeded)


class _Unlike(Exception):
    """Something among the arguments of an operation by which it cannot be known again."""


class Remembering(FakeTensorMode):
    """A mode of fake tensors, for one run of a forward."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.cache_enabled = True  # of torch's, in whose place stands what is below
        self.results: dict[object, Any] = {}
        self.lasting: dict[OpOverload, bool] = {}

    def _cached_dispatch_impl(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        key = self._key(func, args, kwargs)
        if key is not None and key in self.results:
            known = self.results[key]
            return tuple(again(self, x) for x in known) if isinstance(known, tuple) else again(self, known)
        made = self._dispatch_impl(func, types, args, kwargs)
        # what is asked of sizes while it runs may fix one, and the key with it: it is made before
        if key is not None and all(map(self._lasts, made if isinstance(made, tuple) else (made,))):
            kept = tuple(again(self, x) for x in made) if isinstance(made, tuple) else again(self, made)
            self.results[key] = kept
        return made

    def _key(self, func: Any, args: Any, kwargs: Any) -> object:
        """All that the result of an operation depends on; None where that is not only sizes and kinds."""
        if func not in self.lasting:
            self.lasting[func] = _lasting(func)
        if not self.lasting[func]:
            return None
        parts: list[object] = [func, torch.get_default_dtype(), torch.is_inference_mode_enabled()]
        try:
            for x in args:
                self._write(x, parts)
            for name, x in kwargs.items():
                parts.append(name)
                self._write(x, parts)
        except _Unlike:
            return None
        return tuple(parts)

    def _write(self, x: Any, parts: list[object]) -> None:
        if isinstance(x, Tensor):
            if not self._lasts(x):
                raise _Unlike
            parts += (x.dtype, x.device, x.requires_grad, x.is_conj(), x.is_neg(), type(x))
            for n in (*x.shape, *x.stride(), x.storage_offset()):
                parts.append(n if type(n) is int else n.node.expr)
            parts.append(x.ndim)
        elif isinstance(x, (list, tuple)):
            parts += (type(x), len(x))
            for item in x:
                self._write(item, parts)
        elif isinstance(x, torch.SymInt):
            parts += (int, x.node.expr)
        elif isinstance(x, _PLAIN):
            parts += (type(x), x)
        else:
            raise _Unlike

    def _lasts(self, x: Any) -> bool:
        """Is it a fake of this mode that is nothing but its sizes and kinds?"""
        fake = isinstance(x, FakeTensor) and x.fake_mode is self and x.constant is None
        return fake and x.layout is torch.strided and not x.is_inference()


def _lasting(func: Any) -> bool:
    """Does an operation make the same of equal sizes, ever?  What lies in memory beside them no size says."""
    if not isinstance(func, OpOverload) or func.namespace not in ("aten", "prims") or func._schema.is_mutable:
        return False
    by_memory = any(word in func.name() for word in ("lift", "as_strided"))
    return not by_memory and not any(tag in func.tags for tag in _BY_NUMBERS)


__all__ = ["Remembering"]
