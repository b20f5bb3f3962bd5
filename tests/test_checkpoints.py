"""Checkpoints on the command line: `gaugec canonicalize`, `gaugec distance`, in both forms of files."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from random import Random

import pytest
import torch
from click.testing import CliRunner, Result
from runtime.handmade_groups import CASES, drawn

from gaugec.cli import main
from gaugec.runtime import load
from gaugec.runtime.checkpoints import read
from runtime import handmade

NAMES = ("positive", "orthogonal")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from safetensors.torch import save_file

    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        sites, shapes = CASES[name]
        Path(f"{name}.py").write_text(handmade.written(sites, shapes), encoding="utf-8")
        a, b = drawn(shapes, 1), drawn(shapes, 2)
        gauge = load(f"{name}.py")
        moved = gauge.act(a, gauge.random_element(torch.Generator().manual_seed(3)))
        for file, values in (("a", a), ("b", b), ("moved", moved)):
            torch.save({**values, "count": torch.tensor(3)}, f"{name}_{file}.pt")
            save_file(values, f"{name}_{file}.safetensors", metadata={"format": "pt"})
    return tmp_path


def call(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


@pytest.mark.parametrize("form", ["pt", "safetensors"])
def test_a_checkpoint_is_brought_to_its_canonical_representative(form: str) -> None:
    result = call("canonicalize", "positive.py", f"positive_a.{form}", "-o", f"one.{form}")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines()[1] == f"one.{form} is written"
    assert call("canonicalize", "positive.py", f"positive_moved.{form}", "-o", f"two.{form}", "-q").output == ""
    one, two, start = read(f"one.{form}"), read(f"two.{form}"), read(f"positive_a.{form}")
    assert one.notes == two.notes == start.notes == (None if form == "pt" else {"format": "pt"})
    assert list(one.entries) == list(start.entries)
    for name, x in one.entries.items():
        assert torch.allclose(x, two.entries[name], rtol=1e-12) and x.dtype == start.entries[name].dtype
    assert not torch.equal(one.entries["a"], start.entries["a"])
    assert torch.equal(one.entries["other"], start.entries["other"])
    rows, columns = one.entries["a"].norm(dim=1), one.entries["b"].norm(dim=0)
    assert torch.allclose(rows, columns, rtol=1e-12)


def test_what_was_done_as_json_and_in_detail() -> None:
    told = json.loads(call("canonicalize", "positive.py", "positive_a.pt", "-o", "one.pt", "--json").stdout)
    assert told["file"] == "one.pt" and list(told["scaled"]) == ["unit of a"] and told["formless"] == {}
    lines = call("canonicalize", "orthogonal.py", "orthogonal_a.pt", "-o", "two.pt", "-v").stdout.splitlines()
    assert lines == [
        "0 sites scaled, by a factor of at most 1", "1 site of rotations left as they are", "two.pt is written"
    ]  # fmt: skip
    assert torch.equal(read("two.pt").entries["a"], read("orthogonal_a.pt").entries["a"])


@pytest.mark.parametrize("name", NAMES)
def test_copies_are_at_no_distance_whatever_their_files(name: str) -> None:
    told = json.loads(call("distance", f"{name}.py", f"{name}_a.pt", f"{name}_moved.safetensors", "--json").stdout)
    assert told["relative"] <= 1e-12 and set(told["parameters"]) == {"a", "b", "other"}
    there, back = (
        json.loads(call("distance", f"{name}.py", f"{name}_{a}.pt", f"{name}_{b}.pt", "--json").stdout)
        for a, b in (("a", "b"), ("b", "moved"))
    )
    assert abs(there["value"] - back["value"]) <= 1e-12 * there["size"]
    lines = call("distance", f"{name}.py", f"{name}_a.pt", f"{name}_b.pt", "-v").stdout.splitlines()
    assert lines[0] == (
        f"{there['value']:.6g}, {there['relative']:.3g} of the size of the parameters, {there['size']:.6g}"
    )
    parts = [float(line.split()[0]) for line in lines[1:]]
    assert len(parts) == 3 and parts == sorted(parts, reverse=True)


# --- what is refused, and what is misuse


def test_a_checkpoint_of_another_model_is_refused() -> None:
    for words in (
        ("distance", "positive.py", "positive_a.pt", "orthogonal_a.pt"),
        ("canonicalize", "positive.py", "orthogonal_a.pt", "-o", "out.pt"),
    ):
        result = call(*words)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.endswith("has the shape (12, 7), compiled for (6, 5)\n"), result.stderr
    assert not Path("out.pt").exists()


@pytest.mark.parametrize(("words", "said"), [
    (("-o", "positive_b.pt"), "positive_b.pt is there already, and not of gaugec's making: --force replaces it"),
    (("-o", "nowhere/out.pt"), "cannot write nowhere/out.pt: there is no folder nowhere"),
    (("-o", "-"), "a checkpoint is no text: -o is for a file."),
    ((), "Missing option '-o' / '--output'."),
])  # fmt: skip
def test_where_nothing_can_be_written_no_work_is_done(words: tuple[str, ...], said: str) -> None:
    before = Path("positive_b.pt").read_bytes()
    Path("broken.pt").write_text("no checkpoint")
    result = call("canonicalize", "positive.py", "broken.pt", *words)
    assert result.exit_code == 2 and result.stderr.strip().splitlines()[-1] == f"Error: {said}"
    assert Path("positive_b.pt").read_bytes() == before


def test_force_replaces() -> None:
    assert call("canonicalize", "positive.py", "positive_a.pt", "-o", "positive_a.pt", "--force").exit_code == 0
    again = json.loads(call("canonicalize", "positive.py", "positive_a.pt", "-o", "x.pt", "--json").stdout)
    assert again["scaled"]["unit of a"] < 1 + 1e-12


def test_files_that_are_no_checkpoints_are_misuse() -> None:
    mend = "save a model's state_dict() by itself"
    Path("text.pt").write_text("no checkpoint")
    Path("odd.safetensors").write_bytes(b"\x05\0\0\0\0\0\0\0{oops")
    torch.save({"model": {"a": torch.ones(1)}, "step": 3}, "nested.pt")
    torch.save([torch.ones(1)], "list.pt")
    for file, said in (
        ("text.pt", "text.pt is no checkpoint: torch.load(…, weights_only=True) says"),
        ("odd.safetensors", "odd.safetensors is no safetensors file: "),
        ("nested.pt", f"nested.pt holds no tensors by name but a dict of model, step: {mend}"),
        ("list.pt", f"list.pt holds no tensors by name but list: {mend}"),
    ):
        result = call("distance", "positive.py", "positive_a.pt", file)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith(f"gaugec: {said}"), result.stderr
    result = call("distance", "nets.py", "positive_a.pt", "positive_b.pt")
    assert result.exit_code == 2 and "'nets.py' does not exist" in result.stderr
    Path("nets.py").write_text("x = 1\n")
    result = call("distance", "nets.py", "positive_a.pt", "positive_b.pt")
    assert result.exit_code == 2
    assert result.stderr == "gaugec: nets.py is not a compiled gauge: it has no METADATA with a certificate\n"


@pytest.mark.parametrize("form", ["pt", "safetensors"])
def test_broken_files_end_in_a_line(form: str) -> None:
    """Cut off, or with a byte changed: read as it is, refused, or misuse; never a traceback, nor a defect."""
    whole, random = Path(f"positive_b.{form}").read_bytes(), Random(form)
    for number in range(40):
        broken = bytearray(whole)
        if number % 4:
            broken[random.randrange(len(broken) if number % 2 else 200)] ^= 1 << random.randrange(8)
        else:
            del broken[random.randrange(len(broken)) :]
        Path(f"broken.{form}").write_bytes(broken)
        result = call("distance", "positive.py", "positive_a.pt", f"broken.{form}")
        assert result.exit_code in (0, 1, 2) and "defect" not in result.stderr, result.stderr
        assert result.exit_code == 0 or result.stderr.startswith("gaugec: "), result.stderr


def sharded(folder: str, values: dict[str, torch.Tensor]) -> str:
    """A checkpoint in two files and an index, as transformers writes it."""
    from safetensors.torch import save_file

    Path(folder).mkdir()
    files = {entry: f"model-{i % 2 + 1}-of-2.safetensors" for i, entry in enumerate(values)}
    for name in set(files.values()):
        save_file({e: values[e] for e in values if files[e] == name}, f"{folder}/{name}", metadata={"format": "pt"})
    index = f"{folder}/model.safetensors.index.json"
    Path(index).write_text(json.dumps({"metadata": {"total_size": 7}, "weight_map": files}), encoding="utf-8")
    return index


def test_a_checkpoint_in_several_files() -> None:
    whole = read("positive_a.safetensors")
    index = sharded("shards", whole.entries)
    result = call("distance", "positive.py", index, "positive_moved.pt", "--json")
    assert json.loads(result.stdout)["relative"] < 1e-12
    Path("out").mkdir()
    assert call("canonicalize", "positive.py", index, "-o", "out/m.index.json", "-q").output == ""
    assert call("canonicalize", "positive.py", index, "-o", "one.safetensors", "-q").output == ""
    assert call("canonicalize", "positive.py", "positive_a.safetensors", "-o", "two.safetensors", "-q").output == ""
    again, one, two = read("out/m.index.json"), read("one.safetensors"), read("two.safetensors")
    assert (again.files, again.head) == (read(index).files, {"metadata": {"total_size": 7}})
    for entry, x in two.entries.items():
        assert torch.equal(x, again.entries[entry]) and torch.equal(x, one.entries[entry])
    Path("out/m.index.json").unlink()
    result = call("canonicalize", "positive.py", index, "-o", "out/m.index.json")
    assert result.exit_code == 2 and "out/model-1-of-2.safetensors is there already" in result.stderr


@pytest.mark.parametrize(
    "text, message",
    [
        ("{", "is no index of a checkpoint: it has no weight_map of names to files"),
        ('{"a": 1}', "is no index of a checkpoint: it has no weight_map of names to files"),
        ('{"weight_map": {"a": "../x"}}', "no index of a checkpoint: its files stand beside it, by their names alone"),
        ('{"weight_map": {"a": "none.safetensors"}}', "none.safetensors"),
        ('{"weight_map": {"x": "positive_a.safetensors"}}', "x is in positive_a.safetensors, which has it not"),
    ],
)
def test_an_index_that_is_none(text: str, message: str) -> None:
    Path("bad.index.json").write_text(text, encoding="utf-8")
    result = call("distance", "positive.py", "positive_a.pt", "bad.index.json")
    assert result.exit_code == 2 and message in result.stderr and "Traceback" not in result.stderr


def test_without_safetensors_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "safetensors", None)
    result = call("distance", "positive.py", "positive_a.pt", "positive_b.safetensors")
    assert (result.exit_code, result.stderr) == (
        2, "gaugec: a .safetensors file needs safetensors: pip install 'gaugec[checkpoints]'\n"
    )  # fmt: skip
