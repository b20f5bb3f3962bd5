"""Mutants that change from call to call, by a state that is no attribute of a module, and by dice that are not torch's.

A state is known by what it does: each of these is another function at some later call.
"""

from __future__ import annotations

import array
import collections
import contextvars
import dataclasses
import functools
import itertools
import os
import queue
import random
import secrets
import tempfile
import threading
import time
import types
import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from soundness.model_bases import Around, Inputs
from soundness.mutant_registry import Change, add, middle
from soundness.setting_mutants import bent, either
from torch import Tensor, nn

P, T = "perceptron", "perceptron over tokens"


def often(times: int = 12) -> dict[str, Any]:
    """The example again and again."""

    def calls() -> list[Inputs]:
        x = torch.randn(6, 11)
        return [((x.clone(),), {}) for _ in range(times)]

    return {"calls": calls}


def counted(start: Callable[[], Any], wrong: Callable[[Any], bool]) -> Change:
    """`start()` makes a state, in a closure; `wrong(state)` moves it on and says whether this call is bent."""

    def change(model: Any) -> None:
        state = start()
        model.middle = lambda h: either(h, wrong(state))

    return change


def held(start: Callable[[], Any], wrong: Callable[[Any], bool]) -> Change:
    """The same on the module."""

    def change(model: Any) -> None:
        model.__dict__["state"] = start()
        model.middle = lambda h: either(h, wrong(model.__dict__["state"]))

    return change


def on(state: Any, name: str, step: Any = 1) -> Any:
    """Adds to an attribute, and gives it."""
    setattr(state, name, getattr(state, name) + step)
    return getattr(state, name)


@dataclasses.dataclass
class Steps:
    n: int = 0
    inner: Any = None


class Slotted:
    __slots__ = ("n",)

    def __init__(self) -> None:
        self.n = 0


class Schedule:
    """A temperature that a scheduler moves."""

    def __init__(self, start: float = 0.0, by: float = 0.05) -> None:
        self.at, self.by = start, by

    def step(self) -> float:
        self.at += self.by
        return self.at


class Counting:
    """It counts how often it is called."""

    n = 0

    def __call__(self, h: Tensor) -> Tensor:
        self.n += 1
        return bent(h) if self.n > 3 else h


def generated() -> Any:
    yield from (False, False, True)
    while True:
        yield False
        yield True


def filed() -> str:
    handle, path = tempfile.mkstemp()
    os.close(handle)
    return path


def longer(path: str) -> int:
    with open(path, "ab") as out:
        out.write(b".")
    size = os.path.getsize(path)
    if size >= 12:
        os.truncate(path, 0)
    return size


def local() -> Any:
    made = threading.local()
    made.n = 0
    return made


def environment() -> None:
    os.environ["GAUGEC_TEST_STEP"] = "0"


def moved_on(_: Any = None) -> int:
    n = int(os.environ.get("GAUGEC_TEST_STEP", "0")) + 1
    os.environ["GAUGEC_TEST_STEP"] = str(n)
    return n


COUNT: list[int] = [0]
STEP: contextvars.ContextVar[int] = contextvars.ContextVar("step", default=0)


def reset() -> None:
    COUNT[0] = 0


def in_context() -> None:
    STEP.set(0)


def next_in_context(_: Any) -> int:
    STEP.set(STEP.get() + 1)
    return STEP.get()


def by_class(model: Any) -> None:
    """A counter of the class."""

    def middle(m: Any, h: Tensor) -> Tensor:
        type(m).steps += 1
        return either(h, type(m).steps % 3 == 0)

    model.__class__ = type("Own", (type(model),), {"steps": 0, "middle": middle})


def nonlocally(model: Any) -> None:
    n = 0

    def middle(h: Tensor) -> Tensor:
        nonlocal n
        n += 1
        return either(h, n > 4)

    model.middle = middle


def by_function(model: Any) -> None:
    def middle(h: Tensor) -> Tensor:
        middle.n += 1  # type: ignore[attr-defined]
        return either(h, middle.n % 2 == 0)  # type: ignore[attr-defined]

    middle.n = 0  # type: ignore[attr-defined]
    model.middle = middle


