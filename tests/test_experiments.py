"""The experiments: what is on their page is what their records give, and runs are redone to the same numbers."""

from __future__ import annotations

import ast
import io
import subprocess
import sys
from pathlib import Path

import pytest

import gaugec
import gaugec.runtime
from experiments import grids, harness, page
from experiments.__main__ import main
from experiments.arms import Arm
from experiments.records import Record, Run, Unreadable, plain, read, read_all, write
from experiments.studies import symmetry, twins

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "experiments").rglob("*.py"))
SPEC = "architecture least:\n    use norm_gain from norms\n    use logit_shift from head\n"


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    """The study of symmetry, of one arm, one rate, two seeds and four steps of a model as small as can be."""
    sizes = symmetry.SIZES["llama"] | dict(hidden_size=8, intermediate_size=7, num_hidden_layers=1)
    monkeypatch.setattr(symmetry, "SIZES", {"llama": sizes})
    monkeypatch.setattr(symmetry, "ARMS", {"llama": symmetry.ARMS["llama"][:1]})
    monkeypatch.setattr(symmetry, "RATES", (1e-3,))
    monkeypatch.setattr(symmetry, "SEEDS", (0, 1))
    monkeypatch.setattr(symmetry, "STEPS", 4)
    monkeypatch.setattr(symmetry, "LOOK_EVERY", 2)


@pytest.mark.parametrize("name", harness.names())
def test_the_page_says_what_the_records_give(name: str) -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    assert len(read_all(harness.RESULTS / name)) > 1
    assert page.updated(text, name) == text


@pytest.mark.parametrize("name", harness.names())
def test_the_records_are_the_runs_that_are_wanted(name: str) -> None:
    """Nothing that was run is left out of the table, and nothing in it was not run; also of the reduced set."""
    records = read_all(harness.RESULTS / name)
    wanted = {run.name: plain(run.settings) for run in harness.study(name).wanted(records, False)}
    ours = {record.name: record.settings for record in records}
    for settings in (*wanted.values(), *ours.values()):
        settings.pop("text", None)  # of the Python that runs this
    assert ours == wanted
    assert {run.name for run in harness.study(name).wanted([], True)} <= set(ours)


def test_a_page_without_a_place_is_told() -> None:
    with pytest.raises(ValueError, match="has no <!-- table symmetry -->"):
        page.updated("# A page", "symmetry")


def test_what_is_done_is_not_done_again(little: None, tmp_path: Path) -> None:
    assert harness.run("symmetry", tmp_path, reduced=True) == 2
    first, second = sorted(tmp_path.glob("*.csv"))
    before, bytes_of_second = first.stat().st_mtime_ns, second.read_bytes()
    second.unlink()
    second.with_suffix(".part").write_text("what was cut off")
    assert harness.run("symmetry", tmp_path, processes=2, reduced=True) == 1
    assert first.stat().st_mtime_ns == before
    rows = bytes_of_second.split(b"\n")[3:]
    assert second.read_bytes().split(b"\n")[3:] == rows and len(rows) == 4
    assert harness.run("symmetry", tmp_path, reduced=True) == 0


