"""What an optimizer's state dict holds beyond torch's, and how it finds its way back: by names and by the gauge's hash.

A state dict is torch's, with two entries more. "gauge" has for every place its number of steps ("step"), which units
have a canonical form ("live", gauge -> bool [1, copies, size]) and the frame's scales ("scales", float64, or None
before the first step), of the gauges in force. "gauge_hash" says which compiled gauge it belongs to.

What is loaded is checked before anything is changed. Parameters are matched by name, whatever their order; wrappers'
prefixes do not count. Not here: reading and writing files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gaugec.runtime.batch import Batch
from gaugec.runtime.frames import FAR, Frame
from gaugec.runtime.gauge import code_hash
from gaugec.runtime.listed import listed
from gaugec.runtime.names import by_name, plain

if TYPE_CHECKING:
    from gaugec.runtime.optimizer import GaugeOptimizer


def publish(optimizer: GaugeOptimizer) -> None:
    """Show the batches' state under their parameters, as views: torch saves it from there."""
    for batch in optimizer.batches:
        if not batch.state:
            continue
        for slot, params in batch.slots.items():
            for j, p in enumerate(params):
                if p.requires_grad:
                    step = torch.tensor(float(batch.step))
                    optimizer.state[p] = {"step": step, **{name: each[slot][j] for name, each in batch.state.items()}}


def places(batches: Iterable[Batch]) -> dict[str, Any]:
    """What "gauge" holds: copies."""
    return {one.keys[0]: _place(one) for batch in batches for one in batch.parts()}


def _place(one: Batch) -> dict[str, Any]:
    live = {name: value.clone() for name, value in one.live.items() if name not in one.off}
    scales = None if one.frame is None else {name: one.frame.scales[name].clone() for name in live}
    return {"step": one.step, "live": live, "scales": scales}


def arranged(optimizer: GaugeOptimizer, saved: Mapping[str, Any]) -> dict[str, Any]:
    """A state dict with its param groups as this optimizer has them, so that torch may go by position.

    Raises ValueError, with the differences in words, where it is not of an optimizer like this one.
    """
    _check_gauge(optimizer, saved)
    groups = _groups(optimizer, saved)
    state = _by_name(saved)
    wrong = [
        line for batch in optimizer.batches for one in batch.parts() for line in _wrong(optimizer, one, state, saved)
    ]
    wrong += _wrong_plain(optimizer, state)
    if wrong:
        raise ValueError(f"this state does not fit the optimizer: {listed(wrong)}")
    return {**saved, "param_groups": groups}


def adopt(optimizer: GaugeOptimizer, saved: Mapping[str, Any]) -> None:
    """Take over what `arranged` returned and torch has loaded, to the bit: torch casts to the parameters' dtypes."""
    for name, entries in _by_name(saved).items():
        p = optimizer.named[name]
        for entry, value in entries.items():  # none is shared with the optimizer that it was saved of
            if isinstance(value, Tensor):
                exact = id(p) in optimizer.gauged or entry == "step"
                optimizer.state[p][entry] = (value if exact else optimizer.state[p][entry]).to(p.device, copy=True)
        if id(p) in optimizer.gauged and not p.requires_grad:
            optimizer.state.pop(p)
    places, whole = saved["gauge"], []
    for batch in optimizer.batches:
        alike = len({places[key]["step"] for key in batch.keys}) == 1
        whole += [batch] if alike else batch.parts()
    optimizer.batches[:] = whole
    for batch in whole:
        _adopt(optimizer, batch, [places[key] for key in batch.keys])


