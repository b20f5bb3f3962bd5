"""Mutants that are another function after somebody has changed a setting, or when the call says so.

What was compiled is right as it stands; then a flag, a number, a mode or an optional input is another one.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import types
from collections.abc import Callable
from typing import Any

import torch
from soundness.model_bases import Around, Inputs, around, replace
from soundness.mutant_registry import Change, add, finish, method, middle, then
from torch import Tensor, nn
from torch.nn import functional as F

P, T = "perceptron", "perceptron over tokens"


def bent(h: Tensor) -> Tensor:
    """A function of the units that no scale passes."""
    return h + 0.3


def sets(**values: Any) -> Change:
    """Attributes of the model; a type or a function is called for a new value."""

    def change(model: nn.Module) -> None:
        for name, value in values.items():
            setattr(model, name, value() if isinstance(value, (type, types.FunctionType)) else value)

    return change


def puts(path: str, value: Any) -> Change:
    """`path` of the model, an item or an attribute at every dot, becomes `value`."""

    def change(model: nn.Module) -> None:
        *way, last = path.split(".")
        at: Any = model
        for name in way:
            at = at[name] if isinstance(at, dict) else getattr(at, name)
        if isinstance(at, dict):
            at[last] = value
        else:
            setattr(at, last, value)

    return change


def runs(action: Callable[[Any], Any]) -> Change:
    """A statement about the model."""

    def change(model: nn.Module) -> None:
        action(model)

    return change


@dataclasses.dataclass
class Options:
    bend: bool = False
    power: int = 1
    act: str = "relu"
    inner: Any = None


class Slots:
    __slots__ = ("bend",)

    def __init__(self) -> None:
        self.bend = False


class Owner(Around):
    """A part that asks its owner."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__(inner, lambda m, x: m(x))
        self.bend = False
        mine = self.__dict__
        inner.middle = types.MethodType(lambda m, h: bent(h) if mine["bend"] else h, inner)  # type: ignore[assignment]


FLAGS: dict[str, bool] = {}
NAME = "GAUGEC_TEST_BEND"


def closed(model: Any) -> None:
    """A setting that lives in a closure."""
    bend = False

    def set_bend() -> None:
        nonlocal bend
        bend = True

    model.set_bend, model.middle = set_bend, lambda h: bent(h) if bend else h


def classes(model: Any) -> None:
    """A setting of the class."""
    model.__class__ = type("Own", (type(model),), {"bend": False, "middle": lambda m, h: bent(h) if m.bend else h})


def either(h: Tensor, bend: bool = False) -> Tensor:
    return bent(h) if bend else h


def tried(m: Any, h: Tensor) -> Tensor:
    try:
        return h + m.bend
    except AttributeError:
        return h


