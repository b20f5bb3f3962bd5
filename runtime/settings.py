"""The settings of a model and of its inputs: read as texts, and held against the record of a compile.

A setting is a plain value that stands beside the parameters: an attribute of a module or of a plain object that hangs
on one, a variable of a function's closure, a global, a class attribute.  Values are told as texts; of a tensor or a
module only that it is one.  Looking them up imports nothing, runs no forward and, but for a class that has an attribute
access of its own, no code of the model.

Not here: which settings a forward reads (see `gaugec.tracing.reads`), and the form of the record (see `assumed`).
"""

from __future__ import annotations

import enum
import functools
import hashlib
import inspect
import itertools
import os
import sys
import types
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gaugec.runtime.assumed import EVERY
from gaugec.runtime.names import plain
from gaugec.runtime.ranges import fold


class _Missing:
    """What is not there."""


MISSING = _Missing()
DEPTH = 4  # of objects and containers inside each other
ENTRIES = 64  # of a container that are told one by one; of more, a hash
FLAG = 5  # characters of a variable of the environment that is told as it is
ENVIRONMENT = "os.environ"
HOLDERS = 50_000  # objects of one model
LENGTH = 300  # characters of a value; of more, a hash

_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_WORDS = (torch.dtype, torch.device, torch.layout, torch.memory_format, range, slice, type(...))
_CONTAINERS = (Mapping, list, tuple, deque, set, frozenset)
_CALLABLES = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.MethodDescriptorType)
TABLES = ("_parameters", "_buffers", "_modules")


# --- values as texts -----------------------------------------------------------------------------------------------
def told(value: Any, depth: int = 0) -> str:
    """A value in words: the same in every process, and without anything of its memory."""
    kind = type(value)  # not isinstance: see `lookup`
    if kind in _PLAIN:
        return _short(repr(value))
    if value is MISSING:
        return "not there"
    if issubclass(kind, enum.Enum):
        return f"{_called(kind)}.{value.name}"
    if issubclass(kind, _WORDS):
        return str(value)
    if issubclass(kind, Tensor):
        return "a tensor"
    if issubclass(kind, nn.Module):
        return "a module"
    if issubclass(kind, functools.partial):
        return _short(f"partial({', '.join([told(value.func, depth + 1), *_arguments(value, depth)])})")
    if issubclass(kind, _CONTAINERS) and depth < DEPTH:
        return _short(_container(value, depth))
    if issubclass(kind, _PLAIN):  # of a class of its own
        return _short(f"{_called(kind)} {_bare(value)!r}")
    if issubclass(kind, (type, *_CALLABLES)):
        return _called(value)
    if kind.__module__ == "numpy" and value.ndim == 0:
        return f"{value.dtype} {value.item()!r}"
    return f"a {_called(kind)}"


def _bare(value: Any) -> Any:
    base: Any = next(kind for kind in _PLAIN if isinstance(value, kind))
    return base(value)


def _arguments(value: functools.partial[Any], depth: int) -> Iterator[str]:
    yield from (told(x, depth + 1) for x in value.args)
    yield from (f"{name}={told(x, depth + 1)}" for name, x in value.keywords.items())


def _container(value: Any, depth: int) -> str:
    if isinstance(value, Mapping):
        # hooks: their keys are numbers that count all hooks of the process
        numbered = value and all(type(key) is int and callable(x) for key, x in value.items())
        pairs = ((told(key, depth + 1), told(x, depth + 1)) for key, x in value.items())
        entries: Iterable[str] = (x if numbered else f"{key}: {x}" for key, x in pairs)
        left, right = ("[", "]") if numbered else ("{", "}")
    else:
        entries = (told(x, depth + 1) for x in value)
        left, right = ("(", ",)" if len(value) == 1 else ")") if isinstance(value, tuple) else ("[", "]")
        if isinstance(value, set | frozenset):
            entries, left, right = sorted(entries), "{" if value else "set(", "}" if value else ")"
    if len(value) > ENTRIES:
        digest = hashlib.sha256("\n".join(entries).encode("utf-8", "surrogatepass")).hexdigest()[:16]
        return f"{type(value).__name__} of {len(value)}, sha256 {digest}"
    return left + ", ".join(entries) + right


def _called(value: Any) -> str:
    """package:name of a function or a class; of what a script defines that is run, the name alone."""
    name = str(getattr(value, "__qualname__", None) or getattr(value, "__name__", "?"))
    if "<lambda>" in name and isinstance(value, types.FunctionType):
        code = value.__code__
        parts = [*code.co_names, *(repr(x) for x in code.co_consts if type(x) is float)]
        name += f" of {', '.join(parts)}" if parts else ""
    package = str(getattr(value, "__module__", None) or "builtins").partition(".")[0]
    return name if package in ("builtins", "__main__") else f"{package}:{name}"


