"""The two halves of a step as graphs that torch.compile has fused: one pass over the memory each.

The functions of a component are traced once for all batches that look the same.  Not here: what a step does.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from gaugec.runtime import actions, kernels

# Loops turned round to fit another tensor's read their own against the grain.
OPTIONS: dict[str, Any] = {"loop_ordering_after_fusion": False}


def check() -> None:
    """Compile and run a small function; raise RuntimeError, saying what is missing, where that does not work."""
    x = torch.arange(8.0, device="cpu")
    try:
        y = torch.compile(lambda x: (x * 2 + 1).sum(), fullgraph=True, dynamic=False)(x)
    except Exception as error:
        raise RuntimeError(
            "compile=True needs torch.compile, and on the CPU a C++ compiler (g++ or clang++ on the PATH, or named by "
            f"CXX): install one, or leave compile=False. torch says: {str(error).strip().splitlines()[0]}"
        ) from error
    if float(y) != 64.0:
        raise RuntimeError("torch.compile gives wrong numbers on this machine: leave compile=False")


def fuse(function: Callable[..., Any], arguments: Sequence[Tensor]) -> Callable[..., Any]:
    """Compile a function of tensors, which may write to them; `arguments` are an example and stay as they are."""

    def run(*tensors: Tensor) -> Any:
        with actions.fusing():
            return function(*tensors)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about copies into views, which functionalization removes
        graph = make_fx(run, tracing_mode="fake")(*arguments)
    return kernels.compiled(graph, arguments, OPTIONS)
