"""From a gauge's places to an optimizer's batches: which parameters are meant, and which gauges are in force.

Not here: what a step does, saved state.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from gaugec.runtime.batch import Batch, Place, make
from gaugec.runtime.names import by_name, plain
from gaugec.runtime.watch import units

Groups = Iterable[tuple[str, Tensor]] | Iterable[Mapping[str, Any]]


class Found(NamedTuple):
    """What was found.

    gauged: ids of the parameters that a gauge moves.  off: gauges that would move frozen parameters, one text each.
    singular: gauges with units that have no canonical form, "place.gauge: number in parameters".
    """

    batches: list[Batch]
    gauged: frozenset[int]
    off: list[str]
    singular: list[str]


def named(named_parameters: Groups) -> list[dict[str, Any]]:
    """Param groups of (name, parameter) pairs, whatever form they came in.

    Raises TypeError for parameters without names, ValueError for none at all or one given twice.
    """
    entries: list[Any] = list(named_parameters)
    if not entries:
        raise ValueError("the optimizer was given no parameters")
    groups: list[dict[str, Any]] = [{"params": entries}]
    if isinstance(entries[0], Mapping):
        groups = [dict(entry) for entry in entries]
    names: dict[int, str] = {}
    for group in groups:
        pairs = group["params"]
        pairs = list(pairs) if not isinstance(pairs, Tensor) else [pairs]
        for pair in pairs:
            if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str)):
                raise TypeError(
                    "a gauge knows parameters by name: pass model.named_parameters(), or groups of (name, parameter)"
                )
            name, p = pair
            if id(p) in names:
                raise ValueError(f"{name} is the same parameter as {names[id(p)]}: give it once")
            names[id(p)] = name
        group["params"] = pairs
    return groups


def bind(gauge: Any, groups: Sequence[Mapping[str, Any]]) -> Found:
    """Find the parameters of every place, decide which gauges are in force, and batch equal places.

    groups: param groups of a torch optimizer, with names.  Raises ValueError for missing parameters and wrong shapes or
    dtypes.
    """
    where = by_name(
        (name, (p, i))
        for i, group in enumerate(groups)
        for name, p in zip(group["param_names"], group["params"], strict=True)
    )
    missing = [name for name in gauge.parameters if plain(name) not in where]
    if missing:
        raise ValueError(f"the gauge moves parameters that the optimizer was not given: {', '.join(missing[:20])}")
    places: dict[int, list[Place]] = {}
    components = {id(component): component for component in gauge.components}
    off: list[str] = []
    for key, component, names in gauge.places():
        place = _place(key, component, names, where)
        places.setdefault(id(component), []).append(place)
        off += _frozen(place, component, names)
    batches = [batch for each, same in places.items() for batch in make(components[each], same)]
    gauged = frozenset(id(p) for same in places.values() for place in same for p in place.params.values())
    called = {id(p): name for group in groups for name, p in zip(group["param_names"], group["params"])}
    return Found(batches, gauged, off, [text for batch in batches for text in _enlivened(batch, called)])


def _place(key: str, component: Any, names: Sequence[str], where: Mapping[str, tuple[nn.Parameter, int]]) -> Place:
    """One place with its parameters, checked."""
    params, groups = {}, {}
    for (slot, shape), name in zip(component.shapes.items(), names):
        p, groups[slot] = where[plain(name)]
        if tuple(p.shape) != tuple(shape):
            raise ValueError(f"{name} has the shape {tuple(p.shape)}, compiled for {shape}")
        if not p.is_floating_point():
            raise ValueError(f"{name} has the dtype {p.dtype}: a gauge moves real floating point parameters")
        params[slot] = p
    frozen = {slot for slot, p in params.items() if not p.requires_grad}
    return Place(key, params, groups, frozenset(name for name, slots in component.moves.items() if frozen & set(slots)))


def _frozen(place: Place, component: Any, names: Sequence[str]) -> list[str]:
    """Of every gauge that is off at a place, which parameters are frozen."""
    called = dict(zip(component.shapes, names))
    out = []
    for name in sorted(place.off):
        frozen = [called[slot] for slot in component.moves[name] if not place.params[slot].requires_grad]
        out.append(f"{place.key}.{name}: {', '.join(frozen)} frozen")
    return out


def _enlivened(batch: Batch, called: Mapping[int, str]) -> list[str]:
    """Write down which of a batch's units have a canonical form, and return those that have none, in words."""
    batch.live = batch.component.frame(batch.params(), off=batch.off, far=batch.far).live
    return units(batch, {name: ~live for name, live in batch.live.items() if name not in batch.off}, called)
