"""Checks a compiled file again: its text, its spec, the proofs and, where the model is given, what was found there.

Nothing that the certificate says is believed.  The spec is read and proved again, the model is traced again, its sites
are found and proved again, and the compiler writes the file a second time: the two must be equal to the byte.  Whoever
edits a compiled file and its hashes together is caught there.  The file is not run.

What this module does not do: it compares no figures of the witness (another processor rounds otherwise); it measures
them anew, and a witness that fails is a difference.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gaugec import limits
from gaugec.certificate.read import Compiled, NotCompiled, read
from gaugec.certificate.write import TOLERATED, departure, fingerprint, restated
from gaugec.errors import GaugeError, SpecError, printable
from gaugec.graph.ir import Leaf
from gaugec.language import AUTO, load, shipped
from gaugec.language.tree import Spec
from gaugec.model.context import ordinary
from gaugec.model.guest import TORCH, Model
from gaugec.model.outputs import Counted, counted
from gaugec.model.preserve import preserved
from gaugec.model.taken import Taken, taken, trainable
from gaugec.pipeline.assumed import assumed
from gaugec.pipeline.compile import build, stated
from gaugec.pipeline.compiled import CompiledGauge
from gaugec.pipeline.verify import Verification, verify
from gaugec.proof import prove
from gaugec.runtime.certificate import unfolded
from gaugec.runtime.coordinates import in_chart
from gaugec.runtime.differences import differences
from gaugec.runtime.report import proved_once
from gaugec.runtime.told import alike
from gaugec.tracing.trace import Trace, trace
from gaugec.version import VERSION

_SHOWN, _BEFORE = 90, 40  # characters of what differs, and those before it


@dataclass(frozen=True)
class Check:
    """One thing that was compared.  verdict: "ok", "differs" or "not done"; says: what, or what differs first."""

    name: str
    verdict: str
    says: str


@dataclass(frozen=True)
class Recheck:
    """What a recheck found: true where all that was checked is as the certificate says.

    checks: in the order in which they were made.  notes: what is no difference, but should be known.
    """

    path: str
    checks: tuple[Check, ...]
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Is nothing different?  (Without a model that is the file, its spec and the spec's proofs.)"""
        return all(check.verdict == "ok" for check in self.checks)

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        lines = [f"{self.path}:"]
        lines += [f"  {check.verdict:8}  {check.name:7}  {check.says}" for check in self.checks]
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])


