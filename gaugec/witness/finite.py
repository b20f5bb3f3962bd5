"""The finite numeric check: the exported graph in float64, before and after random finite group elements.

Casts between floating types are made neutral (norms often compute in float32, which would hide errors below 1e-7);
parameters are drawn at random, so that a zero-initialised one hides nothing.  The control moves one parameter of a site
alone (or, where the site has one, by an element outside the group): the output must change, so that the check can fail.

What this module does not do: it is no proof, and it shares no code with the prover or the emitted module.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import Interpreter, Node

from gaugec.model.preserve import SMALL
from gaugec.sites import Binding, Site

Elements = list[Tensor]


@dataclass(frozen=True)
class Witness:
    """What was measured.

    error: largest relative change of an output under an element of every gauge at once (float64).
    control: the smallest relative change when only one parameter of a site moved, over `controls` such runs.
    by_gauge: the error of each gauge alone.
    dead: numbers of sites at which nothing changed when a parameter moved alone.
    note: why there is none, for models too large to run here.
    """

    error: float
    control: float
    controls: int
    by_gauge: tuple[tuple[str, float], ...] = ()
    note: str = ""
    dead: tuple[int, ...] = ()

    @property
    def ok(self) -> bool:
        """Did nothing change that must not (1e-10), and something at every site where it must (1e-6)?"""
        return bool(self.note) or (self.error <= 1e-10 and not self.dead)


def view(parameter: Tensor, binding: Binding) -> Tensor:
    """The binding's strided view [copies..., group..., rest...] of a contiguous parameter."""
    axes = (*binding.copies, *binding.group, *binding.rest)
    return parameter.as_strided([n for n, _ in axes], [s for _, s in axes], binding.offset)


