"""The Jacobian of a traced model in float64, row by row: products of random cotangents with it at inputs that are new.

The rows span what the outputs see of the parameters; a direction that is orthogonal to all of them is dead. Inputs are
drawn anew for every row: numbers that are looked up among all that may be, real numbers as widely spread as the
example's. Casts are neutral, and the eps of a norm may be another: a large one tells directions that are dead from
those that are nearly so.

Not here: what is made of the rows; gauges.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from gaugec.graph.ir import Graph, Leaf, OneHot
from gaugec.model.outputs import Counted
from gaugec.progress import counted as shown
from gaugec.witness.interpreter import Runner

ROOTS = ("rsqrt", "sqrt", "pow")
LARGEST = 1e-2  # of what is taken for an eps beside a root


def rows(
    program: torch.export.ExportedProgram,
    graph: Graph,
    names: Mapping[str, str],
    counted: Counted,
    parameters: Mapping[str, Tensor],
    count: int,
    eps: float | None = None,
) -> Tensor:
    """So many products of random cotangents with the Jacobian, [count, entries of the parameters in their order].

    counted: which outputs count; of logits that reach a cross-entropy only differences within a row do.
    parameters: in float64.  eps: in place of every eps of the program, if any.
    """
    runner, draw = Runner(program, names, counted), torch.Generator().manual_seed(1)
    leaves = {name: x.detach().clone().requires_grad_() for name, x in parameters.items()}
    own = {place: leaves[name] for place, name in runner.parameter_of.items()}
    first = len(program.graph_signature.output_specs) - len(program.graph_signature.user_outputs)
    largest, out = looked_up(graph), []
    with replaced_eps(program.graph_module, eps):
        for number in shown(list(range(count))):
            drawn = {
                name: _drawn(runner.fixed.get(name), largest.get(name), draw)
                for name in map(str, program.graph_signature.user_inputs)
            }
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(number)  # dropout: another mask for every row
                made, _ = runner.interpreter.beside({**runner.fixed, **drawn, **own}, None, keep=False)
            outputs = [made[first + place] for place in runner.places]
            seen = [x for x in outputs if isinstance(x, Tensor) and x.requires_grad]
            cotangents = [_cotangent(x, counted.loss if x is outputs[0] else None, draw) for x in seen]
            found = torch.autograd.grad(seen, list(leaves.values()), cotangents, allow_unused=True)
            out.append(torch.cat([_flat(x, like) for x, like in zip(found, leaves.values())]))
    return torch.stack(out)


def _flat(x: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like).flatten() if x is None else x.flatten()


def _cotangent(x: Tensor, loss: str | None, draw: torch.Generator) -> Tensor:
    c = torch.randn(x.shape, generator=draw, dtype=torch.float64)
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
