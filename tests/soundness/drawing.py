"""Elements of every group in float64, for the judge: samplers of its own, conditioned so that rounding is harmless."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = Any  # numpy.ndarray of float64
MATRICES = frozenset({"orthogonal", "orthogonal_ones", "torus", "invertible"})


class Unjudged(Exception):
    """The judge has no meaning for this."""


def element(group: str, k: int, size: float, flip: bool, rng: np.random.Generator) -> Array:
    """A random element; `size` says how far from the identity, `flip` the sign of the determinant."""
    if group == "positive":
        return np.exp(size * rng.uniform(-1, 1, k))
    if group == "positive_pairs":
        half = np.exp(size * rng.uniform(-1, 1, k // 2))
        return np.concatenate([half, half])
    if group == "translation":
        return size * rng.choice((-1, 1), k) * rng.uniform(0.3, 1.5, k)
    if group == "torus":
        angle = size * rng.choice((-1, 1), k // 2) * rng.uniform(0.4, 2.5, k // 2)
        cosine, sine = np.diag(np.cos(angle)), np.diag(np.sin(angle))
        return np.block([[cosine, -sine], [sine, cosine]])
    if group == "orthogonal":
        return rotation(k, size, flip, rng)
    if group == "orthogonal_ones":
        if k < 2:
            return np.eye(k)
        basis = np.linalg.qr(np.column_stack([np.ones(k), rng.normal(size=(k, k - 1))]))[0][:, 1:]
        return basis @ rotation(k - 1, size, flip, rng) @ basis.T + np.full((k, k), 1 / k)
    if group == "invertible":
        stretch = np.exp(min(size, 1.0) * rng.uniform(-1, 1, k))
        return rotation(k, size, flip, rng) @ np.diag(stretch) @ rotation(k, size, False, rng)
    raise Unjudged(f"the group {group}")


def rotation(k: int, size: float, flip: bool, rng: np.random.Generator) -> Array:
    """An orthogonal matrix of either determinant, by Cayley's transform."""
    skew = rng.normal(size=(k, k)) * size
    skew = skew - skew.T
    turned = np.linalg.solve(np.eye(k) + skew, np.eye(k) - skew)
    if flip:
        mirror = rng.normal(size=k)
        turned = turned - 2 * np.outer(mirror, mirror @ turned) / (mirror @ mirror)
    return turned


def identity(group: str, k: int) -> Array:
    if group in MATRICES:
        return np.eye(k)
    return np.zeros(k) if group == "translation" else np.ones(k)


def compose(group: str, left: Array, right: Array) -> Array:
    if group in MATRICES:
        return left @ right
    return left + right if group == "translation" else left * right
