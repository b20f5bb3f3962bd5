"""The whole path on models that no test's author told the compiler about: spec, proof, sites, module, 100 steps."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from runtime.test_equivariance import groups, train
from torch import nn

import gaugec
import gaugec.runtime
from gaugec.runtime import DDCAdamW
from gaugec.runtime.telemetry import vertical_part
from gaugec.sites import Binding, Site
from runtime import handmade


def canonical(site: Site) -> Any:
    """What a site moves and how, without names of roles, order and words."""

    def flat(axes: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
        """Neighbouring digits that are one axis in memory become one."""
        made: list[tuple[int, int]] = []
        for n, s in axes:
            if made and made[-1][1] == n * s:
                made[-1] = (made[-1][0] * n, s)
            elif n != 1:
                made.append((n, s))
        return tuple(made)

    def binding(b: Binding) -> Any:
        rest = flat(tuple(sorted(b.rest, key=lambda axis: -axis[1])))
        return (b.parameter, b.offset, flat(b.copies), flat(b.group), rest, b.move.kind, b.move.exponent)

    return (site.group, site.copies, site.size, site.pairing, frozenset(binding(b) for b in site.bindings))


class Classifier(nn.Module):
    """Three linear maps with biases and ReLU between them: logits."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = nn.Linear(7, 11), nn.Linear(11, 9), nn.Linear(9, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.three(torch.relu(self.two(torch.relu(self.one(x)))))


class Trained(nn.Module):
    """A classifier with its loss; names its parameters as the classifier does."""

    def __init__(self) -> None:
        super().__init__()
        inner = Classifier()
        self.one, self.two, self.three = inner.one, inner.two, inner.three

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(Classifier.forward(self, x), y)  # type: ignore[arg-type]


def labelled(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    return handmade.numbers(step)[0], torch.randint(5, (16,), generator=torch.Generator().manual_seed(step))


@pytest.fixture(scope="module", params=["llama", "mlp", "classifier"])
def case(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    if request.param == "llama":
        model: nn.Module = handmade.Llama().double()
        compiled = gaugec.compile("llama", model, (handmade.tokens(0),))
        return model, compiled, lambda step: (handmade.tokens(step),), handmade.llama_sites()
    if request.param == "classifier":
        model = Trained().double()
        compiled = gaugec.compile("relu_mlp", model, labelled(0))
        assert {site.gauge for site in compiled.sites} == {"relu_rescale", "logit_shift"}
        return model, compiled, labelled, None
    model = handmade.MLP().double()
    compiled = gaugec.compile("relu_mlp", model, handmade.numbers(0))
    return model, compiled, handmade.numbers, handmade.mlp_sites()


def test_the_matcher_finds_what_a_person_would_write(case: Any) -> None:
    _, compiled, _, by_hand = case
    if by_hand is None:
        assert len(compiled.sites) == 3
        return
    assert {canonical(site) for site in compiled.sites} == {canonical(site) for site in by_hand}
    assert all(site.verdict == "proved" for site in compiled.sites)


def test_the_witness_holds_and_its_control_fails(case: Any) -> None:
    _, compiled, _, _ = case
    measured = compiled.witness(seed=3)
    assert measured.error <= 1e-10 and measured.control >= 1e-6 and measured.controls > 0


def test_a_second_compile_gives_the_same_bytes(case: Any) -> None:
    model, compiled, data, _ = case
    again = gaugec.compile(compiled.metadata["spec"], copy.deepcopy(model), data(0))
    assert again.source == compiled.source


def test_a_hundred_steps_from_two_gauge_copies(case: Any) -> None:
    start, compiled, data, _ = case
    model = copy.deepcopy(start)
    element = compiled.random_element(torch.Generator().manual_seed(1))
    other = handmade.moved(model, compiled, element)
    changed = {b.parameter for site in compiled.sites for b in site.bindings}
    before, after = dict(model.named_parameters()), dict(other.named_parameters())
    for name in changed:
        assert (after[name] - before[name]).norm() > 0.3 * before[name].norm(), name
    adam = [
        train(each, torch.optim.AdamW(groups(each), weight_decay=0.1), data, 100)
        for each in (copy.deepcopy(model), copy.deepcopy(other))
    ]
    ours = [
        train(each, DDCAdamW(groups(each), compiled, weight_decay=0.1, frame_every=10), data, 100)
        for each in (model, other)
    ]
    assert ((ours[0] - ours[1]).abs() / ours[0].abs()).max() <= 1e-10
    assert ((adam[0] - adam[1]).abs() / adam[0].abs()).max() > 1e-4


def test_a_saved_file_is_the_same_gauge(case: Any, tmp_path: Any) -> None:
    model, compiled, _, _ = case
    compiled.save(tmp_path / "gauge.py")
    loaded = gaugec.runtime.load(tmp_path / "gauge.py")
    element = compiled.random_element(torch.Generator().manual_seed(2))
    params = {name: p.detach() for name, p in model.named_parameters()}
    one, two = compiled.act(params, element), loaded.act(params, element)
    assert all(torch.equal(one[name], two[name]) for name in params)


def test_the_steps_have_no_vertical_part(case: Any) -> None:
    start, compiled, data, _ = case
    element = compiled.random_element(torch.Generator().manual_seed(4))
    model = handmade.moved(copy.deepcopy(start), compiled, element)
    optimizer = DDCAdamW(groups(model), compiled, weight_decay=0.1, frame_every=1, orbit="horizontal")
    for step in range(5):
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        optimizer.zero_grad()
        model(*data(step)).backward()
        optimizer.step()
        assert vertical_part(optimizer, before) <= 1e-10