def _short(text: str) -> str:
    if len(text) <= LENGTH:
        return text
    return f"{text[:80]}…, sha256 {hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


# --- what may hold settings ----------------------------------------------------------------------------------------
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
            pairs = ((name, lookup(thing, name)) for name in _in_order(thing) if name not in TABLES)
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
            if attributes(value):
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
    if issubclass(kind, (*_PLAIN, _Missing, Tensor, nn.Module, types.ModuleType, type, enum.Enum)):
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


def attributes(thing: Any) -> set[str]:
    """The names of what a holder has of its own; of a function, the variables of its closure."""
    return set(_in_order(thing))


def _in_order(thing: Any) -> Sequence[str]:
    if type(thing) is types.FunctionType:
        return thing.__code__.co_freevars
    kind = type(thing)
    slots = [n for each in kind.__mro__ for n, d in vars(each).items() if _slot(d)] if _slotted(kind) else []
    return [*slots, *(_dict(thing) or ())]


def _slotted(kind: type) -> bool:
    return any("__slots__" in vars(each) for each in kind.__mro__)


def _dict(value: Any) -> dict[str, Any] | None:
    try:
        found = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return None
    return found if isinstance(found, dict) else None


def _slot(value: Any) -> bool:
    return isinstance(value, types.MemberDescriptorType)


def registered(namespace: Mapping[str, Any]) -> bool:
    """Are these the globals of a module that can be found by its name?"""
    module = sys.modules.get(str(namespace.get("__name__")))
    return module is not None and vars(module) is namespace


def lookup(thing: Any, name: str) -> Any:
    """An attribute as it is written down, `MISSING` where nothing is; of a function, a variable that its code reads."""
    kind = type(thing)  # not isinstance: it asks a thing for its class, which may run code of its own
    if kind is types.FunctionType:
        return _variable(thing, name)
    if issubclass(kind, types.ModuleType):
        return vars(thing).get(name, MISSING)
    of_class = issubclass(kind, type)
    own = None if of_class else _dict(thing)
    if own is not None and name in own:
        return own[name]
    for each in (thing if of_class else kind).__mro__:
        if name in vars(each):
            value = vars(each)[name]
            if each is nn.Module:
                return MISSING
            if _slot(value) and not of_class:
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


def is_setting(value: Any) -> bool:
    """Is a value one that stands beside the parameters: no tensor, no module, and there at all?"""
    return value is not MISSING and not issubclass(type(value), (Tensor, nn.Module, types.ModuleType))


