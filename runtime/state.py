"""An optimizer's state as torch keeps it: by parameter, in `optimizer.state`, under names and with the gauge's hash.

A parameter that a gauge moves has "step" and what the rule keeps, as views of what is stepped: an edit is seen at the
next step, and what is taken away begins anew. The first of a place that is trained has "gauge" beside it: for every
gauge in force "live", bool [copies, size], where units have a canonical form; of a scale "scale", float64, the frame,
of matrices [copies, size, size], with "live" [copies, 1]; of a shift "home", where its orbit is pinned to: as they were
when a state dict was asked for last. Param groups have "gauge_hash", which compiled gauge it is of.

What is loaded is checked before anything is changed. Parameters are matched by name, whatever their order; wrappers'
prefixes do not count. A state of torch.optim.AdamW is brought to the coordinates of the gauge. Not here: files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gaugec.runtime import elements, multipliers, shards
from gaugec.runtime.batch import Batch, stepped
from gaugec.runtime.frames import FAR, Frame
from gaugec.runtime.listed import listed
from gaugec.runtime.names import by_name

if TYPE_CHECKING:
    from gaugec.runtime.optimizer import GaugeOptimizer

HASH = "gauge_hash"
Saved = Mapping[str, Any]


# --- what is shown of a batch


def publish(optimizer: GaugeOptimizer, batch: Batch) -> None:
    """Show a batch's state under its parameters, as views."""
    batch.count = torch.tensor(float(batch.step), device="cpu")  # whatever torch takes by default: it is read each step
    batch.shown = []
    for slot, params in batch.slots.items():
        for j, p in enumerate(params):
            if batch.trainable(slot):
                kept = optimizer.stepper.kept(batch, slot, optimizer.param_groups)
                views = {
                    name: shards.shown(batch.state[name][slot][j], here, shape) for name, (shape, here) in kept.items()
                }
                optimizer.state[p] = {"step": batch.count, **views}
                batch.shown.append((p, views))
    if batch.frame is not None:  # who flattens states asks for the entries that there are
        _show_places(optimizer, batch)


def refresh(optimizer: GaugeOptimizer, batch: Batch) -> None:
    """Take over what was done to `optimizer.state` since the last step; ValueError where it no longer fits."""
    if not batch.state:
        return
    if not batch.shown:
        publish(optimizer, batch)
        return
    entries = [(p, views, optimizer.state.get(p)) for p, views in batch.shown]
    if all(
        entry is not None and entry.get("step") is batch.count and all(entry.get(n) is x for n, x in views.items())
        for p, views, entry in entries
    ):
        batch.step = int(batch.count)
        return
    if not any(entry for _, _, entry in entries):
        batch.begin_anew()
        return
    steps = {int(entry["step"]) for _, _, entry in entries if entry and "step" in entry}
    if len(steps) != 1:
        raise ValueError(f"optimizer.state has different numbers of steps at {', '.join(batch.keys)}: they step as one")
    (batch.step,) = steps
    for p, views, entry in entries:
        for name, view in views.items():
            given = (entry or {}).get(name)
            if given is None:
                view.zero_()
            elif given.shape != view.shape:
                raise ValueError(
                    f"optimizer.state of {optimizer.called[id(p)]}: {name} has the shape {tuple(given.shape)}, "
                    f"not {tuple(view.shape)}"
                )
            elif given is not view:
                shards.fill(view, given)
    publish(optimizer, batch)


def complete(optimizer: GaugeOptimizer) -> None:
    """Show beside the state what belongs to the places: frames, and where orbits are pinned to; copies."""
    for batch in optimizer.batches:
        refresh(optimizer, batch)
        if batch.state:
            _show_places(optimizer, batch)


def _show_places(optimizer: GaugeOptimizer, batch: Batch) -> None:
    for one in batch.parts():
        first = next((p for slot, (p,) in one.slots.items() if one.trainable(slot)), None)
        if first is not None:
            optimizer.state[first]["gauge"] = _place(one)


def _place(one: Batch) -> dict[str, dict[str, Tensor]]:
    out: dict[str, dict[str, Tensor]] = {}
    assert one.frame is not None
    for name, live in one.live.items():
        if name not in one.off:
            out[name] = {"live": live[0].clone(), "scale": one.frame.scales[name][0].clone()}
    for name, home in (one.homes or {}).items():
        out[name] = {"home": home[0].clone()}
    return out


# --- what is loaded


