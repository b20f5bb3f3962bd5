"""What a run does along the orbits, seen from outside: of plain AdamW as of ours."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from gaugec.runtime import DDCAdamW, Telemetry
from gaugec.runtime.figures import plot
from gaugec.runtime.telemetry import conditions, drift, vertical_shares
from runtime import handmade
from runtime.handmade_groups import CASES as GROUPS
from runtime.handmade_groups import compiled, drawn
from runtime.test_equivariance import train
from runtime.test_quotient import generator, llama

SITES = [
    "norm_gain of layers.0.norm1.weight",
    "value_rotation of layers.0.v.weight",
    "qk_rotation of layers.0.q.weight",
    "norm_gain of layers.0.norm2.weight",
    "swiglu_rescale of layers.0.up.weight",
    "norm_gain of norm.weight",
    "logit_shift of head.weight",
]


def tokens(step: int) -> Any:
    return (handmade.tokens(step),)


@pytest.mark.parametrize(
    "name", ["positive", "positive_pairs", "translation", "orthogonal", "orthogonal_ones", "torus"]
)
def test_drift_is_the_length_of_the_element_that_moved(name: str) -> None:
    gauge, shapes = compiled(name), GROUPS[name][1]
    ((key, component, _),) = gauge.places()
    ((site, (kind, _, size)),) = component.elements.items()
    a = drawn(shapes, 1)
    assert all(length < 1e-14 for length in drift(gauge, a, a).values())
    element = gauge.random_element(generator(2))
    x = element[key][site]
    if kind == "scale":
        wanted = x.log()
    elif kind == "turn":
        wanted = torch.remainder(x + torch.pi, 2 * torch.pi) - torch.pi
    elif kind == "shift":
        wanted = x
    else:  # of a rotation by the angles t, the trace is the sum of their cosines
        small = 1e-3 * (x - x.mT)
        x = torch.linalg.matrix_exp(small - small.mean(-1, keepdim=True) - small.mean(-2, keepdim=True))
        x = x if name == "orthogonal_ones" else torch.linalg.matrix_exp(small)
        element[key][site] = x
        assert kind != "rotate ones" or (x.sum(-1) - 1).abs().max() < 1e-12
        traces = x.diagonal(dim1=-2, dim2=-1).sum(-1)
        wanted = (2 * (size - traces) / size).sqrt()
    (length,) = drift(gauge, a, gauge.act(a, element)).values()
    assert length == pytest.approx(float(wanted.square().mean().sqrt()), rel=1e-5)
    assert list(drift(gauge, a, a)) == [f"{site} of a"]


def test_sites_are_named_and_numbers_are_plain() -> None:
    model, gauge = llama()
    watch = Telemetry(gauge, model)
    seen = watch.look()
    assert seen["step"] == 1 and watch.history == [seen] and seen["whole_vertical"] == 0.0
    assert sorted(seen["drift"]) == sorted(seen["vertical"]) == sorted(SITES)
    assert set(seen["condition"]) == {site for site in SITES if "gain" in site or "rescale" in site}
    for quantity in ("drift", "vertical", "condition"):
        assert all(type(number) is float for number in seen[quantity].values())
    assert all(length < 1e-14 for length in seen["drift"].values())
    assert all(number >= 1 for number in seen["condition"].values())


def test_a_gauge_copy_is_all_drift() -> None:
    """A model that is moved along its orbits, rotations alone or everything: each site sees its own."""
    model, gauge = llama()
    params = {name: p.detach() for name, p in model.named_parameters()}
    element = gauge.random_element(generator(1))
    turned = {
        key: {n: x for n, x in each.items() if "rotation" in n} for key, each in element.items()
    }
    seen = drift(gauge, params, gauge.act(params, turned))
    assert {site for site, length in seen.items() if length > 0.1} == {site for site in SITES if "rotation" in site}
    assert all(length < 1e-12 for site, length in seen.items() if "rotation" not in site)
    seen = drift(gauge, model, gauge.act(params, element))
    assert all(length > 0.1 for length in seen.values())


def test_a_small_move_along_the_orbit_is_vertical_and_a_horizontal_one_is_not() -> None:
    gauge, shapes = compiled("orthogonal"), GROUPS["orthogonal"][1]
    a = drawn(shapes, 1)
    element = gauge.random_element(generator(1))
    ((key, component, _),) = gauge.places()
    small = 1e-6 * (element[key]["head"] - element[key]["head"].mT)
    element[key]["head"] = torch.linalg.matrix_exp(small)
    (share,) = vertical_shares(gauge, a, gauge.act(a, element)).values()
    assert share == pytest.approx(1.0, abs=1e-5)
    longer = {name: 1.01 * x for name, x in a.items()}
    assert max(vertical_shares(gauge, a, longer).values()) < 1e-12
    assert max(drift(gauge, a, longer).values()) < 1e-12
    assert conditions(gauge, a) == {} and component.gauges


def test_adamw_runs_along_the_orbits_and_ours_does_not() -> None:
    looks = []
    for make in (
        lambda model, gauge: torch.optim.AdamW(model.parameters(), lr=1e-2),
        lambda model, gauge: DDCAdamW(model.named_parameters(), gauge, lr=1e-2),
    ):
        model, gauge = llama()
        optimizer, watch = make(model, gauge), Telemetry(gauge, model)
        for step in range(3):
            train(model, optimizer, lambda _, step=step: tokens(step), 1)
            watch.look(step)
        looks.append(watch.history[-1])
    theirs, ours = looks
    assert theirs["whole_vertical"] > 1e-2 and max(theirs["vertical"].values()) > 1e-2
    assert all(length > 1e-5 for length in theirs["drift"].values())
    assert ours["step"] == 2 and set(ours["drift"]) == set(theirs["drift"])


def test_units_without_canonical_form_have_not_moved() -> None:
    model, gauge = llama()
    with torch.no_grad():
        model.layers[0].up.weight[2] = 0
    watch = Telemetry(gauge, model)
    with torch.no_grad():
        model.layers[0].up.weight[2] = 1e-3
    seen = watch.look()
    assert seen["drift"]["swiglu_rescale of layers.0.up.weight"] < 1e-14


def test_a_figure_has_a_line_for_every_site(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    model, gauge = llama()
    watch = Telemetry(gauge, model)
    watch.look()
    watch.look()
    figure = plot(watch.history, "condition", tmp_path / "condition.png")
    (axes,) = figure.axes
    assert len(axes.lines) == 4 and (tmp_path / "condition.png").stat().st_size > 1000
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["norm_gain", "swiglu_rescale"]
    with pytest.raises(ValueError, match=r"^quantity is one of drift, vertical, condition, not 'loss'$"):
        plot(watch.history, "loss")
    with pytest.raises(ValueError, match=r"^there is nothing to plot: telemetry has not looked yet$"):
        plot([])


def test_without_matplotlib_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"^a figure needs matplotlib: pip install matplotlib$"):
        plot([{"step": 1, "drift": {}}])