# --- inputs --------------------------------------------------------------------------------------------------------
def inputs(
    model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors among a model's inputs by name, and all else in words; what is what it would be by default is left
    out."""
    tensors: dict[str, Tensor] = {}
    values: dict[str, str] = {}

    def within(name: str, value: Any, depth: int) -> None:
        if isinstance(value, Tensor):
            tensors[name] = value
            first = next(other for other, x in tensors.items() if x is value)
            if first != name:
                values[f"{name} itself"] = f"the same as {first}"
        elif isinstance(value, Mapping) and value and depth < DEPTH:
            for key, item in value.items():
                within(f"{name}[{key!r}]" if name else str(key), item, depth + 1)
        elif isinstance(value, list | tuple) and value and depth < DEPTH:
            for number, item in enumerate(value):
                within(f"{name}[{number}]", item, depth + 1)
        else:
            values[name] = told(value)
            if _sort(type(value)) == "object" and depth < DEPTH:
                for attribute in _in_order(value):
                    within(f"{name}.{attribute}", lookup(value, attribute), depth + 1)

    for name, value in _by_name(model, args, kwargs).items():
        within(name, value, 0)
    return tensors, values


def _by_name(model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    try:
        bound = inspect.signature(model.forward).bind(*args, **kwargs)
    except (TypeError, ValueError):
        return {**{f"input {number}": x for number, x in enumerate(args)}, **kwargs}
    found: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        parameter = bound.signature.parameters[name]
        if parameter.kind is parameter.VAR_KEYWORD:
            found.update(value)
        elif parameter.kind is parameter.VAR_POSITIONAL:
            found.update({f"{name}[{number}]": x for number, x in enumerate(value)})
        elif isinstance(value, Tensor) or told(value) != told(parameter.default):
            found[name] = value
    return found


def facts(x: Tensor, free: Iterable[int] = ()) -> tuple[str, tuple[int, ...], str]:
    """dtype, sizes (0 for the axes that are free) and a note on what is out of the ordinary in a tensor."""
    notes = [] if type(x) is Tensor else [f"a {_called(type(x))}"]
    notes += ["needs a gradient"] if x.requires_grad else []
    if x.layout is not torch.strided:
        notes.append(str(x.layout))
    elif not x.is_contiguous():
        strides = x.stride()
        order = sorted(range(x.ndim), key=lambda axis: (-strides[axis], axis))
        notes.append(f"axes in memory {', '.join(map(str, order))}")
    sizes = tuple(0 if axis in set(free) else int(n) for axis, n in enumerate(x.shape))
    return str(x.dtype).removeprefix("torch."), sizes, ", ".join(notes)


# --- what differs --------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Holds:
    """Whether what a compile assumed still holds: true where nothing differs.

    differences: what differs, a sentence each; to go through it is to go through them.
    """

    differences: tuple[str, ...]

    def __bool__(self) -> bool:
        return not self.differences

    def __iter__(self) -> Iterator[str]:
        return iter(self.differences)

    def __str__(self) -> str:
        return "\n".join(self.differences) or "all that was assumed holds"


def differences(
    whole: Mapping[str, Any],
    model: nn.Module,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    evaluated: bool = False,
) -> list[str]:
    """What is otherwise than a certificate (unfolded) says that it was, a sentence each; none where all holds.

    args, kwargs: None where only the model is looked at.  evaluated: a model that is in eval mode as a whole is taken
    as one that will be put into train mode, and its modes are not compared.

    Raises TypeError for what is no module.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"the model is a {type(model).__name__}, not a torch.nn.Module")
    record = whole["assumed"]
    rows = list(record["settings"])
    model = _meant(model, rows)
    modes = [row for row in rows if row[1] == "training"]
    found = _parameters(whole, model)
    if not model.training and (EVERY, "training", "False") not in modes and ("", "training", "False") not in modes:
        found += [] if evaluated else ["the model is in eval mode, and was compiled as model.train() makes it"]
        rows = [row for row in rows if row[1] != "training"]
    found += _settings(rows, model)
    found += _globals(record, model)
    found += _frozen(record, model)
    if args is not None or kwargs is not None:
        found += _inputs(record, model, args or (), kwargs or {})
    return found


def _meant(model: nn.Module, rows: Iterable[tuple[str, str, str]]) -> nn.Module:
    """The model that was compiled: itself, or what the wrappers around it hold."""
    forward = next((value for owner, name, value in rows if (owner, name) == ("", "forward")), None)
    each: nn.Module | None = model
    while each is not None:
        if alike(told(lookup(each, "forward")), forward or ""):
            return each
        children = dict(each.named_children())
        (child,) = children.items() if len(children) == 1 else [("", None)]
        each = child[1] if child[0] in ("module", "_orig_mod") else None
    return model


def alike(was: str, now: str) -> bool:
    """Is a value what it was?  What is defined by a script that is run has no package in its name."""
    if was == now:
        return True
    if was.startswith("a ") and now.startswith("a "):
        was, now = was[2:], now[2:]
    one, two = (text.partition(":") for text in (was, now))
    short, long = (one, two) if two[1] else (two, one)
    return not short[1] and short[0] == long[2] and long[0].isidentifier() and long[0] != "torch"


def _parameters(whole: Mapping[str, Any], model: nn.Module) -> list[str]:
    now = {plain(name): p for name, p in model.named_parameters(remove_duplicate=False)}
    then = {plain(name): shape for name, shape in whole["parameters"].items()}
    tied = {plain(name): plain(other) for name, other in whole["tied"].items()}
    found = [f"the model has no parameter {name}" for name in (*then, *tied) if name not in now]
    found += [f"the model has a parameter {name}, which it had not" for name in now if name not in {**then, **tied}]
    for name, shape in then.items():
        if name in now and tuple(now[name].shape) != tuple(shape):
            found.append(f"{name} had the shape {tuple(shape)}, has {tuple(now[name].shape)}")
    for name, other in tied.items():
        if name in now and other in now and now[name] is not now[other]:
            found.append(f"{name} was tied to {other}, is not")
    first: dict[int, str] = {}
    for name, p in now.items():
        other = first.setdefault(id(p), name)
        if other != name and name in then and other in then:
            found.append(f"{name} was not tied to {other}, is")
    return found


