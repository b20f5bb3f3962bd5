"""Counting dead directions: models whose number is known by hand, what the gauges explain of it, and doubt."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

import gaugec
from gaugec.cli import main
from gaugec.groups import GROUPS, Group
from gaugec.pipeline.audit import counted as audited
from gaugec.sites import Binding, Move, Site
from gaugec.tracing.trace import trace
from gaugec.witness import bases, rank
from gaugec.witness.jacobian import Jacobian, lengthened, looked_up, replaced_eps, unmasked, vocabularies
from gaugec.witness.rank import FLOOR, cut
from gaugec.witness.tangents import dimension, tangents


class Net(nn.Module):
    """Seven units with biases: seven scales are dead; and a table of which half is read."""

    def __init__(self, more: bool = False) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(4, 7), nn.Linear(7, 3)
        self.extra = nn.Parameter(torch.randn(2, 5)) if more else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.down(torch.relu(self.up(x)))
        return y if self.extra is None else y * self.extra[0, 0]


def counted(model: nn.Module, spec: str = "relu_mlp") -> gaugec.Audit:
    return gaugec.audit(spec, model, (torch.randn(6, 4),))


def test_a_complete_list() -> None:
    found = counted(Net())
    assert (found.parameters, found.nullity, found.orbit, found.unread, found.unexplained) == (59, 7, 7, 0, 0)
    assert found.clear and found.approximate == 0 and found.least < 1e-14 < found.alive and found.error < 1e-14
    shares = {share.parameter: share for share in found.shares}
    assert sum(share.dead for share in found.shares) == pytest.approx(7)
    assert all(share.explained == pytest.approx(share.dead, abs=1e-9) for share in found.shares)
    assert shares["down.bias"].dead == pytest.approx(0, abs=1e-12)


def test_what_is_not_read_and_what_no_gauge_explains() -> None:
    """Nine entries that nothing reads; and the factor's scale against the reader's, of which the spec knows nothing."""
    found = counted(Net(more=True))
    assert (found.nullity, found.orbit, found.unread, found.unexplained) == (17, 7, 9, 1)
    assert "17 dead directions: the gauges explain 7, 9 are entries that nothing reads, 1 are not" in found.text()
    (lair,) = found.carriers
    assert lair.directions == 1 and set(lair.parameters) == {"down.weight", "down.bias", "extra"}
    assert "1 unexplained direction lives in extra with down.weight with down.bias" in found.text()
    for share in found.shares:
        assert share.dead == pytest.approx(share.explained + share.unread + share.data + share.unexplained, abs=1e-9)
    assert {share.parameter: share.unread for share in found.shares if share.unread} == {"extra": 9}


def optional(folder: Path) -> str:
    """A spec that need not have a site."""
    path = folder / "optional.gauge"
    path.write_text('architecture optional:\n    "None."\n    use relu_rescale from mlp optional\n', encoding="utf-8")
    return str(path)


class Rare(nn.Module):
    """Four entries that one input in a hundred reads."""

    def __init__(self) -> None:
        super().__init__()
        self.often, self.rare = nn.Linear(4, 4, bias=False), nn.Parameter(torch.randn(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.often(x) + torch.relu(x[:, :1] - 2.3) * self.rare


def test_inputs_are_added_until_the_count_stands_still(tmp_path: Path) -> None:
    traced = trace(Rare(), (torch.tensor([[1.0, -1, 1, -1], [-1, 1, -1, 1]]),))
    point = rank.generic(traced, traced.shapes)
    jacobian = Jacobian(traced, point, traced.shapes)
    assert not jacobian.rows(23)[:, :4].any()  # as many as would do if every input read all
    for count in (rank.dead, rank.beside):
        found = count(Jacobian(traced, point, traced.shapes))
        assert not len(found.null) and not len(found.unread) and found.rows > 23


def test_rows_at_once_are_rows_one_by_one() -> None:
    traced = trace(Net(more=True), (torch.randn(6, 4),))
    point = rank.generic(traced, traced.shapes)
    one, other = Jacobian(traced, point, traced.shapes), Jacobian(traced, point, traced.shapes)
    other._together = False
    assert torch.allclose(one.rows(40), other.rows(40), atol=1e-14) and one._together


class Table(nn.Module):
    """A table of fewer rows than their length, and a longer reader.

    F = E W^T has 21 entries, E and W have 50: 29 are dead. Only the 25 of E M, W M^-T are so at every vocabulary.
    """

    def __init__(self, padding: int | None = None) -> None:
        super().__init__()
        self.table, self.reader = nn.Embedding(3, 5, padding_idx=padding), nn.Linear(5, 7, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.reader(self.table(tokens.view(-1)))


@pytest.mark.parametrize("padding", [None, 1])
def test_what_comes_from_the_data(tmp_path: Path, padding: int | None) -> None:
    found = gaugec.audit(optional(tmp_path), Table(padding), (torch.tensor([[0, 1, 2, 1], [2, 2, 0, 1]]),))
    assert (found.nullity, found.orbit, found.unread, found.data, found.unexplained) == (29, 0, 0, 4, 25)
    assert any("table.weight has 3 rows of length 5" in note for note in found.notes)
    lairs = [({"reader.weight"}, 10), ({"table.weight", "reader.weight"}, 15)]  # 10 of the M have E M = 0
    assert [(set(c.parameters), c.directions) for c in found.carriers] == lairs
    assert "4 come from the data" in found.text()
    assert sum(share.data for share in found.shares) == pytest.approx(4)


def test_a_graph_is_as_it_was() -> None:
    traced = trace(Table(1), (torch.tensor([[0, 1, 2, 1], [2, 2, 0, 1]]),))
    assert vocabularies(traced) == {"table.weight": ("tokens", 3, 5)}
    before = str(traced.program.graph)
    with unmasked(traced.program.graph_module), lengthened(traced, {"table.weight"}) as made:
        assert list(made.values()) == ["table.weight"] and str(traced.program.graph) != before
    assert str(traced.program.graph) == before


class Picks(Table):
    """The tokens pick logits too: there are no more tokens than that."""

    def forward(self, tokens: Tensor) -> Tensor:
        return super().forward(tokens).gather(1, tokens.view(-1, 1))


def test_what_also_picks_has_no_larger_vocabulary() -> None:
    assert vocabularies(trace(Picks(), (torch.tensor([[0, 1, 2, 1], [2, 2, 0, 1]]),))) == {}


def test_beside_what_is_known_the_same_is_found() -> None:
    """All singular values, none of them, and none beside a part of what is dead."""
    traced = trace(Net(more=True), (torch.randn(6, 4),))
    point = rank.generic(traced, traced.shapes)
    whole = rank.dead(Jacobian(traced, point, traced.shapes, 0.1))
    for known in (None, whole.null[:5]):
        found = rank.beside(Jacobian(traced, point, traced.shapes, 0.1), known)
        assert len(found.null) == len(whole.null) == 17 and found.clear
        assert found.alive == pytest.approx(whole.alive, rel=1e-3) and found.least < 1e-13
        assert not len(bases.apart(found.null, whole.null))
    alive = rank.beside(Jacobian(traced, point, traced.shapes, 0.1), torch.eye(len(whole.null[0]))[:1].double())
    assert not alive.clear  # what is said to be known is not dead


@pytest.mark.parametrize("group", GROUPS.values(), ids=list(GROUPS))
def test_the_tangents_are_as_many_as_the_group_has(group: Group) -> None:
    """Two copies on a parameter of full rank, which nothing of the group leaves where it is."""
    k, kind = 6, {"rotate": "rotate", "scale": "scale", "shift": "shift"}[group.kind]
    binding = Binding("W", "w", 0, ((2, 6 * 8),), ((6, 8),), ((8, 1),), Move(kind))
    pairing = "halves" if group.paired else ""
    site = Site("g", 0, group.name, 2, k, pairing, 6 if group.paired else 0, (binding,), (), "proved", "", "", ())
    point = {"w": torch.randn(2, 6, 8, dtype=torch.float64), "other": torch.ones(3, dtype=torch.float64)}
    found = tangents(point, site, {"other": (3,), "w": (2, 6, 8)})
    assert found.shape == (dimension(site), 3 + 96) and not found[:, :3].any()
    assert len(bases.span(found)) == dimension(site) == 2 * group.dimension(8 if kind == "shift" else k)


def test_a_large_model_is_counted_on_its_twin() -> None:
    def net(width: int, units: int) -> tuple[nn.Module, tuple[Tensor]]:
        return nn.Sequential(nn.Linear(width, units), nn.ReLU(), nn.Linear(units, 3)), (torch.randn(5, width),)

    found = gaugec.audit("relu_mlp", *net(160, 62), twin=net(4, 7))
    assert (found.parameters, found.nullity, found.orbit) == (59, 7, 7)
    large = found.scaled
    assert large is not None and (large.parameters, large.orbit, large.exact) == (10171, 62, True)
    assert [(g.gauge, g.sites, g.formula, g.large) for g in found.gauges if g.sites] == [("relu_rescale", 1, 7, 62)]
    assert "counted on a twin of 59 parameters: of the 10,171 of Sequential the gauges explain 62" in found.text()
    assert "62 dead directions" in found.html() and "in the large model" in found.html()
    left = replace(found, unexplained=1)
    assert "how many more there are is not known" in left.text()


def test_what_is_not_dead_explains_nothing() -> None:
    """A site of which one parameter moves the wrong way."""
    compiled = gaugec.compile("relu_mlp", Net(), (torch.randn(6, 4),))
    (site,) = compiled.sites
    one, *others = site.bindings
    compiled.sites = (replace(site, bindings=(replace(one, move=Move("scale", -one.move.exponent)), *others)),)
    found = audited(compiled, "Net")
    assert (found.nullity, found.orbit, found.unexplained, found.clear) == (7, 0, 7, False) and found.error > 1e-3
    assert "a tangent of relu_rescale moves the outputs" in found.text()


def test_doubt_is_said() -> None:
    found = replace(counted(Net()), clear=False)
    assert "NO CLEAR GAP" in found.text()
    assert "the count is in doubt" in found.html() and "rows that were not looked at" not in found.html()


def test_singular_values_are_cut_at_the_gap() -> None:
    assert cut(torch.tensor([1.0, 1e-3, 1e-6, 1e-15, 1e-16], dtype=torch.float64)) == (3, 1e-15, 1e-6)
    assert cut(torch.tensor([1.0, 1e-3], dtype=torch.float64)) == (2, 0.0, 1e-3)
    rank, least, alive = cut(torch.logspace(0, -16, 17, dtype=torch.float64))  # no gap anywhere
    assert alive / least < 1e3 and least <= FLOOR * 10 and rank < 17


class Norms(nn.Module):
    """An eps of each kind, one number that is none, and a table."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.norm, self.rms = nn.Embedding(9, 6), nn.LayerNorm(6), nn.RMSNorm(6)

    def forward(self, tokens: Tensor, x: Tensor) -> Tensor:
        y = self.rms(self.norm(self.table(tokens))) + x
        y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + 1e-6)
        return (y + 1e-6).exp()


