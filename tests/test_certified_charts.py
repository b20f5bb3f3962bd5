"""Charts in a certificate: written with the names that a site reads, shown in the report, and compared by a recheck."""

from __future__ import annotations

import copy
import re
from collections import OrderedDict
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import gaugec
from gaugec.certificate import read as reading
from gaugec.certificate import write as certificate
from gaugec.pipeline.compiled import CompiledGauge
from gaugec.runtime import DDCAdamW
from gaugec.runtime.certificate import NOTHING, folded, unfolded
from gaugec.runtime.coordinates import in_chart
from gaugec.runtime.optimizer import GaugeOptimizer
from gaugec.runtime.seal import sealed
from gaugec.sites import Chart, Factor, Summand

SMALL = """architecture small:
    "What a layer norm and its reader trade."
    use bias_forward from biases
    use reader_shift_bias from readers
"""
STREAM = """architecture turning:
    "The basis of a stream, and what no norm sees."
    use stream_rotation_ln, writer_shift from stream
"""


class Stream(nn.Module):
    """Layers behind norms, with positions."""

    def __init__(self, layers: int = 3) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(11, 6), nn.Linear(6, 11, bias=False)
        self.norms = nn.ModuleList([nn.LayerNorm(6) for _ in range(layers + 1)])
        self.ups = nn.ModuleList([nn.Linear(6, 5) for _ in range(layers)])
        self.downs = nn.ModuleList([nn.Linear(5, 6) for _ in range(layers)])

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.table(tokens)
        for norm, up, down in zip(self.norms, self.ups, self.downs):
            x = x + down(F.silu(up(norm(x))))
        return self.head(self.norms[-1](x))


