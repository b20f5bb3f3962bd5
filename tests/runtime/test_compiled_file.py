"""Compiled files: real compiles of real models to the byte, formatted, and whole or not loaded at all."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn

import gaugec
from gaugec.runtime import Gauge, load
from gaugec.runtime.seal import sealed
from runtime.handmade import MLP

GOLDEN = Path(__file__).parents[1] / "golden"
MEND = "compile the model again: gaugec compile SPEC MODEL -o FILE.py"
NONE = "gauge.py is not a compiled gauge: it has no METADATA with a certificate"
GPT2 = """architecture gpt2:
    "Queries, keys and values in one weight, with learned positions."
    use value_rotation, qk_rotation from attention
"""
IDS = dict(pad_token_id=0, bos_token_id=1, eos_token_id=2)


class Units(nn.Module):
    """Three linear maps with ReLU between them, without its loss."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = MLP().maps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for each in self.maps[:-1]:
            x = torch.relu(each(x))
        return self.maps[-1](x)


@cache
def compiled(name: str) -> str:
    """The source of a real compile, with what another machine or release writes otherwise taken out."""
    import transformers

    torch.manual_seed(0)
    sizes = dict(num_hidden_layers=3, num_attention_heads=6, vocab_size=61, **IDS)
    tokens = dict(input_ids=torch.randint(3, 61, (5, 8)), use_cache=False)
    if name == "llama":
        config = transformers.LlamaConfig(
            hidden_size=48, intermediate_size=58, num_key_value_heads=2, head_dim=10, **sizes
        )
        made = gaugec.compile("llama", moved(transformers.LlamaForCausalLM(config)), (), tokens, loss="cross_entropy")
    elif name == "relu_mlp":
        made = gaugec.compile("relu_mlp", Units(), (torch.randn(3, 7),))
    else:
        spec = Path("gpt2.gauge")
        spec.write_text(GPT2)
        config = transformers.GPT2Config(n_embd=42, n_layer=3, n_head=6, vocab_size=61, n_positions=32, **IDS)
        made = gaugec.compile(spec, moved(transformers.GPT2LMHeadModel(config)), (), tokens)
    source = re.sub(r'"(error|control)": "[^"]*"', r'"\1": "..."', made.source)
    source = re.sub(r'"(gaugec|torch)": "[^"]*"', r'"\1": "..."', source)
    return re.sub(r'"file_sha256": "[^"]*"', f'"file_sha256": "{"0" * 64}"', source)


def moved(model: nn.Module) -> nn.Module:
    """In train mode, gains and biases away from 1 and 0."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model.train()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


NAMES = ("llama", "relu_mlp", "gpt2")


@pytest.mark.parametrize("name", NAMES)
def test_golden(name: str, golden: Callable[[str, str], None]) -> None:
    golden(f"{name}.py", compiled(name))


@pytest.mark.parametrize("name", NAMES)
def test_a_formatter_leaves_it_as_it_is(name: str) -> None:
    ruff = [sys.executable, "-m", "ruff", "format", "--isolated", "--line-length", "120", "--diff"]
    done = subprocess.run([*ruff, str(GOLDEN / f"{name}.py")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_mathematics_first() -> None:
    lines = text("llama").splitlines()
    certificate = next(i for i, line in enumerate(lines) if line.startswith("METADATA"))
    assert certificate <= 200 and len(lines) <= 450
    assert lines[0] == '"""The gauges of llama in LlamaForCausalLM: frames and projectors for its parameters.'


def text(name: str) -> str:
    return (GOLDEN / f"{name}.py").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_it_loads(name: str) -> None:
    Path("gauge.py").write_text(sealed(text(name)))
    assert load("gauge.py").components


# --- whole, or not loaded


def cuts(source: str) -> Iterator[tuple[str, str]]:
    """The source without one function, one row, or one declaration of a component, and what is gone."""
    lines = source.split("\n")

    def without(node: ast.expr | ast.stmt) -> str:
        assert node.end_lineno is not None and node.end_col_offset is not None
        first, last = lines[node.lineno - 1], lines[node.end_lineno - 1]
        rest = last[node.end_col_offset :].removeprefix(",")
        return "\n".join([*lines[: node.lineno - 1], first[: node.col_offset] + rest, *lines[node.end_lineno :]])

    for each in ast.parse(source).body:
        if isinstance(each, ast.ClassDef):
            yield each.name, without(each)
            for inner in each.body[1:]:
                what = inner.name if isinstance(inner, ast.FunctionDef) else ast.unparse(inner).partition(" =")[0]
                yield f"{each.name}.{what}", without(inner)
            for call in (node for node in ast.walk(each) if isinstance(node, ast.Call)):
                if isinstance(call.func, ast.Name) and call.func.id in ("Row", "Pool", "Blur", "Coupling"):
                    yield ast.unparse(call), without(call)
                elif isinstance(call.func, ast.Attribute) and call.func.attr == "moves":
                    yield ast.unparse(call.func), without(call)


