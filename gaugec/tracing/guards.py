"""Sizes of the inputs at which a forward turns into another one.

An export at fixed sizes loses a branch on a size, and a second one at other sizes sees it only if it lies between.
Here the forward runs with symbolic sizes, and what it asked of them is read off: `if n < 100` leaves the guard
s < 100.  For every guard sizes are proposed at which it does not hold; the caller traces there, compares, and asks
there again.  Axes change in the bundles in which the model takes that (`gaugec.model.axes`).

What this module does not do: it compares nothing; and what the forward asks of other things than sizes it does not see.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.export import Dim

from gaugec.model.axes import Bundle, changed, said
from gaugec.model.context import as_trained
from gaugec.model.dry_run import dry_run
from gaugec.model.inputs import Axis, Inputs, alike, axes_of, copied, numbers_of, resized
from gaugec.model.interfaces import DimDynamic, StatelessSymbolicContext, leaves, tree_map
from gaugec.model.preserve import preserved
from gaugec.model.source_files import TORCH_FOLDER, is_guest

SMALL = range(2, 18)
FARTHEST = 1024
FAR = (64, FARTHEST)
LARGEST = 100_000  # a size beyond which nobody traces
MOST = 2_000_000  # elements of the inputs, likewise
LADDER = tuple(n for k in range(4, 17) for n in (2**k, 3 * 2 ** (k - 1)))
_KERNELS = os.path.join(TORCH_FOLDER, "_")  # what stands for them where there are no numbers


@dataclass(frozen=True)
class Turn:
    """A change of sizes.

    guess: the forward took the size as a number, and what it asked of it then could not be seen.  own: it asked itself,
    and not an operation of torch, which does the same on either side.
    """

    change: tuple[tuple[Bundle, int], ...]
    guess: bool = False
    own: bool = True

    def __str__(self) -> str:
        return said(dict(self.change))

    @property
    def farthest(self) -> int:
        """The largest new size."""
        return max(new for _, new in self.change)

    def apply(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Inputs | None:
        """The inputs at the new sizes; None where they would be larger than anyone could run."""
        change = changed(dict(self.change))
        here, there = axes_of(args, kwargs), {**axes_of(args, kwargs), **change}
        return None if _elements(there) > max(MOST, 64 * _elements(here)) else resized(args, kwargs, change)


def _elements(sizes: Mapping[Axis, int]) -> int:
    shapes: dict[int, int] = {}
    for (number, _), n in sizes.items():
        shapes[number] = shapes.get(number, 1) * n
    return sum(shapes.values())


@dataclass(frozen=True)
class _Guard:
    """What was asked, as a relation of sympy, and whether the forward asked it itself."""

    relation: Any
    own: bool


@dataclass(frozen=True)
class Asked:
    """All that a forward asked of the sizes of its inputs in one run, and the symbols of these sizes."""

    guards: list[_Guard]
    sizes: dict[Any, Bundle]

    def same(self, change: Mapping[Bundle, int]) -> bool:
        """Does all of it hold after a change of sizes, so that the forward would go the same way?"""
        return all(_holds(guard.relation, self.sizes, change) is True for guard in self.guards)


def turning_points(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    bundles: Sequence[Bundle],
    *,
    backward: bool = False,
) -> tuple[list[Turn], bool]:
    """Changes of sizes that break what the forward asked, and whether all that it asked could be seen.

    backward: what the backward asked counts, too, but not what torch asks in it.
    """
    here = (args, kwargs)
    run = asked(model, here, bundles, backward=backward)
    return turns_of(run if run is not None or backward else asked_of_an_export(model, here, bundles), bundles)


def turns_of(found: Asked | None, bundles: Sequence[Bundle]) -> tuple[list[Turn], bool]:
    """Changes of sizes that break what was asked, and whether all of it could be seen."""
    if found is not None:
        return _points(found.guards, found.sizes), True
    # it wants to know its sizes as numbers: it is looked at where most branches lie behind
    return [Turn(((bundle, far),), guess=True) for bundle in bundles for far in FAR if far != bundle.size], False


def asked(model: nn.Module, here: Inputs, bundles: Sequence[Bundle], *, backward: bool = False) -> Asked | None:
    """What a forward asks of the sizes of its inputs; None where it wants to know one as a number."""
    return _tried(functools.partial(_asked, backward=backward), model, here, bundles)


def asked_of_an_export(model: nn.Module, here: Inputs, bundles: Sequence[Bundle]) -> Asked | None:
    """The same by an export: slower, but it knows the numbers in a model's own tensors."""
    return _tried(_asked_of_an_export, model, here, bundles)


def _tried(ask: Callable[..., Asked], model: nn.Module, here: Inputs, bundles: Sequence[Bundle]) -> Asked | None:
    if not bundles:
        return Asked([], {})
    with as_trained(model), preserved(model, parameters=False):
        try:
            return ask(model, *here, bundles)
        except Exception:
            return None


