"""Elements of the groups of a compiled file, as tensors: the identity, inverses, products, how far they go.

An element is [batch, copies, size], and one more axis for a matrix; kinds are those of `groups.Action`.

Not here: what an element does to parameters (see `groups`), random ones (see `actions`).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gaugec.runtime.actions import of_matrices
from gaugec.runtime.component import Component
from gaugec.runtime.layout import Tensors

WIDE = "wide"
"""The place, in an element of a whole gauge, of those that run through the whole model."""


def identity(kind: str, copies: int, size: int) -> Tensor:
    """The element that moves nothing: [1, copies, size, ...] in float64."""
    if of_matrices(kind):
        return torch.eye(size, dtype=torch.float64, device="cpu").expand(1, copies, size, size).clone()
    return torch.full((1, copies, size), 1.0 if kind == "scale" else 0.0, dtype=torch.float64, device="cpu")


def identities(component: Component) -> Tensors:
    """The element of every gauge of a component that moves nothing."""
    return {name: identity(*kind) for name, kind in component.elements.items()}


def inverse(kind: str, element: Tensor) -> Tensor:
    """The element that undoes one."""
    if kind == "matrix":
        return torch.linalg.inv(element)
    if kind.startswith("rotate"):
        return element.mT.contiguous()
    return 1 / element if kind == "scale" else -element


def product(kind: str, second: Tensor, first: Tensor) -> Tensor:
    """The element that does what the first does, and then the second."""
    if of_matrices(kind):
        return second @ first
    return second * first if kind == "scale" else second + first


def length(kind: str, element: Tensor) -> float:
    """How far an element moves: the root mean square, over copies and units, of log scales, shifts, or angles.

    The angles of a rotation are those of its eigenvalues, in radians; a reflection has an angle of pi.  Of an
    invertible matrix the logs of its singular values count, and the angles of the rotation that is nearest to it.
    """
    if kind == "matrix":
        left, stretch, right = torch.linalg.svd(element)
        return math.hypot(length("scale", stretch), length("rotate", left @ right))
    if kind == "scale":
        steps = element.log()
    elif kind == "turn":
        steps = torch.atan2(element.sin(), element.cos())
    elif kind == "shift":
        steps = element
    else:
        steps = torch.linalg.eigvals(element).angle()
    return float(steps.double().square().mean().sqrt())
