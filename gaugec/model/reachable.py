"""What a forward can reach in Python beside tensors that are the model's own: marks of its values, to see a change.

Roots are the attributes of the modules and of their classes, and of the functions that ran: closures, defaults,
attributes, and the globals that their code names.  From there containers and objects are followed, a few steps deep.
Nothing of the guest's runs for it: no property, no `__repr__`, no `__eq__`, no pickling.

What this module does not do: it sees a limited part (`DEPTH`, `MOST`), no cache of a function, no file, and nothing
that only code written in C can reach.
"""

from __future__ import annotations

import collections
import functools
import gc
import operator
import random
import sys
import types
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from gaugec.model.dice import numpy_state
from gaugec.model.functions import Ran
from gaugec.model.interfaces import FakeTensor
from gaugec.model.memory import plain
from gaugec.model.source_files import is_guest
from gaugec.runtime.holders import dictionary, is_slot

DEPTH = 6  # steps from a root
MOST = 20_000  # values
ITEMS = 1_000  # of one container
TENSOR = 256  # elements of a tensor that is compared
BYTES = 1 << 20  # of an array that is compared
_SIMPLE = (bool, int, float, complex, str, bytes, type(None))
_OWN = ("_parameters", "_buffers", "_modules")


class Reachable:
    """One look at everything that can be reached.

    marks: place -> something that is equal while the value there is.  memory: place -> first address and length of
    what lies in memory as numbers, and is no parameter or buffer.  generators: torch's own, which a call may be given
    afresh.
    """

    def __init__(self, model: nn.Module, ran: Ran, closures: Sequence[types.FunctionType]) -> None:
        self.marks: dict[str, Any] = {}
        self.memory: dict[str, tuple[int, int]] = {}
        self.generators: list[torch.Generator] = []
        self.modules = {id(m) for m in model.modules()}
        self.own = {id(t) for t in (*model.parameters(), *model.buffers())}
        self.seen: set[int] = set()
        self.todo: collections.deque[tuple[str, Any, int]] = collections.deque()
        self.todo.extend(self._roots(model, ran, closures))
        most = MOST + len(self.todo)
        while self.todo and len(self.marks) < most:
            self._look(*self.todo.popleft())

    def _roots(
        self, model: nn.Module, ran: Ran, closures: Sequence[types.FunctionType]
    ) -> Iterator[tuple[str, Any, int]]:
        for place, value in (*_of_modules(model), *_of_globals(ran)):
            yield place, value, 0
        for function in closures:
            yield from ((f"{function.__qualname__}{step}", value, 0) for step, value in _of_function(function))

    def changed(self, later: Reachable) -> list[str]:
        """Places whose value is another one in a later look."""
        return [place for place, mark in later.marks.items() if place not in self.marks or self.marks[place] != mark]

    def _look(self, place: str, value: Any, depth: int) -> None:
        if isinstance(value, _SIMPLE):
            self.marks[place] = "nan" if value != value else value
            return
        if id(value) in self.seen or id(value) in self.modules:
            return
        self.seen.add(id(value))
        if isinstance(value, Tensor):
            if id(value) not in self.own:
                self._tensor(place, value)
        elif isinstance(value, torch.Generator):
            self.generators.append(value)
        elif (dice := _dice(value)) is not None:
            self.marks[place] = dice
        elif not self._bytes(place, value):
            self._mark(place, value)
            if depth < DEPTH:
                self.todo.extend((place + step, item, depth + 1) for step, item in _inside(value))

    def _tensor(self, place: str, x: Tensor) -> None:
        if is_lazy(x) or isinstance(x, FakeTensor) or not plain(x) or x.is_meta or x.is_quantized:
            return
        if x.numel() <= TENSOR:
            self.marks[place] = (x.dtype, tuple(x.shape), repr(x.detach().tolist()))
        if x.device.type == "cpu":
            self.memory[place] = x.untyped_storage().data_ptr(), x.untyped_storage().nbytes()

    def _bytes(self, place: str, value: Any) -> bool:
        """Marks what lies in memory as numbers: arrays, of Python or of numpy."""
        try:
            with memoryview(value) as seen:
                if seen.nbytes <= BYTES:
                    self.marks[place] = (seen.format, seen.shape, hash(seen.tobytes()))
        except (TypeError, BufferError, ValueError, NotImplementedError):
            return False
        self.memory[place] = _address(value)
        return True

    def _mark(self, place: str, value: Any) -> None:
        """What a value is, beside what it holds."""
        kind = type(value)
        mark: Any = kind.__qualname__
        if isinstance(value, (dict, list, tuple, set, frozenset, collections.deque)):
            mark = (mark, len(value))
            if isinstance(value, (set, frozenset)):
                mark = (*mark, frozenset(x for x in value if isinstance(x, _SIMPLE)))
        elif isinstance(value, types.GeneratorType):
            mark = (mark, value.gi_frame.f_lasti if value.gi_frame is not None else -1)
        elif isinstance(value, types.FunctionType):
            mark = value.__code__
        elif isinstance(value, (type, types.BuiltinFunctionType)):
            mark = value
        elif kind.__dictoffset__ == 0 and not callable(value) and _in_c(cast(Any, kind)):
            mark = (mark, _shown(value))
        self.marks[place] = mark


@functools.lru_cache(4096)
def _in_c(kind: Any) -> bool:
    """Is a class written in C: does no Python run when it is asked for a length or its text?"""
    return not any(isinstance(x, types.FunctionType) for cls in kind.__mro__ for x in list(cls.__dict__.values()))


