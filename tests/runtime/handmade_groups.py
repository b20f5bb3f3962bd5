"""Gauges of every group on a few tensors, written by hand: no model, only parameters and what moves them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from gaugec.runtime import Gauge
from gaugec.sites import Binding, Move, Site
from runtime.handmade import DOWN, ROTATE, SHIFT, UP, balance_fix, linear, site, vector, written

Case = tuple[list[Site], dict[str, tuple[int, ...]]]

PAIRS = {"pairing": "halves", "rotary": 6}


def _turned(gauge: str, group: str, size: int, *bindings: Binding, **rotary: object) -> Site:
    return site(gauge, 0, group, 1, size, bindings, **rotary)


def _pairs(role: str, name: str, move: Move, columns: int = 5) -> Binding:
    return Binding(role, name, 0, (), ((6, columns),), ((columns, 1),), move)


def _heads(role: str, name: str) -> Binding:
    """Three heads of four rows."""
    return Binding(role, name, 0, ((3, 28),), ((4, 7),), ((7, 1),), ROTATE)


CASES: dict[str, Case] = {
    "positive": (
        [site("unit", 0, "positive", 1, 6, [linear("W1", "a", 6, 5, UP, 0), linear("W2", "b", 7, 6, DOWN, 1)],
              balance_fix())],
        {"a": (6, 5), "b": (7, 6)},
    ),
    "positive_pairs": (
        [site("pair", 0, "positive_pairs", 1, 6, [_pairs("W1", "a", UP), _pairs("W2", "b", DOWN)], balance_fix(),
              **PAIRS)],
        {"a": (6, 5), "b": (6, 5)},
    ),
    "translation": ([_turned("shift", "translation", 9, linear("U", "a", 9, 5, SHIFT, 0))], {"a": (9, 5)}),
    "orthogonal": (
        [site("head", 0, "orthogonal", 3, 4, [_heads("Wv", "a"), _heads("Wo", "b")])], {"a": (12, 7), "b": (12, 7)}
    ),
    "orthogonal_ones": (
        [_turned("stream", "orthogonal_ones", 5, linear("W", "a", 8, 5, ROTATE, 1), vector("b", "b", 5, ROTATE))],
        {"a": (8, 5), "b": (5,)},
    ),
    "torus": (
        [_turned("keys", "torus", 6, _pairs("Wq", "a", ROTATE), _pairs("Wk", "b", ROTATE), **PAIRS)],
        {"a": (6, 5), "b": (6, 5)},
    ),
    "torus, in turn": (
        [_turned("keys", "torus", 6, _pairs("Wq", "a", ROTATE), pairing="interleaved", rotary=6)], {"a": (6, 5)}
    ),
    "two rotations, one of them with a tensor of its own": (
        [
            _turned("rows", "orthogonal", 4, linear("A", "a", 4, 3, ROTATE, 0), linear("B", "b", 4, 5, ROTATE, 0)),
            _turned("columns", "orthogonal", 3, linear("A", "a", 4, 3, ROTATE, 1)),
        ],
        {"a": (4, 3), "b": (4, 5)},
    ),
    "two rotations that meet everywhere": (
        [
            _turned("rows", "orthogonal", 4, linear("A", "a", 4, 3, ROTATE, 0), linear("B", "b", 4, 3, ROTATE, 0)),
            _turned("columns", "orthogonal", 3, linear("A", "a", 4, 3, ROTATE, 1), linear("B", "b", 4, 3, ROTATE, 1)),
        ],
        {"a": (4, 3), "b": (4, 3)},
    ),
    "a torus that meets a rotation": (
        [
            _turned("keys", "torus", 6, _pairs("A", "a", ROTATE, 3), _pairs("B", "b", ROTATE, 3), **PAIRS),
            _turned("columns", "orthogonal", 3, linear("A", "a", 6, 3, ROTATE, 1), linear("B", "b", 6, 3, ROTATE, 1)),
        ],
        {"a": (6, 3), "b": (6, 3)},
    ),
    "two rotations of one tensor that do not meet": (
        [
            site("rows", 0, "orthogonal", 1, 4, [Binding("A", "a", 0, (), ((4, 3),), ((3, 1),), ROTATE)]),
            site("below", 1, "orthogonal", 1, 3, [Binding("A", "a", 12, (), ((3, 3),), ((3, 1),), ROTATE)]),
        ],
        {"a": (7, 3)},
    ),
    "a scale beside a shift": (
        [
            site("gain", 0, "positive", 1, 5, [linear("W1", "a", 9, 5, UP, 1), linear("W2", "b", 7, 5, DOWN, 1)],
                 balance_fix()),
            _turned("shift", "translation", 9, linear("U", "a", 9, 5, SHIFT, 0)),
        ],
        {"a": (9, 5), "b": (7, 5)},
    ),
}  # fmt: skip


def compiled(name: str) -> Gauge:
    """The gauge of a case."""
    sites, shapes = CASES[name]
    return Gauge(written(sites, shapes))


def drawn(shapes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, Tensor]:
    """Random parameters in float64, and one that no gauge moves."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(*shape, generator=generator, dtype=torch.float64)
        for name, shape in {**shapes, "other": (3,)}.items()
    }
