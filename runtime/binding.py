"""From a gauge's places to an optimizer's batches: which parameters are meant, and which gauges are in force.

Not here: what a step does, saved state.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gaugec.runtime import shards
from gaugec.runtime.batch import Batch, Place, make
from gaugec.runtime.held import alive
from gaugec.runtime.listed import listed
from gaugec.runtime.names import bare, by_name
from gaugec.runtime.watch import units

ZERO = "has entries that are 0"
Groups = Iterable[tuple[str, Tensor]] | Iterable[Mapping[str, Any]]


class Found(NamedTuple):
    """What was found.

    gauged: ids of the parameters that a gauge moves; frozen: of those that are not trained; held: of those that charts
    read, which are not stepped, and whether that is so of a part only.  off: gauges that would move parameters that are
    frozen or were not given, or that read gains which are zero, one text each.
    singular: gauges with units that have no canonical form, "place.gauge: number in parameters".  zero: whether gains
    that are zero keep a gauge from being in force.
    """

    batches: list[Batch]
    gauged: frozenset[int]
    frozen: frozenset[int]
    held: dict[int, bool]
    off: list[str]
    singular: list[str]
    zero: bool


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
    wide: dict[str, list[str]] = {}  # gauges of the whole model -> what keeps them from being in force
    for key, component, names in gauge.places():
        place, broken = _place(key, component, names, where)
        off += _frozen(place, component, names, where, broken)
        for action in component.wide:
            wide.setdefault(action.name, []).extend(_reasons(place, component, names, where, broken, action.name))
        if any(p.requires_grad and slot not in _standing(component, place.held) for slot, p in place.params.items()):
            places.setdefault(id(component), []).append(place)
    off += [f"{name}: {listed(list(dict.fromkeys(texts)))}" for name, texts in wide.items() if texts]
    batches = [batch for each, same in places.items() for batch in make(components[each], same)]
    trained = {id(p): p.requires_grad for same in places.values() for place in same for p in place.params.values()}
    frozen = frozenset(i for i, each in trained.items() if not each)
    held = {
        id(place.params[slot]): slot in components[each].partly
        for each, same in places.items()
        for place in same
        for slot in place.held
    }
    called = {id(p): name for name, (p, _) in where.items()}
    singular = [text for batch in batches for text in _enlivened(batch, called)]
    for batch in batches:
        _check_sums(batch, called)
    zero = any(ZERO in text for text in off)
    return Found(batches, frozenset(trained), frozen, held, off, singular, zero)


def _place(key: str, component: Any, names: Sequence[str], where: Given) -> tuple[Place, dict[str, str]]:
    """One place with its parameters, checked; and of slots that a chart reads and that are not held, why."""
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
    called = dict(zip(component.shapes, names))
    held, broken = _held(component, params, {slot for slot in called if bare(called[slot]) not in where}, called)
    frozen = {slot for slot, p in params.items() if not p.requires_grad} - _standing(component, held)
    lost = {name for slot in broken for name in component.holds[slot]}
    off = {name for name in component.elements if name in lost or frozen & set(component.moves[name])}
    return Place(key, params, groups, frozenset(off), frozenset(held)), broken


def _standing(component: Any, held: Collection[str]) -> set[str]:
    """The slots of which all is held."""
    return {*held} - {*component.partly}


def _held(
    component: Any, params: Mapping[str, nn.Parameter], absent: Collection[str], called: Mapping[str, str]
) -> tuple[set[str], dict[str, str]]:
    """The slots of a place that are held; and those that a chart reads and that are not, each with the reason.

    What reads it is stepped in coordinates that are only right if all of that can be.
    """
    held, broken = set(component.holds), dict[str, str]()
    for each in component.gains:
        if each.gain in absent:
            broken[each.gain] = f"{called[each.gain]} not given"
        elif not alive(params[each.gain], each.plus):
            broken[each.gain] = f"{called[each.gain]} {ZERO}"
    broken |= {each.bias: f"{called[each.bias]} not given" for each in component.sums if each.bias in absent}
    while True:
        held -= set(broken)
        for each in (*component.gains, *component.sums):
            (read,) = each.reads
            if read in held and each.slot not in _standing(component, held) and not params[each.slot].requires_grad:
                word = "not given" if each.slot in absent else "frozen"
                broken[read] = f"{called[each.slot]} {word}"
        if not held & set(broken):
            return held, broken


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


def _frozen(
    place: Place, component: Any, names: Sequence[str], where: Given, broken: Mapping[str, str]
) -> list[str]:
    """Of every gauge that is off at a place, which parameters are frozen, and which were not given."""
    return [
        f"{place.key}.{name}: {', '.join(_reasons(place, component, names, where, broken, name))}"
        for name in sorted(place.off)
    ]


def _reasons(
    place: Place, component: Any, names: Sequence[str], where: Given, broken: Mapping[str, str], name: str
) -> list[str]:
    """Why a gauge is off at a place."""
    called = dict(zip(component.shapes, names))
    held = [
        called[slot]
        for slot in component.moves[name]
        if not place.params[slot].requires_grad and slot not in _standing(component, place.held)
    ]
    frozen, absent = [n for n in held if bare(n) in where], [n for n in held if bare(n) not in where]
    texts = [f"{', '.join(some)} {word}" for some, word in ((frozen, "frozen"), (absent, "not given")) if some]
    whole = ", ".join(texts)
    return texts + [why for slot, why in broken.items() if name in component.holds[slot] and why not in whole]


def _check_sums(batch: Batch, called: Mapping[int, str]) -> None:
    """Raise ValueError where parameters of which a process has a part are to be stepped with what is added to them."""
    batch.read()
    split = [p for params in batch.slots.values() for p in params if shards.is_distributed(p)]
    read = [each.bias for each in batch.sums or ()] + sorted(batch.held & {*batch.component.partly})
    if read and split:
        biases = [called[id(p)] for slot in read for p in batch.slots[slot]]
        raise ValueError(
            f"{listed(list(dict.fromkeys(biases)))} are held and not zero, or held in part, beside parameters of which "
            "a process has a part. Use DDP, or leave the gauges out of the spec that move these biases"
        )


def _enlivened(batch: Batch, called: Mapping[int, str]) -> list[str]:
    """Write down which of a batch's units have a canonical form, and return those that have none, in words."""
    values = batch.params()
    gains = batch.component.gained(values, batch.held)
    batch.live = batch.component.frame(values, off=batch.off, far=batch.far, gains=gains).live
    return units(batch, {name: ~live for name, live in batch.live.items() if name not in batch.off}, called)