def element(site: Site, generator: torch.Generator) -> Tensor:
    """A random finite element: positive [C, K], orthogonal [C, K, K] with both determinants, angles, or shifts."""
    c, k = site.copies, site.size
    if site.group == "positive":
        return torch.exp(0.7 * torch.randn(c, k, generator=generator, dtype=torch.float64))
    if site.group == "positive_pairs":
        pairs = torch.exp(0.7 * torch.randn(c, k // 2, generator=generator, dtype=torch.float64))
        return torch.cat([pairs, pairs], 1) if site.pairing == "halves" else pairs.repeat_interleave(2, 1)
    if site.group == "translation":
        rest = math.prod(n for n, _ in site.bindings[0].rest)
        return torch.randn(c, rest, generator=generator, dtype=torch.float64)
    if site.group == "torus":
        angle = 2 * math.pi * torch.rand(c, site.rotary // 2, generator=generator, dtype=torch.float64)
        return _turns(angle, k, site)
    if site.group == "orthogonal":
        made, _ = torch.linalg.qr(torch.randn(c, k, k, generator=generator, dtype=torch.float64))
        made[: max(1, c // 2), 0] *= -1.0
        return made
    raise ValueError(f"no random element of {site.group}")


def _turns(angle: Tensor, k: int, site: Site) -> Tensor:
    copies, half = angle.shape
    made = torch.eye(k, dtype=torch.float64).repeat(copies, 1, 1)
    for p in range(half):
        i, j = (p, p + half) if site.pairing == "halves" else (2 * p, 2 * p + 1)
        c, s = torch.cos(angle[:, p]), torch.sin(angle[:, p])
        made[:, i, i], made[:, i, j], made[:, j, i], made[:, j, j] = c, -s, s, c
    return made


def move(parameters: dict[str, Tensor], site: Site, e: Tensor, only: int | None = None) -> dict[str, Tensor]:
    """The parameters moved by one site's element (`only`: by one of its bindings)."""
    moved = dict(parameters)
    for number, binding in enumerate(site.bindings):
        if only is not None and number != only:
            continue
        tensor = moved[binding.parameter].clone().contiguous()
        target = view(tensor, binding)
        x = target.reshape(site.copies, site.size, -1)
        if binding.move.kind == "scale":
            factor = e.pow(float(binding.move.exponent)).unsqueeze(-1)
            y = factor * (x + binding.shift_by) - binding.shift_by
        elif binding.move.kind == "rotate":
            y = (torch.linalg.inv(e).mT if binding.move.dual else e) @ x
        else:
            y = x + e.unsqueeze(1)
        target.copy_(y.reshape(target.shape))
        moved[binding.parameter] = tensor
    return moved


class _Neutral(Interpreter):
    """Runs an exported graph in float64: casts between floating types do nothing."""

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name = str(getattr(target, "_overloadpacket", target))
        if name == "aten._assert_tensor_metadata":
            return None
        if (
            name in ("aten._to_copy", "aten.to")
            and _floating(args[0])
            and _is_float(kwargs.get("dtype", torch.float64))
        ):
            return args[0]
        if name == "aten.type_as" and _floating(args[0]) and _floating(args[1]):
            return args[0]
        if _is_float(kwargs.get("dtype")):
            kwargs = {**kwargs, "dtype": torch.float64}
        if (
            name in ("aten.softmax", "aten.log_softmax", "aten._softmax")
            and len(args) > 2
            and isinstance(args[2], torch.dtype)
        ):
            args = (*args[:2], None)
        result = super().call_function(target, args, kwargs)
        return result.double() if _floating(result) and name.startswith("aten.") else result


def _floating(x: Any) -> bool:
    return isinstance(x, Tensor) and x.dtype.is_floating_point


def _is_float(dtype: Any) -> bool:
    return isinstance(dtype, torch.dtype) and dtype.is_floating_point


class Runner:
    """Runs one exported program with parameters of the caller's choice; the same random numbers every time."""

    def __init__(
        self, program: torch.export.ExportedProgram, names: Mapping[str, str], loss: str | None, seed: int = 0
    ) -> None:
        self.program, self.names, self.loss = program, names, loss
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
            value = torch.rand(value.shape, generator=self.generator).to(value.dtype)
        return value.detach().cpu().double() if _floating(value) else value

    def parameters(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
        """Random parameters in float64, scaled so that activations stay near one."""
        made: dict[str, Tensor] = {}
        for name, shape in shapes.items():
            noise = torch.randn(shape, generator=self.generator, dtype=torch.float64)
            made[name] = 1 + 0.3 * noise if len(shape) < 2 else noise / math.sqrt(math.prod(shape[1:]))
        return made

    def run(self, parameters: Mapping[str, Tensor]) -> list[Tensor]:
        """Every floating output (the loss in place of output 0 where one was named) and every buffer written."""
        values = [
            parameters[self.parameter_of[node.name]] if node.name in self.parameter_of else self.fixed[node.name]
            for node in self.program.graph.nodes
            if node.op == "placeholder"
        ]
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            outputs = list(_Neutral(self.program.graph_module).run(*values))
            signature = self.program.graph_signature
            first = len(outputs) - len(signature.user_outputs)
            if self.loss is not None:
                logits = outputs[first]
                torch.manual_seed(1)
                targets = torch.randint(logits.shape[-1], logits.shape[:-1])
                outputs[first] = -torch.log_softmax(logits, -1).gather(-1, targets.unsqueeze(-1)).squeeze(-1)
        return [x for x in outputs if _floating(x)]


def _flat_inputs(program: torch.export.ExportedProgram) -> dict[str, Any]:
    args, kwargs = program.example_inputs or ((), {})
    flat, _ = torch.utils._pytree.tree_flatten((args, kwargs))
    names = list(program.graph_signature.user_inputs)
    return {str(name): value for name, value in zip(names, flat)}


def reference(runner: Runner, shapes: Mapping[str, tuple[int, ...]], before: Sequence[Tensor]) -> list[float]:
    """How much each output changes when all parameters do: the scale against which a change is measured."""
    other = runner.run(runner.parameters(shapes))
    scales: list[float] = []
    for a, b in zip(before, other, strict=True):
        finite = torch.isfinite(a) & torch.isfinite(b)
        scales.append((a - b)[finite].abs().max().item() if bool(finite.any()) else 0.0)
    return scales


def change(before: Sequence[Tensor], after: Sequence[Tensor], scales: Sequence[float], *, noise: float) -> float:
    """The largest change of an output against its scale; infinite where what is finite changed.

    Rounding is no change: differences below `noise` units in the last place of an entry are not counted.  An output
    that no parameter reaches must not change at all.
    """
    worst = 0.0
    for a, b, scale in zip(before, after, scales, strict=True):
        if a.numel() == 0:
            continue
        finite = torch.isfinite(a)
        if not torch.equal(finite, torch.isfinite(b)):
            return math.inf
        difference = (a - b)[finite].abs() - noise * torch.finfo(torch.float64).eps * a[finite].abs()
        largest = max(difference.max().item(), 0.0) if difference.numel() else 0.0
        if largest > 0:
            worst = max(worst, largest / scale if scale > 0 else math.inf)
    return worst


def witness(
    runner: Runner, shapes: Mapping[str, tuple[int, ...]], sites: Sequence[Site], *, seed: int = 0, budget: int = 48
) -> Witness:
    """Measures all sites; `budget` bounds the number of control runs (at least one for each gauge and role)."""
    if sum(math.prod(shape) for shape in shapes.values()) > SMALL:
        return Witness(0.0, math.inf, 0, note="not witnessed: more than 3e8 parameters")
    generator = torch.Generator().manual_seed(seed)
    parameters = runner.parameters(shapes)
    elements = [element(site, generator) for site in sites]
    before = runner.run(parameters)
    scales = reference(runner, shapes, before)
    everything = parameters
    by_gauge: list[tuple[str, float]] = []
    for gauge in dict.fromkeys(site.gauge for site in sites):
        alone = parameters
        for site, e in zip(sites, elements):
            if site.gauge == gauge:
                alone = move(alone, site, e)
                everything = move(everything, site, e)
        by_gauge.append((gauge, change(before, runner.run(alone), scales, noise=64)))
    error = change(before, runner.run(everything), scales, noise=64) if sites else 0.0
    # The sites of one gauge and one set of roles are alike: a control run for each such kind, and as many more as the
    # budget allows.  A parameter may be dead by itself (a key's bias under softmax), so a site's control is the largest
    # change over its parameters.
    kinds: dict[object, list[int]] = {}
    for number, site in enumerate(sites):
        kinds.setdefault((site.gauge, tuple(b.role for b in site.bindings)), []).append(number)
    order = [number for row in itertools.zip_longest(*kinds.values()) for number in row if number is not None]
    control, runs = math.inf, 0
    dead: list[int] = []
    for position, number in enumerate(order):
        site, e = sites[number], elements[number]
        if runs >= budget and position >= len(kinds):
            break
        moves = range(len(site.bindings)) if len(site.bindings) > 1 else [None]
        largest = 0.0
        for only in moves:
            alone = move(parameters, site, e, only=only) if only is not None else _outside(parameters, site, generator)
            largest = max(largest, change(before, runner.run(alone), scales, noise=4096))
            runs += 1
            if largest >= 1e-6:
                break
        if largest < 1e-6:
            dead.append(number)
        else:
            control = min(control, largest)
    return Witness(error, control, runs, tuple(by_gauge), dead=tuple(sorted(dead)))


def _outside(parameters: dict[str, Tensor], site: Site, generator: torch.Generator) -> dict[str, Tensor]:
    """The site's parameter moved by something that is not in the group: every entry by itself."""
    (binding,) = site.bindings
    tensor = parameters[binding.parameter].clone().contiguous()
    target = view(tensor, binding)
    target.add_(0.5 * torch.randn(target.shape, generator=generator, dtype=torch.float64))
    return {**parameters, binding.parameter: tensor}
