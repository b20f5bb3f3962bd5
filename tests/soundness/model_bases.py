"""The models that are mutated: real ones from transformers and torch, and hand-written ones; and how they are changed.

A `Base` builds the same model every time and gives inputs of any batch and length.  Hand-written models are made in
double precision; the real ones compute their norms in single precision, which the judge is told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from match.models import Attention, Gated, RMSNorm, Storyteller
from seeds import set_seed
from torch import Tensor, nn
from torch.nn import functional as F

Inputs = tuple[tuple[Any, ...], dict[str, Any]]
HEADS, KV, HEAD, UNITS, VOCABULARY = 4, 2, 6, 22, 31
WIDTH, SQUARE = 32, 28  # of models whose width is free, and of those in which it is heads * head width


@dataclass(frozen=True)
class Base:
    """A model: `build` after the seed is set, `inputs(batch, length)`; `sizes`: the compile example's comes first."""

    name: str
    build: Callable[[], nn.Module]
    inputs: Callable[[int, int], Inputs]
    sizes: Sequence[tuple[int, int]]
    loss: str | None = None
    exact: bool = True
    slow: bool = False
    double: bool = False
    tolerance: float = field(default=1e-9)

    def model(self, change: Callable[[nn.Module], nn.Module | None] | None = None) -> nn.Module:
        """A fresh model in train mode, then changed, with gains and biases away from one and zero."""
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64 if self.exact else torch.float32)
        try:
            set_seed(5)
            made = self.build().train()
            made = (change(made) if change is not None else None) or made
            with torch.no_grad():
                for p in made.parameters():
                    if p.ndim == 1 and p.is_contiguous() and p.is_floating_point():
                        p.add_(0.3 * torch.randn_like(p))
            return made
        finally:
            torch.set_default_dtype(before)

    def called(self) -> list[Inputs]:
        """Inputs of every size, the example first."""
        made: list[Inputs] = []
        for number, (batch, length) in enumerate(self.sizes):
            set_seed(20 + number)
            made.append(self.inputs(batch, length))
        return made


def rows(width: int) -> Callable[[int, int], Inputs]:
    return lambda b, n: ((torch.randn(b, width, dtype=torch.float64),), {})


def tokens(width: int, dtype: torch.dtype = torch.float64) -> Callable[[int, int], Inputs]:
    return lambda b, n: ((torch.randn(b, n, width, dtype=dtype),), {})


def images_of(b: int, n: int) -> Inputs:
    """n by n + 2 pixels."""
    return (torch.randn(b, 3, n, n + 2, dtype=torch.float64),), {}


def audio_of(b: int, n: int) -> Inputs:
    return (torch.randn(b, 4, n, dtype=torch.float64),), {}


def words(b: int, n: int) -> Inputs:
    return (torch.randint(3, 23, (b, n)),), {}


def ids(b: int, n: int) -> Inputs:
    return (), dict(input_ids=torch.randint(3, VOCABULARY, (b, n)), use_cache=False)


# --- by hand


class Perceptron(nn.Module):
    """up -> relu -> down, over rows or tokens."""

    def __init__(self, width: int = 11, units: int = 14, out: int = 9, reads: int | None = None) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, units), nn.Linear(reads or units, out)

    def middle(self, h: Tensor) -> Tensor:
        return h

    def finish(self, y: Tensor, h: Tensor) -> Any:
        return y

    def forward(self, x: Tensor) -> Any:
        h = torch.relu(self.up(x))
        return self.finish(self.down(self.middle(h)), h)


def images() -> nn.Module:
    """The same by convolutions, over pixels: no size of an image is a parameter's."""
    made = Perceptron()
    made.up, made.down = nn.Conv2d(3, 7, 3, padding=1), nn.Conv2d(7, 5, 3, padding=1)
    return made


def audio() -> nn.Module:
    """The same over samples."""
    made = Perceptron()
    made.up, made.down = nn.Conv1d(4, 7, 3, padding=1), nn.Conv1d(7, 5, 3, padding=1)
    return made


