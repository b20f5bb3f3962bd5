"""One exported program -> tensor graph: every operation by its row, whatever has none as what it is, unknown.

What this module does not do: it decides nothing about gauges.  No module, class or parameter name influences the graph.
"""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from gaugec.errors import MatchError, printable
from gaugec.graph.builder import Builder, Ref
from gaugec.graph.check import Malformed
from gaugec.graph.freeze import freeze
from gaugec.graph.fuse import fuse
from gaugec.graph.ir import Graph
from gaugec.graph.layers import cross_entropy
from gaugec.laws.functions import recognise
from gaugec.model.interfaces import hooked, leaves, storage, tree_unflatten
from gaugec.model.memory import parts, share_memory
from gaugec.model.outputs import EVERY, Counted, Name, named
from gaugec.model.picked import COUNTED, COUNTS
from gaugec.model.source_files import home
from gaugec.operators import aten_kind
from gaugec.tracing import (  # noqa: F401  (they register rows)
    aten_choices,
    aten_layers,
    aten_recurrent,
    aten_views,
    aten_windows,
)
from gaugec.tracing.aten import lowering
from gaugec.tracing.gradient_looks import GradientLooks
from gaugec.tracing.reads import Settings
from gaugec.tracing.regions import carriers, packet


@dataclass(frozen=True)
class Trace:
    """A traced model.

    program: the exported program (for the numeric witness).  leaves: canonical parameter name -> leaf id.
    counted: which outputs count.  returned: graph node -> the name of the output that it is.
    names: every parameter name -> its canonical name (tied parameters share one).  blocked: canonical name -> why a
    gauge may never move it.  second: a note on the other traces.  gradients: where the gradient is to be looked at.
    frozen: parameters that are not trained.  free: the input axes that were resized with the same graph, each as the
    number of the tensor (in the order of `gaugec.model.inputs.tensors_of`) and the axis -> 0, or the number that it has
    in common with those that were resized with it alone; every other axis is fixed.
    settings: what the forward read beside its tensors.
    elsewhere: the graphs at the other sizes at which the model was exported, node by node those of `graph`.
    """

    program: torch.export.ExportedProgram
    graph: Graph
    leaves: dict[str, int]
    names: dict[str, str]
    shapes: dict[str, tuple[int, ...]]
    blocked: dict[str, str]
    counted: Counted
    kinds: tuple[str, ...]
    second: str = ""
    frozen: frozenset[str] = frozenset()
    gradients: GradientLooks = field(default_factory=GradientLooks)
    free: Mapping[tuple[int, int], int] = field(default_factory=dict)
    settings: Settings = field(default_factory=Settings)
    returned: Mapping[int, Name] = field(default_factory=dict)
    fixed: tuple[str, ...] = ()
    elsewhere: tuple[Graph, ...] = ()

    @property
    def loss(self) -> str | None:
        """The word on the loss."""
        return self.counted.loss


