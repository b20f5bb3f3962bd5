"""Models enter here: `torch.export` -> ATen graph -> tensor graph.

A model is looked at at other shapes too where its inputs allow it (`gaugec.tracing.looks`): export specialises on the
example's shape, and a branch on a length would vanish silently.

What this module does not do: it exports nothing and lowers nothing (`gaugec.tracing.export`, `gaugec.tracing.lower`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from gaugec.errors import MatchError
from gaugec.model.fixed import fixed_axes
from gaugec.model.functions import listening
from gaugec.model.inputs import Inputs, tensors_of
from gaugec.model.memory import kind, plain, share_memory
from gaugec.model.outputs import counted
from gaugec.model.run import runs, several
from gaugec.runtime.inputs import inputs
from gaugec.runtime.ranges import fold
from gaugec.tracing.export import exported
from gaugec.tracing.left_behind import Place
from gaugec.tracing.looks import Looks
from gaugec.tracing.lower import Trace, lower_program
from gaugec.tracing.reads import Reads
from gaugec.tracing.side_effects import Watched, watch


def trace(
    model: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None = None,
    *,
    loss: str | None = None,
    outputs: object = None,
    fixed: object = (),
) -> Trace:
    """Traces a model, at more than one shape where its inputs allow it.

    loss, outputs, fixed: as for `gaugec.compile`.

    Raises:
        MatchError: the model fails, export fails, the two traces differ, `loss`, `outputs` or `fixed` are unknown,
            or a parameter has an axis that export cannot show.
    """
    _refuse_misuse(model, args, kwargs, loss)
    count = counted(outputs, loss)
    _refuse_inputs(model, tuple(args), dict(kwargs or {}))
    reads = Reads(model)  # before anything runs: what a first call sets itself (a hook that it installs) is no setting
    given = (tuple(args), dict(kwargs or {}))
    said = fixed_axes(fixed, inputs(model, *given)[0], given)
    here = several(model, *given, frozenset(said.still.values()), tuple(said.as_one.values()))
    watched = watch(model, *here, reads)
    first = _beside(lower_program(model, _exported(model, here, reads, watched.weights), count), watched)
    _all_seen(model, watched.written, first)
    watched.no_numbers_of_parameters()
    settings = reads.found()
    unknown = (*settings.unknown, *(f"that no loss reads {name}" for name in _named(watched.weights)))
    looked = Looks(model, here, count, first, watched.weights, said).all()
    return replace(looked, settings=replace(settings, unknown=unknown))


def _named(weights: frozenset[Place]) -> list[str]:
    """What the forward makes of parameters and sets on its modules, with ranges."""
    return [f"{name}, which the forward makes of parameters" for name in fold(".".join(w) for w in sorted(weights))]


def _exported(
    model: nn.Module, here: Inputs, reads: Reads, weights: frozenset[Place]
) -> torch.export.ExportedProgram:
    """The program; where the forward does not run by itself, as without numbers, what it reads is watched here.

    It is watched in a run without numbers, which goes the way of an export; in the export only where there is none.
    """
    if not reads.complete:
        with contextlib.suppress(_NoRun):
            _watched(reads, _run, model, here)
    if reads.complete:
        return exported(model, *here, weights)
    program: torch.export.ExportedProgram = _watched(reads, exported, model, *here, weights)
    return program


class _NoRun(Exception):
    """A forward does not even run without numbers."""


def _run(model: nn.Module, here: Inputs) -> None:
    if not runs(model, *here, numbers=False):
        raise _NoRun


def _watched(reads: Reads, run: Callable[..., Any], *given: Any) -> Any:
    with reads, listening() as ran:
        made = run(*given)
    reads.heard(ran.codes, ran.closures())
    return made


def _refuse_misuse(model: object, args: object, kwargs: object, loss: str | None) -> None:
    if loss not in (None, "cross_entropy"):
        raise MatchError(f"unknown loss {loss!r}", help='use loss="cross_entropy", or let forward return the loss')
    if not isinstance(model, nn.Module):
        raise MatchError(f"the model is a {type(model).__name__}", help="give a torch.nn.Module")
    if not isinstance(args, (tuple, list)) or not (kwargs is None or isinstance(kwargs, Mapping)):
        raise MatchError("the example inputs are not a tuple and a dict", help="compile(spec, model, (x,), {...})")


def _refuse_inputs(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Refuses complex parameters, empty inputs, and inputs that are parameters."""
    for name, parameter in model.named_parameters():
        if parameter.is_complex():
            raise MatchError(f"the parameter {name} is complex", help="only real parameters are supported")
        if is_lazy(parameter):
            continue
        if parameter.requires_grad and parameter.is_inference():
            raise MatchError(
                f"the parameter {name} was made under torch.inference_mode, and cannot be trained",
                help="make the model outside of it",
            )
        if not plain(parameter):
            raise MatchError(
                f"the parameter {name} is a {kind(parameter)} tensor",
                help="only parameters with strides are supported: keep what is not trained in a buffer",
            )
    tensors = tensors_of(args, kwargs)
    for x in tensors:
        if x.layout is not torch.sparse_coo and not plain(x):
            raise MatchError(f"an example input is a {kind(x)} tensor", help="make it dense in front of the model")
    if any(t.numel() == 0 for t in tensors):
        raise MatchError("an example input has no elements", help="give inputs with at least one row")
    for x in tensors:
        for name, parameter in model.named_parameters():
            if not is_lazy(parameter) and share_memory(parameter, x):
                raise MatchError(
                    f"an example input is {name}, or a part of it",
                    help="a parameter that is handed in as data would move unseen: read it in the forward",
                )


def _beside(first: Trace, watched: Watched) -> Trace:
    """A trace, and of the parameters in whose memory Python can read and write that no gauge may move them."""
    shared = {first.names[name]: f"{place} lies in its memory" for name, place in watched.shared.items()}
    return replace(first, blocked={**shared, **first.blocked})


def _all_seen(model: nn.Module, written: frozenset[str], first: Trace) -> None:
    """Refuses a forward that writes a buffer of which the trace does not say so."""
    owner = {name: id(b) for name, b in model.named_buffers(remove_duplicate=False)}
    shown = {owner.get(name) for name in first.program.graph_signature.buffers_to_mutate.values()}
    for name in sorted(written):
        if name in owner and owner[name] not in shown:
            raise MatchError(
                f"the forward writes to the buffer {name}, which its trace does not show",
                help="an operation writes it without saying so: what is kept there cannot be proved invariant",
            )


__all__ = ["Trace", "trace"]
