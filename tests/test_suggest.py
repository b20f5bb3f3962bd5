"""Suggested specs: they load, prove and compile; what was invented is counted by the audit; guesses stay comments."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

import gaugec
from gaugec.cli import main
from gaugec.invention.finding import Unsaid
from gaugec.invention.scales import scales
from gaugec.invention.shift_text import shifted
from gaugec.invention.shifts import Forgotten, TakenUp, shifts
from gaugec.invention.turns import turns
from gaugec.pipeline.suggest import Suggestion
from gaugec.pipeline.unexplained import unexplained
from gaugec.tracing.trace import trace
from gaugec.witness.relations import algebra

WIDTH, UNITS, HEAD, OUT = 4, 7, 3, 3


class Home(nn.Module):
    """Bilinear attention without a softmax, then a gate of squared ReLUs: no shipped gauge knows the latter."""

    def __init__(self, head: int = HEAD) -> None:
        super().__init__()
        self.asks, self.answers = (nn.Linear(WIDTH, head, bias=False) for _ in range(2))
        self.gate, self.up, self.down = nn.Linear(WIDTH, UNITS), nn.Linear(WIDTH, UNITS), nn.Linear(UNITS, OUT)

    def forward(self, x: Tensor) -> Tensor:
        x = self.asks(x) @ self.answers(x).transpose(-1, -2) @ x
        return self.down(torch.relu(self.gate(x)).square() * self.up(x))


class Cubes(nn.Module):
    """Layers of cubes between linear maps, in a row."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in ((WIDTH, 6), (6, UNITS), (UNITS, OUT)))

    def forward(self, x: Tensor) -> Tensor:
        one, two, three = self.layers
        return three(two(one(x).pow(3)).abs())