def reader() -> tuple[nn.Module, tuple[Tensor]]:
    torch.manual_seed(0)
    return nn.Sequential(nn.LayerNorm(5), nn.Linear(5, 4)), (torch.randn(3, 5),)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the specs, and with the gauge of a layer norm and its reader."""
    folder = tmp_path_factory.mktemp("charts")
    (folder / "small.gauge").write_text(SMALL)
    (folder / "turning.gauge").write_text(STREAM)
    gaugec.compile(folder / "small.gauge", *reader()).save(folder / "small.py")
    return folder


@pytest.fixture(scope="module")
def stream(home: Path) -> CompiledGauge:
    torch.manual_seed(0)
    return gaugec.compile(home / "turning.gauge", Stream(), (torch.randint(0, 11, (4, 7)),))


def says(result: Any, name: str) -> tuple[str, str]:
    return next((check.verdict, check.says) for check in result.checks if check.name == name)


# --- what stands there


def read_back(binding: dict[str, Any], reads: list[str]) -> Chart:
    factors = [
        Factor(reads[each["gain"]], each["offset"], each["axes"], Fraction(each["power"]), each["shift_by"])
        for each in binding["factors"]
    ]
    summands = [
        Summand(
            reads[each["weight"]] if each["weight"] != NOTHING else "", each["weight_offset"], reads[each["bias"]],
            each["bias_offset"], each["kept"], each["summed"], Fraction(each["coefficient"]), each["offset"],
        )
        for each in binding["sums"]
    ]  # fmt: skip
    return Chart(tuple(factors), tuple(summands))


def compared(gauge: CompiledGauge) -> int:
    """How many charts there are; each stands in the certificate as it is, with the names of its own site."""
    whole = unfolded(gauge.metadata)
    charts = 0
    for site, said in zip(gauge.sites, whole["sites"], strict=True):
        assert (site.gauge, site.index) == (said["gauge"], said["index"])
        assert set(site.held) == set(said["held"]) and len(set(said["reads"])) == len(said["reads"])
        for binding, numbers in zip(site.bindings, whole["layouts"][said["layout"]]["bindings"], strict=True):
            assert read_back(numbers, said["reads"]) == binding.chart
            assert (numbers["move"], Fraction(numbers["exponent"])) == (binding.move.kind, binding.move.exponent)
            charts += bool(binding.chart)
    again = folded(whole)
    assert all(again[key] == gauge.metadata[key] for key in ("sites", "layouts"))
    return charts


def test_every_chart_is_there_with_the_names_of_its_site(home: Path, stream: CompiledGauge) -> None:
    assert compared(gaugec.compile(home / "small.gauge", *reader())) == 3
    assert compared(stream) == 8
    (turned,) = [site for site in unfolded(stream.metadata)["sites"] if site["gauge"] == "stream_rotation_ln"]
    assert turned["held"] == turned["reads"] == [f"norms.{layer}.weight" for layer in range(4)]


def test_a_site_without_a_chart_says_nothing_of_one(stream: CompiledGauge) -> None:
    bare = [entry for entry in stream.metadata["sites"] if entry["gauge"] == "writer_shift"]
    assert bare and not any("reads" in entry for entry in bare)
    numbers = [binding for entry in bare for binding in stream.metadata["layouts"][entry["layout"]]["bindings"]]
    assert not any({"factors", "sums"} & set(binding) for binding in numbers)


# --- what is shown


def test_the_report_shows_charts_and_what_is_held(home: Path) -> None:
    gauge = gaugec.runtime.load(home / "small.py")
    for explain, deep in ((False, ""), (True, "  ")):
        text = gauge.report(explain=explain)
        for line in (
            "    B = 1.bias [1, 1, 4]\n",
            "      in the chart plus 1.weight times 0.bias, summed over 5: stands still\n",
            "    W = 1.weight [1, 5, 4]\n",
            "      in the chart times 0.weight [1, 5, 1]\n",
            "    holds 0.weight, 0.bias\n",
        ):
            assert f"\n{deep}{line}" in text
    assert "  0.weight: it is held by reader_shift_bias, and not stepped\n" in gauge.report()


def test_of_a_stream_the_layers_are_ranges(home: Path, stream: CompiledGauge) -> None:
    text = stream.report()
    for line in (
        "    W = downs.{0..2}.weight [1, 6, 5]\n",
        "    b = norms.{0..3}.bias [1, 6, 1]\n      in the chart divided by norms.{0..3}.weight [1, 6, 1]\n",
        "    U = ups.{0..2}.weight [1, 6, 5]\n      in the chart times norms.{0..2}.weight [1, 6, 1]\n",
        "    U = head.weight [1, 6, 11]\n      in the chart times norms.3.weight [1, 6, 1]\n",
        "    holds norms.{0..3}.weight\n",
    ):
        assert f"\n{line}" in text
    each = stream.report(explain=True)
    for layer in range(3):
        one = f"      U = ups.{layer}.weight [1, 6, 5]\n        in the chart times norms.{layer}.weight [1, 6, 1]\n"
        assert f"\n{one}" in each


def test_what_the_report_holds_an_optimizer_holds(home: Path) -> None:
    model, _ = reader()
    gauge = gaugec.runtime.load(home / "small.py")
    optimizer: GaugeOptimizer = DDCAdamW(model.named_parameters(), gauge)
    held = {name for site in unfolded(gauge.metadata)["sites"] for name in site["held"]}
    assert held == set(optimizer.held) == {"0.weight", "0.bias"}


def test_a_brace_in_a_name_is_no_range(tmp_path: Path) -> None:
    """In ranges it is written twice; site by site it stands as it is."""
    (tmp_path / "small.gauge").write_text(SMALL)
    model, args = reader()
    named = nn.Sequential(OrderedDict([("{0}", model[0]), ("of {", model[1])]))
    gauge = gaugec.compile(tmp_path / "small.gauge", named, args)
    assert compared(gauge) == 3
    assert "\n      in the chart times {{0}}.weight [1, 5, 1]\n" in gauge.report()
    assert "\n    holds {{0}}.weight, {{0}}.bias\n" in gauge.report()
    assert "\n        in the chart times {0}.weight [1, 5, 1]\n" in gauge.report(explain=True)
    assert "\n      holds {0}.weight, {0}.bias\n" in gauge.report(explain=True)


class Attention(nn.Module):
    """One head; its values are a third of a fused map, with a bias that moves into the one behind."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.back = nn.Linear(4, 12), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.inside(x).split(4, -1)
        return self.back(torch.softmax(q @ k.mT / 2, -1) @ v)


