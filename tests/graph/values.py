"""What a tensor graph computes, number by number, against the values of the program from which it was lowered.

The graph is the meaning on which every proof about a model rests.  Here each of its nodes is computed in double
precision from what it reads, by the words of `gaugec.graph.ir` alone, and compared with what torch computes there.
What is opaque (or a function of which only a law is known) is taken from the program.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn
from torch.export.graph_signature import InputKind
from torch.utils import _pytree

from gaugec.graph.builder import Builder, Ref
from gaugec.graph.ir import Access, Along, Concatenation, Contraction, Graph, Leaf, Map, Node, OneHot, Sum
from gaugec.operators import BY_NAME, Term
from gaugec.tracing import lower

Values = dict[int, Tensor]
"""Node id -> its value, one dimension for each of its modes."""


# -- a graph, node by node ---------------------------------------------------------------------------------------------
_HEADS: Mapping[str, Callable[..., Tensor]] = {
    "max": torch.maximum,
    "min": torch.minimum,
    "exp": torch.exp,
    "log": torch.log,
    "tanh": torch.tanh,
    "erf": torch.erf,
    "abs": torch.abs,
    "sin": torch.sin,
    "cos": torch.cos,
    "step": lambda x: (x > 0).double(),
    "pow": torch.pow,
}


def number(term: Term, x: Tensor, axis: int | None = None) -> Tensor:
    """The value of a definition in x; "sum", "largest" and "smallest" are those along the axis."""
    if term == "x":
        return x
    if term == "pi":
        return torch.tensor(math.pi, dtype=x.dtype)
    if not isinstance(term, tuple):
        return torch.tensor(float(Fraction(term)), dtype=x.dtype)
    head, *parts = term
    made = [number(part, x, axis) for part in parts]
    if head == "sum":
        return made[0].sum(axis, keepdim=True)
    if head in ("largest", "smallest"):
        return (made[0].amax if head == "largest" else made[0].amin)(axis, keepdim=True)
    if head in ("add", "mul"):
        return reduce(torch.add if head == "add" else torch.mul, made)
    return _HEADS[head](*made)


class Unknown(Exception):
    """A node of which the graph does not say what it computes."""


def wide(value: Tensor) -> Tensor:
    """In double precision: complex numbers (rotary pairs of some models) stay complex."""
    return value.to(torch.complex128 if value.is_complex() else torch.float64)


def _read(node: Node, operand: int, values: Values, order: Sequence[int]) -> Tensor:
    """An operand, with a dimension for each of the variables in `order`: of length 1 where it does not have it."""
    access: Access = node.operands[operand]
    value = values[access.node]
    places: list[Tensor] = []
    for ix in access.index:
        place = torch.full((1,) * len(order), ix.offset)
        for stride, variable in ix.terms:
            shape = [node.size(operand, variable) if v == variable else 1 for v in order]
            place = place + stride * torch.arange(node.size(operand, variable)).reshape(shape)
        places.append(place)
    return wide(value[tuple(places)] if places else value.reshape((1,) * len(order)))


def _made(node: Node, values: Values) -> Tensor:
    """The value over the modes, then the variables that the node binds."""
    order = [mode.variable for mode in node.modes]
    if isinstance(node, Contraction):
        every = [*order, *node.summed]
        operands = [_read(node, i, values, every) for i in range(len(node.operands))]
        shape = [node.sizes[v] for v in every]
        if operands:
            letters = [[i for i, n in enumerate(shape) if x.shape[i] == n] for x in operands]
            kinds = {x.dtype for x in operands}
            operands = [x.to(torch.complex128) for x in operands] if len(kinds) > 1 else operands
            small = [x.reshape([x.shape[i] for i in kept]) for x, kept in zip(operands, letters)]
            there = sorted({i for kept in letters for i in kept if i < len(order)})
            inputs = [item for pair in zip(small, letters) for item in pair]
            alone = math.prod(n for i, n in enumerate(shape) if i >= len(order) and not any(i in k for k in letters))
            total = torch.einsum(*inputs, there) * float(node.coefficient) * alone
            return total.reshape([shape[i] if i in there else 1 for i in range(len(order))])
        return torch.tensor(float(node.coefficient * math.prod(shape[len(order) :])), dtype=torch.float64)
    if isinstance(node, Sum):
        total = torch.full((1,) * len(order), float(node.constant), dtype=torch.float64)
        for i, coefficient in enumerate(node.coefficients):
            total = total + float(coefficient) * _read(node, i, values, order)
        return total
    if isinstance(node, Map):
        operands = [_read(node, i, values, order) for i in range(len(node.operands))]
        given = dict(node.attributes)
        if node.function == "pow":
            return operands[0] ** float(Fraction(given["exponent"]))  # type: ignore[arg-type]
        if "definition" in given:
            return number(given["definition"], operands[0])  # type: ignore[arg-type]
        if len(operands) == 2 and node.function in ("max", "min"):
            return _HEADS[node.function](*operands)
        row = BY_NAME.get(node.function)
        if row is None or row.definition is None or len(operands) != 1 or given:
            raise Unknown(node.title)
        return number(row.definition, operands[0])
    if isinstance(node, Along):
        row = BY_NAME.get(node.function)
        if row is None or row.kind != "along" or node.attributes or len(node.operands) != 1:
            raise Unknown(node.title)
        rest = [v for v in order if v not in node.bound]
        x = _read(node, 0, values, [*rest, *node.bound]).expand([node.sizes[v] for v in (*rest, *node.bound)])
        flat = number(row.along, x.flatten(len(rest)), -1)  # type: ignore[arg-type]
        if not row.keeps:
            return flat.squeeze(-1).permute([rest.index(v) for v in order])
        whole = flat.reshape(x.shape)
        return whole.permute([[*rest, *node.bound].index(v) for v in order])
    if isinstance(node, Concatenation):
        along = order.index(node.joined)
        parts: list[Tensor] = []
        for i, (_, length) in enumerate(node.pieces):
            shape = [length if v == node.joined else node.sizes[v] for v in order]
            parts.append(_read(node, i, values, order).expand(shape))
        return torch.cat(parts, along)
    if isinstance(node, OneHot):
        rows = node.rows
        classes = math.prod(m.size for m in node.modes[rows:])
        picked = _read(node, 0, values, order[:rows]).long().expand([m.size for m in node.modes[:rows]])
        hot = torch.nn.functional.one_hot(picked % classes, classes)  # -1 is the last one
        return hot.double().reshape([m.size for m in node.modes])
    raise Unknown(node.title)


def compute(node: Node, values: Values) -> Tensor:
    """The value of a node over its modes, from those of the nodes that it reads.

    Raises:
        Unknown: the graph does not say what it computes, or something that it reads is not known.
    """
    if any(access.node not in values for access in node.operands):
        raise Unknown("what it reads")
    return wide(_made(node, values).expand([mode.size for mode in node.modes]))


def over_modes(node: Node, value: Tensor) -> Tensor:
    """A tensor of the node's shape, with a dimension for each mode in place of its axes."""
    digits = sorted(node.modes, key=lambda mode: (mode.axis, -mode.stride))
    split = value.reshape([mode.size for mode in digits])
    return split.permute([digits.index(mode) for mode in node.modes])


