"""Models for the tests of matching, their checker, and what a compiled gauge found, as plain data.

Sizes are kept apart where a test does not say otherwise, so that equal sizes suggest nothing.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from seeds import set_seed
from torch import Tensor, nn
from torch.nn import functional as F

import gaugec

BATCH, WIDTH, UNITS, OUT = 6, 11, 14, 9  # of the multilayer perceptrons
EVERY_GAUGE = """architecture anything:
    "Every gauge that ships; none must be there."
    use norm_gain, gain_relu from norms optional
    use relu_rescale, swiglu_rescale, reglu_rescale from mlp optional
    use layer_scale, gate_scale from gates optional
    use value_rotation, qk_rotation_rope, qk_rotation, qk_gain, qk_gain_rope from attention optional
    use logit_shift from head optional
"""


# --- small networks


class Net(nn.Module):
    """Parts by name, and a forward that is a function of (self, *inputs)."""

    def __init__(self, run: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self.run = run
        for name, part in parts.items():
            if isinstance(part, Tensor) and not isinstance(part, nn.Parameter):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, *inputs: Tensor) -> Any:
        return self.run(self, *inputs)


def mlp(
    between: Callable[..., Any] = lambda m, h: h,
    act: Callable[[Tensor], Tensor] = torch.relu,
    after: Callable[..., Any] = lambda m, y, h: y,
    bias: bool = True,
    units: int = UNITS,
    readers: int | None = None,
    width: int = WIDTH,
    **parts: Any,
) -> Net:
    """down(between(act(up(x)))), and `after(m, that, hidden)` is what it returns."""

    def run(m: Any, x: Tensor) -> Any:
        h = act(m.up(x))
        return after(m, m.down(between(m, h)), h)

    up, down = nn.Linear(width, units, bias=bias), nn.Linear(readers or units, OUT, bias=bias)
    return Net(run, up=up, down=down, **parts)


class RMSNorm(nn.Module):
    def __init__(self, width: int, plus: float = 0.0) -> None:
        super().__init__()
        self.plus, self.scale = plus, nn.Parameter(1 - plus + 0.3 * torch.randn(width))

    def forward(self, x: Tensor) -> Tensor:
        x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
        return x * (self.scale + self.plus) if self.plus else self.scale * x


class LibraryNorm(nn.Module):
    """The same by torch's own function."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(1 + 0.3 * torch.randn(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), self.scale, 1e-6)


# --- attention


def angles(n: int, k: int) -> Tensor:
    return torch.arange(n)[:, None] * 10.0 ** (-torch.arange(k // 2) / k)


def rope_halves(x: Tensor) -> Tensor:
    """Rotary embedding, halves by chunk; x [..., n, k]."""
    angle = angles(*x.shape[-2:])
    a, b = x.chunk(2, -1)
    return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], -1)


def rope_pairs(x: Tensor) -> Tensor:
    """Rotary embedding, neighbours."""
    angle = angles(*x.shape[-2:])
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], -1).flatten(-2)


def same(x: Tensor) -> Tensor:
    return x


def by_heads(x: Tensor, heads: int) -> Tensor:
    b, n, _ = x.shape
    return x.view(b, n, heads, -1).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(-2)


