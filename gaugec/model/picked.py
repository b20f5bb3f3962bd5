"""Lists of whole numbers in an index (`x[..., [-1], :]`), as the Python numbers that they are.

torch makes a tensor of such a list, and in a trace it looks like every tensor that somebody keeps and may write to: its
numbers may not be believed.  Here the list is met before that, and counted out by an operation that has its numbers
among its arguments, which a trace freezes as it freezes all others (`x[..., -1, :]`).

What this module does not do: it reads no tensor and no array, however constant; what picks with one stays a lookup.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

COUNTED = torch.int32
COUNTS = torch.ops.aten.arange  # what makes it
"""The type of numbers that are counted out: it picks as int64 does, and models count in that."""
_MOST = torch.iinfo(COUNTED).max


class Picked(TorchFunctionMode):
    """While it is entered, a list of evenly spaced whole numbers in an index is `torch.arange`: the same function."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.__getitem__ and type(args[1]) in (list, tuple):
            x, index = args
            args = (x, _counted(index, x) if type(index) is list else tuple(_counted(item, x) for item in index))
        return func(*args, **(kwargs or {}))


def _counted(item: Any, x: Tensor) -> Any:
    """A list of evenly spaced whole numbers as a tensor of one axis; all else as it is."""
    if type(item) not in (list, tuple) or not item or not all(type(n) is int and abs(n) < _MOST // 2 for n in item):
        return item
    step = item[1] - item[0] if len(item) > 1 else 1
    numbers = range(item[0], item[-1] + (1 if step > 0 else -1), step) if step else range(0)
    if list(numbers) != list(item):
        return item
    return torch.arange(numbers.start, numbers.stop, numbers.step, dtype=COUNTED, device=x.device)


__all__ = ["COUNTED", "COUNTS", "Picked"]
