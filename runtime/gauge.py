"""A compiled gauge at run time: loaded from its file or its source, with no compiler.

A compiled file is Python and is run when it is loaded: load only what you trust.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.abc
import importlib.util
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from gaugec.runtime import actions, elements, extent, quotient
from gaugec.runtime.certificate import unfolded
from gaugec.runtime.component import Component
from gaugec.runtime.differences import Holds, differences
from gaugec.runtime.groups import Action
from gaugec.runtime.holdings import Source
from gaugec.runtime.names import bare, by_name
from gaugec.runtime.report import Known, report
from gaugec.runtime.roles import Role, played
from gaugec.runtime.seal import VERSION, intact, unified

MEND = "; compile the model again: gaugec compile SPEC MODEL -o FILE.py"


class _Source(importlib.abc.InspectLoader):
    def __init__(self, source: str) -> None:
        self.source = source

    def get_source(self, fullname: str) -> str:
        return self.source


def load(path: str | Path) -> Gauge:
    """Return the gauge that a compiled file holds; the file is run.

    Raises OSError where it cannot be read, ValueError where it is no compiled gauge, was written by another release or
    edited, or lacks a function or a row.
    """
    try:
        with Path(path).open("rb") as stream:
            raw = stream.read(extent.BYTES + 1)
        if len(raw) > extent.BYTES:
            raise ValueError(f"{path} is not a compiled gauge: it is larger than {extent.BYTES:,} bytes")
        source = unified(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a compiled gauge: it is not UTF-8 text (byte {error.start})") from None
    return Gauge(source, str(path))


class Gauge:
    """The components of a compiled gauge, and what a person may ask of them.

    source: the text of the module; metadata: what the compiler wrote down about it; components: see
    `gaugec.runtime.component`.
    """

    def __init__(self, source: str, origin: str = "<compiled gauge>") -> None:
        self.metadata: dict[str, Any] = _certificate(source, origin)
        name = "gaugec_compiled_" + hashlib.sha256(source.encode()).hexdigest()[:16]
        spec = importlib.util.spec_from_loader(name, _Source(source), origin=origin)
        if spec is None or spec.loader is None:
            raise ValueError(f"{origin} cannot be loaded")
        module: ModuleType = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # torch.compile looks the globals of a function up by its module's name
        try:
            spec.loader.exec_module(module)
        except ValueError as error:  # a component that is not whole
            raise ValueError(f"{origin}: {error}{MEND}") from error
        components = getattr(module, "COMPONENTS", None)
        if not isinstance(components, tuple):
            raise ValueError(f"{origin} is not a compiled gauge: it has no COMPONENTS")
        check(components, origin)
        self.source = source
        self.components: tuple[Component, ...] = components

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of all parameters that a gauge moves."""
        return tuple(name for component in self.components for names in component.instances for name in names)

    def __reduce__(self) -> tuple[type[Gauge], tuple[str]]:
        """Copied, and pickled into another process, by the source: what is read there is a gauge that was loaded."""
        return Gauge, (self.source,)

    def save(self, path: str | Path) -> None:
        """Write the source to a file."""
        Path(path).write_text(self.source, encoding="utf-8")

    def places(self) -> Iterator[tuple[str, Any, tuple[str, ...]]]:
        """Every component at every place: a key, the component, its parameter names in the order of its slots."""
        for i, component in enumerate(self.components):
            for j, names in enumerate(component.instances):
                yield f"{i}.{j}", component, names

    def random_element(self, generator: torch.Generator | None = None) -> dict[str, dict[str, Tensor]]:
        """A random element of the whole gauge group in float64: place -> gauge -> [1, copies, size, ...].

        Gauges that run through the whole model have a place of their own, "wide".
        """
        out = {key: component.random_element(1, generator) for key, component, _ in self.places()}
        wide = {
            name: actions.random_element(each.kind, each.copies, each.size, 1, generator)
            for name, each in self.wide.items()
        }
        return {**out, elements.WIDE: wide} if wide else out

    def identity(self) -> dict[str, dict[str, Tensor]]:
        """The element that moves nothing."""
        out = {key: elements.identities(component) for key, component, _ in self.places()}
        wide = {name: elements.identity(each.kind, each.copies, each.size) for name, each in self.wide.items()}
        return {**out, elements.WIDE: wide} if wide else out

    @functools.cached_property
    def wide(self) -> dict[str, Action]:
        """The gauges that run through the whole model, by name; with the rows of one component."""
        return {action.name: action for component in self.components for action in component.wide}

    def act(self, params: Mapping[str, Tensor], element: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Return the parameters moved by an element, by the names that they came with; pure.

        A missing place or gauge of the element stands for the identity.  Raises KeyError for a missing parameter,
        ValueError where two have one name but for the prefixes of wrappers, where a parameter has another shape or is
        not floating point, and for an element of another gauge.
        """
        out = dict(params)
        known = by_name(((name, name) for name in params), self.parameters)
        strangers = sorted(set(element) - {key for key, _, _ in self.places()} - {elements.WIDE})
        if strangers:
            raise ValueError(f"the element has the places {', '.join(strangers)}, which this gauge has not")
        for key, component, names in self.places():
            here = {each.name for each in component.wide}
            wide = {name: x for name, x in element.get(elements.WIDE, {}).items() if name in here}
            if key not in element and not wide:
                continue
            found = [known[bare(name)] for name in names]
            batch = {
                slot: params[name].detach().contiguous().unsqueeze(0) for slot, name in zip(component.shapes, found)
            }
            for slot, name in zip(component.shapes, found):
                _same_shape(name, params[name], component.shapes[slot])
                if not params[name].is_floating_point():
                    dtype = params[name].dtype
                    raise ValueError(f"{name} has the dtype {dtype}: a gauge moves floating point parameters")
            whole = elements.identities(component)
            for name, value in element.get(key, {}).items():
                if name not in whole:
                    raise ValueError(f"the element has {name} at {key}, which moves by {', '.join(whole)}")
                _same_shape(f"the element's {name} at {key}", value, whole[name].shape)
                whole[name] = value
            for name, value in wide.items():
                each = self.wide[name]
                still = elements.identity(each.kind, each.copies, each.size)
                _same_shape(f"the element's {name}", value, still.shape)
                whole[name] = value
            device = next(iter(batch.values())).device
            moved = component.act(batch, {name: value.to(device) for name, value in whole.items()})
            out.update({name: moved[slot].squeeze(0) for slot, name in zip(component.shapes, found)})
        return out

    # --- models and checkpoints up to the gauges: see `gaugec.runtime.quotient`

    def canonicalize_(self, model: nn.Module) -> quotient.Canonicalized:
        """Move a model to the canonical representative of its function, in place; returns what was done and what not.

        Scales go where the `fix` lines say, shifts to mean zero; rotations have no canonical form and are left alone,
        as are units with a norm of zero and gauges of frozen parameters.  Before an optimizer is made, not after.
        """
        return quotient.canonicalize_(self, model)

    def random_copy(self, model: nn.Module, generator: torch.Generator | None = None) -> nn.Module:
        """A deep copy of a model, moved by a random element of every gauge: other parameters, the same function."""
        return quotient.random_copy(self, model, generator)

    def distance(self, a: Source, b: Source) -> quotient.Distance:
        """How far two models or checkpoints (tensors by name) are apart modulo the gauges: 0 of a gauge copy."""
        return quotient.distance(self, a, b)

    def aligned(self, a: Source, b: Source) -> dict[str, Tensor]:
        """The entries of b, moved along its orbit to where it is nearest to a: the same function as b."""
        return quotient.aligned(self, a, b)

    def interpolate(self, a: Source, b: Source, t: float) -> dict[str, Tensor]:
        """The point t of the straight path from a (t = 0) to `aligned(a, b)` (t = 1), as a state dict like a's."""
        return quotient.interpolate(self, a, b, t)

    def holds(self, model: nn.Module, *args: Any, **kwargs: Any) -> Holds:
        """Whether all that the compile assumed of the model, and of its inputs where they are given, is as it was.

        It takes milliseconds: settings are looked up where they were read, and no forward runs.  True where nothing
        differs; `differences` are sentences.  Raises TypeError for what is no module.
        """
        return Holds(tuple(self.differing(model, args, kwargs) if args or kwargs else self.differing(model)))

    def differing(
        self,
        model: nn.Module,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        evaluated: bool = False,
    ) -> list[str]:
        """What differs from what the compile assumed; see `gaugec.runtime.differences`."""
        if "assumed" not in self.metadata:  # written by hand
            return ["this gauge does not say what was assumed of the model"]
        return differences(self._whole, model, args, kwargs, evaluated=evaluated)

    @functools.cached_property
    def roles(self) -> Mapping[str, Role]:
        """What every parameter is in the model (a matrix, a table, a gain...), with the matrices that it holds."""
        return played(self._whole["roles"]) if "roles" in self.metadata else {}  # none in what is written by hand

    @functools.cached_property
    def _whole(self) -> dict[str, Any]:
        return unfolded(self.metadata)

    def known(self) -> Known:
        """What a report may say beside the certificate: of a gauge that was loaded, nothing."""
        return Known()

    def report(self, *, explain: bool = False) -> str:
        """Every gauge with its verdict and conditions, every site, every parameter gauged, or not and why.

        explain: also every site by itself with the ways of its moved values, and the steps of every proof.
        """
        components = [(type(component).__name__, component.__doc__ or "") for component in self.components]
        return report(self.metadata, components, explain=explain, known=self.known())


def code_hash(gauge: Any) -> str:
    """What tells one compiled gauge from another: a SHA-256 of its code, or without source, of its components' tables.

    Comments, layout, docstrings and the certificate (`METADATA`) do not count: only what is computed does.
    """
    source = getattr(gauge, "source", None)
    if isinstance(source, str):
        what = _code([node for node in ast.parse(source).body if not _is_metadata(node)])
    else:
        tables = ("shapes", "elements", "moves", "pooled", "powers", "instances")
        what = repr([[getattr(component, name) for name in tables] for component in gauge.components])
    return hashlib.sha256(what.encode("utf-8", "surrogatepass")).hexdigest()


def _is_metadata(node: ast.stmt) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return any(isinstance(target, ast.Name) and target.id == "METADATA" for target in targets)


def _code(node: Any) -> str:
    """A syntax tree as text that is the same in every version of Python: no positions, no empty fields."""
    if isinstance(node, list):
        kept = [x for x in node if not (isinstance(x, ast.Expr) and isinstance(x.value, ast.Constant))]  # docstrings
        return f"[{','.join(map(_code, kept))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    skipped = ("kind", "type_comment", "ctx")
    fields = [(name, value) for name, value in ast.iter_fields(node) if name not in skipped and value not in (None, [])]
    return f"{type(node).__name__}({','.join(f'{name}={_code(value)}' for name, value in fields)})"


def check(components: tuple[Any, ...], origin: str = "this gauge") -> None:
    """Raise ValueError unless every component is one, with what it has to define."""
    for i, component in enumerate(components):
        if not isinstance(component, Component):
            raise ValueError(f"{origin}: component {i} is no component of a compiled gauge{MEND}")
        component.complete()


def _certificate(source: str, origin: str) -> dict[str, Any]:
    """The certificate at the end of the text, read before anything is run; ValueError where it is not whole."""
    excess = extent.excess(source)
    if excess:
        raise ValueError(f"{origin} is not a compiled gauge: {excess}")
    try:
        found = [node for node in ast.parse(source).body if isinstance(node, ast.AnnAssign)]
        (node,) = (node for node in found if isinstance(node.target, ast.Name) and node.target.id == "METADATA")
        metadata = ast.literal_eval(node.value) if node.value is not None else None
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        metadata = None
    if not isinstance(metadata, dict) or "certificate" not in metadata:
        raise ValueError(f"{origin} is not a compiled gauge: it has no METADATA with a certificate")
    version = metadata["certificate"]
    if type(version) is not int or version != VERSION:
        raise ValueError(
            f"{origin} was compiled by another release: its certificate is of version {version!r}, this gaugec reads "
            f"version {VERSION}{MEND}"
        )
    if not intact(source):
        raise ValueError(f"{origin} was changed after it was compiled: its text is not what it was sealed with{MEND}")
    return metadata


def _same_shape(what: str, value: Tensor, shape: Sequence[int]) -> None:
    if tuple(value.shape) != tuple(shape):
        raise ValueError(f"{what} has the shape {tuple(value.shape)}, not {tuple(shape)}")

