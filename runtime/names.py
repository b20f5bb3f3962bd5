"""Which names mean the same parameter: wrappers put prefixes before a name, and what they wrap is the same model.

torch.compile, FSDP and activation checkpointing put a part of their own into a name wherever a wrapped module stands:
that part never counts. DistributedDataParallel, and any module that keeps a model as `.module`, put `module.` in front,
Lightning `model.`; a model may have parts of its own called so, and which it is shows in the names that are known.
Everything that looks a parameter up by name asks here: binding, saved state, `Gauge.act`, telemetry. Not here: which
parameters a gauge moves.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TypeVar

from torch import nn

T = TypeVar("T")

WRAPPERS = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})


def bare(name: str) -> str:
    """A parameter's name without the parts that wrappers inside a model add."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def plain(name: str) -> str:
    """A parameter's name without any prefix that a wrapper may have added."""
    name = bare(name)
    while name.startswith("module."):
        name = name.removeprefix("module.")
    return name


def by_name(pairs: Iterable[tuple[str, T]], known: Iterable[str]) -> dict[str, T]:
    """Things by names as the known ones have them, whatever wrappers the names that they come with tell of.

    A prefix `module.` is taken away, or put before all names, where more of the known names are met then; `model.` is
    taken away where none is met before, and all are then.  Raises ValueError where two things have the same name, and
    where names are known with and without a prefix that all have.
    """
    given = [(bare(name), name, thing) for name, thing in pairs]
    prefix, added = _prefix([short for short, _, _ in given], {bare(name) for name in known})
    out: dict[str, T] = {}
    first: dict[str, str] = {}
    for short, name, thing in given:
        short = added + short.removeprefix(prefix)
        if short in out:
            also = f", as {first[short]} and as {name}" if first[short] != name else ""
            raise ValueError(f"two parameters have the name {short}{also}")
        out[short], first[short] = thing, name
    return out


def _prefix(names: Collection[str], known: set[str]) -> tuple[str, str]:
    """What to take away in front of names, where it stands there, and what to put before all of them."""

    def met(prefix: str, added: str = "") -> int:
        return len(known & {added + name.removeprefix(prefix) for name in names})

    depth = max((_depth(name) for name in (*names, *known)), default=0)
    ways = [("", ""), *(way for n in range(1, depth + 1) for way in (("module." * n, ""), ("", "module." * n)))]
    counts = [met(*way) for way in ways]
    most = max(counts)
    if not most:
        held = ("module." * n + "model." for n in range(depth + 1))
        return next((prefix for prefix in held if known and met(prefix) == len(known)), ""), ""
    if counts[0] == most == len(known) and depth and counts[1] == most and all(n.startswith("module.") for n in names):
        raise ValueError(
            "every name begins with module., and the gauge's names are there with it and without it: whether it is a "
            "wrapper's cannot be told. Give the parameters of the model without the wrapper"
        )
    return ways[counts.index(most)]


def _depth(name: str) -> int:
    """How many times a name begins with `module.`."""
    return 1 + _depth(name.removeprefix("module.")) if name.startswith("module.") else 0


def unwrapped(model: nn.Module) -> nn.Module:
    """The model that wrappers of torch hold: modules of torch's own that keep one other as `.module` or `._orig_mod`.

    A wrapper that somebody wrote is a model of its own: its forward may do more.
    """
    while type(model).__module__.partition(".")[0] == "torch":
        held = dict(model.named_children())
        inner = held.get("module", held.get("_orig_mod"))
        if inner is None or len(held) != 1 or isinstance(model, nn.Sequential) or _has_own(model):
            break
        model = inner
    return model


def _has_own(model: nn.Module) -> bool:
    return any(True for _ in (*model.parameters(recurse=False), *model.buffers(recurse=False)))
