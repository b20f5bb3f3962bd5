"""Models enter here: `torch.export` -> ATen graph -> tensor graph.

A model is traced at two shapes where its inputs allow it, and at those where it turns (`gaugec.tracing.guards`): export
specialises on the example's shape, and a branch on a length would vanish silently.

What this module does not do: it exports nothing and lowers nothing (`gaugec.tracing.export`, `gaugec.tracing.lower`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy

from gaugec.errors import MatchError
from gaugec.graph.check import check
from gaugec.graph.ir import Graph
from gaugec.model.inputs import LARGE, LARGER, Inputs, elements, resized, tensors_of, variations
from gaugec.model.preserve import preserved
from gaugec.model.run import runs, several, share_memory
from gaugec.tracing.compare import departure, settled
from gaugec.tracing.export import exported
from gaugec.tracing.guards import FARTHEST, turning_points
from gaugec.tracing.lower import Trace, lower_program
from gaugec.tracing.side_effects import Watched, watch

LOOKS = 12  # sizes at which a model is traced


def trace(
    model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any] | None = None, *, loss: str | None = None
) -> Trace:
    """Traces a model, at more than one shape where its inputs allow it.

    Raises:
        MatchError: export fails, the two traces differ, `loss` is unknown, or a parameter has an axis that export
            cannot show.
    """
    _refuse_misuse(model, args, kwargs, loss)
    _refuse_inputs(model, tuple(args), dict(kwargs or {}))
    here = several(model, tuple(args), dict(kwargs or {}))
    watched = watch(model, *here)
    first = _beside(lower_program(model, exported(model, *here), loss), watched)
    _all_seen(model, watched.written, first)
    watched.no_numbers_of_parameters()
    looks = _Looks(model, here, loss, first)
    looks.at_a_second_shape()
    looks.where_it_turns()
    looks.at_one_row()
    looks.in_numbers()
    return looks.trace()


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
    tensors = tensors_of(args, kwargs)
    if any(t.numel() == 0 for t in tensors):
        raise MatchError("an example input has no elements", help="give inputs with at least one row")
    for x in tensors:
        for name, parameter in model.named_parameters():
            if not is_lazy(parameter) and share_memory(parameter, x):
                raise MatchError(
                    f"an example input is {name}, or a part of it",
                    help="a parameter that is handed in as data would move unseen: read it in the forward",
                )


class _Looks:
    """Everything that one model is looked at, beside its first trace: other inputs, and what the graph is beside them.

    graph: the first trace's, in which what depends on a size has become opaque.  others: inputs that were taken.
    note: a line on them for people.  waiting: inputs at which numbers alone are looked at, and what they are called.
    all_seen: whether all that the forward asked of its sizes could be seen.
    """

    def __init__(self, model: nn.Module, here: Inputs, loss: str | None, first: Trace) -> None:
        self.model, self.here, self.loss, self.first = model, here, loss, first
        self.graph = first.graph
        self.others: list[Inputs] = []
        self.note = "the inputs could not be resized: traced at one shape only"
        self.waiting: list[tuple[str, Inputs]] = []
        self.all_seen = True

    def trace(self) -> Trace:
        """The first trace with all that was seen beside it."""
        return replace(self.first, graph=check(self.graph, "tracing"), second=self.note, others=tuple(self.others))

    def at_a_second_shape(self) -> None:
        """Compares with a trace at other sizes, the first that the model takes."""
        for change in variations(*self.here):
            if self._compared_at(resized(*self.here, change)):
                self.note = f"same graph with input sizes {_sizes(change)}"
                return

    def where_it_turns(self) -> None:
        """Compares with traces at sizes that break what the forward asked of its sizes, and asks again there."""
        asked: list[tuple[str, Inputs]] = [("", self.here)]
        looked = {_shapes(self.here), *map(_shapes, self.others)}
        seen = True
        for way, here in asked:  # it grows: what is asked behind a branch is seen only there
            turns, all_of_it = turning_points(self.model, *here)
            seen = seen and all_of_it
            for turn in turns:
                at = turn.apply(*here)
                if at is None or _shapes(at) in looked or len(looked) > LOOKS or (way and turn.guess):
                    continue
                looked.add(_shapes(at))
                if turn.guess and turn.new >= FARTHEST:
                    # a layer that steps along its input is too long a graph there: its numbers alone are looked at
                    self.waiting.append((str(turn), at))
                elif self._compared_at(at):
                    asked.append((f"{way}, {turn}", at))
                    self.note += f"; {way.removeprefix(', ')}, {turn}" if way else f", {turn}"
        self.all_seen = seen

    def at_one_row(self) -> None:
        """Sizes of 1 are looked at in numbers: a trace of them would be another graph, and no other function."""
        for old in dict.fromkeys(n for t in tensors_of(*self.here) for n in t.shape[:2]):
            self.waiting.append((f"{old}->1", resized(*self.here, {old: 1})))

    def in_numbers(self) -> None:
        """Runs the forward at the inputs that wait for it."""
        for name, inputs in self.waiting if not _meta(self.model) else ():
            with preserved(self.model, parameters=False):
                if runs(self.model, *inputs, numbers=_small(inputs, *self.here)):
                    self.others.append(inputs)
                    self.note += f", {name} in numbers"
        if not self.all_seen:
            self.note += "; what the forward asks of other sizes could not be seen"

    def _compared_at(self, inputs: Inputs) -> bool:
        """Traces at other inputs and compares; False where the model does not take them.

        Raises:
            MatchError: it is another function there.
        """
        other = self._traced_at(inputs)
        if other is not None:
            self.graph = _compared(self.graph, self.first, other)
            self.others.append(inputs)
        return other is not None

    def _traced_at(self, inputs: Inputs) -> Trace | None:
        with preserved(self.model, parameters=False):
            # with numbers first: what the forward keeps of this size (a table in a cache) is then no fake
            taken = runs(self.model, *inputs, numbers=_small(inputs, *self.here))
            if not taken and not _meta(self.model):
                return None
            try:
                return lower_program(self.model, exported(self.model, *inputs), self.loss)
            except MatchError:
                if taken:
                    raise
                return None  # what runs only where there are numbers may still be traced, or not


def _meta(model: nn.Module) -> bool:
    return any(p.is_meta for p in model.parameters())


def _shapes(inputs: Inputs) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(t.shape) for t in tensors_of(*inputs))


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