# --- changed later: what is there first, and what it becomes
LATER: dict[str, tuple[Change, Change]] = {
    "a flag": (then(sets(bend=False), middle(lambda m, h: either(h, m.bend))), puts("bend", True)),
    "an aux loss that warms up": (
        then(sets(aux=0.0), finish(lambda m, y, h: (y, m.aux * h.square().mean()) if m.aux else (y, y.new_zeros(())))),
        puts("aux", 0.01),
    ),
    "a penalty whose weight is a number": (
        then(sets(aux=0.0), finish(lambda m, y, h: y + m.aux * m.up.weight.square().sum())), puts("aux", 0.1),
    ),
    "None that becomes a cap": (
        then(sets(cap=None), middle(lambda m, h: h if m.cap is None else h.clamp(max=m.cap))), puts("cap", 0.5),
    ),
    "a string": (
        then(sets(act="relu"), middle(lambda m, h: {"relu": torch.relu, "gelu": F.gelu}[m.act](h))),
        puts("act", "gelu"),
    ),
    "a power": (then(sets(power=1), middle(lambda m, h: h**m.power)), puts("power", 2)),
    "a shift that is zero": (
        then(sets(shift=0.0), middle(lambda m, h: h + m.shift if m.shift else h)), puts("shift", 0.3),
    ),
    "an item of a dict": (
        then(sets(options=lambda: {"bend": False}), middle(lambda m, h: either(h, m.options["bend"]))),
        puts("options.bend", True),
    ),
    "a key of a dict": (
        then(sets(options=dict), middle(lambda m, h: either(h, "bend" in m.options))), puts("options.bend", False),
    ),
    "the length of a list": (
        then(sets(more=list), middle(lambda m, h: h + sum(m.more) if m.more else h)),
        runs(lambda m: m.more.append(0.3)),
    ),
    "a set": (
        then(sets(on=set), middle(lambda m, h: either(h, "bend" in m.on))), runs(lambda m: m.on.add("bend")),
    ),
    "a namespace": (
        then(sets(config=lambda: types.SimpleNamespace(bend=False)), middle(lambda m, h: either(h, m.config.bend))),
        puts("config.bend", True),
    ),
    "a dataclass": (
        then(sets(config=Options), middle(lambda m, h: either(h, m.config.bend))), puts("config.bend", True),
    ),
    "a dataclass in a namespace": (
        then(sets(config=lambda: types.SimpleNamespace(moe=Options())), middle(lambda m, h: h**m.config.moe.power)),
        puts("config.moe.power", 2),
    ),
    "a config that is replaced": (
        then(sets(config=Options), middle(lambda m, h: either(h, m.config.bend))), puts("config", Options(True)),
    ),
    "an object with slots": (
        then(sets(config=Slots), middle(lambda m, h: either(h, m.config.bend))), puts("config.bend", True),
    ),
    "a function": (then(sets(act=lambda: torch.relu), middle(lambda m, h: m.act(h))), puts("act", F.gelu)),
    "a function with a keyword": (
        then(sets(act=lambda: functools.partial(either, bend=False)), middle(lambda m, h: m.act(h))),
        puts("act", functools.partial(either, bend=True)),
    ),
    "a module": (then(sets(mid=nn.Identity), middle(lambda m, h: m.mid(h))), puts("mid", nn.GELU())),
    "a part's flag": (
        then(sets(mid=lambda: nn.Dropout(0.0)), middle(lambda m, h: either(h, m.mid.inplace))),
        puts("mid.inplace", True),
    ),
    "the owner's flag": (Owner, puts("bend", True)),
    "a class attribute": (classes, runs(lambda m: setattr(type(m), "bend", True))),
    "a global": (
        then(runs(lambda m: FLAGS.update(bend=False)), middle(lambda m, h: either(h, FLAGS["bend"]))),
        runs(lambda m: FLAGS.update(bend=True)),
    ),
    "a closure": (closed, runs(lambda m: m.set_bend())),
    "the environment": (
        then(runs(lambda m: os.environ.pop(NAME, None)), middle(lambda m, h: either(h, NAME in os.environ))),
        runs(lambda m: os.environ.update({NAME: "1"})),
    ),
    "an attribute that was not there": (
        middle(lambda m, h: either(h, getattr(m, "bend", False))), puts("bend", True),
    ),
    "an attribute that is tried": (middle(lambda m, h: tried(m, h)), puts("bend", 0.3)),
    "an attribute that a config had not": (
        then(sets(config=types.SimpleNamespace), middle(lambda m, h: either(h, getattr(m.config, "bend", False)))),
        puts("config.bend", True),
    ),
    "an attribute that an object had not": (
        then(sets(config=Options), middle(lambda m, h: either(h, hasattr(m.config, "more")))), puts("config.more", 1),
    ),
    "one more part in a row": (
        then(sets(row=lambda: nn.Sequential(nn.ReLU())), middle(lambda m, h: m.row(h))),
        runs(lambda m: m.row.append(nn.Tanh())),
    ),
    "a first part in a list": (
        then(sets(row=nn.ModuleList), middle(lambda m, h: either(h, len(m.row) > 0))),
        runs(lambda m: m.row.append(nn.Identity())),
    ),
    "a key of the parts": (
        then(sets(row=nn.ModuleDict), middle(lambda m, h: either(h, "bend" in m.row))),
        runs(lambda m: m.row.update({"bend": nn.Identity()})),
    ),
    "a part that was None": (
        then(runs(lambda m: m.register_module("mid", None)), middle(lambda m, h: h if m.mid is None else m.mid(h))),
        puts("mid", nn.Tanh()),
    ),
    "a buffer that was None": (
        then(runs(lambda m: m.register_buffer("gate", None)), middle(lambda m, h: h if m.gate is None else h + m.gate)),
        puts("gate", torch.tensor(0.3)),
    ),
    "the number of parts": (
        middle(lambda m, h: either(h, len(list(m.children())) > 2)),
        runs(lambda m: m.add_module("more", nn.Identity())),
    ),
    "another forward": (lambda m: None, method("middle", lambda m, h: bent(h))),
    "a hook": (lambda m: None, runs(lambda m: m.up.register_forward_hook(lambda mod, i, o: bent(o)))),
    "a buffer's number": (
        then(runs(lambda m: m.register_buffer("gate", torch.tensor(0.0))), middle(lambda m, h: h + m.gate)),
        runs(lambda m: m.gate.fill_(0.3)),
    ),
}  # fmt: skip
SOUND_LATER: dict[str, tuple[Change, Change]] = {
    "dropout's p": (
        then(sets(mid=lambda: nn.Dropout(0.1)), middle(lambda m, h: m.mid(h))), puts("mid.p", 0.4),
    ),
    "a factor": (then(sets(factor=1.5), middle(lambda m, h: h * m.factor)), puts("factor", 2.5)),
    "a flag that nothing reads": (sets(bend=False), puts("bend", True)),
    "a name": (sets(title="one"), puts("title", "two")),
    "a config that nothing reads": (sets(config=Options), puts("config.bend", True)),
    "a list that is only logged": (
        then(sets(losses=list), middle(lambda m, h: h)), runs(lambda m: m.losses.append(0.5)),
    ),
    "a factor of the output": (then(sets(factor=1.0), finish(lambda m, y, h: y * m.factor)), puts("factor", 2.0)),
}  # fmt: skip
for expects, table in {"broken": LATER, "sound": SOUND_LATER}.items():
    for name, (first, then_this) in table.items():
        add("settings", P, f"later: {name}", first, expects, later=(then_this,))