def test_a_part_that_is_held_is_called_one(tmp_path: Path) -> None:
    path = tmp_path / "one.gauge"
    path.write_text('architecture one:\n    "Biases."\n    use bias_forward from biases\n')
    text = gaugec.compile(path, Attention(), (torch.randn(3, 5, 4),)).report()
    assert "\n      in the chart plus back.weight times inside.bias from 8, summed over 4: stands still\n" in text
    assert "\n    holds inside.bias (a part)\n" in text


class Reader(nn.Module):
    """A norm whose gains are 1 + w, and a map that reads it: all of one, or behind four rows of a fused one."""

    def __init__(self, start: int) -> None:
        super().__init__()
        self.gain, self.bias = nn.Parameter(torch.randn(6) / 5), nn.Parameter(torch.randn(6))
        self.map, self.start = nn.Linear(6, start + 4), start

    def forward(self, x: Tensor) -> Tensor:
        normed = F.layer_norm(x, (6,), 1 + self.gain, self.bias)
        weight, bias = self.map.weight, self.map.bias
        y = F.linear(normed, weight[self.start :], bias[self.start :])
        return y * F.linear(x, weight[: self.start], bias[: self.start]) if self.start else y


def test_of_gains_around_one(home: Path) -> None:
    gauge = gaugec.compile(home / "small.gauge", Reader(0), (torch.randn(3, 6),))
    assert compared(gauge) == 3
    assert "\n    W = map.weight [1, 6, 4]\n      in the chart times (1 + gain) [1, 6, 1]\n" in gauge.report()
    assert "\n    holds gain, bias\n" in gauge.report()


def test_what_is_added_to_a_part_begins_there(tmp_path: Path) -> None:
    path = tmp_path / "one.gauge"
    path.write_text('architecture one:\n    "Biases."\n    use bias_forward from biases\n')
    gauge = gaugec.compile(path, Reader(4), (torch.randn(3, 6),))
    assert compared(gauge) == 1
    ((_, taken),) = [layout["bindings"] for layout in gauge.metadata["layouts"]]
    assert (taken["offset"], taken["sums"][0]["offset"], taken["sums"][0]["weight_offset"]) == (4, 4, 24)
    assert (
        "\n    B = map.bias [1, 1, 4] from 4\n"
        "      in the chart plus map.weight from 24 times bias, summed over 6: stands still\n"
    ) in gauge.report()


