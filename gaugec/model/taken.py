"""A model and its example inputs as people have them, made plain: wrappers, a tokenizer's batch, a cache that is on.

Whatever is understood or set is told, in words, and stands in the certificate.

What this module does not do: it changes no model, and runs none.
"""

from __future__ import annotations

import inspect
from collections import UserDict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch

from gaugec.model.guest import Model
from gaugec.model.inputs import mapped
from gaugec.runtime.names import unwrapped

CACHE = "use_cache"


class Taken(NamedTuple):
    """What is compiled: the module, its inputs, and how what was given was understood, in words.

    added: names of the inputs that the caller did not give.
    """

    model: Any
    args: Any
    kwargs: Any
    told: tuple[str, ...]
    added: tuple[str, ...] = ()


def taken(model: Any, args: Any, kwargs: Any) -> Taken:
    """What a caller gives, made plain; what is no model or no inputs is left as it is, for others to refuse.

    A wrapper of torch is what it holds.  A mapping in place of positional inputs are inputs by name; a mapping of a
    library (a tokenizer's batch) is a dict.  A model whose config keeps a cache, and whose caller does not say, is
    called without.
    """
    told: list[str] = []
    if isinstance(model, Model):
        inner = unwrapped(model)
        if inner is not model:
            told.append(f"what {type(model).__name__} wraps was compiled")
        model = inner
    if isinstance(args, Mapping) and not kwargs:
        args, kwargs = (), args
    if not isinstance(args, Sequence) or isinstance(args, str) or not isinstance(kwargs, Mapping | None):
        return Taken(model, args, kwargs, tuple(told))
    args, named = tuple(_plain(x) for x in args), {key: _plain(x) for key, x in (kwargs or {}).items()}
    added: tuple[str, ...] = ()
    if isinstance(model, Model) and CACHE not in named and _keeps_a_cache(model):
        named[CACHE], added = False, (CACHE,)
        told.append("called with use_cache=False, as its config has it on and nothing else was said")
    return Taken(model, args, named, tuple(told), added)


def trainable(given: Taken) -> Taken:
    """The same with copies of inputs that were made under inference mode, which no backward takes."""

    def outside(x: Any) -> Any:
        return x.clone() if isinstance(x, torch.Tensor) and x.is_inference() else x

    if not isinstance(given.args, tuple | list) or not isinstance(given.kwargs, Mapping | None):
        return given
    args, kwargs = mapped(outside, tuple(given.args), dict(given.kwargs or {}))
    return given._replace(args=args, kwargs=kwargs)


def _plain(value: Any) -> Any:
    """A mapping that only its library knows, as a dict."""
    return dict(value) if isinstance(value, UserDict) else value


def _keeps_a_cache(model: Model) -> bool:
    """Does a config turn on what returns a cache, and can a call turn it off?"""
    if getattr(getattr(model, "config", None), CACHE, None) is not True:
        return False
    try:
        parameters = inspect.signature(model.forward).parameters
    except (TypeError, ValueError):
        return False
    return CACHE in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


__all__ = ["Taken", "taken", "trainable"]
