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
from seeds import set_seed

sys.path.insert(0, str(Path(__file__).parents[1]))

from match.models import spec_file
from soundness.judging_models import Judge, Judgement, Subject
from soundness.model_bases import BASES, Base, Inputs
from soundness.model_mutants import MUTANTS, UNSEEN_KINDS, Mutant
from soundness.mutant_registry import Change
from torch.utils._pytree import tree_map

import gaugec
from gaugec.model import preserve

LOST = 0.05  # of the sound mutants of the kinds that a trace cannot see


@dataclass(frozen=True)
class Row:
    """One mutant: what was found, what the judge said of it, and why what the base had is not there.

    accepted: gauge -> sites.  false: sites that the judge refutes, in words.  blind: sites that nothing depends on.
    said: what the compiled file itself says does not hold, or was not checked, where it was asked.
    raised: a refusal of the whole model, in its first line.  reasons: gauge -> why it was refused.
    unmoved: what the report says of each parameter that no gauge moves.  defect: a traceback.
    broken: sites of the base that the judge refutes on the mutant.  needless: gauges of those that hold and are lost.
    Both only of the kinds that a trace cannot see.
    """

    mutant: Mutant
    base: dict[str, int]
    accepted: dict[str, int]
    false: tuple[str, ...] = ()
    blind: tuple[str, ...] = ()
    said: tuple[str, ...] = ()
    raised: str = ""
    reasons: dict[str, tuple[str, ...]] = field(default_factory=dict)
    unmoved: tuple[str, ...] = ()
    defect: str = ""
    broken: tuple[str, ...] = ()
    needless: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def sites(self) -> int:
        return sum(self.accepted.values())

    @property
    def surprising(self) -> bool:
        """Does the judge say another thing than who wrote the mutant?"""
        meant = {"sound": False, "broken": True}.get(self.mutant.expects, bool(self.broken))
        return self.mutant.kind in UNSEEN_KINDS and not self.defect and meant != bool(self.broken)

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
            return "sound, lost" if self.needless and not self.broken else "refused"
        if self.said:
            return "said" if self.broken else "said, true"
        return "true, unseen" if self.blind else "true"