def _settings(rows: Iterable[tuple[str, str, str]], model: nn.Module) -> list[str]:
    """Settings that differ, alike ones together: `layers.{0..2}.p was 0.1, is 0.2`."""
    by_chain: dict[str, dict[str, Any]] = {}
    for holder in holders(model):
        by_chain.setdefault(holder.chain, {}).setdefault(holder.path, holder.thing)
    asked: dict[tuple[int, str], str] = {}  # what several modules share is asked, and told, once
    changed: dict[tuple[str, str], list[str]] = {}
    of_class: dict[tuple[type, str], Any] = {}

    def find(thing: Any, name: str) -> Any:
        """As `lookup`; what a class says of an attribute of its modules is asked once."""
        kind = type(thing)
        if thing is MISSING or not issubclass(kind, nn.Module):
            return MISSING if thing is MISSING else lookup(thing, name)
        own = vars(thing)
        if name in own:
            return own[name]
        if (kind, name) not in of_class:
            of_class[kind, name] = lookup(thing, name)
        return of_class[kind, name]

    for owner, attribute, was in rows:
        chain, _, name = attribute.rpartition(".")
        things = by_chain.get(chain, {})
        at = [owner]
        if owner == EVERY:
            at = [path for path, thing in things.items() if find(thing, name) is not MISSING] or [""]
        for path in at:
            thing = things.get(path, MISSING)
            new = (id(thing), name) not in asked or thing is MISSING
            if new:
                asked[id(thing), name] = told(find(thing, name))
            now = asked[id(thing), name]
            if new and not alike(was, now):
                changed.setdefault((was, now), []).append(f"{path}.{attribute}".lstrip("."))
    return [f"{name} was {was}, is {now}" for (was, now), names in changed.items() for name in fold(names)]


def _globals(record: Mapping[str, Any], model: nn.Module) -> list[str]:
    found = []
    for module, chain, was in record["globals"]:
        now = told(_global(module, chain, model))
        if not alike(was, now):
            found.append(f"{chain} of {module} was {was}, is {now}")
    return found


def variable(value: str | None) -> Any:
    """A variable of the environment, which may be a secret: what is longer than a flag is told by its hash."""
    if value is None or len(value) <= FLAG:
        return MISSING if value is None else value
    return f"sha256 {hashlib.sha256(value.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


def _global(module: str, chain: str, model: nn.Module) -> Any:
    """A global of a module by its name; where that is a script that is run, now or then, of those of the classes."""
    if module == ENVIRONMENT:
        return variable(os.environ.get(chain))
    names = dict.fromkeys([module, *(type(each).__module__ for each in model.modules())])
    for name in names if "__main__" in names else [module]:
        value = resolved(vars(sys.modules[name]), chain) if name in sys.modules else MISSING
        if value is not MISSING:
            return value
    return MISSING


def _frozen(record: Mapping[str, Any], model: nn.Module) -> list[str]:
    then = set(map(plain, record["frozen"]))
    changed = [p for p in model.named_parameters() if p[1].requires_grad == (plain(p[0]) in then)]
    found = []
    for now, words in ((True, "was frozen, is trained"), (False, "was trained, is frozen")):
        found += [f"{name} {words}" for name in fold(plain(name) for name, p in changed if p.requires_grad == now)]
    return found


def _inputs(record: Mapping[str, Any], model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[str]:
    tensors, values = inputs(model, args, kwargs)
    then = {**{name: "a tensor" for name, *_ in record["tensors"]}, **dict(record["values"])}
    now = {**dict.fromkeys(tensors, "a tensor"), **values}
    found = []
    for name in dict.fromkeys((*then, *now)):
        was, is_ = then.get(name, "left out"), now.get(name, "left out")
        if not alike(was, is_):
            found.append(f"{name} was {was}, is {is_}")
    for name, dtype, sizes, note in record["tensors"]:
        if name in tensors:
            found += _otherwise(name, (dtype, sizes, note), tensors[name])
    return found


def _otherwise(name: str, then: tuple[str, tuple[int, ...], str], x: Tensor) -> list[str]:
    (dtype, sizes, note), (kind, shape, remark) = then, facts(x)
    found = [f"{name} was {dtype}, is {kind}"] if dtype != kind else []
    if note != remark:
        found.append(f"{name} was {_noted(note)}, is {_noted(remark)}")
    if len(sizes) != len(shape):
        return [*found, f"{name} had {len(sizes)} axes, has {len(shape)}"]
    for axis, (size, n) in enumerate(zip(sizes, shape)):
        if size not in (0, n):
            found.append(f"axis {axis} of {name} was {size}, is {n}: no other size was looked at")
    return found


def _noted(note: str) -> str:
    """A tensor with what is out of the ordinary in it."""
    return f"a tensor ({note})" if note else "an ordinary tensor"
