"""Mutants near what is matched of queries, keys and values, and of copies that are looked up: gains of their norms,
rotary embeddings of neighbours, lengths that are kept, experts picked by an index.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from match.models import angles, rope_halves, rope_pairs
from soundness.mutant_registry import Change, add, method
from torch import Tensor, nn
from torch.nn import functional as F

ROTARY, PLAIN, EXPERTS = "attention", "plain attention", "experts"
Gained = Callable[[Tensor, Tensor], Tensor]


class Gain(nn.Module):
    """A function of a head and a gain of its own."""

    def __init__(self, function: Gained) -> None:
        super().__init__()
        self.function, self.gain = function, nn.Parameter(1 + 0.3 * torch.randn(6))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.gain)


def rms(x: Tensor, eps: float = 1e-6) -> Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)


def unit(x: Tensor) -> Tensor:
    return F.normalize(x, dim=-1)


def gained(queries: Gained, keys: Gained, tied: bool = False) -> Change:
    def change(m: Any) -> None:
        m.on_q, m.on_k = Gain(queries), Gain(keys)
        if tied:
            m.on_k.gain = m.on_q.gain

    return change


def on(**functions: Callable[[Tensor], Tensor]) -> Change:
    """What is done to queries (on_q), keys (on_k) and values (on_v)."""

    def change(m: Any) -> None:
        for name, function in functions.items():
            setattr(m, name, function)

    return change


def plain(x: Tensor, g: Tensor) -> Tensor:
    return rms(x) * g


def halves(x: Tensor, g: Tensor) -> Tensor:
    return rope_halves(rms(x) * g)


def pairs(x: Tensor, g: Tensor) -> Tensor:
    return rope_pairs(rms(x) * g)


def after(x: Tensor, g: Tensor) -> Tensor:
    return rope_halves(rms(x)) * g


GAINS: dict[tuple[str, str], Change] = {
    (PLAIN, "gains"): gained(plain, plain),
    (PLAIN, "one gain for both"): gained(plain, plain, tied=True),
    (PLAIN, "gains behind norms with an eps"): gained(lambda x, g: rms(x, 0.3) * g, plain),
    (PLAIN, "a gain under a norm"): gained(lambda x, g: rms(x * g, 0.1), plain),
    (PLAIN, "a gain that saturates"): gained(lambda x, g: torch.tanh(rms(x) * g), plain),
    (PLAIN, "a gain and a constant"): gained(lambda x, g: rms(x) * g + 0.1, plain),
    (PLAIN, "a gain flipped"): gained(plain, lambda x, g: (rms(x) * g).flip(-1)),
    (PLAIN, "a gain that divides"): gained(plain, lambda x, g: rms(x) / g),
    (PLAIN, "a gain's square"): gained(plain, lambda x, g: rms(x) * g**2),
    (PLAIN, "a gain, and without"): gained(lambda x, g: rms(x) * g + rms(x), plain),
    (PLAIN, "gains from one"): gained(lambda x, g: rms(x) * (1 + g), lambda x, g: rms(x) * (1 + g)),
    (ROTARY, "gains before the embedding, halves"): gained(halves, halves),
    (ROTARY, "gains before the embedding, neighbours"): gained(pairs, pairs),
    (ROTARY, "gains behind the embedding"): gained(after, after),
    (ROTARY, "a gain before it, a gain behind it"): gained(halves, after),
    (ROTARY, "halves against neighbours"): gained(halves, pairs),
    (ROTARY, "a norm behind the embedding"): gained(lambda x, g: rms(halves(x, g), 0.1), halves),
    (ROTARY, "queries alone are embedded"): gained(halves, plain),
}
for (base, name), change in GAINS.items():
    add("sound rewrite", base, f"of queries and keys: {name}", change, "mixed")


# --- embeddings of neighbours
def by_table(x: Tensor, angle: Tensor) -> Tensor:
    turned = torch.stack([-x[..., 1::2], x[..., 0::2]], -1).flatten(-2)
    return x * angle.cos() + turned * angle.sin()


def table(x: Tensor) -> Tensor:
    return by_table(x, angles(*x.shape[-2:]).repeat_interleave(2, -1))


def table_of_halves(x: Tensor) -> Tensor:
    return by_table(x, angles(*x.shape[-2:]).repeat(1, 2))


def other_order(x: Tensor) -> Tensor:
    return by_table(x, angles(*x.shape[-2:])[:, [0, 2, 1]].repeat_interleave(2, -1))


def front(x: Tensor) -> Tensor:
    return torch.cat([rope_pairs(x[..., :4]), x[..., 4:]], -1)


def back(x: Tensor) -> Tensor:
    return torch.cat([x[..., :2], rope_pairs(x[..., 2:])], -1)


EMBEDDED: dict[str, Change] = {
    "halves against neighbours": on(on_k=rope_pairs),
    "neighbours": on(on_q=rope_pairs, on_k=rope_pairs),
    "a length before and behind": on(
        on_q=lambda x: unit(rope_pairs(x)), on_k=lambda x: rope_pairs(unit(x))
    ),
    "neighbours in a part": on(on_q=front, on_k=front),
    "neighbours in other parts": on(on_q=front, on_k=back),
    "by tables of full length": on(on_q=table, on_k=table),
    "by tables of halves": on(on_q=table_of_halves, on_k=table_of_halves),
    "by tables in another order": on(on_q=other_order, on_k=table),
}  # fmt: skip
for name, change in EMBEDDED.items():
    add("sound rewrite", ROTARY, f"embedded: {name}", change, "mixed")

# --- what turns, over a size of it
SIZES: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "its length": (unit, "sound"),
    "its length with an eps": (lambda x: rms(x, 0.1), "sound"),
    "the length of all heads and rows": (lambda x: x / (1 + x.pow(2).sum((1, 3), keepdim=True)), "sound"),
    "the sum of its sizes": (lambda x: x / x.abs().sum(-1, keepdim=True), "broken"),
    "the length of a part": (lambda x: x / x[..., :4].norm(dim=-1, keepdim=True), "broken"),
    "its largest square": (lambda x: x / x.pow(2).amax(-1, keepdim=True), "broken"),
    "a weighted length": (lambda x: x / (x.pow(2) * torch.arange(1, 7)).sum(-1, keepdim=True), "broken"),
    "a product with its neighbour": (
        lambda x: x / (1 + (x * x.roll(1, -1)).sum(-1, keepdim=True).square()), "broken",
    ),
    "a product with the row before": (
        lambda x: x / (1 + (x * x.roll(1, -2)).sum(-1, keepdim=True).square()), "sound",
    ),
    "its spread": (lambda x: F.layer_norm(x, (6,)), "broken"),
}  # fmt: skip
for name, (function, expects) in SIZES.items():
    add("sound rewrite", PLAIN, f"queries over {name}", on(on_q=function), expects)
add("sound rewrite", PLAIN, "values over their length", on(on_v=unit), "sound")
add(
    "additive constant", PLAIN, "values with their squared length",
    on(on_v=lambda v: v + v.pow(2).mean(-1, keepdim=True)),
)  # fmt: skip

# --- experts picked by an index
Chooser = Callable[[Any, Tensor], Tensor]


def picked(choose: Chooser, down: Chooser | None = None) -> Change:
    def run(m: Any, x: Tensor) -> Tensor:
        i, j = choose(m, x), (down or choose)(m, x)
        gate = F.silu(torch.einsum("bnfd,bnd->bnf", m.gate[i], x))
        return torch.einsum("bndf,bnf->bnd", m.down[j], gate * torch.einsum("bnfd,bnd->bnf", m.up[i], x))

    return method("forward", run)


def routed(m: Any, x: Tensor) -> Tensor:
    return m.router(x).argmax(-1)


def positive(m: Any, x: Tensor) -> Tensor:
    return (x.sum(-1) > 0).long()


PICKED: dict[str, tuple[Change, str]] = {
    "by the router": (picked(routed), "mixed"),
    "by the input": (picked(positive), "mixed"),
    "and read by another": (picked(routed, lambda m, x: 3 - routed(m, x)), "broken"),
    "and read by the input": (picked(routed, positive), "broken"),
    "by what they say": (picked(lambda m, x: torch.einsum("efd,bnd->bne", m.up, x).argmax(-1)), "broken"),
    "by their gates' size": (
        picked(lambda m, x: m.gate.pow(2).sum((1, 2)).argmax().expand(x.shape[:2])), "mixed",
    ),
    "by their readers' size": (
        picked(lambda m, x: m.down.abs().sum((1, 2)).argsort()[routed(m, x)]), "broken",
    ),
}  # fmt: skip
for name, (change, expects) in PICKED.items():
    add("reuse", EXPERTS, f"one is picked {name}", change, expects)