@contextlib.contextmanager
def precision(base: Base) -> Iterator[None]:
    """Hand-written models live in double precision."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64 if base.exact else torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def subject(base: Base, mutant: Mutant | None) -> Subject:
    """What the judge runs: fresh instances, and inputs of every size and setting of the mutant."""
    if mutant is None:
        return Subject(base.model, base.called(), base.loss, base.tolerance, double=base.double)
    called = mutant.called()
    if mutant.inputs is not None:
        called = called[:1]
    return Subject(mutant.make, called, base.loss, base.tolerance, mutant.also, base.double, mutant.counts)


def compiled(spec: str, model: torch.nn.Module, called: Inputs, base: Base, outputs: Any = None) -> Any:
    set_seed(0)
    random.seed(0)
    return gaugec.compile(spec, model, *called, loss=base.loss, outputs=outputs)


def compiled_mutant(spec: str, mutant: Mutant) -> tuple[Any, torch.nn.Module]:
    """The compiled gauge, and the very instance that was compiled.

    Raises:
        gaugec.GaugeError: it is refused.
    """
    base, called = BASES[mutant.base], mutant.called()[0]
    with contextlib.ExitStack() as stack:
        if mutant.device == "meta":
            with torch.device("meta"):
                model = mutant.make()
            called = tree_map(lambda x: x.to("meta") if isinstance(x, torch.Tensor) else x, called)
        else:
            model = mutant.make()
        if mutant.device == "large":
            stack.enter_context(mock.patch.object(preserve, "SMALL", 10))
        if mutant.inputs is not None:
            called = mutant.inputs(model, *called)
        stack.enter_context(mutant.within())
        return compiled(spec, model, called, base, mutant.outputs), model


def examine(spec: str, mutant: Mutant, known: dict[str, tuple[Any, ...]]) -> Row:
    """Compiles a mutant and judges it.  `known`: the sites that the bases have, kept from mutant to mutant."""
    base = BASES[mutant.base]
    start = time.monotonic()
    with precision(base):
        if base.name not in known:
            known[base.name] = tuple(compiled(spec, base.model(), base.called()[0], base).sites)
        row = Row(mutant, dict(Counter(site.gauge for site in known[base.name])), {})
        try:
            made, model = compiled_mutant(spec, mutant)
        except gaugec.GaugeError as error:
            said = str(error).splitlines()[0]
            # the last line of defence should not be the first
            row = dataclasses.replace(row, raised=said, defect=said if "contradicts" in said else "")
        except Exception:
            row = dataclasses.replace(row, defect=traceback.format_exc())
        else:
            row = _accepted(row, made, model)
        if mutant.kind in UNSEEN_KINDS and not row.defect:
            row = _beside_the_truth(row, known[base.name])
    return dataclasses.replace(row, seconds=time.monotonic() - start)


def _accepted(row: Row, made: Any, model: torch.nn.Module) -> Row:
    """The row of what was compiled: its sites, judged wherever the compiled file claims that they hold."""
    reasons: dict[str, tuple[str, ...]] = {}
    for refusal in made.refusals:
        reasons[refusal.gauge] = (*reasons.get(refusal.gauge, ()), str(refusal))
    unmoved = made.report().partition("parameters that no gauge moves:")[2].split("\n\n")[0]
    row = dataclasses.replace(
        row,
        accepted=dict(Counter(site.gauge for site in made.sites)),
        reasons=reasons,
        unmoved=tuple(text.strip() for text in unmoved.splitlines() if text.strip()),
    )
    try:
        return claimed(row, made, model)
    except Exception:
        return dataclasses.replace(row, defect="the judge cannot run it: " + traceback.format_exc())


def claimed(row: Row, made: Any, model: torch.nn.Module) -> Row:
    """Judges the sites of the instance that was compiled, and of fresh ones, where nothing says that they may fail."""
    base, mutant = BASES[row.mutant.base], row.mutant
    said: list[str] = []
    false: list[str] = []
    blind: list[str] = []
    for number, change in enumerate((None, *mutant.later)):
        fresh = later(_inputs(subject(base, mutant), mutant), mutant.later[:number])
        model = fresh.make() if mutant.device == "meta" else (change(model) if change else None) or model
        if not model.training:  # what is wholly in evaluation is compiled as it will be in training
            model.train()
        differences = [departures(made, model, inputs) for inputs in fresh.inputs]
        said += dict.fromkeys(text for texts in differences for text in texts)
        if number == 0 and mutant.inputs is None and made.sites and differences[0]:
            return dataclasses.replace(row, defect=f"what was compiled does not hold: {differences[0][0]}")
        silent = [x for x, texts in zip(fresh.inputs, differences, strict=True) if not texts]
        if not silent:
            continue
        if not base.double and mutant.device != "meta" and mutant.inputs is None:
            itself = dataclasses.replace(fresh, make=functools.partial(_same, model), inputs=silent)
            false += judged(itself, made.sites, itself=True)[0]
        wrong, unseen = judged(dataclasses.replace(fresh, inputs=silent), made.sites)
        false += wrong
        blind += unseen if number == 0 else ()
    unchecked = [text for text in _unchecked(made) if false]
    return dataclasses.replace(
        row,
        false=() if unchecked else tuple(dict.fromkeys(false)),
        blind=tuple(blind),
        said=tuple(dict.fromkeys((*said, *unchecked))),
    )


def _same(model: torch.nn.Module) -> torch.nn.Module:
    return model


def later(fresh: Subject, changes: Sequence[Change]) -> Subject:
    """Fresh instances to which somebody has done this and that."""

    def build() -> torch.nn.Module:
        model = fresh.make()
        for change in changes:
            model = change(model) or model
        return model

    return dataclasses.replace(fresh, make=build)


def departures(made: Any, model: torch.nn.Module, inputs: Inputs) -> list[str]:
    """What the compiled file says does not hold any more of this model with these inputs."""
    holds = getattr(made, "holds", None)
    return [] if holds is None else list(holds(model, *inputs[0], **inputs[1]).differences)


def _unchecked(made: Any) -> list[str]:
    """What the compiled file says was not checked, and is left to whoever writes the loss."""
    words = ("gradient not checked", "not looked up again: that no loss reads")
    return [text.strip() for text in made.report().splitlines() if any(word in text for word in words)]


def _beside_the_truth(row: Row, sites: Sequence[Any]) -> Row:
    """The row with what the judge says of the base's sites on the mutant, whatever was accepted."""
    broken, names = truth(row.mutant, sites)
    lost = [site for site in sites if site.gauge in row.lost and site.gauge not in names]
    return dataclasses.replace(row, broken=broken, needless=tuple(site.gauge for site in lost))


