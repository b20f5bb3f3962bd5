"""What every parameter is in a graph, and which matrices it holds: real models, and what is easy to take wrong."""

from __future__ import annotations

import ast
import math
import random
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import build
from match.models import Net
from torch import Tensor, nn
from torch.nn import functional as F

from gaugec.graph.digits import along, apart, factored, merged, numbers, without
from gaugec.graph.roles import Block, Played, roles, whole
from gaugec.runtime.certificate import unfolded
from gaugec.tracing.trace import trace

GOLDEN = Path(__file__).parents[1] / "golden"


def found(model: nn.Module, *args: Any, **kwargs: Any) -> dict[str, Played]:
    """The roles in a model, in which every block holds each of its entries once, and all blocks hold all."""
    traced = trace(model, args, kwargs, fixed="all")
    out = roles(traced.graph, traced.leaves, traced.shapes)
    assert list(out) == list(traced.shapes)
    for name, (_, blocks) in out.items():
        held = [n for b in blocks for n in numbers(b.offset, (*b.copies, *b.rows, *b.columns))]
        assert not blocks or sorted(held) == list(range(math.prod(traced.shapes[name]))), name
    return out


def said(played: tuple[str, Iterable[tuple[Any, ...]]]) -> str:
    """A role in short: the role, and how many matrices of which shape."""
    role, blocks = played
    sizes = [[math.prod(size for size, _ in axes) for axes in block[1:]] for block in blocks]
    return " ".join([role, *(f"{copies}*{rows}x{columns}" for copies, rows, columns in sizes)])


def short(played: Mapping[str, tuple[str, Iterable[tuple[Any, ...]]]]) -> dict[str, str]:
    """Every role in short by name, with layers that are alike in one; gains and biases by their count."""
    out: dict[str, str] = {}
    counts: dict[str, int] = {}
    for name, each in played.items():
        text = said(each)
        if text in ("gain", "bias"):
            counts[text] = counts.get(text, 0) + 1
        else:
            alike = re.sub(r"(?<=\.)\d+(?=\.)", "#", name).removesuffix(".weight")
            known = out.setdefault(alike.rpartition("#.")[2], text)
            if text not in known.split("; "):
                out[alike.rpartition("#.")[2]] = f"{known}; {text}"
    return out | {text: str(count) for text, count in counts.items()}


MODELS = {
    "mixtral": {
        "model.embed_tokens": "table 1*48x71", "self_attn.q_proj": "matrix 6*10x48",
        "self_attn.k_proj": "matrix 2*10x48", "self_attn.v_proj": "matrix 2*10x48",
        "self_attn.o_proj": "matrix 6*48x10", "mlp.gate": "matrix 1*4x48",
        "mlp.experts.gate_up_proj": "matrix 8*58x48", "mlp.experts.down_proj": "matrix 4*48x58",
        "lm_head": "head 1*71x48", "gain": "5",
    },
    "gpt_neox": {
        "gpt_neox.embed_in": "table 1*96x71", "attention.query_key_value": "matrix 18*16x96",
        "attention.dense": "matrix 6*96x16", "mlp.dense_h_to_4h": "matrix 1*58x96",
        "mlp.dense_4h_to_h": "matrix 1*96x58", "lm_head": "head 1*71x96", "gain": "5", "bias": "13",
    },
    "phi3": {
        "model.embed_tokens": "table 1*96x71", "self_attn.qkv_proj": "matrix 6*16x96 4*16x96",
        "self_attn.o_proj": "matrix 6*96x16", "mlp.gate_up_proj": "matrix 2*58x96",
        "mlp.down_proj": "matrix 1*96x58", "lm_head": "head 1*71x96", "gain": "5",
    },
    "encoder_pre": {  # its last matrix is no head: others read the stream to which it adds
        "self_attn.in_proj_weight": "matrix 18*7x42", "self_attn.out_proj": "matrix 6*42x7",
        "linear1": "matrix 1*58x42", "linear2": "matrix 1*42x58", "gain": "4", "bias": "12",
    },
    "vit": {
        "vit.embeddings.cls_token": "other", "vit.embeddings.patch_embeddings.projection": "stem 1*42x192",
        "attention.q_proj": "matrix 6*7x42", "attention.k_proj": "matrix 6*7x42",
        "attention.v_proj": "matrix 6*7x42", "attention.o_proj": "matrix 6*42x7",
        "mlp.fc1": "matrix 1*58x42", "mlp.fc2": "matrix 1*42x58", "classifier": "head 1*5x42",
        "gain": "5", "bias": "20",
    },
    "conv_bn": {
        "first": "stem 1*13x27", "second": "matrix 1*19x117", "head": "head 1*5x19", "gain": "1", "bias": "4",
    },
    "t5": {
        "model.shared": "table 1*71x48", "SelfAttention.relative_attention_bias": "table 1*6x32",
        "SelfAttention.q": "matrix 6*10x48", "SelfAttention.k": "matrix 6*10x48",
        "SelfAttention.v": "matrix 6*10x48", "SelfAttention.o": "matrix 6*48x10",
        "EncDecAttention.q": "matrix 6*10x48", "EncDecAttention.k": "matrix 6*10x48",
        "EncDecAttention.v": "matrix 6*10x48", "EncDecAttention.o": "matrix 6*48x10",
        "DenseReluDense.wi": "matrix 1*58x48", "DenseReluDense.wo": "matrix 1*48x58", "gain": "12",
    },
    "bert": {
        "bert.embeddings.word_embeddings": "table 1*71x42", "bert.embeddings.position_embeddings": "table 1*42x512",
        "bert.embeddings.token_type_embeddings": "table 1*42x2",
        "attention.self.query": "matrix 6*7x42", "attention.self.key": "matrix 6*7x42",
        "attention.self.value": "matrix 6*7x42", "attention.output.dense": "matrix 6*42x7",
        "intermediate.dense": "matrix 1*58x42", "output.dense": "matrix 1*42x58",
        "cls.predictions.transform.dense": "matrix 1*42x42", "gain": "6", "bias": "20",
    },
    "resnet": {
        "resnet.embedder.embedder.convolution": "stem 1*12x147",
        "shortcut.convolution": "matrix 1*20x12; matrix 1*28x20",
        "convolution": "matrix 1*20x108; matrix 1*20x180; matrix 1*28x180; matrix 1*28x252",
        "classifier.#": "head 1*5x28", "gain": "11", "bias": "12",
    },
}  # fmt: skip