def test_every_eps_is_replaced_and_nothing_else() -> None:
    traced = trace(Norms(), (torch.tensor([[1, 2], [3, 4]]), torch.randn(2, 2, 6)))
    assert looked_up(traced.graph) == {"tokens": 9}
    before = str(traced.program.graph)
    with replaced_eps(traced.program.graph_module, 0.1) as count:
        text = str(traced.program.graph)
    assert count == 3 == text.count("0.1") and text.count("1e-06") == 1
    assert str(traced.program.graph) == before


def test_a_large_model_is_refused() -> None:
    large = nn.Sequential(nn.Linear(160, 62), nn.ReLU(), nn.Linear(62, 3))
    with pytest.raises(gaugec.MatchError, match=r"the model has 10,171 parameters, and 10,000 are counted at most"):
        gaugec.audit("relu_mlp", large, (torch.randn(2, 160),))


def test_the_command(tmp_path: Path) -> None:
    path = tmp_path / "m.py"
    path.write_text(
        "import torch\nfrom torch import nn\n\ndef net():\n"
        "    return nn.Sequential(nn.Linear(4, 7), nn.ReLU(), nn.Linear(7, 3)), (torch.randn(6, 4),)\n",
        encoding="utf-8",
    )
    result = CliRunner().invoke(main, ["audit", "relu_mlp", f"{path}:net"])
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("59 parameters have 7 dead directions: the gauges explain 7, 0 are entries that")
    told = json.loads(CliRunner().invoke(main, ["audit", "relu_mlp", f"{path}:net", "--json"]).stdout)
    assert (told["nullity"], told["orbit"], told["unexplained"], told["clear"]) == (7, 7, 0, True)
    assert told["gauges"][0]["gauge"] and told["shares"][0]["entries"] == 28


def test_the_command_writes_a_page(tmp_path: Path) -> None:
    path, page = tmp_path / "m.py", tmp_path / "audit.html"
    path.write_text(
        "import torch\nfrom torch import nn\n\ndef net(h=7):\n"
        "    return nn.Sequential(nn.Linear(4, h), nn.ReLU(), nn.Linear(h, 3)), (torch.randn(6, 4),)\n\n"
        "def large():\n    return net(20)\n",
        encoding="utf-8",
    )
    words = ["audit", "relu_mlp", f"{path}:large", "--twin", f"{path}:net", "--html"]
    page.write_text("of another making", encoding="utf-8")
    result = CliRunner().invoke(main, [*words, str(page)])
    assert result.exit_code == 2 and "--force replaces it" in result.stderr
    for extra in ("--force", "-q"):  # once it is there, it is gaugec's own
        result = CliRunner().invoke(main, [*words, str(page), extra])
        assert result.exit_code == 0, result.output
        assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert "20" in page.read_text(encoding="utf-8")
    result = CliRunner().invoke(main, [*words, "-"])
    assert result.stdout.startswith("<!doctype html>") and result.stdout.endswith("</html>\n")
    assert CliRunner().invoke(main, [*words, "-", "--json"]).exit_code == 2