class Attention(nn.Module):
    """Grouped queries, spelled out; what happens to queries, keys, values and the mixed values may be changed."""

    def __init__(
        self,
        width: int = 13,
        heads: int = 4,
        kv: int = 2,
        head: int = 6,
        *,
        bias: bool = False,
        on_q: Callable[[Tensor], Tensor] = rope_halves,
        on_k: Callable[[Tensor], Tensor] = rope_halves,
        on_v: Callable[[Tensor], Tensor] = same,
        on_mixed: Callable[[Tensor], Tensor] = same,
        split: Callable[[Tensor, int], Tensor] = by_heads,
        join: Callable[[Tensor], Tensor] = join_heads,
        tile: bool = False,
    ) -> None:
        super().__init__()
        self.heads, self.kv, self.head, self.tile = heads, kv, head, tile
        self.on_q, self.on_k, self.on_v, self.on_mixed = on_q, on_k, on_v, on_mixed
        self.split, self.join = split, join
        self.asks = nn.Linear(width, heads * head, bias=bias)
        self.keys = nn.Linear(width, kv * head, bias=bias)
        self.says = nn.Linear(width, kv * head, bias=bias)
        self.out = nn.Linear(heads * head, width, bias=bias)

    def spread(self, x: Tensor) -> Tensor:
        times = self.heads // self.kv
        if times == 1:
            return x
        return x.repeat(1, times, 1, 1) if self.tile else x.repeat_interleave(times, 1)

    def forward(self, x: Tensor) -> Tensor:
        q = self.on_q(self.split(self.asks(x), self.heads))
        k = self.spread(self.on_k(self.split(self.keys(x), self.kv)))
        v = self.spread(self.on_v(self.split(self.says(x), self.kv)))
        n = x.shape[1]
        mask = torch.full((n, n), -torch.inf, dtype=x.dtype).triu(1)
        mixed = (q @ k.transpose(-1, -2) / math.sqrt(self.head) + mask).softmax(-1) @ v
        return self.out(self.join(self.on_mixed(mixed)))


