"""A norm's gain under a ReLU, the gains of query and key norms against each other, and readers of width one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from match.models import LibraryNorm, Net, RMSNorm, audit, by_heads, counts, join_heads, rope_halves, rope_pairs, same
from match.training import apart
from thinned import thinned
from torch import Tensor, nn
from torch.nn import functional as F

import gaugec

pytestmark = pytest.mark.usefixtures("double")

WIDTH, HEAD, UNITS = 7, 6, 8


def between(norm: Callable[[], nn.Module], act: Callable[..., Any] = lambda m, h: torch.relu(h)) -> Net:
    """down(act(norm(up(x)))) of images."""
    return Net(
        lambda m, x: m.down(act(m, m.norm(m.up(x)))),
        up=nn.Conv2d(3, UNITS, 3, bias=False), norm=norm(), down=nn.Conv2d(UNITS, 5, 3),
    )  # fmt: skip


def shaken(norm: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return norm


def batch_norm() -> nn.Module:
    return shaken(nn.BatchNorm2d(UNITS))


@pytest.mark.parametrize("norm", [batch_norm, lambda: shaken(nn.GroupNorm(2, UNITS))], ids=["batch", "group"])
def test_a_gain_and_a_bias_under_a_relu_move_into_its_readers(norm: Callable[[], nn.Module], spec: str) -> None:
    model, x = between(norm), torch.randn(2, 3, 8, 8)
    compiled = audit(spec, model, (x,))
    assert counts(compiled) == {"gain_relu": 1}
    assert [b.parameter for b in compiled.sites[0].bindings] == ["norm.weight", "norm.bias", "down.weight"]
    assert apart(compiled, model, x) <= 1e-12


def test_the_stem_of_a_residual_network(spec: str) -> None:
    """Read twice: by the first convolution of a block and by its shortcut."""

    def run(m: Any, x: Tensor) -> Any:
        h = F.max_pool2d(torch.relu(m.norm(m.up(x))), 3, 2, 1)
        return torch.relu(m.inner_norm(m.down(h))) + m.shortcut(h)

    parts = {"up": nn.Conv2d(3, UNITS, 3, bias=False), "norm": batch_norm(), "inner_norm": batch_norm()}
    parts |= {"down": nn.Conv2d(UNITS, UNITS, 3, padding=1), "shortcut": nn.Conv2d(UNITS, UNITS, 1)}
    model, x = Net(run, **parts), torch.randn(2, 3, 8, 8)
    compiled = audit(spec, model, (x,))
    assert counts(compiled) == {"gain_relu": 1}
    assert [b.parameter for b in compiled.sites[0].bindings][2:] == ["down.weight", "shortcut.weight"]
    assert apart(compiled, model, x) <= 1e-12


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (lambda m, h: F.gelu(h), "gelu has no law that lets a positive scale through"),
        (lambda m, h: torch.relu(h) + h, "the moved value passes max(x, 0) + x at aten.add"),
        (lambda m, h: torch.relu(h + 0.1), "the constant 0.1 is added to the moved value"),
    ],
    ids=["gelu", "past the relu", "a constant"],
)
def test_what_is_near_a_gain_under_a_relu_is_refused(act: Callable[..., Any], reason: str, spec: str) -> None:
    compiled = gaugec.compile(spec, between(batch_norm, act), (torch.randn(2, 3, 8, 8),))
    assert counts(compiled) == {}
    assert any(reason in refusal.reason for refusal in compiled.refusals), [r.reason for r in compiled.refusals]


# --- query and key norms
def attention(
    norm: Callable[[], nn.Module],
    turn: Callable[[Tensor], Tensor] = same,
    keys: Callable[[], nn.Module] | None = None,
    more: Callable[..., Any] = lambda m, q, k: (q, k),
) -> Net:
    """Grouped queries whose heads are normed, with gains that all heads share."""

    def run(m: Any, x: Tensor) -> Tensor:
        q, k, v = (by_heads(part(x), heads) for part, heads in ((m.q, 4), (m.k, 2), (m.v, 2)))
        q, k = more(m, turn(m.q_norm(q)), turn(m.k_norm(k)))
        k, v = (t.repeat_interleave(2, 1) for t in (k, v))
        return m.out(join_heads(F.scaled_dot_product_attention(q, k, v)))

    q, k, v = nn.Linear(WIDTH, 4 * HEAD), nn.Linear(WIDTH, 2 * HEAD), nn.Linear(WIDTH, 2 * HEAD)
    norms = {"q_norm": shaken(norm()), "k_norm": shaken((keys or norm)())}
    return Net(run, q=q, k=k, v=v, out=nn.Linear(4 * HEAD, WIDTH), **norms)


PAIRS: dict[str, tuple[Callable[[], nn.Module], Callable[[Tensor], Tensor], str, int]] = {
    "gains": (lambda: LibraryNorm(HEAD), same, "qk_gain", HEAD),
    "gains and biases": (lambda: nn.LayerNorm(HEAD), same, "qk_gain", HEAD),
    "rotary": (lambda: LibraryNorm(HEAD), rope_halves, "qk_gain_rope", HEAD),
    "rotary, neighbours": (lambda: RMSNorm(HEAD), rope_pairs, "qk_gain_rope", HEAD),
    "one plus a gain": (lambda: RMSNorm(HEAD, 1.0), rope_halves, "qk_gain_rope", HEAD),
}


@pytest.mark.parametrize("name", thinned(PAIRS, 3))
def test_a_gain_against_a_gain(name: str, spec: str) -> None:
    norm, turn, gauge, size = PAIRS[name]
    model, x = attention(norm, turn), torch.randn(2, 5, WIDTH)
    compiled = audit(spec, model, (x,))
    assert counts(compiled) == {gauge: 1, "value_rotation": 1}
    site = next(site for site in compiled.sites if site.gauge == gauge)
    assert site.size == size and {b.move.exponent for b in site.bindings} == {1, -1}
    assert apart(compiled, model, x) <= 1e-12


def test_norms_over_all_heads_have_gains_for_each(spec: str) -> None:
    """One norm before the heads are told apart: every head that queries share has scales of its own."""

    def run(m: Any, x: Tensor) -> Tensor:
        q, k, v = (by_heads(part(x), 2) for part in (lambda x: m.q_norm(m.q(x)), lambda x: m.k_norm(m.k(x)), m.v))
        return m.out(join_heads(F.scaled_dot_product_attention(rope_halves(q), rope_halves(k), v)))

    parts = {name: nn.Linear(WIDTH, 2 * HEAD) for name in ("q", "k", "v")}
    norms = {name: shaken(LibraryNorm(2 * HEAD)) for name in ("q_norm", "k_norm")}
    model, x = Net(run, **parts, **norms, out=nn.Linear(2 * HEAD, WIDTH)), torch.randn(2, 5, WIDTH)
    compiled = audit(spec, model, (x,))
    sites = {site.gauge: (site.copies, site.size) for site in compiled.sites}
    assert sites == {"qk_gain_rope": (2, HEAD), "value_rotation": (2, HEAD)}
    assert apart(compiled, model, x) <= 1e-12


UNPAIRED: dict[str, Callable[[], Net]] = {
    "no gain of keys": lambda: attention(lambda: LibraryNorm(HEAD), rope_halves, nn.Identity),
    "one norm for both": lambda: (lambda m: setattr(m, "k_norm", m.q_norm) or m)(attention(lambda: LibraryNorm(HEAD))),
    "a bias under a rotary embedding": lambda: attention(lambda: nn.LayerNorm(HEAD), rope_halves),
    "queries flipped": lambda: attention(lambda: LibraryNorm(HEAD), more=lambda m, q, k: (q.flip(-1), k)),
    "keys bent": lambda: attention(lambda: LibraryNorm(HEAD), more=lambda m, q, k: (q, torch.tanh(k))),
}


@pytest.mark.parametrize("name", thinned(UNPAIRED, 3))
def test_gains_that_do_not_meet(name: str, spec: str) -> None:
    compiled = audit(spec, UNPAIRED[name](), (torch.randn(2, 5, WIDTH),))
    assert {site.gauge for site in compiled.sites} <= {"value_rotation"}


# --- axes of length one
NARROW: dict[str, Callable[[], Net]] = {
    "a value head": lambda: Net(lambda m, x: m.b(torch.relu(m.a(x))), a=nn.Linear(4, UNITS), b=nn.Linear(UNITS, 1)),
    "squeezed": lambda: Net(
        lambda m, x: m.b(torch.relu(m.a(x))).squeeze(-1), a=nn.Linear(4, UNITS), b=nn.Linear(UNITS, 1)
    ),
    "a vector": lambda: Net(
        lambda m, x: torch.relu(m.a(x)) @ m.b, a=nn.Linear(4, UNITS), b=nn.Parameter(torch.randn(UNITS))
    ),
    "from one number": lambda: Net(
        lambda m, x: m.b(torch.relu(m.a(x[..., :1]))), a=nn.Linear(1, UNITS), b=nn.Linear(UNITS, 3)
    ),
}


@pytest.mark.parametrize("name", thinned(NARROW, 2))
def test_width_one(name: str, spec: str) -> None:
    model, x = NARROW[name](), torch.randn(5, 4)
    compiled = audit(spec, model, (x,))
    assert counts(compiled) == {"relu_rescale": 1}
    assert apart(compiled, model, x) <= 1e-12


def test_a_gate_of_width_one_reads_a_norm(spec: str) -> None:
    model = Net(
        lambda m, x: (lambda h: torch.sigmoid(m.gate(h)) * m.b(h))(m.norm(x)),
        norm=shaken(nn.LayerNorm(4)), gate=nn.Linear(4, 1, bias=False), b=nn.Linear(4, 3),
    )  # fmt: skip
    compiled, x = audit(spec, model, (torch.randn(5, 4),)), torch.randn(5, 4)
    assert counts(compiled)["norm_gain"] == 1
    assert apart(compiled, model, x) <= 1e-12


def test_two_units_that_are_multiplied_have_a_scale_each(spec: str) -> None:
    """relu(a) * b: both trade their scale with the reader."""
    parts = {name: nn.Linear(4, UNITS) for name in ("a", "b")}
    model = Net(lambda m, x: m.down(torch.relu(m.a(x)) * m.b(x)), **parts, down=nn.Linear(UNITS, 3))
    x = torch.randn(5, 4)
    compiled = audit(spec, model, (x,))
    assert counts(compiled) == {"reglu_rescale": 1, "swiglu_rescale": 1}
    assert apart(compiled, model, x) <= 1e-12
