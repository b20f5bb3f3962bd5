"""Sizes of the inputs at which a forward turns into another one.

An export at fixed sizes loses a branch on a size, and a second one at other sizes sees it only if it lies between.
Here the forward is exported with symbolic sizes, and what it asked of them is read off: `if n < 100` leaves the guard
s < 100.  For every guard a size is proposed at which it does not hold; the caller traces there and compares.

What this module does not do: it compares nothing; and what the forward asks of other things than sizes it does not see.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.export import Dim

from gaugec.exporting import quiet, train_mode

SMALL = range(2, 18)
LARGEST = 100_000  # a size beyond which nobody traces


def turning_points(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[dict[int, int]] | None:
    """Changes of sizes (old -> new), as `gaugec.exporting.resized` takes them, that break what the forward asked.

    None: the forward could not be exported with symbolic sizes.
    """
    with train_mode(model), quiet():
        try:
            program = torch.export.export(
                model, args, kwargs, dynamic_shapes=_dynamic(model, args, kwargs), strict=False
            )
            return list(_points(program, args, kwargs))
        except Exception:
            return None


def _dynamic(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The first two axes of every tensor, and of no other thing, may have any size."""

    def spec(x: Any) -> Any:
        return dict.fromkeys(range(min(2, x.ndim)), Dim.AUTO) if isinstance(x, torch.Tensor) else None

    first, named = torch.utils._pytree.tree_map(spec, (args, kwargs))
    parameters = list(inspect.signature(model.forward).parameters.values())
    if any(p.kind is p.VAR_POSITIONAL for p in parameters[: len(args)]):
        at = next(n for n, p in enumerate(parameters) if p.kind is p.VAR_POSITIONAL)
        first = (*first[:at], tuple(first[at:]))
    together = dict(zip([p.name for p in parameters], first))
    known = {p.name for p in parameters if p.kind is not p.VAR_KEYWORD}
    rest = next((p.name for p in parameters if p.kind is p.VAR_KEYWORD), None)
    extra = {k: v for k, v in named.items() if k not in known}
    together.update({k: v for k, v in named.items() if k in known})
    return {**together, rest: extra} if rest is not None and extra else together


def _points(program: torch.export.ExportedProgram, args: Any, kwargs: Any) -> Iterator[dict[int, int]]:
    flat, _ = torch.utils._pytree.tree_flatten((args, kwargs))
    values = {n.name: n.meta.get("val") for n in program.graph.nodes if n.op == "placeholder"}
    sizes: dict[Any, int] = {}
    guards: dict[str, Any] = {}
    for name, example in zip(program.graph_signature.user_inputs, flat):
        value = values.get(str(name))
        if not isinstance(value, torch.Tensor) or not isinstance(example, torch.Tensor):
            continue
        for size, here in zip(value.shape[:2], example.shape[:2]):
            if isinstance(size, torch.SymInt):
                sizes.setdefault(size.node.expr, here)
                guards.update({str(g.expr): g.expr for g in size.node.shape_env.guards})
    seen: set[tuple[tuple[int, int], ...]] = set()
    for _, guard in sorted(guards.items()):
        for symbol in sorted(guard.free_symbols & set(sizes), key=str):
            for new in _candidates(guard, sizes[symbol]):
                at = {s: (new if s == symbol else n) for s, n in sizes.items()}
                if guard.subs(at) == False:  # noqa: E712  (sympy's own truth)
                    change = {sizes[symbol]: new}
                    if tuple(change.items()) not in seen:
                        seen.add(tuple(change.items()))
                        yield change
                    break


def _candidates(guard: Any, here: int) -> list[int]:
    """Sizes to try, the smallest change first: small ones, and those around the numbers that the guard names."""
    numbers = {abs(int(x)) for x in guard.atoms() if x.is_Integer} - {0}
    quotients = {n // m for n in numbers for m in {1, *numbers, *(m * k for m in numbers for k in SMALL), *SMALL}}
    found = {n + d for n in quotients for d in (-1, 0, 1, 2)} | set(SMALL)
    return sorted((n for n in found if 2 <= n <= LARGEST and n != here), key=lambda n: (abs(n - here), n))


__all__ = ["turning_points"]
