"""The Jacobian of a traced model in float64, row by row: products of random cotangents with it at inputs that are new.

The rows span what the outputs see of the parameters; a direction that is orthogonal to all of them is dead. Inputs are
drawn again and again: numbers that are looked up among all that may be, real numbers as widely spread as the example's.
Casts are neutral, no row of a table is kept from its gradient (`padding_idx`), and the eps of a norm may be another: a
large one tells directions that are dead from those that are nearly so.  Tables may be given more rows than they have,
as a larger vocabulary would: what is dead only for want of inputs is not so then.

Not here: what is made of the rows; gauges.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from gaugec.graph.ir import Graph, Leaf, OneHot
from gaugec.progress import counted as shown
from gaugec.witness.interpreter import Runner

ROOTS = ("rsqrt", "sqrt", "pow")
LARGEST = 1e-2  # of what is taken for an eps beside a root


SHAPING = set("view _unsafe_view reshape unsqueeze squeeze _to_copy to clone contiguous alias slice".split())
ENDED = set("gather index index_select index_put scatter scatter_add take nll_loss_forward one_hot".split())
EACH = 16  # rows from one run of the model


class Jacobian:
    """Rows of the Jacobian of a traced model at a point; every call draws inputs that no other has drawn.

    traced: the model.  point: all its parameters, in float64.  shapes: of those whose columns are wanted, in their
    order.  eps: in place of every eps of the program, if any.  more: tables -> rows that they have beside their own;
    their entries are columns after all others.
    """

    def __init__(
        self,
        traced: Any,
        point: Mapping[str, Tensor],
        shapes: Mapping[str, tuple[int, ...]],
        eps: float | None = None,
        more: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.traced, self.point, self.shapes, self.eps, self.more = traced, point, shapes, eps, dict(more or {})
        self._largest = looked_up(traced.graph)
        for table, vocabulary in vocabularies(traced).items() if self.more else ():
            self._largest[vocabulary.input] = vocabulary.rows + len(self.more[table])
        self._draw, self._number, self._together = torch.Generator().manual_seed(1), 0, True

    def rows(self, count: int, each: int = EACH) -> Tensor:
        """So many rows, [count, entries of the parameters, then of the rows that tables have beside their own].

        Of logits that reach a cross-entropy only differences within a row count.  each: how many cotangents are drawn
        at one input.
        """
        with ExitStack() as stack:
            module = self.traced.program.graph_module
            stack.enter_context(replaced_eps(module, self.eps))
            stack.enter_context(unmasked(module))
            wider = stack.enter_context(lengthened(self.traced, self.more))
            runner = Runner(self.traced.program, self.traced.names, self.traced.counted)
            left = list(range(0, count, each))
            return torch.cat([self._some(runner, wider, min(each, count - done)) for done in shown(left)])

    def _some(self, runner: Runner, wider: Mapping[str, str], count: int) -> Tensor:
        """Rows at one input."""
        leaves = {name: x.detach().clone().requires_grad_(name in self.shapes) for name, x in self.point.items()}
        beside = {name: x.detach().clone().requires_grad_() for name, x in self.more.items()}
        own = {place: leaves[name] for place, name in runner.parameter_of.items()}
        own |= {place: torch.cat([leaves[name], beside[name]]) for place, name in wider.items()}
        inputs = map(str, runner.program.graph_signature.user_inputs)
        drawn = {name: _drawn(runner.fixed.get(name), self._largest.get(name), self._draw) for name in inputs}
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self._number)  # dropout: another mask at every input
            self._number += 1
            made, _ = runner.interpreter.beside({**runner.fixed, **drawn, **own}, None, keep=False)
        first = len(runner.program.graph_signature.output_specs) - len(runner.program.graph_signature.user_outputs)
        outputs = [made[first + place] for place in runner.places]
        seen = [x for x in outputs if isinstance(x, Tensor) and x.requires_grad]
        wanted = [*(leaves[name] for name in self.shapes), *beside.values()]
        if not seen:
            return torch.zeros(count, sum(x.numel() for x in wanted), dtype=torch.float64)
        cotangents = [_cotangents(count, x, runner.loss if x is outputs[0] else None, self._draw) for x in seen]
        found = self._products(seen, wanted, cotangents)
        parts = [like.new_zeros(count, *like.shape) if x is None else x for x, like in zip(found, wanted)]
        return torch.cat([x.reshape(count, -1).double() for x in parts], 1)

    def _products(
        self, seen: Sequence[Tensor], wanted: Sequence[Tensor], cotangents: Sequence[Tensor]
    ) -> Sequence[Tensor | None]:
        """Cotangents times the Jacobian: all at once where torch can, else one after the other."""
        if self._together:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", UserWarning)  # that an operation is slow like this
                    return torch.autograd.grad(
                        seen, wanted, cotangents, allow_unused=True, is_grads_batched=True, retain_graph=True
                    )
            except RuntimeError:
                self._together = False
        each = [
            torch.autograd.grad(seen, wanted, [c[n] for c in cotangents], allow_unused=True, retain_graph=True)
            for n in range(len(cotangents[0]))
        ]
        return [None if parts[0] is None else torch.stack(parts) for parts in zip(*each)]


def _cotangents(count: int, x: Tensor, loss: str | None, draw: torch.Generator) -> Tensor:
    c = torch.randn((count, *x.shape), generator=draw, dtype=torch.float64)
    return c if loss is None else c - c.mean(-1, keepdim=True)


def _drawn(x: Any, largest: int | None, draw: torch.Generator) -> Any:
    """An input like x."""
    if not isinstance(x, Tensor) or not x.numel():
        return x
    if x.dtype.is_floating_point:
        spread = float(x.std()) if x.numel() > 1 else 1.0
        return x.mean() + (spread or 1.0) * torch.randn(x.shape, generator=draw, dtype=torch.float64)
    if largest is None or x.dtype == torch.bool:
        return x
    return torch.randint(largest, x.shape, generator=draw, dtype=x.dtype)


def looked_up(graph: Graph) -> dict[str, int]:
    """Inputs that hold numbers of rows of tables -> how many rows all of these have."""
    out: dict[str, int] = {}
    for node in graph:
        if isinstance(node, OneHot):
            leaf = graph[node.operands[0].node]
            if isinstance(leaf, Leaf) and leaf.kind == "input":
                size = 1
                for mode in node.modes[node.rows :]:
                    size *= mode.size
                out[leaf.name] = min(size, out.get(leaf.name, size))
    return out


class Vocabulary(NamedTuple):
    """What numbers of an input are looked up in a table: the input, how many rows there are, how long they are."""

    input: str
    rows: int
    width: int


def vocabularies(traced: Any) -> dict[str, Vocabulary]:
    """Tables in which numbers of an input are looked up, and in nothing else that has an end."""
    signature = traced.program.graph_signature
    inputs, parameters = set(map(str, signature.user_inputs)), signature.inputs_to_parameters
    out: dict[str, Vocabulary] = {}
    ended: set[str] = set()
    for name, users in _read(traced.program.graph_module, inputs):
        for node, user in users:
            table = user.args[0] if _word(user) == "embedding" else None
            if isinstance(table, Node) and user.args[1] is node and table.name in parameters:
                rows, width = table.meta["val"].shape
                out[traced.names[parameters[table.name]]] = Vocabulary(name, int(rows), int(width))
            elif _word(user) in ENDED:
                ended.add(name)
    sizes = {name: {v.rows for v in out.values() if v.input == name} for name in inputs}
    return {table: v for table, v in out.items() if v.input not in ended and len(sizes[v.input]) == 1}


def _read(module: GraphModule, inputs: Collection[str]) -> Iterator[tuple[str, list[tuple[Node, Node]]]]:
    """Inputs with what reads their numbers: the node that holds them, maybe in another shape, and the reader."""
    for start in module.graph.nodes:
        if start.op == "placeholder" and start.name in inputs:
            users, there = [], [start]
            while there:
                node = there.pop()
                users += [(node, user) for user in node.users if _word(user) not in SHAPING]
                there += [user for user in node.users if _word(user) in SHAPING]
            yield start.name, users


def added(traced: Any) -> set[str]:
    """Parameters that are biases wherever they are read: they are added."""
    of = traced.program.graph_signature.inputs_to_parameters
    out: set[str] = set()
    other: set[str] = set()
    for node in traced.program.graph_module.graph.nodes:
        schema = getattr(node.target, "_schema", None)
        for n, x in enumerate(node.args):
            if isinstance(x, Node) and x.name in of:
                bias = schema is not None and (
                    _word(node) == "add" or schema.arguments[n].name == "bias" or (_word(node), n) == ("addmm", 0)
                )
                (out if bias else other).add(traced.names[of[x.name]])
    return out - other


def _word(node: Node) -> str:
    """The name of the operation of torch, "" for what is none."""
    schema = getattr(node.target, "_schema", None)
    return schema.name.removeprefix("aten::") if schema is not None else ""


@contextmanager
def lengthened(traced: Any, more: Collection[str]) -> Iterator[dict[str, str]]:
    """In a graph, while it lasts, lookups in these tables read placeholders of their own: placeholder -> table."""
    graph = traced.program.graph_module.graph
    parameters = traced.program.graph_signature.inputs_to_parameters
    first = next(iter(graph.nodes))
    made: dict[str, tuple[Node, list[tuple[Node, Any]]]] = {}
    for node in list(graph.nodes) if more else ():
        table = node.args[0] if _word(node) == "embedding" else None
        name = traced.names.get(parameters.get(table.name, "")) if isinstance(table, Node) else None
        if name is not None and name in more:
            if name not in made:
                with graph.inserting_before(first):
                    made[name] = graph.placeholder(f"longer_{len(made)}"), []
            made[name][1].append((node, node.args))
            node.args = (made[name][0], *node.args[1:])
    try:
        yield {placeholder.name: name for name, (placeholder, _) in made.items()}
    finally:
        for placeholder, changed in made.values():
            for node, args in changed:
                node.args = args
            graph.erase_node(placeholder)


@contextmanager
def unmasked(module: GraphModule) -> Iterator[None]:
    """No row of a table is padding while it lasts: outputs depend on it, whether it is trained or not."""
    masked = [node for node in module.graph.nodes if _word(node) == "embedding"]
    before = [(node, node.args, node.kwargs) for node in masked]
    for node in masked:
        node.args, node.kwargs = node.args[:2], {}
    try:
        yield
    finally:
        for node, args, kwargs in before:
            node.args, node.kwargs = args, kwargs


@contextmanager
def replaced_eps(module: GraphModule, eps: float | None) -> Iterator[int]:
    """Another eps in a graph, while it lasts, in arguments of that name and in what is added under a root; how many."""
    found = [] if eps is None else list(_eps(module))
    before = [(node, node.args, node.kwargs) for node, _ in found]
    for node, place in found:
        if isinstance(place, int) and place < len(node.args):
            node.args = (*node.args[:place], eps, *node.args[place + 1 :])
        else:
            node.kwargs = {**node.kwargs, "eps": eps}
    try:
        yield len(found)
    finally:
        for node, args, kwargs in before:
            node.args, node.kwargs = args, kwargs


def _eps(module: GraphModule) -> Iterator[tuple[Node, int | str]]:
    """Nodes with the place of their eps."""
    for node in module.graph.nodes:
        schema = getattr(node.target, "_schema", None)
        if node.op != "call_function" or schema is None:
            continue
        for place, argument in enumerate(schema.arguments):
            if argument.name == "eps":
                yield node, "eps" if argument.kwarg_only else place
        name = schema.name.removeprefix("aten::")
        under = [getattr(user.target, "_schema", None) for user in node.users]
        if name == "add" and under and all(each and each.name.removeprefix("aten::") in ROOTS for each in under):
            for place, x in enumerate(node.args[:2]):
                if isinstance(x, (int, float)) and not isinstance(x, bool) and 0 < x < LARGEST:
                    yield node, place
