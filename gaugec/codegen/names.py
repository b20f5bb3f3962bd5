"""The model's own names, short, for what a component moves; and the places at which it stands, as ranges.

Names and places are text for people and keys in string literals: nothing is decided by them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from gaugec.runtime.ranges import fold

_ODD = re.compile(r"[^A-Za-z0-9_.]")
_LONGEST = 48


def slot_names(slots: Sequence[str], instances: Sequence[Sequence[str]]) -> dict[str, str]:
    """A name for every slot from its parameter's: the fewest last parts that tell the slots apart.

    `weight` is left out, and so are parts that are not the same at every place.
    """
    paths = []
    for column in zip(*instances):
        split = [name.split(".") for name in column]
        same = [part for part, *others in zip(*split) if all(other == part for other in others)]
        paths.append([_ODD.sub("_", part) for part in same if part] or ["tensor"])
    named = [_shortest(path, 1) for path in paths]
    for length in range(2, max(map(len, paths), default=0) + 1):
        counts = Counter(named)
        named = [_shortest(path, length) if counts[name] > 1 else name for path, name in zip(paths, named)]
    return dict(zip(slots, _told_apart(named)))


def _shortest(path: Sequence[str], length: int) -> str:
    """The last parts of a path: at least so many, more where they would begin with a number."""
    if path[-1] == "weight" and len(path) > 1:
        path = path[:-1]
    elif path[-1] == "bias":
        length += 1
    while length < len(path) and path[-length].isdecimal():
        length += 1
    return ".".join(path[-length:])[-_LONGEST:]


def gauge_names(gauges: Sequence[tuple[str, str]]) -> dict[str, str]:
    """A name for every gauge (key, name in the spec) of a component: its own, numbered where several share it."""
    named = [_ODD.sub("_", name)[:_LONGEST] or "gauge" for _, name in gauges]
    counts = Counter(named)
    seen: Counter[str] = Counter()
    out = []
    for name in named:
        seen[name] += 1
        out.append(f"{name}_{seen[name]}" if counts[name] > 1 else name)
    return dict(zip((key for key, _ in gauges), _told_apart(out)))


def _told_apart(names: Sequence[str]) -> list[str]:
    """The names, with a number behind each that is taken."""
    out: list[str] = []
    for name in names:
        number, free = 2, name
        while free in out:
            number, free = number + 1, f"{name}_{number}"
        out.append(free)
    return out


def places(texts: Sequence[str]) -> str:
    """Where all instances of a component are: texts of comma separated places, folded column by column."""
    columns = [text.split(", ") for text in texts]
    if len({len(column) for column in columns}) != 1:
        return ", ".join(fold(texts))
    return ", ".join(dict.fromkeys(pattern for column in zip(*columns) for pattern in fold(column)))
