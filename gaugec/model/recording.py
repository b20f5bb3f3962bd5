"""What a forward does at one size, operation by operation, and what that says of other sizes.

An export shows what a forward is, and is dear.  A recording is a list of the operations that ran, with all of their
arguments, and costs what the forward costs.  Where the recordings at three sizes of the inputs hold the same operations
on the same tensors, and every number in them is one and the same expression of these sizes, two exports that were
compared at two of the sizes say what a third would say (`explained`).  And where two are known, the third is foretold
before it is run: how much arithmetic and memory it would take (`foretold`).

What this module does not do: it knows no operation, and it reads no content of a tensor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import flop_registry

from gaugec.model.calls import operands, results
from gaugec.model.interfaces import DispatchMode, storage, tree_flatten

OPERATIONS = 20_000  # of one forward: a layer that steps along a long input is one of very many
ARITHMETIC = 2_000_000_000  # floating point operations of one forward: a second on one core
MEMORY = 1 << 26  # bytes of all that one forward makes; the witness goes backward through it, and in float64
DIVISORS = range(1, 65)  # strides and windows


@dataclass(frozen=True)
class Work:
    """What one forward takes: operations, floating point operations, and bytes of all that it makes."""

    operations: float = 0
    arithmetic: float = 0
    memory: float = 0

    def within(self, own: Work) -> bool:
        """Is it affordable beside a forward at the example's sizes, which the reader can run?"""
        return (
            self.operations <= max(OPERATIONS, 4 * own.operations)
            and self.arithmetic <= max(ARITHMETIC, 4 * own.arithmetic)
            and self.memory <= max(MEMORY, 4 * own.memory)
        )

    def __str__(self) -> str:
        return (
            f"{self.operations:.2g} operations"
            if self.operations > OPERATIONS
            else f"{self.memory / 1e9:.2g} GB, {self.arithmetic / 1e9:.2g} billion floating point operations"
        )


@dataclass(frozen=True)
class Step:
    """One operation: all of it that is no whole number (`form`), the whole numbers among its arguments and the sizes of
    its results, the sizes of what it reads, and what it costs."""

    form: tuple[object, ...]
    numbers: tuple[int, ...]
    read: tuple[tuple[int, ...], ...]
    arithmetic: int
    memory: int


@dataclass
class Recording:
    """The steps of a forward at inputs of these sizes."""

    sizes: tuple[int, ...]
    steps: list[Step] = field(default_factory=list)

    @property
    def work(self) -> Work:
        """What all of it took."""
        return Work(len(self.steps), sum(s.arithmetic for s in self.steps), sum(s.memory for s in self.steps))


class TooMuchWork(Exception):
    """A forward was stopped, because it takes more than its limit."""


class Recorder(DispatchMode):
    """Records what runs while it is entered; what is made is kept until it is dropped itself.

    limit: what a forward at the example's sizes takes; more than `Work.within` allows beside it is stopped.
    """

    def __init__(self, model: nn.Module, sizes: tuple[int, ...], limit: Work) -> None:
        super().__init__()
        self.model, self.recording, self.limit = model, Recording(sizes), limit
        self.names: dict[int, object] = {}
        self.alive: list[Any] = []
        self.arithmetic = self.memory = 0
        self.stopped = False

    def __enter__(self) -> Recorder:
        own = (*self.model.named_parameters(remove_duplicate=False), *self.model.named_buffers(remove_duplicate=False))
        self.names = {id(x): name for name, x in reversed(own)}  # here, where a dry run has put its fakes
        super().__enter__()
        return self

    def returned(self, made: Any) -> None:
        """The last step: which values the forward returns, and in what."""
        values, structure = tree_flatten(dict(made) if isinstance(made, Mapping) else made)
        form: list[object] = ["returned", repr(structure)]
        numbers: list[int] = []
        for x in values:
            self._write(x, form, numbers)
        self.recording.steps.append(Step(tuple(form), tuple(numbers), (), 0, 0))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        form: list[object] = [str(func), torch.is_grad_enabled()]
        numbers: list[int] = []
        given = operands(args, kwargs)
        read = [x for x in given if isinstance(x, Tensor)]
        for x in given:
            self._write(x, form, numbers)
        known = {storage(x) for x in read if x.layout is torch.strided}
        made = func(*args, **kwargs)
        tensors = [x for x in results(made) if isinstance(x, Tensor)]
        for x in tensors:
            self._write(x, form, numbers)
            numbers += x.shape
        new = [x for x in tensors if x.layout is not torch.strided or storage(x) not in known]
        memory = sum(x.numel() * x.element_size() for x in new)
        arithmetic = _arithmetic(func, args, kwargs, made, tensors)
        step = Step(tuple(form), tuple(numbers), tuple(tuple(x.shape) for x in read), arithmetic, memory)
        self.recording.steps.append(step)
        self.arithmetic += arithmetic
        self.memory += memory
        if not Work(len(self.recording.steps), self.arithmetic, self.memory).within(self.limit):
            self.stopped = True
            raise TooMuchWork
        return made

    def _write(self, x: Any, form: list[object], numbers: list[int]) -> None:
        if isinstance(x, Tensor):
            if id(x) not in self.names:
                self.names[id(x)] = len(self.alive)
                self.alive.append(x)  # or another one would come to have its identity
            form += [self.names[id(x)], str(x.dtype)]
        elif isinstance(x, int) and not isinstance(x, bool):
            form.append(int)
            numbers.append(x)
        else:
            form.append(repr(x))


