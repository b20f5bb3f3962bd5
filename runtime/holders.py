"""What may hold settings in a model, and their lookup.

A setting is a plain value that stands beside the parameters: an attribute of a module or of a plain object that hangs
on one, a variable of a function's closure, a global, a class attribute.  Looking them up imports nothing, runs no
forward and, but for a class that has an attribute access of its own, no code of the model.

Not here: which settings a forward reads (see `gaugec.tracing.reads`), and how a value is told (see `told`).
"""

from __future__ import annotations

import enum
import functools
import itertools
import sys
import types
from collections import deque
from collections.abc import Iterator, KeysView, Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from gaugec.runtime.names import plain
from gaugec.runtime.told import DEPTH, ENTRIES, MISSING, PLAIN, Missing

HOLDERS = 50_000  # objects of one model
TABLES = ("_parameters", "_buffers", "_modules")
MADE = " (made by the forward)"  # behind a part
NAMES = "__dict__"  # looked up: not a value, but which attributes there are


class Holder(NamedTuple):
    """Something that has attributes (of a function: the variables of its closure) and how it is reached.

    path: of the module on which it hangs.  chain: from there, "" for the module itself.  parent: what it hangs on, and
    by which attribute.
    """

    path: str
    chain: str
    thing: Any
    parent: Any = None
    attribute: str = ""

    def named(self, name: str) -> str:
        """One of its attributes, as it is called from the module."""
        return f"{self.chain}.{name}" if self.chain else name


def holders(model: nn.Module) -> Iterator[Holder]:
    """The modules of a model and what hangs on them, `HOLDERS` at most; torch.compile's wrappers are seen through."""
    return itertools.islice(_Walk().all(model), HOLDERS)


def modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Every module by its plain path, without the wrappers that torch.compile puts around one."""
    for path, module in model.named_modules():
        if "_orig_mod" not in dict(module.named_children()):
            yield (plain(f"{path}.").strip(".") if "_orig_mod" in path else path), module


def parts(model: nn.Module) -> Iterator[str]:
    """Every part and buffer of every module by its plain path, with a word where it is a buffer or None."""
    for path, module in modules(model):
        for table, word in (("_modules", ""), ("_buffers", " (a buffer)")):
            for name, x in vars(module).get(table, {}).items():
                yield f"{path}.{name}".lstrip(".") + (" (none)" if x is None else word)


class _Walk:
    """One walk over a model: of one module each thing is met once, by the shortest way.

    classes: of a module's class what it defines that could hold something.  below: of a thing, by its id, what is to be
    walked of it; it is kept alive beside it.  sorts: what values of a class are to the walk.
    """

    def __init__(self) -> None:
        self.classes: dict[type, list[tuple[str, Any]]] = {}
        self.below: dict[int, tuple[Any, list[tuple[str, Any]]]] = {}
        self.sorts: dict[type, str] = {}

    def all(self, model: nn.Module) -> Iterator[Holder]:
        for path, module in modules(model):
            yield (root := Holder(path, "", module))
            todo = deque((root, name, value) for name, value in (*self._below(module), *self._of_class(type(module))))
            met: set[int] = set()
            while todo:
                parent, name, value = todo.popleft()
                for holder in self._within(parent, name, parent.named(name), value, 0):
                    if id(holder.thing) not in met and holder.chain.count(".") <= DEPTH:
                        met.add(id(holder.thing))
                        yield holder
                        todo += ((holder, *pair) for pair in self._below(holder.thing))

    def _below(self, thing: Any) -> list[tuple[str, Any]]:
        if id(thing) not in self.below:
            pairs = ((name, lookup(thing, name)) for name in attributes(thing) if name not in TABLES)
            self.below[id(thing)] = (thing, [(name, x) for name, x in pairs if self._sort(x) != "none"])
        return self.below[id(thing)][1]

    def _sort(self, value: Any) -> str:
        return self.sorts.get(type(value)) or self.sorts.setdefault(type(value), _sort(type(value)))

    def _of_class(self, kind: type) -> list[tuple[str, Any]]:
        """What the classes of a module define and could hold something, those of torch left out."""
        if kind not in self.classes:
            own = list(itertools.takewhile(lambda each: each is not nn.Module, kind.__mro__))
            defined = {name: value for each in reversed(own) for name, value in vars(each).items()}
            root = Holder("", "", None)
            self.classes[kind] = [
                (name, value)
                for name, value in defined.items()
                if not name.startswith("__") and any(True for _ in self._within(root, name, name, value, 0))
            ]
        return self.classes[kind]

    def _within(self, parent: Holder, name: str, chain: str, value: Any, depth: int) -> Iterator[Holder]:
        """The holders that an attribute's value is, or holds in containers."""
        sort = self._sort(value)
        if sort == "none" or depth > DEPTH:
            return
        if sort == "function":
            if _holds_variables(value):
                yield Holder(parent.path, chain, value, parent.thing, name)
        elif sort == "object":
            if dictionary(value) is not None or attributes(value):
                yield Holder(parent.path, chain, value, parent.thing, name)
        elif sort == "mapping":
            for number, (key, x) in enumerate(itertools.islice(value.items(), ENTRIES)):
                at = repr(key) if isinstance(key, str) else str(number)
                yield from self._within(parent, name, f"{chain}[{at}]", x, depth + 1)
        else:
            inside = value if sort == "list" else (value.func if sort == "partial" else value.__func__,)
            for number, x in enumerate(itertools.islice(inside, ENTRIES)):
                yield from self._within(parent, name, f"{chain}[{number}]", x, depth + 1)