# --- said by the call: the example first, then other calls
def rows(*more: Any, **named: Any) -> Inputs:
    return (torch.randn(6, 11), *more), named


def called(*calls: Callable[[], Inputs]) -> dict[str, Any]:
    return {"calls": lambda: [make() for make in calls]}


def tells(choose: Callable[..., bool], fine: Callable[[Any, Tensor], Tensor] = lambda m, h: h) -> Change:
    """The forward is another function where `choose(x, ...)` says so."""

    def run(m: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        h = torch.relu(m.up(x))
        return m.down(bent(h) if choose(x, *args, **kwargs) else fine(m, h))

    return method("forward", run)


def listed(m: Any, xs: Any) -> Tensor:
    h = sum(torch.relu(m.up(x)) for x in xs)
    return m.down(bent(h) if len(xs) > 2 else h)


CALLS: dict[str, tuple[Change, dict[str, Any]]] = {
    "a flag": (tells(lambda x, bend: bend), called(lambda: rows(False), lambda: rows(True))),
    "a keyword": (tells(lambda x, bend=False: bend), called(lambda: rows(), lambda: rows(bend=True))),
    "an integer": (tells(lambda x, n: n > 3), called(lambda: rows(2), lambda: rows(5))),
    "a number": (tells(lambda x, t: t != 1.0), called(lambda: rows(1.0), lambda: rows(0.5))),
    "a string": (tells(lambda x, mode: mode == "b"), called(lambda: rows("a"), lambda: rows("b"))),
    "None": (tells(lambda x, y=None: y is not None), called(lambda: rows(), lambda: rows(torch.randn(6, 2)))),
    "not None": (tells(lambda x, y=None: y is None), called(lambda: rows(torch.randn(6, 2)), lambda: rows())),
    "a key": (
        method("forward", lambda m, x: m.down(either(torch.relu(m.up(x["x"])), "bend" in x))),
        called(lambda: ((dict(x=rows()[0][0]),), {}), lambda: ((dict(x=rows()[0][0], bend=torch.ones(1)),), {})),
    ),
    "the length of a list": (
        method("forward", listed),
        called(lambda: (([torch.randn(6, 11) for _ in range(2)],), {}), lambda: (([torch.randn(6, 11)] * 3,), {})),
    ),
    "the number of arguments": (
        tells(lambda x, *more: len(more) > 1), called(lambda: rows(x2()), lambda: rows(x2(), x2())),
    ),
    "the type": (
        tells(lambda x, y: y.dtype == torch.float32), called(lambda: rows(x2()), lambda: rows(x2().float())),
    ),
    "an integer type": (
        tells(lambda x, y: y.dtype == torch.int32),
        called(lambda: rows(torch.ones(6, dtype=torch.long)), lambda: rows(torch.ones(6, dtype=torch.int32))),
    ),
    "its gradient is wanted": (
        tells(lambda x, y: y.requires_grad), called(lambda: rows(x2()), lambda: rows(x2().requires_grad_())),
    ),
    "its strides": (
        tells(lambda x, y: y.stride()[0] == 1), called(lambda: rows(x2()), lambda: rows(torch.randn(2, 6).T)),
    ),
    "it is contiguous": (
        tells(lambda x, y: not y.is_contiguous()), called(lambda: rows(x2()), lambda: rows(torch.randn(6, 4)[:, :2])),
    ),
    "its axes": (tells(lambda x, y: y.ndim == 3), called(lambda: rows(x2()), lambda: rows(torch.randn(6, 2, 2)))),
    "the same tensor twice": (tells(lambda x, y: x is y), called(lambda: rows(torch.randn(6, 11)), lambda: both())),
    "a class of its own": (
        tells(lambda x, y: isinstance(y, nn.Parameter)), called(lambda: rows(x2()), lambda: rows(nn.Parameter(x2()))),
    ),
    "a value in a nested input": (
        tells(lambda x, o: o["deep"][0] == "b"), called(lambda: rows({"deep": ["a"]}), lambda: rows({"deep": ["b"]})),
    ),
    "a type deep in a nested input": (
        tells(lambda x, o: o["a"][0]["b"][0]["c"].dtype == torch.float32),
        called(lambda: rows(nested(x2())), lambda: rows(nested(x2().float()))),
    ),
    "an object": (
        tells(lambda x, o: o.bend), called(lambda: rows(Options()), lambda: rows(Options(True))),
    ),
}  # fmt: skip


def x2() -> Tensor:
    return torch.randn(6, 2)


def nested(x: Tensor) -> Any:
    return {"a": [{"b": [{"c": x}]}]}


def both() -> Inputs:
    x = torch.randn(6, 11)
    return (x, x), {}


SOUND_CALLS: dict[str, tuple[Change, dict[str, Any]]] = {
    "a flag that adds a way around": (
        method("forward", lambda m, x, skip: m.down(torch.relu(m.up(x))) + (x[:, :9] if skip else 0.0)),
        called(lambda: rows(False), lambda: rows(True)),
    ),
    "a mask or none": (
        method("forward", lambda m, x, w=None: m.down(torch.relu(m.up(x)) * (1.0 if w is None else w))),
        called(lambda: rows(torch.rand(6, 1)), lambda: rows()),
    ),
    "a number that is a factor": (
        method("forward", lambda m, x, t: m.down(torch.relu(m.up(x)) * t)),
        called(lambda: rows(1.5), lambda: rows(0.5)),
    ),
    "keys in another order": (
        method("forward", lambda m, a: m.down(torch.relu(m.up(a["x"]))) * a["y"].mean()),
        called(lambda: ((dict(x=rows()[0][0], y=x2()),), {}), lambda: ((dict(y=x2(), x=rows()[0][0]),), {})),
    ),
    "any number of tensors": (
        method("forward", lambda m, xs: m.down(sum(torch.relu(m.up(x)) for x in xs))),
        called(lambda: (([torch.randn(6, 11) for _ in range(2)],), {}), lambda: (([torch.randn(6, 11)] * 3,), {})),
    ),
    "whatever strides": (lambda m: None, called(lambda: rows(), lambda: ((torch.randn(11, 6).T,), {}))),
}  # fmt: skip
for expects, calls in {"broken": CALLS, "sound": SOUND_CALLS}.items():
    for name, (change, other) in calls.items():
        add("settings", P, f"called with: {name}", change, expects, **other)
add(
    "settings",
    T,
    "called with: rows in place of tokens",
    around(lambda m, x: m(x) if x.ndim == 3 else m.down(bent(torch.relu(m.up(x))))),
    calls=lambda: [((torch.randn(3, 7, 11),), {}), ((torch.randn(7, 11),), {})],
)
add("settings", P, "a module that is replaced by its like", lambda m: replace(m, "mid", nn.ReLU()), "sound",
    later=(puts("mid", nn.ReLU()),))  # fmt: skip