def models() -> list[Any]:
    """A few of them for every run, the others for the long one."""
    few = ("gpt_neox", "mixtral")
    return [name if name in few else pytest.param(name, marks=pytest.mark.long) for name in MODELS]


@pytest.mark.parametrize("name", models())
def test_models_that_people_train(name: str) -> None:
    case = build(name)
    assert short(found(case.model, *case.args, **case.kwargs)) == MODELS[name]


GOLDENS = {
    "llama": {
        "model.embed_tokens": "table 1*48x61", "self_attn.q_proj": "matrix 6*10x48",
        "self_attn.k_proj": "matrix 2*10x48", "self_attn.v_proj": "matrix 2*10x48",
        "self_attn.o_proj": "matrix 6*48x10", "mlp.gate_proj": "matrix 1*58x48", "mlp.up_proj": "matrix 1*58x48",
        "mlp.down_proj": "matrix 1*48x58", "lm_head": "head 1*61x48", "gain": "7",
    },
    "gpt2": {
        "transformer.wte": "table 1*61x42", "transformer.wpe": "table 1*42x32", "attn.c_attn": "matrix 18*7x42",
        "attn.c_proj": "matrix 6*42x7", "mlp.c_fc": "matrix 1*168x42", "mlp.c_proj": "matrix 1*42x168",
        "gain": "7", "bias": "19",
    },
    "relu_mlp": {"maps.#": "stem 1*11x7; matrix 1*9x11; head 1*5x9", "bias": "3"},
}  # fmt: skip


@pytest.mark.parametrize("name", GOLDENS)
def test_compiled_files_say_them(name: str) -> None:
    """Of files that were compiled, whole, from these models: the golden ones."""
    tree = ast.parse((GOLDEN / f"{name}.py").read_text(encoding="utf-8"))
    (node,) = (n for n in tree.body if isinstance(n, ast.AnnAssign) and ast.unparse(n.target) == "METADATA")
    assert node.value is not None
    assert short(unfolded(ast.literal_eval(node.value))["roles"]) == GOLDENS[name]


# --- by what is done with it