def _adopt(optimizer: GaugeOptimizer, batch: Batch, here: Sequence[Mapping[str, Any]]) -> None:
    """Give a batch what was saved of its places; a gauge that is off now, and was not, leaves its units alone."""
    batch.step, batch.state, batch.frame = here[0]["step"], {}, None

    def joined(kind: str, name: str, fill: float) -> Tensor:
        if name in batch.off:
            return torch.full_like(batch.live[name], fill, dtype=torch.bool if kind == "live" else torch.float64)
        return torch.cat([place[kind][name] for place in here]).to(batch.device)

    scales = None
    if all(place["scales"] is not None for place in here):
        scales = {name: joined("scales", name, 1.0) for name in batch.live}
    batch.live = {name: joined("live", name, 0.0) for name in batch.live}
    if scales is not None:
        dtype = next(iter(batch.params().values())).dtype
        batch.frame = Frame(scales, off=batch.off, live=batch.live).ready(batch.component.powers, dtype)
    if not batch.step:
        return
    batch.state = optimizer.stepper.begin(batch)
    for name, each in batch.state.items():
        for slot, params in batch.slots.items():
            for j, p in enumerate(params):
                if p.requires_grad:
                    each[slot][j].copy_(optimizer.state[p][name])


# --- what is checked


def _check_gauge(optimizer: GaugeOptimizer, saved: Mapping[str, Any]) -> None:
    mine = code_hash(optimizer.gauge)
    if "gauge" not in saved:
        raise ValueError("this state is not of an optimizer with the same compiled gauge: it has none")
    if not _whole(saved):
        raise ValueError("this state is damaged: it is not what state_dict returns")
    if "gauge_hash" not in saved:
        _check_called(optimizer, saved["gauge"])
        raise ValueError(
            "this state does not say of which compiled gauge it is: it was saved before states said so. If it is of "
            f'this one, and the model is the same, add the word: state_dict["gauge_hash"] = "{mine}"'
        )
    if saved["gauge_hash"] != mine:
        raise ValueError(
            f"this state is of another compiled gauge: its hash is {str(saved['gauge_hash'])[:16]}, this gauge's is "
            f"{mine[:16]}. Load it with the compiled file that it was trained with"
        )
    want, have = {key for batch in optimizer.batches for key in batch.keys}, set(saved["gauge"])
    if want != have:
        differences = [f"no place {key}" for key in sorted(want - have)]
        differences += [f"an unknown place {key}" for key in sorted(have - want)]
        raise ValueError(f"this state does not fit the gauge: it has {listed(differences)}")


def _whole(saved: Mapping[str, Any]) -> bool:
    """Has a state every entry, each of its kind?"""
    places, groups, state = (saved.get(name) for name in ("gauge", "param_groups", "state"))
    if not (isinstance(places, Mapping) and isinstance(state, Mapping) and isinstance(groups, list)):
        return False
    for place in places.values():
        if not isinstance(place, Mapping) or set(place) != {"step", "live", "scales"}:
            return False
        step, live, scales = place["step"], place["live"], place["scales"]
        if not isinstance(step, int) or step < 0 or (step and scales is None):
            return False
        if not _tensors(live, torch.bool) or not (scales is None or _tensors(scales, torch.float64)):
            return False
    return all(len(group.get("param_names", group["params"])) == len(group["params"]) for group in groups)


def _tensors(values: Any, dtype: torch.dtype) -> bool:
    return isinstance(values, Mapping) and all(isinstance(x, Tensor) and x.dtype == dtype for x in values.values())


def _check_called(optimizer: GaugeOptimizer, places: Mapping[str, Any]) -> None:
    """Releases that did not write the hash of the gauge called the gauges of a place otherwise."""
    for batch in optimizer.batches:
        for key in batch.keys:
            if key in places and not set(places[key]["live"]) <= set(batch.live):
                raise ValueError(
                    f"this state is of an earlier release, which called the gauges of place {key} "
                    f"{', '.join(places[key]['live'])} and not {', '.join(batch.live)}: it cannot be taken over; "
                    "load the parameters and begin with a new optimizer"
                )


