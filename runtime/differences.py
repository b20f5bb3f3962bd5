"""What is otherwise than a compile assumed: a model and its inputs held against the record of a certificate.

Not here: the form of the record (see `assumed`), and how values are looked up and told (see `holders`, `told`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MethodType
from typing import Any

from torch import Tensor, nn

from gaugec.runtime.assumed import ENVIRONMENT, EVERY, OR_LEFT_OUT
from gaugec.runtime.holders import MADE, NAMES, holders, lookup, parts, resolved
from gaugec.runtime.inputs import inputs
from gaugec.runtime.names import bare, by_name, plain
from gaugec.runtime.ranges import fold
from gaugec.runtime.told import MISSING, alike, facts, told, variable


@dataclass(frozen=True)
class Holds:
    """Whether what a compile assumed still holds: true where nothing differs.

    differences: what differs, a sentence each; to go through it is to go through them.
    """

    differences: tuple[str, ...]

    def __bool__(self) -> bool:
        return not self.differences

    def __iter__(self) -> Iterator[str]:
        return iter(self.differences)

    def __str__(self) -> str:
        return "\n".join(self.differences) or "all that was assumed holds"


def differences(
    whole: Mapping[str, Any],
    model: nn.Module,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    evaluated: bool = False,
) -> list[str]:
    """What is otherwise than a certificate (unfolded) says that it was, a sentence each; none where all holds.

    args, kwargs: None where only the model is looked at.  evaluated: a model that is in eval mode as a whole is taken
    as one that will be put into train mode, and its modes are not compared.

    Raises TypeError for what is no module.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"the model is a {type(model).__name__}, not a torch.nn.Module")
    record = whole["assumed"]
    rows = list(record["settings"])
    model = _meant(model, rows)
    modes = [row for row in rows if row[1] == "training"]
    found = _parameters(whole, model)
    if not model.training and (EVERY, "training", "False") not in modes and ("", "training", "False") not in modes:
        found += [] if evaluated else ["the model is in eval mode, and was compiled as model.train() makes it"]
        rows = [row for row in rows if row[1] != "training"]
    found += _parts(record, model)
    found += _settings(rows, model)
    found += _globals(record, model)
    found += _frozen(record, model)
    if args is not None or kwargs is not None:
        found += _inputs(record, model, args or (), kwargs or {})
    return found


def _meant(model: nn.Module, rows: Iterable[tuple[str, str, str]]) -> nn.Module:
    """The model that was compiled: itself, or what the wrappers around it hold."""
    forward = next((value for owner, name, value in rows if (owner, name) == ("", "forward")), None)
    each: nn.Module | None = model
    while each is not None:
        if alike(told(lookup(each, "forward")), forward or ""):
            return each
        children = dict(each.named_children())
        (child,) = children.items() if len(children) == 1 else [("", None)]
        each = child[1] if child[0] in ("module", "_orig_mod") else None
    return model


def _parameters(whole: Mapping[str, Any], model: nn.Module) -> list[str]:
    now = by_name(model.named_parameters(remove_duplicate=False), [*whole["parameters"], *whole["tied"]])
    then = {bare(name): shape for name, shape in whole["parameters"].items()}
    tied = {bare(name): bare(other) for name, other in whole["tied"].items()}
    found = [f"the model has no parameter {name}" for name in (*then, *tied) if name not in now]
    found += [f"the model has a parameter {name}, which it had not" for name in now if name not in {**then, **tied}]
    for name, shape in then.items():
        if name in now and tuple(now[name].shape) != tuple(shape):
            found.append(f"{name} had the shape {tuple(shape)}, has {tuple(now[name].shape)}")
    for name, other in tied.items():
        if name in now and other in now and now[name] is not now[other]:
            found.append(f"{name} was tied to {other}, is not")
    first: dict[int, str] = {}
    for name, p in now.items():
        other = first.setdefault(id(p), name)
        if other != name and name in then and other in then:
            found.append(f"{name} was not tied to {other}, is")
    return found


def _settings(rows: Iterable[tuple[str, str, str]], model: nn.Module) -> list[str]:
    """Settings that differ, alike ones together: `layers.{0..2}.p was 0.1, is 0.2`."""
    by_chain: dict[str, dict[str, Any]] = {}
    for holder in holders(model):
        by_chain.setdefault(holder.chain, {}).setdefault(holder.path, holder.thing)
    asked: dict[tuple[int, str], str] = {}  # what several modules share is asked, and told, once
    changed: dict[tuple[str, str], list[str]] = {}
    of_class: dict[tuple[type, str], Any] = {}

    def find(thing: Any, name: str) -> Any:
        """As `lookup`; what a class says of an attribute of its modules is asked once."""
        kind = type(thing)
        if thing is MISSING or not issubclass(kind, nn.Module):
            return MISSING if thing is MISSING else lookup(thing, name)
        own = vars(thing)
        if name == NAMES:
            return lookup(thing, name)
        if name in own:
            return _without_sharding(own[name]) if name.endswith("_hooks") else own[name]
        if (kind, name) not in of_class:
            of_class[kind, name] = lookup(thing, name)
        return of_class[kind, name]

    for owner, attribute, was in rows:
        chain, _, name = attribute.rpartition(".")
        things = by_chain.get(chain, {})
        at = [owner]
        if owner == EVERY:
            at = [path for path, thing in things.items() if find(thing, name) is not MISSING] or [""]
        for path in at:
            thing = things.get(path, MISSING)
            new = (id(thing), name) not in asked or thing is MISSING
            if new:
                asked[id(thing), name] = told(find(thing, name))
            now = asked[id(thing), name]
            if new and not alike(was, now):
                changed.setdefault((was, now), []).append(f"{path}.{attribute}".lstrip("."))
    return [f"{name} was {was}, is {now}" for (was, now), names in changed.items() for name in fold(names)]


