"""What a compile assumed: what is recorded of the reads of a forward, and which change is told, in which words."""

from __future__ import annotations

import dataclasses
import functools
import gc
import os
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.nn import functional as F
from unit_scale import unit_scale

import gaugec
from gaugec.model.functions import listening
from gaugec.model.taken import Taken
from gaugec.pipeline import assumed as recording
from gaugec.runtime import DDCAdamW, load
from gaugec.runtime.assumed import in_words
from gaugec.runtime.certificate import unfolded
from gaugec.runtime.differences import differences
from gaugec.runtime.holders import parts
from gaugec.tracing.reads import Reads
from runtime import handmade

TEMPERATURE = 0.5
UNREAD = 1.0


@dataclasses.dataclass
class Options:
    scale: float = 2.0
    unread: int = 0


class Slots:
    __slots__ = ("scale",)

    def __init__(self) -> None:
        self.scale = 2.0


def scaled(factor: float) -> Callable[[Tensor], Tensor]:
    return lambda x: x * factor


class Net(nn.Module):
    """A ReLU layer whose output is scaled by what lies in many places."""

    slope = 3.0
    unread_slope = 1.0

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.up, self.down, self.drop = nn.Linear(5, 7), nn.Linear(7, 3), nn.Dropout(0.1)
        self.aux_weight, self.cap, self.unread = 0.0, None, 1
        self.options, self.space, self.slots = Options(), types.SimpleNamespace(scale=2.0), Slots()
        self.table, self.factors, self.names = {"scale": 2.0}, [1.0, 2.0], {"one"}
        self.act: Any = torch.relu
        self.after: Any = functools.partial(torch.mul, other=2.0)
        self.held: Any = scaled(2.0)

    def forward(self, x: Tensor, flag: bool = False, more: Tensor | None = None) -> Any:
        y = self.down(self.drop(self.act(self.up(x))))
        y = y * TEMPERATURE * Net.slope * self.options.scale * self.space.scale * self.slots.scale
        y = self.held(self.after(y * self.table["scale"] * self.factors[1])) + float("one" in self.names)
        y = y if self.cap is None else y.clamp(max=self.cap)
        y = y if more is None else y + more.sum()
        if self.aux_weight:
            return y, self.aux_weight * y.square().mean()
        return -y if flag else y


def inputs(rows: int = 4) -> Tensor:
    return torch.linspace(-1, 1, 5 * rows).reshape(rows, 5).sin()


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("settings") / "unit.gauge"
    path.write_text(unit_scale())
    return path


@pytest.fixture(scope="module")
def gauges(spec: Path) -> tuple[Any, Any]:
    """The gauge that was compiled, and the same loaded from its file."""
    compiled = gaugec.compile(spec, Net(), (inputs(),))
    compiled.save(spec.parent / "net.py")
    return compiled, load(spec.parent / "net.py")


def setting(name: str, value: Any) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        *way, last = name.split(".")
        setattr(functools.reduce(getattr, way, model), last, value)

    return change


def replaced_cell(model: Any) -> None:
    model.held.__closure__[0].cell_contents = 5.0