class _Program:
    """Lowers one exported program."""

    def __init__(self, model: nn.Module, program: torch.export.ExportedProgram) -> None:
        self.program, self.builder, self.carriers = program, Builder(), carriers(program)
        self.env: dict[str, Any] = {}
        canonical: dict[int, str] = {}
        self.names: dict[str, str] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        for name, parameter in model.named_parameters(remove_duplicate=False):
            self.names[name] = canonical.setdefault(id(parameter), name)
            self.shapes[self.names[name]] = tuple(parameter.shape)
        self.leaves: dict[str, Ref] = {}

    def placeholder(self, node: torch.fx.Node) -> Any:
        signature, b = self.program.graph_signature, self.builder
        value = node.meta.get("val")
        if not isinstance(value, torch.Tensor):
            return value
        shape = tuple(int(n) for n in value.shape)
        parameter = signature.inputs_to_parameters.get(node.name)
        if parameter is None:
            buffer = signature.inputs_to_buffers.get(node.name)
            ref = b.leaf("input", buffer or node.name, shape)
        else:
            name = self.names[parameter]
            if name not in self.leaves:
                self.leaves[name] = b.leaf("param", name, shape)
            ref = self.leaves[name]
        if value.dtype == torch.bool:
            b.boolean.add(ref.node)
        return ref

    def call(self, node: torch.fx.Node) -> Any:
        b, name = self.builder, packet(node)
        b.source, b.place, b.line = name, _place(node), _line(node)
        b.truth = _truth(node)
        if name.endswith("getitem"):
            source, position = node.args
            return self.env[source.name][position]  # type: ignore[union-attr, index]
        args = torch.fx.node.map_arg(node.args, lambda n: self.env[n.name])
        kwargs = dict(torch.fx.node.map_arg(node.kwargs, lambda n: self.env[n.name]))
        for unused in ("device", "pin_memory", "layout", "memory_format"):
            kwargs.pop(unused, None)
        shape = _shape(node.meta.get("val"))
        if shape is None:
            return self.scalar(name, args, kwargs)
        made = self.lower(node, name, args, kwargs, shape)
        expected = shape if isinstance(shape, list) else [shape]
        got = list(made) if isinstance(made, (list, tuple)) else [made]
        for ref, wanted in zip(got, expected):
            if isinstance(ref, Ref) and ref.shape != wanted:
                raise MatchError(f"{name} at {b.place or node.name}: shape {ref.shape} was derived, {wanted} traced")
        if b.truth and isinstance(made, Ref):
            b.boolean.add(made.node)
        return made

    def scalar(self, name: str, args: Any, kwargs: Any) -> Any:
        """A number taken out of a tensor (`item`) still depends on it; what depends on none is of no interest."""
        refs = [x for x in leaves(args, kwargs) if isinstance(x, Ref)]
        return self.builder.opaque(name, refs, ()) if refs else None

    def lower(self, node: torch.fx.Node, name: str, args: Any, kwargs: dict[str, Any], shape: Any) -> Any:
        b, kind = self.builder, aten_kind(name)
        if kind == "cast":
            # a cast between floating types is neutral, one to integers is not; `type_as` takes only a dtype from
            # its second argument
            value = node.meta["val"]
            before = node.args[0].meta["val"]  # type: ignore[union-attr]
            neutral = value.dtype == before.dtype or (
                value.dtype.is_floating_point
                and value.dtype.itemsize > 1
                and before.dtype.itemsize * before.is_floating_point() != 1
            )
            return args[0] if neutral else b.opaque(f"cast to {value.dtype}", [args[0]], shape)
        if kind == "cut":
            # where no gradient arrives there is none to be cut
            carries = node.all_input_nodes[0].name in self.carriers
            return b.opaque("a value whose gradient is cut", [args[0]], shape) if carries else args[0]
        if kind == "layout" and any(isinstance(x, torch.dtype) for x in (*args, *kwargs.values())):
            return b.opaque("a view of the bits as another type", [args[0]], shape)
        row = lowering(name)
        if kind in ("new", "like"):
            # the tensor of which a new one takes its type and shape is no data of it; all else is
            data = [x for x in leaves(args[1:] if kind == "like" else args, kwargs) if isinstance(x, Ref)]
            # what is drawn or left unset is not known, what is written in integers may have been rounded
            known = row is not None and not data and node.meta["val"].dtype.is_floating_point
            if known and any(_rounded(x, node.meta["val"].dtype) for x in args):
                return b.opaque(f"{name} (rounded)", [], shape)
            if not known or any(isinstance(x, float) and not math.isfinite(x) for x in args):
                made = b.opaque(name, data, shape)
                counts = getattr(node.target, "overloadpacket", None) is COUNTS and all(type(n) is int for n in args)
                if counts and node.meta["val"].dtype == COUNTED:
                    b.counted[made.node] = range(*args)
                return made
        if kind == "truth" and not all(_floating(n) for n in node.all_input_nodes):
            return self.unknown(name, args, kwargs, shape)  # integers say where, and not how much
        if kind != "truth" and _coarsens(node):
            return self.unknown(f"{name} (in {node.meta['val'].dtype})", args, kwargs, shape)
        if row is not None:
            try:
                return row(b, shape, *args, **kwargs)
            except (TypeError, ValueError, IndexError) as error:
                source = f"{name} ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
                return self.unknown(source, args, kwargs, shape)
        return self.unknown(name, args, kwargs, shape)

    def unknown(self, name: str, args: Any, kwargs: Any, shape: Any) -> Any:
        refs = [x for x in leaves(args, kwargs) if isinstance(x, Ref)]
        made = [self.builder.opaque(name, refs, s) for s in (shape if isinstance(shape, list) else [shape])]
        return made if isinstance(shape, list) else made[0]


