"""Sizes of the inputs at which a forward turns into another one.

An export at fixed sizes loses a branch on a size, and a second one at other sizes sees it only if it lies between.
Here the forward runs with symbolic sizes, and what it asked of them is read off: `if n < 100` leaves the guard
s < 100.  For every guard a size is proposed at which it does not hold; the caller traces there and compares.

What this module does not do: it compares nothing; and what the forward asks of other things than sizes it does not see.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import nn
from torch.fx.experimental.symbolic_shapes import DimDynamic, StatelessSymbolicContext

from gaugec.dry import dry_run
from gaugec.exporting import nothing_left_behind, quiet, train_mode

SMALL = range(2, 18)
FAR = (64, 1024)
LARGEST = 100_000  # a size beyond which nobody traces


def turning_points(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[dict[int, int]] | None:
    """Changes of sizes (old -> new), as `gaugec.exporting.resized` takes them, that break what the forward asked.

    None: the forward could not run with symbolic sizes.
    """
    sizes: dict[Any, int] = {}

    def symbolic(fake: Any, x: torch.Tensor) -> torch.Tensor:
        free = [DimDynamic.DYNAMIC if axis < 2 else DimDynamic.STATIC for axis in range(x.ndim)]
        made = fake.from_tensor(x, symbolic_context=StatelessSymbolicContext(dynamic_sizes=free))
        sizes.update({new.node.expr: old for new, old in zip(made.shape, x.shape) if isinstance(new, torch.SymInt)})
        return made

    with train_mode(model), quiet(), nothing_left_behind(model):
        try:
            known = dry_run(model, args, kwargs, symbolic)
        except Exception:
            return None
    guards = {str(guard.expr): guard.expr for guard in known.guards}
    return _points([guard for _, guard in sorted(guards.items())], sizes)


def _points(guards: list[Any], sizes: dict[Any, int]) -> list[dict[int, int]]:
    """Changes that break a guard.  Axes of one size change together, as `resized` does it."""
    found: dict[tuple[int, int], None] = {}
    for guard in guards:
        for symbol in sorted(guard.free_symbols & set(sizes), key=str):
            old = sizes[symbol]
            breaking = (
                new
                for new in _candidates(guard, old)
                if guard.subs({s: new if n == old else n for s, n in sizes.items()}) == False  # noqa: E712 (sympy's own)
            )
            found.update({(old, new): None for new in itertools.islice(breaking, 1)})
            if guard.rel_op == "==" and set(guard.args) == {symbol, old}:
                # the number itself was taken (`int(n)`), and what was asked of it then left no guard
                found.update({(old, far): None for far in FAR if far != old})
    return [{old: new} for old, new in found]


def _candidates(guard: Any, here: int) -> list[int]:
    """Sizes to try, the smallest change first: small ones, and those around the numbers that the guard names."""
    numbers = {abs(int(x)) for x in guard.atoms() if x.is_Integer} - {0}
    quotients = {n // m for n in numbers for m in {1, *numbers, *(m * k for m in numbers for k in SMALL), *SMALL}}
    found = {n + d for n in quotients for d in (-1, 0, 1, 2)} | set(SMALL)
    return sorted((n for n in found if 2 <= n <= LARGEST and n != here), key=lambda n: (abs(n - here), n))


__all__ = ["turning_points"]
