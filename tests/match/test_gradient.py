"""The gradient that training sees: custom backwards and hooks are caught, gradients that only lack rows are not."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from seeds import set_seed
from thinned import thinned
from torch import Tensor, nn

import gaugec


class Weighed(torch.autograd.Function):
    """The identity, whose backward depends on a weight."""

    @staticmethod
    def forward(context: Any, y: Tensor, w: Tensor) -> Tensor:
        context.save_for_backward(w)
        return y.clone()

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (w,) = context.saved_tensors
        return gradients[0] / w.square().sum().sqrt(), None


class Custom(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(7, 11), nn.Linear(11, 5)

    def forward(self, x: Tensor) -> Tensor:
        return Weighed.apply(self.b(torch.relu(self.a(x))), self.a.weight)


class Padded(nn.Module):
    """Its embedding's row for padding has no gradient; that row commutes with any action on the columns."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Embedding(13, 6, padding_idx=0), nn.Linear(6, 5)

    def forward(self, ids: Tensor) -> Tensor:
        return self.b(torch.relu(self.a(ids)))


class Shared(nn.Module):
    """Reads a weight through numpy."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(7, 11), nn.Linear(11, 7)
        self.alias = self.a.weight.data.numpy()

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.relu(self.a(x))) + x @ torch.from_numpy(self.alias)[:7].T


def test_a_backward_that_depends_on_weights() -> None:
    with pytest.raises(gaugec.MatchError, match="the gradient is not that of the forward: under relu_rescale"):
        gaugec.compile("relu_mlp", Custom(), (torch.randn(3, 7),))


def test_a_row_without_gradient() -> None:
    ids = torch.tensor([[0, 1, 2], [3, 0, 4]])
    assert [site.gauge for site in gaugec.compile("relu_mlp", Padded(), (ids,)).sites] == ["relu_rescale"]


def test_a_weight_read_through_numpy() -> None:
    with pytest.raises(gaugec.MatchError, match="also as a constant"):
        gaugec.compile("relu_mlp", Shared(), (torch.randn(3, 7),))


# --- losses of other sizes, hooks of autograd's own, branches on the type
class Through(torch.autograd.Function):
    """The identity, with a backward of one's own."""

    @staticmethod
    def forward(context: Any, y: Tensor, w: Tensor, backward: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        context.save_for_backward(w)
        context.own = backward
        return y.clone()

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return context.own(gradients[0], *context.saved_tensors), None, None


class Hidden(nn.Module):
    def __init__(self, backward: Callable[[Tensor, Tensor], Tensor] = lambda g, w: g) -> None:
        super().__init__()
        self.a, self.b, self.own = nn.Linear(7, 11), nn.Linear(11, 5), backward

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.relu(Through.apply(self.a(x), self.a.weight, self.own)))


X = torch.randn(3, 7, generator=torch.Generator().manual_seed(0))
OTHER = "the gradient is not that of the forward: "


@pytest.mark.parametrize(
    ("backward", "says"),
    [
        (lambda g, w: g * (1 + 0.01 * torch.tanh(w.norm())), "under relu_rescale it is off by"),
        (lambda g, w: g.clamp(-1e-9, 1e-9), "under relu_rescale it is off by"),
        (lambda g, w: torch.where(g.abs() > 1e-7, g, 0.0), "under relu_rescale it is off by"),
        (lambda g, w: g.clamp(-1e10, 1e10), "under relu_rescale it is off by"),
        (lambda g, w: torch.where(g.abs() > 1e10, torch.nan, g), "under relu_rescale it is off by inf of its size"),
        (lambda g, w: g.half().to(g.dtype), "under relu_rescale it is off by inf of its size"),
        (lambda g, w: g.sign() if g.dtype == torch.float32 else g, "under relu_rescale it is off by"),
        (
            lambda g, w: g * (g.abs().max() < 1e10),
            "it is not proportional to the loss, at 1e+12 times its size\nhelp: a hook or a custom backward cuts",
        ),
    ],
)
def test_backwards_that_are_wrong_at_some_size_or_type(backward: Any, says: str) -> None:
    with pytest.raises(gaugec.MatchError, match=re.escape(OTHER + says)):
        gaugec.compile("relu_mlp", Hidden(backward), (X,))


