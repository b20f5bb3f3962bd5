"""What was proved, as data: the `METADATA` of a compiled file.  docs/certificates.md says what every field means.

`make` writes a certificate, `restated` writes one into a text again; `fingerprint`, `trail` and `departure` tell graphs
apart.

What this module does not do: it proves and reads nothing, and believes nothing that a certificate says.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gaugec.graph.ir import Graph, Leaf, Node
from gaugec.literals import literal
from gaugec.runtime.certificate import NOTHING, folded
from gaugec.runtime.seal import BLANK, VERSION
from gaugec.sites import Binding, Chart, Factor, Site, Summand
from gaugec.version import VERSION as RELEASE

HEAD = "METADATA: dict[str, Any] = "
TOLERATED = ("gaugec", "torch", "witness")
"""Fields that another machine or another release may write differently: a recheck measures and says them anew."""

Trail = list[tuple[int, str]]
"""Two digits for every node; what comes several times in a row stands once, beside how often."""

_DIGITS = 12  # of a structure's hash: enough to tell apart, and the proofs behind it are made again
_SAVED = 16  # nodes that a repetition in a trail has to save

_NUMBER = re.compile("[0-9]+")


# --- writing -------------------------------------------------------------------------------------------------------
def make(
    *,
    spec: str,
    spec_file: str,
    spec_sha256: str,
    theorems: Sequence[Mapping[str, Any]],
    graph: Graph,
    sites: Sequence[Site],
    loss: str | None,
    outputs: Sequence[str],
    fixed: Sequence[str],
    taken: Sequence[str],
    traced: str,
    parameters: Mapping[str, tuple[int, ...]],
    tied: Mapping[str, str],
    roles: Mapping[str, tuple[str, Sequence[tuple[Any, ...]]]],
    refused: Sequence[str],
    gauged: tuple[int, int],
    ungauged: Mapping[str, str],
    unchecked: Mapping[str, Any],
    witness: Mapping[str, Any],
    assumed: Mapping[str, Any],
    torch: str,
) -> dict[str, Any]:
    """The certificate of one compilation; `file_sha256` is blank until the file is sealed.

    theorems: of every gauge its `gauge`, `verdict`, `conditions`, `steps`, and whether it was `sampled`.
    outputs: which of them count, none for all.  fixed: the sizes that the caller calls so.
    taken: how what was given was understood, in words.
    roles: of every parameter what it is, and its matrices (offset, copies, rows, columns), axes as (size, stride).
    gauged: how many entries of parameters the sites move, and how many there are.
    unchecked: `what` every site was not checked by, in words, and `why` for each.
    """
    layouts: list[dict[str, Any]] = []
    structures: dict[str, dict[str, Any]] = {}
    placed: list[dict[str, Any]] = []
    for site in sites:
        reads = list(dict.fromkeys(name for binding in site.bindings for name in _read(binding.chart)))
        places = {name: number for number, name in enumerate(reads)}
        bindings = [_binding(binding, places) for binding in site.bindings]
        layout = {"copies": site.copies, "size": site.size, "bindings": bindings}
        if layout not in layouts:
            layouts.append(layout)
        key = next(value for name, value in site.certificate if name == "structure")[:_DIGITS]
        if structures.setdefault(key, _structure(site)) != _structure(site):
            raise AssertionError(f"two proofs of one structure: {key}")
        placed.append(
            {
                "gauge": site.gauge,
                "index": site.index,
                "place": site.place,
                "structure": key,
                "layout": layouts.index(layout),
                "parameters": [b.parameter for b in site.bindings],
                "reads": reads,
            }
        )
    return folded(
        {
            "certificate": VERSION,
            "gaugec": RELEASE,
            "torch": torch,
            "file_sha256": BLANK,
            "spec": spec,
            "spec_file": spec_file,
            "spec_sha256": spec_sha256,
            "steps": [],
            "theorems": theorems,
            "loss": loss or "",
            "outputs": list(outputs),
            "fixed": list(fixed),
            "taken": list(taken),
            "traced": traced,
            "inputs": [(node.name, node.shape) for node in graph.leaves("input")],
            "graph_sha256": fingerprint(graph),
            "graph_trail": trail(graph),
            "structures": structures,
            "layouts": layouts,
            "sites": placed,
            "refused": list(refused),
            "gauged": gauged,
            "ungauged": dict(ungauged),
            "parameters": dict(parameters),
            "tied": dict(tied),
            "roles": {name: (role, [tuple(one) for one in matrices]) for name, (role, matrices) in roles.items()},
            "unchecked": dict(unchecked),
            "assumed": dict(assumed),
            "witness": dict(witness),
        }
    )


def laid_out(certificate: Mapping[str, Any]) -> str:
    """The certificate as it stands in a file, after `HEAD`."""
    return literal(dict(certificate), len(HEAD), filled=True)


def restated(source: str, changes: Mapping[str, Any]) -> str:
    """The source of the compiler with some fields of its certificate set to other values."""
    tree = ast.parse(source)
    (node,) = (n for n in tree.body if isinstance(n, ast.AnnAssign) and ast.unparse(n.target) == "METADATA")
    lines = source.split("\n")
    value = {**ast.literal_eval(node.value or ast.Dict([], [])), **changes}
    last = (node.end_lineno or node.lineno) - 1
    rest = lines[last].encode()[node.end_col_offset :].decode()  # a comment behind it
    return "\n".join([*lines[: node.lineno - 1], HEAD + laid_out(value) + rest, *lines[last + 1 :]])


def _read(chart: Chart) -> Iterator[str]:
    """What a chart reads, in the order in which it is written."""
    yield from (factor.parameter for factor in chart.factors)
    yield from (name for each in chart.summands for name in (each.weight, each.bias) if name)


def _binding(binding: Binding, places: Mapping[str, int]) -> dict[str, Any]:
    """A binding without names: places says which of the names that a site reads a parameter is."""
    return {
        "role": binding.role,
        "offset": binding.offset,
        "copies": binding.copies,
        "group": binding.group,
        "rest": binding.rest,
        "move": binding.move.kind,
        "exponent": str(binding.move.exponent),
        "dual": binding.move.dual,
        "shift_by": binding.shift_by,
        "factors": [_factor(factor, places) for factor in binding.chart.factors],
        "sums": [_sum(summand, places) for summand in binding.chart.summands],
    }


def _factor(factor: Factor, places: Mapping[str, int]) -> dict[str, Any]:
    return {
        "gain": places[factor.parameter],
        "offset": factor.offset,
        "axes": factor.axes,
        "power": str(factor.power),
        "shift_by": factor.shift_by,
    }


def _sum(summand: Summand, places: Mapping[str, int]) -> dict[str, Any]:
    return {
        "weight": places[summand.weight] if summand.weight else NOTHING,
        "weight_offset": summand.weight_offset,
        "bias": places[summand.bias],
        "bias_offset": summand.bias_offset,
        "offset": summand.offset,
        "kept": summand.kept,
        "summed": summand.summed,
        "coefficient": str(summand.coefficient),
    }


def _structure(site: Site) -> dict[str, Any]:
    """What was proved of a site's structure: the same for every site that shares it."""
    return {
        "group": site.group,
        "pairing": site.pairing,
        "rotary": site.rotary,
        "verdict": site.outcome,
        "conditions": [value for name, value in site.certificate if name == "condition"],
        "steps": [value for name, value in site.certificate if name == "step"],
    }