def _arithmetic(func: Any, args: Any, kwargs: Any, made: Any, results: Sequence[Tensor]) -> int:
    """Floating point operations: those of a contraction as torch counts them, and one an element of all else."""
    count = flop_registry.get(getattr(func, "_overloadpacket", func))
    if count is not None:
        try:
            return int(count(*args, **kwargs, out_val=made))
        except Exception:
            pass
    return sum(x.numel() for x in results)


def explained(one: Recording, two: Recording, three: Recording) -> bool:
    """Are three recordings one: the same steps, and every number in them one expression of the sizes of the inputs?

    Such is a constant, a size of what the operation reads or a product of some beside each other, and of the sizes of
    the inputs (s) a multiple c·s, (s + c) // k, or a product.
    """
    if not len(one.steps) == len(two.steps) == len(three.steps):
        return False
    known: dict[tuple[int, ...], bool] = {}
    for a, b, c in zip(one.steps, two.steps, three.steps):
        if not a.form == b.form == c.form or not _one_read(a, b, c):
            return False
        for values in zip(a.numbers, b.numbers, c.numbers, strict=True):
            if values[0] == values[1] == values[2] or _read_off(values, a, b, c):
                continue
            if values not in known:
                known[values] = _of_sizes(values, one.sizes, two.sizes, three.sizes)
            if not known[values]:
                return False
    return True


def _one_read(*steps: Step) -> bool:
    return len({tuple(len(shape) for shape in step.read) for step in steps}) == 1


def _read_off(values: tuple[int, ...], *steps: Step) -> bool:
    """Is a number at all sizes the same axis of what is read, or the product of the same axes beside each other?"""
    for shapes in zip(*(step.read for step in steps)):
        for start in range(len(shapes[0])):
            for end in range(start + 1, len(shapes[0]) + 1):
                if all(math.prod(shape[start:end]) == v for shape, v in zip(shapes, values)):
                    return True
    return False


def _of_sizes(values: tuple[int, ...], *sizes: tuple[int, ...]) -> bool:
    """Is a number at all sizes one multiple of a size or of a product of two, or one (s + c) // k of a size?"""
    count = len(sizes[0])
    for i in range(count):
        here = [s[i] for s in sizes]
        for k in DIVISORS:
            low = max(v * k - s for v, s in zip(values, here))
            if low <= min(v * k + k - 1 - s for v, s in zip(values, here)):
                return True
        for j in range(-1, i + 1):
            product = [s[i] * (s[j] if j >= 0 else 1) for s in sizes]
            if all(v * product[0] == values[0] * p for v, p in zip(values, product)):
                return True
    return False


def foretold(one: Recording, two: Recording | None, sizes: tuple[int, ...]) -> Work:
    """What a forward at other sizes would take, of one or two that were run.

    What grows as a product of sizes does is foretold exactly; where nothing is known, as the square of all of them.
    """
    growths = [max(new / old, 1.0) for old, new in zip(one.sizes, sizes)]
    square = math.prod(growths) ** 2
    if two is None or len(one.steps) != len(two.steps):
        own = one.work  # whose operations are more where the forward steps along an axis
        return Work(own.operations * max(growths, default=1.0), own.arithmetic * square, own.memory * square)
    known: dict[tuple[int, int], float] = {}

    def there(a: int, b: int) -> float:
        if (a, b) not in known:
            known[a, b] = _grown(a, b, one.sizes, two.sizes, sizes, square)
        return known[a, b]

    return Work(
        len(one.steps),
        sum(there(a.arithmetic, b.arithmetic) for a, b in zip(one.steps, two.steps)),
        sum(there(a.memory, b.memory) for a, b in zip(one.steps, two.steps)),
    )


def _grown(a: int, b: int, one: tuple[int, ...], two: tuple[int, ...], three: tuple[int, ...], square: float) -> float:
    if a == b:
        return a
    factors = [(1, 1, 1.0), *((m, n, p / m) for m, n, p in zip(one, two, three) if m != n)]
    for m, n, x in factors:
        for o, p, y in factors:
            for q, r, z in factors:
                if a * n * p * r == b * m * o * q:
                    return round(a * x * y * z)
    return a * square


__all__ = ["Recorder", "Recording", "TooMuchWork", "Work", "explained", "foretold"]
