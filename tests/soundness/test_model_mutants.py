"""Mutated models: no false site is accepted; and the judge that says so can say otherwise."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import pytest
import torch
from match.models import spec_file
from soundness.judging_models import Judge, Judgement, Subject
from soundness.model_bases import BASES
from soundness.model_mutants import KINDS, MUTANTS, UNSEEN_KINDS, Mutant
from soundness.models_table import Row, compiled, examine, failed, precision, subject, totals, truth
from thinned import thinned

DEAR = ("convolutions", "attention")
CHEAP = ("perceptron", "perceptron over tokens", "square perceptron", "normed", "gated", "scored")


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> str:
    return spec_file(tmp_path_factory.mktemp("spec"))


@pytest.fixture(scope="module")
def known() -> dict[str, tuple[Any, ...]]:
    """What the bases have: compiled once."""
    return {}


# --- the registry


def test_the_registry_has_every_kind_and_at_least_sixty() -> None:
    assert len(MUTANTS) >= 60
    assert set(KINDS) <= {mutant.kind for mutant in MUTANTS.values()}
    assert len({mutant.base for mutant in MUTANTS.values()}) >= 12
    assert {mutant.expects for mutant in MUTANTS.values()} == {"broken", "sound", "mixed"}


@pytest.mark.parametrize("kind", UNSEEN_KINDS)
def test_every_kind_that_no_trace_sees_has_sound_and_broken_ones(kind: str) -> None:
    its = [mutant.expects for mutant in MUTANTS.values() if mutant.kind == kind]
    assert len(its) >= 12
    assert {"sound", "broken"} <= set(its) or kind == "odd tensors"


# --- no false accept: one mutant of every kind on models that are cheap to compile; `make soundness` takes all


def cheap() -> Iterator[str]:
    """The first mutant of each kind of which none is named below."""
    seen = {MUTANTS[name].kind for name in (*REASONS, *SITES)}
    for mutant in MUTANTS.values():
        if mutant.base in CHEAP and mutant.kind not in (*seen, *UNSEEN_KINDS):
            seen.add(mutant.kind)
            yield mutant.name


# mutant -> a part of what is said of it
REASONS = {
    "perceptron: returned hidden state: in a tuple": "the moved value is an output of the model",
    "perceptron: activation exchanged: gelu": "gelu has no law that lets a positive scale through",
    "perceptron: additive constant: after the ReLU": "the constant 0.25 is added to the moved value",
    "perceptron: detach on the axis: detach": "the gradient of the moved value is cut",
    "perceptron: aliasing buffer: rows of up": "its storage is shared with kept",
    "perceptron: hook: clips a parameter's gradient": "a hook on it may change its gradient",
    "perceptron: hook: clips the gradient of a value": "the gradient is not that of the forward",
    "perceptron: custom backward: signs, on a module kept in a closure": "no gradient reaches",
    "perceptron: hook: records them in a nested container": "leaves a tensor behind that depends on a parameter",
    "perceptron: memory: ReLU on the first three calls": "its next call may be another function",
    "perceptron: random numbers: a layer dropped by Python's dice": "draws from Python's random numbers",
    "perceptron: shared input: a weight nested in keywords": "an example input is inner.up.weight",
    "perceptron: control flow: another function when exporting": "the gradient is not that of the forward",
    "perceptron over tokens: branch on the length: over 100 tokens": "depends on the shape of its input",
    "perceptron over tokens: branch on the length: over 50 tokens, counted": "depends on the shape of its input",
    "perceptron over tokens: branch on the length: over 1000 tokens, by len": "is not that of the forward",
    "perceptron over tokens: branch on the length: a range of tokens": "depends on the shape of its input",
    "perceptron over tokens: strided slice: two windows, one moving": "what it reads depends on the size of an input",
}
# sound mutants -> gauge -> sites
SITES = {
    "perceptron: requires_grad=False: up is frozen": {"relu_rescale": 1},
    "perceptron: dropout on the axis: after the ReLU": {"relu_rescale": 1},
    "perceptron: reuse: the perceptron is applied to two inputs": {"relu_rescale": 1},
    "perceptron: activation exchanged: leaky_relu": {"relu_rescale": 0},
    "normed: extra reader: a third linear reader": {"norm_gain": 1},
    "normed: norm bias: a bias that both readers see": {"norm_gain": 1},
    "gated: roll: the gate rolled": {"swiglu_rescale": 1},
    "scored: logits: label smoothing": {"logit_shift": 1},
}  # fmt: skip


# of the kinds that no trace sees: mutant -> what comes of it
VERDICTS = {
    "perceptron: modes: dropout in eval": "true",
    "perceptron: modes: a stage in eval": "refused",
    "perceptron: settings: later: a namespace": "said",
    "perceptron: settings: called with: None": "said",
    "perceptron over tokens: sizes: axis 1 by remainders of 6": "refused",
    "images: sizes: rolled by the width": "refused",
    "perceptron: aliases: numpy in a closure": "refused",
    "perceptron: aliases: ctypes": "refused",
    "perceptron: aliases: item of a view": "refused",
    "perceptron: aliases: the last gradient": "refused",
    "perceptron: state: itertools.count, from the fourth on": "refused",
    "perceptron: state: a table that is set up once": "true",
    "perceptron: dice: random.Random": "refused",
    "perceptron: no numbers: meta: a custom backward that signs": "said",
    "perceptron: gradients: a custom backward: clamped at 1e8": "refused",
    "perceptron: gradients: a custom backward: clamped at 1e-3": "refused",
    "perceptron: gradients: sound: the identity": "true",
}


def row(name: str, spec: str, known: dict[str, tuple[Any, ...]]) -> Row:
    made = examine(spec, MUTANTS[name], known)
    assert not made.defect, made.defect
    assert not made.false, made.false
    assert not made.blind, made.blind
    return made


@pytest.mark.parametrize("name", thinned(cheap(), 2))
def test_no_false_accept(name: str, spec: str, known: dict[str, tuple[Any, ...]]) -> None:
    row(name, spec, known)


@pytest.mark.parametrize("name", REASONS)
def test_a_refusal_says_why(name: str, spec: str, known: dict[str, tuple[Any, ...]]) -> None:
    made = row(name, spec, known)
    assert made.sites == 0
    said = [made.raised, *made.unmoved, *(reason for reasons in made.reasons.values() for reason in reasons)]
    assert any(REASONS[name] in text for text in said), said


@pytest.mark.parametrize("name", SITES)
def test_what_is_sound_is_found(name: str, spec: str, known: dict[str, tuple[Any, ...]]) -> None:
    made = row(name, spec, known)
    assert {gauge: made.accepted.get(gauge, 0) for gauge in SITES[name]} == SITES[name], made.reasons


@pytest.mark.parametrize("name", VERDICTS)
def test_what_no_trace_sees(name: str, spec: str, known: dict[str, tuple[Any, ...]]) -> None:
    assert row(name, spec, known).verdict == VERDICTS[name]


def unseen() -> list[str]:
    """Some of them: the judge takes a moment for each, and `make soundness` takes all."""
    its = [mutant for mutant in MUTANTS.values() if mutant.kind in UNSEEN_KINDS and mutant.base not in DEAR]
    return [mutant.name for mutant in its if mutant.expects != "mixed"][::9]


@pytest.mark.parametrize("name", thinned(unseen(), 3))
def test_the_judge_agrees_with_who_wrote_it(name: str, spec: str) -> None:
    mutant = MUTANTS[name]
    there = sites(mutant.base, spec)
    with precision(BASES[mutant.base]):
        broken, _ = truth(mutant, there)
    assert bool(broken) == (mutant.expects == "broken"), broken


# --- the judge


def judged(base: str, spec: str, doctor: Any, mutant: Mutant | None = None, gauge: str = "") -> Judgement:
    """What the judge says of the first site of a base, doctored, on the base or on a mutant of it."""
    site = next(site for site in sites(base, spec) if gauge in site.gauge)
    with precision(BASES[base]):
        return Judge(subject(BASES[base], mutant)).judge(doctor(site))


@functools.cache
def sites(base: str, spec: str) -> tuple[Any, ...]:
    """The sites of a base, compiled once."""
    with precision(BASES[base]):
        return tuple(compiled(spec, BASES[base].model(), BASES[base].called()[0], BASES[base]).sites)


def binding(site: Any, role: str, **changes: Any) -> Any:
    """The site with one binding changed."""
    bindings = [dataclasses.replace(b, **changes) if b.role == role else b for b in site.bindings]
    assert bindings != list(site.bindings)
    return dataclasses.replace(site, bindings=tuple(bindings))


def without(site: Any, role: str) -> Any:
    return dataclasses.replace(site, bindings=tuple(b for b in site.bindings if b.role != role))


def moving(site: Any, role: str, **changes: Any) -> Any:
    old = next(b.move for b in site.bindings if b.role == role)
    return binding(site, role, move=dataclasses.replace(old, **changes))


DOCTORED = {
    "a wrong exponent": lambda s: moving(s, "W2", exponent=Fraction(-2)),
    "a wrong sign": lambda s: moving(s, "W2", exponent=Fraction(1)),
    "no bias": lambda s: without(s, "b1"),
    "no reader": lambda s: without(s, "W2"),
    "units in reverse": lambda s: binding(s, "W2", offset=13, group=((14, -1),)),
    "one unit too far": lambda s: dataclasses.replace(
        binding(binding(s, "W1", offset=11, group=((13, 11),)), "W2", group=((13, 1),)), size=13
    ),
    "the other axis": lambda s: binding(s, "W1", group=((14, 1),), rest=((11, 14),)),
    "a shift beside the scale": lambda s: binding(s, "b1", shift_by=0.01),
}


def test_the_judge_believes_a_true_site(spec: str) -> None:
    says = judged("perceptron", spec, lambda site: site)
    assert says.true and says.seeing and says.deviation < 1e-12, says


@pytest.mark.parametrize("name", DOCTORED)
def test_the_judge_catches_a_doctored_site(name: str, spec: str) -> None:
    def doctor(site: Any) -> Any:
        made = DOCTORED[name](site)
        if name == "one unit too far":  # only W1 and W2 fit: the bias goes along, from its first unit
            made = binding(made, "b1", group=((13, 1),))
        return made

    says = judged("perceptron", spec, doctor)
    assert not says.true and says.seeing, says


@pytest.mark.parametrize(
    ("gauge", "change"),
    [
        ("qk_rotation_rope", dict(pairing="interleaved")),
        ("qk_rotation_rope", dict(group="orthogonal", pairing="", rotary=0)),
        ("value_rotation", dict(group="positive")),
    ],
)
def test_the_judge_catches_a_group_that_is_too_large(gauge: str, change: dict[str, Any], spec: str) -> None:
    assert judged("attention", spec, lambda site: site, gauge=gauge).true
    says = judged("attention", spec, lambda site: _regrouped(site, change), gauge=gauge)
    assert not says.true and says.seeing, says


def _regrouped(site: Any, change: dict[str, Any]) -> Any:
    made = dataclasses.replace(site, **change)
    if change["group"] == "positive" if "group" in change else False:
        for b in made.bindings:
            made = moving(made, b.role, kind="scale")
    return made


@pytest.mark.parametrize(
    "name",
    [
        "perceptron: hook: signs of a parameter's gradient",
        "perceptron: hook: clips a parameter's gradient",
        "perceptron: hook: records the hidden units",
        "perceptron: hidden output: a global list",
        "perceptron: hidden output: a buffer of integers",
        "perceptron: memory: ReLU on odd calls, GELU on even ones",
        "perceptron: custom backward: clipped",
        "perceptron: in-place write: one unit set to one",
        "perceptron: hidden output: the input overwritten",
        "perceptron: weight penalty: of up",
    ],
)
def test_the_judge_refutes_the_base_s_site_on_broken_mutants(name: str, spec: str) -> None:
    """Sites are named as the mutant names its parameters."""
    mutant = MUTANTS[name]

    def renamed(site: Any) -> Any:
        names = {n for n, _ in mutant.make().named_parameters()}
        inner = "" if site.bindings[0].parameter in names else "inner."
        moved = tuple(dataclasses.replace(b, parameter=inner + b.parameter) for b in site.bindings)
        return dataclasses.replace(site, bindings=moved)

    assert not judged("perceptron", spec, renamed, mutant).true


def test_the_judge_sees_other_lengths(spec: str) -> None:
    """A branch that the compile example does not take."""
    mutant = MUTANTS["perceptron over tokens: branch on the length: over 100 tokens"]
    assert not judged("perceptron over tokens", spec, lambda site: site, mutant).true
    short = subject(BASES["perceptron over tokens"], mutant)
    with precision(BASES["perceptron over tokens"]):
        only = Subject(short.make, short.inputs[:1], short.loss, short.tolerance)
        assert Judge(only).judge(sites("perceptron over tokens", spec)[0]).true


def test_a_site_that_nothing_depends_on_is_seen_as_such(spec: str) -> None:
    def dead(model: torch.nn.Module) -> None:
        forward = model.forward
        model.forward = lambda x: forward(x) * 0.0 + x.sum()  # type: ignore[method-assign]

    mutant = Mutant("dead", "reduction", "perceptron", dead)
    says = judged("perceptron", spec, lambda site: site, mutant)
    assert says.true and not says.seeing, says


def test_the_table_counts_and_fails(spec: str, known: dict[str, tuple[Any, ...]]) -> None:
    good = row("perceptron: requires_grad=False: up is frozen", spec, known)
    bad = dataclasses.replace(good, false=("relu_rescale at up.weight: FALSE",))
    assert not failed([good]) and failed([good, bad]) and failed([dataclasses.replace(good, defect="Traceback")])
    assert "2 model mutants of 1 kinds on 1 models: 2 sites accepted" in totals([good, bad])
    assert "false accepts: 1, tracebacks: 0" in totals([good, bad])
