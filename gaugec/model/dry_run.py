"""Running a forward without numbers: on fake tensors, which have sizes and types and nothing else.

It costs neither memory nor arithmetic, at whatever sizes.  The forward takes the way that it takes in an export.

What this module does not do: it keeps no graph (see `gaugec.tracing.export`), and what a forward does with numbers (an
index beyond the end of a table) it does not see.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch._export.utils import _compiling_state_context
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv


def dry_run(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    fake_input: Callable[[FakeTensorMode, Tensor], Tensor] | None = None,
) -> ShapeEnv:
    """Calls the forward once; the model's parameters and buffers stay as they are.

    fake_input: makes a fake tensor of an example input, say with symbolic sizes; as it is by default.

    Returns: what the forward asked of symbolic sizes.

    Raises:
        Exception: whatever the forward raises, or asks that only numbers can answer.
    """
    known = ShapeEnv()
    fake = FakeTensorMode(shape_env=known, allow_non_fake_inputs=True, export=True)

    def without_numbers(x: Any) -> Any:
        if not isinstance(x, Tensor):
            return x
        return fake.from_tensor(x, static_shapes=True) if fake_input is None else fake_input(fake, x)

    inputs, named = torch.utils._pytree.tree_map(without_numbers, (args, kwargs))
    with _faked(model, fake), fake, _compiling_state_context(), torch.enable_grad():
        model(*inputs, **named)
    return known


@contextlib.contextmanager
def _faked(model: nn.Module, fake: FakeTensorMode) -> Iterator[None]:
    """Puts fakes where the parameters and buffers are, and them back.

    `torch.func.functional_call` would leave a fake in a module that the model holds under two names.
    """
    tables: list[dict[str, Any]] = []
    for module in model.modules():
        tables += [module._parameters, module._buffers]
    before = [dict(table) for table in tables]
    try:
        for table in tables:
            table.update({k: v if v is None else fake.from_tensor(v, static_shapes=True) for k, v in table.items()})
        yield
    finally:
        for table, own in zip(tables, before):
            table.clear()
            table.update(own)


__all__ = ["dry_run"]