@pytest.mark.parametrize(
    ("chart", "words"),
    [
        ({"factors": [{"gain": 0, "offset": 3, "axes": ((5, 1, 1),), "power": "2", "shift_by": 0.0}]},
         "times g from 3**2 [1, 5, 1]"),
        ({"factors": [{"gain": 0, "offset": 0, "axes": ((4, 5, 1),), "power": "-1/2", "shift_by": 1.0}]},
         "times (1 + g)**(-1/2) [1, 1, 4]"),
        ({"factors": [{"gain": 0, "offset": 0, "axes": (), "power": "1", "shift_by": 0.0},
                      {"gain": 1, "offset": 0, "axes": ((5, 1, 1),), "power": "-1", "shift_by": 0.0}]},
         "times g [1, 1, 1], divided by h [1, 5, 1]"),
        ({"sums": [{"weight": NOTHING, "weight_offset": 0, "bias": 1, "bias_offset": 2, "kept": ((5, 1, 0, 1),),
                    "offset": 0, "summed": (), "coefficient": "-1"}]}, "minus h from 2"),
        ({"sums": [{"weight": 0, "weight_offset": 7, "bias": 1, "bias_offset": 0, "kept": ((5, 1, 0, 1),),
                    "summed": ((3, 1, 1), (2, 3, 3)), "coefficient": "1/2"}]},
         "plus 1/2 times g from 7 times h, summed over 3*2"),
    ],
)  # fmt: skip
def test_charts_in_words(chart: dict[str, Any], words: str) -> None:
    binding = {"copies": (), "group": ((5, 1),), "rest": ((4, 5),), "move": "shift", "factors": [], "sums": []}
    assert in_chart({**binding, **chart}, ["g", "h"]) == [f"in the chart {words}"]
    assert in_chart({**binding, **chart, "move": "still"}, ["g", "h"]) == [f"in the chart {words}: stands still"]
    assert in_chart(binding, ["g", "h"]) == []


# --- what is found


def weight(said: dict[str, Any]) -> dict[str, Any]:
    """The reader's weight, which is shifted."""
    return said["layouts"][1]["bindings"][0]


def factor(said: dict[str, Any]) -> dict[str, Any]:
    """The norm's gain in its chart."""
    return weight(said)["factors"][0]


def summand(said: dict[str, Any]) -> dict[str, Any]:
    """The chart of the reader's bias, plus its weight times the norm's bias."""
    return said["layouts"][1]["bindings"][1]["sums"][0]


def site(said: dict[str, Any]) -> dict[str, Any]:
    (found,) = [entry for entry in said["sites"] if entry["gauge"] == "reader_shift_bias"]
    return found


Edit = Callable[[dict[str, Any]], Any]
EDITS: dict[str, tuple[Edit, str]] = {
    "power": (lambda said: factor(said).update(power="-1"),
              "charts, W = 1.weight is `'in the chart divided by 0.weight [1, 5, 1]'` in the certificate, "
              "`'in the chart times 0.weight [1, 5, 1]'` now"),
    "no factor": (
        lambda said: (weight(said).pop("factors"), summand(said).update(weight=0, bias=1), site(said)["reads"].pop(0)),
        "charts, W = 1.weight is `'none'` in the certificate"),
    "another gain": (lambda said: site(said)["reads"].__setitem__(0, "1.bias"),
                     "`'in the chart times 1.bias [1, 5, 1]'` in the certificate"),
    "another axis": (lambda said: factor(said).update(axes=((4, 5, 1),)),
                     "`'in the chart times 0.weight [1, 1, 4]'` in the certificate"),
    "another stride": (
        lambda said: factor(said).update(axes=((5, 1, 0),)),
        "layout, bindings[0], factors[0], axes is `((5, 1, 0),)` in the certificate, `((5, 1, 1),)` now"),
    "an offset": (lambda said: factor(said).update(offset=1), "times 0.weight from 1 [1, 5, 1]"),
    "one more": (lambda said: factor(said).update(shift_by=1.0), "times (1 + 0.weight) [1, 5, 1]"),
    "coefficient": (lambda said: summand(said).update(coefficient="-1"),
                    "charts, B = 1.bias is `'in the chart minus 1.weight times 0.bias, summed over 5: stands still'`"),
    "another bias": (lambda said: site(said)["reads"].__setitem__(2, "0.other"), "1.weight times 0.other, summed"),
    "no weight": (lambda said: (summand(said).pop("weight"), summand(said).update(bias=1), site(said)["reads"].pop(1)),
                  "plus 0.bias, summed over 5"),
    "nothing summed": (lambda said: summand(said).pop("summed"), "plus 1.weight times 0.bias: stands still"),
    "a bias in strides": (lambda said: summand(said).update(summed=((5, 1, 2),)),
                          "layout, bindings[1], sums[0], summed is `((5, 1, 2),)` in the certificate"),
    "where the weight begins": (lambda said: summand(said).update(weight_offset=2), "1.weight from 2 times 0.bias"),
    "where it is added": (lambda said: summand(said).update(offset=1),
                          "layout, bindings[1], sums[0], offset is `1` in the certificate, `0` now"),
    "coefficient of the shift": (lambda said: weight(said).update(exponent="-1"),
                                 "layout, bindings[0], exponent is `'-1'` in the certificate, `'1'` now"),
    "the order of what is read": (
        lambda said: (site(said)["reads"].reverse(), factor(said).update(gain=2), summand(said).update(bias=0)),
        "reads[0] is `'0.bias'` in the certificate, `'0.weight'` now"),
}  # fmt: skip


