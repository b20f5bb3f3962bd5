"""Sizes of the inputs at which a forward turns into another one.

An export at fixed sizes loses a branch on a size, and a second one at other sizes sees it only if it lies between.
Here the forward runs with symbolic sizes, and what it asked of them is read off: `if n < 100` leaves the guard
s < 100.  For every guard sizes are proposed at which it does not hold; the caller traces there, compares, and asks
there again.

What this module does not do: it compares nothing; and what the forward asks of other things than sizes it does not see.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.export import Dim

from gaugec.model.dry_run import dry_run
from gaugec.model.inputs import Inputs, copied, resized, tensors_of
from gaugec.model.interfaces import DimDynamic, StatelessSymbolicContext, leaves, tree_map
from gaugec.model.preserve import preserved
from gaugec.model.run import quiet, trained_modes

SMALL = range(2, 18)
FARTHEST = 1024
FAR = (64, FARTHEST)
LARGEST = 100_000  # a size beyond which nobody traces
MOST = 2_000_000  # elements of the inputs, likewise
LADDER = tuple(n for k in range(4, 17) for n in (2**k, 3 * 2 ** (k - 1)))


@dataclass(frozen=True)
class Turn:
    """A change of sizes: every axis among the first two that has the old size, or, where `all`, every axis at all.

    guess: the forward took the size as a number, and what it asked of it then could not be seen.  also: more changes,
    where a guard breaks only if several sizes change.
    """

    old: int
    new: int
    all: bool = False
    guess: bool = False
    also: tuple[tuple[int, int], ...] = ()

    def __str__(self) -> str:
        return ", ".join(f"{old}->{new}" for old, new in ((self.old, self.new), *self.also))

    def apply(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Inputs | None:
        """The inputs at the new size; None where they would be larger than anyone could run."""
        axes = range(9) if self.all else range(2)
        change = {self.old: self.new, **dict(self.also)}
        here = there = 0
        for x in tensors_of(args, kwargs):
            here += x.numel()
            there += math.prod(change.get(n, n) if axis in axes else n for axis, n in enumerate(x.shape))
        return None if there > max(MOST, 64 * here) else resized(args, kwargs, change, axes)


def turning_points(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[list[Turn], bool]:
    """Changes of sizes that break what the forward asked, and whether all that it asked could be seen."""
    for ask in (_asked, _asked_of_an_export):
        with trained_modes(model), quiet(), preserved(model, parameters=False):
            try:
                guards, sizes = ask(model, args, kwargs)
            except Exception:
                continue
        return _points(guards, sizes), True
    # it wants to know its sizes as numbers: it is looked at where most branches lie behind
    every = dict.fromkeys(n for x in tensors_of(args, kwargs) for n in x.shape[:2])
    return [Turn(old, far, guess=True) for old in every for far in FAR], False


Size = tuple[int, int]  # and its axis


def _asked(model: nn.Module, args: Any, kwargs: Any) -> tuple[list[Any], dict[Any, Size]]:
    """What a forward asks of the sizes of its tensors, as sympy's relations, and the symbols of these sizes."""
    sizes: dict[Any, Size] = {}

    def symbolic(fake: Any, x: torch.Tensor) -> torch.Tensor:
        context: Any = StatelessSymbolicContext(dynamic_sizes=[DimDynamic.DYNAMIC] * x.ndim)
        made = fake.from_tensor(x, symbolic_context=context)
        for axis, (new, old) in enumerate(zip(made.shape, x.shape)):
            if isinstance(new, torch.SymInt):
                sizes[new.node.expr] = (old, axis)
        return made

    guards = dry_run(model, args, kwargs, symbolic).guards
    return _sorted(guards), sizes


def _asked_of_an_export(model: nn.Module, args: Any, kwargs: Any) -> tuple[list[Any], dict[Any, Size]]:
    """The same of the first two axes, by an export: slower, but it knows the numbers in a model's own tensors."""
    # copies, because torch marks the very tensors that are given with free sizes
    args, kwargs = copied(args, kwargs)
    program = torch.export.export(model, args, kwargs, dynamic_shapes=_dynamic(model, args, kwargs), strict=False)
    values = {n.name: n.meta.get("val") for n in program.graph.nodes if n.op == "placeholder"}
    sizes: dict[Any, Size] = {}
    guards: list[Any] = []
    for name, example in zip(program.graph_signature.user_inputs, leaves(args, kwargs)):
        value = values.get(str(name))
        if isinstance(value, torch.Tensor) and isinstance(example, torch.Tensor):
            for axis, (size, here) in enumerate(zip(value.shape[:2], example.shape[:2])):
                if isinstance(size, torch.SymInt):
                    sizes.setdefault(size.node.expr, (here, axis))
                    guards += size.node.shape_env.guards
    return _sorted(guards), sizes


