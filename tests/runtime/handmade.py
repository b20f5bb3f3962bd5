"""Two small models and their sites, written by hand: what the matcher should find."""

from __future__ import annotations

import copy
from fractions import Fraction
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, relu, silu

from gaugec.codegen.derive import derive
from gaugec.codegen.emit import emit
from gaugec.codegen.plan import plan
from gaugec.language import tree
from gaugec.language.lower import lower_fix
from gaugec.language.tree import Binary, Call, Expr, Name, Number
from gaugec.runtime import Gauge
from gaugec.runtime.roles import Matrices, Role
from gaugec.runtime.seal import BLANK, VERSION, sealed
from gaugec.sites import Binding, Equation, Move, Site

UP, DOWN = Move("scale", Fraction(1)), Move("scale", Fraction(-1))
ROTATE, SHIFT = Move("rotate"), Move("shift")


def norm(function: str, role: str) -> Call:
    return Call(function, (Name(role),))


def one() -> Number:
    return Number(Fraction(1))


def equation(left: Expr, right: Expr) -> tuple[Equation, ...]:
    """A `fix` line as a site has it."""
    return (lower_fix(tree.Fix(left, right), "gauge"),)


def abs_fix() -> tuple[Equation, ...]:
    return equation(norm("abs", "g"), one())


def square_fix() -> tuple[Equation, ...]:
    two = Number(Fraction(2))
    return equation(Binary("+", Binary("**", Name("g"), two), Binary("**", Name("b"), two)), one())


def balance_fix() -> tuple[Equation, ...]:
    return equation(norm("rownorm", "W1"), norm("colnorm", "W2"))


def site(gauge, index, group, copies, size, bindings, fix=(), pairing="", rotary=0, theorem="", place="") -> Site:
    return Site(gauge, index, group, copies, size, pairing, rotary, tuple(bindings), fix, "proved", place, theorem, ())


def linear(role: str, name: str, out: int, inner: int, move: Move, axis: int, shift_by: float = 0.0) -> Binding:
    """A weight [out, inner] whose axis is the group's."""
    axes = ((out, inner),), ((inner, 1),)
    return Binding(role, name, 0, (), axes[axis], axes[1 - axis], move, shift_by)


def vector(role: str, name: str, size: int, move: Move, shift_by: float = 0.0) -> Binding:
    return Binding(role, name, 0, (), ((size, 1),), (), move, shift_by)


# --- a Llama


class Shape:
    """Sizes kept apart, so that equal ones suggest nothing."""

    width, units, heads, kv, head, layers, vocab = 12, 14, 6, 2, 4, 2, 17


