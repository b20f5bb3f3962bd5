"""The guest of a compilation: a model with example inputs, and the factory that a command line names it by.

What this module does not do: it runs no model (see `gaugec.model.run`).
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch

from gaugec.errors import GaugeError, first_line

Model = torch.nn.Module
TORCH = str(torch.__version__)
"""The release of torch that exports and runs it."""

_WANT = "a factory returns (model, args), (model, args, kwargs) or (model, batch)"


class Workload(NamedTuple):
    """What a factory gave: the module and the example inputs that it is traced with."""

    model: Model
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class FactoryError(GaugeError):
    """What names no factory, or a factory that gives no model."""


def made_by(name: str) -> Workload:
    """Calls package.module:factory, or file.py:factory, and checks what it returns.

    The current folder is importable, as it is for `python -m`; for a file its own folder is too.

    Raises:
        FactoryError: the name is none, the factory fails, whatever it raises, or returns something else.
    """
    module_name, _, attribute = name.rpartition(":")
    if not (module_name and attribute):
        raise FactoryError(f"MODEL {name!r} should read package.module:factory or file.py:factory.")
    is_file = module_name.endswith(".py")
    sys.path.insert(0, str(Path(module_name).resolve().parent) if is_file else "")
    try:
        factory: Any = _of_file(Path(module_name)) if is_file else importlib.import_module(module_name)
        for part in attribute.split("."):
            factory = getattr(factory, part)
        made = factory()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit, and whatever a stranger's factory raises
        where = traceback.extract_tb(error.__traceback__)[1:]  # the first frame is this one
        own = [frame for frame in where if not frame.filename.startswith("<")]
        at = f" ({Path(own[-1].filename).name}:{own[-1].lineno}: {own[-1].line})" if own else ""
        raise FactoryError(f"{name} raised {type(error).__name__}: {first_line(error)}{at}") from error
    if not isinstance(made, tuple) or len(made) not in (2, 3):
        raise FactoryError(f"{name} returned a {type(made).__name__}; {_WANT}.")
    model, args, kwargs = (*made, {})[:3]
    if not isinstance(model, Model):
        raise FactoryError(f"{name} returned a {type(model).__name__} where the model should be; {_WANT}.")
    if isinstance(args, Mapping) and not kwargs:  # a tokenizer's batch: inputs by name
        args, kwargs = (), dict(args)
    if not isinstance(args, tuple | list) or not isinstance(kwargs, Mapping):
        raise FactoryError(f"{name}: args should be a tuple and kwargs a dict; {_WANT}.")
    return Workload(model, tuple(args), dict(kwargs))


def _of_file(path: Path) -> ModuleType:
    """The module that a file is, called by its stem where no other module is."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)  # what pickles or inspects a class of it looks there
    spec.loader.exec_module(module)
    return module