def truth(mutant: Mutant, sites: Sequence[Any]) -> tuple[tuple[str, ...], frozenset[str]]:
    """Which of the base's sites are false on the mutant at any input, after any change: in words, and their gauges."""
    names = {name for name, p in mutant.make().named_parameters() if p.is_floating_point()}
    prefix = "" if sites[0].bindings[0].parameter in names else "inner."
    there = [
        dataclasses.replace(
            site, bindings=tuple(dataclasses.replace(b, parameter=prefix + b.parameter) for b in site.bindings)
        )
        for site in sites
    ]
    gone = [site.gauge for site in there if not names >= {b.parameter for b in site.bindings}]
    if gone:
        return ("its parameters are not there",), frozenset(gone)
    found: list[str] = []
    for number in range(len(mutant.later) + 1):
        fresh = later(_inputs(subject(BASES[mutant.base], mutant), mutant), mutant.later[:number])
        found += judged(fresh, there)[0]
    return tuple(dict.fromkeys(found)), frozenset(text.partition(" at ")[0] for text in found)


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

    return dataclasses.replace(made, make=build)


def judged(subject: Subject, sites: Sequence[Any], itself: bool = False) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Sites that are false, and sites that nothing depends on, in words.

    itself: the subject is one instance; where that goes on from call to call, fresh ones alone can be compared.
    """
    if not sites:
        return (), ()
    judge = Judge(subject)
    found: list[tuple[Any, Judgement]] = [(site, judge.judge(site, n)) for n, site in enumerate(sites)]
    if itself and not judge.steady():
        return (), ()

    def words(site: Any, says: Judgement) -> str:
        where = ", the compiled instance itself" if itself else ""
        return f"{site.gauge} at {', '.join(b.parameter for b in site.bindings)}{where}: {says}"

    return (
        tuple(words(site, says) for site, says in found if not says.true),
        tuple(words(site, says) for site, says in found if not says.seeing),
    )


KNOWN: dict[str, tuple[Any, ...]] = {}  # what the bases have: compiled once a process


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
    for extra in (*row.false, *row.blind, *row.said, *([row.defect] if row.defect else [])):
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


def by_kind(rows: Sequence[Row]) -> list[str]:
    """A line for every kind that a trace cannot see, and the sound mutants that were refused."""
    unseen = [row for row in rows if row.mutant.kind in UNSEEN_KINDS]
    if not unseen:
        return []
    columns = ("FALSE ACCEPT", "said", "refused", "true", "said, true", "sound, lost", "TRACEBACK")
    lines = [f"{'kind':14s}" + "".join(f"{name:>14s}" for name in ("mutants", *columns))]
    for kind in (*UNSEEN_KINDS, ""):
        its = [row for row in unseen if kind in ("", row.mutant.kind)]
        counts = Counter("true" if row.verdict == "true, unseen" else row.verdict for row in its)
        lines.append(f"{kind or 'all':14s}" + "".join(f"{n:14d}" for n in (len(its), *(counts[c] for c in columns))))
    refused = [row for row in unseen if row.needless and not row.broken]
    lines += [f"{_why(row)}, and refused: {row.mutant.name}: {row.because}" for row in refused]
    lines += [f"the judge differs from who wrote it: {row.mutant.name}" for row in unseen if row.surprising]
    return [*lines, f"of {len(sound(unseen))} sound mutants {lost(unseen):.1%} are refused"]


def _why(row: Row) -> str:
    return "in doubt" if row.mutant.expects == "mixed" else "sound"


def sound(rows: Sequence[Row]) -> list[Row]:
    """Those that break no site of their base, and hide nothing from which one could not know."""
    kinds = [row for row in rows if row.mutant.kind in UNSEEN_KINDS and row.mutant.expects != "mixed"]
    return [row for row in kinds if not row.broken]


def lost(rows: Sequence[Row]) -> float:
    """The share of the sound mutants that are refused."""
    return sum(bool(row.needless) for row in sound(rows)) / max(1, len(sound(rows)))


def failed(rows: Sequence[Row]) -> bool:
    return any(row.false or row.defect or row.surprising for row in rows) or lost(rows) > LOST


def main(arguments: Sequence[str] = (), jobs: int = 1) -> int:
    """Prints the table; names, or `quick`, choose mutants."""
    names: Sequence[str] | None = None
    if arguments:
        names = [
            m.name for m in MUTANTS.values() if any(a in m.name or (a == "quick" and not m.slow) for a in arguments)
        ]
    print("verdict      before -> after, seconds, base: kind: mutant, and below it why sites were refused")
    rows = model_table(names, lambda row: print(line(row), flush=True), jobs)
    print("\n".join([totals(rows), *by_kind(rows)]))
    return 1 if failed(rows) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