class Norm(nn.Module):
    def __init__(self, width: int, plus: float) -> None:
        super().__init__()
        self.plus = plus
        self.weight = nn.Parameter(1 - plus + 0.3 * torch.randn(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * (self.weight + self.plus)


def rope(x: Tensor) -> Tensor:
    """Rotary embedding, halves; x [..., n, k]."""
    n, k = x.shape[-2:]
    angle = torch.arange(n, dtype=x.dtype)[:, None] * 100 ** (-torch.arange(k // 2, dtype=x.dtype) / (k // 2))
    a, b = x.chunk(2, -1)
    return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], -1)


class Layer(nn.Module):
    def __init__(self, s: type[Shape], plus: float) -> None:
        super().__init__()
        self.s = s
        self.norm1, self.norm2 = Norm(s.width, plus), Norm(s.width, plus)
        self.q = nn.Linear(s.width, s.heads * s.head, bias=False)
        self.k = nn.Linear(s.width, s.kv * s.head, bias=False)
        self.v = nn.Linear(s.width, s.kv * s.head, bias=False)
        self.o = nn.Linear(s.heads * s.head, s.width, bias=False)
        self.gate = nn.Linear(s.width, s.units, bias=False)
        self.up = nn.Linear(s.width, s.units, bias=False)
        self.down = nn.Linear(s.units, s.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        s, (b, n, _) = self.s, x.shape
        y = self.norm1(x)
        q = rope(self.q(y).view(b, n, s.heads, s.head).transpose(1, 2))
        k = rope(self.k(y).view(b, n, s.kv, s.head).transpose(1, 2)).repeat_interleave(s.heads // s.kv, 1)
        v = self.v(y).view(b, n, s.kv, s.head).transpose(1, 2).repeat_interleave(s.heads // s.kv, 1)
        score = (q @ k.mT) * s.head**-0.5 + torch.full((n, n), -torch.inf, dtype=x.dtype).triu(1)
        x = x + self.o((score.softmax(-1) @ v).transpose(1, 2).reshape(b, n, -1))
        y = self.norm2(x)
        return x + self.down(silu(self.gate(y)) * self.up(y))


class Llama(nn.Module):
    """Returns its loss for token ids [batch, n]."""

    def __init__(self, s: type[Shape] = Shape, plus: float = 0.0) -> None:
        super().__init__()
        self.embed = nn.Embedding(s.vocab, s.width)
        self.layers = nn.ModuleList(Layer(s, plus) for _ in range(s.layers))
        self.norm = Norm(s.width, plus)
        self.head = nn.Linear(s.width, s.vocab, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids[:, :-1])
        for layer in self.layers:
            x = layer(x)
        return cross_entropy(self.head(self.norm(x)).flatten(0, 1), ids[:, 1:].flatten())


def llama_sites(s: type[Shape] = Shape, plus: float = 0.0) -> list[Site]:
    d, f, k, rep = s.width, s.units, s.head, s.heads // s.kv
    gains, units, values, keys = [], [], [], []
    gain_text = "A norm's gain can move into every linear map that reads the norm."
    for i in range(s.layers):
        p = f"layers.{i}."
        readers = (("q", s.heads * k), ("k", s.kv * k), ("v", s.kv * k))
        for name, readings in (("norm1", readers), ("norm2", (("gate", f), ("up", f)))):
            bindings = [vector("g", f"{p}{name}.weight", d, UP, plus)]
            bindings += [linear("W", f"{p}{each}.weight", n, d, DOWN, 1) for each, n in readings]
            gains.append(
                site("norm_gain", len(gains), "positive", 1, d, bindings, abs_fix(), theorem=gain_text, place=p + name)
            )
        units.append(
            site(
                "swiglu_rescale",
                i,
                "positive",
                1,
                f,
                [linear("W1", p + "up.weight", f, d, UP, 0), linear("W2", p + "down.weight", d, f, DOWN, 1)],
                balance_fix(),
                theorem="A gated unit's scale can move from the rows of up to the columns of down.",
                place=p,
            )
        )
        wide = s.heads * k
        values.append(
            site(
                "value_rotation",
                i,
                "orthogonal",
                s.kv,
                k,
                [
                    Binding("Wv", p + "v.weight", 0, ((s.kv, k * d),), ((k, d),), ((d, 1),), ROTATE),
                    Binding(
                        "Wo",
                        p + "o.weight",
                        0,
                        ((s.kv, rep * k),),
                        ((k, 1),),
                        ((d, wide), (rep, k)),
                        Move("rotate", dual=True),
                    ),
                ],
                theorem="A head's value basis is arbitrary.",
                place=p,
            )
        )
        keys.append(
            site(
                "qk_rotation",
                i,
                "torus",
                s.kv,
                k,
                [
                    Binding("Wq", p + "q.weight", 0, ((s.kv, rep * k * d),), ((k, d),), ((rep, k * d), (d, 1)), ROTATE),
                    Binding("Wk", p + "k.weight", 0, ((s.kv, k * d),), ((k, d),), ((d, 1),), ROTATE),
                ],
                pairing="halves",
                rotary=k,
                theorem="Queries and keys may turn together in every rotary plane.",
                place=p,
            )
        )
    head = [vector("g", "norm.weight", d, UP, plus), linear("W", "head.weight", s.vocab, d, DOWN, 1)]
    gains.append(site("norm_gain", len(gains), "positive", 1, d, head, abs_fix(), theorem=gain_text, place="norm"))
    shift = site(
        "logit_shift",
        0,
        "translation",
        1,
        s.vocab,
        [linear("U", "head.weight", s.vocab, d, SHIFT, 0)],
        theorem="Cross-entropy forgets what is added to every logit of a row.",
        place="head",
    )
    return [*gains, *units, *values, *keys, shift]


# --- a ReLU MLP


class MLP(nn.Module):
    """Three linear maps with biases and ReLU between them; returns its mean squared error."""

    def __init__(self, sizes: tuple[int, ...] = (7, 11, 9, 5)) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        for each in self.maps[:-1]:
            x = relu(each(x))
        return (self.maps[-1](x) - y).square().mean()


def mlp_sites(sizes: tuple[int, ...] = (7, 11, 9, 5)) -> list[Site]:
    out = []
    for i in range(len(sizes) - 2):
        a, f, b = sizes[i : i + 3]
        out.append(
            site(
                "relu_rescale",
                i,
                "positive",
                1,
                f,
                [
                    linear("W1", f"maps.{i}.weight", f, a, UP, 0),
                    vector("b1", f"maps.{i}.bias", f, UP),
                    linear("W2", f"maps.{i + 1}.weight", b, f, DOWN, 1),
                ],
                balance_fix(),
                theorem="A ReLU unit's scale can move across it.",
                place=f"maps.{i}",
            )
        )
    return out


def compiled(model: nn.Module, sites: list[Site]) -> Gauge:
    return Gauge(source(model, sites))


def source(model: nn.Module, sites: list[Site]) -> str:
    return written(sites, {name: tuple(p.shape) for name, p in model.named_parameters()}, {"spec": "by hand"})


def written(sites: list[Site], shapes: dict[str, tuple[int, ...]], metadata: dict[str, Any] | None = None) -> str:
    """The source with the least certificate that a runtime asks for."""
    least = {"certificate": VERSION, "file_sha256": BLANK}
    return sealed(emit(plan(sites, derive(sites), shapes), {**(metadata or {}), **least}))


def tokens(step: int) -> Tensor:
    return torch.randint(Shape.vocab, (3, 9), generator=torch.Generator().manual_seed(step))


def numbers(step: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(step)
    return torch.randn(16, 7, generator=g, dtype=torch.float64), torch.randn(16, 5, generator=g, dtype=torch.float64)


def with_roles(model: nn.Module, gauge: Gauge) -> Gauge:
    """The gauge of a Llama or MLP with what the parameters are, as the graph would say."""
    names = [name for name, _ in model.named_parameters()]
    last = names[-2] if isinstance(model, MLP) else "head.weight"
    k, roles = (model.layers[0].s.head if isinstance(model, Llama) else 1), {}
    for name, p in model.named_parameters():
        if p.dim() < 2:
            roles[name] = Role("bias" if "bias" in name else "gain", ())
            continue
        r, c = p.shape
        copies, rows, columns = (), ((r, c),), ((c, 1),)
        if name.endswith((".q.weight", ".k.weight", ".v.weight")):
            copies, rows = ((r // k, k * c),), ((k, c),)
        elif name.endswith(".o.weight"):
            copies, columns = ((c // k, k),), ((k, 1),)
        role = {last: "head", "embed.weight": "table", "maps.0.weight": "stem"}.get(name, "matrix")
        roles[name] = Role(role, (Matrices(0, copies, rows, columns),))
    made: Gauge = type("Gauge", (Gauge,), {"roles": roles})(gauge.source)
    return made


def moved(model: nn.Module, gauge: Gauge, element: Any) -> nn.Module:
    """A copy of the model, at the parameters to which an element moves."""
    other = copy.deepcopy(model)
    values = gauge.act(dict(other.named_parameters()), element)
    with torch.no_grad():
        for name, p in other.named_parameters():
            p.copy_(values[name])
    return other
