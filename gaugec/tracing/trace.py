"""Models enter here: `torch.export` -> ATen graph -> tensor graph.

A model is traced at two shapes where its inputs allow it, and at those where it turns (`gaugec.tracing.guards`): export
specialises on the example's shape, and a branch on a length would vanish silently.

What this module does not do: it exports nothing and lowers nothing (`gaugec.tracing.export`, `gaugec.tracing.lower`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy

from gaugec.errors import MatchError
from gaugec.graph.ir import Graph
from gaugec.model.inputs import elements, resized, tensors_of, variations
from gaugec.model.preserve import preserved
from gaugec.model.run import runs, several, share_memory
from gaugec.tracing.compare import departure, settled
from gaugec.tracing.export import exported
from gaugec.tracing.guards import FARTHEST, Inputs, turning_points
from gaugec.tracing.lower import Trace, lower
from gaugec.tracing.side_effects import watch

# elements of the inputs, in units of the example's and at all, beyond which a forward for real may want more time and
# memory than there is
LARGER, LARGE = 8, 200_000
LOOKS = 12  # sizes at which a model is traced


def trace(
    model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any] | None = None, *, loss: str | None = None
) -> Trace:
    """Traces a model, at more than one shape where its inputs allow it.

    Raises:
        MatchError: export fails, the two traces differ, `loss` is unknown, or a parameter has an axis that export
            cannot show.
    """
    if loss not in (None, "cross_entropy"):
        raise MatchError(f"unknown loss {loss!r}", help='use loss="cross_entropy", or let forward return the loss')
    if not isinstance(model, nn.Module):
        raise MatchError(f"the model is a {type(model).__name__}", help="give a torch.nn.Module")
    if not isinstance(args, (tuple, list)) or not (kwargs is None or isinstance(kwargs, Mapping)):
        raise MatchError("the example inputs are not a tuple and a dict", help="compile(spec, model, (x,), {...})")
    for name, parameter in model.named_parameters():
        if parameter.is_complex():
            raise MatchError(f"the parameter {name} is complex", help="only real parameters are supported")
    if any(t.numel() == 0 for t in tensors_of(tuple(args or ()), dict(kwargs or {}))):
        raise MatchError("an example input has no elements", help="give inputs with at least one row")
    for x in tensors_of(tuple(args or ()), dict(kwargs or {})):
        for name, parameter in model.named_parameters():
            if not is_lazy(parameter) and share_memory(parameter, x):
                raise MatchError(
                    f"an example input is {name}, or a part of it",
                    help="a parameter that is handed in as data would move unseen: read it in the forward",
                )
    arguments, keywords = several(model, tuple(args), dict(kwargs or {}))
    written = watch(model, arguments, keywords)
    first = lower(model, exported(model, arguments, keywords), loss)
    _all_seen(model, written, first)
    graph, said = first.graph, "the inputs could not be resized: traced at one shape only"
    others: list[Inputs] = []
    for change in variations(arguments, keywords):
        inputs = resized(arguments, keywords, change)
        second = _at(model, arguments, keywords, inputs, loss)
        if second is not None:
            graph = _compared(graph, first, second)
            others.append(inputs)
            said = f"same graph with input sizes {_sizes(change)}"
            break
    asked: list[tuple[str, Inputs]] = [("", (arguments, keywords))]
    looked = {_shapes((arguments, keywords)), *map(_shapes, others)}
    in_numbers: list[tuple[str, Inputs]] = []
    seen = True
    for way, here in asked:  # it grows: what is asked behind a branch is seen only there
        turns, all_of_it = turning_points(model, *here)
        seen = seen and all_of_it
        for turn in turns:
            at = turn.apply(*here)
            if at is None or _shapes(at) in looked or len(looked) > LOOKS or (way and turn.guess):
                continue
            looked.add(_shapes(at))
            if turn.guess and turn.new >= FARTHEST:
                # a layer that steps along its input is too long a graph there: its numbers alone are looked at
                in_numbers.append((str(turn), at))
                continue
            other = _at(model, arguments, keywords, at, loss)
            if other is not None:
                graph = _compared(graph, first, other)
                others.append(at)
                asked.append((f"{way}, {turn}", at))
                said += f"; {way.removeprefix(', ')}, {turn}" if way else f", {turn}"
    for old in dict.fromkeys(n for t in tensors_of(arguments, keywords) for n in t.shape[:2]):
        # a trace of it would be another graph, and no other function
        in_numbers.append((f"{old}->1", resized(arguments, keywords, {old: 1})))
    for name, inputs in in_numbers if not any(p.is_meta for p in model.parameters()) else ():
        with preserved(model, parameters=False):
            if runs(model, *inputs, numbers=_small(inputs, arguments, keywords)):
                others.append(inputs)
                said += f", {name} in numbers"
    if not seen:
        said += "; what the forward asks of other sizes could not be seen"
    return Trace(**{**first.__dict__, "graph": graph, "second": said, "others": tuple(others)})


def _shapes(inputs: Inputs) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(t.shape) for t in tensors_of(*inputs))


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


def _at(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], other: Inputs, loss: str | None
) -> Trace | None:
    """The model traced at other inputs; None where it does not take them."""
    with preserved(model, parameters=False):
        # with numbers first: what the forward keeps of this size (a table in a cache) is then no fake
        taken = runs(model, *other, numbers=_small(other, args, kwargs))
        if not taken and not any(p.is_meta for p in model.parameters()):
            return None
        try:
            return lower(model, exported(model, *other), loss)
        except MatchError:
            if taken:
                raise
            return None  # what runs only where there are numbers may still be traced, or not


def _small(inputs: Inputs, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    return elements(*inputs) <= max(LARGER * elements(args, kwargs), LARGE)


def _sizes(change: Mapping[int, int]) -> str:
    return ", ".join(f"{old}->{new}" for old, new in change.items())


def _compared(graph: Graph, first: Trace, second: Trace) -> Graph:
    """What is left of the first graph, seen beside a second one.

    Raises:
        MatchError: they are two functions.
    """
    difference = _difference(first, second) or departure(first.graph, second.graph)
    if difference:
        raise MatchError(
            f"the model's graph depends on the shape of its input: {difference}",
            help="a branch on a length or batch size is frozen by the trace; make the forward independent of it",
        )
    return settled(graph, first.graph, second.graph)


def _difference(first: Trace, second: Trace) -> str:
    """The first place where two traces differ in more than sizes, or ""."""
    one, two = first.kinds, second.kinds
    for a, b in zip(one, two):
        if a != b:
            return f"{a} at one shape, {b} at another"
    return "" if len(one) == len(two) else f"{len(one)} operations at one shape, {len(two)} at another"


__all__ = ["Trace", "trace"]
