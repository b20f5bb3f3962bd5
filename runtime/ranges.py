"""Lists of names written as ranges: `layers.{0..2}.weight` stands for `layers.0.weight`, `layers.1.weight`, ...

`expand(fold(names)) == names` for every list of names: order, repetitions and braces included.  In a pattern `{0..6}`
counts from 0 to 6, `{0..6..2}` in twos, the first range of a pattern turns slowest, and a brace that belongs to a name
is written twice.  The standard library only.

Not here: what the names are names of.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence

LIMIT = 1 << 20  # names that a list of patterns may stand for

_NUMBER = re.compile(r"(?<![0-9])(0|[1-9][0-9]{0,8})(?![0-9])")
_TOKEN = re.compile(
    r"(?P<text>[^{}]+)|(?P<brace>\{\{|\}\})"
    r"|\{(?P<first>0|[1-9][0-9]{0,8})\.\.(?P<last>0|[1-9][0-9]{0,8})(?:\.\.(?P<step>[1-9][0-9]{0,8}))?\}"
)

Item = tuple[str | range, ...]  # texts at even places; a number, still text or already a range, at odd ones


def fold(names: Iterable[str]) -> list[str]:
    """Patterns that stand for these names, in this order."""
    items: list[Item] = [tuple(_NUMBER.split(name)) for name in names]
    for place in range(max(map(len, items), default=0) // 2 * 2 - 1, 0, -2):
        items = _merged(items, place)
    return ["".join(map(_written, item)) for item in items]


def expand(patterns: Iterable[str]) -> list[str]:
    """The names that patterns stand for; ValueError for what is no pattern, or for more than `LIMIT` names."""
    out: list[str] = []
    for pattern in patterns:
        parts = _parsed(pattern)
        count = 1
        for part in parts:
            count *= len(part)
        if len(out) + count > LIMIT:
            raise ValueError(f"{pattern!r}: more than {LIMIT} names")
        out += ["".join(map(str, choice)) for choice in itertools.product(*parts)]
    return out


def _merged(items: Sequence[Item], place: int) -> list[Item]:
    """Runs of items that differ at one place only, where they count up evenly, as one item each.

    Ranges stand to the right of the place already, so the new one turns slower than they do.
    """
    out: list[Item] = []
    start = 0
    while start < len(items):
        item, run = items[start], _run(items, start, place)
        step = run[1] - run[0] if len(run) > 1 else 1
        if len(run) < (2 if step == 1 else 3):
            out.append(item)
            start += 1
        else:
            out.append((*item[:place], range(run[0], run[-1] + 1, step), *item[place + 1 :]))
            start += len(run)
    return out


def _run(items: Sequence[Item], start: int, place: int) -> list[int]:
    """The numbers at a place of the items from `start` on, as long as they count up and all else is equal."""
    item, out = items[start], list[int]()
    for other in itertools.islice(items, start, None):
        if len(other) <= place or other[:place] != item[:place] or other[place + 1 :] != item[place + 1 :]:
            break
        number = int(str(other[place]))
        step = out[1] - out[0] if len(out) > 1 else 1
        if out and (number <= out[-1] or (len(out) > 1 and number != out[-1] + step)):
            break
        out.append(number)
    return out


def _written(part: str | range) -> str:
    if isinstance(part, str):
        return part.replace("{", "{{").replace("}", "}}")
    return f"{{{part[0]}..{part[-1]}}}" if part.step == 1 else f"{{{part[0]}..{part[-1]}..{part.step}}}"


def _parsed(pattern: str) -> list[Sequence[str | int]]:
    """What the product is taken of: texts, each alone, and ranges."""
    parts: list[Sequence[str | int]] = []
    at = 0
    while at < len(pattern):
        match = _TOKEN.match(pattern, at)
        if match is None:
            raise ValueError(f"{pattern!r} is no pattern of names: a brace that is no range is written twice")
        if match["first"] is None:
            parts.append((match["text"] or match["brace"][0],))
        else:
            counted = range(int(match["first"]), int(match["last"]) + 1, int(match["step"] or 1))
            if not counted:
                raise ValueError(f"{pattern!r} is no pattern of names: {match[0]} counts down")
            parts.append(counted)
        at = match.end()
    return parts
