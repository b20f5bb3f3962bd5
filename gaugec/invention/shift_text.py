"""Shifts as the text of gauges.

What this module does not do: it finds none (see `gaugec.invention.shifts`).
"""

from __future__ import annotations

from gaugec.graph.ir import Graph
from gaugec.invention.finding import Finding, Unsaid
from gaugec.invention.formula import GaugeText
from gaugec.invention.shifts import Forgotten, TakenUp


def shifted(graph: Graph, shift: Forgotten | TakenUp, finding: Finding) -> GaugeText:
    """The text of a shift, whose only group is the finding's.

    Raises:
        Unsaid: the language has no words for it.
    """
    return _taken_up(shift) if isinstance(shift, TakenUp) else _forgotten(graph, shift)


def _forgotten(graph: Graph, shift: Forgotten) -> GaugeText:
    (leaf,) = shift.finding.bound
    if len(graph[leaf].modes) == 1:
        raise Unsaid("one number is added to all entries, and there is no group of one number")
    if not shift.applied:
        raise Unsaid("a parameter is added to what forgets the shift, without data that weigh it")
    names = [f"y{number}" if number else "y" for number, _ in enumerate(shift.ends)]
    targets = ", t[n]" if "cross_entropy" in shift.ends else ""
    made = [f"{end}(x @ W.T{', t' if end == 'cross_entropy' else ''})" for end in shift.ends]
    lines = [
        f"given  x[n, d]{targets}",
        "param  W[f, d]",
        *(f"model  {name} = {expr}" for name, expr in zip(names, made)),
        "",
        "for every a in translation(d):",
        "    W -> W + outer(ones(f), a)",
        "",
        f"keeps  {', '.join(names)}",
    ]
    return GaugeText(("n", "d", "f"), _body(lines))


def _taken_up(shift: TakenUp) -> GaugeText:
    """The text of a bias that the biases of its readers take up."""
    numbers = [str(n) if len(shift.readers) > 1 else "" for n in range(1, len(shift.readers) + 1)]
    averaged = any(mean for *_, mean in shift.readers)
    models, params, actions = [], ["b[d]"], ["b -> b + a"]
    for number, (_, _, mean) in zip(numbers, shift.readers):
        value = "softmax(s) @ (x + b)" if mean else "(x + b)"
        models.append(f"model  y{number} = {value} @ W{number}.T + B{number}")
        params += [f"W{number}[e{number}, d]", f"B{number}[e{number}]"]
        actions.append(f"B{number} -> B{number} - W{number} @ a")
    lines = [
        f"given  x[m, d]{', s[n, m]' if averaged else ''}",
        f"param  {', '.join(params)}",
        *models,
        "",
        "for every a in translation(d):",
        *(f"    {action}" for action in actions),
        "",
        f"keeps  {', '.join(f'y{number}' for number in numbers)}",
    ]
    dims = ("m", *(["n"] if averaged else []), "d", *(f"e{number}" for number in numbers))
    return GaugeText(dims, _body(lines))


def _body(lines: list[str]) -> str:
    return "\n".join(f"    {line}".rstrip() for line in lines) + "\n"