def edited(home: Path, path: Path, edit: Edit) -> Path:
    """The compiled file with another certificate, and the hash that it has then."""
    source = (home / "small.py").read_text()
    said = copy.deepcopy({key: reading.read(home / "small.py").metadata[key] for key in ("sites", "layouts")})
    edit(said)
    path.write_text(sealed(certificate.restated(source, said)))
    assert path.read_text() != source
    return path


@pytest.mark.parametrize("case", EDITS)
def test_an_edited_chart_is_found_and_said(home: Path, tmp_path: Path, case: str) -> None:
    edit, words = EDITS[case]
    result = gaugec.recheck(edited(home, tmp_path / "small.py", edit), *reader(), spec=home / "small.gauge")
    assert says(result, "file")[0] == says(result, "proofs")[0] == says(result, "model")[0] == "ok", "its hash is right"
    verdict, text = says(result, "sites")
    assert verdict == "differs" and text.startswith("first difference: reader_shift_bias 0 at 1: "), str(result)
    assert words in text
    assert says(result, "code")[0] == "differs"


def test_a_chart_that_was_not_touched_is_no_difference(home: Path) -> None:
    result = gaugec.recheck(home / "small.py", *reader(), spec=home / "small.gauge")
    assert result.ok, str(result)


DAMAGED: dict[str, tuple[Edit, str]] = {
    "a gain of no name": (lambda said: factor(said).update(gain=3),
                          'METADATA["sites"][1] has not one name for everything that the charts of its layout read'),
    "a weight below none": (lambda said: summand(said).update(weight=-2), "has not one name for everything"),
    "a name that no chart reads": (lambda said: site(said)["reads"].append("h"), "has not one name for everything"),
    "no names": (lambda said: site(said).pop("reads"), "has not one name for everything"),
    "an axis of something else": (
        lambda said: factor(said).update(axes=((7, 1, 1),)),
        'METADATA["layouts"][1]["bindings"][0] has a chart along axes that it has not'),
    "a sum along no axis": (
        lambda said: summand(said).update(kept=((4, 2, 5, 0),)), "a chart along axes that it has not"),
    "two numbers": (lambda said: factor(said).update(axes=((5, 1),)), "is no tuple of axes of three numbers"),
    "three numbers": (lambda said: summand(said).update(kept=((4, 1, 5),)), "is no tuple of axes of four numbers"),
    "a power that is a number": (lambda said: factor(said).update(power=1), '["power"] is no str'),
    "no gain": (lambda said: factor(said).pop("gain"), "the field 'gain' is missing"),
    "more": (lambda said: summand(said).update(more=1), "the field 'more' is not known"),
    "a gain for a list": (lambda said: weight(said).update(factors=(0,)), '["factors"] is no list'),
    "a name that is a number": (lambda said: site(said)["reads"].__setitem__(0, 1), '["reads"][0] is no str'),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_chart_is_told(home: Path, tmp_path: Path, case: str) -> None:
    edit, words = DAMAGED[case]
    with pytest.raises(reading.NotCompiled, match=re.escape(words)):
        gaugec.recheck(edited(home, tmp_path / "small.py", edit))
