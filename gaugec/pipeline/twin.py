"""Is a small model the twin of a large one: the same structure, up to sizes and to how often a layer comes in a row?

Compared are the traces, node by node with all constants; the modules, by classes, hooks, modes and switches; and the
backwards that are written in Python.  What is found in the twin in numbers is then said of the large model.

What this module does not do: it does not see what a hook or a backward asks of a size or of a value, nor hooks of
autograd's own nodes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gaugec.errors import MatchError, first_line
from gaugec.graph.ir import Along, Graph, Leaf, Map, Node, Opaque, Sum
from gaugec.model.backwards import own_backwards
from gaugec.model.context import as_trained
from gaugec.model.guest import Model
from gaugec.model.preserve import preserved
from gaugec.model.taken import taken, trainable
from gaugec.sites import Site
from gaugec.tracing.trace import Trace

_NUMBER = re.compile(r"[0-9]+")


@dataclass(frozen=True)
class Subject:
    """A model with its inputs and its trace."""

    model: Model
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    traced: Trace


def subject_of(twin: Any, args: Sequence[Any], kwargs: Mapping[str, Any], traced: Callable[..., Trace]) -> Subject:
    """The twin as it was given: a module, for the same inputs, or a tuple of a module with inputs of its own."""
    given = twin if isinstance(twin, tuple) else (twin, args, kwargs)
    if not 2 <= len(given) <= 3 or not isinstance(given[0], Model):
        raise MatchError("the twin is no model", help="give a module, or (module, args) or (module, args, kwargs)")
    model, own, named, *_ = trainable(taken(*(*given, {})[:3]))
    return Subject(model, tuple(own), dict(named), traced(model, own, named))


def same_structure(large: Subject, twin: Subject) -> None:
    """Refuses a twin that is none.

    Raises:
        MatchError: with the first difference.
    """
    _alike("a value", _values(large.traced.graph), _values(twin.traced.graph))
    one, two = _modules(large.model), _modules(twin.model)
    for path in (*one, *two):
        if one.get(path) != two.get(path):
            has, had = sorted(one.get(path, set()) ^ two.get(path, set())), "the model" if path in one else "the twin"
            raise _other(f"{path or 'the top'} is {has[0] if has else 'nothing'} in {had} alone")
    _alike("a backward in Python", _backwards(large), _backwards(twin))


def same_sites(large: Sequence[Site], twin: Sequence[Site]) -> None:
    """Refuses a twin that lacks a kind of site.

    Raises:
        MatchError: with the first site that the twin has not.
    """
    kinds = {_kind(site) for site in twin}
    for site in large:
        if _kind(site) not in kinds:
            raise _other(f"it has no site like {site.gauge} {site.index} at {site.place or 'the top'}")


def _kind(site: Site) -> object:
    bindings = tuple((b.role, _plain(b.parameter), b.move, b.shift_by) for b in site.bindings)
    return (site.gauge, site.group, site.outcome, site.pairing, site.rotary > 0, frozenset(bindings))


def _other(difference: str) -> MatchError:
    return MatchError(f"the twin is another structure: {difference}", help="make it of the same code, with other sizes")


def _plain(path: str) -> str:
    return _NUMBER.sub("N", path)


# --- what is compared ----------------------------------------------------------------------------------------------
Row = tuple[str, object]  # where something is, and what it is


def _values(graph: Graph) -> list[Row]:
    numbers = {id: n for n, id in enumerate(graph.outputs)}
    written = set(graph.buffers)

    def own(node: Node) -> tuple[object, ...]:
        extra: object = ()
        match node:
            case Leaf():
                extra = (node.kind, _plain(node.name), node.random)
            case Sum():
                extra = (node.coefficients, node.constant)
            case Map() | Along():
                extra = (node.function, node.attributes)
            case Opaque():
                extra = node.source
        return (node.word, extra, node.source, _plain(node.place), len(node.shape))

    rows: list[Row] = []
    for node in graph:
        reads = tuple((own(graph[a.node]), tuple(len(ix.terms) for ix in a.index)) for a in node.operands)
        leaving = (node.id in numbers, node.id in written)
        rows.append((node.name if isinstance(node, Leaf) else node.place, (own(node), len(node.binds), reads, leaving)))
    return rows


def _backwards(subject: Subject) -> list[Row]:
    try:
        with preserved(subject.model, parameters=False), as_trained(subject.model):
            return list(own_backwards(subject.model, subject.args, subject.kwargs))
    except Exception as error:
        raise MatchError(f"the model cannot be compared with a twin: {first_line(error)[:200]}") from error


def _modules(model: Model) -> dict[str, set[str]]:
    """By path without numbers: class, mode, hooks, what stands in place of a method, and switches."""
    found: dict[str, set[str]] = {}
    for path, module in model.named_modules():
        facts = found.setdefault(_plain(path), set())
        kind = type(module)
        facts |= {f"{kind.__module__}.{kind.__qualname__} ({id(kind)})", f"training {module.training}"}
        for name, value in module.__dict__.items():
            if isinstance(value, dict) and name.endswith("hooks"):
                facts |= {f"{name} {len(value)}", *(f"{name} {_code(hook)}" for hook in value.values())}
            elif isinstance(value, (bool, str)) or value is None:
                facts.add(f"{name} {value!r}")
            elif callable(value) and not isinstance(value, Model):
                facts.add(f"{name} {_code(value)}")
    for path, p in model.named_parameters():
        hooks = [*(p._backward_hooks or {}).values()] if isinstance(p._backward_hooks, dict) else []
        found.setdefault(_plain(path), set()).update({f"hooks {len(hooks)}", *map(_code, hooks)})
        found[_plain(path)] |= {f"trained {p.requires_grad}", f"{p.dtype}"}
    return found


def _code(function: Any) -> str:
    function = getattr(function, "__func__", function)
    code = getattr(function, "__code__", None)
    return f"code {code.co_filename}:{code.co_firstlineno}:{code.co_name}" if code is not None else repr(type(function))


# --- sequences, up to how often a stretch comes in a row ----------------------------------------------
def _alike(what: str, one: Sequence[Row], two: Sequence[Row]) -> None:
    a, b = _normal(one, 0), _normal(two, 0)
    difference = _first(a, b)
    if difference is not None:
        here, there = (f"{x!r}"[:160] if x is not None else "nothing more" for x in difference)
        raise _other(f"{what} is {here} in the model, {there} in the twin")


def _normal(rows: Sequence[Row], depth: int) -> tuple[object, ...]:
    """The rows with the blocks of one number of their places together, and what repeats in a row once."""
    blocks: list[tuple[str, list[Row]]] = []
    for row in rows:
        numbers = list(_NUMBER.finditer(row[0]))
        key = row[0][: numbers[depth].end()] if depth < len(numbers) else ""
        if key and blocks and blocks[-1][0] == key:
            blocks[-1][1].append(row)
        else:
            blocks.append((key, [row]))
    return _once([("block", _normal(b, depth + 1)) if key else b[0][1] for key, b in blocks])


def _once(items: list[object]) -> tuple[object, ...]:
    """The items with every stretch that comes several times in a row once; short stretches first."""
    length = 1
    while 2 * length <= len(items):
        at = 0
        while at + 2 * length <= len(items):
            same = items[at : at + length] == items[at + length : at + 2 * length]
            if same and any(isinstance(x, tuple) and x and x[0] == "block" for x in items[at : at + length]):
                del items[at : at + length]
            else:
                at += 1
        length += 1
    return tuple(items)


def _first(one: Any, two: Any) -> tuple[Any, Any] | None:
    """The first pair of items at which two normal forms part."""
    for number in range(max(len(one), len(two))):
        a = one[number] if number < len(one) else None
        b = two[number] if number < len(two) else None
        if a == b:
            continue
        if a is not None and b is not None and a[0] == b[0] == "block":
            return _first(a[1], b[1])
        return a, b
    return None
