"""What a model or a checkpoint holds of a gauge's parameters: tensors by name, and which names are one parameter.

Not here: files (see `checkpoints`), and what is done with the numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gaugec.runtime.certificate import unfolded
from gaugec.runtime.held import alive
from gaugec.runtime.layout import Tensors
from gaugec.runtime.listed import listed
from gaugec.runtime.names import bare, by_name

if TYPE_CHECKING:
    from gaugec.runtime.gauge import Gauge

Source = nn.Module | Mapping[str, Any]
"""A model, or a checkpoint: its state dict, or what a file of it holds."""


@dataclass(frozen=True)
class Holding:
    """The tensors of a model or of a checkpoint.

    entries: all of them, by the names that they came with, detached and not copied.  known: the name here of every
    parameter that the gauge moves, by its name there; called: every name here -> as the gauge would have it.  tied: a
    name -> all names here of the same parameter.  others: the parameters that no gauge moves, by the gauge's names ->
    name here.  frozen: as the gauge has them.
    """

    entries: Tensors
    known: dict[str, str]
    called: dict[str, str]
    tied: dict[str, tuple[str, ...]]
    others: dict[str, str]
    frozen: frozenset[str]

    def at(self, shapes: Mapping[str, Any], names: Sequence[str]) -> Tensors:
        """The parameters of one place, slot -> [1, *shape] on the CPU in float64; to be read only."""
        return {slot: self.point(self.known[bare(name)]).unsqueeze(0) for slot, name in zip(shapes, names)}

    def point(self, name: str) -> Tensor:
        """The numbers of one entry on the CPU in float64; to be read only."""
        return self.entries[name].to("cpu", torch.float64).contiguous()

    def off(self, component: Any, names: Sequence[str]) -> dict[str, list[str]]:
        """The gauges at one place that would move frozen parameters, or divide by gains of 0, and which."""
        called = dict(zip(component.shapes, names))
        found = {
            gauge: [called[slot] for slot in slots if bare(called[slot]) in self.frozen]
            for gauge, slots in component.moves.items()
        }
        for gain, plus in {each.gain: each.plus for each in component.gains}.items():
            if not alive(self.point(self.known[bare(called[gain])]), plus):
                for gauge in component.holds[gain]:
                    found[gauge].append(called[gain])
        return {gauge: frozen for gauge, frozen in found.items() if frozen}


def holding(gauge: Gauge, source: Source, what: str) -> Holding:
    """Find the gauge's parameters in a model or a checkpoint; what: what it is called when something is wrong.

    A parameter is found under the name of one that is tied to it too.  Raises TypeError for what is neither model nor
    mapping, ValueError for missing parameters, wrong shapes or dtypes, numbers that are none, and where parameters are
    tied here and were not when the gauge was compiled, or the other way round.
    """
    entries, frozen = _entries(source, what)
    whole = unfolded(gauge.metadata) if "tied" in gauge.metadata else {"tied": {}, "parameters": {}}
    where = by_name(((name, name) for name in entries), [*gauge.parameters, *whole["parameters"], *whole["tied"]])
    called = {here: name for name, here in where.items()}
    aliases: dict[str, list[str]] = {}
    for alias, name in whole["tied"].items():
        aliases.setdefault(bare(name), []).append(bare(alias))
    wanted = {bare(name): name for name in gauge.parameters}
    found = {name: [where[n] for n in (name, *aliases.get(name, ())) if n in where] for name in wanted}
    missing = [wanted[name] for name, here in found.items() if not here]
    if missing:
        raise ValueError(f"{what} lacks parameters that the gauge moves: {listed(missing)}")
    known = {name: here[0] for name, here in found.items()}
    _fit(gauge, entries, known, what)
    parameters = {bare(name) for name in whole["parameters"]}  # none of a gauge that was written by hand
    tied = _tied(entries, found, known, called, {*parameters, *known}, what)
    moved = {name for names in tied.values() for name in names}
    others = {
        name: here
        for name, here in where.items()
        if here not in moved and (name in parameters if parameters else entries[here].is_floating_point())
    }
    return Holding(entries, known, called, tied, others, frozenset(called[name] for name in frozen if name in called))


def titles(gauge: Gauge) -> dict[tuple[str, str], str]:
    """Every site in a reader's words: its place and its gauge there -> "gauge of the first parameter that it moves"."""
    out: dict[tuple[str, str], str] = {}
    for key, component, names in gauge.places():
        called = dict(zip(component.shapes, names))
        out |= {(key, name): f"{name} of {called[slots[0]]}" for name, slots in component.moves.items()}
    return out


def _entries(source: Source, what: str) -> tuple[Tensors, list[str]]:
    if isinstance(source, nn.Module):
        frozen = [name for name, p in source.named_parameters(remove_duplicate=False) if not p.requires_grad]
        source = source.state_dict()
    elif isinstance(source, Mapping):
        frozen = []
    else:
        raise TypeError(f"{what} is a {type(source).__name__}: a model, or tensors by name, is asked for")
    return {name: x.detach() for name, x in source.items() if isinstance(name, str) and isinstance(x, Tensor)}, frozen


def _fit(gauge: Gauge, entries: Tensors, known: Mapping[str, str], what: str) -> None:
    """Raise ValueError unless every parameter has its shape, and numbers."""
    for _, component, names in gauge.places():
        for shape, name in zip(component.shapes.values(), names):
            here = known[bare(name)]
            x = entries[here]
            if tuple(x.shape) != tuple(shape):
                raise ValueError(f"{here} of {what} has the shape {tuple(x.shape)}, compiled for {tuple(shape)}")
            if not x.is_floating_point():
                raise ValueError(f"{here} of {what} has the dtype {x.dtype}: a gauge moves real floating point numbers")
            if type(x) is not Tensor:
                raise ValueError(f"{here} of {what} is a {type(x).__name__}: gather, or dequantise, it first")
            if x.is_meta:
                raise ValueError(f"{here} of {what} is on the meta device: it has no numbers")
            if not bool(x.isfinite().all()):
                raise ValueError(f"{here} of {what} holds NaN or infinity")


def _tied(
    entries: Tensors,
    found: Mapping[str, list[str]],
    known: Mapping[str, str],
    called: Mapping[str, str],
    separate: set[str],
    what: str,
) -> dict[str, tuple[str, ...]]:
    """For every known parameter all names of it here: those that share its memory, and those that were tied to it."""
    shared: dict[object, list[str]] = {}
    for name, x in entries.items():
        if x.numel() and not x.is_meta and x.layout == torch.strided:
            shared.setdefault((x.device, x.data_ptr(), x.shape, x.stride(), x.dtype), []).append(name)
    together = {name: names for names in shared.values() for name in names}
    out = {}
    for name, here in known.items():
        mine = list(dict.fromkeys([*found[name], *together.get(here, ())]))
        twice = [other for other in mine if called[other] != name and called[other] in separate]
        if twice:
            raise ValueError(
                f"{here} and {twice[0]} of {what} are one tensor, and were two parameters when the gauge was compiled"
            )
        for other in mine[1:]:
            if not torch.equal(entries[other], entries[here]):
                raise ValueError(
                    f"{other} was tied to {here} when the gauge was compiled, and differs from it in {what}"
                )
        out[here] = tuple(mine)
    return out