# -- a program, and the graph of it ------------------------------------------------------------------------------------
class _Watched(lower._Program):
    """Keeps which value of the program is which node of the builder, where it is one as it is."""

    last: _Watched

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.made: dict[int, tuple[str, int]] = {}
        type(self).last = self

    def placeholder(self, node: torch.fx.Node) -> Any:
        made = super().placeholder(node)
        if isinstance(made, Ref):
            self.made.setdefault(made.node, (node.name, 0))
        return made

    def call(self, node: torch.fx.Node) -> Any:
        before = len(self.builder.nodes)
        made = super().call(node)
        for i, ref in enumerate(made if isinstance(made, (list, tuple)) else [made]):
            if isinstance(ref, Ref) and ref.node >= before and _whole(self.builder, ref):
                self.made[ref.node] = node.name, i
        return made


def _whole(builder: Builder, ref: Ref) -> bool:
    """Is it a node as it is, and no view of it?"""
    plain = [(0, ((1, v),)) for axis in ref.axes for v in axis]
    return list(ref.index) == plain and ref.shape == tuple(builder.nodes[ref.node].shape)


class _Run(torch.fx.Interpreter):
    """Keeps every value."""

    def __init__(self, module: torch.fx.GraphModule) -> None:
        super().__init__(module)
        self.values: dict[str, Any] = {}

    def run_node(self, n: torch.fx.Node) -> Any:
        self.values[n.name] = value = super().run_node(n)
        return value