def by_default(model: Any) -> None:
    def middle(h: Tensor, seen: list[int] = [0]) -> Tensor:  # noqa: B006
        seen[0] += 1
        return either(h, seen[0] % 2 == 0)

    middle.__defaults__ = ([0],)
    model.middle = middle


def cached(model: Any) -> None:
    """lru_cache gives a list that goes on."""
    known = functools.lru_cache(lambda n: [0])

    def middle(h: Tensor) -> Tensor:
        known(3)[0] += 1
        return either(h, known(3)[0] % 3 == 2)

    model.middle = middle


def by_hits(model: Any) -> None:
    known = functools.lru_cache(lambda n: n)
    model.middle = lambda h: (known(1), either(h, known.cache_info().hits % 2 == 1))[1]


def renamed(model: Any) -> None:
    """Attributes that are called like torch's own hooks."""
    model.my_hooks = 0

    def middle(h: Tensor) -> Tensor:
        model.my_hooks += 1
        return either(h, model.my_hooks % 2 == 0)

    model.middle = middle


def a_property(model: Any) -> None:
    """Reading it moves it on."""
    state = [0]

    def read(m: Any) -> bool:
        state[0] += 1
        return state[0] % 2 == 0

    model.__class__ = type("Own", (type(model),), {"bend": property(read), "middle": lambda m, h: either(h, m.bend)})


def callable_object(model: Any) -> None:
    model.__dict__["middle"] = Counting()


def torch_counter(model: Any) -> None:
    """A tensor that counts, where no module has it."""
    n = torch.zeros(())
    model.middle = lambda h: h + (n.add_(1) > 3) * 0.3