class Gated(nn.Module):
    def __init__(self, width: int, units: int) -> None:
        super().__init__()
        self.gate, self.up = nn.Linear(width, units, bias=False), nn.Linear(width, units, bias=False)
        self.down = nn.Linear(units, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        g = self.gate(x)
        return self.down(g * torch.sigmoid(g) * self.up(x))


class Storyteller(nn.Module):
    """A Llama's mathematics under other names: token ids to logits."""

    def __init__(self, rope: Callable[[Tensor], Tensor] = rope_halves, layers: int = 2, **attention: Any) -> None:
        super().__init__()
        width = 13
        self.words = nn.Embedding(23, width)
        self.floors = nn.ModuleList()
        for number in range(layers):
            norms = RMSNorm(width, 1.0 if number else 0.0), LibraryNorm(width)
            mixer = Attention(width, on_q=rope, on_k=rope, **attention)
            self.floors.append(nn.ModuleList([*norms, mixer, Gated(width, 17)]))
        self.last, self.speak = RMSNorm(width), nn.Linear(width, 23, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        for before, between, mixer, units in self.floors:  # type: ignore[misc]
            x = x + mixer(before(x))
            x = x + units(between(x))
        return self.speak(self.last(x))


def ids(vocabulary: int = 23, batch: int = 3, length: int = 7) -> Tensor:
    return torch.randint(3, vocabulary, (batch, length))


# --- transformers

HEADS, KV, HEAD, HIDDEN, FEED, VOCABULARY = 6, 2, 8, 30, 22, 31


def llama(**changes: Any) -> tuple[nn.Module, tuple[Any, ...], dict[str, Any]]:
    """A two-layer LlamaForCausalLM whose sizes all differ, gains away from one: (model, args, kwargs)."""
    import transformers

    set_seed(0)
    config = dict(
        hidden_size=HIDDEN, intermediate_size=FEED, num_hidden_layers=2, num_attention_heads=HEADS,
        num_key_value_heads=KV, head_dim=HEAD, vocab_size=VOCABULARY, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**{**config, **changes}))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model.train(), (), dict(input_ids=ids(VOCABULARY, 3, 7), use_cache=False)


# --- what was found, and whether it is true


def counts(compiled: Any) -> Counter[str]:
    """How many sites each gauge has."""
    return Counter(site.gauge for site in compiled.sites)


def shape(binding: Any) -> tuple[int, int, int]:
    """[C, K, M] of a binding."""
    parts = (binding.copies, binding.group, binding.rest)
    return tuple(math.prod(n for n, _ in axes) for axes in parts)  # type: ignore[return-value]


def found(compiled: Any, gauge: str) -> list[dict[str, tuple[int, int, int]]]:
    """Every site of a gauge: parameter -> [C, K, M]."""
    return [{b.parameter: shape(b) for b in site.bindings} for site in compiled.sites if site.gauge == gauge]


def spec_file(folder: Path, text: str = EVERY_GAUGE, name: str = "anything") -> str:
    path = folder / f"{name}.gauge"
    path.write_text(text)
    return str(path)


def results(model: nn.Module, args: tuple[Any, ...], loss: str | None, train: bool) -> list[Tensor]:
    """All that a caller can see: outputs, and buffers after the forward (which are put back); one seed."""
    model.train(train)
    set_seed(11)
    kept = {name: buffer.detach().clone() for name, buffer in model.named_buffers()}
    flat = torch.utils._pytree.tree_leaves(model(*copy.deepcopy(args)))
    values = [x.detach() for x in flat if isinstance(x, Tensor)]
    if loss is not None:
        values[0] = torch.log_softmax(values[0], -1)
    values = [x.double().clone() for x in (*values, *(b.detach() for b in model.buffers()))]
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(kept[name])
    return values


def difference(
    model: nn.Module,
    args: tuple[Any, ...],
    compiled: Any,
    loss: str | None = None,
    modes: tuple[bool, ...] = (True, False),
) -> float:
    """The largest relative change of the real model's results, in train and eval mode, under a random element.

    The parameters are moved in place, so that whatever shares their storage moves with them as it would in training.
    """
    before = {train: results(model, args, loss, train) for train in modes}
    named = dict(model.named_parameters())
    here = {name: parameter.detach().clone() for name, parameter in named.items()}
    moved = compiled.act(here, compiled.random_element(torch.Generator().manual_seed(5)))
    if compiled.sites:
        assert any(not torch.allclose(moved[n], here[n]) for n in here), "the element moves nothing"
    worst = 0.0
    with torch.no_grad():
        for name, parameter in named.items():
            if not torch.equal(moved[name], here[name]):
                parameter.copy_(moved[name])
        for train in modes:
            after = results(model, args, loss, train)
            for a, b in zip(before[train], after, strict=True):
                finite = torch.isfinite(a)
                if not torch.equal(finite, torch.isfinite(b)):
                    worst = math.inf
                elif finite.any():
                    change = (a - b)[finite].abs().max() / a[finite].abs().max().clamp(min=1e-12)
                    worst = max(worst, float(change))
        for name, parameter in named.items():
            if not torch.equal(moved[name], here[name]):
                parameter.copy_(here[name])
    return worst


def apart(compiled: Any) -> None:
    """No element of a parameter plays the first role of a gauge in two sites."""
    seen: dict[tuple[str, str, str, int], int] = {}
    for number, site in enumerate(compiled.sites):
        first = site.bindings[0].role
        for b in (b for b in site.bindings if b.role == first):
            places = torch.tensor([b.offset])
            for n, stride in (*b.copies, *b.group, *b.rest):
                places = (places[:, None] + stride * torch.arange(n)).flatten()
            for place in places.tolist():
                other = seen.setdefault((site.gauge, b.role, b.parameter, place), number)
                assert other == number, f"{site.gauge}: two sites move {b.parameter}, elements from {b.offset}"


def audit(spec: str, model: nn.Module, args: tuple[Any, ...], loss: str | None = None) -> Any:
    """Compiles in double precision, and checks on the model itself that what was found is true."""
    compiled = gaugec.compile(spec, model, args, loss=loss)
    apart(compiled)
    change = difference(model, args, compiled, loss)
    assert change <= 1e-9, f"false accept: {dict(counts(compiled))}, the function changes by {change:.1e}"
    return compiled


def outcome(spec: str, model: nn.Module, args: tuple[Any, ...], loss: str | None = None) -> Any:
    """What `audit` gives, or the MatchError with which the model was refused as a whole."""
    try:
        return audit(spec, model, args, loss)
    except gaugec.MatchError as error:
        assert "contradicts" not in str(error), f"only the numeric witness saw it: {error}"
        return error