class Convolutions(nn.Module):
    """conv -> batch norm -> relu -> conv -> relu -> mean -> linear."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Conv2d(3, 7, 3, padding=1), nn.BatchNorm2d(7), nn.Conv2d(7, 10, 3)
        self.head = nn.Linear(10, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.b(torch.relu(self.norm(self.a(x))))).mean((-1, -2)))


class Fused(nn.Module):
    """LayerNorm with gain and bias, then attention whose queries, keys and values are one matrix."""

    def __init__(self, width: int = 13, heads: int = 3, head: int = 4) -> None:
        super().__init__()
        self.norm, self.heads = nn.LayerNorm(width), heads
        self.qkv, self.out = nn.Linear(width, 3 * heads * head), nn.Linear(heads * head, width)

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        b, n, _ = x.shape
        q, k, v = self.qkv(self.norm(x)).view(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        return q, k, v

    def forward(self, x: Tensor) -> Any:
        q, k, v = self.parts(x)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return x + self.out(y.transpose(1, 2).flatten(-2))


class Branches(nn.Module):
    """One norm with gain and bias, read by two branches that are added."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(13)
        self.left, self.right, self.low, self.high = (nn.Linear(*s) for s in ((13, 17), (13, 8), (17, 5), (8, 5)))

    def forward(self, x: Tensor) -> Any:
        n = self.norm(x)
        return self.low(torch.relu(self.left(n))) + self.high(torch.relu(self.right(n)))


class Experts(nn.Module):
    """Four experts in stacked weights, softly mixed."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(13, 4)
        self.up, self.gate = (nn.Parameter(torch.randn(4, 10, 13) / 4) for _ in range(2))
        self.down = nn.Parameter(torch.randn(4, 13, 10) / 3)

    def forward(self, x: Tensor) -> Any:
        p = self.router(x).softmax(-1)
        h = torch.einsum("efd,bnd->benf", self.up, x) * F.silu(torch.einsum("efd,bnd->benf", self.gate, x))
        return torch.einsum("bne,benf,edf->bnd", p, h, self.down)


class Normed(nn.Module):
    """RMSNorm read by two linear maps."""

    def __init__(self, width: int = 13) -> None:
        super().__init__()
        self.norm, self.a, self.b = RMSNorm(width), nn.Linear(width, 9), nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Any:
        n = self.norm(x)
        return self.a(n), self.b(n)


class Scored(nn.Module):
    """Logits and their own cross-entropy."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(13, 11), nn.Linear(11, 9)

    def loss(self, logits: Tensor) -> Tensor:
        return F.cross_entropy(logits, torch.arange(logits.shape[0]) % 9)

    def forward(self, x: Tensor) -> Any:
        return self.loss(self.head(torch.tanh(self.body(x))))


def attention() -> nn.Module:
    return Attention(bias=True)


def plain_attention() -> nn.Module:
    return Attention(on_q=lambda x: x, on_k=lambda x: x)


def equal_attention() -> nn.Module:
    return Attention(width=6, heads=6, kv=6, head=6)


# --- real ones


