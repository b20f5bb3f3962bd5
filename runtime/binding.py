"""From a gauge's places to an optimizer's batches: which parameters are meant, and which gauges are in force.

Not here: what a step does, saved state.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gaugec.runtime.batch import Batch, Place, make
from gaugec.runtime.listed import listed
from gaugec.runtime.names import bare, by_name
from gaugec.runtime.watch import units

Groups = Iterable[tuple[str, Tensor]] | Iterable[Mapping[str, Any]]


class Found(NamedTuple):
    """What was found.

    gauged: ids of the parameters that a gauge moves; frozen: of those that are not trained.  off: gauges that would
    move parameters that are frozen or were not given, one text each.
    singular: gauges with units that have no canonical form, "place.gauge: number in parameters".
    """

    batches: list[Batch]
    gauged: frozenset[int]
    frozen: frozenset[int]
    off: list[str]
    singular: list[str]


def named(named_parameters: Groups, model: nn.Module | None = None) -> list[dict[str, Any]]:
    """Param groups of (name, parameter) pairs, whatever form they came in; those without names get the model's.

    Raises TypeError for parameters without names, ValueError for none at all, one given twice, or one that is not the
    model's.
    """
    entries: list[Any] = list(named_parameters)
    if not entries:
        raise ValueError("the optimizer was given no parameters")
    groups: list[dict[str, Any]] = [{"params": entries}]
    if isinstance(entries[0], Mapping):
        groups = [dict(entry) for entry in entries]
    known = None if model is None else {id(p): name for name, p in model.named_parameters()}
    names: dict[int, str] = {}
    for group in groups:
        pairs = group["params"]
        group["params"] = [_pair(pair, known) for pair in ([pairs] if isinstance(pairs, Tensor) else pairs)]
        for name, p in group["params"]:
            if id(p) in names:
                raise ValueError(f"{name} is the same parameter as {names[id(p)]}: give it once")
            names[id(p)] = name
    return groups


def _pair(pair: Any, known: Mapping[int, str] | None) -> tuple[str, Tensor]:
    """A parameter with its name."""
    if isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str):
        return pair
    if isinstance(pair, Tensor) and known is not None:
        if id(pair) not in known:
            raise ValueError(f"a parameter of shape {tuple(pair.shape)} has no name, and is none of the model's")
        return known[id(pair)], pair
    raise TypeError(
        "a gauge knows parameters by name: pass model.named_parameters(), or groups of (name, parameter), or "
        "model=model"
    )


Given = Mapping[str, tuple[nn.Parameter, int]]


def bind(gauge: Any, groups: Sequence[Mapping[str, Any]]) -> Found:
    """Find the parameters of every place, decide which gauges are in force, and batch equal places.

    A parameter that was not given counts as frozen.  groups: param groups of a torch optimizer, with names.  Raises
    ValueError where none of the gauge's parameters was given, for wrong shapes and dtypes, and
    places whose parameters are on several devices.
    """
    pairs = [
        (name, (p, i))
        for i, group in enumerate(groups)
        for name, p in zip(group["param_names"], group["params"], strict=True)
    ]
    where = by_name(pairs, gauge.parameters)
    missing = [name for name in gauge.parameters if bare(name) not in where]
    if missing and len(missing) == len(gauge.parameters):
        given = [name for name, _ in pairs]
        raise ValueError(
            f"the gauge moves parameters that the optimizer was not given: {listed(missing)}. It was given "
            f"{listed(given)}; was the gauge compiled of another model?"
        )
    places: dict[int, list[Place]] = {}
    components = {id(component): component for component in gauge.components}
    off: list[str] = []
    for key, component, names in gauge.places():
        place = _place(key, component, names, where)
        off += _frozen(place, component, names, where)
        if any(p.requires_grad for p in place.params.values()):
            places.setdefault(id(component), []).append(place)
    batches = [batch for each, same in places.items() for batch in make(components[each], same)]
    held = {id(p): p.requires_grad for same in places.values() for place in same for p in place.params.values()}
    frozen = frozenset(i for i, trained in held.items() if not trained)
    called = {id(p): name for name, (p, _) in where.items()}
    singular = [text for batch in batches for text in _enlivened(batch, called)]
    return Found(batches, frozenset(held), frozen, off, singular)


def _place(key: str, component: Any, names: Sequence[str], where: Given) -> Place:
    """One place with its parameters, checked."""
    params, groups = {}, {}
    given = [(name, where[bare(name)][0]) for name in names if bare(name) in where]
    _check_together(key, given)
    for (slot, shape), name in zip(component.shapes.items(), names):
        if bare(name) not in where:
            params[slot], groups[slot] = _absent(shape, given), 0
            continue
        p, groups[slot] = where[bare(name)]
        if tuple(p.shape) != tuple(shape):
            raise ValueError(f"{name} has the shape {tuple(p.shape)}, compiled for {shape}")
        if not p.is_floating_point():
            raise ValueError(f"{name} has the dtype {p.dtype}: a gauge moves real floating point parameters")
        params[slot] = p
    frozen = {slot for slot, p in params.items() if not p.requires_grad}
    return Place(key, params, groups, frozenset(name for name, slots in component.moves.items() if frozen & set(slots)))


def _check_together(key: str, given: Sequence[tuple[str, Tensor]]) -> None:
    """Raise ValueError unless the parameters of a place are on one device."""
    devices = {str(p.device) for _, p in given}
    if len(devices) > 1:
        raise ValueError(
            f"parameters of place {key} are on several devices, and step as one: "
            + ", ".join(f"{name} on {p.device}" for name, p in given)
        )


def _absent(shape: Sequence[int], given: Sequence[tuple[str, Tensor]]) -> nn.Parameter:
    """What stands for a parameter that was not given: ones, without memory; all gauges that move it are off."""
    like = given[0][1] if given else torch.empty(0, device="cpu")
    one = torch.ones((), dtype=like.dtype, device=like.device)
    return nn.Parameter(one.expand(tuple(shape)), requires_grad=False)


def _frozen(place: Place, component: Any, names: Sequence[str], where: Given) -> list[str]:
    """Of every gauge that is off at a place, which parameters are frozen, and which were not given."""
    called = dict(zip(component.shapes, names))
    out = []
    for name in sorted(place.off):
        held = [called[slot] for slot in component.moves[name] if not place.params[slot].requires_grad]
        frozen, absent = [n for n in held if bare(n) in where], [n for n in held if bare(n) not in where]
        texts = [f"{', '.join(some)} {word}" for some, word in ((frozen, "frozen"), (absent, "not given")) if some]
        out.append(f"{place.key}.{name}: {', '.join(texts)}")
    return out


def _enlivened(batch: Batch, called: Mapping[int, str]) -> list[str]:
    """Write down which of a batch's units have a canonical form, and return those that have none, in words."""
    batch.live = batch.component.frame(batch.params(), off=batch.off, far=batch.far).live
    return units(batch, {name: ~live for name, live in batch.live.items() if name not in batch.off}, called)
