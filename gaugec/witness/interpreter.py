"""Running an exported graph in float64 on the CPU, with the casts between floating types made neutral."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.fx import Interpreter, Node

from gaugec.model.interfaces import leaves
from gaugec.model.outputs import EVERY, Counted
from gaugec.operators import aten_kind


class _Neutral(Interpreter):
    """Runs an exported graph in float64: casts between floating types do nothing, and all is on the CPU."""

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name, kind = _called(target)
        if kind == "check":
            return None
        args, kwargs = tuple(map(_here, args)), {name: _here(x) for name, x in kwargs.items()}
        if kind == "cast" and _floating(args[0]) and all(map(_is_neutral, (*args[1:], kwargs.get("dtype")))):
            return args[0]
        if _is_float(kwargs.get("dtype")):
            kwargs = {**kwargs, "dtype": torch.float64}
        if kind == "along":
            args = tuple(None if isinstance(x, torch.dtype) else x for x in args)
        result = super().call_function(target, args, kwargs)
        return result.double() if _floating(result) and name.startswith("aten.") else result


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

    def run(self, parameters: Mapping[str, Tensor]) -> list[Tensor]:
        """Every buffer written, and every floating output that counts, with the loss in place of the first if named."""
        values = [
            parameters[self.parameter_of[node.name]] if node.name in self.parameter_of else self.fixed[node.name]
            for node in self.program.graph.nodes
            if node.op == "placeholder"
        ]
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            outputs = list(self.interpreter.run(*values))
            signature = self.program.graph_signature
            first = len(outputs) - len(signature.user_outputs)
        made = [outputs[first + place] for place in self.places]
        if self.loss is not None:
            made[0] = cross_entropy(made[0])
        return [x for x in (*outputs[:first], *made) if _floating(x)]


def _flat_inputs(program: torch.export.ExportedProgram) -> dict[str, Any]:
    args, kwargs = program.example_inputs or ((), {})
    names = list(program.graph_signature.user_inputs)
    return {str(name): value for name, value in zip(names, leaves(args, kwargs))}