def _rounded(value: Any, dtype: torch.dtype) -> bool:
    """Is a number another one in this type, beyond the rounding of 32 bits?  (0.1 in 16 bits, 1e-50 in 32.)"""
    if not isinstance(value, float) or not math.isfinite(value) or dtype == torch.float64:
        return False
    return abs(torch.tensor(value, dtype=torch.float64).to(dtype).double().item() - value) > 1e-6 * abs(value)


def _truth(node: torch.fx.Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.dtype == torch.bool


def _floating(node: torch.fx.Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.dtype.is_floating_point


def _coarsens(node: torch.fx.Node) -> bool:
    """Does an operation make floating numbers into integers, or into ones of eight bits (`sum(dtype=torch.long)`)?"""
    value = node.meta.get("val")
    if not isinstance(value, torch.Tensor) or (value.dtype.is_floating_point and value.dtype.itemsize > 1):
        return False
    read = [n.meta.get("val") for n in node.all_input_nodes]
    return any(isinstance(x, torch.Tensor) and x.dtype.is_floating_point and x.dtype != value.dtype for x in read)


def _place(node: torch.fx.Node) -> str:
    stack = node.meta.get("nn_module_stack") or {}
    paths = [entry[0] for entry in stack.values()]
    return str(paths[-1]) if paths else ""


_FRAME = re.compile(r'File "([^"\n]+)", line (\d+), in [^\n]*\n +([^\n]+)')


def _line(node: torch.fx.Node) -> str:
    """The innermost line of source outside of torch that made the node, for people; "" where export kept none."""
    every = _FRAME.findall(node.meta.get("stack_trace") or "")
    frames = [f for f in every if not f[0].startswith("<") and home(f[0]) != "torch"]
    if not frames:
        return ""
    path, number, code = frames[-1]
    return printable(f"{os.path.basename(path)}:{number}: {code.strip()}"[:200])


def _shape(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return tuple(int(n) for n in value.shape)
    if isinstance(value, (list, tuple)):
        return [tuple(int(n) for n in v.shape) if isinstance(v, torch.Tensor) else () for v in value]
    return None


def lower_program(model: nn.Module, program: torch.export.ExportedProgram, counted: Counted = EVERY) -> Trace:
    """The tensor graph of an exported program of a model.

    Raises:
        MatchError: it cannot be read, what should count is not there, or `loss` finds no logits.
    """
    try:
        return _lowered(model, program, counted)
    except (MatchError, Malformed):
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise MatchError(
            f"the traced graph cannot be read: {reason}", help="are there shapes that depend on data?"
        ) from error


def _lowered(model: nn.Module, program: torch.export.ExportedProgram, counted: Counted) -> Trace:
    lowering = _Program(model, program)
    signature = program.graph_signature
    kinds: list[str] = []
    returned: Any = ()
    for node in program.graph.nodes:
        if node.op == "placeholder":
            lowering.env[node.name] = lowering.placeholder(node)
        elif node.op == "call_function":
            lowering.env[node.name] = lowering.call(node)
            # what only says how a value lies in memory is a view at one size and a copy at another, a table of which
            # all is read is not cut, and the graph is the same; what views do with indices is compared node by node
            # (`gaugec.tracing.compare`)
            if aten_kind(packet(node)) not in ("layout", "part"):
                kinds.append(f"{packet(node)} at {_place(node) or 'the top'}")
        elif node.op == "get_attr":
            lowering.env[node.name] = None  # a subgraph of a control-flow operation, which has no row
        elif node.op == "output":
            returned = node.args[0]
    buffers = [lowering.env[name] for name in signature.buffers_to_mutate]
    buffers += [lowering.env[name] for name in getattr(signature, "user_inputs_to_mutate", {})]
    own = returned[len(returned) - len(signature.user_outputs) :]  # buffers that were written come before them
    structure = program.call_spec.out_spec
    count = [own[place] for place in counted.places(structure, len(own))]
    outputs = _refs(lowering, count)
    if counted.loss is not None:
        first = count[0].meta.get("val") if count and isinstance(count[0], torch.fx.Node) else None
        if not outputs or not isinstance(first, torch.Tensor) or not first.dtype.is_floating_point:
            raise MatchError('loss="cross_entropy" needs a first output of logits, a floating tensor')
        outputs = [_with_loss(lowering.builder, outputs), *outputs[1:]]
    written = [ref for ref in buffers if isinstance(ref, Ref)]
    graph, numbers = fuse(*freeze(lowering.builder, outputs, written), recognise)
    leaves = {name: numbers[ref.node] for name, ref in lowering.leaves.items() if ref.node in numbers}
    blocked = _aliased(model, lowering.names)
    frozen = frozenset(lowering.names[name] for name, p in model.named_parameters() if not p.requires_grad)
    whole = named(tree_unflatten(list(own), structure))
    returned = {numbers[r.node]: name for name, x in whole.items() for r in _refs(lowering, [x]) if r.node in numbers}
    made = (program, graph, leaves, lowering.names, lowering.shapes, blocked, counted, tuple(kinds))
    return Trace(*made, frozen=frozen, returned=returned)


def _refs(lowering: _Program, returned: Sequence[Any]) -> list[Ref]:
    """The values of the graph among what a program returns."""
    values = [lowering.env[node.name] for node in leaves(returned) if isinstance(node, torch.fx.Node)]
    return [ref for ref in values if isinstance(ref, Ref)]


def _with_loss(b: Builder, outputs: list[Ref]) -> Ref:
    if not outputs or len(outputs[0].shape) < 2:
        raise MatchError('loss="cross_entropy" needs a first output of logits with a class axis last')
    logits = outputs[0]
    b.source, b.place, b.line = "cross_entropy", "", ""
    target = b.leaf("input", "targets", logits.shape[:-1])
    return cross_entropy(b, logits, target)


def _aliased(model: nn.Module, names: dict[str, str]) -> dict[str, str]:
    """Parameters that share storage with another tensor: moving one would move the other unseen."""
    groups: list[list[tuple[str, torch.Tensor]]] = []
    places: dict[int, list[tuple[str, torch.Tensor]]] = {}
    seen: set[int] = set()
    for name, tensor in [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]:
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        for part in parts(tensor):
            known = places.get(storage(part))
            if known is None:
                places[storage(part)] = known = []
                groups.append(known)
            known.append((name, part))
    spans = sorted(
        (group[0][1].untyped_storage().data_ptr(), n)
        for n, group in enumerate(groups)
        if not group[0][1].is_meta and group[0][1].untyped_storage().nbytes()
    )
    for (_, m), (_, n) in itertools.pairwise(spans):
        if share_memory(groups[m][0][1], groups[n][0][1]):
            groups[n] += groups[m]
            groups[m].clear()
    owners = {n: [name for name, _ in group] for n, group in enumerate(groups)}
    blocked: dict[str, str] = {}
    for name, parameter in model.named_parameters():
        if hooked(parameter):
            blocked[names[name]] = "a hook on it may change its gradient"
        if not parameter.is_floating_point():
            blocked[names[name]] = f"its numbers are of type {parameter.dtype}"
        if any(n > 1 and s == 0 for n, s in zip(parameter.shape, parameter.stride())):
            blocked[names[name]] = "its elements overlap in memory"
    for sharing in owners.values():
        for name in sharing if len(set(sharing)) > 1 else ():
            if name in names:
                others = ", ".join(dict.fromkeys(other for other in sharing if other != name))
                blocked[names[name]] = f"its storage is shared with {others}"
    return blocked
