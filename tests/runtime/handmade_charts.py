"""A small pre-norm network and its sites in charts, written by hand: what the matcher should find."""

from __future__ import annotations

from fractions import Fraction

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, layer_norm, relu

from gaugec.runtime.roles import Matrices, Role
from gaugec.sites import Binding, Chart, Factor, Move, Site, Summand
from runtime.handmade import DOWN, ROTATE, SHIFT, UP, balance_fix, equation, linear, norm, one, site, vector

STILL = Move("still")
WIDTH, UNITS, KV, REP, HEAD, VOCAB, LENGTH, LAYERS = 6, 7, 2, 2, 3, 9, 5, 2
OUT = {"q": KV * REP * HEAD, "k": KV * HEAD, "v": KV * HEAD}


class Normed(nn.Module):
    """LayerNorm with gains and biases that are not one and zero."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.5 + torch.rand(WIDTH))
        self.bias = nn.Parameter(0.4 * torch.randn(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return layer_norm(x, (WIDTH,), self.weight, self.bias, 1e-5)


class Block(nn.Module):
    """Attention of grouped heads without positions, and a ReLU layer, each behind a norm; all maps have biases."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = Normed(), Normed()
        self.q, self.k, self.v = (nn.Linear(WIDTH, OUT[name]) for name in "qkv")
        self.o = nn.Linear(KV * REP * HEAD, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, UNITS), nn.Linear(UNITS, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        n, length, _ = x.shape
        y = self.norm1(x)
        q = self.q(y).view(n, length, KV * REP, HEAD).transpose(1, 2)
        k, v = (
            each(y).view(n, length, KV, HEAD).transpose(1, 2).repeat_interleave(REP, 1) for each in (self.k, self.v)
        )
        mixed = (q @ k.mT * HEAD**-0.5).softmax(-1) @ v
        x = x + self.o(mixed.transpose(1, 2).reshape(n, length, -1))
        return x + self.down(relu(self.up(self.norm2(x))))


class Network(nn.Module):
    """Returns its loss for token ids [batch, LENGTH + 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCAB, WIDTH)
        self.position = nn.Parameter(torch.randn(LENGTH, WIDTH))
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = Normed()
        self.head = nn.Linear(WIDTH, VOCAB)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids[:, :-1]) + self.position
        for block in self.blocks:
            x = block(x)
        return cross_entropy(self.head(self.norm(x)).flatten(0, 1), ids[:, 1:].flatten())


def tokens(step: int) -> Tensor:
    return torch.randint(VOCAB, (4, LENGTH + 1), generator=torch.Generator().manual_seed(step))


def network() -> Network:
    torch.manual_seed(0)
    return Network().double()


READERS = [
    *((f"blocks.{i}.norm1", f"blocks.{i}.{name}", OUT[name]) for i in range(LAYERS) for name in "qkv"),
    *((f"blocks.{i}.norm2", f"blocks.{i}.up", UNITS) for i in range(LAYERS)),
    ("norm", "head", VOCAB),
]
NORMS = list(dict.fromkeys(each for each, _, _ in READERS))
WRITERS = [(f"blocks.{i}.{name}", inner) for i in range(LAYERS) for name, inner in (("o", OUT["q"]), ("down", UNITS))]


def times_gain(gain: str, axis: int = 1, power: int = 1) -> Chart:
    """The chart of a map whose columns a gain multiplies, or of a vector."""
    return Chart((Factor(gain, 0, ((WIDTH, 1, 1),), Fraction(power)),))


def plus(weight: str, bias: str, out: int) -> Chart:
    """The chart of a bias to which a map adds another."""
    return Chart((), (Summand(weight, 0, bias, 0, ((out, 1, WIDTH, 0),), ((WIDTH, 1, 1),)),))


def constant(role: str, name: str, size: int, weight: int = 1) -> Binding:
    """A vector to which another is added: constant along nothing."""
    return Binding(role, name, 0, (), (), ((size, 1),), Move("shift", Fraction(weight)))


def still(role: str, name: str, size: int, chart: Chart) -> Binding:
    return Binding(role, name, 0, (), (), ((size, 1),), STILL, chart=chart)


def norm_biases() -> list[Site]:
    out = []
    for i, each in enumerate(NORMS):
        readers = [(name, size) for there, name, size in READERS if there == each]
        moved = [constant("b", f"{each}.bias", WIDTH)]
        moved += [still("B", f"{n}.bias", size, plus(f"{n}.weight", f"{each}.bias", size)) for n, size in readers]
        out.append(site("norm_bias", i, "translation", 1, 1, moved, theorem="A norm's bias moves into its readers'."))
    return out


def value_biases() -> list[Site]:
    out = []
    for i in range(LAYERS):
        axes = ((KV, REP * HEAD, HEAD), (REP, HEAD, 0), (HEAD, 1, 1))
        chart = Chart((), (Summand(f"blocks.{i}.o.weight", 0, f"blocks.{i}.v.bias", 0,
                                   ((WIDTH, 1, KV * REP * HEAD, 0),), axes),))  # fmt: skip
        moved = [constant("b", f"blocks.{i}.v.bias", OUT["v"]), still("B", f"blocks.{i}.o.bias", WIDTH, chart)]
        out.append(site("value_bias", i, "translation", 1, 1, moved, theorem="Values' bias moves into the output's."))
    return out


def reader_shifts() -> list[Site]:
    out = []
    for i, (each, name, size) in enumerate(READERS):
        weight = Binding("W", f"{name}.weight", 0, (), ((WIDTH, 1),), ((size, WIDTH),), SHIFT,
                         chart=times_gain(f"{each}.weight"))  # fmt: skip
        bias = still("B", f"{name}.bias", size, plus(f"{name}.weight", f"{each}.bias", size))
        out.append(site("reader_shift", i, "translation", 1, WIDTH, [weight, bias], theorem="A norm has mean zero."))
    return out


def writer_shifts() -> list[Site]:
    moved = [
        *(Binding("W", f"{n}.weight", 0, (), ((WIDTH, k),), ((k, 1),), SHIFT) for n, k in WRITERS),
        Binding("E", "embed.weight", 0, (), ((WIDTH, 1),), ((VOCAB, WIDTH),), SHIFT),
        *(Binding("B", f"{n}.bias", 0, (), ((WIDTH, 1),), (), SHIFT) for n, _ in WRITERS),
    ]
    return [
        site("writer_shift", i, "translation", 1, WIDTH, [each], theorem="A norm forgets the mean.")
        for i, each in enumerate(moved)
    ]


def traded() -> list[Site]:
    """Token against position, and the keys' biases, which a softmax forgets."""
    moved = [
        Binding("E", "embed.weight", 0, (), ((VOCAB, WIDTH),), ((WIDTH, 1),), SHIFT),
        Binding("P", "position", 0, (), ((LENGTH, WIDTH),), ((WIDTH, 1),), Move("shift", Fraction(-1))),
    ]
    return [
        site("position_shift", 0, "translation", 1, VOCAB, moved, theorem="Tokens and positions are added."),
        *(site("key_bias", i, "translation", 1, 1, [constant("b", f"blocks.{i}.k.bias", OUT["k"])], theorem="Softmax.")
          for i in range(LAYERS)),
    ]  # fmt: skip


def stream(group: str = "orthogonal_ones") -> list[Site]:
    moved = [
        Binding("E", "embed.weight", 0, (), ((WIDTH, 1),), ((VOCAB, WIDTH),), ROTATE),
        Binding("E", "position", 0, (), ((WIDTH, 1),), ((LENGTH, WIDTH),), ROTATE),
    ]
    for name, inner in WRITERS:
        moved += [linear("W", f"{name}.weight", WIDTH, inner, ROTATE, 0), vector("b", f"{name}.bias", WIDTH, ROTATE)]
    dual = Move("rotate", dual=True)
    for each, name, size in READERS:
        chart = times_gain(f"{each}.weight")
        moved.append(Binding("R", f"{name}.weight", 0, (), ((WIDTH, 1),), ((size, WIDTH),), dual, chart=chart))
    for each in NORMS:
        chart = times_gain(f"{each}.weight", power=-1)
        moved.append(Binding("b", f"{each}.bias", 0, (), ((WIDTH, 1),), (), ROTATE, chart=chart))
    made = site("stream_rotation", 0, group, 1, WIDTH, moved, theorem="The basis of the stream is arbitrary.")
    return [Site(**{**vars(made), "wide": True})]


def gains() -> list[Site]:
    out = []
    for i, each in enumerate(NORMS):
        moved = [vector("g", f"{each}.weight", WIDTH, UP), vector("b", f"{each}.bias", WIDTH, UP)]
        moved += [linear("W", f"{n}.weight", size, WIDTH, DOWN, 1) for there, n, size in READERS if there == each]
        fix = equation(norm("abs", "g"), one())
        out.append(site("norm_gain", i, "positive", 1, WIDTH, moved, fix, theorem="A gain moves into its readers."))
    return out


def within(group: str = "orthogonal") -> list[Site]:
    """Units of the ReLU layers, and the basis of values."""
    out = []
    for i in range(LAYERS):
        p = f"blocks.{i}."
        moved = [linear("W1", p + "up.weight", UNITS, WIDTH, UP, 0), vector("b1", p + "up.bias", UNITS, UP),
                 linear("W2", p + "down.weight", WIDTH, UNITS, DOWN, 1)]  # fmt: skip
        out.append(site("relu_rescale", i, "positive", 1, UNITS, moved, balance_fix(), theorem="Units have no size."))
    for i in range(LAYERS):
        p, wide = f"blocks.{i}.", KV * REP * HEAD
        moved = [
            Binding("Wv", p + "v.weight", 0, ((KV, HEAD * WIDTH),), ((HEAD, WIDTH),), ((WIDTH, 1),), ROTATE),
            Binding("bv", p + "v.bias", 0, ((KV, HEAD),), ((HEAD, 1),), (), ROTATE),
            Binding("Wo", p + "o.weight", 0, ((KV, REP * HEAD),), ((HEAD, 1),), ((WIDTH, wide), (REP, HEAD)),
                    Move("rotate", dual=True)),
        ]  # fmt: skip
        out.append(site("value_rotation", i, group, KV, HEAD, moved, theorem="Values have no basis."))
    return out


def scores() -> list[Site]:
    """The bases of queries and keys."""
    out = []
    for i in range(LAYERS):
        q, k, dual = f"blocks.{i}.q.", f"blocks.{i}.k.", Move("rotate", dual=True)
        moved = [
            Binding("Wq", q + "weight", 0, ((KV, REP * HEAD * WIDTH),), ((HEAD, WIDTH),),
                    ((REP, HEAD * WIDTH), (WIDTH, 1)), dual),
            Binding("bq", q + "bias", 0, ((KV, REP * HEAD),), ((HEAD, 1),), ((REP, HEAD),), dual),
            Binding("Wk", k + "weight", 0, ((KV, HEAD * WIDTH),), ((HEAD, WIDTH),), ((WIDTH, 1),), ROTATE),
            Binding("bk", k + "bias", 0, ((KV, HEAD),), ((HEAD, 1),), (), ROTATE),
        ]  # fmt: skip
        out.append(site("qk_basis", i, "invertible", KV, HEAD, moved, theorem="Scores have no basis."))
    return out


# --- queries, keys and values in one weight, as GPT-2 stores them


class Stored(nn.Module):
    """A map whose weight is [in, out]."""

    def __init__(self, inner: int, out: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(0.5 * torch.randn(inner, out)), nn.Parameter(0.3 * torch.randn(out))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias


class Packed(nn.Module):
    """One block of attention; returns its loss for token ids."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm, self.last = nn.Embedding(VOCAB, WIDTH), Normed(), Normed()
        self.attn, self.proj, self.head = Stored(WIDTH, 3 * WIDTH), Stored(WIDTH, WIDTH), nn.Linear(WIDTH, VOCAB)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids[:, :-1])
        n, length, _ = x.shape
        q, k, v = (y.view(n, length, 2, HEAD).transpose(1, 2) for y in self.attn(self.norm(x)).chunk(3, -1))
        mixed = (q @ k.mT * HEAD**-0.5).softmax(-1) @ v
        x = x + self.proj(mixed.transpose(1, 2).reshape(n, length, -1))
        return cross_entropy(self.head(self.last(x)).flatten(0, 1), ids[:, 1:].flatten())


def packed_sites() -> list[Site]:
    out, d = 3 * WIDTH, WIDTH
    into = Chart((), (Summand("attn.weight", 0, "norm.bias", 0, ((out, 1, 1, 0),), ((d, out, 1),)),))
    onward = Chart((), (Summand("proj.weight", 0, "attn.bias", 2 * d, ((d, 1, 1, 0),), ((d, d, 1),)),))
    times = Chart((Factor("norm.weight", 0, ((d, out, 1),)),))
    dual = Move("rotate", dual=True)
    value = [
        Binding("Wv", "attn.weight", 2 * d, ((2, HEAD),), ((HEAD, 1),), ((d, out),), ROTATE),
        Binding("bv", "attn.bias", 2 * d, ((2, HEAD),), ((HEAD, 1),), (), ROTATE),
        Binding("Wo", "proj.weight", 0, ((2, HEAD * d),), ((HEAD, d),), ((d, 1),), dual),
    ]
    keys = [
        *(Binding(f"W{i}", "attn.weight", i * d, ((2, HEAD),), ((HEAD, 1),), ((d, out),), ROTATE) for i in (0, 1)),
        *(Binding(f"b{i}", "attn.bias", i * d, ((2, HEAD),), ((HEAD, 1),), (), ROTATE) for i in (0, 1)),
    ]
    stream = [
        Binding("E", "embed.weight", 0, (), ((d, 1),), ((VOCAB, d),), ROTATE),
        Binding("R", "attn.weight", 0, (), ((d, out),), ((out, 1),), dual, chart=times),
        Binding("b", "norm.bias", 0, (), ((d, 1),), (), ROTATE, chart=times_gain("norm.weight", power=-1)),
        Binding("W", "proj.weight", 0, (), ((d, 1),), ((d, d),), ROTATE),
        Binding("B", "proj.bias", 0, (), ((d, 1),), (), ROTATE),
        Binding("R", "head.weight", 0, (), ((d, 1),), ((VOCAB, d),), dual, chart=times_gain("last.weight")),
        Binding("b", "last.bias", 0, (), ((d, 1),), (), ROTATE, chart=times_gain("last.weight", power=-1)),
    ]
    wide = site("stream_rotation", 0, "orthogonal_ones", 1, d, stream, theorem="The basis of the stream is arbitrary.")
    return [
        site("norm_bias", 0, "translation", 1, 1, [constant("b", "norm.bias", d), still("B", "attn.bias", out, into)]),
        site("norm_bias", 1, "translation", 1, 1, [constant("b", "last.bias", d), still("B", "head.bias", VOCAB, plus(
            "head.weight", "last.bias", VOCAB))]),
        site("value_bias", 0, "translation", 1, 1, [
            Binding("b", "attn.bias", 2 * d, (), (), ((d, 1),), SHIFT), still("B", "proj.bias", d, onward)]),
        site("key_bias", 0, "translation", 1, 1, [Binding("b", "attn.bias", d, (), (), ((d, 1),), SHIFT)]),
        site("reader_shift", 0, "translation", 1, d, [
            Binding("W", "attn.weight", 0, (), ((d, out),), ((out, 1),), SHIFT, chart=times),
            still("B", "attn.bias", out, into)]),
        site("value_rotation", 0, "orthogonal", 2, HEAD, value),
        site("qk_rotation", 0, "orthogonal", 2, HEAD, keys),
        Site(**{**vars(wide), "wide": True}),
    ]  # fmt: skip


CASES = {
    "norm bias": norm_biases,
    "value bias": value_biases,
    "reader shift": reader_shifts,
    "writer shift": writer_shifts,
    "traded": traded,
    "stream": stream,
    "biases and gains": lambda: [*norm_biases(), *gains(), *within()],
    "shifts of some readers": lambda: [*gains(), *norm_biases(), *reader_shifts()[1::3]],
    "shifts and units": lambda: [*reader_shifts(), *within()],
    "biases": lambda: [*norm_biases(), *value_biases(), *within()],
    "bases": lambda: [*within("invertible"), *scores(), *value_biases(), *traded()],
    "bases in the stream": lambda: [*gains(), *within("invertible"), *scores(), *norm_biases(), *value_biases(),
                                    *reader_shifts(), *writer_shifts(), *traded(), *stream()],
    "gains in the stream": lambda: [*gains(), *stream(), *within()],
    "all": lambda: [*gains(), *within(), *norm_biases(), *value_biases(), *reader_shifts(), *writer_shifts(),
                    *traded(), *stream()],
}  # fmt: skip


def roles(model: Network) -> dict[str, Role]:
    """What the parameters are, as the graph would say."""
    out = {}
    for name, p in model.named_parameters():
        if p.dim() < 2:
            out[name] = Role("bias" if name.endswith("bias") else "gain", ())
            continue
        r, c = p.shape
        copies, rows, columns = (), ((r, c),), ((c, 1),)
        if name.endswith(("q.weight", "k.weight", "v.weight")):
            copies, rows = ((r // HEAD, HEAD * c),), ((HEAD, c),)
        elif name.endswith("o.weight"):
            copies, columns = ((c // HEAD, HEAD),), ((HEAD, 1),)
        role = {"head.weight": "head", "embed.weight": "table", "position": "table"}.get(name, "matrix")
        out[name] = Role(role, (Matrices(0, copies, rows, columns),))
    return out
