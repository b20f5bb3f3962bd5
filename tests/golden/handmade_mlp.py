"""A compiled gauge: frames and projectors for the parameters of one model.

Written by gaugec; edit the spec, not this file.  Every tensor has a batch axis in front: parameters of equal shape are
stacked.  The optimizers of gaugec.runtime call the functions of the components and know no gauge themselves.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from gaugec.runtime import actions, frames, solvers
from gaugec.runtime.frames import Frame
from gaugec.runtime.layout import Slice, Tensors

METADATA: dict[str, Any] = {"spec": "by hand"}


# --- component 0: (slot, offset, copies, group axis, rotary pair, rest), axes as (size, stride)

C0G0P0 = Slice("p0", 0, (), ((11, 7),), (), ((7, 1),))  # W1
C0G0P1 = Slice("p1", 0, (), ((11, 1),), (), ())  # b1
C0G0P2 = Slice("p2", 0, (), ((11, 1),), (), ((9, 11),))  # W2
C0G1P0 = Slice("p2", 0, (), ((9, 11),), (), ((11, 1),))  # W1
C0G1P1 = Slice("p3", 0, (), ((9, 1),), (), ())  # b1
C0G1P2 = Slice("p4", 0, (), ((9, 1),), (), ((5, 9),))  # W2


class Component0:
    """Gauges that share parameters; `instances` lists where.

    g0: relu_rescale, positive on 1 x 11. A ReLU unit's scale can move across it. Canonical form: rownorm(W1) ==
        colnorm(W2).
    g1: relu_rescale, positive on 1 x 9. A ReLU unit's scale can move across it. Canonical form: rownorm(W1) ==
        colnorm(W2).
    """

    shapes: ClassVar[dict[str, tuple[int, ...]]] = {"p0": (11, 7), "p1": (11,), "p2": (9, 11), "p3": (9,), "p4": (5, 9)}
    elements: ClassVar[dict[str, tuple[str, int, int]]] = {"g0": ("scale", 1, 11), "g1": ("scale", 1, 9)}
    pooled: ClassVar[tuple[str, ...]] = ()
    cuts: ClassVar[dict[str, int]] = {"p0": 1, "p1": 1, "p2": 1, "p3": 1, "p4": 1}
    whole: ClassVar[bool] = False
    kept: ClassVar[tuple[str, ...]] = ("q0",)
    powers: ClassVar[dict[str, tuple[float, ...]]] = {"g0": (1.0, -1.0), "g1": (1.0, -1.0)}
    canonical_powers: ClassVar[dict[str, tuple[tuple[Slice, str, float], ...]]] = {
        "p0": ((C0G0P0, "g0", 1.0),),
        "p1": ((C0G0P1, "g0", 1.0),),
        "p2": ((C0G0P2, "g0", -1.0), (C0G1P0, "g1", 1.0)),
        "p3": ((C0G1P1, "g1", 1.0),),
        "p4": ((C0G1P2, "g1", -1.0),),
    }
    pull_powers: ClassVar[dict[str, tuple[tuple[Slice, str, float], ...]]] = {
        "p0": ((C0G0P0, "g0", -1.0),),
        "p1": ((C0G0P1, "g0", -1.0),),
        "p2": ((C0G0P2, "g0", 1.0), (C0G1P0, "g1", -1.0)),
        "p3": ((C0G1P1, "g1", -1.0),),
        "p4": ((C0G1P2, "g1", 1.0),),
    }
    moves: ClassVar[dict[str, tuple[str, ...]]] = {"g0": ("p0", "p1", "p2"), "g1": ("p2", "p3", "p4")}
    instances: ClassVar[tuple[tuple[str, ...], ...]] = (
        # maps.0, maps.1
        ("maps.0.weight", "maps.0.bias", "maps.1.weight", "maps.1.bias", "maps.2.weight"),
    )

    @staticmethod
    def alive(params: Tensors) -> Tensors:
        """Where every scale can be solved for; elsewhere the orbit is singular and the scale stays 1."""
        live: Tensors = {}
        point = {
            "p0": params["p0"].clone(),
            "p2": params["p2"].clone(),
            "p4": params["p4"].clone(),
        }
        n0 = frames.norm(point, (C0G0P0,))
        n1 = frames.norm(point, (C0G0P2,))
        live["g0"] = frames.alive(n1.sqrt() / n0.sqrt())
        n0 = frames.norm(point, (C0G1P0,))
        n1 = frames.norm(point, (C0G1P2,))
        live["g1"] = frames.alive(n1.sqrt() / n0.sqrt())
        return live

    @staticmethod
    def frame(params: Tensors, live: Tensors) -> Frame:
        """Solve for the scales that bring the parameters to canonical form."""
        out = Frame()
        point = {
            "p0": params["p0"].clone(),
            "p2": params["p2"].clone(),
            "p4": params["p4"].clone(),
        }
        # g0: rownorm(W1) == colnorm(W2), one-sided
        n0 = frames.norm(point, (C0G0P0,))
        out.scales["g0"] = frames.settle(1 / n0, live["g0"])
        actions.stretch(point, C0G0P0, out.scales["g0"])
        actions.stretch(point, C0G0P2, 1 / out.scales["g0"])
        # g1: rownorm(W1) == colnorm(W2), one-sided
        n0 = frames.norm(point, (C0G1P0,))
        out.scales["g1"] = frames.settle(1 / n0, live["g1"])
        actions.stretch(point, C0G1P0, out.scales["g1"])
        actions.stretch(point, C0G1P2, 1 / out.scales["g1"])
        for _ in range(4):  # any fixed number of rounds is exact
            n0 = frames.norm(point, (C0G0P0,))
            n1 = frames.norm(point, (C0G0P2,))
            scale = frames.settle(n1.sqrt() / n0.sqrt(), live["g0"])
            out.scales["g0"] = out.scales["g0"] * scale
            actions.stretch(point, C0G0P0, scale)
            actions.stretch(point, C0G0P2, 1 / scale)
            n0 = frames.norm(point, (C0G1P0,))
            n1 = frames.norm(point, (C0G1P2,))
            scale = frames.settle(n1.sqrt() / n0.sqrt(), live["g1"])
            out.scales["g1"] = out.scales["g1"] * scale
            actions.stretch(point, C0G1P0, scale)
            actions.stretch(point, C0G1P2, 1 / scale)
        return out.ready(Component0.powers, next(iter(params.values())).dtype)

    @staticmethod
    def canonical(params: Tensors, frame: Frame, out: Tensors | None = None) -> Tensors:
        """The moved quantities in canonical coordinates, in `out` (where a scale moves them) or as new tensors."""
        return frames.scaled(params, frame, Component0.canonical_powers, out)

    @staticmethod
    def pull(gradient: Tensors, frame: Frame, out: Tensors | None = None) -> Tensors:
        """A gradient in canonical coordinates, by the inverse transposed Jacobian of `canonical`; `out` as there."""
        return frames.scaled(gradient, frame, Component0.pull_powers, out)

    @staticmethod
    def push(update: Tensors, frame: Frame) -> Tensors:
        """A step from canonical coordinates to the parameters', in place."""
        return frames.scaled(update, frame, Component0.pull_powers, update)

    @staticmethod
    def pool(squares: Tensors) -> Tensors:
        """Average squares over what compact elements mix."""
        out = dict(squares)
        return out

    @staticmethod
    def unpool(pooled: Tensors, out: Tensors) -> Tensors:
        """Spread what `pool` gave over the parameters' shapes, in `out` where it was averaged."""
        spread = dict(pooled)
        return spread

    @staticmethod
    def lift(values: Tensors, point: Tensors, coefficients: Tensors, alpha: float) -> Tensors:
        """Add alpha times the vertical vector with these coefficients at point, in place."""
        actions.add_scaled(values, point, C0G0P0, coefficients["g0"], alpha)
        actions.add_scaled(values, point, C0G0P1, coefficients["g0"], alpha)
        actions.add_scaled(values, point, C0G0P2, coefficients["g0"], -alpha)
        actions.add_scaled(values, point, C0G1P0, coefficients["g1"], alpha)
        actions.add_scaled(values, point, C0G1P1, coefficients["g1"], alpha)
        actions.add_scaled(values, point, C0G1P2, coefficients["g1"], -alpha)
        return values

    @staticmethod
    def vertical(point: Tensors, coefficients: Tensors) -> Tensors:
        """The tangent vector of the orbit at point that the coefficients name."""
        zeros = {slot: torch.zeros_like(value) for slot, value in point.items()}
        return Component0.lift(zeros, point, coefficients, 1.0)

    @staticmethod
    def covertical(update: Tensors, point: Tensors) -> Tensors:
        """The transpose of `vertical`: inner products of an update with every tangent vector."""
        products = actions.products(update, point, ("p0", "p1", "p2", "p3", "p4"), None)
        return {
            "g0": actions.total(products, C0G0P0) + actions.total(products, C0G0P1) - actions.total(products, C0G0P2),
            "g1": actions.total(products, C0G1P0) + actions.total(products, C0G1P1) - actions.total(products, C0G1P2),
        }

    @staticmethod
    def tangents(params: Tensors) -> Tensors:
        """Every tangent vector of the orbit at the parameters: slot -> [number, batch, *shape]."""
        point = {
            "p0": params["p0"].clone(),
            "p1": params["p1"].clone(),
            "p2": params["p2"].clone(),
            "p3": params["p3"].clone(),
            "p4": params["p4"].clone(),
        }
        return actions.tangents(Component0.vertical, point, Component0.elements)

    @staticmethod
    def blank(point: Tensors) -> Tensors:
        """Room for what `measure` adds up, zeros."""
        batch = next(iter(point.values())).shape[0]
        return {
            "right g0": actions.zeros(point, "scale", 1, 11),
            "d0": actions.zeros(point, "scale", 1, 11),
            "right g1": actions.zeros(point, "scale", 1, 9),
            "d1": actions.zeros(point, "scale", 1, 9),
            "q0": actions.room_for(point, batch, ((11, 1), (9, 11))),
            "size": torch.zeros(batch, dtype=torch.float64, device=next(iter(point.values())).device),
        }

    @staticmethod
    def measure(update: Tensors, point: Tensors, out: Tensors, room: Tensors | None = None) -> None:
        """Add what these slots and rows contribute to the joint normal equations, in `out`.

        They are made of products of the update and of the tangents with the tangents.  room: tensors like the update's.
        """
        products = actions.products(update, point, ("p0", "p1", "p2", "p3", "p4"), room)
        actions.add_total(out["right g0"], products, C0G0P0, 1.0)
        actions.add_total(out["right g0"], products, C0G0P1, 1.0)
        actions.add_total(out["right g0"], products, C0G0P2, -1.0)
        actions.add_total(out["right g1"], products, C0G1P0, 1.0)
        actions.add_total(out["right g1"], products, C0G1P1, 1.0)
        actions.add_total(out["right g1"], products, C0G1P2, -1.0)
        squares = actions.products(point, point, ("p0", "p1", "p2", "p3", "p4"), room)
        actions.add_total(out["d0"], squares, C0G0P0, 1.0)
        actions.add_total(out["d0"], squares, C0G0P1, 1.0)
        actions.add_total(out["d0"], squares, C0G0P2, 1.0)
        actions.add_total(out["d1"], squares, C0G1P0, 1.0)
        actions.add_total(out["d1"], squares, C0G1P1, 1.0)
        actions.add_total(out["d1"], squares, C0G1P2, 1.0)
        actions.add_block(out["q0"], squares, "p2", 0, ((11, 1), (9, 11)), ())
        actions.add_size(out["size"], update)

    @staticmethod
    def solve(measured: Tensors, point: Tensors, off: frozenset[str]) -> Tensors:
        """The coefficients of the vertical part, of all gauges jointly."""
        right = {
            "g0": measured["right g0"],
            "g1": measured["right g1"],
        }
        tolerance = solvers.tolerance(point)
        d0 = measured["d0"]
        i0 = solvers.inverse(d0)
        d1 = measured["d1"]
        i1 = solvers.inverse(d1)
        a: Tensors = {}
        together = {name: right[name] for name in ("g0", "g1")}
        inverse: solvers.Blocks = {
            "g0": lambda x: x * i0,
            "g1": lambda x: x * i1,
        }
        diagonal: solvers.Blocks = {
            "g0": lambda x: x * d0,
            "g1": lambda x: x * d1,
        }
        crosses = (
            solvers.Cross("g0", "g1", measured["q0"], ("ab", "a", "b"), (0, ((11, 1),)), (0, ((9, 1),)), -1.0),
        )
        size = measured["size"].sqrt()
        a.update(solvers.solve_blocks(together, diagonal, inverse, crosses, ("g0",), size, tolerance, off))
        return solvers.without(a, off, right)

    @staticmethod
    def project(update: Tensors, point: Tensors, frame: Frame, a: Tensors | None = None) -> Tensors:
        """Remove the vertical part of an update at the canonical point, in place.

        a: the coefficients of the vertical part, where they are known: then any slots and rows will do.
        """
        if a is None:
            measured = Component0.blank(point)
            Component0.measure(update, point, measured)
            a = Component0.solve(measured, point, frame.off)
        return Component0.lift(update, point, a, -1.0)

    @staticmethod
    def random_element(batch: int, generator: torch.Generator | None = None) -> Tensors:
        """A random element of every gauge, in float64."""
        return {
            name: actions.random_element(kind, copies, size, batch, generator)
            for name, (kind, copies, size) in Component0.elements.items()
        }

    @staticmethod
    def act(params: Tensors, element: Tensors) -> Tensors:
        """Move the parameters by an element, gauge after gauge, as new tensors."""
        point = {
            "p0": params["p0"].clone(),
            "p1": params["p1"].clone(),
            "p2": params["p2"].clone(),
            "p3": params["p3"].clone(),
            "p4": params["p4"].clone(),
        }
        actions.stretch(point, C0G0P0, element["g0"])
        actions.stretch(point, C0G0P1, element["g0"])
        actions.stretch(point, C0G0P2, 1 / element["g0"])
        actions.stretch(point, C0G1P0, element["g1"])
        actions.stretch(point, C0G1P1, element["g1"])
        actions.stretch(point, C0G1P2, 1 / element["g1"])
        return {
            "p0": point["p0"],
            "p1": point["p1"],
            "p2": point["p2"],
            "p3": point["p3"],
            "p4": point["p4"],
        }


COMPONENTS = (Component0(),)