def recheck(
    path: str | Path,
    model: Model | None = None,
    args: Sequence[Any] | Mapping[str, Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    loss: str | None = None,
    outputs: str | int | Sequence[str | int] | None = None,
    fixed: str | Sequence[str] = (),
    spec: str | Path | Spec | None = None,
    limit: float | None = None,
    twin: Model | tuple[Any, ...] | None = None,
) -> Recheck:
    """Checks a compiled file again, from its spec and, where it is given, from the model and its example inputs.

    `loss`, `outputs`, `fixed`: as for `compile`; those of the certificate are not believed, so of a model that was
    compiled with them they must be said.  `spec`: where it is; a spec that ships is found by the name in the
    certificate, and no path that stands there is opened.  Proofs are made anew: what this process remembered of earlier
    ones is forgotten first.

    `limit`: the seconds that each proof may take, 20 unless given; what was proved in more must be given more here.
    `twin`: as for `compile`, where the file was compiled with one.

    Raises:
        NotCompiled: the file is no compiled gauge with a certificate.
        ValueError: the limit is not a positive number.
    """
    given = taken(model, args, kwargs)
    with limits.each(limit), ordinary(), preserved(given.model):
        return _recheck(str(path), given, counted(outputs, loss), fixed, spec, twin)


def _recheck(
    path: str,
    given: Taken,
    count: Counted,
    fixed: object,
    spec: str | Path | Spec | None,
    twin: Model | tuple[Any, ...] | None,
) -> Recheck:
    file = read(path)
    prove.forget()
    checks, notes = [_text(file)], []
    if file.metadata["gaugec"] != VERSION:
        notes.append(f"compiled by gaugec {printable(file.metadata['gaugec'])}, this is {VERSION}")
    found, loaded = _spec(file, spec)
    verified, verification = _theorems(file, loaded)
    checks += [found, verified]
    model = given.model
    if model is None:
        notes.append("the model was not looked at: only with it are the sites proved again, and the code written again")
        return Recheck(printable(path), tuple(checks), tuple(notes))
    if file.metadata["torch"] != TORCH:
        notes.append(f"compiled with torch {printable(file.metadata['torch'])}, this is {TORCH}")
    given = trainable(given)
    followed, traced = _model(file, given, count, fixed)
    checks += [followed, _assumed(file, traced, given)]
    checks += _compiled(file, loaded, verification, traced, given, twin)
    if list(given.told) != file.metadata["taken"]:
        then, now = ("; ".join(told) or "as it was given" for told in (file.metadata["taken"], given.told))
        notes.append(printable(f"how the model was taken then: {then}; now: {now}"))
    return Recheck(printable(path), tuple(checks), tuple(notes))


# --- the file and its spec -----------------------------------------------------------------------------------------
def _text(file: Compiled) -> Check:
    if file.intact:
        return Check("file", "ok", "unchanged since it was compiled, by its own hash")
    return Check("file", "differs", "the file was changed after it was compiled")


def _spec(file: Compiled, spec: str | Path | Spec | None) -> tuple[Check, Spec | None]:
    if spec is None:
        spec = file.metadata["spec_file"]
        if spec not in (AUTO, *shipped()):  # a path that a stranger may have written: it is not opened
            where = f"the certificate names {_short(str(spec))}, which is no spec that ships"
            return Check("spec", "not done", f"{where}; say where it is with --spec"), None
    try:
        loaded = spec if isinstance(spec, Spec) else load(spec)
    except SpecError as error:
        return Check("spec", "differs", f"the spec cannot be read: {printable(error.message)}"), None
    name = printable(loaded.name)
    if loaded.sha256 != file.metadata["spec_sha256"]:
        return Check("spec", "differs", f"the spec {name} has changed since the file was compiled"), loaded
    return Check("spec", "ok", f"{name} is to the letter what the file was compiled from"), loaded


def _theorems(file: Compiled, loaded: Spec | None) -> tuple[Check, Verification | None]:
    if loaded is None:
        return Check("proofs", "not done", "there is no spec to prove"), None
    verification = verify(loaded)
    now, then = stated(verification.theorems), file.whole["theorems"]
    for theorem, accepted in zip(verification.theorems, verification.accepted):
        if not accepted:
            reason = f": {theorem.reason}" if theorem.reason else ""
            return Check("proofs", "differs", printable(f"{theorem.name} is {theorem.verdict}{reason}")), None
    if now != then:
        return Check("proofs", "differs", _first(then, now, "gauge")), verification
    gauges = f"{len(now)} gauge{'s' if len(now) != 1 else ''}"
    return Check("proofs", "ok", f"{gauges} proved again, with the same verdicts, conditions and steps"), verification


# --- the model -----------------------------------------------------------------------------------------------------
def _model(file: Compiled, given: Taken, count: Counted, fixed: object) -> tuple[Check, Trace | None]:
    said = _said(file, count, fixed)
    if said is not None:
        return said, None
    model, args, kwargs, *_ = given
    try:
        traced = trace(model, args, kwargs, loss=count.loss, outputs=count.names or None, fixed=fixed)
    except GaugeError as error:
        return Check("model", "differs", f"the model has changed: {printable(error.message)}"), None
    if list(traced.fixed) != file.whole["fixed"]:
        had, has = (", ".join(names) or "no size" for names in (file.whole["fixed"], traced.fixed))
        return Check("model", "differs", printable(f"{had} was fixed at the compile, {has} in this recheck")), traced
    difference = _changed(file.whole, traced)
    if difference:
        return Check("model", "differs", printable(f"the model has changed: {difference}")), traced
    same = f"the same graph, of {len(traced.shapes)} parameters and {len(traced.graph.nodes)} values"
    return Check("model", "ok", same), traced


def _said(file: Compiled, count: Counted, fixed: object) -> Check | None:
    """What the caller says of the loss, the outputs and the sizes, against what was said at the compile; None where it
    is that."""
    loss, then = count.loss, file.whole["loss"]
    if loss is None and then:
        word = printable(then)
        advice = f'say loss="{word}", on the command line --loss, if that is what is trained'
        return Check("model", "not done", f"the certificate says {word}, which only you can know: {advice}")
    if loss is not None and loss != then:
        word = f'loss="{printable(then)}"' if then else "no word on the loss"
        return Check("model", "differs", f'the file was compiled with {word}, this recheck says loss="{loss}"')
    had, has = (", ".join(map(str, names)) for names in (file.whole["outputs"], count.names))
    if had and not has:
        advice = f"say outputs={file.whole['outputs']!r}, on the command line --outputs, if nothing else is trained on"
        return Check("model", "not done", printable(f"the certificate says that {had} alone counts: {advice}"))
    if had != has:
        return Check("model", "differs", printable(f"{had or 'all'} counted at the compile, {has} in this recheck"))
    if file.whole["fixed"] and not fixed:
        sizes = ", ".join(file.whole["fixed"])
        advice = f"say fixed={file.whole['fixed']!r}, on the command line --fixed, if no other sizes come"
        return Check("model", "not done", printable(f"the certificate says that {sizes} are fixed: {advice}"))
    return None


def _changed(whole: Mapping[str, Any], traced: Trace) -> str:
    """The first difference between the model of a certificate, written out, and this one, or ""."""
    then, now = whole["parameters"], traced.shapes
    if set(then) != set(now):
        lost, new = [name for name in then if name not in now], [name for name in now if name not in then]
        both = [f"it had {name}" for name in lost[:1]] + [f"it has {name} now" for name in new[:1]]
        return f"first difference: {', '.join(both)}"
    for name, shape in then.items():
        if shape != tuple(now[name]):
            return f"first difference: {name} had the shape {shape}, has {tuple(now[name])} now"
    tied = {name: canonical for name, canonical in traced.names.items() if name != canonical}
    for name in (*whole["tied"], *tied):
        was, is_ = whole["tied"].get(name), tied.get(name)
        if was != is_:
            return f"first difference: {name} was " + (f"tied to {was}" if was else f"not tied to {is_}")
    read, reads = dict(whole["inputs"]), {node.name: node.shape for node in traced.graph.leaves("input")}
    for name in (*read, *reads):
        if name not in reads or name not in read:
            one, other = (name if name in inputs else "less" for inputs in (read, reads))
            return f"first difference: it read {one}, reads {other} now"
        if read[name] != reads[name]:
            return f"first difference: the input {name} had the shape {read[name]}, has {reads[name]} now"
    if whole["graph_sha256"] == fingerprint(traced.graph):
        return ""
    node = departure(traced.graph, whole["graph_trail"])
    if node is None:
        return "every value by itself is what it was; which of them reads which, or leaves the model, is not"
    own = node.name if isinstance(node, Leaf) else node.title
    what = own if own != node.word else node.source or node.word
    return f"first difference at {node.place or 'the top'}, where there is {what} now"


def _assumed(file: Compiled, traced: Trace | None, given: Taken) -> Check:
    """What the certificate says of settings and inputs, against the model and against what its forward reads now."""
    if traced is None:
        return Check("assumed", "not done", "the model could not be traced")
    differing = differences(file.whole, given.model, given.args, given.kwargs or {}, evaluated=True)
    if differing:
        return Check("assumed", "differs", f"first difference: {printable(differing[0])}")
    then, now = file.metadata["assumed"], assumed(traced, given)
    for key in now:
        if key != "mode" and not _alike(then[key], now[key]):  # whether it was in train mode already is no difference
            return Check("assumed", "differs", f"first difference: {_fields(key, list(then[key]), list(now[key]))}")
    settings, inputs = len(now["everywhere"]) + len(now["settings"]), len(now["tensors"]) + len(now["values"])
    return Check("assumed", "ok", f"{settings} settings and {inputs} inputs as they were")


def _alike(then: Any, now: Any) -> bool:
    """Are two parts of a record one, whether what defines the model was run as a script or imported?"""
    if isinstance(then, str) and isinstance(now, str):
        return alike(then, now) or "__main__" in (then, now)
    if isinstance(then, list | tuple) and isinstance(now, list | tuple):
        return len(then) == len(now) and all(map(_alike, then, now))
    return bool(then == now)


def _compiled(
    file: Compiled,
    loaded: Spec | None,
    verification: Verification | None,
    traced: Trace | None,
    given: Taken,
    twin: Model | tuple[Any, ...] | None,
) -> list[Check]:
    if loaded is None or verification is None or traced is None:
        why = "the model" if traced is None else "the spec"
        return [Check(name, "not done", f"{why} is not there to compile") for name in ("sites", "code")]
    try:
        made = build(loaded, file.metadata["spec_file"], verification, traced, given, twin)
    except GaugeError as error:
        return [
            Check("sites", "differs", printable(error.message.split("\n")[0])),
            Check("code", "not done", "nothing was compiled"),
        ]
    return [_sites(file, made), _code(file, made)]


def _sites(file: Compiled, made: CompiledGauge) -> Check:
    """Every site with the structure that was proved and the layout that is moved."""
    whole = unfolded(made.metadata)
    then, now = _with_all(file.whole), _with_all(whole)
    if then != now:
        return Check("sites", "differs", _first(then, now, "site"))
    for name, (role, matrices) in whole["roles"].items():
        had, held = file.whole["roles"].get(name, ("", []))
        if had != role or held != matrices:
            what = f"its role is {had} in the certificate, {role} now" if had != role else "it holds other matrices now"
            return Check("sites", "differs", printable(f"first difference: {name}: {what}"))
    if file.whole["structures"] != whole["structures"]:
        return Check("sites", "differs", "the structures that are listed are not those of the sites")
    return Check("sites", "ok", f"found and proved again: {proved_once(len(now), len(whole['structures']))}")


def _with_all(whole: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The sites with what they refer to; charts in words, before their numbers."""
    return [
        {
            "site": f"{site['gauge']} {site['index']} at {site['place'] or 'the top'}",
            **{key: site[key] for key in ("gauge", "index", "place", "verdict", "structure", "parameters")},
            "charts": _charts(whole["layouts"][site["layout"]], site),
            "reads": site["reads"],
            "layout": whole["layouts"][site["layout"]],
            "proof": whole["structures"][site["structure"]],
        }
        for site in whole["sites"]
    ]


def _charts(layout: Mapping[str, Any], site: Mapping[str, Any]) -> dict[str, str]:
    """The charts of a site in words, by what they are charts of."""
    out = {}
    for binding, name in zip(layout["bindings"], site["parameters"]):
        start = f" from {binding['offset']}" if binding["offset"] else ""
        out[f"{binding['role']} = {name}{start}"] = " ".join(in_chart(binding, site["reads"])) or "none"
    return out


def _code(file: Compiled, made: CompiledGauge) -> Check:
    """The file against what the compiler writes now, apart from what may differ and what was compared by itself."""
    apart = ("file_sha256", "spec_file", "spec_sha256", "graph_sha256", "graph_trail", "assumed", "taken", *TOLERATED)
    again = restated(made.source, {key: file.metadata[key] for key in apart})
    for number, (one, other) in enumerate(itertools.zip_longest(file.text.split("\n"), again.split("\n")), 1):
        if one != other:
            had, want = ("nothing" if text is None else _short(text) for text in (one, other))
            return Check("code", "differs", f"line {number} is {had}; the compiler writes {want}")
    return Check("code", "ok", "the compiler writes the same file to the byte, the witness's figures apart")


def _first(then: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]], name: str) -> str:
    """What differs first between two lists of records that are called by their field `name`."""
    for one, other in itertools.zip_longest(then, now):
        if one is None or other is None or one[name] != other[name]:
            was, is_ = (printable(str(each[name])) if each is not None else "no further one" for each in (one, other))
            return f"first difference: the certificate has {was}, there is {is_} now"
        for key in one:
            if one[key] != other.get(key):
                return f"first difference: {printable(str(one[name]))}: {_fields(key, one[key], other.get(key))}"
    return "first difference: none"


def _fields(key: str, one: Any, other: Any) -> str:
    """What differs inside one field, followed down to the first entry."""
    if isinstance(one, dict) and isinstance(other, dict):
        inner = next((k for k in (*one, *other) if one.get(k) != other.get(k)), None)
        if inner is not None:
            return f"{key}, {_fields(inner, one.get(inner), other.get(inner))}"
    if isinstance(one, list) and isinstance(other, list):
        for number, (a, b) in enumerate(itertools.zip_longest(one, other)):
            if a != b:
                return _fields(f"{key}[{number}]", a, b)
    had, has = _apart(repr(one), repr(other))
    return f"{key} is {_short(had)} in the certificate, {_short(has)} now"


def _apart(one: str, other: str) -> tuple[str, str]:
    """Two texts from a little before the place where they part, should that be far behind."""
    same = next((n for n, (a, b) in enumerate(zip(one, other)) if a != b), min(len(one), len(other)))
    start = same - _BEFORE if max(len(one), len(other)) > _SHOWN and same > _BEFORE else 0
    return ("…" + one[start:], "…" + other[start:]) if start else (one, other)


def _short(text: str) -> str:
    shown = printable(text.strip())
    return f"`{shown if len(shown) <= _SHOWN else shown[: _SHOWN - 1] + '…'}`"


__all__ = ["Check", "NotCompiled", "Recheck", "recheck"]