def _given(program: torch.export.ExportedProgram) -> list[Any]:
    """What the program is called with: parameters, buffers and constants, then the inputs it was exported with."""
    args, kwargs = program.example_inputs
    users = iter(_pytree.tree_leaves((args, kwargs)))
    state = {**program.constants, **program.state_dict}
    own = (InputKind.USER_INPUT, InputKind.TOKEN)
    return [next(users) if s.kind in own else state[s.target or ""] for s in program.graph_signature.input_specs]


@dataclass
class Compared:
    """nodes: of the graph that was lowered, but for leaves.  seen: those whose value was compared.  worst: the largest
    difference, in units of the value's size, and where."""

    nodes: int
    seen: int
    worst: float
    where: str


def compared(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], monkeypatch: Any) -> Compared:
    """Exports and lowers a model of float64, and compares every value of its graph with torch's.

    Nothing in it may be drawn anew (dropout).  Values of the fused graph are compared like those before it was fused.
    """
    graphs: list[tuple[Graph, Mapping[int, int]]] = []

    def kept(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **options: Any) -> Any:
            graphs.append(function(*given, **options))
            return graphs[-1]

        return call

    monkeypatch.setattr(lower, "_Program", _Watched)
    monkeypatch.setattr(lower, "freeze", kept(lower.freeze))
    monkeypatch.setattr(lower, "fuse", kept(lower.fuse))
    with torch.no_grad():
        program = torch.export.export(model, args, kwargs).run_decompositions({})
        lower.lower_program(model, program)
        run = _Run(program.graph_module)
        run.run(*[x.clone() if isinstance(x, Tensor) else x for x in _given(program)])
    result = Compared(0, 0, 0.0, "")
    for graph, numbers in graphs:
        of = {numbers[id]: value for id, value in _Watched.last.made.items() if id in numbers}
        _compare(graph, of, run.values, result)
    return result


def _compare(graph: Graph, of: Mapping[int, tuple[str, int]], run: Mapping[str, Any], result: Compared) -> None:
    values: Values = {}
    for node in graph:
        there = run[of[node.id][0]] if node.id in of else None
        there = there[of[node.id][1]] if isinstance(there, (list, tuple)) else there
        true = over_modes(node, there) if isinstance(there, Tensor) and tuple(there.shape) == node.shape else None
        if isinstance(node, Leaf):
            if true is not None:
                values[node.id] = true
            continue
        result.nodes += 1
        try:
            values[node.id] = compute(node, values)
        except Unknown:
            if true is not None:
                values[node.id] = true
            continue
        if true is None:
            continue
        result.seen += 1
        size = wide(true).abs().nan_to_num(posinf=0).max().item() if true.numel() else 0.0
        apart = (values[node.id] - wide(true)).abs().nan_to_num().max().item() / (size or 1.0) if true.numel() else 0
        if apart > result.worst:
            result.worst, result.where = apart, f"{node} ({node.source} at {node.place or 'the top'}: {node.line})"