def arranged(optimizer: GaugeOptimizer, saved: Saved) -> dict[str, Any]:
    """A state dict with its param groups as this optimizer has them, so that torch may go by position.

    Raises ValueError, with the differences in words, where it is not of an optimizer like this one.
    """
    if not _whole(saved):
        raise ValueError("this state is damaged: it is not what state_dict returns")
    hashes = {str(group[HASH]) for group in saved["param_groups"] if HASH in group}
    mine = optimizer.defaults[HASH]
    if hashes - {mine}:
        raise ValueError(
            f"this state is of another compiled gauge: its hash is {min(hashes - {mine})[:16]}, this gauge's is "
            f"{mine[:16]}. Load it with the compiled file that it was trained with"
        )
    out = {**saved, "param_groups": _groups(optimizer, saved)}
    if not hashes:
        out["state"] = _converted(optimizer, out)
    state = _by_name(optimizer, out)
    wrong = [line for batch in optimizer.batches for one in batch.parts() for line in _wrong(optimizer, one, state)]
    wrong += _wrong_plain(optimizer, state)
    if wrong:
        raise ValueError(f"this state does not fit the optimizer: {listed(wrong)}")
    return out


def adopt(optimizer: GaugeOptimizer, saved: Saved) -> None:
    """Take over what `arranged` returned and torch has loaded, to the bit: torch casts to the parameters' dtypes."""
    state = _by_name(optimizer, saved)
    for name, entries in state.items():
        p = optimizer.named[name]
        if id(p) in optimizer.gauged:
            optimizer.state.pop(p, None)
            continue
        for entry, value in entries.items():  # none is shared with the optimizer that it was saved of
            if isinstance(value, Tensor):
                exact = value if entry == "step" else optimizer.state[p][entry]
                optimizer.state[p][entry] = exact.to(p.device, copy=True)
    whole = []
    for batch in optimizer.batches:
        parts = batch.parts()
        alike = len({(_step(optimizer, one, state), bool(_kept(optimizer, one, state))) for one in parts}) == 1
        whole += [batch] if alike else parts
    optimizer.batches[:] = whole
    for batch in whole:
        _adopt(optimizer, batch, state)


def _adopt(optimizer: GaugeOptimizer, batch: Batch, state: Mapping[str, Saved]) -> None:
    """Give a batch what was saved of its places; a gauge that is off now, and was not, leaves its units alone."""
    parts = batch.parts()
    batch.begin_anew()
    batch.step = _step(optimizer, parts[0], state)
    if not batch.step:
        return
    here = [_kept(optimizer, one, state) for one in parts]

    def joined(name: str, entry: str, like: Tensor) -> Tensor:
        return torch.stack([place[name][entry] for place in here]).to(like.device, like.dtype, copy=True)

    if all(here) or not batch.live:
        scales = {}
        for name, live in batch.live.items():
            one = elements.identity(*batch.component.elements[name]).to(live.device)
            scales[name] = one.expand(len(here), *one.shape[1:]) if name in batch.off else joined(name, "scale", one)
            batch.live[name] = torch.zeros_like(live) if name in batch.off else joined(name, "live", live)
        dtype = stepped(next(iter(batch.slots.values()))[0].dtype)
        batch.frame = Frame(scales, off=batch.off, live=dict(batch.live)).ready(batch.component.powers, dtype)
        homes = [g.name for g in batch.component.gauges if g.kind == "shift" and g.name not in batch.off]
        like = torch.empty(0, dtype=torch.float64, device=batch.device)
        if all(name in place for place in here for name in homes):
            batch.homes = {name: joined(name, "home", like) for name in homes}
    batch.state = optimizer.stepper.begin(batch, optimizer.param_groups)
    publish(optimizer, batch)
    for p, views in batch.shown:
        for name, view in views.items():
            shards.fill(view, state[optimizer.called[id(p)]][name])


def _step(optimizer: GaugeOptimizer, one: Batch, state: Mapping[str, Saved]) -> int:
    """The number of steps that a place has taken."""
    steps = [int(state[name]["step"]) for name in _names(optimizer, one) if name in state]
    return steps[0] if steps else 0


def _kept(optimizer: GaugeOptimizer, one: Batch, state: Mapping[str, Saved]) -> dict[str, Saved]:
    """What was saved of a place, gauge by gauge."""
    return {k: v for name in _names(optimizer, one) for k, v in state.get(name, {}).get("gauge", {}).items()}


def _names(optimizer: GaugeOptimizer, one: Batch) -> Iterator[str]:
    for (p,) in one.slots.values():
        if id(p) in optimizer.called:  # it was given
            yield optimizer.called[id(p)]


# --- states of torch.optim