def test_a_backward_that_only_scales_is_a_covector() -> None:
    assert len(gaugec.compile("relu_mlp", Hidden(lambda g, w: 1.01 * g), (X,)).sites) == 1


def accumulator(p: Tensor) -> Any:
    """The node that accumulates a parameter's gradient; whoever holds it keeps its hooks."""
    made = p.view_as(p).grad_fn
    assert made is not None
    return made.next_functions[0][0]


def test_hooks_of_the_node_that_accumulates() -> None:
    model = Hidden()
    node = accumulator(model.a.weight)
    node.register_prehook(lambda gradients: (gradients[0].sign(),))
    with pytest.raises(gaugec.MatchError) as caught:
        gaugec.compile("relu_mlp", model, (X,))
    assert (
        "relu_rescale at a.weight, a.bias, b.weight: the gradient of a.weight is not that in a copy of the model: "
        "a hook of autograd changes it"
    ) in str(caught.value)
    model = Hidden()
    node = accumulator(model.a.weight)
    node.register_hook(lambda given, made: (model.a.weight.grad.sign_(), None)[1])
    with pytest.raises(gaugec.MatchError, match=r"the gradient of a\.weight is not that in a copy of the model"):
        gaugec.compile("relu_mlp", model, (X,))
    assert model.a.weight.grad is None


def test_hooks_of_what_does_not_move() -> None:
    """They may do what they like with their own gradient, but not read weights that move."""
    model = Hidden()
    node = accumulator(model.b.bias)
    handle = node.register_prehook(lambda gradients: (gradients[0].sign(),))
    assert len(gaugec.compile("relu_mlp", model, (X,)).sites) == 1
    handle.remove()
    node.register_prehook(lambda gradients: (gradients[0] / model.b.weight.norm(),))
    with pytest.raises(gaugec.MatchError, match=OTHER + "under relu_rescale it is off by"):
        gaugec.compile("relu_mlp", model, (X,))


def test_hooks_after_accumulation_are_not_called() -> None:
    model, called = Hidden(), []
    model.b.bias.register_post_accumulate_grad_hook(called.append)
    gauge = gaugec.compile("relu_mlp", model, (X,))
    assert [site.verdict for site in gauge.sites] == ["proved (gradient not checked)"]
    assert not called
    model(X).sum().backward()
    assert called == [model.b.bias]


# --- rounding
class Loss(nn.Module):
    """Returns its loss alone, in a type of its own."""

    def __init__(self, kind: torch.dtype, inside: bool, backward: Any = lambda g, w: g) -> None:
        super().__init__()
        self.a, self.b, self.own, self.kind, self.inside = nn.Linear(7, 11), nn.Linear(11, 5), backward, kind, inside

    def forward(self, x: Tensor, targets: Tensor) -> Tensor:
        hidden = Through.apply(self.a(x), self.a.weight, self.own)
        if self.inside:
            hidden = hidden.to(self.kind).to(x.dtype)
        return nn.functional.cross_entropy(self.b(torch.relu(hidden)).float(), targets).to(self.kind)


