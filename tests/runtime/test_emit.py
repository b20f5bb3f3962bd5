"""The emitted module: golden files, bytes, text that cannot break out, and what happens when a function is missing."""

from __future__ import annotations

import ast
import dataclasses
import re
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gaugec.codegen.text import words
from gaugec.errors import GaugeError
from gaugec.literals import literal, quote
from gaugec.runtime import DDCAdamW, Gauge, load
from gaugec.runtime.gauge import check
from runtime import handmade

EVIL = 'x"""\nimport os\n"""\\ \x00\u2028#\r\nraise SystemExit \ud800 {{ 1 }} {% raw %}'


@pytest.mark.parametrize(
    ("model", "sites"), [(handmade.Llama, handmade.llama_sites), (handmade.MLP, handmade.mlp_sites)]
)
def test_the_same_bytes_formatted(model: Any, sites: Any, tmp_path: Path) -> None:
    text = handmade.source(model(), sites())
    assert text == handmade.source(model(), sites())
    assert max(map(len, text.splitlines())) <= 120
    formatted(text, tmp_path)


def formatted(text: str, folder: Path) -> None:
    """A formatter leaves the text as it is."""
    path = folder / "formatted.py"
    path.write_text(text)
    ruff = [sys.executable, "-m", "ruff", "format", "--isolated", "--line-length", "120", "--diff", str(path)]
    done = subprocess.run(ruff, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_bytes_do_not_depend_on_hashing() -> None:
    code = "from runtime import handmade as h; import sys; sys.stdout.write(h.source(h.Llama(), h.llama_sites()))"
    tests = str(Path(__file__).parents[1])
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=tests,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": tests},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


def renamed(sites: list[Any], text: str) -> list[Any]:
    out = []
    for site in sites:
        bindings = tuple(dataclasses.replace(b, role=b.role if site.fix else text) for b in site.bindings)
        out.append(dataclasses.replace(site, gauge=text, theorem=text, place=text, bindings=bindings))
    return out


def test_text_from_a_spec_stays_text() -> None:
    """Names, docstrings and places may hold anything: the code is the same, and nothing of them is run."""
    text = emit_with(renamed(handmade.llama_sites(), EVIL), {"spec": EVIL, "list": [EVIL, None, 1.5, True]})
    assert all(c.isprintable() or c == "\n" for c in text)
    gauge = Gauge(text)
    assert {key: gauge.metadata[key] for key in ("spec", "list")} == {"spec": EVIL, "list": [EVIL, None, 1.5, True]}
    assert len(gauge.components) == 3

    def bare(source: str) -> str:
        """The source without its strings, and without METADATA."""
        tree = ast.parse(source)
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                node.value = ""
        return re.sub(r"METADATA[^\n]*", "", ast.unparse(tree))

    assert bare(text) == bare(emit_with(handmade.llama_sites(), {}))


def emit_with(sites: list[Any], metadata: dict[str, Any]) -> str:
    shapes = {name: tuple(p.shape) for name, p in handmade.Llama().named_parameters()}
    return handmade.written(sites, shapes, metadata)


def test_parameter_names_are_quoted() -> None:
    odd = 'a"; import os #\\é\U0001f600'
    sites = [
        handmade.site(
            "g",
            0,
            "positive",
            1,
            3,
            [handmade.vector("g", odd, 3, handmade.UP), handmade.linear("W", "w", 4, 3, handmade.DOWN, 1)],
            handmade.abs_fix(),
        )
    ]
    gauge = Gauge(handmade.written(sites, {odd: (3,), "w": (4, 3)}))
    assert gauge.parameters == (odd, "w")


@pytest.mark.parametrize("text", [EVIL, "", "plain", "é" * 300, '"', "\\", "a\nb"])
def test_literals_are_literals(text: str) -> None:
    assert ast.literal_eval(quote(text)) == text
    assert ast.literal_eval(literal({"k": text, "l": (text,), "n": [1, {"d": text}]}, 20)) == {
        "k": text,
        "l": (text,),
        "n": [1, {"d": text}],
    }
    ast.parse(f'"""{words(text)}"""\n# {words(text)}\n')


def test_metadata_that_is_no_literal_is_refused() -> None:
    with pytest.raises(GaugeError, match="set cannot be written"):
        emit_with(handmade.llama_sites(), {"a": {1, 2}})


def test_the_optimizer_needs_every_function() -> None:
    model = handmade.Llama()
    for name in ("fix", "coefficients"):
        gauge = handmade.compiled(model, handmade.llama_sites())
        delattr(type(gauge.components[1]), name)
        with pytest.raises(ValueError) as error:
            DDCAdamW(model.named_parameters(), gauge)
        assert str(error.value) == f"Component1 has no {name}"
    gauge.components = (gauge.components[0], object())  # type: ignore[assignment]
    with pytest.raises(ValueError, match="this gauge: component 1 is no component of a compiled gauge; compile"):
        check(gauge.components)


def test_a_file_round_trip(tmp_path: Path) -> None:
    gauge = handmade.compiled(handmade.Llama(), handmade.llama_sites())
    gauge.save(tmp_path / "gauge.py")
    again = load(tmp_path / "gauge.py")
    assert again.source == gauge.source and again.metadata["spec"] == "by hand"
    assert set(again.parameters) == set(gauge.parameters)


def test_loading_imports_nothing_of_the_compiler(tmp_path: Path) -> None:
    handmade.compiled(handmade.Llama(), handmade.llama_sites()).save(tmp_path / "gauge.py")
    code = (
        "import sys; from gaugec.runtime import load; load(sys.argv[1]); "
        "print(sorted(m for m in sys.modules if m.split('.')[0] in ('lark', 'networkx') "
        "or m.startswith('gaugec.') and not m.startswith('gaugec.runtime') and m != 'gaugec.version'))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "gauge.py")], capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "[]"


# --- layouts beyond the two models: fused, stacked, partly rotary, convolutions; against the tangents by brute force


def fused_attention() -> tuple[list[Any], dict[str, tuple[int, ...]]]:
    """One parameter [q, k, v rows], 2 heads of 4, the first two coordinates rotary, interleaved; a norm before."""
    d, h, k = 6, 2, 4
    n = h * k

    def rows(role: str, at: int, move: Any) -> Any:
        return handmade.Binding(role, "qkv", at * n * d, ((h, k * d),), ((k, d),), ((d, 1),), move)

    out = handmade.Binding("Wo", "out", 0, ((h, k),), ((k, 1),), ((d, n),), handmade.Move("rotate", dual=True))
    gain = [handmade.vector("g", "norm", d, handmade.UP), handmade.linear("W", "qkv", 3 * n, d, handmade.DOWN, 1)]
    turn = [rows("Wq", 0, handmade.ROTATE), rows("Wk", 1, handmade.ROTATE)]
    sites = [
        handmade.site("gain", 0, "positive", 1, d, gain, handmade.abs_fix()),
        handmade.site("turn", 0, "torus", h, k, turn, pairing="interleaved", rotary=2),
        handmade.site("value", 0, "orthogonal", h, k, [rows("Wv", 2, handmade.ROTATE), out]),
    ]
    return sites, {"norm": (d,), "qkv": (3 * n, d), "out": (d, n)}


def interleaved_attention() -> tuple[list[Any], dict[str, tuple[int, ...]]]:
    """[head, (q, k, v), width] rows: slices that are no contiguous run."""
    sites, shapes = fused_attention()
    h, k, d = 2, 4, 6
    out = []
    for site in sites:
        bindings = []
        for b in site.bindings:
            if b.parameter == "qkv" and b.copies:
                at = b.offset // (h * k * d)
                b = dataclasses.replace(b, offset=at * k * d, copies=((h, 3 * k * d),))
            bindings.append(b)
        out.append(dataclasses.replace(site, bindings=tuple(bindings)))
    return out, shapes


def packed_units() -> tuple[list[Any], dict[str, tuple[int, ...]]]:
    """gate and up in one parameter; two experts stacked, each with its own units; one norm reads both."""
    e, f, d = 2, 3, 5
    up = handmade.Binding("W1", "gate_up", f * d, ((e, 2 * f * d),), ((f, d),), ((d, 1),), handmade.UP)
    down = handmade.Binding("W2", "down", 0, ((e, d * f),), ((f, 1),), ((d, f),), handmade.DOWN)
    reader = handmade.Binding("W", "gate_up", 0, (), ((d, 1),), ((e * 2 * f, d),), handmade.DOWN)
    sites = [
        handmade.site(
            "gain", 0, "positive", 1, d, [handmade.vector("g", "norm", d, handmade.UP), reader], handmade.abs_fix()
        ),
        handmade.site("units", 0, "positive", e, f, [up, down], handmade.balance_fix()),
    ]
    return sites, {"norm": (d,), "gate_up": (e, 2 * f, d), "down": (e, d, f)}


def convolutions() -> tuple[list[Any], dict[str, tuple[int, ...]]]:
    """Channels between two convolutions, with a norm's gain and bias in front, stored by its square sum."""
    a, b, c, k = 3, 4, 2, 9
    first = handmade.Binding("W1", "one", 0, (), ((b, a * k),), ((a, k), (k, 1)), handmade.UP)
    second = handmade.Binding("W2", "two", 0, (), ((b, k),), ((c, b * k), (k, 1)), handmade.DOWN)
    reader = handmade.Binding("W", "one", 0, (), ((a, k),), ((b, a * k), (k, 1)), handmade.DOWN)
    norm = [handmade.vector("g", "gain", a, handmade.UP), handmade.vector("b", "bias", a, handmade.UP), reader]
    sites = [
        handmade.site("gain", 0, "positive", 1, a, norm, handmade.square_fix()),
        handmade.site("relu", 0, "positive", 1, b, [first, second], handmade.balance_fix()),
    ]
    return sites, {"gain": (a,), "bias": (a,), "one": (b, a, 3, 3), "two": (c, b, 3, 3)}


def streams() -> tuple[list[Any], dict[str, tuple[int, ...]]]:
    """A rotation of the stream on the other axis of a head's rotation: the general path, two pools on one tensor."""
    d, k, v = 5, 3, 7
    head = [handmade.linear("Wv", "v", k, d, handmade.ROTATE, 0), handmade.linear("Wo", "o", d, k, handmade.ROTATE, 1)]
    stream = [
        handmade.linear("E", "e", v, d, handmade.ROTATE, 1),
        handmade.linear("Wv", "v", k, d, handmade.ROTATE, 1),
        handmade.linear("Wo", "o", d, k, handmade.ROTATE, 0),
    ]
    sites = [
        handmade.site("head", 0, "orthogonal", 1, k, head),
        handmade.site("stream", 0, "orthogonal_ones", 1, d, stream),
    ]
    return sites, {"v": (k, d), "o": (d, k), "e": (v, d)}


def pairs() -> tuple[list[Any], dict[str, tuple[int, ...]]]:
    """A scale for every rotary pair beside its rotation."""
    d, h, k = 5, 2, 4
    up, down = ((Fraction(sign)) for sign in (1, -1))

    def heads(role: str, name: str, move: Any) -> Any:
        return handmade.Binding(role, name, 0, ((h, k * d),), ((k, d),), ((d, 1),), move)

    scale = [heads("W1", "q", handmade.Move("scale", up)), heads("W2", "k", handmade.Move("scale", down))]
    turn = [heads("Wq", "q", handmade.ROTATE), heads("Wk", "k", handmade.ROTATE)]
    sites = [
        handmade.site("scale", 0, "positive_pairs", h, k, scale, handmade.balance_fix(), pairing="halves", rotary=k),
        handmade.site("turn", 0, "torus", h, k, turn, pairing="halves", rotary=k),
    ]
    return sites, {"q": (h * k, d), "k": (h * k, d)}


@pytest.mark.parametrize(
    "case",
    [fused_attention, interleaved_attention, packed_units, convolutions, streams, pairs],
    ids=lambda f: f.__name__,
)
def test_other_layouts(case: Callable[[], Any]) -> None:
    """The projector against a dense basis of the tangents; equivariance of ten steps under gradients that transform."""
    sites, shapes = case()
    gauge = Gauge(handmade.written(sites, shapes))
    generator = torch.Generator().manual_seed(0)
    params = {n: torch.randn(shape, generator=generator, dtype=torch.float64) for n, shape in shapes.items()}
    (component,) = gauge.components
    batch = {slot: params[name].unsqueeze(0) for slot, name in zip(component.shapes, component.instances[0])}
    frame = component.frame(batch)
    point = component.canonical(batch, frame)
    tangents = torch.cat([x[:, 0].flatten(1) for x in component.tangents(point).values()], 1)
    vectors, values, _ = torch.linalg.svd(tangents.T, full_matrices=False)
    vectors = vectors[:, values > 1e-10 * values[0]]
    update = {slot: torch.randn(x.shape, generator=generator, dtype=torch.float64) for slot, x in point.items()}
    flat = torch.cat([x.flatten() for x in update.values()])
    left = component.project({slot: x.clone() for slot, x in update.items()}, point, frame.off)
    want = flat - vectors @ (vectors.T @ flat)
    assert torch.allclose(torch.cat([x.flatten() for x in left.values()]), want, atol=1e-10)

    element = gauge.random_element(generator)
    data = {n: torch.randn(shape, generator=generator, dtype=torch.float64) for n, shape in shapes.items()}
    runs = []
    for move in (False, True):
        start = gauge.act(params, element) if move else params
        leaves = {n: nn.Parameter(x.clone()) for n, x in start.items()}
        optimizer = DDCAdamW(leaves.items(), gauge, lr=1e-2, weight_decay=0.1, frame_every=3)
        for _ in range(10):
            # Any function of the parameters brought back by the element is invariant along the run from gθ.
            seen = {n: x.detach().requires_grad_() for n, x in leaves.items()}
            back = differentiable(gauge, seen, element) if move else seen
            loss = sum((data[n] * torch.sin(x)).sum() for n, x in back.items())
            for n, gradient in zip(seen, torch.autograd.grad(loss, list(seen.values()))):
                leaves[n].grad = gradient
            optimizer.step()
        runs.append({n: x.detach() for n, x in leaves.items()})
    end = gauge.act(runs[0], element)
    for n in end:
        assert torch.allclose(end[n], runs[1][n], rtol=1e-9, atol=1e-9), n


def differentiable(gauge: Gauge, params: dict[str, torch.Tensor], element: Any) -> dict[str, torch.Tensor]:
    """The inverse of an element, applied so that autograd sees it: gauges undone in the opposite order."""
    out = params
    for key, component, names in gauge.places():
        for name, (kind, _, _) in reversed(component.elements.items()):
            e = element[key][name]
            inverse = {"scale": lambda e: 1 / e, "rotate": lambda e: e.mT, "rotate ones": lambda e: e.mT}.get(
                kind, lambda e: -e
            )(e)
            batch = {slot: out[n].unsqueeze(0) for slot, n in zip(component.shapes, names)}
            whole = {**gauge.identity()[key], name: inverse}
            moved = component.act(batch, whole)
            out = {**out, **{n: moved[slot].squeeze(0) for slot, n in zip(component.shapes, names)}}
    return out
