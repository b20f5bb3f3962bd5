"""Which settings a forward reads: watched while it runs, not guessed from names.

Attribute access is watched on the classes of the model's modules and of the plain objects that hang on them; of code
that runs outside of torch and of Python itself, the globals, the class attributes and the variables of closures that it
names.  Where a read cannot be told from others (a class that cannot be watched, an access to `__dict__`) all is taken.

What this module does not do: it follows no globals of installed packages in which no class of the model is defined; and
what code reads off other objects than those that hang on the model or are globals, it does not see.
"""

from __future__ import annotations

import contextlib
import dis
import enum
import inspect
import os
import sys
import types
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from gaugec.model.context import as_trained
from gaugec.model.source_files import home
from gaugec.runtime.assumed import ENVIRONMENT
from gaugec.runtime.holders import (
    MADE,
    NAMES,
    TABLES,
    Holder,
    absent,
    attributes,
    holders,
    is_setting,
    lookup,
    parts,
    registered,
)
from gaugec.runtime.told import MISSING, told, variable

ALL = "what the forward reads: it does not run here by itself, and all settings that there are were taken"

_OWN = frozenset(vars(nn.Module())) - {"training"}  # what every module has of its own
_HOOKS = {name for name in _OWN if isinstance(vars(nn.Module())[name], dict)} - set(TABLES)
_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size)
_CONTAINERS = (dict, list, tuple, set, frozenset, deque)
_MAPPINGS = ("os", "collections.abc", "_collections_abc")  # `get` and `in` end in `__getitem__`
_DEEP = 3  # attributes of attributes of a global


@dataclass(frozen=True)
class Settings:
    """What a forward reads beside its tensors, as it was before it ran.

    read: (path of a module, attribute, value).  parts: see `gaugec.runtime.holders.parts`.  common: attributes of which
    all modules that have them have one value.  globals: (module of Python, name, value).  unknown: what cannot be
    looked up again.  evaluated: was the model in eval mode as a whole?
    """

    read: tuple[tuple[str, str, str], ...] = ()
    common: Mapping[str, str] = field(default_factory=dict)
    globals: tuple[tuple[str, str, str], ...] = ()
    unknown: tuple[str, ...] = ()
    evaluated: bool = False
    parts: tuple[str, ...] = ()