def _without_sharding(hooks: Mapping[int, Any]) -> dict[int, Any]:
    """A module's hooks but for those of fully_shard, which gather parameters around a forward and compute nothing."""
    return {
        number: hook
        for number, hook in hooks.items()
        if not (type(hook) is MethodType and type(hook.__self__).__module__.startswith("torch.distributed.fsdp."))
    }


def _globals(record: Mapping[str, Any], model: nn.Module) -> list[str]:
    found = []
    for module, chain, was in record["globals"]:
        now = told(_global(module, chain, model))
        if not alike(was, now):
            found.append(f"{chain} of {module} was {was}, is {now}")
    return found


def _global(module: str, chain: str, model: nn.Module) -> Any:
    """A global of a module by its name; where that is a script that is run, now or then, of those of the classes."""
    if module == ENVIRONMENT:
        return variable(os.environ.get(chain))
    names = dict.fromkeys([module, *(type(each).__module__ for each in model.modules())])
    for name in names if "__main__" in names else [module]:
        value = resolved(vars(sys.modules[name]), chain) if name in sys.modules else MISSING
        if value is not MISSING:
            return value
    return MISSING


def _parts(record: Mapping[str, Any], model: nn.Module) -> list[str]:
    """Parts that are gone or new, but for those that the forward makes."""
    then, now = set(record["parts"]), dict.fromkeys(parts(model))
    gone = [part for part in record["parts"] if part not in now and not part.endswith(MADE)]
    new = [part for part in now if not {part, part + MADE} & then]
    return [f"the model has no part {part}" for part in fold(gone)] + [
        f"the model has a part {part}, which it had not" for part in fold(new)
    ]


def _frozen(record: Mapping[str, Any], model: nn.Module) -> list[str]:
    then = set(map(plain, record["frozen"]))
    changed = [p for p in model.named_parameters() if p[1].requires_grad == (plain(p[0]) in then)]
    found = []
    for now, words in ((True, "was frozen, is trained"), (False, "was trained, is frozen")):
        found += [f"{name} {words}" for name in fold(plain(name) for name, p in changed if p.requires_grad == now)]
    return found


def _inputs(record: Mapping[str, Any], model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[str]:
    tensors, values = inputs(model, args, kwargs)
    then = {**{name: "a tensor" for name, *_ in record["tensors"]}, **dict(record["values"])}
    now = {**dict.fromkeys(tensors, "a tensor"), **values}
    found = []
    for name in dict.fromkeys((*then, *now)):
        was, is_ = then.get(name, "left out"), now.get(name, "left out")
        own = was.removesuffix(OR_LEFT_OUT)
        if not alike(own, is_) and not (own != was and name not in now):
            found.append(f"{name} was {own}, is {is_}")
    for name, dtype, sizes, note in record["tensors"]:
        if name in tensors:
            found += _otherwise(name, (dtype, sizes, note), tensors[name])
    return [*found, *_apart(record, tensors)]


def _apart(record: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Iterator[str]:
    """Axes that were resized together alone, and have sizes of their own."""
    as_one: dict[int, list[tuple[str, int]]] = {}
    for name, _, sizes, _ in record["tensors"]:
        shape = tensors[name].shape if name in tensors else ()
        for axis, (size, n) in enumerate(zip(sizes, shape) if len(sizes) == len(shape) else ()):
            if size < 0:
                as_one.setdefault(size, []).append((f"axis {axis} of {name} is {n}", n))
    for places in as_one.values():
        if len({n for _, n in places}) > 1:
            yield f"{', '.join(text for text, _ in places)}: they were one size, and looked at as one alone"


def _otherwise(name: str, then: tuple[str, tuple[int, ...], str], x: Tensor) -> list[str]:
    (dtype, sizes, note), (kind, shape, remark) = then, facts(x)
    found = [f"{name} was {dtype}, is {kind}"] if dtype != kind else []
    if note != remark:
        found.append(f"{name} was {_noted(note)}, is {_noted(remark)}")
    if len(sizes) != len(shape):
        return [*found, f"{name} had {len(sizes)} axes, has {len(shape)}"]
    for axis, (size, n) in enumerate(zip(sizes, shape)):
        if size > 0 and size != n:
            found.append(f"axis {axis} of {name} was {size}, is {n}: no other size was looked at")
    return found


def _noted(note: str) -> str:
    """A tensor with what is out of the ordinary in it."""
    return f"a tensor ({note})" if note else "an ordinary tensor"