# --- graphs --------------------------------------------------------------------------------------------------------
def fingerprint(graph: Graph) -> str:
    """A hash of all that matching and proving read of a graph.

    Names of ATen operations do not enter, not even of those without a row: they are another release's business.
    """
    digest = hashlib.sha256()
    for node in graph:
        digest.update(repr(node.identity).encode())
    digest.update(repr((graph.outputs, graph.buffers, graph.cuts)).encode())
    return digest.hexdigest()


def trail(graph: Graph) -> Trail:
    """What the nodes are, one after the other: to find where another graph differs, not to say whether it does."""
    return _repeats([_digits(graph, node) for node in graph])


def departure(graph: Graph, other: Trail) -> Node | None:
    """The first node that the trail of another graph does not pass, None where it passes them all."""
    digits = "".join(stretch * count for count, stretch in other)
    return next((node for node in graph if digits[2 * node.id : 2 * node.id + 2] != _digits(graph, node)), None)


def _digits(graph: Graph, node: Node) -> str:
    """Two digits of what a node computes and of what it reads: the same in every layer, whatever its number."""

    def own(node: Node) -> tuple[object, ...]:
        name = node.name if isinstance(node, Leaf) else ""
        return (node.word, node.own, node.shape, *(_NUMBER.sub("", text) for text in (name, node.place)))

    indices = [access.index for access in node.operands]
    text = repr((own(node), node.sizes, indices, [own(graph[access.node]) for access in node.operands]))
    return hashlib.sha256(text.encode()).hexdigest()[:2]


def _repeats(digits: Sequence[str]) -> Trail:
    """A trail: where a stretch of nodes comes again and again (the layers of a model), it stands once."""
    period = _period(digits)
    same = [period and a == b for a, b in zip(digits, digits[period:])]
    start, length = _longest(same)
    count = length // period + 1 if period else 1
    if (count - 1) * period < _SAVED:
        return [(1, "".join(digits))] if digits else []
    end = start + count * period
    middle = (count, "".join(digits[start : start + period]))
    return [*_repeats(digits[:start]), middle, *_repeats(digits[end:])]


def _period(digits: Sequence[str]) -> int:
    """The most frequent distance from a run of eight to the next one like it; 0 where nothing comes again."""
    last: dict[tuple[str, ...], int] = {}
    distances: Counter[int] = Counter()
    for at in range(len(digits) - 7):
        run = tuple(digits[at : at + 8])
        if run in last:
            distances[at - last[run]] += 1
        last[run] = at
    return min(distances, key=lambda distance: (-distances[distance], distance), default=0)


def _longest(same: Sequence[object]) -> tuple[int, int]:
    """Start and length of the longest run that holds."""
    best, start = (0, 0), 0
    for at, holds in enumerate([*same, False]):
        if not holds:
            best = max(best, (start, at - start), key=lambda run: run[1])
            start = at + 1
    return best


__all__ = ["HEAD", "TOLERATED", "Trail", "departure", "fingerprint", "laid_out", "make", "restated", "trail"]