def test_no_name_counts() -> None:
    """Of one model the roles are the same under names that are drawn at random, parameter by parameter."""

    def run(m: Any, x: Tensor) -> Tensor:
        a, b, c, d, e, f, g = (getattr(m, name) for name in m.order)
        h = torch.relu(F.linear(x, a, b)) * c
        return F.linear(torch.relu(F.linear(h, d, e)), f, g)

    def model(names: str) -> nn.Module:
        shapes = [(6, 4), (6,), (6,), (5, 6), (5,), (3, 5), (3,)]
        parts = {name: nn.Parameter(torch.randn(shape)) for name, shape in zip(names.split(), shapes)}
        made = Net(run, **dict(sorted(parts.items())))
        made.order = names.split()
        return made

    x = torch.randn(2, 4)
    plain = "stem bias gain matrix bias2 head bias3"
    drawn = random.Random(0)
    odd = " ".join("".join(drawn.sample("abcdefghij", 6)) for _ in plain.split())
    one, other = (found(model(names), x) for names in (plain, odd))
    assert [one[name] for name in plain.split()] == [other[name] for name in odd.split()]
    assert [one[name][0] for name in plain.split()] == ["stem", "bias", "gain", "matrix", "bias", "head", "bias"]


def between(run: Callable[..., Tensor], width: int = 6, **parts: Any) -> dict[str, Played]:
    """The roles of what lies between a stem of 6 features and a head that reads `width`."""

    def whole_run(m: Any, x: Tensor) -> Tensor:
        return F.linear(run(m, torch.relu(F.linear(x, m.first))), m.last)

    ends = {"first": nn.Parameter(torch.randn(6, 4)), "last": nn.Parameter(torch.randn(3, width))}
    out = found(Net(whole_run, **ends, **parts), torch.randn(2, 5, 4))
    assert (said(out.pop("first")), said(out.pop("last"))) == ("stem 1*6x4", f"head 1*3x{width}")
    return out


def weight(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape))


def names(out: dict[str, Played]) -> dict[str, str]:
    return {name: said(played) for name, played in out.items()}


