"""Models and inputs as people have them: wrappers, batches, caches, outputs that do not count, a model that fails."""

from __future__ import annotations

from collections import UserDict, namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import LlamaConfig, LlamaForCausalLM

import gaugec
from gaugec.model.outputs import counted

Two = namedtuple("Two", ["loss", "hidden"])
X = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
IDS = torch.randint(40, (2, 7), generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(5, 7), nn.Linear(7, 3)

    def hidden(self, x: Tensor) -> Tensor:
        return torch.relu(self.up(x))

    def forward(self, x: Tensor) -> Any:
        return self.down(self.hidden(x))


def llama(**more: Any) -> LlamaForCausalLM:
    sizes = dict(vocab_size=40, hidden_size=12, intermediate_size=10, num_hidden_layers=1, num_attention_heads=2)
    return LlamaForCausalLM(LlamaConfig(**sizes, num_key_value_heads=1, max_position_embeddings=64, **more))


def taken(gauge: Any) -> list[str]:
    return list(gauge.metadata["taken"])


def moved(gauge: Any) -> set[str]:
    return {binding.parameter for site in gauge.sites for binding in site.bindings}


# --- wrappers, and types
WRAPPERS = {
    "OptimizedModule": torch.compile,
    "DataParallel": nn.DataParallel,
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_what_a_wrapper_of_torch_holds_is_compiled(name: str) -> None:
    gauge = gaugec.compile("relu_mlp", WRAPPERS[name](Net()), (X,))
    assert moved(gauge) == {"up.weight", "up.bias", "down.weight"}
    assert taken(gauge) == [f"what {name} wraps was compiled"]
    assert f"what {name} wraps was compiled" in gauge.report()


def test_a_wrapper_that_somebody_wrote_is_a_model_of_its_own() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = Net()

        def forward(self, x: Tensor) -> Tensor:
            return 2 * self.module(x)

    gauge = gaugec.compile("relu_mlp", Twice(), (X,))
    assert moved(gauge) == {"module.up.weight", "module.up.bias", "module.down.weight"}
    assert taken(gauge) == []


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_model_in_half_precision_and_eval_mode(dtype: torch.dtype) -> None:
    model = Net().to(dtype).eval()
    assert len(gaugec.compile("relu_mlp", model, (X.to(dtype),)).sites) == 1
    assert not model.training


def test_a_reentrant_checkpoint() -> None:
    class Saving(Net):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(5, 5)

        def forward(self, x: Tensor) -> Any:
            return checkpoint(super().forward, self.first(x), use_reentrant=True)

    gauge = gaugec.compile("relu_mlp", Saving(), (X,))
    assert len(gauge.sites) == 1
    assert [site.verdict for site in gauge.sites] == ["proved"]


# --- inputs
@pytest.mark.parametrize("batch", [dict, UserDict])
def test_a_batch_is_inputs_by_name(batch: Any) -> None:
    gauge = gaugec.compile("relu_mlp", Net(), batch(x=X))
    assert len(gauge.sites) == 1
    assert gauge.holds(Net(), x=X)


def test_a_batch_as_the_one_input_is_a_dict() -> None:
    class Reads(Net):
        def forward(self, x: dict[str, Tensor]) -> Any:
            return super().forward(x["x"])

    assert len(gaugec.compile("relu_mlp", Reads(), (UserDict(x=X),)).sites) == 1


def test_a_cache_is_off_where_nothing_is_said() -> None:
    model = llama()
    gauge = gaugec.compile("llama", model, {"input_ids": IDS}, loss="cross_entropy")
    assert taken(gauge) == ["called with use_cache=False, as its config has it on and nothing else was said"]
    assert model.config.use_cache
    assert ("use_cache", "False, or left out") in gauge.metadata["assumed"]["values"]
    assert gauge.holds(model, input_ids=IDS) and gauge.holds(model, input_ids=IDS, use_cache=False)
    assert list(gauge.holds(model, input_ids=IDS, use_cache=True)) == ["use_cache was False, is True"]
    said = gaugec.compile("llama", model, {"input_ids": IDS, "use_cache": False}, loss="cross_entropy")
    assert list(said.holds(model, input_ids=IDS)) == ["use_cache was False, is left out"]
    assert taken(gaugec.compile("llama", llama(use_cache=False), {"input_ids": IDS}, loss="cross_entropy")) == []


def test_a_mask_of_ones_whose_sizes_a_call_does_not_read() -> None:
    batch = UserDict(input_ids=IDS, attention_mask=torch.ones_like(IDS))
    gauge = gaugec.compile("llama", llama(), batch, loss="cross_entropy")
    assert len(gauge.sites) == 7
    assert "in one input alone (it runs there, and cannot be traced)" in gauge.metadata["traced"]
    assert "input_ids int64 [*, a]; attention_mask int64 [*, a]; use_cache False, or left out" in gauge.report()
    longer = torch.ones(3, 8, dtype=torch.long)
    assert gauge.holds(llama(), input_ids=longer, attention_mask=longer.clone(), use_cache=False)
    assert list(gauge.holds(llama(), input_ids=longer, attention_mask=torch.ones_like(IDS), use_cache=False)) == [
        "axis 1 of input_ids is 8, axis 1 of attention_mask is 7: they were one size, and looked at as one alone"
    ]


# --- outputs
def test_a_key_that_is_a_number_is_no_place() -> None:
    made = {1: "aux", 0: "loss"}
    assert counted(1).of(made) == counted("1").of(made) == ["aux"]
    assert counted([0, 1]).of(made) == ["loss", "aux"]
    assert counted(1).of({"a": "one", "b": "two"}) == ["two"]
    with pytest.raises(gaugec.MatchError, match="the model returns no output 2") as caught:
        counted(2).of({7: "a", 8: "b", 9: "c"})
    assert caught.value.help == "it returns 7, 8, 9"


def test_what_is_computed_of_fields_is_no_output() -> None:
    class Sums(namedtuple("Pair", "a b")):
        @property
        def both(self) -> Any:
            return self.a + self.b

    assert counted("b").of(Sums(1, 2)) == [2]
    for name in ("both", "count", "_fields"):
        with pytest.raises(gaugec.MatchError, match=f"the model returns no output '{name}'"):
            counted(name).of(Sums(1, 2))


def test_the_loss_of_a_transformers_model() -> None:
    gauge = gaugec.compile("llama", llama(), {"input_ids": IDS, "labels": IDS}, outputs="loss")
    assert len(gauge.sites) == 7
    assert gauge.metadata["outputs"] == ["loss"]
    assert "of what it returns, loss alone counts" in gauge.report()


class Both(Net):
    """Returns what its units are, beside a loss."""

    def forward(self, x: Tensor) -> Any:
        hidden = self.hidden(x)
        return Two(self.down(hidden).square().mean(), hidden)


@pytest.mark.parametrize("outputs", ["loss", ["loss"], 0, (0,)])
def test_only_what_counts_is_kept(outputs: Any) -> None:
    assert len(gaugec.compile("relu_mlp", Both(), (X,), outputs=outputs).sites) == 1


@pytest.mark.parametrize("outputs", [None, 1, ["loss", "hidden"], [1, 0]])
def test_what_counts_and_moves_is_refused(outputs: Any) -> None:
    with pytest.raises(gaugec.MatchError, match="the moved value is an output of the model"):
        gaugec.compile("relu_mlp", Both(), (X,), outputs=outputs)


def test_that_the_loss_alone_would_do_is_said() -> None:
    with pytest.raises(gaugec.MatchError, match=r"it would hold if the loss alone counted: outputs=0"):
        gaugec.compile("relu_mlp", Both(), (X,))


def test_the_first_that_counts_is_the_logits() -> None:
    class Late(Net):
        def forward(self, x: Tensor) -> Any:
            return {"hidden": self.hidden(x), "logits": super().forward(x)}

    assert len(gaugec.compile("relu_mlp", Late(), (X,), outputs=["logits"], loss="cross_entropy").sites) == 2


@pytest.mark.parametrize(
    ("outputs", "says"),
    [
        ("los", "the model returns no output 'los'\nhelp: it returns 0, 1"),
        (2, "the model returns no output 2\nhelp: it returns 0, 1"),
        ("loss ", "the model returns no output 'loss '\nhelp: it returns 0, 1"),
    ],
)
def test_an_output_that_is_not_there(outputs: Any, says: str) -> None:
    with pytest.raises(gaugec.MatchError) as caught:
        gaugec.compile("relu_mlp", Both(), (X,), outputs=outputs)
    assert str(caught.value) == says


@pytest.mark.parametrize("outputs", [[], {}, [None], True, ["loss", "loss"], 1.5])
def test_what_names_no_outputs(outputs: Any) -> None:
    with pytest.raises(gaugec.MatchError, match="names no outputs"):
        gaugec.compile("relu_mlp", Both(), (X,), outputs=outputs)


def test_a_gradient_that_is_wrong_in_what_counts_is_seen() -> None:
    class Clipped(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x * 1

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            return grad.clamp(-1e-3, 1e-3)

    class Wrong(Both):
        def forward(self, x: Tensor) -> Any:
            hidden = self.hidden(x)
            return Two(self.down(Clipped.apply(hidden)).square().mean(), hidden)

    with pytest.raises(gaugec.MatchError, match="the gradient is not that of the forward"):
        gaugec.compile("relu_mlp", Wrong(), (X,), outputs="loss")


def test_a_recheck_asks_what_counted(tmp_path: Path) -> None:
    file, model = tmp_path / "net.py", Both()
    gaugec.compile("relu_mlp", model, (X,), outputs="loss").save(file)
    assert gaugec.recheck(file, model, (X,), outputs="loss")
    silent = gaugec.recheck(file, model, (X,))
    says = "the certificate says that loss alone counts: say outputs=['loss'], on the command line --outputs, if"
    assert not silent and f"not done  model    {says} nothing else is trained on" in str(silent)
    other = gaugec.recheck(file, model, (X,), outputs=[1])
    assert "differs   model    loss counted at the compile, 1 in this recheck" in str(other)


def test_a_recheck_says_how_the_model_was_taken(tmp_path: Path) -> None:
    file, model = tmp_path / "net.py", Net()
    gaugec.compile("relu_mlp", nn.DataParallel(model), (X,)).save(file)
    result = gaugec.recheck(file, model, (X,))
    assert result
    assert result.notes == ("how the model was taken then: what DataParallel wraps was compiled; now: as it was given",)


# --- a model that fails, or cannot be exported
def refused(model: nn.Module, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(gaugec.MatchError) as caught:
        gaugec.compile("relu_mlp", model, args, kwargs)
    return str(caught.value)


def test_a_model_that_fails_is_told_with_its_own_error() -> None:
    class Fails(Net):
        def forward(self, x: Tensor) -> Any:
            return self.down(x)

    said = refused(Fails(), X)
    assert said.startswith(
        "the model itself fails on these inputs: RuntimeError: mat1 and mat2 shapes cannot be multiplied (4x5 and 7x3)"
        " (test_taken.py:"
    )
    assert said.endswith(
        ": return self.down(x))\nhelp: call it with them, in train mode and without gaugec, and mend that first"
    )


class Branches(Net):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x) if x.sum() > 0 else super().forward(-x)


class Sliced(Net):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x)[: int(x.abs().max()) + 1]


class Numpy(Net):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x) * torch.from_numpy(x.detach().numpy()).sum()


class Absent(Net):
    def forward(self, x: Tensor) -> Any:
        mask: Any = None if torch.compiler.is_exporting() else torch.ones_like(x[0])
        return super().forward(x * mask[None])


class Box:
    def __init__(self, x: Tensor) -> None:
        self.x = x


class Boxed(Net):
    def forward(self, x: Any) -> Any:
        return super().forward(x.x)


class Boxes(Net):
    def forward(self, x: Tensor) -> Any:
        return Box(super().forward(x))


@pytest.mark.parametrize(
    ("model", "given", "cure"),
    [
        (Branches(), X, "use torch.where or a mask in place of `if`"),
        (Sliced(), X, "keep .item(), int(), float() and bool() of tensors out of the forward"),
        (Numpy(), X, "the forward leaves torch for numpy, which has no gradient: use the function of torch"),
        (Absent(), X, "something is None there: give the inputs that were left out (an attention_mask)"),
        (Boxed(), Box(X), "inputs and outputs must be tensors and numbers, in tuples, lists and dicts"),
        (Boxes(), X, "inputs and outputs must be tensors and numbers, in tuples, lists and dicts"),
    ],
    ids=lambda x: type(x).__name__,
)
def test_what_cannot_be_exported_is_told_with_its_cure(model: nn.Module, given: Any, cure: str) -> None:
    said = refused(model, given)
    assert said.startswith("torch.export cannot trace the model: ")
    assert cure in said
    if not isinstance(model, Boxed | Boxes):
        assert "; it ends at test_taken.py:" in said


def test_a_cache_that_is_returned() -> None:
    with pytest.raises(gaugec.MatchError, match="the model takes or returns a cache: call it with use_cache=False"):
        gaugec.compile("llama", llama(), {"input_ids": IDS, "use_cache": True}, loss="cross_entropy")


def test_inputs_that_do_not_differ_are_told() -> None:
    with pytest.raises(gaugec.MatchError) as caught:
        gaugec.compile("llama", llama(), {"input_ids": torch.ones_like(IDS)}, loss="cross_entropy")
    assert "no output depends on it, with these example inputs" in str(caught.value)
    assert str(caught.value).endswith(
        "help: give inputs that differ along every axis: tokens that are not all equal, a length of at least 2"
    )
