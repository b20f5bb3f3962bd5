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
LENGTH = 1 << 26  # characters of all these names together

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
    """The names that patterns stand for.

    Raises ValueError for what is no pattern, and for more than `LIMIT` names or `LENGTH` characters: before it is long.
    """
    out: list[str] = []
    length = 0
    for pattern in patterns:
        parts = _parsed(pattern)
        count = 1
        for part in parts:
            count *= len(part)
        length += count * len(pattern)
        if len(out) + count > LIMIT:
            raise ValueError(f"{pattern[:80]!r}: more than {LIMIT} names")
        if length > LENGTH:
            raise ValueError(f"{pattern[:80]!r}: names of more than {LENGTH} characters")
        out += ["".join(map(str, choice)) for choice in itertools.product(*parts)]
    return out


def fold_rows(rows: Iterable[Sequence[str]]) -> list[tuple[str, ...]]:
    """Rows of patterns that stand for these rows of names, all of one width.

    Rows that differ in numbers only and count up evenly are one.  Rows of the same texts come to stand together, in
    their order.
    """
    alike: dict[tuple[tuple[str, ...], ...], list[tuple[str, ...]]] = {}
    for row in rows:
        alike.setdefault(tuple(tuple(_NUMBER.split(name)[::2]) for name in row), []).append(tuple(row))
    out: list[tuple[str, ...]] = []
    for group in alike.values():
        if len(group[0]) == 1:
            out += [(pattern,) for pattern in fold(name for (name,) in group)]
            continue
        start = 0
        while start < len(group):
            run = group[start : start + _even(group, start)]
            columns = [_column(column) for column in zip(*run)]
            folded = tuple(column for column in columns if column is not None)
            out += [folded] if len(folded) == len(columns) else [tuple(map(_written, row)) for row in run]
            start += len(run)
    return out


def expand_row(patterns: Sequence[str]) -> list[tuple[str, ...]]:
    """The rows that a row of patterns stands for: one that stands for a single name does so in every row.

    Raises ValueError for what `expand` does not take, where the patterns stand for different numbers of names, and for
    more than `LIMIT` names in all rows together.
    """
    columns = [expand([pattern]) for pattern in patterns]
    count = max(map(len, columns), default=0)
    odd = next((n for n, column in enumerate(columns) if len(column) not in (1, count)), None)
    if odd is not None:
        raise ValueError(f"{patterns[odd][:80]!r} stands for {len(columns[odd])} names, another beside it for {count}")
    if count * len(columns) > LIMIT:
        raise ValueError(f"{patterns[0][:80]!r}: more than {LIMIT} names")
    return list(zip(*(column if len(column) == count else column * count for column in columns)))


def _column(names: Sequence[str]) -> str | None:
    """One pattern for names that count up evenly at one place, or are all the same; None where there is none."""
    first, last = (_NUMBER.split(names[at]) for at in (0, -1))
    moved = [place for place in range(1, len(first), 2) if first[place] != last[place]]
    parts: Item = tuple(first)
    for place in moved:
        begin, end = int(first[place]), int(last[place])
        parts = (*parts[:place], range(begin, end + 1, (end - begin) // (len(names) - 1)), *parts[place + 1 :])
    return "".join(map(_written, parts)) if len(moved) < 2 else None


def _even(rows: Sequence[Sequence[str]], start: int) -> int:
    """How many rows from `start` on, which differ in numbers only, have each the same step to the next."""
    before = step = None
    for length, row in enumerate(itertools.islice(rows, start, None)):
        numbers = [int(number) for name in row for number in _NUMBER.split(name)[1::2]]
        if before is not None:
            found = [n - m for m, n in zip(before, numbers)]
            if (step is not None and found != step) or min(found, default=0) < 0 or not any(found):
                return length
            step = found
        before = numbers
    return len(rows) - start


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