def test_gates_are_matrices_of_their_own() -> None:
    """An LSTM's four, written out, of the input and of the state; what is normed before it is cut is one."""

    def cell(m: Any, x: Tensor) -> Tensor:
        h = c = torch.zeros(x.shape[0], 6)
        for step in x.unbind(1):
            i, f, g, o = (F.linear(step, m.read) + F.linear(h, m.state) + m.bias).chunk(4, -1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        return h

    gates = between(cell, read=weight(24, 6), state=weight(24, 6), bias=weight(24))
    assert names(gates) == {"read": "matrix 4*6x6", "state": "matrix 4*6x6", "bias": "bias"}

    def normed(m: Any, x: Tensor) -> Tensor:
        a, b = F.layer_norm(F.linear(x, m.both), (12,)).chunk(2, -1)
        return a * torch.sigmoid(b)

    assert names(between(normed, both=weight(12, 6))) == {"both": "matrix 1*12x6"}


def test_a_recurrence_that_nobody_knows() -> None:
    lstm = nn.LSTM(6, 6, batch_first=True)
    out = names(between(lambda m, x: m.cell(x)[0], cell=lstm))
    assert out["cell.weight_ih_l0"] == "matrix 1*24x6" and out["cell.weight_hh_l0"] == "other"


def test_experts_by_number() -> None:
    def loop(m: Any, x: Tensor) -> Tensor:
        gate = torch.softmax(F.linear(x, m.gate), -1)
        return sum(gate[..., e : e + 1] * F.linear(torch.relu(F.linear(x, m.up[e])), m.down[e]) for e in range(3))  # type: ignore[return-value]

    parts = {"gate": weight(3, 6), "up": weight(3, 8, 6), "down": weight(3, 6, 8)}
    assert names(between(loop, **parts)) == {
        "gate": "matrix 1*3x6", "up": "matrix 3*8x6", "down": "matrix 3*6x8",
    }  # fmt: skip

    def some(m: Any, x: Tensor) -> Tensor:
        return F.linear(x, m.up[0]) + F.linear(x, m.up[2])

    assert names(between(some, up=weight(3, 6, 6))) == {"up": "matrix 3*6x6"}  # the other is not read


def test_convolutions() -> None:
    def run(m: Any, x: Tensor) -> Tensor:
        h = x.transpose(1, 2)
        h = torch.relu(m.norm(m.wide(h)))
        return m.grouped(torch.relu(m.deep(h))).transpose(1, 2)

    wide, deep = nn.Conv1d(6, 12, 3, padding=1, bias=False), nn.Conv1d(12, 12, 3, padding=1, groups=12, bias=False)
    grouped = nn.Conv1d(12, 6, 3, padding=1, groups=2, bias=False)
    out = names(between(run, wide=wide, norm=nn.GroupNorm(4, 12), deep=deep, grouped=grouped))
    assert out == {
        "wide.weight": "matrix 1*12x18", "norm.weight": "gain", "norm.bias": "bias",
        "deep.weight": "other", "grouped.weight": "matrix 2*3x18",
    }  # fmt: skip


def test_tables_and_what_is_joined() -> None:
    def run(m: Any, x: Tensor) -> Tensor:
        h = m.words(x) + m.places
        h = torch.cat([m.token.expand(h.shape[0], 1, 6), h], 1)
        return F.linear(torch.relu(F.linear(h, m.mix)), m.words.weight)

    parts = {"words": nn.Embedding(11, 6), "places": weight(4, 6), "token": weight(1, 1, 6), "mix": weight(6, 6)}
    out = names(found(Net(run, **parts, unused=weight(3, 3)), torch.randint(0, 11, (2, 4))))
    assert out == {
        "words.weight": "table 1*11x6", "places": "bias", "token": "other", "mix": "matrix 1*6x6", "unused": "unread",
    }  # fmt: skip


def test_functions_of_parameters() -> None:
    """Weight norm is one of two; a scale or a mask of a matrix is the matrix, as is its transpose in a second read."""
    one = nn.utils.parametrizations.weight_norm(nn.Linear(6, 6, bias=False))
    out = names(between(lambda m, x: torch.relu(m.normed(x)), normed=one))
    assert set(out.values()) == {"other"}
    assert names(between(lambda m, x: F.linear(x, m.w * 0.5), w=weight(6, 6))) == {"w": "matrix 1*6x6"}
    assert names(between(lambda m, x: F.linear(x, m.w + 0.5), w=weight(6, 6))) == {"w": "other"}
    assert names(between(lambda m, x: x * (1 + m.w), w=weight(6))) == {"w": "gain"}
    assert names(between(lambda m, x: x * m.w.exp(), w=weight(6))) == {"w": "other"}
    mask = torch.tril(torch.ones(6, 6))
    assert names(between(lambda m, x: F.linear(x, m.w * m.mask), w=weight(6, 6), mask=mask)) == {"w": "matrix 1*6x6"}
    twice = between(lambda m, x: torch.relu(x @ m.w.T) @ m.w, w=weight(5, 6))
    assert names(twice) == {"w": "matrix 1*5x6"}
    assert names(between(lambda m, x: F.linear(x, m.w) + m.w[:5], w=weight(6, 6))) == {"w": "other"}


def test_one_row_or_one_column_is_no_matrix() -> None:
    out = between(lambda m, x: x * torch.sigmoid(F.linear(x, m.score)), score=weight(1, 6))
    assert names(out) == {"score": "other"}


def test_a_head_is_told_from_the_last_matrix_of_a_stream() -> None:
    def run(m: Any, x: Tensor) -> Tensor:
        h = F.linear(x, m.stem)
        for up, down in ((m.a, m.b), (m.c, m.d)):
            h = h + F.linear(torch.relu(F.linear(h, up)), down)
        return h

    parts = {"stem": weight(6, 4), "a": weight(8, 6), "b": weight(6, 8), "c": weight(8, 6), "d": weight(6, 8)}
    out = names(found(Net(run, **parts), torch.randn(2, 4)))
    assert out == {"stem": "stem 1*6x4"} | dict.fromkeys("ac", "matrix 1*8x6") | dict.fromkeys("bd", "matrix 1*6x8")


# --- digits


def test_digits() -> None:
    assert merged([(7, 1), (6, 7), (1, 3)]) == ((42, 1),)
    assert apart([(6, 7), (7, 1)]) and not apart([(6, 6), (7, 1)])
    assert factored(sorted(numbers(5, ((3, 20), (4, 2))))) == ((3, 20), (4, 2))
    assert factored([0, 1, 3, 4, 7, 8]) is None and factored([0, 1, 2, 4]) is None
    assert without(((60, 48),), (6, 480)) == ((10, 48),) and without(((60, 48),), (7, 480)) is None
    assert along(((6, 480), (10, 48), (48, 1)), (60, 48)) == [((6, 10), (10, 1)), ((48, 1),)]
    assert along(((120, 1),), (10, 12)) == [((10, 1),), ((12, 1),)]
    assert along(((8, 3),), (4, 6)) == [((4, 1),), ((2, 3),)]
    assert along(((5, 3),), (4, 6)) is None


def test_one_matrix_of_the_whole() -> None:
    heads = Block(0, ((6, 480),), ((10, 48),), ((48, 1),))
    assert whole([heads], (60, 48)) == (Block(0, (), ((60, 48),), ((48, 1),)),)
    experts = Block(0, ((3, 48),), ((8, 6),), ((6, 1),))
    assert whole([experts], (3, 8, 6)) == whole([experts._replace(copies=())], (3, 8, 6)) == (experts,)
    assert whole([heads, heads.transposed], (60, 48)) == ()