def scheduler(model: Any) -> None:
    """torch's own scheduler of an optimizer that nobody steps."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    steps = torch.optim.lr_scheduler.StepLR(optimizer, 2)

    def middle(h: Tensor) -> Tensor:
        optimizer.step()
        steps.step()
        return either(h, steps.get_last_lr()[0] < 0.5)

    model.middle = middle


def on_a_part(model: Any) -> None:
    """A hook counts, in a closure."""
    seen: list[int] = []

    def hook(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        seen.append(1)
        return bent(output) if len(seen) % 2 == 0 else output

    model.up.register_forward_hook(hook)


def remembers(model: Any) -> None:
    """The last units, outside every module, are added to the next."""
    last: list[Tensor] = []

    def middle(h: Tensor) -> Tensor:
        out = h + last[0].tanh() if last else h
        last[:] = [h.detach()]
        return out

    model.middle = middle


def remembers_a_number(model: Any) -> None:
    """A number of the last units is read at the next call."""
    state = types.SimpleNamespace(mean=1.0)

    def middle(h: Tensor) -> Tensor:
        out = h * state.mean
        state.mean = 1 + h.detach().norm().numpy().item() if type(h) is Tensor else 1.0
        return out

    model.middle = middle


def counts(model: Any) -> nn.Module:
    n = itertools.count()
    return Around(model, lambda m, x: m(x) if next(n) % 2 == 0 else m.down(bent(torch.relu(m.up(x)))))


N = types.SimpleNamespace
BROKEN: dict[str, Change] = {
    "a namespace": held(lambda: N(n=0), lambda s: on(s, "n") % 2 == 0),
    "a namespace in a namespace": held(lambda: N(a=N(n=0)), lambda s: on(s.a, "n") > 5),
    "a dataclass": held(Steps, lambda s: on(s, "n") % 3 == 0),
    "a dataclass in a list": held(lambda: [Steps(0, Steps())], lambda s: on(s[0].inner, "n") > 2),
    "an object with slots": held(Slotted, lambda s: on(s, "n") % 2 == 0),
    "a deque that turns": held(lambda: collections.deque([False, False, True]), lambda s: (s.rotate(1), s[0])[1]),
    "a deque in a closure": counted(lambda: collections.deque([0, 0, 0, 1]), lambda s: (s.rotate(1), s[0])[1]),
    "itertools.count": held(itertools.count, lambda s: next(s) % 2 == 1),
    "itertools.count, from the fourth on": counted(itertools.count, lambda s: next(s) > 3),
    "itertools.cycle": held(lambda: itertools.cycle([0, 1, 0]), next),
    "an iterator": counted(lambda: iter([0, 0, 0, *([1] * 99)]), lambda s: next(s, 1)),
    "a generator": held(generated, next),
    "a Counter": held(collections.Counter, lambda s: (s.update("a"), s["a"] % 2 == 0)[1]),
    "a bytearray": held(lambda: bytearray(1), lambda s: (s.__setitem__(0, (s[0] + 1) % 256), s[0] % 2 == 0)[1]),
    "an array": counted(lambda: array.array("i", [0]), lambda s: (s.__setitem__(0, s[0] + 1), s[0] % 2 == 0)[1]),
    "an array of numpy": held(lambda: np.zeros(1), lambda s: (s.__iadd__(1), s[0] % 2 == 0)[1]),
    "a queue": counted(queue.Queue, lambda s: (s.put(1), s.qsize() % 2 == 0)[1]),
    "what is local to a thread": counted(local, lambda s: on(s, "n") % 2 == 0),
    "a list in a closure": counted(list, lambda s: (s.append(1), len(s) > 3)[1]),
    "a schedule": held(Schedule, lambda s: s.step() > 0.12),
    "a schedule in a closure": counted(lambda: Schedule(by=0.3), lambda s: s.step() % 1.0 < 0.5),
    "a closure's own variable": nonlocally,
    "a function's attribute": by_function,
    "a default": by_default,
    "a class attribute": by_class,
    "a global": counted(reset, lambda _: (COUNT.__setitem__(0, COUNT[0] + 1), COUNT[0] % 2 == 0)[1]),
    "a context variable": counted(in_context, lambda s: next_in_context(s) % 2 == 0),
    "the environment": counted(environment, lambda s: moved_on(s) % 2 == 0),
    "a file": counted(filed, lambda s: longer(s) % 3 == 2),
    "lru_cache": cached,
    "how often a cache was hit": by_hits,
    "an attribute called ..._hooks": renamed,
    "a property": a_property,
    "a callable object": callable_object,
    "a tensor in a closure": torch_counter,
    "a scheduler of torch": scheduler,
    "a hook that counts": on_a_part,
    "the last units": remembers,
    "a number of the last units": remembers_a_number,
}  # fmt: skip
for name, change in BROKEN.items():
    add("state", P, name, change, **often())
add("state", P, "a model that counts around it", counts, **often())


# --- states that do not change the function
def set_up_once(model: Any) -> None:
    def middle(h: Tensor) -> Tensor:
        if not hasattr(model, "table"):
            model.table = torch.arange(1.0, 7.0)[:, None]
        return h * model.table

    model.middle = middle


def kept_in_a_dict(model: Any) -> None:
    """Tables by their length, outside the module."""
    known: dict[int, Tensor] = {}

    def middle(h: Tensor) -> Tensor:
        if h.shape[1] not in known:
            known[h.shape[1]] = torch.linspace(0.5, 1.5, h.shape[1])[:, None]
        return h * known[h.shape[1]]

    model.middle = middle


def pure_cache(model: Any) -> None:
    factor = functools.lru_cache(lambda n: 1.0 / n)
    model.middle = lambda h: h * factor(3)


def logs(model: Any) -> None:
    model.log = N(shapes=[])
    model.middle = lambda h: (model.log.shapes.append(tuple(h.shape)), h)[1]


def timed(model: Any) -> None:
    model.took = collections.deque(maxlen=3)
    model.middle = lambda h: (model.took.append(0.0 * time.perf_counter()), h)[1]


def looks(model: Any) -> None:
    model.up.register_forward_hook(lambda module, inputs, output: output.shape[-1] == 14 and None)


def own_list(model: Any) -> None:
    """What is made and forgotten within a call is no state."""

    def middle(h: Tensor) -> Tensor:
        parts = collections.deque(maxlen=2)
        for factor in itertools.islice(itertools.count(1), 3):
            parts.append(h * float(factor))
        return sum(parts)

    model.middle = middle


def watched(model: Any) -> None:
    seen: list[Any] = []
    model.up.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))


SOUND: dict[str, Change] = {
    "a table that is set up once": set_up_once,
    "a pure cache": pure_cache,
    "a namespace that nothing moves": held(lambda: N(n=0), lambda s: s.n > 3),
    "a schedule that nobody steps": held(Schedule, lambda s: s.at > 3),
}  # fmt: skip
# something changes from call to call, and no call has read it yet: that no later one does is not to be known
LOGGED: dict[str, Change] = {
    "a log of shapes": logs,
    "times that are only logged": timed,
    "a hook that logs shapes": watched,
    "a counter that is only logged": counted(lambda: N(n=0), lambda s: on(s, "n") < 0),
    "itertools.count that is only logged": counted(itertools.count, lambda s: next(s) < 0),
}  # fmt: skip
for name, change in SOUND.items():
    add("state", P, name, change, "sound", **often(5))
for name, change in LOGGED.items():
    add("state", P, name, change, "mixed", **often(5))
add("state", P, "a hook that reads shapes", looks, "sound", **often(5))
add("state", P, "a function of the call's own list", own_list, "sound", **often(5))
add("state", T, "tables by their length", kept_in_a_dict, "sound")


# --- dice
def thrown(start: Callable[[], Any], bad: Callable[[Any], bool]) -> Change:
    """Bent when the dice say so."""
    return counted(start, bad)


def shuffled(model: Any) -> None:
    dice = random.Random(3)
    model.middle = lambda h: h[:, dice.sample(range(14), 14)]


def drawn_once(model: Any) -> None:
    factor = 1 + np.random.default_rng(1).random()
    model.middle = lambda h: h * factor


def torch_s_own(model: Any) -> None:
    """A torch generator of its own, whose number is read."""
    dice = torch.Generator().manual_seed(1)
    model.middle = lambda h: either(h, torch.rand(1, generator=dice).numpy()[0] < 0.5)


DICE: dict[str, Change] = {
    "numpy's": thrown(lambda: None, lambda _: np.random.rand() < 0.5),
    "numpy's, rarely": thrown(lambda: None, lambda _: np.random.randint(4) == 0),
    "a Generator of numpy": thrown(lambda: np.random.default_rng(1), lambda d: d.random() < 0.5),
    "a RandomState of numpy": thrown(lambda: np.random.RandomState(1), lambda d: d.uniform() < 0.5),
    "a Generator on the module": held(lambda: np.random.default_rng(2), lambda d: d.random() < 0.5),
    "random.Random": thrown(lambda: random.Random(1), lambda d: d.random() < 0.5),
    "random.Random on the module": held(lambda: random.Random(4), lambda d: d.choice([True, False, False])),
    "random.SystemRandom": thrown(random.SystemRandom, lambda d: d.random() < 0.5),
    "secrets": thrown(lambda: None, lambda _: secrets.randbelow(2) == 0),
    "urandom": thrown(lambda: None, lambda _: os.urandom(1)[0] < 128),
    "uuid4": thrown(lambda: None, lambda _: uuid.uuid4().int % 2 == 0),
    "the clock": thrown(lambda: None, lambda _: time.perf_counter_ns() // 1000 % 2 == 0),
    "a permutation of numpy": middle(lambda m, h: h[:, torch.from_numpy(np.random.permutation(14))]),
    "shuffled by random.Random": shuffled,
    "a generator of torch, as a number": torch_s_own,
}  # fmt: skip
for name, change in DICE.items():
    add("dice", P, name, change, **often(16))
for name, change in {
    "drawn once": drawn_once,
    "noise of torch that multiplies": middle(lambda m, h: h * torch.rand(h.shape[0], 1)),
    "dropout": middle(lambda m, h: nn.functional.dropout(h, 0.2, True)),
    "a constant of numpy": lambda m: m.register_buffer("c", torch.from_numpy(np.random.RandomState(1).rand(6, 1))),
}.items():
    add("dice", P, name, change, "sound", **often(5))
add("dice", P, "numpy's, that multiply", middle(lambda m, h: h * float(1 + np.random.rand())), "mixed", **often(5))