def _shown(value: Any) -> Any:
    """What shows the state of an object written in C (a count, an iterator over a range), but for its address."""
    try:
        text = "" if repr(type(value).__repr__) == repr(object.__repr__) else repr(value)[:1000]
        return operator.length_hint(value, -1), text
    except Exception:
        return None


def _dice(value: Any) -> Any:
    """The state of a generator of random numbers that is not torch's."""
    if isinstance(value, random.Random):
        return None if isinstance(value, random.SystemRandom) else random.Random.getstate(value)
    return numpy_state(value)


def _address(value: Any) -> tuple[int, int]:
    """Where an array lies: its first byte, and how many (0 where nobody says)."""
    interface = getattr(value, "__array_interface__", None) if type(value).__module__ == "numpy" else None
    if interface is not None:
        strides = interface["strides"] or ()
        low = sum(min(0, (n - 1) * s) for n, s in zip(interface["shape"], strides))
        return interface["data"][0] + low, value.nbytes
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            x = torch.frombuffer(value, dtype=torch.uint8)
        return x.data_ptr(), x.numel()
    except (TypeError, ValueError, RuntimeError, BufferError):
        return 0, 0


def _inside(value: Any) -> Iterator[tuple[str, Any]]:
    """What a value holds, with the step that leads there."""
    if isinstance(value, type):
        yield from _of_class(value)
        return
    if isinstance(value, types.ModuleType) or isinstance(value, types.BuiltinFunctionType):
        return
    if isinstance(value, types.FunctionType):
        yield from _of_function(value)
        return
    if isinstance(value, types.MethodType):
        yield from ((".__self__", value.__self__), (".__func__", value.__func__))
        return
    if isinstance(value, types.GeneratorType):
        yield from ((f".{k}", v) for k, v in (value.gi_frame.f_locals if value.gi_frame else {}).items())
        yield " (held)", value.gi_yieldfrom
        return
    if isinstance(value, functools.partial):
        yield from ((".func", value.func), (".args", value.args), (".keywords", value.keywords))
        return
    if isinstance(value, dict):
        for number, (key, item) in enumerate(list(dict.items(value))[:ITEMS]):
            yield (f"[{key!r}]" if isinstance(key, _SIMPLE) else f"[key {number}]"), item
    kind: Any
    for kind in (list, tuple, collections.deque):
        if isinstance(value, kind):
            yield from ((f"[{n}]", item) for n, item in zip(range(ITEMS), kind.__iter__(value)))
    for name, item in _attributes(value):
        yield f".{name}", item
    if _in_c(cast(Any, type(value))) and type(value).__module__ != "builtins":
        # an iterator over another, a function that remembers what it gave: what it holds is known to the collector
        held = (x for x in gc.get_referents(value) if not isinstance(x, (type, types.ModuleType)))
        yield from ((f" (held {n})", x) for n, x in zip(range(ITEMS), held))


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    """The attributes that an object itself holds, in its dictionary or in slots; no property is asked."""
    yield from [(k, v) for k, v in (dictionary(value) or {}).items() if isinstance(k, str)]
    for name, member in _slots(cast(Any, type(value))):
        try:
            yield name, member.__get__(value)
        except AttributeError:
            continue


@functools.lru_cache(4096)
def _slots(kind: Any) -> list[tuple[str, Any]]:
    return [
        (name, member)
        for cls in kind.__mro__
        for name, member in list(cls.__dict__.items())
        if is_slot(member) and is_guest(_file(cls))
    ]


def _file(cls: type) -> str:
    """The source file of a class; of what is written in C, or has none, one of Python's own."""
    if cls.__module__ in ("builtins", "typing", "types"):
        return "<frozen"
    return getattr(sys.modules.get(cls.__module__), "__file__", None) or ""


def _of_class(cls: type) -> Iterator[tuple[str, Any]]:
    if not is_guest(_file(cls)):
        return
    for name, value in list(cls.__dict__.items()):
        if not name.startswith("__") and not hasattr(type(value), "__get__"):
            yield f".{name}", value


def _of_function(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
        try:
            yield f" (its variable {name})", cell.cell_contents
        except ValueError:  # not yet filled
            continue
    for number, value in enumerate(function.__defaults__ or ()):
        yield f" (its default {number + 1})", value
    for name, value in (function.__kwdefaults__ or {}).items():
        yield f" (its default {name})", value
    for name, value in function.__dict__.items():
        yield f".{name}", value


def _of_modules(model: nn.Module) -> Iterator[tuple[str, Any]]:
    classes: dict[type, None] = {}
    for path, module in model.named_modules():
        for name, value in module.__dict__.items():
            if name not in _OWN:
                yield f"{path}.{name}".lstrip("."), value
        classes.update(dict.fromkeys(type(module).__mro__))
    for cls in classes:
        yield from ((f"{cls.__qualname__}{step}", value) for step, value in _of_class(cls))


def _of_globals(ran: Ran) -> Iterator[tuple[str, Any]]:
    """The globals that codes name; of a module among them, what they may read of it."""
    for code, known in ran.codes.items():
        for name in code.co_names:
            value = known.get(name)
            if not isinstance(value, types.ModuleType):
                if name in known:
                    yield f"the global {name}", value
            elif is_guest(value.__dict__.get("__file__") or ""):
                held = ((n, value.__dict__[n]) for n in code.co_names if n in value.__dict__)
                yield from ((f"the global {name}.{n}", x) for n, x in held if not isinstance(x, types.ModuleType))


__all__ = ["Reachable"]