def _asked(model: nn.Module, args: Any, kwargs: Any, bundles: Sequence[Bundle], backward: bool = False) -> Asked:
    owner = {axis: bundle for bundle in bundles for axis in bundle.axes}
    numbers = numbers_of(args, kwargs)
    sizes: dict[Any, Bundle] = {}

    def symbolic(fake: Any, x: torch.Tensor) -> torch.Tensor:
        own = [owner.get((numbers[id(x)], axis)) for axis in range(x.ndim)]
        context: Any = StatelessSymbolicContext(
            dynamic_sizes=[DimDynamic.STATIC if bundle is None else DimDynamic.DYNAMIC for bundle in own]
        )
        made = fake.from_tensor(x, symbolic_context=context)
        for bundle, size in zip(own, made.shape):
            if bundle is not None and isinstance(size, torch.SymInt):
                sizes[size.node.expr] = bundle
        return made

    guards = dry_run(model, args, kwargs, symbolic, backward=backward).guards
    return Asked(_sorted([g for g in guards if is_guest(_file(g))] if backward else guards), sizes)


def _asked_of_an_export(model: nn.Module, args: Any, kwargs: Any, bundles: Sequence[Bundle]) -> Asked:
    owner = {axis: bundle for bundle in bundles for own in bundle.axes for axis in alike(args, kwargs, [own])}
    # copies, because torch marks the very tensors that are given with free sizes
    args, kwargs = copied(args, kwargs)
    dynamic = _dynamic(model, args, kwargs, owner)
    program = torch.export.export(model, args, kwargs, dynamic_shapes=dynamic, strict=False)
    values = {n.name: n.meta.get("val") for n in program.graph.nodes if n.op == "placeholder"}
    sizes: dict[Any, Bundle] = {}
    guards: list[Any] = []
    number = -1
    for name, example in zip(program.graph_signature.user_inputs, leaves(args, kwargs)):
        if not isinstance(example, torch.Tensor):
            continue
        number += 1
        for axis, size in enumerate(getattr(values.get(str(name)), "shape", ())):
            if isinstance(size, torch.SymInt) and (number, axis) in owner:
                sizes.setdefault(size.node.expr, owner[number, axis])
                guards += size.node.shape_env.guards
    return Asked(_sorted(guards), sizes)


def _sorted(guards: list[Any]) -> list[_Guard]:
    found: dict[str, _Guard] = {}
    for guard in guards:
        found.setdefault(str(guard.expr), _Guard(guard.expr, not _file(guard).startswith(_KERNELS)))
    return [guard for _, guard in sorted(found.items())]


def _file(guard: Any) -> str:
    """The source file that asks."""
    return str(getattr(guard.sloc.framework_loc, "filename", ""))


def _dynamic(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], axes: Mapping[Axis, Bundle]) -> Any:
    """These axes, and no other thing, may have any size."""
    numbers = numbers_of(args, kwargs)

    def spec(x: Any) -> Any:
        if not isinstance(x, torch.Tensor):
            return None
        return {axis: Dim.AUTO for axis in range(x.ndim) if (numbers[id(x)], axis) in axes}

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


def _points(guards: list[_Guard], sizes: dict[Any, Bundle]) -> list[Turn]:
    """Changes that break a guard: the nearest, and one beyond."""
    found: dict[Turn, None] = {}
    for guard in guards:
        before, relation = len(found), guard.relation
        named = [sizes[symbol] for symbol in sorted(relation.free_symbols & set(sizes), key=str)]
        for bundle in dict.fromkeys(named):

            def breaks(new: int, relation: Any = relation, bundle: Bundle = bundle) -> bool:
                return _broken(relation, sizes, {bundle: new})

            # `int(n)` leaves n == 7 behind, and no guard on what is asked of it then
            equal = getattr(relation, "rel_op", "") == "=="
            taken = equal and all(breaks(bundle.size + n) for n in (*SMALL, *FAR))
            new = _nearest(breaks, bundle.size, relation)
            if new is None:
                continue
            found[Turn(((bundle, new),), taken, guard.own)] = None
            if taken:
                found.update({Turn(((bundle, far),), True, guard.own): None for far in FAR if far != bundle.size})
            elif new > bundle.size and 2 * new + 3 <= LARGEST and breaks(2 * new + 3):
                # max(n, 50) is another function beyond 50, not at it
                found[Turn(((bundle, 2 * new + 3),), False, guard.own)] = None
        if len(found) == before and (turn := _together(guard, sizes, named)) is not None:
            found[turn] = None
    return sorted(found, key=lambda turn: not turn.own)


def _broken(relation: Any, sizes: Mapping[Any, Bundle], change: Mapping[Bundle, int]) -> bool:
    """Does a guard not hold after a change of sizes?"""
    return _holds(relation, sizes, change) is False


def _holds(relation: Any, sizes: Mapping[Any, Bundle], change: Mapping[Bundle, int]) -> bool | None:
    """Does a guard hold after a change of sizes?  None where the forward has no value there."""
    try:
        holds = relation.subs({s: change.get(g, g.size) for s, g in sizes.items()})
    except Exception:
        return None
    return True if holds == True else False if holds == False else None  # noqa: E712  (sympy's own truth)


def _together(guard: _Guard, sizes: dict[Any, Bundle], named: list[Bundle]) -> Turn | None:
    """A change of all sizes that a guard names, where none of them breaks it alone: `(b >= 80) & (n >= 70)`."""
    several = list(dict.fromkeys(named))
    if len(several) < 2:
        return None
    for step in LADDER:
        news = {bundle: step + k for k, bundle in enumerate(several)}  # apart, so that a look sees them apart
        if _broken(guard.relation, sizes, news):
            return Turn(tuple(news.items()), False, guard.own)
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


__all__ = ["FARTHEST", "Asked", "Turn", "asked", "asked_of_an_export", "turning_points", "turns_of"]
