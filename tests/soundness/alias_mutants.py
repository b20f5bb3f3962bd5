"""Mutants that read a parameter's memory as numbers, past torch: what a trace takes for constant moves in training."""

from __future__ import annotations

import ctypes
import functools
import struct
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from soundness.model_bases import Around
from soundness.mutant_registry import Change, add, middle
from torch import nn

P = "perceptron"
KEPT: dict[str, Any] = {}


def weight(m: Any) -> np.ndarray:
    """The first weight as numpy sees it, in its own memory."""
    return m.up.weight.detach().numpy()


def scaled(read: Callable[[], Any], m: Any) -> None:
    """The units times a number that is read at every call."""
    m.middle = lambda h: h * (1.0 + abs(float(read())))


def reads(take: Callable[[Any], Callable[[], Any]]) -> Change:
    """`take(model)` gives the function that reads."""
    return lambda m: scaled(take(m), m)


def held(keep: Callable[[Any], Any], read: Callable[[Any], Any]) -> Change:
    """Kept on the module, read from there."""

    def change(m: Any) -> None:
        m.kept = keep(m)
        scaled(lambda: read(m.kept), m)

    return change


class Interface:
    """What numpy takes for an array."""

    def __init__(self, made: np.ndarray) -> None:
        self.owner, self.__array_interface__ = made, made.__array_interface__


def in_ctypes(m: Any) -> Any:
    return (ctypes.c_double * m.up.weight.numel()).from_address(m.up.weight.data_ptr())


def unpacked(memory: Any) -> float:
    return struct.unpack_from("d", memory)[0]


def wrapped(m: Any) -> nn.Module:
    w = weight(m)
    return Around(m, lambda n, x: n(x) * float(w[0, 0]))


def kept_globally(m: Any) -> Callable[[], Any]:
    KEPT["w"] = weight(m)
    return lambda: KEPT["w"][0, 0]


def on_a_part(m: Any) -> Callable[[], Any]:
    m.down.table = weight(m)[:1]
    return lambda: m.down.table[0, 0]


def chosen(m: Any) -> None:
    """A branch by a parameter's sign."""
    w = weight(m)
    m.middle = lambda h: h + 0.3 if abs(w).sum() > 30 else h


def as_array(m: Any) -> None:
    """An array is made a tensor at every call."""
    w = weight(m)
    m.middle = lambda h: h * torch.tensor(np.abs(w[:, 0]).sum())


def as_tensor(m: Any) -> None:
    w = weight(m)
    m.middle = lambda h: h * torch.from_numpy(w).square().sum()


def listed(m: Any) -> None:
    """torch reads it, past the tracer's parameter."""
    kept = m.up.weight.data
    m.__dict__["view"] = kept[:1]
    m.middle = lambda h: h * abs(m.__dict__["view"].tolist()[0][0])


def item(m: Any) -> None:
    m.__dict__["view"] = m.up.weight.data[0, 0]
    m.middle = lambda h: h * m.__dict__["view"].item()


def closed_view(m: Any) -> None:
    view = m.up.weight.detach()
    m.middle = lambda h: h * view[0, 0]


def stepped(m: Any) -> None:
    """It writes the parameter, past torch."""
    w = weight(m)
    m.middle = lambda h: (np.clip(w, -0.5, 0.5, out=w), h)[1]


def backwards(m: Any) -> None:
    """The reader's memory."""
    w = m.down.weight.detach().numpy()
    m.finish = lambda y, h: y + float(np.abs(w).sum())


def gradients(m: Any) -> None:
    """The gradient of the last step."""
    m.middle = lambda h: h if m.up.weight.grad is None else h + float(m.up.weight.grad.numpy()[0, 0])


