"""Private interfaces of torch that the runtime calls: here and nowhere else.

Tried with torch 2.13.0; where one is missing, the tests of the optimizer fail in their first step.

`torch._fused_adamw_` is what `torch.optim.AdamW(fused=True)` calls. The public `torch.optim.adamw.adamw` runs the same
kernel, but sorts its arguments by device first, which for one small tensor takes longer than the kernel.

`compiled` is what torch.compile calls once it has looked at the Python: to call what it returns takes half the time.

`uncompiled` is torch.compiler.disable as a decorator that does not import the compiler, as torch.optim itself uses it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor
from torch._compile import _disable_dynamo as uncompiled

__all__ = ["DEVICES", "adam", "compiled", "number", "serves", "uncompiled"]

DEVICES = ("cpu", "cuda")  # where the fused kernel is known to be


@lru_cache(maxsize=64)
def number(value: float, dtype: torch.dtype = torch.float32, device: torch.device | None = None) -> Tensor:
    """A number as a tensor without axes, to be read only: on a CPU, to multiply by it takes half of a float's call."""
    return torch.tensor(value, dtype=dtype, device="cpu" if device is None else device)


def adam(
    x: Tensor,
    gradient: Tensor,
    first: Tensor,
    second: Tensor,
    step: int,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    decay: float,
) -> None:
    """Take AdamW's step number `step`, from 1: x and both moments are updated in place.

    All tensors have one shape and one floating point dtype, on a device of `DEVICES`.
    """
    torch._fused_adamw_(
        [x],
        [gradient],
        [first],
        [second],
        [],
        [number(float(step), torch.float32, x.device)],
        lr=lr,
        beta1=betas[0],
        beta2=betas[1],
        weight_decay=decay,
        eps=eps,
        amsgrad=False,
        maximize=False,
    )


def serves(tensors: Sequence[Tensor]) -> bool:
    """Whether the fused kernel steps tensors of one shape right.

    It goes through their memory from the first entry on: an entry has to be at the same place in all of them.
    """
    first = tensors[0]
    if first.device.type not in DEVICES or not first.is_floating_point():
        return False
    if all(x.is_contiguous() for x in tensors):
        return True
    span = 1 + sum((size - 1) * stride for size, stride in zip(first.shape, first.stride()))
    return span == first.numel() and all(x.stride() == first.stride() for x in tensors)


def compiled(graph: torch.fx.GraphModule, arguments: Sequence[Tensor], options: dict[str, Any]) -> Callable[..., Any]:
    """A graph of tensors, which may write to them, fused for tensors like the arguments; nothing checks that they are.

    options: of torch.compile.
    """
    from torch._guards import TracingContext, tracing  # these take a second
    from torch._inductor.compile_fx import compile_fx
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    mode = FakeTensorMode(shape_env=ShapeEnv())  # without a ShapeEnv nothing is kept for the next process
    shapes = [mode.from_tensor(x, static_shapes=True) for x in arguments]  # or sizes that are equal are taken for one
    with tracing(TracingContext(mode)):
        out: Any = compile_fx(graph, shapes, config_patches=options)
    return cast("Callable[..., Any]", out)
