"""A forward whose next call may be another function, or whose numbers follow a parameter, is refused in words."""

from __future__ import annotations

import collections
import datetime
import functools
import itertools
import os
import random
import re
import secrets
import time
import types
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from match.models import counts
from torch import Tensor, nn

import gaugec

X = (torch.randn(4, 5),)
LATE = 3000  # calls after which the state acts: only that it changes can be seen
COUNT = 0
HELD = types.SimpleNamespace(n=0, seen=set())


class Net(nn.Module):
    def __init__(self, middle: Callable[[Any, Tensor], Tensor], **held: Any) -> None:
        super().__init__()
        self.up, self.down, self.middle = nn.Linear(5, 7), nn.Linear(7, 3), middle
        self.__dict__.update(held)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.middle(self, torch.relu(self.up(x))))


def act(h: Tensor, n: int) -> Tensor:
    return h if n < LATE else h + 1


def counted(held: Any, h: Tensor) -> Tensor:
    held.n += 1
    return act(h, held.n)


def of_a_global(m: Any, h: Tensor) -> Tensor:
    global COUNT
    COUNT += 1
    return act(h, COUNT)


def of_itself(m: Any, h: Tensor) -> Tensor:
    of_itself.n += 1  # type: ignore[attr-defined]
    return act(h, of_itself.n)  # type: ignore[attr-defined]


of_itself.n = 0  # type: ignore[attr-defined]


def of_a_default(m: Any, h: Tensor, seen: list[int] = [0]) -> Tensor:  # noqa: B006
    seen[0] += 1
    return act(h, seen[0])


def of_a_closure() -> Callable[[Any, Tensor], Tensor]:
    n = 0

    def run(m: Any, h: Tensor) -> Tensor:
        nonlocal n
        n += 1
        return act(h, n)

    return run


def steps() -> Iterator[int]:
    yield from range(10**6)


@functools.lru_cache(maxsize=None)  # noqa: UP033
def remembered() -> list[int]:
    return []


def in_the_backward(m: Any, h: Tensor) -> Tensor:
    def hook(g: Tensor) -> Tensor:
        m.held.n += 1
        return g if m.held.n < LATE else g.sign()

    if h.requires_grad:
        h.register_hook(hook)
    return h


class Slots:
    __slots__ = ("n",)

    def __init__(self) -> None:
        self.n = 0


class OfItsClass(Net):
    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        type(self).calls += 1
        return act(super().forward(x), type(self).calls)


def namespace() -> Any:
    return types.SimpleNamespace(n=0)


def added(array: Any, h: Tensor) -> Tensor:
    array += 1
    return act(h, array[0])


STATE: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "a namespace": (lambda: Net(lambda m, h: counted(m.held, h), held=namespace()), "held.n"),
    "slots": (lambda: Net(lambda m, h: counted(m.held, h), held=Slots()), "held.n"),
    "named like hooks": (lambda: Net(lambda m, h: counted(m.my_hooks, h), my_hooks=namespace()), "my_hooks.n"),
    "a count": (lambda: Net(lambda m, h: act(h, next(m.c)), c=itertools.count()), "c"),
    "an iterator": (lambda: Net(lambda m, h: act(h, next(m.c)), c=iter(range(10**6))), "c"),
    "a generator": (lambda: Net(lambda m, h: act(h, next(m.c)), c=steps()), "c"),
    "a deque": (lambda: Net(lambda m, h: (m.d.append(1), act(h, len(m.d)))[1], d=collections.deque()), "d"),
    "an array": (lambda: Net(lambda m, h: added(m.a, h), a=np.zeros(2)), "a"),
    "bytes": (lambda: Net(lambda m, h: (m.a.append(1), act(h, len(m.a)))[1], a=bytearray()), "a"),
    "a class": (lambda: OfItsClass(lambda m, h: h), "OfItsClass.calls"),
    "a global": (lambda: Net(of_a_global), "the global COUNT"),
    "an object of a global": (lambda: Net(lambda m, h: counted(HELD, h)), "the global HELD.n"),
    "a set": (
        lambda: Net(lambda m, h: (HELD.seen.add(len(HELD.seen)), act(h, len(HELD.seen)))[1]),
        "the global HELD.seen",
    ),
    "a function": (lambda: Net(of_itself), "middle.n"),
    "a default": (lambda: Net(of_a_default), "middle (its default 1)[0]"),
    "a closure": (lambda: Net(of_a_closure()), "run (its variable n)"),
    "a partial": (lambda: Net(functools.partial(lambda n, m, h: counted(n, h), namespace())), "middle.args[0].n"),
    "a cache": (
        lambda: Net(lambda m, h: (remembered().append(1), act(h, len(remembered())))[1]),
        "the global remembered (held 0)[key 0]",
    ),
    "a hook of the backward": (lambda: Net(in_the_backward, held=namespace()), "held.n"),
    "dice of its own": (lambda: Net(lambda m, h: h if m.r.random() < 1 else h + 1, r=random.Random(0)), "r"),
    "dice of numpy": (lambda: Net(lambda m, h: h if m.r.random() < 1 else h + 1, r=np.random.default_rng(0)), "r"),
    "old dice of numpy": (lambda: Net(lambda m, h: h if m.r.rand() < 1 else h + 1, r=np.random.RandomState(0)), "r"),
}


