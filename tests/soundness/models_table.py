"""Compiles every mutant with every shipped gauge, lets the judge look at each site, and prints a table.

`model_table()` gives the rows, `main()` prints them and exits with 1 where a false site was accepted or a compilation
ended in anything but a result or a refusal.  Deterministic but for the seconds.

What this module does not do: it makes no mutant and no judgement (see `model_mutants` and `judging_models`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import multiprocessing
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from match.models import spec_file
from soundness.judging_models import Judge, Judgement, Subject
from soundness.model_bases import BASES, Base, Inputs
from soundness.model_mutants import MUTANTS, Mutant

import gaugec
from gaugec.pipeline import compile as driver

VERIFY = functools.cache(driver.verify)


@dataclass(frozen=True)
class Row:
    """One mutant: what was found, what the judge said of it, and why what the base had is not there.

    accepted: gauge -> sites.  false: sites that the judge refutes, in words.  blind: sites that nothing depends on.
    raised: a refusal of the whole model, in its first line.  reasons: gauge -> why it was refused.
    unmoved: what the report says of each parameter that no gauge moves.  defect: a traceback.
    """

    mutant: Mutant
    base: dict[str, int]
    accepted: dict[str, int]
    false: tuple[str, ...] = ()
    blind: tuple[str, ...] = ()
    raised: str = ""
    reasons: dict[str, tuple[str, ...]] = field(default_factory=dict)
    unmoved: tuple[str, ...] = ()
    defect: str = ""
    seconds: float = 0.0

    @property
    def sites(self) -> int:
        return sum(self.accepted.values())

    @property
    def lost(self) -> dict[str, int]:
        """Gauge -> sites of the base that the mutant has not."""
        return {g: n - self.accepted.get(g, 0) for g, n in self.base.items() if n > self.accepted.get(g, 0)}

    @property
    def because(self) -> str:
        if self.raised:
            return self.raised
        for gauge in self.lost:
            if self.reasons.get(gauge):
                return self.reasons[gauge][0]
        return "no place of the model has its form" if self.lost else ""

    @property
    def verdict(self) -> str:
        if self.defect:
            return "TRACEBACK"
        if self.false:
            return "FALSE ACCEPT"
        if not self.sites:
            return "refused"
        return "true, unseen" if self.blind else "true"


@contextlib.contextmanager
def precision(base: Base) -> Iterator[None]:
    """Hand-written models live in double precision; a proof of the specs serves all models."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64 if base.exact else torch.float32)
    try:
        with mock.patch.object(driver, "verify", VERIFY):
            yield
    finally:
        torch.set_default_dtype(before)


def subject(base: Base, mutant: Mutant | None) -> Subject:
    """What the judge runs: fresh instances, and inputs of every size of the base."""
    called = base.called()
    if mutant is None:
        return Subject(base.model, called, base.loss, base.tolerance)
    if mutant.inputs is not None:
        called = called[:1]
    return Subject(mutant.make, called, base.loss, base.tolerance, mutant.also)


def compiled(spec: str, model: torch.nn.Module, called: Inputs, base: Base) -> Any:
    torch.manual_seed(0)
    random.seed(0)
    return gaugec.compile(spec, model, *called, loss=base.loss)


def examine(spec: str, mutant: Mutant, known: dict[str, dict[str, int]]) -> Row:
    """Compiles a mutant and judges it.  `known`: what the bases have, kept from mutant to mutant."""
    base = BASES[mutant.base]
    start = time.monotonic()
    with precision(base):
        if base.name not in known:
            made = compiled(spec, base.model(), base.called()[0], base)
            known[base.name] = dict(Counter(site.gauge for site in made.sites))
        try:
            model = mutant.make()
            called = base.called()[0]
            if mutant.inputs is not None:
                called = mutant.inputs(model, *called)
            made = compiled(spec, model, called, base)
        except gaugec.MatchError as error:
            said = str(error).splitlines()[0]
            defect = said if "contradicts" in said else ""  # the last line of defence should not be the first
            return Row(mutant, known[base.name], {}, raised=said, defect=defect, seconds=time.monotonic() - start)
        except Exception:
            return Row(mutant, known[base.name], {}, defect=traceback.format_exc(), seconds=time.monotonic() - start)
        reasons: dict[str, tuple[str, ...]] = {}
        for refusal in made.refusals:
            reasons[refusal.gauge] = (*reasons.get(refusal.gauge, ()), str(refusal))
        said = made.report().partition("parameters that no gauge moves:")[2].split("\n\n")[0]
        unmoved = tuple(text.strip() for text in said.splitlines() if text.strip())
        accepted = dict(Counter(site.gauge for site in made.sites))
        false: tuple[str, ...] = ()
        blind: tuple[str, ...] = ()
        defect = ""
        try:
            false, blind = judged(_inputs(subject(base, mutant), mutant), made.sites)
        except Exception:
            defect = "the judge cannot run it: " + traceback.format_exc()
    return Row(mutant, known[base.name], accepted, false, blind, "", reasons, unmoved, defect, time.monotonic() - start)


