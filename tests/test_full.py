"""Specs with every gauge that a model has: models that take the same path from every copy of themselves."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GemmaConfig, GemmaForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel
from whole_models import MODELS

import gaugec
from gaugec.pipeline.audit import counted
from gaugec.runtime import DDCAdamW
from gaugec.witness.elements import element, moved
from gaugec.witness.neutral import Neutral

VOCABULARY, STEPS = 23, 100


SIZES = {
    "hidden_size": 8, "intermediate_size": 7, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4,
    "vocab_size": VOCABULARY, "tie_word_embeddings": False, "use_cache": False,
}  # fmt: skip
Made = tuple[nn.Module, gaugec.pipeline.compiled.CompiledGauge]


def compiled(spec: str, model: PreTrainedModel) -> Made:
    model = model.double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model, gaugec.compile(spec, model, (torch.randint(0, VOCABULARY, (3, 6)),), loss="cross_entropy")


@cache
def llama() -> Made:
    torch.manual_seed(0)
    return compiled("llama_full", LlamaForCausalLM(LlamaConfig(**SIZES, num_hidden_layers=2)))


@cache
def gemma() -> Made:
    torch.manual_seed(0)
    return compiled("gemma_full", GemmaForCausalLM(GemmaConfig(**SIZES, num_hidden_layers=1)))


def path(model: nn.Module, gauge: gaugec.pipeline.compiled.CompiledGauge, orbit: str) -> list[float]:
    generator, losses = torch.Generator().manual_seed(1), list[float]()
    optimizer = DDCAdamW(model.named_parameters(), gauge, lr=3e-3, weight_decay=0.1, orbit=orbit)
    for _ in range(STEPS):
        tokens: Tensor = torch.randint(0, VOCABULARY, (4, 7), generator=generator)
        optimizer.zero_grad()
        with Neutral():
            logits = model(tokens).logits
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
            loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_every_dead_direction_of_a_llama_has_its_gauge() -> None:
    """The dimensions of the groups add up to what the audit counts: 130."""
    _, gauge = llama()
    groups = {site.group for site in gauge.sites}
    assert groups == {"positive", "positive_pairs", "torus", "invertible", "translation", "orthogonal"}
    count = {"positive": lambda k: k, "positive_pairs": lambda k: k // 2, "torus": lambda k: k // 2}
    count |= {"invertible": lambda k: k * k, "translation": lambda k: k, "orthogonal": lambda k: k * (k - 1) // 2}
    assert sum(site.copies * count[site.group](site.width) for site in gauge.sites) == 130


def test_every_dead_direction_of_a_gemma_has_its_gauge() -> None:
    """Its gains are 1 + w, and so are the charts of what reads them; the audit counts both sides."""
    _, gauge = gemma()
    (stream,) = (site for site in gauge.sites if site.wide)
    assert {factor.shift_by for binding in stream.bindings for factor in binding.chart.factors} == {1.0}
    audit = counted(gauge, "Gemma")
    assert (audit.nullity, audit.orbit, audit.unexplained) == (87, 87, 0)


@cache
def whole(name: str) -> Made:
    # of one layer a ViT reads nothing but a class token that has looked around once
    model = MODELS[name].build(layers=2 if name == "vit" else 1)
    batch = dict(MODELS[name].batch(torch.Generator().manual_seed(0)))
    return model, gaugec.compile(MODELS[name].spec, model, (), batch, loss="cross_entropy")


@pytest.mark.parametrize("name", ["qwen3", "mixtral", "gpt2", "opt", "vit", "relu_mlp", "conv_bn"])
def test_no_dead_direction_is_left(name: str) -> None:
    """The orbit is the largest: units, experts, heads, planes, bases, streams, shifts.  The convolution's eight are the
    biases in front of its batch norm, which the running mean sees."""
    _, gauge = whole(name)
    audit = counted(gauge, name)
    assert audit.clear
    assert audit.orbit > 20
    assert audit.unexplained == {"conv_bn": 8}.get(name, 0)


def steps(model: nn.Module, gauge: gaugec.pipeline.compiled.CompiledGauge, orbit: str, name: str) -> list[float]:
    generator, losses = torch.Generator().manual_seed(1), list[float]()
    optimizer = DDCAdamW(model.named_parameters(), gauge, lr=3e-3, weight_decay=0.1, orbit=orbit)
    for _ in range(STEPS // 4):
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


@pytest.mark.parametrize("orbit", ["pinned", "horizontal"])
@pytest.mark.parametrize("name", [name for name in MODELS if name not in ("llama", "gemma")])
def test_copies_stay_copies_in_every_architecture(name: str, orbit: str) -> None:
    """25 steps, on either side of two pins."""
    model, gauge = whole(name)
    here, there = copies(model, gauge)
    one, two = steps(here, gauge, orbit, name), steps(there, gauge, orbit, name)
    assert one[-1] != one[0]
    assert max(abs(a - b) for a, b in zip(one, two)) <= 1e-10


@pytest.mark.parametrize("orbit", ["pinned", "horizontal"])
@pytest.mark.parametrize("made", [llama, gemma], ids=["llama", "gemma"])
def test_copies_stay_copies_under_all_of_them(made: Callable[[], Made], orbit: str) -> None:
    model, gauge = made()
    here, there = copies(model, gauge)
    one, two = path(here, gauge, orbit), path(there, gauge, orbit)
    assert one[-1] < one[0] - 0.01
    assert max(abs(a - b) for a, b in zip(one, two)) <= 1e-10
