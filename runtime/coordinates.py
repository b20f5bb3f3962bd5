"""The coordinates in which a binding moves, in words: what a certificate says of the chart of one.

`times model.norm.weight [1, 8, 1]`, `plus c_attn.weight times ln_1.bias, summed over 8`.  The standard library only.

Not here: what a chart does to a tensor (see `gaugec.runtime.held`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from gaugec.runtime.certificate import NOTHING

PARTS = ("copies", "group", "rest")


def in_chart(binding: Mapping[str, Any], reads: Sequence[str]) -> list[str]:
    """The chart of an unfolded binding in one line, none for none; reads: names or patterns, as the site reads them."""
    words = ", ".join([*_factors(binding, reads), *_sums(binding, reads)])
    return [f"in the chart {words}{': stands still' if binding['move'] == 'still' else ''}"] if words else []


def by_itself(binding: Mapping[str, Any], reads: Sequence[str]) -> tuple[Mapping[str, Any], list[str]]:
    """The binding with numbers of its own for what its chart reads, and that: equal for bindings that are alike."""
    own: dict[int, int] = {NOTHING: NOTHING}

    def numbered(each: Mapping[str, Any]) -> dict[str, Any]:
        read = {key: each[key] for key in ("gain", "weight", "bias") if key in each}
        return {**each, **{key: own.setdefault(number, len(own) - 1) for key, number in read.items()}}

    chart = {part: [numbered(each) for each in binding[part]] for part in ("factors", "sums")}
    return {**binding, **chart}, [reads[number] for number in own if number != NOTHING]


def sizes(binding: Mapping[str, Any], axes: Iterable[Sequence[int]] | None = None) -> str:
    """`[copies, group, rest]`, the sizes of a binding's axes; axes: of those alone along which something varies."""
    varies = None if axes is None else {(size, stride) for size, stride, *_ in axes}
    parts = (
        "*".join(str(size) for size, stride in binding[part] if varies is None or (size, stride) in varies)
        for part in PARTS
    )
    return f"[{', '.join(part or '1' for part in parts)}]"


def held_entries(binding: Mapping[str, Any], number: int) -> int:
    """How many entries the chart of an unfolded binding holds of what the site reads under a number."""
    axes = [each["axes"] for each in binding["factors"] if each["gain"] == number]
    axes += [(*each["kept"], *each["summed"]) for each in binding["sums"] if each["bias"] == number]
    return max((math.prod(size for size, *_, step in some if step) for some in axes), default=0)


def _factors(binding: Mapping[str, Any], reads: Sequence[str]) -> Iterator[str]:
    for each in binding["factors"]:
        gain = reads[each["gain"]] + _start(each["offset"])
        gain = f"({each['shift_by']:g} + {gain})" if each["shift_by"] else gain
        how = {"1": "times {}", "-1": "divided by {}"}.get(each["power"], f"times {{}}**{_braced(each['power'])}")
        yield f"{how.format(gain)} {sizes(binding, each['axes'])}"


def _sums(binding: Mapping[str, Any], reads: Sequence[str]) -> Iterator[str]:
    for each in binding["sums"]:
        bias = reads[each["bias"]] + _start(each["bias_offset"])
        if each["weight"] != NOTHING:
            bias = f"{reads[each['weight']]}{_start(each['weight_offset'])} times {bias}"
        sign = {"1": "plus", "-1": "minus"}.get(each["coefficient"], f"plus {each['coefficient']} times")
        over = "*".join(str(size) for size, *_ in each["summed"])
        yield f"{sign} {bias}" + (f", summed over {over}" if over else "")


def _start(offset: int) -> str:
    return f" from {offset}" if offset else ""


def _braced(power: str) -> str:
    return power if power.isdecimal() else f"({power})"