class Reads:
    """Watches a forward: `with reads: model(...)`, then `heard` what code ran; what it read is asked for afterwards.

    names: what was read off each thing, by its id.  codes: the code that ran, with its globals.  closures: functions
    with variables of their own that ran.  written: what the forward has changed itself: state, and no setting.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model, self.evaluated, self.complete = model, not model.training, False
        with as_trained(model):
            self.holders = list(holders(model))
            self.before = {key: told(value) for key, value in self._values()}
        self.parts = dict.fromkeys(parts(model))
        self.classes = {type(module).__module__ for module in model.modules()}
        self.names: dict[int, set[str]] = {}
        self.codes: dict[types.CodeType, dict[str, Any]] = {}
        self.environment: set[str] = set()
        self.closures: Sequence[types.FunctionType] = ()
        self.unwatched: set[int] = set()
        self.written: set[tuple[int, str]] = set()

    def _values(self) -> Iterator[tuple[tuple[int, str], Any]]:
        things = {id(holder.thing): holder.thing for holder in self.holders}
        for key, thing in things.items():
            for name in (*(attributes(thing) | (_HOOKS if _is_module(thing) else set())), NAMES):
                if name not in _OWN or name in _HOOKS or not _is_module(thing):
                    yield (key, name), lookup(thing, name)

    def __enter__(self) -> None:
        self.complete = False
        self.undo = contextlib.ExitStack()
        for kind in dict.fromkeys(type(holder.thing) for holder in self.holders):
            if kind is not types.FunctionType:
                self.undo.enter_context(self._watched(kind))
        self.undo.enter_context(self._environment())

    def __exit__(self, kind: object, *_: object) -> None:
        self.undo.close()
        self.complete = kind is None
        self.parts |= {part + MADE: None for part in parts(self.model) if not {part, part + MADE} & self.parts.keys()}
        self.written |= {key for key, value in self._values() if told(value) != self.before.get(key)}

    @contextlib.contextmanager
    def _watched(self, kind: Any) -> Iterator[None]:
        """Remembers what is read off the instances of a class."""
        there, own, read = kind.__getattribute__, vars(kind).get("__getattribute__"), self.names

        def watched(thing: Any, name: str) -> Any:
            # every access to a parameter looks into `__dict__` in torch
            if name != "__dict__" or home(sys._getframe(1).f_code.co_filename) != "torch":
                read.setdefault(id(thing), set()).add(name)
            return there(thing, name)

        try:
            setattr(kind, "__getattribute__", watched)  # noqa: B010
        except TypeError:  # a class that is not written in Python
            self.unwatched |= {id(holder.thing) for holder in self.holders if type(holder.thing) is kind}
            yield
            return
        try:
            yield
        finally:
            if own is None:
                delattr(kind, "__getattribute__")
            else:
                setattr(kind, "__getattribute__", own)  # noqa: B010

    @contextlib.contextmanager
    def _environment(self) -> Iterator[None]:
        """Remembers the variables of the environment that code looks up which is followed."""
        kind: Any = type(os.environ)
        there, read = kind.__getitem__, self.environment

        def watched(environment: Any, name: str) -> Any:
            frame: types.FrameType | None = sys._getframe(1)
            while frame is not None and frame.f_globals.get("__name__") in _MAPPINGS:
                frame = frame.f_back
            if frame is not None and self._followed(frame.f_code.co_filename, frame.f_globals):
                read.add(name)
            return there(environment, name)

        kind.__getitem__ = watched
        try:
            yield
        finally:
            kind.__getitem__ = there

    def heard(self, codes: Mapping[types.CodeType, dict[str, Any]], closures: Sequence[types.FunctionType]) -> None:
        """The code that ran, with its globals, and of the functions that have variables of their own those that did."""
        self.codes, self.closures = dict(codes), closures

    def _followed(self, file: str, namespace: Mapping[str, Any]) -> bool:
        """Are the globals of this code followed: is it neither torch's, nor Python's, nor a stranger's package's?"""
        whose = home(file)
        return whose == "user" or (whose == "package" and str(namespace.get("__name__")) in self.classes)

    # --- what was read

    def found(self) -> Settings:
        """What was read; all that there is, where no forward came to its end."""
        # the code of a module runs where a forward imports it for the first time: it reads nothing
        functions = {code: space for code, space in self.codes.items() if code.co_flags & inspect.CO_OPTIMIZED}
        ran = {code: space for code, space in functions.items() if self._followed(code.co_filename, space)}
        loaded = {code: _loaded(code) for code in ran}
        named, apart = self._globals(ran, loaded)
        rows = self._attributes(set().union(*(names for _, names in loaded.values())), apart)
        unknown = self._unknown() if self.complete else [ALL]
        common = self._common_values({attribute for _, attribute, _ in rows})
        return Settings(tuple(rows), common, tuple(named), tuple(unknown), self.evaluated, tuple(self.parts))

    def _attributes(self, looked_up: set[str], apart: Mapping[int, set[str]]) -> list[tuple[str, str, str]]:
        """Rows of what was read off the holders.

        looked_up: all names that the code which ran looks up on anything.  apart: of functions, the globals that were
        read in a namespace that has no module.
        """
        rows = []
        hooks, shared = self._common()
        taken: set[int] = set()  # things of which all is taken
        for holder in self.holders:
            thing, own = holder.thing, attributes(holder.thing)
            names = set(self.names.get(id(thing), ()))
            if _is_function(thing):
                variables = {*own, *apart.get(id(thing), ())} if thing.__code__ in self.codes else set()
                names = {name for name in variables if not callable(lookup(thing, name))}
            elif self._whole(holder, names, taken):
                taken.add(id(thing))
                names |= own
                if self.complete and (id(thing), NAMES) not in self.written:
                    rows.append((holder.path, holder.named(NAMES), self.before[id(thing), NAMES]))
            if _is_module(thing):
                names |= {"training", *hooks} | (self._class_settings(type(thing)) & looked_up)
                names |= {name for name in own if (name, id(lookup(thing, name))) in shared}
            for name in sorted(names):
                value = lookup(thing, name)
                if (id(thing), name) in self.written or _of_package(thing, name, value):
                    continue
                if _recorded(thing, name, value):
                    text = self.before.get((id(thing), name)) or told(value)
                    rows.append((holder.path, holder.named(name), text))
        return rows

    def _common(self) -> tuple[set[str], set[tuple[str, int]]]:
        """What is taken of every module once it was read of one: its hooks, and a thing that they have in common."""
        hooks: set[str] = set()
        shared: set[tuple[str, int]] = set()
        things = {id(holder.thing) for holder in self.holders if not _is_module(holder.thing)}
        for holder in self.holders:
            if _is_module(holder.thing):
                read = self.names.get(id(holder.thing), set())
                hooks |= read & _OWN
                shared |= {(name, key) for name in read if (key := id(lookup(holder.thing, name))) in things}
        return hooks, shared

    def _whole(self, holder: Holder, names: set[str], taken: set[int]) -> bool:
        """Can it not be told which attributes of a thing were read?"""
        if not self.complete or "__dict__" in names:
            return True
        above = holder.attribute in self.names.get(id(holder.parent), ()) or id(holder.parent) in taken
        return id(holder.thing) in self.unwatched and above

    def _common_values(self, names: set[str]) -> dict[str, str]:
        """Of the attributes, those that are the same of all modules that have them, with their values."""
        by_chain: dict[str, list[Any]] = {}
        for holder in self.holders:
            by_chain.setdefault(holder.chain, []).append(holder.thing)
        common = {}
        for attribute in names:
            chain, _, name = attribute.rpartition(".")
            there = [(id(thing), lookup(thing, name)) for thing in by_chain.get(chain, ())]
            found = [(key, value) for key, value in there if value is not MISSING]
            texts = {self.before.get((key, name)) or told(value) for key, value in found} or {told(MISSING)}
            if len(texts) == 1 and not any((key, name) in self.written for key, _ in found):
                common[attribute] = texts.pop()
        return common

    def _globals(
        self, ran: Mapping[types.CodeType, dict[str, Any]], loaded: Mapping[types.CodeType, tuple[set[str], set[str]]]
    ) -> tuple[list[tuple[str, str, str]], dict[int, set[str]]]:
        """Globals by the names of their modules; and those of namespaces without one, by a function that has them."""
        rows: dict[tuple[str, str], str] = {}
        apart: dict[int, set[str]] = {}
        functions = {id(h.thing.__globals__): id(h.thing) for h in reversed(self.holders) if _is_function(h.thing)}
        for code, space in ran.items():
            names, looked_up = loaded[code]
            if not registered(space):
                if id(space) in functions:
                    apart.setdefault(functions[id(space)], set()).update(n for n in names if _plain(space.get(n)))
                continue
            for name in sorted(names):
                thing = space.get(name, sys.modules.get(name, MISSING))
                for module, chain, value in self._named(str(space["__name__"]), name, thing, looked_up):
                    rows[module, chain] = told(value)
        for name in self.environment:
            rows[ENVIRONMENT, name] = told(variable(os.environ.get(name)))
        return [(module, chain, text) for (module, chain), text in sorted(rows.items())], apart

    def _named(
        self, module: str, chain: str, value: Any, looked_up: set[str], depth: int = 0
    ) -> Iterator[tuple[str, str, Any]]:
        """The settings that a global is, or has under names that the code looks up."""
        if _plain(value):
            yield module, chain, value
        elif depth > _DEEP:
            return
        elif isinstance(value, types.ModuleType):
            if self._followed(getattr(value, "__file__", None) or "", vars(value)) and registered(vars(value)):
                for name in sorted(looked_up & set(vars(value))):
                    yield from self._named(value.__name__, name, vars(value)[name], looked_up, depth + 1)
        elif isinstance(value, types.FunctionType):
            for name in value.__code__.co_freevars if value.__code__ in self.codes else ():
                yield from self._named(module, f"{chain}.{name}", lookup(value, name), looked_up, depth + 1)
            if value.__name__ != chain.rpartition(".")[2] and not value.__closure__:
                yield module, chain, value
        elif not isinstance(value, nn.Module | torch.Tensor):
            names = self._class_settings(value) if isinstance(value, type) else attributes(value)
            for name in sorted(looked_up & names):
                yield from self._named(module, f"{chain}.{name}", lookup(value, name), looked_up, depth + 1)

    def _class_settings(self, kind: type) -> set[str]:
        """The names of plain values that a class and its bases hold, as far as their code is followed."""
        found: set[str] = set()
        for each in kind.__mro__:
            file = getattr(sys.modules.get(each.__module__), "__file__", None) or ""
            if each.__module__ != "builtins" and self._followed(file, {"__name__": each.__module__}):
                found |= {name for name, value in vars(each).items() if _plain(value) and not name.startswith("__")}
        return found

    def _unknown(self) -> list[str]:
        """Variables of closures that ran and are reached neither from the model nor by a global."""
        reached = {id(holder.thing) for holder in self.holders}
        reached |= {id(space.get(name)) for code, space in self.codes.items() for name in code.co_names}
        found = []
        for function in self.closures:
            code = function.__code__
            if id(function) not in reached and self._followed(code.co_filename, function.__globals__):
                values = {name: lookup(function, name) for name in code.co_freevars}
                texts = [f"{name} {told(value)}" for name, value in values.items() if _plain(value)]
                found += [f"{', '.join(texts)} in {code.co_qualname}"] if texts else []
        return sorted(dict.fromkeys(found))


def _loaded(code: types.CodeType) -> tuple[set[str], set[str]]:
    """The globals and modules that code names, and the attributes that it looks up on anything."""
    names, looked_up = set(), set()
    for step in dis.get_instructions(code):
        if step.opname in ("LOAD_GLOBAL", "IMPORT_NAME"):
            names.add(str(step.argval))
        elif step.opname in ("LOAD_ATTR", "LOAD_METHOD", "IMPORT_FROM", "LOAD_SUPER_ATTR"):
            looked_up.add(str(step.argval))
    return names, looked_up


def _recorded(thing: Any, name: str, value: Any) -> bool:
    """Is an attribute that was read a setting?  Of what every module has, only the hooks are.

    So is one that was asked for and is not there: it may come.
    """
    if not name.isidentifier() or (name.startswith("__") and name.endswith("__")):
        return False
    if _is_module(thing) and name in _OWN and name not in _HOOKS:
        return False
    return is_setting(value) or (value is MISSING and not _is_function(thing) and absent(thing, name))


def _of_package(thing: Any, name: str, value: Any) -> bool:
    """Is it a method that an installed package defines for a class?  Of these only `forward` is taken."""
    own = name != "forward" and _is_function(value) and name not in attributes(thing)
    return own and home(value.__code__.co_filename) != "user"


def _plain(value: Any) -> bool:
    """Is a global a value by itself, and nothing with attributes of its own?"""
    return type(value) in (*_PLAIN, *_CONTAINERS) or isinstance(value, enum.Enum)


def _is_module(value: Any) -> bool:
    return issubclass(type(value), nn.Module)


def _is_function(value: Any) -> bool:
    return type(value) is types.FunctionType