def _groups(optimizer: GaugeOptimizer, saved: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The saved groups with their parameters in this optimizer's order and by its names.

    Settings go by group. Where the parameters are divided among groups in another way, that has a meaning only if all
    saved groups have the same settings.
    """
    theirs = saved["param_groups"]
    if not all("param_names" in group for group in theirs):
        raise ValueError("this state has no names of parameters: it cannot be matched to the optimizer's")
    numbers = by_name(
        (name, i) for group in theirs for name, i in zip(group["param_names"], group["params"], strict=True)
    )
    differences = [f"no {name}" for name in optimizer.named if name not in numbers]
    differences += [f"{name}, which the optimizer was not given" for name in numbers if name not in optimizer.named]
    if differences:
        raise ValueError(f"this state has other parameters: it has {listed(differences)}")
    settings = [
        {key: value for key, value in group.items() if key not in ("params", "param_names")} for group in theirs
    ]
    if any(each != settings[0] for each in settings):
        _check_division(optimizer, theirs)
    else:
        settings = settings[:1] * len(optimizer.param_groups)
    return [
        {**each, "params": [numbers[plain(name)] for name in group["param_names"]], "param_names": group["param_names"]}
        for each, group in zip(settings, optimizer.param_groups, strict=True)
    ]


def _check_division(optimizer: GaugeOptimizer, theirs: Sequence[Mapping[str, Any]]) -> None:
    before = {plain(name): i for i, group in enumerate(theirs) for name in group["param_names"]}
    now = {plain(name): i for i, group in enumerate(optimizer.param_groups) for name in group["param_names"]}
    differences = [
        f"{name} is in group {now[name]}, was in {before[name]}" for name in now if now[name] != before[name]
    ]
    if not differences and len(theirs) != len(optimizer.param_groups):
        differences = [f"{len(optimizer.param_groups)} groups, were {len(theirs)}"]
    if differences:
        raise ValueError(
            "the saved groups have different settings, and the parameters are divided among them in another way: "
            + listed(differences)
        )


def _wrong(
    optimizer: GaugeOptimizer, one: Batch, state: Mapping[str, Mapping[str, Any]], saved: Mapping[str, Any]
) -> list[str]:
    """What does not fit at one place."""
    (key,), place = one.keys, saved["gauge"][one.keys[0]]
    out = []
    scales = place["live"] if place["scales"] is None else place["scales"]
    for name, live in one.live.items():
        if name in one.off:
            continue
        if name not in place["live"] or name not in scales:
            out.append(f"the gauge {key}.{name} was off when the state was saved, and is in force now")
        elif place["live"][name].shape != live.shape or scales[name].shape != live.shape:
            out.append(f"the gauge {key}.{name} has other sizes")
        elif place["scales"] is not None and not bool(((scales[name] >= 1 / FAR) & (scales[name] <= FAR)).all()):
            out.append(f"the gauge {key}.{name} has scales that are no numbers between {1 / FAR:g} and {FAR:g}")
    if not place["step"]:
        return out
    want = optimizer.stepper.begin(one)
    for slot, (p,) in one.slots.items():
        if p.requires_grad:
            shapes = {name: each[slot].shape[1:] for name, each in want.items()}
            out += _misshapen(optimizer.called[id(p)], state.get(optimizer.called[id(p)]), shapes)
    return out


def _wrong_plain(optimizer: GaugeOptimizer, state: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What does not fit of the parameters that no gauge moves; one that never had a gradient has no state."""
    out = []
    for name, entries in state.items():
        p = optimizer.named[name]
        if entries and id(p) not in optimizer.gauged:
            out += _misshapen(name, entries, dict.fromkeys(optimizer.stepper.rule.state, p.shape))
    return out


def _misshapen(name: str, entries: Mapping[str, Any] | None, shapes: Mapping[str, torch.Size]) -> list[str]:
    if entries is None:
        return [f"{name} has no state: it was frozen when the state was saved"]
    if not all(isinstance(entry, Tensor) for entry in entries.values()):
        return [f"{name} has entries that are no tensors"]
    if set(entries) != {"step", *shapes}:
        return [f"{name} has {', '.join(sorted(entries))}, and not {', '.join(sorted({'step', *shapes}))}"]
    return [
        f"{name}: {entry} has the shape {tuple(entries[entry].shape)}, here {tuple(shape)}; "
        "was it saved with another `pooling`, or of another model?"
        for entry, shape in shapes.items()
        if entries[entry].shape != shape
    ]


def _by_name(saved: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The saved state of every parameter that has one, by plain name."""
    return {
        plain(name): saved["state"][i]
        for group in saved["param_groups"]
        for name, i in zip(group["param_names"], group["params"])
        if i in saved["state"]
    }
