"""A value in words: the same in every process, so that what it was can be held against what it is.

Of a tensor or a module only that it is one.  Telling runs no forward and evaluates nothing.

Not here: where values are found (see `gaugec.runtime.holders`).
"""

from __future__ import annotations

import enum
import functools
import hashlib
import types
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn


class Missing:
    """What is not there: `MISSING` is the only one."""


MISSING = Missing()
DEPTH = 4  # of objects and containers inside each other
ENTRIES = 64  # of a container that are told one by one; of more, a hash
FLAG = 5  # characters of a variable of the environment that is told as it is
LENGTH = 300  # characters of a value; of more, a hash
PLAIN = (bool, int, float, complex, str, bytes, type(None))

_WORDS = (torch.dtype, torch.device, torch.layout, torch.memory_format, range, slice, type(...))
_CONTAINERS = (Mapping, list, tuple, deque, set, frozenset)
_CALLABLES = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.MethodDescriptorType)


def told(value: Any, depth: int = 0) -> str:
    """A value in words: the same in every process, and without anything of its memory."""
    kind = type(value)  # not isinstance: see `holders.lookup`
    if kind in PLAIN:
        return _short(repr(value))
    if value is MISSING:
        return "not there"
    if issubclass(kind, enum.Enum):
        return f"{called(kind)}.{value.name}"
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
    if issubclass(kind, PLAIN):  # of a class of its own
        return _short(f"{called(kind)} {_bare(value)!r}")
    if issubclass(kind, (type, *_CALLABLES)):
        return called(value)
    if kind.__module__ == "numpy" and value.ndim == 0:
        return f"{value.dtype} {value.item()!r}"
    return f"a {called(kind)}"


def _bare(value: Any) -> Any:
    base: Any = next(kind for kind in PLAIN if isinstance(value, kind))
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


def called(value: Any) -> str:
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


def facts(x: Tensor, free: Mapping[int, int] | None = None) -> tuple[str, tuple[int, ...], str]:
    """dtype, sizes and a note on what is out of the ordinary in a tensor.

    free: the axes that may have any size -> 0, or the number of those that have one: told as minus that.
    """
    notes = [] if type(x) is Tensor else [f"a {called(type(x))}"]
    notes += ["needs a gradient"] if x.requires_grad else []
    if x.layout is not torch.strided:
        notes.append(str(x.layout))
    elif not x.is_contiguous():
        strides = x.stride()
        order = sorted(range(x.ndim), key=lambda axis: (-strides[axis], axis))
        notes.append(f"axes in memory {', '.join(map(str, order))}")
    sizes = tuple(-free[axis] if free and axis in free else int(n) for axis, n in enumerate(x.shape))
    return str(x.dtype).removeprefix("torch."), sizes, ", ".join(notes)


def variable(value: str | None) -> Any:
    """A variable of the environment, which may be a secret: what is longer than a flag is told by its hash."""
    if value is None or len(value) <= FLAG:
        return MISSING if value is None else value
    return f"sha256 {hashlib.sha256(value.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


def alike(was: str, now: str) -> bool:
    """Is a value what it was?  What is defined by a script that is run has no package in its name."""
    if was == now:
        return True
    if was.startswith("a ") and now.startswith("a "):
        was, now = was[2:], now[2:]
    one, two = (text.partition(":") for text in (was, now))
    short, long = (one, two) if two[1] else (two, one)
    return not short[1] and short[0] == long[2] and long[0].isidentifier() and long[0] != "torch"
