"""Which names mean the same parameter: wrappers put prefixes before a name, and what they wrap is the same model.

DistributedDataParallel, and any module that keeps a model as `.module`, add `module.` in front; torch.compile adds
`_orig_mod.` wherever a compiled module stands. Everything that looks a parameter up by name asks here: binding, saved
state, `Gauge.act`, telemetry. Not here: which parameters a gauge moves.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from torch import nn

T = TypeVar("T")


def plain(name: str) -> str:
    """A parameter's name without the prefixes that wrappers add."""
    name = name.replace("_orig_mod.", "")
    while name.startswith("module."):
        name = name.removeprefix("module.")
    return name


def by_name(pairs: Iterable[tuple[str, T]]) -> dict[str, T]:
    """Things by the plain names that they come with; raises ValueError where two have the same."""
    out: dict[str, T] = {}
    first: dict[str, str] = {}
    for name, thing in pairs:
        short = plain(name)
        if short in out:
            also = f", as {first[short]} and as {name}" if first[short] != name else ""
            raise ValueError(f"two parameters have the name {short}{also}")
        out[short], first[short] = thing, name
    return out


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
