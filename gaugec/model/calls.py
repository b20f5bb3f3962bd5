"""One call of a forward as ATen sees it: its operations with all that is no tensor, its outputs, and a gradient.

Two calls from one state are the same function as far as this shows: the operations in their order, the numbers and
flags that they were given, the numbers that were taken out of tensors, the values of tensors that came from outside of
torch (made of numbers, or lying in a numpy array), what is returned, and the gradient of a random combination of it.

What this module does not do: which tensor went into which operation is not compared, only what came out at the end.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gaugec.model.interfaces import DispatchMode, leaves, storage
from gaugec.model.memory import MarkedMemory, parts, plain
from gaugec.model.source_files import home

WHOLE = 100_000  # elements up to which a tensor from outside is compared entry by entry, and beyond in sums
ROUNDING = 1e-4  # of the largest entry: by how much gradients, and outputs off the CPU, differ in two equal runs
_KNOWN = (bool, int, float, complex, str, type(None), torch.dtype, torch.device, torch.layout, torch.memory_format)
_UNSEEN = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)


@dataclass(frozen=True)
class Difference:
    """The first place where a call does something else.

    text: for people, what it does, and what it did.  by_value: an operation of torch gave another number or size for
    the values of its tensors: what follows may differ with these values, and says nothing.
    """

    text: str
    by_value: bool = False


@dataclass
class Call:
    """What one call did.

    lines: its operations.  gradients: of every parameter, None where they were not asked for.  dice: the state of
    torch's random numbers at the end.  work: elements that were read and written, as a measure of what it cost.
    """

    lines: list[tuple[Any, ...]] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)
    gradients: list[Tensor | None] | None = None
    dice: Tensor = field(default_factory=torch.Tensor)
    work: int = 0


class _Listener(DispatchMode):
    """Writes down every operation; or, beside a call that was written down, the first that is another one."""

    def __init__(self, known: set[int], beside: Call | None) -> None:
        super().__init__()
        self.known, self.beside = known, beside
        self.made = MarkedMemory()
        self.call = Call()
        self.at = 0
        self.difference: Difference | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = operands(args, kwargs)
        tensors = [x for x in given if isinstance(x, Tensor)]
        line: list[Any] = [func, *(_number(x) for x in given if not isinstance(x, Tensor))]
        line += [_value(x) for x in tensors if self._foreign(x)]
        self._write((*line,), by_value=False)
        made = func(*args, **(kwargs or {}))
        new = results(made)
        self._remember(new, tensors)
        self.call.work += sum(x.numel() for x in (*tensors, *new) if isinstance(x, Tensor) and plain(x))
        if any(tag in func.tags for tag in _UNSEEN):
            line = [_size(x) if isinstance(x, Tensor) else _number(x) for x in new]
            self._write((f"what {func} gives", *line), by_value=True)
        return made

    def _foreign(self, x: Tensor) -> bool:
        """Is it no parameter, buffer or input, and made by no operation that was seen?"""
        if not plain(x) or x.is_meta:
            return False
        return storage(x) not in self.known and x not in self.made

    def _remember(self, made: Sequence[Any], given: Sequence[Tensor]) -> None:
        before = {storage(x) for x in given if plain(x)}
        for x in made:
            if isinstance(x, Tensor) and plain(x) and storage(x) not in before:
                self.made.add(x)

    def _write(self, line: tuple[Any, ...], by_value: bool) -> None:
        if self.beside is None:
            self.call.lines.append(line)
            return
        if self.difference is None:
            were = self.beside.lines
            was = were[self.at] if self.at < len(were) else None
            if line != was:
                self.difference = Difference(_told(line, was), by_value and was is not None and line[0] == was[0])
            self.at += 1

    def finish(self) -> None:
        """A call that stops early differs where it stops."""
        if self.beside is not None and self.difference is None and self.at < len(self.beside.lines):
            self.difference = Difference(f"it stops before {_name(self.beside.lines[self.at][0])}")


class _Value:
    """A tensor's values as something that can be compared."""

    def __init__(self, x: Tensor) -> None:
        x = x.detach()
        if x.numel() > WHOLE:
            x = torch.stack([x.double().sum(), x.double().abs().sum()])
        self.value = x.clone()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Value) and same_tensor(self.value, other.value)

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        shown = self.value.item() if self.value.numel() == 1 else f"a tensor of shape {tuple(self.value.shape)}"
        return f"{shown:.6g}" if isinstance(shown, float) else str(shown)


def _value(x: Tensor) -> Any:
    try:
        return _Value(x)
    except Exception:
        return "a tensor that cannot be read"


def same_tensor(one: Tensor, two: Tensor, rounding: float = 0.0) -> bool:
    """Are two tensors of one type and shape equal, with NaN equal to itself?

    rounding: by how much of the largest entry they may differ.
    """
    if one.dtype != two.dtype or one.layout != two.layout or one.is_nested != two.is_nested:
        return False
    if not plain(one):
        return all(same_tensor(a, b, rounding) for a, b in zip(parts(one), parts(two)))
    if one.shape != two.shape or one.is_meta:
        return one.shape == two.shape
    if torch.equal(one, two):
        return True
    if not (one.is_floating_point() or one.is_complex()):
        return False
    apart = ~((one == two) | (one.isnan() & two.isnan()))
    if not bool(apart.any()) or not rounding:
        return not bool(apart.any())
    one, two = one[apart], two[apart]
    return bool((one - two).abs().max() <= rounding * torch.maximum(one.abs().max(), two.abs().max()))


def _size(x: Tensor) -> Any:
    return tuple(x.shape) if plain(x) else None


