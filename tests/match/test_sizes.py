"""Sizes of every axis: what changes together, how far is looked, what a look may take, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from match.models import outcome
from thinned import thinned
from torch import Tensor, nn

import gaugec
from gaugec.model.axes import Bundle, bundles
from gaugec.model.inputs import Inputs, alike, axes_of, resized
from gaugec.model.recording import Recording, TooMuchWork, Work, explained, foretold
from gaugec.model.run import recorded, runs, several
from gaugec.tracing.trace import trace

Middle = Callable[[Any, Tensor], Tensor]


class Net(nn.Module):
    """Two linear layers and what `middle` does between them."""

    def __init__(self, middle: Middle) -> None:
        super().__init__()
        self.middle, self.up, self.down = middle, nn.Linear(5, 7), nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.middle(self, self.up(x)))


class Image(nn.Module):
    """Two convolutions and what `middle` does between them."""

    def __init__(self, middle: Middle) -> None:
        super().__init__()
        self.middle, self.up, self.down = middle, nn.Conv2d(2, 7, 3, padding=1), nn.Conv2d(7, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.middle(self, self.up(x)))


def relu(m: Any, h: Tensor) -> Tensor:
    return torch.relu(h)


def _square(m: Any, h: Tensor) -> Tensor:
    if h.shape[2] != h.shape[3]:
        raise ValueError("only square images")
    return torch.relu(h)


def _in_sixteens(m: Any, h: Tensor) -> Tensor:
    if h.shape[1] % 16:
        raise ValueError("only whole patches")
    return torch.relu(h)


def _free(model: nn.Module, *tensors: Tensor) -> set[tuple[int, int]]:
    return set(trace(model, tensors).free)


def test_free_axes_are_those_that_were_resized_with_the_same_graph() -> None:
    assert _free(Net(relu), torch.randn(4, 5)) == {(0, 0)}
    assert _free(Net(relu), torch.randn(2, 3, 4, 6, 5)) == {(0, 0), (0, 1), (0, 2), (0, 3)}
    assert _free(Image(relu), torch.randn(2, 2, 8, 8)) == {(0, 0), (0, 2), (0, 3)}


def test_the_note_says_what_was_looked_at_and_what_is_fixed() -> None:
    assert trace(Net(relu), (torch.randn(4, 6, 5),)).second == (
        "same graph with input sizes 4->7, 6->73; 4->5, 6->7; in numbers 4->1, 6->1; fixed sizes 5"
    )


def test_sizes_that_the_model_fixes_are_said() -> None:
    class Fixed(Net):
        def forward(self, x: Tensor) -> Tensor:
            if x.shape != (4, 5):
                raise ValueError("only this")
            return super().forward(x)

    made = trace(Fixed(relu), (torch.randn(4, 5),))
    assert made.second == "all sizes are fixed: the model takes no other" and not made.free


def _bundles(model: nn.Module, *tensors: Tensor) -> list[tuple[tuple[tuple[int, int], ...], int, int]]:
    def takes(inputs: Inputs) -> bool:
        return runs(model, *inputs)

    return [(bundle.axes, bundle.far, bundle.near) for bundle in bundles((tensors, {}), takes)]


def test_axes_of_one_size_change_apart_where_the_model_takes_it_and_else_together() -> None:
    x = torch.randn(2, 2, 8, 8)
    assert _bundles(Image(relu), x) == [(((0, 0),), 5, 3), (((0, 2),), 75, 9), (((0, 3),), 79, 9)]
    assert _bundles(Image(_square), x) == [(((0, 0),), 5, 3), (((0, 2), (0, 3)), 75, 9)]


def test_axes_that_change_together_are_free_as_one() -> None:
    def joined(m: Any, h: Tensor, y: Tensor) -> Tensor:
        return torch.relu(h) * y[..., None]

    class Two(Net):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.down(joined(self, self.up(x), y))

    example = (torch.randn(4, 6, 5), torch.randn(4, 6))
    assert trace(Two(relu), example).free == {(0, 0): 1, (1, 0): 1, (0, 1): 2, (1, 1): 2}
    assert trace(Image(_square), (torch.randn(2, 2, 8, 8),)).free == {(0, 0): 0, (0, 2): 1, (0, 3): 1}


# in a call and in no export: what a size decides -> sizes of the example, what is free, what is said
UNTRACED: dict[str, tuple[Callable[[Tensor], bool], tuple[int, ...], dict[tuple[int, int], int], str]] = {
    "every size but one": (lambda h: h.shape[1] != 6, (4, 6, 5), {(0, 0): 0}, "6->73"),
    "what is no multiple": (lambda h: h.shape[1] % 8 > 0, (4, 8, 5), {(0, 0): 0}, "8->75"),
    "a near one alone": (lambda h: int(h.shape[1]) == 7, (4, 6, 5), {(0, 0): 0}, "6->7"),
}


@pytest.mark.parametrize("name", UNTRACED)
def test_an_axis_whose_size_takes_the_forward_out_of_a_trace_is_not_free(name: str) -> None:
    wrong, shape, free, words = UNTRACED[name]
    made = trace(Net(lambda m, h: torch.relu(h) + (float(h.sum()) if wrong(h) else 0.0)), (torch.randn(shape),))
    assert made.free == free and f"{words} (it runs there, and cannot be traced)" in made.second


def test_where_a_size_must_be_a_multiple_multiples_are_tried() -> None:
    assert _bundles(Net(_in_sixteens), torch.randn(4, 48, 5)) == [(((0, 0),), 7, 5), (((0, 1),), 144, 64)]


def test_a_tensor_that_is_handed_in_twice_stays_one() -> None:
    x, y = torch.randn(4, 5), torch.randn(3)
    assert axes_of((x, y), {"again": x}) == {(0, 0): 4, (0, 1): 5, (1, 0): 3}
    (one, _), named = resized((x, y), {"again": x}, {(0, 0): 6})
    assert one is named["again"] and one.shape == (6, 5)
    assert alike((x, y), {"again": x}, [(0, 0)]) == {(0, 0): (0, 0), (2, 0): (0, 0)}


def test_an_axis_of_one_is_made_longer_by_itself() -> None:
    """The channel of (batch 1, channel 1) is the convolution's; the batch is not."""
    model = nn.Sequential(nn.Conv1d(1, 4, 3))
    (x,), _ = several(model, (torch.randn(1, 1, 9),), {})
    assert x.shape == (5, 1, 9)


