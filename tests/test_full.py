"""Specs with every gauge that a model has: models that take the same path from every copy of themselves."""

from __future__ import annotations

import copy
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from whole_models import MODELS

import gaugec
from gaugec.pipeline.audit import counted
from gaugec.runtime import DDCAdamW
from gaugec.witness.elements import element, moved
from gaugec.witness.neutral import Neutral

Made = tuple[nn.Module, gaugec.pipeline.compiled.CompiledGauge]

LAYERS = {"llama": 2, "vit": 2}  # of one layer a ViT reads nothing but a class token that has looked around once
STEPS = {"llama": 100, "gemma": 100}  # of the others 25, with two pins among them


@cache
def whole(name: str) -> Made:
    model = MODELS[name].build(LAYERS.get(name, 1))
    batch = dict(MODELS[name].batch(torch.Generator().manual_seed(0)))
    return model, gaugec.compile(MODELS[name].spec, model, (), batch, loss="cross_entropy")


def path(model: nn.Module, gauge: gaugec.pipeline.compiled.CompiledGauge, orbit: str, name: str) -> list[float]:
    generator, losses = torch.Generator().manual_seed(1), list[float]()
    optimizer = DDCAdamW(model.named_parameters(), gauge, lr=3e-3, weight_decay=0.1, orbit=orbit)
    for _ in range(STEPS.get(name, 25)):
        batch = MODELS[name].batch(generator)
        optimizer.zero_grad()
        with Neutral():
            logits = MODELS[name].logits(model, batch).flatten(0, -2)
            targets = torch.randint(0, logits.shape[-1], logits.shape[:1], generator=generator)
            loss = F.cross_entropy(logits, targets)
            loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def copies(model: nn.Module, gauge: gaugec.pipeline.compiled.CompiledGauge) -> tuple[nn.Module, nn.Module]:
    """The model, and one that the gauges' elements have moved far from it."""
    generator = torch.Generator().manual_seed(2)
    here, there = copy.deepcopy(model), copy.deepcopy(model)
    pairs = [(site, element(site, generator)) for site in gauge.sites]
    values = moved({name: p.detach().contiguous() for name, p in model.named_parameters()}, pairs)
    with torch.no_grad():
        for name, parameter in there.named_parameters():
            parameter.copy_(values[name])
    assert max((a - b).abs().max().item() for a, b in zip(here.parameters(), there.parameters())) > 0.5
    return here, there


def test_every_dead_direction_of_a_llama_has_its_gauge() -> None:
    """The dimensions of the groups add up to what the audit counts: 130."""
    _, gauge = whole("llama")
    groups = {site.group for site in gauge.sites}
    assert groups == {"positive", "positive_pairs", "torus", "invertible", "translation", "orthogonal"}
    count = {"positive": lambda k: k, "positive_pairs": lambda k: k // 2, "torus": lambda k: k // 2}
    count |= {"invertible": lambda k: k * k, "translation": lambda k: k, "orthogonal": lambda k: k * (k - 1) // 2}
    assert sum(site.copies * count[site.group](site.width) for site in gauge.sites) == 130


def test_the_gains_of_a_gemma_are_one_more_and_so_are_its_charts() -> None:
    (stream,) = (site for site in whole("gemma")[1].sites if site.wide)
    assert {factor.shift_by for binding in stream.bindings for factor in binding.chart.factors} == {1.0}


@pytest.mark.parametrize("name", ["gemma", "qwen3", "mixtral", "gpt2", "opt", "vit", "relu_mlp", "conv_bn"])
def test_no_dead_direction_is_left(name: str) -> None:
    """The orbit is the largest: units, experts, heads, planes, bases, streams, shifts.  The convolution's eight are the
    biases in front of its batch norm, which the running mean sees."""
    audit = counted(whole(name)[1], name)
    assert audit.clear
    assert audit.orbit > 20
    assert audit.unexplained == {"conv_bn": 8}.get(name, 0)


@pytest.mark.parametrize("orbit", ["pinned", "horizontal"])
@pytest.mark.parametrize("name", list(MODELS))
def test_copies_stay_copies(name: str, orbit: str) -> None:
    model, gauge = whole(name)
    here, there = copies(model, gauge)
    one, two = path(here, gauge, orbit, name), path(there, gauge, orbit, name)
    assert one[-1] != one[0]
    assert max(abs(a - b) for a, b in zip(one, two)) <= 1e-10