def _number(x: Any) -> Any:
    """A value that is no tensor to be compared: NaN is made equal to itself."""
    if isinstance(x, float) and x != x:
        return "nan"
    return x if isinstance(x, _KNOWN) else type(x)


def operands(args: tuple[Any, ...], kwargs: Mapping[str, Any] | None) -> list[Any]:
    """All that an operation of ATen is given, in order, with the lengths of lists and the names of keywords."""
    found: list[Any] = []
    _flatten(args, found)
    if kwargs:
        _flatten(kwargs, found)
        _flatten(kwargs.values(), found)
    return found


def results(made: Any) -> list[Any]:
    """All that an operation of ATen returns, in order, with the lengths of lists."""
    found: list[Any] = []
    _flatten(made if isinstance(made, (tuple, list)) else (made,), found)
    return found


def _flatten(values: Iterable[Any], found: list[Any]) -> None:
    """Arguments of an operation of ATen are lists at most."""
    for value in values:
        if isinstance(value, (tuple, list)):
            found.append(len(value))
            _flatten(value, found)
        else:
            found.append(value)


def _name(func: Any) -> str:
    return str(getattr(func, "_overloadpacket", func))


def _told(line: tuple[Any, ...], was: tuple[Any, ...] | None) -> str:
    where = _line()
    if was is None:
        return f"{_name(line[0])} where it had ended{where}"
    if line[0] != was[0]:
        return f"{_name(line[0])} where it was {_name(was[0])}{where}"
    for one, two in zip(line[1:], was[1:]):
        if one != two:
            return f"{_name(line[0])} with {_short(one)} where it was {_short(two)}{where}"
    return f"{_name(line[0])} with other arguments{where}"


def _short(x: Any) -> str:
    return (f"{x:.6g}" if isinstance(x, float) else str(x))[:80]


def _skipped(file: str) -> bool:
    return file.startswith("<") or home(file) in ("torch", "gaugec")


def _line() -> str:
    """The line of the forward that is at work, outside of torch and of gaugec."""
    frame = sys._getframe()
    while frame is not None and _skipped(frame.f_code.co_filename):
        frame = frame.f_back  # type: ignore[assignment]
    return "" if frame is None else f" ({os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno})"


def known_memory(model: nn.Module, inputs: Any) -> set[int]:
    """The storages of a model's parameters and buffers and of its inputs."""
    known = [*model.parameters(), *model.buffers(), *(x for x in leaves(inputs) if isinstance(x, Tensor))]
    return {storage(part) for x in known for part in parts(x)}


def called(
    model: nn.Module, args: Any, kwargs: Any, *, beside: Call | None = None, backward: bool = True
) -> tuple[Call, Difference | None]:
    """Calls a forward once, and its backward, and listens to every operation.

    beside: a call that was written down; then the new one is compared with it and not written down.

    Returns: the call, and the first difference in its operations.  What the forward raises is raised; where the
    backward does, there is no gradient.
    """
    listener = _Listener(known_memory(model, (args, kwargs)), beside)
    with torch.enable_grad(), listener:
        made = model(*args, **kwargs)
        _end(listener.call, made)
        if backward:
            listener.call.gradients = gradients(model, made)
        del made
    if backward:
        listener.finish()
    return listener.call, listener.difference


def unheard(model: nn.Module, args: Any, kwargs: Any) -> Call:
    """Calls a forward once, and keeps what came out at the end: a small part of the time."""
    call = Call()
    with torch.enable_grad():
        _end(call, model(*args, **kwargs))
    return call


def _end(call: Call, made: Any) -> None:
    call.outputs = [x.detach() if isinstance(x, Tensor) else _number(x) for x in _returned(made)]
    call.dice = torch.get_rng_state()


def _returned(made: Any) -> list[Any]:
    """What a forward returns, but for objects of which nothing is known."""
    every = leaves(dict(made) if isinstance(made, Mapping) else made)
    return [x for x in every if isinstance(x, (Tensor, bool, int, float, str))]


def gradients(model: nn.Module, made: Any) -> list[Tensor | None]:
    """Of a random combination of the outputs; none where there is no backward."""
    outputs = [x for x in _returned(made) if isinstance(x, Tensor) and x.requires_grad and x.is_floating_point()]
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not outputs or not parameters:
        return []
    try:
        odds = [torch.randn_like(x) for x in outputs]
        return list(torch.autograd.grad(outputs, parameters, odds, allow_unused=True))
    except Exception:  # a checkpoint of the old kind has none of this form
        return []


def other_values(call: Call, beside: Call) -> Difference | None:
    """Where two calls with the same operations give something else."""
    if not _same(call.outputs, beside.outputs, rounded=False):
        return Difference("its output is another one")
    if call.gradients is not None and not _same(call.gradients, beside.gradients or [], rounded=True):
        return Difference("its gradient is another one")
    return None if torch.equal(call.dice, beside.dice) else Difference("it draws other random numbers")


def _same(values: Sequence[Any], were: Sequence[Any], *, rounded: bool) -> bool:
    for one, two in zip(values, were):
        if isinstance(one, Tensor) and isinstance(two, Tensor):
            exact = not rounded and one.device.type == "cpu"
            if not same_tensor(one, two, 0.0 if exact else ROUNDING):
                return False
        elif type(one) is not type(two) or not (one is None or one == two):
            return False
    return len(values) == len(were)


__all__ = [
    "Call",
    "Difference",
    "called",
    "gradients",
    "known_memory",
    "operands",
    "other_values",
    "results",
    "same_tensor",
    "unheard",
]