def test_a_record_of_other_settings_is_not_taken(
    little: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", "symmetry", "--reduced", "--into", str(tmp_path)]
    assert main(words) == 0
    assert capsys.readouterr().out == f"symmetry: 2 runs were made; {tmp_path} has all that were wanted\n"
    monkeypatch.setattr(symmetry, "STEPS", 5)
    assert main(words) == 1
    said = "llama--AdamW--0.001--0.csv was made with other settings (steps): give another folder with --into, or take "
    assert capsys.readouterr().err == f"{said}the file away\n"


def test_a_run_is_redone_to_the_same_numbers(little: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a compiled optimizer, from the file alone."""
    settings = symmetry.settings("llama", Arm("least", "DDCAdamW", SPEC, {"orbit": "horizontal"}), 1e-2, 0)
    record = harness.redone("symmetry", Run("least", settings), tmp_path)
    write(tmp_path, record)
    path = tmp_path / "least.csv"
    back = read(path)
    assert (back.settings, back.made_with, back.figures, back.rows) == (
        plain(settings), record.made_with, record.figures, record.rows
    )  # fmt: skip
    assert back.figures["directions"] == 8 * 3 + 8 and 4 < back.figures["state bytes"] / back.figures["parameters"] < 9
    assert [row["step"] for row in back.rows] == [2, 4] and back.rows[0]["validation"] != back.rows[1]["validation"]
    monkeypatch.setattr(harness, "CACHE", tmp_path)
    assert main(["again", str(path)]) == 0
    digits = f"{record.rows[-1]['validation']!r}"
    path.write_text(path.read_text().replace(digits, "1.0"))
    assert main(["again", str(path)]) == 1


def test_a_file_that_is_no_record_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("step,training\n1,2\n")
    with pytest.raises(Unreadable, match="is not the record of a run"):
        read_all(tmp_path)
    (tmp_path / "x.csv").write_text("# settings: {}\n# made with: {}\n# figures: {}\nstep,training\n")
    with pytest.raises(Unreadable, match="it has no rows"):
        read_all(tmp_path)


def records(title: str, ends: dict[float, list[float]]) -> list[Record]:
    arm = {"title": title}
    return [
        Record(f"{title} {rate} {seed}", {"arm": arm, "rate": rate, "seed": seed}, {}, {}, ({"validation": end},))
        for rate, found in ends.items() for seed, end in enumerate(found)
    ]  # fmt: skip


def test_a_grid_whose_edge_is_best_grows_for_all() -> None:
    inner = records("inner", {1e-3: [2.0, 2.0], 2e-3: [1.0, 1.0], 4e-3: [3.0, float("nan")]})
    high = records("high", {1e-3: [2.0, 2.0], 2e-3: [1.5, 1.0], 4e-3: [0.5, 1.0]})
    grid = [1e-3, 2e-3, 4e-3]
    assert grids.best(inner, "validation") == 2e-3 and grids.best(high, "validation") == 4e-3
    assert grids.extended(grid, {"inner": inner}, "validation") == grid
    assert grids.extended(grid, {"inner": inner, "high": high}, "validation") == [*grid, 8e-3]
    assert grids.extended(grid, {"inner": inner, "high": high[:-2]}, "validation") == grid  # not all of it is run
    assert grids.extended(grid, {}, "validation") == grid


def test_runs_on_different_texts_make_no_table() -> None:
    done = read_all(harness.RESULTS / "symmetry")
    other = Record("x", {**done[0].settings, "text": "other"}, {}, {}, done[0].rows)
    with pytest.raises(Unreadable, match="on different texts"):
        symmetry.table([*done, other])


def test_a_plot_is_drawn_of_the_records(tmp_path: Path) -> None:
    done = read_all(harness.RESULTS / "twins")
    for name in ("one.svg", "two.svg"):
        twins.plot(done, tmp_path / name)
    drawn = (tmp_path / "one.svg").read_text(encoding="utf-8")
    assert drawn == (tmp_path / "two.svg").read_text(encoding="utf-8")
    kept = page.PAGE.with_name("experiments-twins.svg").read_text(encoding="utf-8")
    for arm, moved_by, _, _ in twins.drifts(done):
        assert f"{arm.title}; moved by {moved_by}" in drawn and f"{arm.title}; moved by {moved_by}" in kept


def test_twins_compute_the_same_and_are_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps of a smaller pair: what a gauge has moved stays together, what AdamW steps does not."""
    monkeypatch.setattr(twins, "STEPS", 2)
    monkeypatch.setattr(twins, "TASK", twins.TASK | {"prime": 13, "width": 8, "heads": 2, "depth": 1})
    monkeypatch.setattr(twins, "SPECS", {"rotations": twins.ROTATIONS})
    ends = {}
    for arm in (Arm("AdamW", "AdamW"), Arm("ours", "DDCAdamW", twins.ROTATIONS)):
        record = harness.redone("twins", Run(arm.slug, twins.settings(arm, "rotations", 0)), tmp_path)
        assert record.figures["moved by at most"] > 0.1 and [row["step"] for row in record.rows] == [1, 2]
        ends[arm.title] = record.last["drift"]
    assert ends["ours"] < 1e-12 < 1e-3 < ends["AdamW"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_told_on_a_terminal_and_not_in_a_pipe() -> None:
    for stream in (Terminal(), io.StringIO()):
        line = harness.Line(3, stream)
        line.finished("first")
        line.end()
        assert ("1 of 3 runs" in stream.getvalue()) == stream.isatty()
        assert bool(stream.getvalue()) == stream.isatty()


def test_it_runs_in_a_checkout_with_the_installed_package() -> None:
    words = [sys.executable, "-m", "experiments", "table", "symmetry", "--of", str(harness.RESULTS / "symmetry")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() and done.stdout.strip() in page.PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_experiments_use_what_is_public(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    public = {"gaugec": {"__version__", *gaugec.__all__}, "gaugec.runtime": {*gaugec.runtime.__all__}}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gaugec"):
            assert {alias.name for alias in node.names} <= public[node.module or ""]
        elif isinstance(node, ast.Import):
            assert {alias.name for alias in node.names if alias.name.startswith("gaugec")} <= set(public)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "gaugec":
            assert node.attr in public["gaugec"]
