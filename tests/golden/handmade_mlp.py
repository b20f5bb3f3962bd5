"""A compiled gauge: frames and projectors for the parameters of one model.

Written by gaugec; edit the spec, not this file.  Every tensor has a batch axis in front: parameters of equal shape are
stacked.  The optimizers of gaugec.runtime call the functions of the components and know no gauge themselves.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from gaugec.runtime import linalg, solvers
from gaugec.runtime.linalg import Frame, Slice, Tensors

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
    powers: ClassVar[dict[str, tuple[float, ...]]] = {"g0": (1.0, -1.0), "g1": (1.0, -1.0)}
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
        n0 = linalg.norm(point, (C0G0P0,))
        n1 = linalg.norm(point, (C0G0P2,))
        live["g0"] = linalg.alive(n1.sqrt() / n0.sqrt())
        n0 = linalg.norm(point, (C0G1P0,))
        n1 = linalg.norm(point, (C0G1P2,))
        live["g1"] = linalg.alive(n1.sqrt() / n0.sqrt())
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
        n0 = linalg.norm(point, (C0G0P0,))
        out.scales["g0"] = linalg.settle(1 / n0, live["g0"])
        linalg.stretch(point, C0G0P0, out.scales["g0"])
        linalg.stretch(point, C0G0P2, 1 / out.scales["g0"])
        # g1: rownorm(W1) == colnorm(W2), one-sided
        n0 = linalg.norm(point, (C0G1P0,))
        out.scales["g1"] = linalg.settle(1 / n0, live["g1"])
        linalg.stretch(point, C0G1P0, out.scales["g1"])
        linalg.stretch(point, C0G1P2, 1 / out.scales["g1"])
        for _ in range(4):  # any fixed number of rounds is exact
            n0 = linalg.norm(point, (C0G0P0,))
            n1 = linalg.norm(point, (C0G0P2,))
            scale = linalg.settle(n1.sqrt() / n0.sqrt(), live["g0"])
            out.scales["g0"] = out.scales["g0"] * scale
            linalg.stretch(point, C0G0P0, scale)
            linalg.stretch(point, C0G0P2, 1 / scale)
            n0 = linalg.norm(point, (C0G1P0,))
            n1 = linalg.norm(point, (C0G1P2,))
            scale = linalg.settle(n1.sqrt() / n0.sqrt(), live["g1"])
            out.scales["g1"] = out.scales["g1"] * scale
            linalg.stretch(point, C0G1P0, scale)
            linalg.stretch(point, C0G1P2, 1 / scale)
        return out.ready(Component0.powers, next(iter(params.values())).dtype)

    @staticmethod
    def canonical(params: Tensors, frame: Frame, out: Tensors | None = None) -> Tensors:
        """The moved quantities in canonical coordinates, as new tensors or in `out`."""
        point = linalg.copies(params, out)
        linalg.stretch(point, C0G0P0, frame.powers["g0"][1.0])
        linalg.stretch(point, C0G0P1, frame.powers["g0"][1.0])
        linalg.stretch(point, C0G0P2, frame.powers["g0"][-1.0])
        linalg.stretch(point, C0G1P0, frame.powers["g1"][1.0])
        linalg.stretch(point, C0G1P1, frame.powers["g1"][1.0])
        linalg.stretch(point, C0G1P2, frame.powers["g1"][-1.0])
        return point

    @staticmethod
    def pull(gradient: Tensors, frame: Frame, out: Tensors | None = None) -> Tensors:
        """A gradient in canonical coordinates, by the inverse transposed Jacobian of `canonical`; in `out` or new."""
        out = linalg.copies(gradient, out)
        linalg.stretch(out, C0G0P0, frame.powers["g0"][-1.0])
        linalg.stretch(out, C0G0P1, frame.powers["g0"][-1.0])
        linalg.stretch(out, C0G0P2, frame.powers["g0"][1.0])
        linalg.stretch(out, C0G1P0, frame.powers["g1"][-1.0])
        linalg.stretch(out, C0G1P1, frame.powers["g1"][-1.0])
        linalg.stretch(out, C0G1P2, frame.powers["g1"][1.0])
        return out

    @staticmethod
    def push(update: Tensors, frame: Frame) -> Tensors:
        """A step from canonical coordinates to the parameters', in place."""
        out = update
        linalg.stretch(out, C0G0P0, frame.powers["g0"][-1.0])
        linalg.stretch(out, C0G0P1, frame.powers["g0"][-1.0])
        linalg.stretch(out, C0G0P2, frame.powers["g0"][1.0])
        linalg.stretch(out, C0G1P0, frame.powers["g1"][-1.0])
        linalg.stretch(out, C0G1P1, frame.powers["g1"][-1.0])
        linalg.stretch(out, C0G1P2, frame.powers["g1"][1.0])
        return out

    @staticmethod
    def pool(squares: Tensors) -> Tensors:
        """Average squares over what compact elements mix."""
        return {
            "p0": squares["p0"],
            "p1": squares["p1"],
            "p2": squares["p2"],
            "p3": squares["p3"],
            "p4": squares["p4"],
        }

    @staticmethod
    def unpool(pooled: Tensors, out: Tensors) -> Tensors:
        """Spread what `pool` gave over the parameters' shapes, in `out` where it was averaged."""
        return {
            "p0": pooled["p0"],
            "p1": pooled["p1"],
            "p2": pooled["p2"],
            "p3": pooled["p3"],
            "p4": pooled["p4"],
        }

    @staticmethod
    def lift(values: Tensors, point: Tensors, coefficients: Tensors, alpha: float) -> Tensors:
        """Add alpha times the vertical vector with these coefficients at point, in place."""
        linalg.add_scaled(values, point, C0G0P0, coefficients["g0"], alpha)
        linalg.add_scaled(values, point, C0G0P1, coefficients["g0"], alpha)
        linalg.add_scaled(values, point, C0G0P2, coefficients["g0"], -alpha)
        linalg.add_scaled(values, point, C0G1P0, coefficients["g1"], alpha)
        linalg.add_scaled(values, point, C0G1P1, coefficients["g1"], alpha)
        linalg.add_scaled(values, point, C0G1P2, coefficients["g1"], -alpha)
        return values

    @staticmethod
    def vertical(point: Tensors, coefficients: Tensors) -> Tensors:
        """The tangent vector of the orbit at point that the coefficients name."""
        zeros = {slot: torch.zeros_like(value) for slot, value in point.items()}
        return Component0.lift(zeros, point, coefficients, 1.0)

    @staticmethod
    def covertical(update: Tensors, point: Tensors, out: Tensors | None = None) -> Tensors:
        """The transpose of `vertical`: inner products of an update with every tangent vector; `out` is room to work."""
        products = linalg.products(update, point, ("p0", "p1", "p2", "p3", "p4"), out)
        return {
            "g0": linalg.total(products, C0G0P0) + linalg.total(products, C0G0P1) - linalg.total(products, C0G0P2),
            "g1": linalg.total(products, C0G1P0) + linalg.total(products, C0G1P1) - linalg.total(products, C0G1P2),
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
        return linalg.tangents(Component0.vertical, point, Component0.elements)

    @staticmethod
    def measure(update: Tensors, point: Tensors, room: Tensors | None = None) -> Tensors:
        """What the joint normal equations are made of: products of the update and of the tangents with the tangents.

        room: tensors like the update's to work in; the result may be views of them.
        """
        right = Component0.covertical(update, point, room)
        out = {f"right {name}": value for name, value in right.items()}
        squares = linalg.products(point, point, ("p0", "p1", "p2", "p3", "p4"), room)
        out["d0"] = linalg.total(squares, C0G0P0) + linalg.total(squares, C0G0P1) + linalg.total(squares, C0G0P2)
        out["d1"] = linalg.total(squares, C0G1P0) + linalg.total(squares, C0G1P1) + linalg.total(squares, C0G1P2)
        out["q0"] = linalg.block(squares["p2"], 0, ((11, 1), (9, 11)), ())
        return out

    @staticmethod
    def solve(measured: Tensors, point: Tensors, size: Tensor, off: frozenset[str]) -> Tensors:
        """The coefficients of the vertical part, of all gauges jointly."""
        right = {name: measured[f"right {name}"] for name in Component0.elements}
        tolerance = solvers.tolerance(point)
        d0 = measured["d0"]
        d1 = measured["d1"]

        a: Tensors = {}
        a = solvers.without(a, off)

        def inverse(right: Tensors) -> Tensors:
            return {"g0": right["g0"] * solvers.inverse(d0), "g1": right["g1"] * solvers.inverse(d1)}

        def gram(a: Tensors) -> Tensors:
            out = {
                "g0": d0 * a["g0"],
                "g1": d1 * a["g1"],
            }
            solvers.couple(out["g0"], a["g1"], measured["q0"], "zab,zb->za", (0, ((11, 1),)), (0, ((9, 1),)), -1.0)
            solvers.couple(out["g1"], a["g0"], measured["q0"], "zab,za->zb", (0, ((9, 1),)), (0, ((11, 1),)), -1.0)
            return out

        right = {name: right[name] for name in ("g0", "g1")}
        a.update(solvers.solve(gram, right, inverse, size, tolerance, off))
        return a

    @staticmethod
    def project(update: Tensors, point: Tensors, frame: Frame, room: Tensors | None = None) -> Tensors:
        """Remove the vertical part of an update at the canonical point, in place; `room` as in `measure`."""
        measured = Component0.measure(update, point, room)
        a = Component0.solve(measured, point, solvers.size(update), frame.off)
        return Component0.lift(update, point, a, -1.0)

    @staticmethod
    def random_element(batch: int, generator: torch.Generator | None = None) -> Tensors:
        """A random element of every gauge, in float64."""
        return {
            name: linalg.random_element(kind, copies, size, batch, generator)
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
        linalg.stretch(point, C0G0P0, element["g0"])
        linalg.stretch(point, C0G0P1, element["g0"])
        linalg.stretch(point, C0G0P2, 1 / element["g0"])
        linalg.stretch(point, C0G1P0, element["g1"])
        linalg.stretch(point, C0G1P1, element["g1"])
        linalg.stretch(point, C0G1P2, 1 / element["g1"])
        return {
            "p0": point["p0"],
            "p1": point["p1"],
            "p2": point["p2"],
            "p3": point["p3"],
            "p4": point["p4"],
        }


COMPONENTS = (Component0(),)
