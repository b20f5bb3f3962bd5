"""Rows of the lowering table for tensors of one number, and for the larger and the smaller of two tensors.

See `gaugec.tracing.aten` for what a row is.  What this module does not do: integers and masks, which stay opaque
constants.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from gaugec.graph.builder import Builder, Ref
from gaugec.tracing.aten import number, row


@row("maximum", "minimum")
def _larger(b: Builder, shape: tuple[int, ...], x: Ref, y: Ref) -> Ref:
    return b.map("max" if b.source == "aten.maximum" else "min", x, y)


@row("zeros", "zeros_like", "new_zeros")
def _zeros(b: Builder, shape: tuple[int, ...], *_: Any, **__: Any) -> Ref:
    return b.scalar(Fraction(0), shape)


@row("ones", "ones_like", "new_ones")
def _ones(b: Builder, shape: tuple[int, ...], *_: Any, **__: Any) -> Ref:
    return b.scalar(Fraction(1), shape)


@row("full", "full_like", "new_full", "scalar_tensor")
def _full(b: Builder, shape: tuple[int, ...], *arguments: Any, **_: Any) -> Ref:
    return b.scalar(number(arguments[-1]), shape)
