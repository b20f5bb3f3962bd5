"""Running an exported graph in float64 on the CPU, with the casts between floating types made neutral."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node
from torch.fx.node import map_arg

from gaugec.model.interfaces import leaves
from gaugec.model.outputs import EVERY, Counted
from gaugec.operators import aten_kind

KEPT = 1 << 27  # elements of all that one run makes: of less, what it makes is kept for those beside it
Seen = dict[Node, Any]  # what a run has made, by the nodes of its graph


class _Neutral(Interpreter):
    """Runs an exported graph in float64: casts between floating types do nothing, and all is on the CPU."""

    def __init__(self, module: GraphModule) -> None:
        super().__init__(module)
        self.nodes = list(module.graph.nodes)
        self.reads = {node: node.all_input_nodes for node in self.nodes}
        last = {read: node for node in self.nodes for read in self.reads[node]}
        self.done = {node: [read for read in self.reads[node] if last[read] is node] for node in self.nodes}
        writes = any(getattr(getattr(node.target, "_schema", None), "is_mutable", False) for node in self.nodes)
        self.keeps = not writes and sum(map(_elements, self.nodes)) <= KEPT

    def beside(self, values: Mapping[str, Any], seen: Seen | None, keep: bool) -> tuple[Any, Seen]:
        """What the graph returns, and what was made, of which only what is kept is left.

        values: by the names of placeholders.  seen: what another run has kept: what follows from tensors that are the
        same here is not made again.
        """
        made = self.env = dict(seen or {})
        new: set[Node] = set()
        for node in self.nodes:
            if node.op == "placeholder":
                if seen is None or values[node.name] is not made[node]:
                    new.add(node)
                    made[node] = values[node.name]
            elif seen is None or not new.isdisjoint(self.reads[node]):
                new.add(node)
                made[node] = self._made(node, made)
            for read in self.done[node] if seen is None and not keep else ():
                del made[read]
        self.env = {}
        return made[self.nodes[-1]], made

    def _made(self, node: Node, made: Seen) -> Any:
        if node.op != "call_function":
            return self.run_node(node)
        args, kwargs = map_arg((node.args, node.kwargs), made.__getitem__)
        return self.call_function(node.target, args, kwargs)

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name, kind = _called(target)
        if kind == "check":
            return None
        if target is torch.ops.aten.view.default:
            target = torch.ops.aten.reshape.default  # another kernel, in float64, may lay out its result otherwise
        args, kwargs = tuple(map(_here, args)), {name: _here(x) for name, x in kwargs.items()}
        if kind == "cast" and _floating(args[0]) and all(map(_is_neutral, (*args[1:], kwargs.get("dtype")))):
            return args[0]
        if _is_float(kwargs.get("dtype")):
            kwargs = {**kwargs, "dtype": torch.float64}
        if kind == "along":
            args = tuple(None if isinstance(x, torch.dtype) else x for x in args)
        result = super().call_function(target, args, kwargs)
        return result.double() if _floating(result) and name.startswith("aten.") else result


def _elements(node: Node) -> int:
    """Of all that a node makes."""
    return sum(x.numel() for x in leaves(node.meta.get("val")) if isinstance(x, Tensor))


@functools.cache
def _called(target: Any) -> tuple[str, str]:
    """The name of an operation of torch, and its kind."""
    name = str(getattr(target, "_overloadpacket", target))
    return name, aten_kind(name)


def _here(x: Any) -> Any:
    return torch.device("cpu") if isinstance(x, torch.device) else x


def _floating(x: Any) -> bool:
    return isinstance(x, Tensor) and x.dtype.is_floating_point


def _is_neutral(x: Any) -> bool:
    """Does an argument of a cast leave a floating value floating?"""
    return _floating(x) if isinstance(x, Tensor) else _is_float(x) or not isinstance(x, torch.dtype)


def _is_float(dtype: Any) -> bool:
    return isinstance(dtype, torch.dtype) and dtype.is_floating_point


def cross_entropy(logits: Tensor) -> Tensor:
    """The loss of every row of logits, whose last axis are the classes, at targets that are the same every time."""
    odds = torch.Generator().manual_seed(1)
    targets = torch.randint(logits.shape[-1], logits.shape[:-1], generator=odds).to(logits.device)
    return -torch.log_softmax(logits, -1).gather(-1, targets.unsqueeze(-1)).squeeze(-1)


class Runner:
    """Runs one exported program with parameters of the caller's choice; the same random numbers every time."""

    def __init__(
        self, program: torch.export.ExportedProgram, names: Mapping[str, str], counted: Counted = EVERY, seed: int = 0
    ) -> None:
        self.program, self.names, self.loss = program, names, counted.loss
        self.interpreter = _Neutral(program.graph_module)
        own = len(program.graph_signature.user_outputs)
        self.places = counted.places(program.call_spec.out_spec, own)
        self.generator = torch.Generator().manual_seed(seed)
        signature = program.graph_signature
        self.fixed: dict[str, Any] = {}
        self.parameter_of = {k: names[v] for k, v in signature.inputs_to_parameters.items()}
        state = {**program.state_dict, **program.constants}
        inputs = _flat_inputs(program)
        for node in program.graph.nodes:
            if node.op != "placeholder" or node.name in self.parameter_of:
                continue
            buffer = signature.inputs_to_buffers.get(node.name) or signature.inputs_to_lifted_tensor_constants.get(
                node.name
            )
            value = state.get(buffer) if buffer is not None else inputs.get(node.name)
            self.fixed[node.name] = self._real(value, node)

    def _real(self, value: Any, node: Node) -> Any:
        if isinstance(value, Tensor) and value.device.type == "meta":
            counts = not (value.dtype.is_floating_point or value.dtype == torch.bool)
            drawn = torch.rand(value.shape, generator=self.generator)
            value = (2 * drawn if counts else drawn).to(value.dtype)  # tokens that differ, and are in every vocabulary
        if isinstance(value, Tensor) and value.is_mkldnn:
            value = value.to_dense()  # of its own layout there are no doubles
        return value.detach().cpu().double() if _floating(value) else value

    def parameters(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
        """Random parameters in float64, scaled so that activations stay near one."""
        made: dict[str, Tensor] = {}
        for name, shape in shapes.items():
            noise = torch.randn(shape, generator=self.generator, dtype=torch.float64)
            made[name] = 1 + 0.3 * noise if len(shape) < 2 else noise / math.sqrt(math.prod(shape[1:]))
        return made

    def run(self, parameters: Mapping[str, Tensor], seen: Seen | None = None) -> list[Tensor]:
        """Every buffer written, and every floating output that counts, with the loss in place of the first if named.

        seen: what `kept` gave: what follows from tensors that are the same here as there is not computed again.
        """
        return self._run(parameters, seen, keep=False)[0]

    def kept(self, parameters: Mapping[str, Tensor]) -> tuple[list[Tensor], Seen | None]:
        """A run, and what it made; None where that is too much, or random, so that what runs beside it needs all."""
        outputs, made, drawn = self._run(parameters, None, keep=self.interpreter.keeps)
        return outputs, made if self.interpreter.keeps and not drawn else None

    def _run(
        self, parameters: Mapping[str, Tensor], seen: Seen | None, keep: bool
    ) -> tuple[list[Tensor], Seen, bool]:
        """What is returned, what was made, and whether random numbers were drawn."""
        own = {name: parameters[parameter] for name, parameter in self.parameter_of.items()}
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            before = torch.default_generator.get_state()
            made, all_of_it = self.interpreter.beside({**self.fixed, **own}, seen, keep)
            drawn = not torch.equal(before, torch.default_generator.get_state())
            outputs = list(made)
            signature = self.program.graph_signature
            first = len(outputs) - len(signature.user_outputs)
        counting = [outputs[first + place] for place in self.places]
        if self.loss is not None:
            counting[0] = cross_entropy(counting[0])
        return [x for x in (*outputs[:first], *counting) if _floating(x)], all_of_it, drawn


def _flat_inputs(program: torch.export.ExportedProgram) -> dict[str, Any]:
    args, kwargs = program.example_inputs or ((), {})
    names = list(program.graph_signature.user_inputs)
    return {str(name): value for name, value in zip(names, leaves(args, kwargs))}