CHANGED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "a number": (setting("aux_weight", 0.1), "aux_weight was 0.0, is 0.1"),
    "None": (setting("cap", 4.0), "cap was None, is 4.0"),
    "it is gone": (lambda m: delattr(m, "cap"), "cap was None, is not there"),
    "dropout": (setting("drop.p", 0.2), "drop.p was 0.1, is 0.2"),
    "a mode": (lambda m: m.drop.eval(), "drop.training was True, is False"),
    "all modes": (lambda m: m.eval(), "the model is in eval mode, and was compiled as model.train() makes it"),
    "a dataclass": (setting("options.scale", 1.0), "options.scale was 2.0, is 1.0"),
    "a namespace": (setting("space.scale", 1), "space.scale was 2.0, is 1"),
    "slots": (setting("slots.scale", 1.0), "slots.scale was 2.0, is 1.0"),
    "another object": (setting("options", Options(7.0)), "options.scale was 2.0, is 7.0"),
    "a dict": (lambda m: m.table.update(scale=1.0), "table was {'scale': 2.0}, is {'scale': 1.0}"),
    "a list": (lambda m: m.factors.append(3.0), "factors was [1.0, 2.0], is [1.0, 2.0, 3.0]"),
    "a set": (lambda m: m.names.clear(), "names was {'one'}, is set()"),
    "a function": (setting("act", F.gelu), "act was torch:_VariableFunctionsClass.relu, is torch:gelu"),
    "its keyword": (
        setting("after", functools.partial(torch.mul, other=3.0)),
        "after was partial(torch:_VariableFunctionsClass.mul, other=2.0), "
        "is partial(torch:_VariableFunctionsClass.mul, other=3.0)",
    ),
    "a closure": (replaced_cell, "held.factor was 2.0, is 5.0"),
    "a hook": (
        lambda m: m.up.register_forward_hook(replaced_cell),
        f"up._forward_hooks was {{}}, is [{replaced_cell.__module__.partition('.')[0]}:replaced_cell]",
    ),
    "a module": (setting("drop", nn.Identity()), "drop.forward was torch:Dropout.forward, is torch:Identity.forward"),
    "frozen": (lambda m: m.down.requires_grad_(False), "down.bias was trained, is frozen"),
    "a parameter more": (
        lambda m: m.register_parameter("extra", nn.Parameter(torch.ones(1))),
        "the model has a parameter extra, which it had not",
    ),
    "a parameter less": (lambda m: m.down.register_parameter("bias", None), "the model has no parameter down.bias"),
    "a shape": (
        setting("down", nn.Linear(7, 4)), "down.weight had the shape (3, 7), has (4, 7)",
    ),
}  # fmt: skip


def test_a_closure_that_was_frozen_for_the_garbage_collector() -> None:
    held = scaled(2.0)
    gc.freeze()
    try:
        with listening() as ran:
            held(inputs())
        assert held in ran.closures()
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


@pytest.mark.parametrize(("change", "words"), CHANGED.values(), ids=CHANGED.keys())
def test_a_change_is_told(gauges: tuple[Any, Any], change: Callable[[Any], Any], words: str) -> None:
    model = Net()
    for gauge in gauges:
        assert gauge.holds(model) and str(gauge.holds(model)) == "all that was assumed holds"
    change(model)
    for gauge in gauges:
        found = gauge.holds(model)
        assert not found and words in found.differences and words in str(found).splitlines(), str(found)
    if words != CHANGED["all modes"][1]:
        with pytest.raises(ValueError, match="the model is not what the gauge was compiled with") as error:
            DDCAdamW(Net().named_parameters(), gauges[1], model=model)
        assert words in str(error.value) and "Compile again" in str(error.value)


