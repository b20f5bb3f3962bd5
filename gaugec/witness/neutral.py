"""A real forward and backward in float64, with the casts between floating types made neutral.

A model that computes its loss in 32 or 16 bits would otherwise show nothing finer than their rounding.  What makes
integers of floating numbers, or numbers of eight bits, is left as it is.

What this module does not do: it runs nothing by itself, and it shows nothing of what happens in the types that are
trained in.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gaugec.model.interfaces import DispatchMode, backward_task, tree_map


class Neutral(DispatchMode):
    """While it is entered, every floating number that an operation reads or makes is one of 64 bits.

    coarsest: the floating type of the fewest digits to which something was to be cast in a forward.  casts: every cast
    of a forward to 16 bits, with two numbers that tell by their values what was to be cast.
    """

    def __init__(self) -> None:
        super().__init__()
        self.coarsest = torch.float64
        self.casts: list[tuple[torch.dtype, Tensor]] = []
        self.before = torch.get_default_dtype()

    def __enter__(self) -> Neutral:
        self.casts = []
        self.before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        torch.set_default_dtype(self.before)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = kwargs or {}
        wanted = named.get("dtype")
        if wanted is not None and wide(wanted):
            named = {**named, "dtype": torch.float64}
            if backward_task() < 0:
                self.coarsest = max(self.coarsest, wanted, key=lambda dtype: torch.finfo(dtype).eps)
                if wanted.itemsize < 4:
                    self.casts += [(wanted, _marks(x)) for x in args if isinstance(x, Tensor) and wide(x.dtype)]
        if any(map(_narrow, args)) and not func._schema.is_mutable:  # what is written to stays what it is
            args = tree_map(lambda x: x.double() if _narrow(x) else x, args)
        return func(*args, **named)


def wide(dtype: torch.dtype) -> bool:
    """Is it a floating type of more than eight bits?"""
    return dtype.is_floating_point and dtype.itemsize > 1


def _marks(x: Tensor) -> Tensor:
    flat = x.detach().double().flatten()
    return torch.stack([flat.norm(), flat @ torch.arange(1, len(flat) + 1, dtype=flat.dtype).sin()])


def _narrow(x: Any) -> bool:
    """Is it a tensor of less than 64 bits that could have as many, or a list with one?"""
    if isinstance(x, Tensor):
        return x.dtype != torch.float64 and wide(x.dtype) and x.layout is torch.strided
    return isinstance(x, (list, tuple)) and any(map(_narrow, x))