def _converted(optimizer: GaugeOptimizer, saved: Saved) -> dict[Any, Saved]:
    """The state of a plain optimizer in the coordinates of the gauge, at the parameters as they are now.

    A first moment is a gradient, a second one the square of one: pulled, it is multiplied by the squares of what a
    gradient is multiplied by, and averaged where it is pooled.
    """
    state: dict[Any, Saved] = dict(saved["state"])
    numbers = _numbers(optimizer, saved["param_groups"])
    for batch in optimizer.batches:
        for one in batch.parts():
            params = {optimizer.called[id(p)]: (slot, p) for slot, (p,) in one.slots.items() if one.trainable(slot)}
            found = {slot: state.get(numbers[name], {}) for name, (slot, _) in params.items()}
            if not any(found.values()):
                continue
            rules = {slot: optimizer.rule_of(optimizer.param_groups[one.groups[slot]]) for slot in found}
            for slot, entries in found.items():
                (p,) = one.slots[slot]
                _check_foreign(optimizer.called[id(p)], p, entries, rules[slot].state)
            values = one.params()
            gains = one.component.gained(values, one.held)
            frame = one.component.frame(values, off=one.off, far=one.far, gains=gains)
            one.live, one.frame = frame.live, frame
            place: dict[str, Any] = {"gauge": _place(one)}
            for name, (slot, p) in params.items():
                made = {}
                for entry, pooled in rules[slot].state.items():
                    value = shards.full(found[slot][entry]).to(stepped(p.dtype))[None].contiguous()
                    values = one.component.pull({slot: value}, frame.squared() if pooled else frame)
                    if pooled and optimizer.stepper.pooling:
                        values = one.component.pool(dict(values))
                    made[entry] = values[slot][0]
                state[numbers[name]] = {"step": found[slot]["step"], **made, **place}
                place = {}
    return state


# --- what is checked


def _check_foreign(name: str, p: Tensor, entries: Saved, kept: Mapping[str, bool]) -> None:
    """Raise ValueError where the entries of an optimizer of torch are not those that are kept here, of p's shape."""
    for entry in kept:
        value = entries.get(entry)
        if not isinstance(value, Tensor) or value.shape != p.shape:
            raise ValueError(
                "this state is not of an optimizer with the same compiled gauge, it has none; and "
                f"{name} has no {entry} of its shape, so that it cannot be taken over as the state of one of torch"
            )
    more = sorted({str(entry) for entry in entries} - {"step", *kept})
    if more:
        raise ValueError(
            f"this state has {', '.join(more)} of {name}, which is not kept here (amsgrad=True keeps max_exp_avg_sq): "
            "take it out of the state's entries to go on without"
        )


def _whole(saved: Saved) -> bool:
    """Has a state every entry, each of its kind?"""
    groups, state = saved.get("param_groups"), saved.get("state")
    if not (isinstance(state, Mapping) and isinstance(groups, list) and all(isinstance(g, Mapping) for g in groups)):
        return False
    if not all(isinstance(entries, Mapping) and _entire(entries) for entries in state.values()):
        return False
    return all(
        isinstance(group.get("params"), (list, tuple))
        and len(group.get("param_names", group["params"])) == len(group["params"])
        for group in groups
    )


def _entire(entries: Saved) -> bool:
    place = entries.get("gauge", {})
    if not isinstance(place, Mapping) or not all(isinstance(each, Mapping) for each in place.values()):
        return False
    step = entries.get("step", 0)
    if not isinstance(step, (int, float, Tensor)) or (isinstance(step, Tensor) and step.numel() != 1) or step < 0:
        return False
    return all(
        set(each) in ({"live", "scale"}, {"home"}) and all(isinstance(x, Tensor) for x in each.values())
        for each in place.values()
    )


def _groups(optimizer: GaugeOptimizer, saved: Saved) -> list[dict[str, Any]]:
    """The saved groups with their parameters in this optimizer's order and by its names.

    Settings go by group. Where the parameters are divided among groups in another way, that has a meaning only if all
    saved groups have the same settings. A state without names, of an optimizer that was given none, goes by position.
    """
    theirs = _with_names(optimizer, saved)
    numbers = _numbers(optimizer, theirs)
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
    steps = [
        f"group {i} has the step {group['step']!r}, was {each['step']!r}"
        for i, (each, group) in enumerate(zip(settings, optimizer.param_groups, strict=True))
        if "step" in each and "step" in group and each["step"] != group["step"]
    ]
    if steps:
        raise ValueError(f"the saved groups take other steps than the optimizer's: {listed(steps)}")
    known = optimizer.defaults
    return [
        {
            **{key: value for key, value in group.items() if key in known},
            **{key: value for key, value in each.items() if key in known or key in group},
            HASH: known[HASH],
            "params": [numbers[optimizer.called[id(p)]] for p in group["params"]],
            "param_names": group["param_names"],
        }
        for each, group in zip(settings, optimizer.param_groups, strict=True)
    ]


