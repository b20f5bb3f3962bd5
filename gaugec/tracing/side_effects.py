"""What a forward does beside returning its value: tensors that it leaves where a training loop may read them, state
that makes the next call another function, and choices by chance, by the clock or by files.

A trace shows none of it.  The model runs on its example inputs, again and again from one state of its parameters,
buffers, inputs and torch's random numbers, and every call must be the same one (`gaugec.model.calls`).  What can be
reached from it in Python is looked at before and after (`gaugec.model.reachable`): a counter that acts in the
thousandth call is seen by its change.

What this module does not do: it sees what these calls do, and no more.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from gaugec.errors import MatchError, first_line
from gaugec.model.calls import Difference, called, gradients, other_values, same_tensor, unheard
from gaugec.model.context import as_trained
from gaugec.model.dice import TorchDice, dice_kept, other_dice
from gaugec.model.functions import listening
from gaugec.model.inputs import copied, tensors_of
from gaugec.model.interfaces import writes
from gaugec.model.memory import put_back, values
from gaugec.model.preserve import small
from gaugec.model.reachable import Reachable
from gaugec.model.source_files import line_of
from gaugec.tracing.left_behind import LeftBehind, Place
from gaugec.tracing.numbers import no_numbers_of_parameters, shared_memory
from gaugec.tracing.reads import Reads

CALLS = 16  # that are compared, of a model whose calls cost little
FEWEST = 4  # of any
WORK = 300_000_000  # elements that the calls may read and write together
CLOSELY = 20_000_000  # with less, every call is listened to, with its backward
OPERATION = 5_000  # elements that could be read in the time that an operation takes by itself

Inputs = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True)
class Watched:
    """What was seen of a forward that does nothing else.

    written: the buffers that it writes.  weights: what it makes of parameters and sets on its modules.  calls: how many
    were compared, 0 where the forward cannot run here.  shared: parameter -> where numbers in Python lie in its memory.
    varied: calls it at other parameters.
    """

    written: frozenset[str] = frozenset()
    weights: frozenset[Place] = frozenset()
    calls: int = 0
    shared: dict[str, str] = field(default_factory=dict)
    varied: Callable[[], None] = lambda: None

    def no_numbers_of_parameters(self) -> None:
        """Raises MatchError where a number in the forward follows the values of parameters."""
        self.varied()


def watch(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], reads: Reads) -> Watched:
    """Runs the forward.  One that cannot run here for want of numbers is let pass: the export will say why.

    What it writes stays written: see `gaugec.model.preserve`.  reads: watches its first call too.

    Raises:
        MatchError: it fails; it leaves a tensor that depends on a parameter, it writes to a parameter, it keeps state,
            it draws from random numbers that are not torch's, asks for the time or opens files.
    """
    if any(is_lazy(p) for p in model.parameters()):
        return Watched()
    watcher = _Watcher(model, (args, kwargs), reads)
    with watcher.entered():
        try:
            watcher.set_up()
        except Exception:
            watcher.runs_by_itself()
            return Watched()
        try:
            watcher.look_around()
            watcher.look_for_leftovers()
        except Exception as error:
            raise _changed(f"from call to call: it fails in one of the first ({_said(error)})") from error
        watcher.unchanged_parameters()
        watcher.no_other_dice()
        watcher.refuse_leftovers()
        watcher.compare_calls()
    return Watched(watcher.written, watcher.weights, watcher.calls, watcher.shared(), watcher.vary_parameters)


class _Watcher:
    """One model that is called again and again from one state."""

    def __init__(self, model: nn.Module, here: Inputs, reads: Reads) -> None:
        self.model, self.here, self.reads = model, here, reads
        self.values = {n: p.detach().clone() for n, p in model.named_parameters()} if small(model) else {}
        self.versions = {n: writes(p) for n, p in model.named_parameters()}
        self.dice, self.others = TorchDice(model), other_dice()
        self.generators: list[tuple[torch.Generator, Tensor]] = []
        self.buffers: dict[str, tuple[Tensor, int, list[tuple[Tensor, Tensor]]]] = {}
        self.written: frozenset[str] = frozenset()
        self.weights: frozenset[Place] = frozenset()
        self.left: list[str] = []
        self.calls = 0

    def set_up(self) -> None:
        """The first call: what is set up once is no memory."""
        with self._again() as (args, kwargs), self.reads, listening() as self.ran:
            made = self.model(*args, **kwargs)
            gradients(self.model, made)  # hooks, too, may set something up
        del made

    def runs_by_itself(self) -> None:
        """Raises MatchError where the forward fails, unwatched; without numbers it may still be traced."""
        if any(x.is_meta for x in (*self.model.parameters(), *tensors_of(*self.here))):
            return
        try:
            with self._again() as (args, kwargs):
                self.model(*args, **kwargs)
        except Exception as error:
            at = line_of(error)
            raise MatchError(
                f"the model itself fails on these inputs: {_said(error)}{f' ({at})' if at else ''}",
                help="call it with them, in train mode and without gaugec, and mend that first",
            ) from error

    def look_around(self) -> None:
        """The second call: what the forward asks of the world, and all that it can reach."""
        with self._again() as (args, kwargs), listening() as again:
            self.model(*args, **kwargs)
        self.asked = again.asked
        self.buffers = {n: (b, writes(b), values(b)) for n, b in self.model.named_buffers()}
        self.closures = self.ran.closures()
        self.reads.heard(self.ran.codes, self.closures)
        self.before = Reachable(self.model, self.ran, self.closures)
        self.generators = [(g, g.get_state()) for g in self.before.generators]

    def look_for_leftovers(self) -> None:
        """The third call: what is alive when its outputs are gone, and which buffers it wrote."""
        with self._again() as (args, kwargs):
            records = LeftBehind(self.model, (args, kwargs))
            with records:
                made = self.model(*args, **kwargs)
            del made
        self.weights = records.take_weights()
        if records.left():
            gc.collect()  # what only holds itself is gone for everybody
        self.left = records.left()
        now = dict(self.model.named_buffers())
        self.written = frozenset(n for n, was in self.buffers.items() if n not in now or _written(now[n], *was))

    def unchanged_parameters(self) -> None:
        """Raises MatchError where a call wrote to one."""
        for name, p in self.model.named_parameters():
            known = self.values.get(name)
            if writes(p) != self.versions.get(name) or (known is not None and not same_tensor(p.detach(), known)):
                raise MatchError(
                    f"the forward writes to the parameter {name}",
                    help="what training steps on must be written by the optimizer alone",
                )

    def no_other_dice(self) -> None:
        """Raises MatchError where a call drew from random numbers that are not torch's, or asked the world."""
        for whose, state in other_dice().items():
            if self.others.get(whose, state) != state:
                message = f"the forward draws from {whose}'s random numbers"
                raise MatchError(message, help="a trace freezes what is drawn: use torch's")
        for asked, line in self.asked.items():
            raise MatchError(
                f"the forward {asked} ({line})",
                help="a trace freezes what it finds there: do it outside of the forward, and pass what it gives",
            )

    def refuse_leftovers(self) -> None:
        """Raises MatchError where a tensor outlived its call."""
        if self.left:
            raise MatchError(
                f"the forward leaves a tensor behind that depends on a parameter (made by {self.left[0]})",
                help="what leaves the forward unseen cannot be proved invariant: return it instead",
            )

    def compare_calls(self) -> None:
        """Calls from one state, as many as their work allows; where it is little, all of them in every operation.

        Raises:
            MatchError: one of them is another than the first, or something that they can reach has changed.
        """
        with self._again() as (args, kwargs):
            self.reference, _ = called(self.model, args, kwargs)
        cost = self.reference.work + OPERATION * len(self.reference.lines)
        calls = max(FEWEST, min(CALLS, WORK // cost))
        closely = cost * CALLS < CLOSELY
        difference: Difference | None = None
        self.calls = 1
        while difference is None and self.calls < calls:
            self.calls += 1
            try:
                with self._again() as (args, kwargs):
                    if closely or self.calls in (2, calls):
                        backward = closely or self.calls == 2
                        call, difference = called(self.model, args, kwargs, beside=self.reference, backward=backward)
                    else:
                        call = unheard(self.model, args, kwargs)
                difference = difference or other_values(call, self.reference)
            except Exception as error:
                difference = Difference(f"it fails ({_said(error)})")
        made = {f"{path}.{name}".lstrip(".") for path, name in self.weights}
        now = Reachable(self.model, self.ran, self.closures)
        changed = [place for place in self.before.changed(now) if place not in made]
        if changed or difference is not None:
            told = "" if difference is None else difference.text
            what = changed[0] if changed else f"from call to call: in call {self.calls}, {told}"
            raise _changed(what)

    def vary_parameters(self) -> None:
        """Raises MatchError where a number in the forward follows the values of parameters."""

        def compared(backward: bool) -> Difference | None:
            with self._again() as (args, kwargs):
                return called(self.model, args, kwargs, beside=self.reference, backward=backward)[1]

        if self.values:
            with self.entered():
                no_numbers_of_parameters(self.model, self.values, compared)

    def shared(self) -> dict[str, str]:
        """Parameter -> where numbers in Python lie in its memory."""
        return shared_memory(self.model, self.before)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """As in training, and nothing is left of it but what calls leave."""
        with as_trained(self.model), dice_kept(self.model):
            yield

    @contextlib.contextmanager
    def _again(self) -> Iterator[Inputs]:
        """Fresh inputs, and the state from which every call starts: buffers and torch's random numbers."""
        for name, (buffer, version, was) in self.buffers.items():
            owner, _, last = name.rpartition(".")
            held = self.model.get_submodule(owner)._buffers
            held[last] = buffer
            if writes(buffer) != version or buffer.is_inference():
                for part, value in was:
                    put_back(part, value)
                self.buffers[name] = (buffer, writes(buffer), was)
        self.dice.again()
        for generator, state in self.generators:
            generator.set_state(state)
        yield copied(*self.here)


def _changed(what: str) -> MatchError:
    return MatchError(
        f"the forward changes {what}: its next call may be another function",
        help="what is proved of one call must hold for all: keep no state, or keep it in a buffer",
    )


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error)[:200]}"


def _written(now: Tensor, before: Tensor, version: int, were: Sequence[tuple[Tensor, Tensor]]) -> bool:
    return now is not before or writes(now) != version or not all(same_tensor(part, was) for part, was in were)


__all__ = ["Watched", "watch"]
