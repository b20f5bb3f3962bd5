"""Numbers that a forward reads out of the memory of a parameter, past torch.

`w.detach().numpy()`, a memoryview or `tolist` give Python numbers, which a trace freezes: it is the trace of these
values of the parameter, and of no others.  Here the parameters of the model itself (a copy would have other memory) are
changed in place, a little and then much, and every operation of the forward must be given what it was given before.
So must it where the parameters have gradients, as they have in training after the first step.

What this module does not do: where an operation of torch gives another number or size for other values (`nonzero`),
what follows is not looked at.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

from gaugec.errors import MatchError
from gaugec.model.calls import Difference
from gaugec.model.memory import changeable, plain, put_back
from gaugec.model.reachable import Reachable

LITTLE, MUCH = 1e-5, 1.0  # of a parameter's size; by a little no choice among experts falls otherwise

WHAT = {LITTLE: "the values of a parameter", MUCH: "the values of a parameter, or that it has a gradient"}


def no_numbers_of_parameters(
    model: nn.Module, values: Mapping[str, Tensor], compared: Callable[[bool], Difference | None]
) -> None:
    """Calls the forward at other parameters; they are afterwards what they were.

    values: a copy of every parameter.  compared: calls it, with its backward or without, and tells the first
    difference.

    Raises:
        MatchError: it does.
    """
    for size in (LITTLE, MUCH):
        with _varied(model, values, size):
            try:
                difference = compared(size == MUCH)
            except Exception:
                continue  # a forward may have no value there
        if difference is not None and not difference.by_value:
            raise MatchError(
                f"a number in the forward follows {WHAT[size]}: {difference.text}",
                help="a trace freezes what numpy, a memoryview or tolist read: compute with the parameter's tensor",
            )


@contextlib.contextmanager
def _varied(model: nn.Module, values: Mapping[str, Tensor], size: float) -> Iterator[None]:
    """Every floating parameter is another one, in the same memory; where it is much another, they have gradients."""
    generator = torch.Generator("cpu").manual_seed(7)
    own = {name: p for name, p in model.named_parameters() if changeable(p)}
    trained = [(p, p.grad) for p in own.values() if p.requires_grad and size == MUCH]
    try:
        with torch.no_grad():
            for name, p in own.items():
                typical = values[name].double().square().mean().sqrt().item()
                share = max(size, 32 * torch.finfo(p.dtype).eps)
                noise = torch.randn(p.shape, generator=generator, dtype=torch.float64, device="cpu")
                p.add_((share * (typical + 1e-3) * noise).to(p.device, p.dtype))
        for p, _ in trained:
            p.grad = torch.full((), size, dtype=p.dtype, device=p.device).expand_as(p)  # it takes no memory
        yield
    finally:
        for p, gradient in trained:
            p.grad = gradient
        for name, p in own.items():
            put_back(p, values[name])


def shared_memory(model: nn.Module, reached: Reachable) -> dict[str, str]:
    """Parameter -> the place of an array, or of a tensor that is no buffer, that lies in its memory."""
    found: dict[str, str] = {}
    for name, p in model.named_parameters():
        if p.device.type != "cpu" or not plain(p):
            continue
        start = p.untyped_storage().data_ptr()
        end = start + p.untyped_storage().nbytes()
        for place, (first, length) in reached.memory.items():
            if length and first < end and start < first + length:
                found.setdefault(name, place)
    return found


__all__ = ["no_numbers_of_parameters", "shared_memory"]