@pytest.mark.parametrize("name", NAMES)
def test_every_function_and_every_row_is_needed(name: str) -> None:
    source = sealed(text(name))
    kinds = set()
    for what, cut in cuts(source):
        ast.parse(cut)
        with pytest.raises(ValueError) as error:
            Gauge(cut, "gauge.py")
        message = "gauge.py was changed after it was compiled: its text is not what it was sealed with; "
        assert str(error.value) == message + MEND, what
        kinds.add(what.partition("(")[0].partition(".")[2])
        if what.endswith(".cuts"):  # the seal alone tells: without it steps are taken in one piece
            continue
        with pytest.raises((ValueError, NameError)):
            Gauge(sealed(cut), "gauge.py")
    assert {"fix", "coefficients", "shapes", "gauges"} - kinds <= ({"fix"} if name == "gpt2" else set())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('            Row("Wo", "o_proj", "m (c r k)"),\n', "", "Component0 has 7 rows of 8"),
        ('        Pool("v_proj", "(r k) m", k=10),\n', "", "Component0 has 3 pools of 4"),
        ("    def fix(self", "    def gone(self", "Component0 has no fix"),
        ("    def coefficients(self", "    def gone(self", "Component0 has no coefficients"),
        ('"o_proj": (48, 60)}', "}", "Component0 has no shape of o_proj"),
        ('"(c r p k) m"', '"(c p k) m"', "Component0: 'q_proj', '(c p k) m': the sizes {'c': 2, 'k': 5, 'p': 2} do not "
         "fit dimension 0, of 60 entries"),
        ('Row("Wo", "o_proj", "m (c r k)")', 'Row("Wo", "o_proj", "m (r k)")', "Component0: 'o_proj', 'm (r k)': not 2 "
         "copies of an axis of 10"),
        ('Pool("v_proj", "(r k) m", k=10)', 'Pool("k_proj", "(r k) m", k=10)', "Component0 has no pool of v_proj"),
        ('            "o_proj": "model.layers.{0..2}.self_attn.o_proj.weight",\n', "", "Component0 stands at places of "
         "input_layernorm, q_proj, k_proj, v_proj, not of input_layernorm, q_proj, k_proj, v_proj, o_proj"),
        ('"model.layers.{0..2}.self_attn.o_proj.weight"', '"model.layers.{0..1}.self_attn.o_proj.weight"',
         "Component0: its tensors are at different numbers of places"),
    ],
)  # fmt: skip
def test_what_is_missing_is_said(old: str, new: str, message: str) -> None:
    """Also where the seal was made again."""
    source = text("llama")
    assert old in source
    with pytest.raises(ValueError) as error:
        Gauge(sealed(source.replace(old, new, 1)), "gauge.py")
    assert str(error.value) == f"gauge.py: {message}; {MEND}"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1\n", NONE),
        ("METADATA: dict = {}\nCOMPONENTS = ()\n", NONE),
        ('raise SystemExit\nMETADATA: dict = {"certificate": 1}\n', "gauge.py was compiled by another release: its "
         f"certificate is of version 1, this gaugec reads version 4; {MEND}"),
        ('METADATA: dict = {"certificate": 4.0}\n', "gauge.py was compiled by another release: its certificate is of "
         f"version 4.0, this gaugec reads version 4; {MEND}"),
        ("class Component0:\n", NONE),
    ],
)  # fmt: skip
def test_what_is_no_compiled_gauge_is_not_run(source: str, message: str) -> None:
    Path("gauge.py").write_text(source)
    with pytest.raises(ValueError) as error:
        load("gauge.py")
    assert str(error.value) == message


def test_what_is_no_text_is_said() -> None:
    Path("gauge.py").write_bytes(b"x = 1\n\xff")
    with pytest.raises(ValueError, match=r"^gauge\.py is not a compiled gauge: it is not UTF-8 text \(byte 6\)$"):
        load("gauge.py")


def test_the_documents_show_what_is_compiled() -> None:
    page = (Path(__file__).parents[2] / "docs" / "compiled-file.md").read_text()
    excerpts = re.findall(r"```text\n(.*?)```", page, re.DOTALL)
    assert len(excerpts) == 2 and all(excerpt in text("llama") for excerpt in excerpts)
