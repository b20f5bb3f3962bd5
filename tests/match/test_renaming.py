"""Nothing goes by name: modules, parameters, gauges and the letters of the spec renamed at random, the same sites."""

from __future__ import annotations

import random
import re
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from match.models import llama
from thinned import thinned
from torch import nn

import gaugec
from gaugec import specs

WORDS = set(
    """gauge given param each model for every in keeps fix op architecture use from optional approximate eps T
    positive positive_pairs translation orthogonal orthogonal_ones torus invertible
    diag outer ones inv abs rownorm colnorm relu silu gelu sigmoid tanh exp softmax rms_norm layer_norm rope dropout
    cross_entropy max min log""".split()
)
TOKEN = re.compile(r'#[^\n]*|"[^"]*"|[A-Za-z_][A-Za-z0-9_]*|.|\n')
TOPICS = {
    "norms": ["norm_gain"],
    "mlp": ["swiglu_rescale"],
    "attention": ["value_rotation", "qk_rotation_rope"],
    "head": ["logit_shift"],
}


def fresh(rng: random.Random, used: set[str], letters: str = string.ascii_letters) -> str:
    """A name that nobody has: one to nine letters, digits and underscores, a letter first."""
    while True:
        name = rng.choice(letters) + "".join(rng.choices(letters + string.digits + "_", k=rng.randint(0, 8)))
        if name not in used | WORDS and name.lower() not in WORDS:
            used.add(name)
            return name


def rename_gauges(text: str, rng: random.Random, gauges: dict[str, str]) -> str:
    """The text with every declared name of every gauge replaced; comments and docstrings go."""
    parts = re.split(r"(?m)^(?=gauge )", text)
    made = []
    for part in parts:
        head = re.match(r"gauge (\w+)\(([\w, ]+)\)", part)
        if head is None:
            continue
        used: set[str] = set(gauges.values())
        gauges[head[1]] = fresh(rng, used)
        code = "".join(t for t in TOKEN.findall(part) if t[0] not in '#"')
        dims = {name.strip() for name in head[2].split(",")}
        table = {name: fresh(rng, used, string.ascii_lowercase) for name in sorted(dims)}  # dims are written small
        names = set()
        for line in re.findall(r"(?m)^ *(?:given|param) (.*)$", code):
            names |= set(re.findall(r"(\w+)\[", line))
        names |= set(re.findall(r"model +(\w+) *=", code)) | set(re.findall(r"for every (\w+)", code))
        table |= {name: fresh(rng, used) for name in sorted(names)} | {head[1]: gauges[head[1]]}
        tokens = TOKEN.findall(part)
        written = [table.get(token, token) if before != "." else token for before, token in zip(["", *tokens], tokens)]
        made.append("".join('"Renamed."' if t[0] == '"' else "" if t[0] == "#" else t for t in written))
    return "\n".join(made)


def rename_spec(folder: Path, rng: random.Random) -> tuple[str, dict[str, str]]:
    """Writes the llama architecture under other names: its path, and old gauge name -> new one."""
    shipped = Path(specs.__file__).parent
    gauges: dict[str, str] = {}
    lines = []
    for topic, names in TOPICS.items():
        file = fresh(rng, set())
        text = rename_gauges((shipped / f"{topic}.gauge").read_text(encoding="utf-8"), rng, gauges)
        (folder / f"{file}.gauge").write_text(text, encoding="utf-8")
        lines.append(f"    use {', '.join(gauges[name] for name in names)} from {file}")
    top = fresh(rng, set())
    (folder / f"{top}.gauge").write_text(
        f'architecture {top}:\n    "Renamed."\n' + "\n".join(lines) + "\n", encoding="utf-8"
    )
    return str(folder / f"{top}.gauge"), gauges


def rename_model(model: nn.Module, rng: random.Random, lists: tuple[type[nn.Module], ...] = ()) -> dict[str, str]:
    """Gives every module, parameter, buffer and class another name, in place: old parameter name -> new one.

    The forward still says `self.q_proj`: a property of the new class leads it to the new name.  lists: the classes
    whose modules keep the keys by which a forward picks from them.
    """
    by_identity = {id(p): name for name, p in model.named_parameters()}
    for module in [module for module in model.modules() if not isinstance(module, lists)]:
        used = set(dir(module)) | set(module.__dict__)
        properties: dict[str, Any] = {}
        for table in (module._modules, module._parameters, module._buffers):
            renamed = {name: fresh(rng, used) for name in table}
            entries = [(renamed[name], value) for name, value in table.items()]
            table.clear()
            table.update(entries)
            for old, new in renamed.items():
                properties[old] = property(lambda self, new=new: getattr(self, new))
        persistent = module._non_persistent_buffers_set
        persistent.clear()
        module.__class__ = type(fresh(rng, set()), (type(module),), properties)
    return {by_identity[id(p)]: name for name, p in model.named_parameters()}


def plain(compiled: Any, gauges: Mapping[str, str], names: Mapping[str, str]) -> list[tuple[Any, ...]]:
    """All that a site is, without the formula's letters; gauges and parameters under the names given."""
    return [
        (
            gauges[site.gauge], site.index, site.group, site.copies, site.size, site.pairing, site.rotary, site.verdict,
            [(names[b.parameter], b.offset, b.copies, b.group, b.rest, b.move, b.shift_by) for b in site.bindings],
        )
        for site in compiled.sites
    ]  # fmt: skip


@pytest.fixture(scope="module")
def original() -> Any:
    model, args, kwargs = llama()
    compiled = gaugec.compile("llama", model, args, kwargs, loss="cross_entropy")
    return compiled, {name: name for name, _ in model.named_parameters()}


@pytest.mark.parametrize("seed", thinned([1, 2], 2))
def test_the_same_sites_under_other_names(original: Any, seed: int, tmp_path: Path) -> None:
    compiled, same = original
    rng = random.Random(seed)
    path, gauges = rename_spec(tmp_path, rng)
    model, args, kwargs = llama()
    names = rename_model(model, rng)
    assert len(set(names.values())) == len(names) and not set(names) & set(names.values())
    again = gaugec.compile(path, model, args, kwargs, loss="cross_entropy")
    assert len(again.sites) == 12
    assert plain(again, {name: name for name in gauges.values()}, {name: name for name in names.values()}) == plain(
        compiled, gauges, names
    )
    assert again.measured.ok
    assert same.keys() == names.keys()


def test_the_renamer_leaves_no_name_of_the_spec(tmp_path: Path) -> None:
    path, gauges = rename_spec(tmp_path, random.Random(5))
    text = "\n".join(file.read_text(encoding="utf-8") for file in sorted(tmp_path.iterdir()))
    words = set(re.findall(r"\w+", text))
    assert not words & {*gauges, "Wv", "Wo", "Wq", "Wk", "Wu", "Wd", "bv", "gate", "llama"}
    assert gaugec.load(path).entries
