"""Running a forward without numbers: on fake tensors, which have sizes and types and nothing else.

It costs neither memory nor arithmetic, at whatever sizes.  The forward takes the way that it takes in an export.

What this module does not do: it keeps no graph (see `gaugec.tracing.export`), and what a forward does with numbers (an
index beyond the end of a table) it does not see.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gaugec.model.fakes import Remembering
from gaugec.model.inputs import mapped
from gaugec.model.interfaces import FakeTensorMode, ShapeEnv, compiling, leaves
from gaugec.model.picked import Picked


def dry_run(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    fake_input: Callable[[Any, Tensor], Tensor] | None = None,
    watched: contextlib.AbstractContextManager[Any] | None = None,
    returned: Callable[[Any], None] | None = None,
    backward: bool = False,
) -> Any:
    """Calls the forward once; the model's parameters and buffers stay as they are.

    fake_input: (mode, example input) -> a fake tensor of it, say with symbolic sizes; as it is by default.
    watched: is entered around the call, where the parameters are fakes (`gaugec.model.recording`).  returned: is given
    what the forward returns.  backward: the way of training is taken, unwatched, and its backward runs too.

    Returns: the `ShapeEnv`, with what the forward asked of symbolic sizes.

    Raises:
        Exception: whatever the forward raises, or asks that only numbers can answer.
    """
    known = ShapeEnv()
    fake = Remembering(shape_env=known, allow_non_fake_inputs=True, export=not backward)
    way = () if backward else (compiling(), watched or contextlib.nullcontext())
    _run(model, args, kwargs, fake, fake_input or _same_sizes, way, returned, backward=backward)
    return known


def without_numbers(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What the forward returns, as it is called in training and not in an export, with no numbers in it.

    Raises:
        Exception: whatever the forward raises, or asks that only numbers can answer.
    """
    return _run(model, args, kwargs, FakeTensorMode(allow_non_fake_inputs=True), _same_sizes)


def _run(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    fake: Any,
    fake_input: Callable[[Any, Tensor], Tensor],
    around: Iterable[contextlib.AbstractContextManager[Any]] = (),
    returned: Callable[[Any], None] | None = None,
    backward: bool = False,
) -> Any:
    inputs, named = mapped(lambda x: fake_input(fake, x) if isinstance(x, Tensor) else x, args, kwargs)
    with _faked(model, fake), fake, torch.enable_grad(), Picked(), contextlib.ExitStack() as entered:
        for each in around:
            entered.enter_context(each)
        made = model(*inputs, **named)
        if returned is not None:
            returned(made)
        if backward:
            values = leaves(dict(made) if isinstance(made, Mapping) else made)
            torch.autograd.backward([x.sum() for x in values if isinstance(x, Tensor) and x.requires_grad])
        return made


def _same_sizes(fake: Any, x: Tensor) -> Any:
    return fake.from_tensor(x, static_shapes=True)


@contextlib.contextmanager
def _faked(model: nn.Module, fake: Any) -> Iterator[None]:
    """Puts fakes where the parameters and buffers are, and them back.

    `torch.func.functional_call` would leave a fake in a module that the model holds under two names.
    """
    tables: list[dict[str, Any]] = []
    for module in model.modules():
        tables += [module._parameters, module._buffers]
    before = [dict(table) for table in tables]
    try:
        for table in tables:
            table.update({k: v if v is None else _same_sizes(fake, v) for k, v in table.items()})
        yield
    finally:
        for table, own in zip(tables, before):
            table.clear()
            table.update(own)


__all__ = ["dry_run", "without_numbers"]