def _hf(model: str, config: str, **settings: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import transformers

        return getattr(transformers, model)(getattr(transformers, config)(**settings))

    return build


_IDS = dict(pad_token_id=0, bos_token_id=1, eos_token_id=2)
_GROUPED = dict(
    hidden_size=WIDTH, intermediate_size=UNITS, num_hidden_layers=2, num_attention_heads=HEADS, num_key_value_heads=KV,
    head_dim=HEAD, vocab_size=VOCABULARY, **_IDS,
)  # fmt: skip
_PLAIN = dict(hidden_size=SQUARE, intermediate_size=UNITS, num_hidden_layers=2, num_attention_heads=HEADS)


def encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(SQUARE, HEADS, UNITS, dropout=0.1, norm_first=True, batch_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


def pictures(b: int, n: int) -> Inputs:
    return (), dict(pixel_values=torch.randn(b, 3, 16, 16))


def pairs(b: int, n: int) -> Inputs:
    two = (torch.randint(3, VOCABULARY, (b, n)) for _ in range(2))
    return (), dict(input_ids=next(two), decoder_input_ids=next(two), use_cache=False)


def masked(b: int, n: int) -> Inputs:
    return (), dict(input_ids=torch.randint(3, VOCABULARY, (b, n)))


_HAND = ((6, 0), (5, 0), (2, 0))
_IMAGES = ((2, 8), (3, 9), (2, 12))
_SEQUENCE = ((3, 7), (2, 4), (4, 12))
_TEXT = ((3, 7), (2, 4), (4, 12))
_SINGLE = dict(exact=False, slow=True, double=True, tolerance=1e-5)
BASES = {
    base.name: base
    for base in (
        Base("perceptron", Perceptron, rows(11), _HAND),
        Base("perceptron over tokens", Perceptron, tokens(11), (*_SEQUENCE, (2, 150))),
        Base("perceptron in single", Perceptron, tokens(11, torch.float32), _SEQUENCE, exact=False, tolerance=1e-4),
        Base("images", images, images_of, _IMAGES),
        Base("audio", audio, audio_of, _SEQUENCE),
        Base("square perceptron", lambda: Perceptron(6, 6, 9), rows(6), ((6, 0), (5, 0), (3, 0))),
        Base("convolutions", Convolutions, lambda b, n: ((torch.randn(b, 3, 9, 9, dtype=torch.float64),), {}), _HAND),
        Base("fused attention", Fused, tokens(13), _SEQUENCE),
        Base("attention", attention, tokens(13), _SEQUENCE),
        Base("plain attention", plain_attention, tokens(13), _SEQUENCE),
        Base("equal attention", equal_attention, tokens(6), ((6, 6), (3, 4), (2, 9))),
        Base("gated", lambda: Gated(13, 17), tokens(13), _SEQUENCE),
        Base("branches", Branches, tokens(13), _SEQUENCE),
        Base("experts", Experts, tokens(13), _SEQUENCE),
        Base("normed", Normed, tokens(13), _SEQUENCE),
        Base("scored", Scored, rows(13), _HAND),
        Base("storyteller", lambda: Storyteller(layers=1), words, _SEQUENCE, "cross_entropy"),
        Base("encoder", encoder, tokens(SQUARE, torch.float32), _TEXT, exact=False, slow=True, double=True,
             tolerance=1e-8),
        Base("llama", _hf("LlamaForCausalLM", "LlamaConfig", **_GROUPED), ids, _TEXT, "cross_entropy", **_SINGLE),
        Base(
            "gpt2",
            _hf("GPT2LMHeadModel", "GPT2Config", n_embd=SQUARE, n_layer=2, n_head=HEADS, vocab_size=VOCABULARY,
                n_positions=32, **_IDS),
            ids, _TEXT, "cross_entropy", **_SINGLE,
        ),
        Base(
            "bert",
            _hf("BertForMaskedLM", "BertConfig", **_PLAIN, vocab_size=VOCABULARY, max_position_embeddings=40),
            masked, _TEXT, "cross_entropy", **_SINGLE,
        ),
        Base(
            "vit",
            _hf("ViTForImageClassification", "ViTConfig", **_PLAIN, image_size=16, patch_size=8, num_labels=5),
            pictures, ((2, 0), (3, 0)), "cross_entropy", **_SINGLE,
        ),
        Base(
            "t5",
            _hf("T5ForConditionalGeneration", "T5Config", d_model=WIDTH, d_kv=HEAD, d_ff=UNITS, num_layers=2,
                num_heads=HEADS, vocab_size=VOCABULARY),
            pairs, _TEXT, "cross_entropy", **_SINGLE,
        ),
        Base(
            "mixtral",
            _hf("MixtralForCausalLM", "MixtralConfig", **{**_GROUPED, "num_hidden_layers": 1}, num_local_experts=3,
                num_experts_per_tok=2, experts_implementation="batched_mm"),
            ids, _TEXT, "cross_entropy", **_SINGLE,
        ),
    )
}  # fmt: skip


# --- how models are changed


class After(nn.Module):
    """A module and what is done to its output: `change(output, input)`."""

    def __init__(self, inner: nn.Module, change: Callable[..., Any]) -> None:
        super().__init__()
        self.inner, self.change = inner, change

    def forward(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        return self.change(self.inner(x, *args, **kwargs), x)


class Around(nn.Module):
    """A model whose call is replaced: `run(model, *args, **kwargs)`."""

    def __init__(self, inner: nn.Module, run: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self.inner, self.run = inner, run
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.run(self.inner, *args, **kwargs)


def replace(model: nn.Module, path: str, new: Any) -> None:
    """Puts another module or parameter at a path."""
    parent, _, last = path.rpartition(".")
    setattr(model.get_submodule(parent), last, new)


def after(path: str, change: Callable[..., Any]) -> Callable[[nn.Module], None]:
    """A mutation: the output of the module at `path` passes `change(output, input)`."""
    return lambda model: replace(model, path, After(model.get_submodule(path), change))


def around(run: Callable[..., Any], **parts: Any) -> Callable[[nn.Module], nn.Module]:
    """A mutation: the whole model is called by `run(model, *args, **kwargs)`."""
    return lambda model: Around(model, run, **parts)