class NextWord(nn.Module):
    """Its loss is over all words but the first: of one word alone it is a mean of nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.a, self.b = nn.Embedding(13, 7), nn.Linear(7, 11), nn.Linear(11, 13)

    def forward(self, ids: Tensor) -> Tensor:
        logits = self.b(torch.relu(self.a(self.words(ids))))
        return nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).bfloat16()


def test_a_loss_in_16_bits_that_is_no_number_at_some_size() -> None:
    ids = torch.tensor([[1, 5, 2, 7], [3, 0, 4, 9], [8, 6, 11, 1]])
    sites = gaugec.compile("relu_mlp", NextWord(), (ids,)).sites
    assert {site.verdict for site in sites if site.gauge == "relu_rescale"} == {"proved"}


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("seed", thinned(range(3), 3))
def test_a_loss_alone_and_its_rounding(kind: torch.dtype, inside: bool, seed: int) -> None:
    targets = torch.tensor([0, 1, 4])
    set_seed(seed)
    if inside and kind.itemsize < 4:
        says = f"at a.weight, a.bias, b.weight: a value that it moves is rounded to {str(kind)[6:]}: two"
        with pytest.raises(gaugec.MatchError, match=re.escape(says)):
            gaugec.compile("relu_mlp", Loss(kind, inside), (X, targets))
    else:
        sites = gaugec.compile("relu_mlp", Loss(kind, inside), (X, targets)).sites
        assert [site.verdict for site in sites] == ["proved", "proved"]
    with pytest.raises(gaugec.MatchError, match=OTHER + "under relu_rescale it is off by"):
        gaugec.compile("relu_mlp", Loss(kind, inside, lambda g, w: g * (1 + 0.01 * w.norm())), (X, targets))


# --- backwards that are another one at other sizes
class Sized(nn.Module):
    """Its units pass a backward in Python, or a hook on a tensor that knows the size."""

    def __init__(self, rule: Callable[[Tensor], Tensor], hook: bool = False) -> None:
        super().__init__()
        self.a, self.b, self.rule, self.hook = nn.Linear(7, 11), nn.Linear(11, 5), rule, hook

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        if self.hook:
            y.register_hook(self.rule)
        else:
            y = Through.apply(y, self.a.weight, lambda g, w: self.rule(g))
        return self.b(torch.relu(y))


SIZED: dict[str, Callable[[Tensor], Tensor]] = {
    "in large batches": lambda g: g.sign() if g.shape[0] > 40 else g,
    "at one size": lambda g: g.sign() if g.shape[0] == 17 else g,
    "at multiples": lambda g: g.sign() if g.shape[0] % 32 == 0 else g,
    "behind another branch": lambda g: g.sign() if g.shape[0] > 40 and g.numel() < 660 else g,
    "by a plain number": lambda g: g.sign() if int(g.shape[0]) > 40 else g,
    "large, and in single alone": lambda g: g.sign() if g.shape[0] > 40 and g.dtype == torch.float32 else g,
    "large, for a small loss": lambda g: g.sign() if g.shape[0] > 40 and g.abs().max() < 1e-6 else g,
}


@pytest.mark.parametrize("name", thinned(SIZED, 2))
def test_a_backward_at_other_sizes(name: str) -> None:
    with pytest.raises(gaugec.MatchError, match=re.escape(OTHER + "under relu_rescale it is off by")):
        gaugec.compile("relu_mlp", Sized(SIZED[name]), (X,))


def test_a_hook_at_other_sizes() -> None:
    with pytest.raises(gaugec.MatchError, match=re.escape(OTHER + "under relu_rescale it is off by")):
        gaugec.compile("relu_mlp", Sized(SIZED["at one size"], hook=True), (X,))


def test_at_which_sizes_a_backward_in_python_was_looked_at_is_said() -> None:
    looked = "Python runs in the backward: gradient looked at with sizes 3->6; 3->1; 3->67; 3->128"
    made = gaugec.compile("relu_mlp", Sized(lambda g: 2 * g), (X,))
    assert len(made.sites) == 1 and f"{looked}\n" in made.report()
    made = gaugec.compile("relu_mlp", Sized(lambda g: 2 * g if len(g) != 5000 else g.sign()), (X,))
    unseen = "; 3->1024; 3->67; 3->128, and what the backward asks of others could not be seen\n"
    assert len(made.sites) == 1 and unseen in made.report()


def test_a_backward_that_takes_no_large_size() -> None:
    def few(g: Tensor) -> Tensor:
        if len(g) > 50:
            raise ValueError("too many rows")
        return g

    made = gaugec.compile("relu_mlp", Sized(few), (X,))
    assert len(made.sites) == 1 and "not at 3->64; 3->1024; 3->67; 3->128" in made.report()


def test_of_autograd_alone_no_sizes_are_said() -> None:
    model = nn.Sequential(nn.Linear(7, 11), nn.ReLU(), nn.Linear(11, 5))
    assert "backward" not in gaugec.compile("relu_mlp", model, (X,)).report()
