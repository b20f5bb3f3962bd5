"""What a compile assumed beside what it proved: the record of it in a certificate, folded, unfolded and in words.

mode: "train", or "eval" where the model was in eval mode as a whole and was compiled as `model.train()` makes it.
everywhere, settings: what the forward read of modules, and of the plain objects and functions that hang on them, as
texts: attribute and value where all modules that have the attribute agree; else (attribute, value, owners), the owners
as patterns of module paths.  Written out all are rows (owner, attribute, value), with `EVERY` for the former.
globals: (module of Python, name, value).  tensors: (input, dtype, sizes, note), a size of 0 where any will do, and -1,
-2 where any will that is the same wherever that number stands.  values: (input, value), for what is no tensor;
`OR_LEFT_OUT` stands behind one that the compile gave by itself.  frozen: parameters that are not trained.  parts: all
modules and buffers (see `holders.parts`).  unknown: what was read and cannot be looked up again.

The standard library only.  Not here: how settings are looked up (see `holders`) and compared (see `differences`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from gaugec.runtime.ranges import expand, fold, fold_rows

EVERY = "*"
ENVIRONMENT = "os.environ"  # as the module of a global: a variable of the environment
OR_LEFT_OUT = ", or left out"  # behind a value that the compile gave by itself: the caller did not
SHOWN = 6  # settings in the short report


def folded(whole: Mapping[str, Any], common: Mapping[str, str]) -> dict[str, Any]:
    """The record of what is written out, with the settings as rows (owner, attribute, value).

    common: attributes in which all modules that have them agree, those included of which it was not read.
    """
    rows: dict[str, list[tuple[str, str]]] = {}
    for owner, attribute, value in whole["settings"]:
        rows.setdefault(attribute, []).append((owner, value))
    everywhere = {attribute: common[attribute] for attribute in rows if attribute in common}
    apart = {attribute: pairs for attribute, pairs in rows.items() if attribute not in common}
    settings = [(attribute, *found) for attribute, pairs in apart.items() for found in _shortest(pairs)]
    parts = [pattern for (pattern,) in fold_rows((part,) for part in whole["parts"])]
    frozen = fold(whole["frozen"])
    return {**whole, "everywhere": everywhere, "settings": settings, "frozen": frozen, "parts": parts}


def _shortest(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, tuple[str, ...]]]:
    """Values with the patterns of their owners, in the fewest patterns: a value may count along with its owner."""
    alike: dict[str, list[str]] = {}
    for owner, value in pairs:
        alike.setdefault(value, []).append(owner)
    one = [(fold([value])[0], tuple(p for (p,) in fold_rows((o,) for o in owners))) for value, owners in alike.items()]
    along: dict[str, list[str]] = {}
    for owner, value in fold_rows(pairs):
        along.setdefault(value, []).append(owner)
    two = [(value, tuple(owners)) for value, owners in along.items()]
    return min(one, two, key=lambda found: sum(len(owners) for _, owners in found))


# --- in words ------------------------------------------------------------------------------------------------------
def in_words(record: Mapping[str, Any], *, explain: bool = False) -> Iterator[str]:
    """What was assumed, a few lines; explain: every setting in a line of its own."""
    yield "assumed (`gauge.holds(model, ...)` says what differs now):"
    yield f"  {_modes(record)}"
    yield f"  inputs: {'; '.join(_inputs(record)) or 'none'}"
    every = sorted({size for _, _, sizes, _ in record["tensors"] for size in sizes if size <= 0}, reverse=True)
    if every:
        one = [_size(size) for size in every if size]
        kinds = (["*: any size"] if 0 in every else []) + (
            [f"{', '.join(one)}: any size that is one wherever the letter stands"] if one else []
        )
        yield f"          {'; '.join(kinds)}; every other size is the only one that was looked at"
    if record["frozen"]:
        yield f"  frozen: {_few(record['frozen'], explain)}"
    rows = [(name, value, ()) for name, value in record["everywhere"].items()]
    rows += [(name, _once(value), owners) for name, value, owners in record["settings"]]
    told = [f"{name} {value}" for name, value, _ in rows if name not in ("training", "forward") and name[0] != "_"]
    if explain:
        yield "  settings that the forward reads:"
        yield from (f"    {_owned(name, owners)}: {value}" for name, value, owners in rows)
    elif told:
        yield f"  settings: {_few(told, explain)}"
    if record["globals"]:
        names = [f"{name} of {module} {value}" for module, name, value in record["globals"]]
        yield f"  globals: {_few(names, explain)}"
    yield from (f"  not looked up again: {text}" for text in record["unknown"])
    yield "  never looked up: switches of torch and of the process, numbers read out of tensors that are no parameters"


def _modes(record: Mapping[str, Any]) -> str:
    flags = [(value, owners) for name, value, owners in record["settings"] if name == "training"]
    evaluated = [owner or "the model" for value, owners in flags if value == "False" for owner in owners]
    modes = f"modes: train, but eval of {', '.join(evaluated)}" if evaluated else "modes: all in train mode"
    if record["everywhere"].get("training") == "False":
        modes = "modes: all in eval mode"
    was = "; it was in eval mode, and is compiled as model.train() makes it"
    return modes + (was if record["mode"] == "eval" else "")


def _inputs(record: Mapping[str, Any]) -> Iterator[str]:
    for name, dtype, sizes, note in record["tensors"]:
        yield f"{name} {dtype} [{_sizes(sizes)}]" + (f" ({note})" if note else "")
    yield from (f"{name} {value}" for name, value in record["values"])


def _sizes(sizes: Iterable[int]) -> str:
    return ", ".join(map(_size, sizes))


def _size(size: int) -> str:
    """A size, * for any, and a letter for any that is one in several places."""
    if size > 0:
        return str(size)
    return f"{chr(ord('a') + (-size - 1) % 26)}{(-size - 1) // 26 or ''}" if size else "*"


def _owned(attribute: str, owners: Sequence[str]) -> str:
    if not owners:
        return f"{attribute}, wherever there is one"
    return ", ".join(f"{owner}.{attribute}".lstrip(".") for owner in owners)


def _once(pattern: str) -> str:
    """A value as it is; one that counts along with its owner stays a pattern."""
    texts = expand((pattern,))
    return texts[0] if len(texts) == 1 else pattern


def _few(texts: Sequence[str], explain: bool) -> str:
    more = len(texts) - SHOWN
    return "; ".join(texts) if explain or more <= 0 else f"{'; '.join(texts[:SHOWN])}; {more} more under explain"