def _sorted(guards: list[Any]) -> list[Any]:
    return [expr for _, expr in sorted({str(guard.expr): guard.expr for guard in guards}.items())]


def _dynamic(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The first two axes of every tensor, and of no other thing, may have any size."""

    def spec(x: Any) -> Any:
        return dict.fromkeys(range(min(2, x.ndim)), Dim.AUTO) if isinstance(x, torch.Tensor) else None

    first, named = tree_map(spec, (args, kwargs))
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


def _points(guards: list[Any], sizes: dict[Any, Size]) -> list[Turn]:
    """Changes that break a guard: the nearest, and one beyond.  Axes of one size change together (`Turn`)."""
    found: dict[Turn, None] = {}
    for guard in guards:
        before = len(found)
        for symbol in sorted(guard.free_symbols & set(sizes), key=str):
            old, axis = sizes[symbol]
            every = axis > 1

            def breaks(new: int, guard: Any = guard, old: int = old, every: bool = every) -> bool:
                return _broken(guard, sizes, {old: new}, every)

            # `int(n)` leaves n == 7 behind, and no guard on what is asked of it then
            taken = getattr(guard, "rel_op", "") == "==" and all(breaks(old + n) for n in (*SMALL, *FAR))
            new = _nearest(breaks, old, guard)
            if new is None:
                continue
            found[Turn(old, new, every, taken)] = None
            if taken:
                found.update({Turn(old, far, every, True): None for far in FAR if far != old})
            elif new > old and 2 * new + 3 <= LARGEST and breaks(2 * new + 3):
                found[Turn(old, 2 * new + 3, every)] = None  # max(n, 50) is another function beyond 50, not at it
        if len(found) == before and (turn := _together(guard, sizes)) is not None:
            found[turn] = None
    return list(found)


def _broken(guard: Any, sizes: dict[Any, Size], change: dict[int, int], every: bool) -> bool:
    """Does a guard not hold after a change of sizes (see `Turn`)?"""
    at = {s: change.get(n, n) if every or axis < 2 else n for s, (n, axis) in sizes.items()}
    try:
        return bool(guard.subs(at) == False)  # noqa: E712  (sympy's own truth)
    except Exception:
        return False  # the forward has no value there


def _together(guard: Any, sizes: dict[Any, Size]) -> Turn | None:
    """A change of all sizes that a guard names, where none of them breaks it alone: `(b >= 80) & (n >= 70)`."""
    named = [sizes[symbol] for symbol in sorted(guard.free_symbols & set(sizes), key=str)]
    olds = list(dict.fromkeys(old for old, _ in named))
    if len(olds) < 2:
        return None
    every = any(axis > 1 for _, axis in named)
    for step in LADDER:
        news = {old: step + k for k, old in enumerate(olds)}  # apart, so that they can be told apart again
        if _broken(guard, sizes, news, every):
            (old, new), *more = news.items()
            return Turn(old, new, every, also=tuple(more))
    return None


def _nearest(breaks: Callable[[int], bool], here: int, guard: Any) -> int | None:
    """The nearest size at which a guard breaks, among those that its numbers propose and a ladder of all sizes."""
    new = next((n for n in _candidates(guard, here) if breaks(n)), None)
    if new is None:
        return None
    holds = here
    while abs(new - holds) > 1:  # the ladder's steps are wide
        middle = (new + holds) // 2
        new, holds = (middle, holds) if breaks(middle) else (new, middle)
    return new


def _candidates(guard: Any, here: int) -> list[int]:
    """Sizes to try, the smallest change first: small ones, those around the guard's numbers, and a ladder."""
    numbers = {abs(int(x)) for x in guard.atoms() if x.is_Integer} - {0}
    quotients = {n // m for n in numbers for m in {1, *numbers, *(m * k for m in numbers for k in SMALL), *SMALL}}
    found = {n + d for n in quotients for d in (-1, 0, 1, 2)} | set(SMALL) | set(LADDER)
    return sorted((n for n in found if 2 <= n <= LARGEST and n != here), key=lambda n: (abs(n - here), n))


__all__ = ["FARTHEST", "Turn", "turning_points"]