class Sines(nn.Module):
    """An odd function that no scale passes, and a product of two maps that the language has a word for."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(WIDTH, UNITS), nn.Linear(UNITS, UNITS), nn.Linear(UNITS, OUT)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(torch.sin(self.b(torch.sin(self.a(x)))))


def llama(layers: int = 1) -> tuple[nn.Module, Mapping[str, Any]]:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=8,
        intermediate_size=7,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=4,
        vocab_size=12,
        pad_token_id=None,
    )
    return LlamaForCausalLM(config), dict(input_ids=torch.randint(12, (3, 6)), use_cache=False)


def gpt2(layers: int = 1) -> tuple[nn.Module, Mapping[str, Any]]:
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = dict(n_embd=8, n_layer=layers, n_head=2, n_inner=7, vocab_size=12, n_positions=6)
    still = dict(attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0, tie_word_embeddings=False)
    config = GPT2Config(**sizes, **still, bos_token_id=0, eos_token_id=0)
    return GPT2LMHeadModel(config), dict(input_ids=torch.randint(12, (3, 6)), use_cache=False)


def written(found: Suggestion, folder: Path) -> Path:
    path = folder / "mine.gauge"
    path.write_text(found.text("mine"), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def home() -> Suggestion:
    torch.manual_seed(0)
    return gaugec.suggest(Home(), (torch.randn(2, 6, WIDTH),))


def test_what_no_shipped_gauge_knows(home: Suggestion, tmp_path: Path) -> None:
    """14 scales of the gated units, of which the shipped gauges have 7, and the basis of the attention.

    One number that scales all of the attention against what reads it is left: no group of the language is so small.
    """
    (scale,) = [each for each in home.invented if each.name.startswith("scale")]
    assert set(scale.where) == {"gate.weight", "gate.bias", "down.weight"}
    assert scale.text.operators == ("op op1(x) = max(x, 0)**2\n",) and "diag(1/c**2)" in scale.text.body
    assert ("swiglu_rescale", "mlp") in home.shipped
    path = written(home, tmp_path)
    assert gaugec.verify(path).ok
    audited = gaugec.audit(path, Home(), (torch.randn(2, 6, WIDTH),))
    without = gaugec.audit("auto", Home(), (torch.randn(2, 6, WIDTH),))
    assert audited.nullity - 1 == audited.orbit == 2 * UNITS + HEAD**2 and audited.error < 1e-12
    assert audited.orbit - without.orbit == UNITS + HEAD * (HEAD + 1) // 2  # auto only turns the basis
    (left,) = home.guesses
    assert set(left.where) == {"gate.weight", "up.weight", "asks.weight"}
    assert "one number c scales them" in left.lacks


def test_one_gauge_for_layers_that_are_alike_and_one_for_each_that_is_not(tmp_path: Path) -> None:
    model, x = Cubes(), torch.randn(6, WIDTH)
    found = gaugec.suggest(model, (x,))
    assert not found.shipped and [each.name for each in found.invented] == ["scale_1", "scale_2"]
    assert "= (x1 @ W1.T + b1)**3 @ W2.T" in found.invented[0].text.body
    assert "W2 -> W2 @ diag(1/c**3)" in found.invented[0].text.body
    assert "= abs(x1 @ W1.T + b1) @ W2.T" in found.invented[1].text.body
    audited = gaugec.audit(written(found, tmp_path), model, (x,))
    assert (audited.nullity, audited.orbit, audited.unexplained) == (13, 13, 0) and audited.error < 1e-12


def test_the_text_is_the_same_every_time(home: Suggestion) -> None:
    assert gaugec.suggest(Home(), (torch.randn(2, 6, WIDTH),)).text() == home.text()


def test_what_is_not_compiled_is_a_comment_that_says_why() -> None:
    """Heads that are wider than what they read have a basis that cannot be balanced; what turns it is taken."""
    found = gaugec.suggest(Home(head=WIDTH + 1), (torch.randn(2, 6, WIDTH),))
    comments = [line for line in found.text().splitlines() if line.startswith("# guess")]
    assert len(comments) == len(found.guesses) >= 2 and ("qk_rotation", "attention") in found.shipped
    assert "# guess: qk_basis" in comments and "# guess: asks.weight, answers.weight by invertible(5)" in comments
    for guess in found.guesses:
        assert guess.lacks.partition(":")[0] in ("words", "a proof", "a compiler", "a site")
    assert sum("cannot be balanced" in guess.lacks for guess in found.guesses) == 2


@pytest.mark.parametrize(("model", "least", "nullity"), [(llama, 47, 87), (gpt2, 56, 230)], ids=["llama", "gpt2"])
def test_language_models(model: Any, least: int, nullity: int, tmp_path: Path) -> None:
    net, inputs = model()
    said: dict[str, Any] = dict(loss="cross_entropy", outputs=["logits"])
    found = gaugec.suggest(net, inputs, **said)
    spec = gaugec.load(written(found, tmp_path))
    assert found.compiled is not None
    assert {entry.gauge.name for entry in spec.entries} == {site.gauge for site in found.compiled.sites}
    audited = gaugec.audit(spec, net, inputs, **said)
    assert audited.nullity - audited.unread == nullity and audited.clear and audited.error < 1e-12
    assert audited.orbit >= least


def test_the_graph_alone_shows_scales_and_turns() -> None:
    """Of two layers of a Llama: gains against readers, values, units; the bases of values and of the stream."""
    net, inputs = llama(2)
    traced = trace(net, (), inputs, loss="cross_entropy", outputs=["logits"])
    names = {leaf: name.replace("model.layers.", "") for name, leaf in traced.leaves.items()}
    found = [{names[leaf] for leaf in finding.bound} for finding in scales(traced.graph, frozenset())]
    assert len(found) == 9
    assert {"0.mlp.up_proj.weight", "0.mlp.down_proj.weight"} in found
    assert {"model.norm.weight", "lm_head.weight"} in found
    stream, *values = turns(traced.graph, frozenset())
    assert stream.finding.group == "orthogonal" and len(stream.finding.bound) == 16 and stream.charts
    assert [turned.finding.group for turned in values] == ["invertible", "invertible"]
    still = frozenset({traced.leaves["lm_head.weight"], traced.leaves["model.layers.0.mlp.up_proj.weight"]})
    assert len(scales(traced.graph, still)) == 6 and len(turns(traced.graph, still)) == 2


class Router(nn.Module):
    """A norm with a bias that a router and an expert read, and a bias that the expert's takes up."""

    def __init__(self) -> None:
        super().__init__()
        self.bias, self.one, self.two = nn.Parameter(torch.randn(WIDTH)), nn.Linear(WIDTH, UNITS), nn.Linear(UNITS, OUT)
        self.routes = nn.Linear(UNITS, 6, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(self.one(torch.sin(x) + self.bias))
        return self.two(h), torch.softmax(self.routes(h), -1)


def test_the_graph_alone_shows_shifts() -> None:
    model = Router()
    traced = trace(model, (torch.randn(5, WIDTH),))
    names = {leaf: name for name, leaf in traced.leaves.items()}
    taken, forgotten = shifts(traced.graph, frozenset())
    assert isinstance(taken, TakenUp) and isinstance(forgotten, Forgotten)
    assert names[taken.source] == "bias" and [names[leaf] for leaf in taken.finding.bound] == ["bias", "one.bias"]
    assert [names[leaf] for leaf in forgotten.finding.bound] == ["routes.weight"] and forgotten.ends == ("softmax",)
    with torch.no_grad():
        before, a = model(torch.ones(2, WIDTH)), torch.randn(WIDTH)
        model.bias += a
        model.one.bias -= model.one.weight @ a
        model.routes.weight += torch.randn(UNITS)
        for x, y in zip(before, model(torch.ones(2, WIDTH))):
            torch.testing.assert_close(x, y)
    still = frozenset({traced.leaves["one.bias"]})
    assert [type(each) for each in shifts(traced.graph, still)] == [Forgotten]
    text = shifted(traced.graph, taken, taken.finding).under("one", "bias")
    assert "y = (x + b) @ W.T + B" in text and "B -> B - W @ a" in text


def test_the_words_for_shifts_are_proved(tmp_path: Path) -> None:
    """Of GPT-2: what a norm's mean forgets, and what is added to its bias."""
    net, inputs = gpt2()
    traced = trace(net, (), inputs, loss="cross_entropy", outputs=["logits"])
    blocks: dict[str, None] = {}
    for shift in shifts(traced.graph, frozenset()):
        try:
            blocks.setdefault(shifted(traced.graph, shift, shift.finding).under("shift_NUMBER", "found"))
        except Unsaid as unsaid:
            assert str(unsaid) == "one number is added to all entries, and there is no group of one number"
    assert len(blocks) == 3
    path = tmp_path / "found.gauge"
    path.write_text("\n".join(b.replace("NUMBER", str(n)) for n, b in enumerate(blocks)), encoding="utf-8")
    assert gaugec.verify(path).ok


class Residual(nn.Module):
    """A residual stream of ReLUs with gains on what is added: one scale for all that writes to it and reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(WIDTH, UNITS), nn.Linear(UNITS, HEAD), nn.Linear(UNITS, OUT)
        self.back, self.gain = nn.Linear(HEAD, UNITS, bias=False), nn.Parameter(torch.randn(UNITS))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.a(x))
        return self.c(torch.relu(h + self.gain * self.back(torch.tanh(self.b(h)))))


def test_a_stream_of_relus(tmp_path: Path) -> None:
    x = torch.randn(9, WIDTH)
    found = gaugec.suggest(Residual(), (x,))
    streams = [set(each.where) for each in found.invented if "a.weight" in each.where]
    assert streams == [{"a.weight", "a.bias", "b.weight", "c.weight", "gain"}] or streams == [
        {"a.weight", "a.bias", "b.weight", "c.weight", "back.weight"}
    ]
    audited = gaugec.audit(written(found, tmp_path), Residual(), (x,))
    assert (audited.nullity, audited.orbit) == (2 * UNITS, 2 * UNITS) and audited.error < 1e-12


def test_an_algebra_is_read_off_its_matrices() -> None:
    draw = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    def mixed(*matrices: Tensor) -> str:
        stack = torch.stack(matrices)
        return algebra(torch.einsum("ij,jkl->ikl", random(len(stack), len(stack)), stack))

    eye = torch.eye(6, dtype=torch.float64)
    units = [torch.outer(eye[i], eye[j]) for i in range(6) for j in range(6)]
    same = [[i // 3 == j // 3 for j in range(6)] for i in range(6)]
    heads = [unit for n, unit in enumerate(units) if same[n // 6][n % 6]]
    assert mixed(*heads) == "any matrix, as of invertible(3) in each of 2 blocks"
    turning = [torch.outer(eye[i], eye[i + 3]) - torch.outer(eye[i + 3], eye[i]) for i in range(3)]
    scaling = [torch.outer(eye[i], eye[i]) + torch.outer(eye[i + 3], eye[i + 3]) for i in range(3)]
    assert mixed(*turning, *scaling) == "a scale and a turn of a pair in each of 3 blocks"
    assert mixed(*turning) == "any skew matrix, as of orthogonal(2) in each of 3 blocks"
    assert mixed(*[torch.diag(row) for row in eye]) == "a scale in each of 6 blocks"
    assert mixed(eye) == "a scale in each of 6 blocks, one element for several blocks"


def test_relations_are_read_off_numbers() -> None:
    """Of a small Llama without any gauge: pairs, bases, units, gains; what is of more than two parameters is left."""
    net, inputs = llama()
    traced = trace(net, (), inputs, loss="cross_entropy", outputs=["logits"])
    numbers = unexplained(traced, None)
    found = {tuple(name.split(".")[-2] for name in each.parameters): each for each in numbers.relations}
    assert numbers.clear and (numbers.dead, numbers.explained, numbers.left) == (87, 0, 44)
    pairs, values = found["q_proj", "k_proj"], found["v_proj", "o_proj"]
    assert pairs.dimension == 4 and pairs.words.endswith("a scale and a turn of a pair in each of 2 blocks")
    assert values.dimension == 16 and values.words.endswith("M is any matrix, as of invertible(4)")
    assert found["up_proj", "down_proj"].words.endswith("M is a scale in each of 7 blocks")
    assert found["norm", "lm_head"].words.endswith("M is a scale in each of 8 blocks")
    assert found["lm_head",].words == "what is constant along the axis in brackets of [12] × 8 is added"


def test_too_large_a_model_is_not_looked_at_in_numbers() -> None:
    with pytest.raises(gaugec.MatchError, match=r"has 3,203 parameters, and with numbers 3,000 are looked at at most"):
        gaugec.suggest(nn.Sequential(nn.Linear(60, 50), nn.Linear(50, 3)), (torch.randn(2, 60),), numbers=True)


def factory(folder: Path, body: str) -> str:
    path = folder / "m.py"
    path.write_text(f"import torch\nfrom torch import nn\n\ndef net():\n    return {body}\n", encoding="utf-8")
    return f"{path}:net"


def test_the_command(tmp_path: Path) -> None:
    units = factory(tmp_path, "nn.Sequential(nn.Linear(4, 7), nn.ReLU(), nn.Linear(7, 3)), (torch.randn(6, 4),)")
    shown = CliRunner().invoke(main, ["suggest", units])
    assert shown.exit_code == 0 and "architecture suggested:" in shown.stdout
    assert "use relu_rescale from mlp" in shown.stdout and shown.stderr == ""
    path = tmp_path / "mine.gauge"
    result = CliRunner().invoke(main, ["suggest", units, "-o", str(path)])
    assert result.exit_code == 0 and "is written: 1 that ship, 0 invented" in result.stdout
    assert path.read_text(encoding="utf-8") == shown.stdout.replace("suggested:", "mine:")
    assert CliRunner().invoke(main, ["suggest", units, "-o", str(path)]).exit_code == 2
    assert CliRunner().invoke(main, ["compile", str(path), units]).exit_code == 0
    told = json.loads(CliRunner().invoke(main, ["suggest", units, "--json"]).stdout)
    assert told["numbers"] is None
    seen = CliRunner().invoke(main, ["suggest", units, "--numbers"]).stdout
    assert seen.endswith("# in numbers: 7 directions are dead, the gauges explain 7\n")
    assert told["shipped"] == {"relu_rescale": "mlp"} and told["sites"] == 1 and told["text"] == shown.stdout


def test_nothing_to_suggest_is_refused_and_no_model_is_misuse(tmp_path: Path) -> None:
    bare = CliRunner().invoke(main, ["suggest", factory(tmp_path, "nn.Linear(4, 3), (torch.randn(6, 4),)")])
    assert bare.exit_code == 1 and bare.stdout.startswith("# Nothing to suggest for Linear")
    assert CliRunner().invoke(main, ["suggest", str(tmp_path / "none.py:net")]).exit_code == 2
    assert gaugec.suggest(Sines(), (torch.randn(6, WIDTH),)).compiled is None