def _with_names(optimizer: GaugeOptimizer, saved: Saved) -> Sequence[Saved]:
    theirs = saved["param_groups"]
    if all("param_names" in group for group in theirs):
        return list(theirs)
    mine = optimizer.param_groups
    if any(HASH in group for group in theirs) or [len(g["params"]) for g in theirs] != [len(g["params"]) for g in mine]:
        raise ValueError("this state has no names of parameters: it cannot be matched to the optimizer's")
    return [{**group, "param_names": own["param_names"]} for group, own in zip(theirs, mine)]


def _check_division(optimizer: GaugeOptimizer, theirs: Sequence[Saved]) -> None:
    which = {number: i for i, group in enumerate(theirs) for number in group["params"]}
    before = {name: which[number] for name, number in _numbers(optimizer, theirs).items()}
    now = {optimizer.called[id(p)]: i for i, group in enumerate(optimizer.param_groups) for p in group["params"]}
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


def _wrong(optimizer: GaugeOptimizer, one: Batch, state: Mapping[str, Saved]) -> list[str]:
    """What does not fit at one place."""
    trained = {optimizer.called[id(p)]: slot for slot, (p,) in one.slots.items() if one.trainable(slot)}
    steps = {int(state[name]["step"]) for name in trained if name in state and "step" in state[name]}
    if len(steps) > 1:
        return [f"place {one.keys[0]} has different numbers of steps: {', '.join(map(str, sorted(steps)))}"]
    if not steps or steps == {0}:
        return []
    out, place = [], _kept(optimizer, one, state)
    for name, live in one.live.items():
        if name in one.off:
            continue
        if name not in place:
            out.append(f"the gauge {one.keys[0]}.{name} was off when the state was saved, and is in force now")
        elif any(place[name].get(each, live[0, :0]).shape != shape for each, shape in _shapes(one, name).items()):
            out.append(f"the gauge {one.keys[0]}.{name} has other sizes")
        elif not multipliers.sound(place[name]["scale"][None], FAR):
            what = f"scales that are no numbers between {1 / FAR:g} and {FAR:g}"
            if one.component.by_name[name].mixes:
                what = f"matrices with entries, or those of their inverses, beyond {FAR:g}"
            out.append(f"the gauge {one.keys[0]}.{name} has {what}")
    for gauge in one.component.gauges:
        home = place.get(gauge.name, {}).get("home")
        if home is not None and tuple(home.shape) != (gauge.copies, gauge.size):
            out.append(f"the gauge {one.keys[0]}.{gauge.name} has other sizes")
    for name, slot in trained.items():
        kept = optimizer.stepper.kept(one, slot, optimizer.param_groups)
        shapes = {entry: shape for entry, (shape, _) in kept.items()}
        out += _misshapen(optimizer.called[id(one.slots[slot][0])], state.get(name), shapes)
    return out


def _shapes(one: Batch, name: str) -> dict[str, tuple[int, ...]]:
    """What is saved of a gauge with a frame, and its shape."""
    identity = elements.identity(*one.component.elements[name])
    return {"live": tuple(one.live[name].shape[1:]), "scale": tuple(identity.shape[1:])}


def _wrong_plain(optimizer: GaugeOptimizer, state: Mapping[str, Saved]) -> list[str]:
    """What does not fit of the parameters that no gauge moves; one that never had a gradient has no state."""
    out = []
    rules = {id(p): optimizer.rule_of(group) for group in optimizer.param_groups for p in group["params"]}
    for name, entries in state.items():
        p = optimizer.named[name]
        if entries and id(p) not in optimizer.gauged:
            out += _misshapen(name, entries, dict.fromkeys(rules[id(p)].state, p.shape))
    return out


def _misshapen(name: str, entries: Saved | None, shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    if entries is None:
        return [f"{name} has no state: it was frozen when the state was saved"]
    entries = {key: value for key, value in entries.items() if key != "gauge"}
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


def _numbers(optimizer: GaugeOptimizer, groups: Sequence[Saved]) -> dict[str, Any]:
    """By the optimizer's names, the numbers under which param groups have parameters."""
    pairs = ((n, i) for group in groups for n, i in zip(group["param_names"], group["params"], strict=True))
    return by_name(pairs, optimizer.named)


def _by_name(optimizer: GaugeOptimizer, saved: Saved) -> dict[str, Saved]:
    """The saved state of every parameter that has one, by the optimizer's names."""
    numbers = _numbers(optimizer, saved["param_groups"])
    return {name: saved["state"][i] for name, i in numbers.items() if i in saved["state"]}