def test_a_global_and_a_class_attribute_are_told(gauges: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model = Net()
    monkeypatch.setattr(sys.modules[__name__], "TEMPERATURE", 0.7)
    monkeypatch.setattr(Net, "slope", 4.0)
    for gauge in gauges:
        told = gauge.holds(model).differences
        assert f"TEMPERATURE of {__name__} was 0.5, is 0.7" in told
        assert any("slope" in text and "was 3.0, is 4.0" in text for text in told), told


UNTOLD: dict[str, Callable[[Any], Any]] = {
    "what nothing reads": setting("unread", 2),
    "of an object": setting("options.unread", 2),
    "something new": setting("more", 2),
    "the values of parameters": lambda m: m.up.weight.data.mul_(2.0),
    "a module of the same kind": setting("drop", nn.Dropout(0.1)),
    "an equal object": setting("options", Options()),
}


@pytest.mark.parametrize("change", UNTOLD.values(), ids=UNTOLD.keys())
def test_what_was_not_read_is_not_told(gauges: tuple[Any, Any], change: Callable[[Any], Any]) -> None:
    model = Net()
    change(model)
    assert all(gauge.holds(model) for gauge in gauges)


GIVEN: dict[str, tuple[tuple[Any, ...], dict[str, Any], str]] = {
    "the same": ((inputs(),), {}, ""),
    "by its name": ((), {"x": inputs()}, ""),
    "a default": ((inputs(), False), {"more": None}, ""),
    "a flag": ((inputs(), True), {}, "flag was left out, is True"),
    "an optional tensor": ((inputs(),), {"more": torch.ones(2)}, "more was left out, is a tensor"),
    "a type": ((inputs().double(),), {}, "x was float32, is float64"),
    "axes": ((inputs()[None],), {}, "x had 2 axes, has 3"),
    "a size": ((torch.randn(4, 6),), {}, "axis 1 of x was 5, is 6: no other size was looked at"),
    "strides": ((inputs(5).T.contiguous().T[:4],), {}, "x was an ordinary tensor, is a tensor (axes in memory 1, 0)"),
    "a gradient": ((inputs().requires_grad_(),), {}, "x was an ordinary tensor, is a tensor (needs a gradient)"),
    "a list": (([inputs()],), {}, "x was a tensor, is left out"),
}


@pytest.mark.parametrize(("args", "kwargs", "words"), GIVEN.values(), ids=GIVEN.keys())
def test_inputs(gauges: tuple[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any], words: str) -> None:
    for gauge in gauges:
        found = gauge.holds(Net(), *args, **kwargs)
        assert bool(found) == (not words) and (not words or words in list(found)), str(found)


def test_wrappers_are_seen_through(gauges: tuple[Any, Any]) -> None:
    class Wrapper(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

        def forward(self, *args: Any) -> Any:
            return self.module(*args)

    model = Net()
    for wrapped in (Wrapper(model), torch.compile(model), Wrapper(torch.compile(model))):
        assert gauges[1].holds(wrapped), str(gauges[1].holds(wrapped))
    inside = Net()
    inside.up = torch.compile(inside.up)  # type: ignore[assignment]
    assert gauges[1].holds(inside), str(gauges[1].holds(inside))
    model.aux_weight = 0.1
    assert list(gauges[1].holds(Wrapper(model))) == ["aux_weight was 0.0, is 0.1"]


def test_a_sharded_model_is_the_one_that_was_compiled(gauges: tuple[Any, Any], tmp_path: Path) -> None:
    """The hooks by which fully_shard gathers its parameters do not count; those beside them do."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        model = Net()
        fully_shard(model.up)
        fully_shard(model)
        model(inputs()).sum().backward()
        optimizer = DDCAdamW(model, gauges[1])
        optimizer.step()
        assert gauges[1].holds(model, inputs())
        model.up.register_forward_hook(replaced_cell)
        hook = f"{replaced_cell.__module__.partition('.')[0]}:replaced_cell"
        assert list(gauges[1].holds(model)) == [f"up._forward_hooks was {{}}, is [{hook}]"]
    finally:
        dist.destroy_process_group()


def test_an_optimizer_takes_a_model_that_is_still_in_eval_mode(gauges: tuple[Any, Any]) -> None:
    model = Net().eval()
    DDCAdamW(model.named_parameters(), gauges[1], model=model)
    with pytest.raises(TypeError, match=r"the model is a int, not a torch\.nn\.Module"):
        gauges[1].holds(3)


def test_a_model_in_eval_mode_is_compiled_as_it_will_be_trained(spec: Path) -> None:
    model = Net().eval()
    gauge = gaugec.compile(spec, model, (inputs(),))
    assert not model.training and gauge.metadata["assumed"]["mode"] == "eval"
    assert "modes: all in train mode; it was in eval mode, and is compiled as model.train() makes it" in gauge.report()
    assert gauge.holds(model.train())


def test_the_report_says_it_in_a_few_lines(gauges: tuple[Any, Any]) -> None:
    compiled, loaded = gauges
    report = compiled.report()
    assert report == loaded.report()
    start = report.index("assumed (")
    lines = report[start:].split("\n\n")[0].splitlines()
    assert len(lines) <= 8 and lines[1] == "  modes: all in train mode" and "x float32" in lines[2]
    assert f"TEMPERATURE of {__name__} 0.5" in report and f"Net.slope of {__name__} 3.0" in report
    explained = compiled.report(explain=True)
    assert "    aux_weight, wherever there is one: 0.0" in explained and "    drop.forward: torch:Dropout" in explained


def test_layers_stand_once() -> None:
    """A record grows with what differs, not with the layers."""
    lengths = []
    for layers in (3, 40):
        parts = [nn.Sequential(nn.Linear(5, 5), nn.Dropout(0.1), nn.LayerNorm(5)) for _ in range(layers)]
        model = nn.Sequential(*parts)
        reads = Reads(model)
        with reads, listening() as ran:
            model(inputs())
        reads.heard(ran.codes, ran.closures())
        traced = types.SimpleNamespace(settings=reads.found(), free={})
        record = recording.assumed(traced, Taken(model, (inputs(),), {}, ()))  # type: ignore[arg-type]
        lengths.append((len(record["settings"]), sum(len(owners) for _, _, owners in record["settings"])))
    assert lengths[0] == lengths[1]


def test_the_bytes_do_not_depend_on_hashing(spec: Path, tmp_path: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})\n"
        "import gaugec; from runtime.test_settings import Net, inputs\n"
        f"print(gaugec.compile({str(spec)!r}, Net(), (inputs(),)).metadata['assumed'])"
    )
    words = [sys.executable, "-c", code]
    seeds = [os.environ | {"PYTHONHASHSEED": seed} for seed in ("1", "2")]
    runs = [subprocess.run(words, env=env, capture_output=True, text=True, check=True).stdout for env in seeds]
    assert runs[0] == runs[1] and "aux_weight" in runs[0]


def nothing_else() -> dict[str, Any]:
    return {"values": [], "settings": [], "globals": [], "frozen": [], "parts": list(parts(Net()))}


def test_a_free_axis_takes_any_size() -> None:
    record = {"tensors": [("x", "float32", (0, 5), "")], **nothing_else()}
    whole = {"assumed": record, "parameters": {n: tuple(p.shape) for n, p in Net().named_parameters()}, "tied": {}}
    assert differences(whole, Net(), (inputs(9),), {}) == []
    words = "axis 1 of x was 5, is 4: no other size was looked at"
    assert differences(whole, Net(), (torch.randn(9, 4),), {}) == [words]


def test_axes_that_are_free_as_one_have_one_size() -> None:
    tensors = [("x", "float32", (-1, 5), ""), ("y", "float32", (-1, 0, -2), ""), ("z", "float32", (-2,), "")]
    record = {"tensors": tensors, **nothing_else()}
    whole = {"assumed": record, "parameters": {n: tuple(p.shape) for n, p in Net().named_parameters()}, "tied": {}}
    known = {"args": (), "kwargs": dict(x=torch.randn(9, 5), y=torch.randn(9, 2, 3), z=torch.randn(3))}
    assert differences(whole, Net(), **known) == []
    known["kwargs"]["y"] = torch.randn(8, 1, 3)
    words = "axis 0 of x is 9, axis 0 of y is 8: they were one size, and looked at as one alone"
    assert differences(whole, Net(), **known) == [words]
    shown = list(in_words(record | {"mode": "train", "everywhere": {}, "unknown": []}))
    assert shown[2:] == [
        "  inputs: x float32 [a, 5]; y float32 [a, *, b]; z float32 [b]",
        "          *: any size; a, b: any size that is one wherever the letter stands; "
        "every other size is the only one that was looked at",
        "  never looked up: switches of torch and of the process, numbers read out of tensors that are no parameters",
    ]


def test_a_gauge_that_was_written_by_hand_promises_nothing() -> None:
    gauge = handmade.compiled(handmade.MLP(), handmade.mlp_sites())
    assert list(gauge.holds(handmade.MLP())) == ["this gauge does not say what was assumed of the model"]


def test_a_record_unfolds_to_what_was_read(gauges: tuple[Any, Any]) -> None:
    rows = unfolded(gauges[1].metadata)["assumed"]["settings"]
    assert ("*", "aux_weight", "0.0") in rows and ("up", "forward", "torch:Linear.forward") in rows
    assert not any("unread" in attribute for _, attribute, _ in rows)