def _sort(kind: type) -> str:
    """What values of a class are to a walk."""
    if issubclass(kind, (*PLAIN, Missing, Tensor, nn.Module, types.ModuleType, type, enum.Enum)):
        return "none"
    for sort, base in (
        ("mapping", Mapping),
        ("list", list | tuple | deque),
        ("partial", functools.partial),
        ("method", types.MethodType),
        ("function", types.FunctionType),
    ):
        if issubclass(kind, base):
            return sort
    return "none" if kind.__module__.partition(".")[0] in ("torch", "builtins", "numpy") else "object"


def _holds_variables(function: types.FunctionType) -> bool:
    """Has a function variables beside those that the globals of a module hold?"""
    return bool(function.__closure__) or not registered(function.__globals__)


def is_object(value: Any) -> bool:
    """Is it a plain object, on which settings may hang?"""
    return _sort(type(value)) == "object"


def attributes(thing: Any) -> KeysView[str]:
    """The names of what a holder has of its own, in order; of a function, the variables of its closure."""
    if type(thing) is types.FunctionType:
        return dict.fromkeys(thing.__code__.co_freevars).keys()
    kind = type(thing)
    slots = [n for each in kind.__mro__ for n, d in vars(each).items() if is_slot(d)] if _slotted(kind) else []
    return dict.fromkeys((*slots, *(dictionary(thing) or ()))).keys()


def _slotted(kind: type) -> bool:
    return any("__slots__" in vars(each) for each in kind.__mro__)


def dictionary(value: Any) -> dict[str, Any] | None:
    """What an object itself holds by name, if it has such a table; none of its own code runs."""
    try:
        found = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return None
    return found if isinstance(found, dict) else None


def is_slot(value: Any) -> bool:
    """Is what a class defines a slot of its instances?"""
    return isinstance(value, types.MemberDescriptorType)


def registered(namespace: Mapping[str, Any]) -> bool:
    """Are these the globals of a module that can be found by its name?"""
    module = sys.modules.get(str(namespace.get("__name__")))
    return module is not None and vars(module) is namespace


def lookup(thing: Any, name: str) -> Any:
    """An attribute as it is written down, `MISSING` where nothing is; of a function, a variable that its code reads."""
    if name == NAMES:
        return tuple(sorted(attributes(thing)))
    kind = type(thing)  # not isinstance: it asks a thing for its class, which may run code of its own
    if kind is types.FunctionType:
        return _variable(thing, name)
    if issubclass(kind, types.ModuleType):
        return vars(thing).get(name, MISSING)
    of_class = issubclass(kind, type)
    own = None if of_class else dictionary(thing)
    if own is not None and name in own:
        return own[name]
    for each in (thing if of_class else kind).__mro__:
        if name in vars(each):
            value = vars(each)[name]
            if each is nn.Module:
                return MISSING
            if is_slot(value) and not of_class:
                return _in_slot(value, thing)
            value = value.__func__ if isinstance(value, (staticmethod, classmethod)) else value
            computed = not callable(value) and hasattr(type(value), "__get__")
            return MISSING if computed else value
    plainly: Any = object.__getattribute__
    if of_class or issubclass(kind, nn.Module) or kind.__getattribute__ is plainly:
        return MISSING
    try:
        return getattr(thing, name)
    except Exception:
        return MISSING


def _in_slot(slot: Any, thing: Any) -> Any:
    try:
        return slot.__get__(thing)
    except AttributeError:  # not set
        return MISSING


def _variable(function: types.FunctionType, name: str) -> Any:
    if name in function.__code__.co_freevars:
        try:
            return (function.__closure__ or ())[function.__code__.co_freevars.index(name)].cell_contents
        except ValueError:  # not set yet
            return MISSING
    return function.__globals__.get(name, MISSING)


def resolved(namespace: Mapping[str, Any], chain: str) -> Any:
    """What a dotted name stands for in the globals of a module, `MISSING` where nothing is."""
    first, *others = chain.split(".")
    value = namespace.get(first, MISSING)
    for name in others:
        value = MISSING if value is MISSING else lookup(value, name)
    return value


def absent(thing: Any, name: str) -> bool:
    """Has a module or an object nothing of that name: no attribute, no parameter or part, nothing of its class?"""
    kind = type(thing)
    if lookup(thing, name) is not MISSING or any(name in vars(each) for each in kind.__mro__):
        return False
    return not (issubclass(kind, nn.Module) and any(name in vars(thing).get(table, ()) for table in TABLES))


def is_setting(value: Any) -> bool:
    """Is a value one that stands beside the parameters: no tensor, no module, and there at all?"""
    return value is not MISSING and not issubclass(type(value), (Tensor, nn.Module, types.ModuleType))