def _inputs(made: Subject, mutant: Mutant) -> Subject:
    """Inputs that hold a model's own parameters are taken from the very instance that runs."""
    if mutant.inputs is None:
        return made
    args, kwargs = made.inputs[0]
    take = mutant.inputs

    def build() -> torch.nn.Module:
        model = made.make()
        whole = model.forward

        def forward(*_: Any, **__: Any) -> Any:
            again, keywords = take(model, args, kwargs)
            return whole(*again, **keywords)

        model.forward = forward  # type: ignore[method-assign]
        return model

    return Subject(build, made.inputs, made.loss, made.tolerance, made.also)


def judged(subject: Subject, sites: Sequence[Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Sites that are false, and sites that nothing depends on, in words."""
    if not sites:
        return (), ()
    judge = Judge(subject)
    found: list[tuple[Any, Judgement]] = [(site, judge.judge(site, n)) for n, site in enumerate(sites)]

    def words(site: Any, says: Judgement) -> str:
        return f"{site.gauge} at {', '.join(b.parameter for b in site.bindings)}: {says}"

    return (
        tuple(words(site, says) for site, says in found if not says.true),
        tuple(words(site, says) for site, says in found if not says.seeing),
    )


KNOWN: dict[str, dict[str, int]] = {}  # what the bases have: compiled once a process


def _fields(task: tuple[str, str]) -> dict[str, Any]:
    """A mutant's row without the mutant, whose functions cannot be sent from process to process."""
    spec, name = task
    row = examine(spec, MUTANTS[name], KNOWN)
    return {field.name: getattr(row, field.name) for field in dataclasses.fields(row) if field.name != "mutant"}


def model_table(
    names: Sequence[str] | None = None, show: Callable[[Row], None] = lambda row: None, jobs: int = 1
) -> list[Row]:
    """A row for every mutant (or the named ones), in the registry's order."""
    rows: list[Row] = []
    wanted = [name for name, mutant in MUTANTS.items() if names is None or mutant.name in names]
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        spec = spec_file(Path(folder))
        tasks = [(spec, name) for name in wanted]
        if jobs > 1:
            pool = stack.enter_context(multiprocessing.get_context("spawn").Pool(jobs))
            found: Iterable[dict[str, Any]] = pool.imap(_fields, tasks, chunksize=4)
            stack.callback(pool.join)  # to end well, and not by the signal that leaving a pool sends
            stack.callback(pool.close)
        else:
            found = map(_fields, tasks)
        for name, fields in zip(wanted, found, strict=True):
            rows.append(Row(MUTANTS[name], **fields))
            show(rows[-1])
    return rows


def line(row: Row) -> str:
    before = sum(row.base.values())
    text = f"{row.verdict:12s} {before:3d} -> {row.sites:<3d} {row.seconds:5.1f} s  {row.mutant.name}"
    if row.because:
        text += f"\n{'':28s}{row.because}"
    for extra in (*row.false, *row.blind, *([row.defect] if row.defect else [])):
        text += f"\n{'':28s}{extra}"
    return text


def totals(rows: Sequence[Row]) -> str:
    false, defects = sum(len(row.false) for row in rows), sum(bool(row.defect) for row in rows)
    refused = sum(sum(row.lost.values()) for row in rows)
    return (
        f"{len(rows)} model mutants of {len({row.mutant.kind for row in rows})} kinds on "
        f"{len({row.mutant.base for row in rows})} models: {sum(row.sites for row in rows)} sites accepted, "
        f"{refused} sites of the bases refused, false accepts: {false}, tracebacks: {defects}"
    )


def failed(rows: Sequence[Row]) -> bool:
    return any(row.false or row.defect for row in rows)


def main(arguments: Sequence[str] = (), jobs: int = 1) -> int:
    """Prints the table; names, or `quick`, choose mutants."""
    names: Sequence[str] | None = None
    if arguments:
        names = [
            m.name for m in MUTANTS.values() if any(a in m.name or (a == "quick" and not m.slow) for a in arguments)
        ]
    print("verdict      before -> after, seconds, base: kind: mutant, and below it why sites were refused")
    rows = model_table(names, lambda row: print(line(row), flush=True), jobs)
    print(totals(rows))
    return 1 if failed(rows) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