BROKEN: dict[str, Change] = {
    "numpy on the module": held(weight, lambda w: w[0, 0]),
    "numpy in a closure": reads(lambda m: functools.partial(weight(m).item, 0)),
    "numpy in a list": held(lambda m: [None, weight(m)], lambda w: w[1][0, 0]),
    "numpy in a dict": held(lambda m: {"w": (weight(m),)}, lambda w: w["w"][0][0, 0]),
    "numpy in a namespace": held(lambda m: types.SimpleNamespace(w=weight(m)), lambda w: w.w[0, 0]),
    "numpy in a global": reads(kept_globally),
    "numpy on a part": reads(on_a_part),
    "numpy, its norm": held(weight, lambda w: np.linalg.norm(w)),
    "numpy, its sum, bound": reads(lambda m: weight(m)[0].max),
    "numpy, one entry of it": held(lambda m: weight(m)[0, :1], lambda w: w[0]),
    "numpy, transposed": held(lambda m: weight(m).T, lambda w: w[0, 0]),
    "numpy of the bias": held(lambda m: m.up.bias.detach().numpy(), lambda b: b[0]),
    "numpy by dlpack": held(lambda m: np.from_dlpack(m.up.weight.detach()), lambda w: w[0, 0]),
    "numpy by its interface": reads(lambda m: functools.partial(np.asarray(Interface(weight(m))).item, 0)),
    "an interface that is read each time": held(lambda m: Interface(weight(m)), lambda w: np.asarray(w)[0, 0]),
    "a memoryview": reads(lambda m: functools.partial(memoryview(weight(m)).__getitem__, (0, 0))),
    "numpy of a memoryview": reads(lambda m: functools.partial(np.frombuffer(memoryview(weight(m)).cast("B")).item, 0)),
    "struct": reads(lambda m: functools.partial(unpacked, memoryview(weight(m)).cast("B"))),
    "ctypes": reads(lambda m: functools.partial(in_ctypes(m).__getitem__, 0)),
    "ctypes on the module": held(in_ctypes, lambda w: w[0]),
    "an address": held(lambda m: m.up.weight.data_ptr(), lambda at: ctypes.c_double.from_address(at).value),
    "torch's storage": held(lambda m: m.up.weight.untyped_storage(), lambda s: unpacked(bytes(s[:8]))),
    "numpy at each call": middle(lambda m, h: h * float(np.abs(m.up.weight.detach().numpy()).sum())),
    "tolist at each call": middle(lambda m, h: h * abs(m.up.weight.tolist()[0][0])),
    "item at each call": middle(lambda m, h: h * m.up.weight[0, 0].item()),
    "float at each call": middle(lambda m, h: h * float(m.up.weight.norm())),
    "a branch": chosen,
    "a tensor of numpy's": as_array,
    "a tensor in its memory, at each call": as_tensor,
    "tolist of a view": listed,
    "item of a view": item,
    "a view in a closure": closed_view,
    "written by numpy": stepped,
    "numpy of the reader": backwards,
    "the last gradient": gradients,
}  # fmt: skip
for name, change in BROKEN.items():
    add("aliases", P, name, change)
add("aliases", P, "numpy of what is wrapped", wrapped)


# --- numbers that are no parameter's, or of one that nothing moves
def constant(m: Any) -> None:
    m.table = np.linspace(1.0, 2.0, 6)[:, None]
    m.middle = lambda h: h * torch.from_numpy(m.table)


def copied(m: Any) -> None:
    scaled(functools.partial(weight(m).copy().item, 0), m)


def other(m: Any) -> None:
    """A parameter of which no gauge knows."""
    m.temperature = nn.Parameter(torch.ones(1))
    kept = m.temperature.detach().numpy()
    m.middle = lambda h: h * (0.5 + float(kept[0] ** 2))


def tabled(m: Any) -> None:
    table = np.arange(1.0, 4.0)
    m.middle = lambda h: h * table.tolist()[1]


def pointed(m: Any) -> None:
    number = ctypes.c_double(1.5)
    m.middle = lambda h: h * ctypes.c_double.from_address(ctypes.addressof(number)).value


def unread(m: Any) -> None:
    m.kept = weight(m)


def sized(m: Any) -> None:
    w = weight(m)
    m.middle = lambda h: h / w.shape[0]


def buffered(m: Any) -> None:
    """A buffer's memory, which nothing writes."""
    m.register_buffer("c", torch.full((1,), 1.5))
    kept = m.c.numpy()
    m.middle = lambda h: h * float(kept[0])


def masked(m: Any) -> None:
    kept = np.tri(6)[:, :1]
    m.middle = lambda h: h * torch.as_tensor(kept)


TWICE: dict[str, Any] = {"calls": lambda: [((torch.randn(6, 11),), {}) for _ in range(2)]}
for name, change in {
    "a table of numpy": constant, "a copy of the first weight": copied, "a buffer": buffered, "a mask": masked,
    "numpy of a table, listed": tabled, "ctypes of a constant": pointed,
}.items():  # fmt: skip
    add("aliases", P, name, change, "sound", **TWICE)
# sites hold, and what was compiled is another function when the parameter has moved, or somebody else may read it
for name, change in {
    "a parameter that no gauge moves": other,
    "numpy that nothing reads": unread,
    "numpy that is asked its shape": sized,
}.items():  # fmt: skip
    add("aliases", P, name, change, "mixed", **TWICE)
