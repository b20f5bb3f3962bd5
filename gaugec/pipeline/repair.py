"""The nearest edit of a refused gauge that makes it a theorem.

Edits are tried nearest first (`gaugec.language.edits`): the shape checker, then the case in which the gauge failed and
other small ones, then the prover and the component check in full.  Only what both of these accept is proposed.

What this module does not do: it edits no file, and it looks for no repair of a gauge that no case contradicts.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

from gaugec import limits
from gaugec.errors import SpecError
from gaugec.language.check import check_gauge
from gaugec.language.edits import Edit, edits
from gaugec.language.lower import all_dims, lower
from gaugec.language.tree import Gauge
from gaugec.proof.prove import prove_statement
from gaugec.sampling.counterexample import Counterexample
from gaugec.sampling.point import fails_at, leaves_of
from gaugec.sampling.sample import sample
from gaugec.sampling.search import search

EDITS, PROOFS = 400, 6  # edits that are looked at, and that are proved, at most
QUICK = 4_000  # products that the search for a case against one edit may take
SAFETY = 5.0  # seconds; an edit that is far away is not worth more of them


def repair(gauge: Gauge, case: Counterexample) -> Edit | None:
    """The nearest edit that is proved, or None; `case` is one in which the gauge fails.  Never raises."""
    until = limits.now() + SAFETY
    proofs = 0
    for edit in itertools.islice(edits(gauge, case.failure.law != "kept"), EDITS):
        if proofs >= PROOFS or limits.now() > until:
            return None
        try:
            checked = _checked(edit.gauge)
            if checked is None or _fails_at(checked, case) or _fails_somewhere(checked):
                continue
            proofs += 1
            if _proved(checked):
                return replace(edit, gauge=checked)
        except Exception:  # an edit at which anything breaks is no repair
            continue
    return None


def _checked(gauge: Gauge) -> Gauge | None:
    """The gauge with its shapes; None where they do not fit."""
    try:
        return check_gauge(gauge, {operator.name: operator for operator in gauge.operators})
    except SpecError:
        return None


def _fails_at(edited: Gauge, case: Counterexample) -> bool:
    """Whether the edit fails where the gauge did, if its element is of the same group."""
    if case.failure.law != "kept" or (edited.element.group, edited.element.dims) != (case.group, case.group_dims):
        return False
    try:
        statement = lower(edited, case.sizes)
        tables = [part.values for part in (*case.params, *case.givens)]
        leaves = {node.id: table for node, table in zip(leaves_of(statement), tables, strict=True)}
        return fails_at(statement, leaves, case.element.values)
    except (ValueError, ZeroDivisionError):  # no value there
        return False


def _fails_somewhere(edited: Gauge) -> bool:
    """Whether a short search finds a case against the edit."""
    return search(lambda sizes: lower(edited, sizes), all_dims(edited), QUICK, shrink=False).found is not None


def _proved(gauge: Gauge) -> bool:
    """By the prover, and by the component check, which shares nothing with it."""
    if prove_statement(lower(gauge), seconds=2.0).verdict != "proved":
        return False
    return bool(sample(lambda sizes: lower(gauge, sizes), all_dims(gauge)))
