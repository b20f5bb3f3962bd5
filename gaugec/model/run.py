"""Running a model once, to see whether it takes its inputs and what it does, at sizes that tell its axes apart."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from gaugec.model.context import as_trained
from gaugec.model.dry_run import dry_run
from gaugec.model.inputs import Axis, Inputs, axes_of, resized, tensors_of
from gaugec.model.interfaces import compiling
from gaugec.model.picked import Picked
from gaugec.model.preserve import preserved
from gaugec.model.recording import Recorder, Recording, TooMuchWork, Work

_Way = Callable[[nn.Module, Any, Any, Recorder | None], None]


def several(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    fixed: Collection[Axis] = (),
    as_one: Sequence[tuple[Axis, ...]] = (),
) -> Inputs:
    """Inputs in which no axis is 1, nor batch and length alike, where the model takes such; `fixed` ones stay.

    An axis of length 1 hides what it does; and equal ones could not be told apart when they are resized.
    as_one: axes that stay of one size (see `gaugec.model.fixed`).
    """
    here, sizes = (args, kwargs), axes_of(args, kwargs)
    taken = {*sizes.values(), *(n for p in model.parameters() if not is_lazy(p) for n in p.shape)}
    free = next(n for n in range(3, 10**6) if n not in taken)
    with_it = {axis: axes for axes in as_one for axis in axes}
    ones = [axis for axis, n in sizes.items() if n == 1 and axis not in fixed]
    ways = [[axis for axis in ones if axis[1] < 2], *(list(with_it.get(axis, (axis,))) for axis in ones)]
    if not ones:
        pairs = [number for number, axis in sizes if axis == 1 and sizes[number, 0] == sizes[number, 1]]
        ways = [[(number, 1) for number in pairs if (number, 1) not in fixed and (number, 1) not in with_it]]
    for axes in ways:
        other = resized(*here, {axis: free for axis in axes if axes_of(*here)[axis] == sizes[axis]})
        with preserved(model, parameters=False):
            if axes and runs(model, *other):
                here = other
    return here


def runs(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], *, numbers: bool = True) -> bool:
    """Does the forward take inputs of these shapes?  Without numbers it costs no memory, and sees less.

    With gradients, without which a forward could hang no hook on a tensor.  What it writes stays written: see
    `gaugec.model.preserve`.
    """
    with as_trained(model), torch.random.fork_rng(devices=[]):
        for way in _ways(model, args, kwargs, numbers):
            with contextlib.suppress(Exception):
                way(model, args, kwargs, None)
                return True
    return False


def recorded(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], limit: Work, *, numbers: bool = True
) -> Recording | None:
    """The recording of a forward; None where it does not take the inputs.  Both kinds of runs are told apart only by
    what they cost, but no recording of the one says anything of one of the other.

    limit: see `gaugec.model.recording.Recorder`.

    Raises:
        TooMuchWork: it was stopped.
    """
    for way in _ways(model, args, kwargs, numbers):
        recorder = Recorder(model, tuple(axes_of(args, kwargs).values()), limit)
        with as_trained(model), torch.random.fork_rng(devices=[]):
            try:
                way(model, args, kwargs, recorder)
                made = True
            except Exception:
                made = False
        if recorder.stopped:  # whatever the forward made of it
            raise TooMuchWork
        if made:
            return recorder.recording
    return None


def _ways(model: nn.Module, args: Any, kwargs: Any, numbers: bool) -> list[_Way]:
    """How it is run, the cheaper way first.

    Where nothing has numbers torch's own tensors say as much as fakes, unless the forward makes some that have.
    """
    if numbers:
        return [_with_numbers]
    own = (*model.parameters(), *model.buffers(), *tensors_of(args, kwargs))
    return [_without_numbers, _faked] if all(x.is_meta for x in own) else [_faked]


def _with_numbers(model: nn.Module, args: Any, kwargs: Any, watched: Recorder | None) -> None:
    with Picked(), watched or contextlib.nullcontext():
        made = model(*args, **kwargs)
        if watched is not None:
            watched.returned(made)


def _without_numbers(model: nn.Module, args: Any, kwargs: Any, watched: Recorder | None) -> None:
    with preserved(model, parameters=False), compiling():
        _with_numbers(model, args, kwargs, watched)


def _faked(model: nn.Module, args: Any, kwargs: Any, watched: Recorder | None) -> None:
    with preserved(model, parameters=False):  # it would keep fakes
        dry_run(model, args, kwargs, watched=watched, returned=watched.returned if watched is not None else None)