def refused(model: nn.Module, spec: str) -> str:
    with pytest.raises(gaugec.MatchError) as caught:
        gaugec.compile(spec, model, X)
    assert caught.value.help
    return caught.value.message


@pytest.mark.parametrize("name", STATE)
def test_state_is_seen_by_its_change(name: str, spec: str) -> None:
    make, place = STATE[name]
    told = refused(make(), spec)
    # where a lambda closes over nothing, or a global is met first, the place has one of several names
    assert re.fullmatch(r"the forward changes .*: its next call may be another function", told)
    assert place in told or place.split(".")[-1] in told


def nth(n: int, of: Any) -> nn.Module:
    """Acts at every n-th call; where in its round a cycle is cannot be reached in Python."""
    turns = itertools.cycle([0] * (n - 1) + [of])
    for _ in range(n + 1):
        next(turns)
    return Net(lambda m, h: h + next(m.c), c=turns)


@pytest.mark.parametrize("n", [2, 4, 9])
def test_state_is_seen_by_its_effect(n: int, spec: str) -> None:
    told = refused(nth(n, 1), spec)
    assert told.startswith("the forward changes from call to call: in call ")
    assert "aten.add with 1 where it was 0 (test_state.py:" in told or "where it was 1 (test_state.py:" in told


def test_a_forward_that_fails_when_it_is_called_again(spec: str) -> None:
    few = Net(lambda m, h: (next(m.c), h)[1], c=iter([1, 2, 3, 4, 5, 6]))
    told = refused(few, spec)
    assert told == "the forward changes c: its next call may be another function"


CHANCE: dict[str, tuple[Callable[[Any, Tensor], Tensor], str]] = {
    "of Python": (lambda m, h: h if random.random() < 1 else h + 1, "draws from Python's random numbers"),
    "of numpy": (lambda m, h: h if np.random.rand() < 1 else h + 1, "draws from numpy's random numbers"),
    "of the system": (lambda m, h: h if os.urandom(1) != b"" else h + 1, "draws from the system's random numbers"),
    "secrets": (lambda m, h: h if secrets.randbelow(9) < 9 else h + 1, "draws from the system's random numbers"),
    "names": (lambda m, h: h if uuid.uuid4().int else h + 1, "draws from the system's random numbers"),
    "the time": (lambda m, h: h if time.time() < 3e9 else h + 1, "reads the clock"),
    "the date": (lambda m, h: h if datetime.datetime.now().year < 2100 else h + 1, "reads the clock"),
    "a file": (lambda m, h: h if Path(__file__).exists() and open(__file__) else h + 1, "opens a file"),
}


@pytest.mark.parametrize("name", CHANCE)
def test_what_a_forward_may_not_ask(name: str, spec: str) -> None:
    middle, words = CHANCE[name]
    python, numpy = random.getstate(), np.random.get_state()[1].tobytes()  # type: ignore[union-attr]
    told = refused(Net(middle), spec)
    assert re.sub(r" \(\w+\.py:\d+\)$", "", told) == f"the forward {words}"
    assert random.getstate() == python and np.random.get_state()[1].tobytes() == numpy  # type: ignore[union-attr]