# what a forward does between its layers -> an example: no gauge of units may be found, by refusal of the model or of it
HIDDEN: dict[str, tuple[Callable[[Middle], nn.Module], Middle, tuple[int, ...]]] = {
    "rolled by its width": (Image, lambda m, h: torch.relu(h).roll(h.shape[3], 1), (2, 2, 8, 10)),
    "rolled by its height": (Image, lambda m, h: torch.relu(h).roll(h.shape[2], 1), (2, 2, 7, 10)),
    "a square rolled by its width": (Image, lambda m, h: _square(m, h).roll(h.shape[3], 1), (2, 2, 7, 7)),
    "a branch on the width": (Image, lambda m, h: torch.relu(h) if h.shape[3] < 500 else h + 1, (2, 2, 8, 10)),
    "a branch on the third axis": (Net, lambda m, h: torch.relu(h) if h.shape[2] < 500 else h + 1, (2, 3, 4, 5)),
    "a branch on being square": (Image, lambda m, h: torch.relu(h) if h.shape[2] == h.shape[3] else h, (2, 2, 8, 8)),
    "rolled by patches": (Net, lambda m, h: _in_sixteens(m, h).roll(h.shape[1] // 16 - 1, -1), (4, 16, 5)),
    "rolled by four axes": (
        Net,
        lambda m, h: torch.relu(h).roll(h.shape[0] + h.shape[1] + h.shape[2] + h.shape[3], -1),
        (2, 3, 4, 5, 5),
    ),
    **{
        f"rolled by the length modulo {k}": (Net, lambda m, h, k=k: torch.relu(h).roll(h.shape[1] % k, -1), (4, k, 5))
        for k in range(2, 8)
    },
    "cut by the batch modulo 3": (
        Net,
        lambda m, h: torch.cat([torch.relu(h)[..., h.shape[0] % 3 :], h[..., : h.shape[0] % 3]], -1),
        (3, 6, 5),
    ),
    "rolled by the length modulo the far step": (Net, lambda m, h: torch.relu(h).roll(h.shape[1] % 67, -1), (4, 7, 5)),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_what_a_size_decides_is_seen_on_every_axis(name: str, spec: str) -> None:
    made, middle, shape = HIDDEN[name]
    found = outcome(spec, made(middle), (torch.randn(shape),))
    assert isinstance(found, gaugec.MatchError) or not found.sites, found.sites


# --- recordings


def _recorded(middle: Middle, *shape: int) -> Recording:
    found = recorded(Net(middle), (torch.randn(shape),), {}, Work(1e9, 1e12, 1e12))
    assert found is not None
    return found


EXPLAINED: dict[str, tuple[Middle, bool]] = {
    "nothing": (relu, True),
    "a view": (lambda m, h: h.reshape(-1, 7).reshape(h.shape), True),
    "a half": (lambda m, h: h[:, : h.shape[1] // 2], True),
    "a shift": (lambda m, h: h[:, : h.shape[1] - 2], True),
    "another order of axes": (lambda m, h: h.reshape(h.shape[1], h.shape[0], 7) if h.shape[1] == 7 else h + 0, False),
    "another operation": (lambda m, h: h.relu() if h.shape[1] == 7 else h.sin(), False),
    "another number": (lambda m, h: h + (2 if h.shape[1] == 7 else 3), False),
    "another value that is read": (lambda m, h: h + h.relu() * (h if h.shape[1] == 7 else h.relu()), False),
    "another parameter": (lambda m, h: h * (m.up.bias if h.shape[1] == 7 else m.other), False),
    "a remainder": (lambda m, h: h.roll(h.shape[1] % 61, 0), False),
}


@pytest.mark.parametrize("name", thinned(EXPLAINED, 2))
def test_a_third_recording_is_told_from_what_two_foretell(name: str) -> None:
    middle, same = EXPLAINED[name]

    class Two(Net):
        def __init__(self) -> None:
            super().__init__(middle)
            self.other = nn.Parameter(torch.randn(7))

    model, limit = Two(), Work(1e9, 1e12, 1e12)
    made = [recorded(model, (torch.randn(n, m, 5),), {}, limit) for n, m in ((4, 6), (7, 67), (5, 7))]
    one, two, three = (found for found in made if found is not None)
    assert explained(one, two, three) is same


def test_what_is_returned_is_a_part_of_a_recording() -> None:
    class Either(Net):
        def forward(self, x: Tensor) -> Any:
            h = torch.relu(self.up(x))
            y = self.down(h)
            return {"one": h, "two": y} if x.shape[1] == 7 else {"one": y, "two": h}

    limit = Work(1e9, 1e12, 1e12)
    made = [recorded(Either(relu), (torch.randn(n, m, 5),), {}, limit) for n, m in ((4, 6), (7, 67), (5, 7))]
    one, two, three = (found for found in made if found is not None)
    assert [step.form for step in one.steps[:-1]] == [step.form for step in three.steps[:-1]]
    assert not explained(one, two, three)


def test_which_values_leave_the_model_is_compared() -> None:
    class Either(Net):
        def __init__(self) -> None:
            super().__init__(relu)
            self.register_buffer("seen", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            h = self.up(x)
            y = self.down(h)
            self.seen.copy_(y.detach().mean())
            return h if x.shape[1] > 30 else y

    with pytest.raises(gaugec.MatchError, match="what leaves the model depends on it"):
        trace(Either(), (torch.randn(4, 6, 5),))


def test_the_work_at_other_sizes_is_foretold() -> None:
    def attention(m: Any, h: Tensor) -> Tensor:
        return (h @ h.transpose(1, 2)).softmax(-1) @ h

    one, two, three = (_recorded(attention, n, m, 5) for n, m in ((4, 6), (7, 67), (3, 200)))
    assert foretold(one, two, (3, 200, 5)) == three.work
    assert foretold(one, None, (4, 60, 5)).memory == 100 * one.work.memory


def test_a_size_beyond_the_budget_is_not_believed_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without numbers a lookup beyond the end of a table of positions is not seen."""
    table = torch.randn(24, 7)

    def positions(m: Any, h: Tensor) -> Tensor:
        return torch.relu(h) + nn.functional.embedding(torch.arange(h.shape[1]), table)

    monkeypatch.setattr("gaugec.model.recording.MEMORY", 1)
    assert _free(Net(positions), torch.randn(4, 8, 5)) == {(0, 0), (0, 1)}


def test_a_forward_that_takes_too_much_is_stopped() -> None:
    def catches(m: Any, h: Tensor) -> Tensor:
        try:
            return sum((h + k for k in range(10**6)), h)
        except Exception:
            return h

    with pytest.raises(TooMuchWork):
        recorded(Net(catches), (torch.randn(4, 5),), {}, Work())


def test_a_branch_beyond_the_budget_is_looked_at_without_numbers(spec: str) -> None:
    """Attention over 40,000 positions would take 6 GB a head."""

    def attention(m: Any, h: Tensor) -> Tensor:
        own = torch.relu(h)
        scores = (h.detach() @ h.detach().transpose(1, 2)).mean((1, 2), keepdim=True)
        return own if h.shape[1] <= 40_000 else own + scores * 0

    made = outcome(spec, Net(attention), (torch.randn(2, 6, 5),))
    assert isinstance(made, gaugec.MatchError) and "depends on the shape" in str(made)


def test_what_the_budget_leaves_out_is_said() -> None:
    def steps(m: Any, h: Tensor) -> Tensor:
        for k in range(h.shape[1] if h.shape[1] > 5000 else 3):
            h = h + k
        return torch.relu(h)

    note = trace(Net(steps), (torch.randn(2, 6, 5),)).second
    assert "not looked at 6->5001 (it would take " in note


def test_groups_say_how_they_change() -> None:
    assert Bundle(((0, 0), (1, 0)), 4).batch and not Bundle(((0, 0), (1, 1)), 4).batch