def beside(middle: Callable[[Any, Tensor], Tensor], read: Callable[[Tensor], Any]) -> nn.Module:
    """A model that keeps numbers in the memory of a bias."""
    model = Net(middle)
    model.__dict__["kept"] = read(model.up.bias.detach())
    return model


FOLLOW: dict[str, Callable[[], nn.Module]] = {
    "an array": lambda: beside(lambda m, h: h * float(m.kept[0]), lambda w: w.numpy()),
    "its sum": lambda: beside(lambda m, h: h * float(m.kept.sum()), lambda w: w.numpy()),
    "an integer of it": lambda: beside(lambda m, h: h + int(10 * m.kept[0]), lambda w: w.numpy()),
    "a view of memory": lambda: beside(lambda m, h: h * m.kept[0], lambda w: memoryview(w.numpy())),
    "a new tensor": lambda: beside(lambda m, h: h * torch.tensor(float(m.kept[0])), lambda w: w.numpy()),
    "a tensor of a new array": lambda: beside(lambda m, h: h * torch.as_tensor(2 * m.kept), lambda w: w.numpy()),
    "a closure": lambda: (lambda m: (setattr(m, "middle", closed(m.up.bias.detach().numpy())), m)[1])(Net(closed(0))),
}


def closed(array: Any) -> Callable[[Any, Tensor], Tensor]:
    return lambda m, h: h * float(array[0])


@pytest.mark.parametrize("name", FOLLOW)
def test_a_number_that_follows_a_parameter(name: str, spec: str) -> None:
    model = FOLLOW[name]()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    told = refused(model, spec)
    assert re.fullmatch(
        r"a number in the forward follows the values of a parameter(, or that it has a gradient)?: "
        r"aten\.\w+ with .* where it was .* "
        r"\(test_state\.py:\d+\)",
        told,
    )
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_the_gradient_of_the_last_step(spec: str) -> None:
    model = Net(lambda m, h: h if m.up.weight.grad is None else h + float(m.up.weight.grad[0, 0]))
    told = refused(model, spec)
    assert told.startswith("a number in the forward follows the values of a parameter, or that it has a gradient: ")
    assert all(p.grad is None for p in model.parameters())


def test_a_parameter_as_a_list(spec: str) -> None:
    told = refused(Net(lambda m, h: h * m.up.bias.tolist()[0]), spec)
    assert told == "the gradient is cut at item (aten.item.default), which depends on a parameter"


def test_a_threshold_on_memory_that_nobody_reaches(spec: str) -> None:
    """No change of the parameters shows what is asked of the array; that it lies in a parameter's memory does."""
    compiled = gaugec.compile(spec, beside(lambda m, h: act(h, int(m.kept[0])), lambda w: w.numpy()), X)
    assert not counts(compiled)["relu_rescale"]
    assert compiled.metadata["ungauged"]["up.bias"] == "kept lies in its memory"


SOUND: dict[str, Callable[[], nn.Module]] = {
    "a cache that is filled": lambda: Net(lambda m, h: h * m.known.setdefault(h.shape[1], 2.0), known={}),
    "a constant array": lambda: Net(lambda m, h: h * float(m.a[0]), a=np.full(3, 2.0)),
    "an array from before": lambda: beside(lambda m, h: h * abs(float(m.kept[0])), lambda w: w.numpy().copy()),
    "noise of torch": lambda: Net(lambda m, h: nn.functional.dropout(h, 0.5, True)),
    "experts": lambda: Net(lambda m, h: h * torch.rand_like(h).topk(3, -1)[1].float().mean()),
    "a local count": lambda: Net(lambda m, h: h * len([itertools.count() for _ in range(2)])),
}


@pytest.mark.parametrize("name", SOUND)
def test_what_is_no_state(name: str, spec: str) -> None:
    assert counts(gaugec.compile(spec, SOUND[name](), X))["relu_rescale"] == 1


def test_a_failed_export_prints_nothing(spec: str, capfd: pytest.CaptureFixture[str]) -> None:
    def prints(m: Any, h: Tensor) -> Tensor:
        print("called")
        return h * float(m.kept[0][0])

    model = beside(prints, lambda w: [w])
    assert "torch.export cannot trace the model: Could not guard" in refused(model, spec)
    assert capfd.readouterr() == ("", "")
