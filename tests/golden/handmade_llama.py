"""A compiled gauge: frames and projectors for the parameters of one model.

Written by gaugec; edit the spec, not this file.  Every tensor has a batch axis in front: parameters of equal shape are
stacked.  The optimizers of gaugec.runtime call the functions of the components and know no gauge themselves.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from gaugec.runtime import actions, frames, pooling, solvers
from gaugec.runtime.frames import Frame
from gaugec.runtime.layout import Slice, Tensors
from gaugec.runtime.pooling import Piece

METADATA: dict[str, Any] = {"spec": "by hand"}


# --- component 0: (slot, offset, copies, group axis, rotary pair, rest), axes as (size, stride)

C0G0P0 = Slice("p0", 0, (), ((12, 1),), (), ())  # g
C0G0P1 = Slice("p1", 0, (), ((12, 1),), (), ((24, 12),))  # W
C0G0P2 = Slice("p2", 0, (), ((12, 1),), (), ((8, 12),))  # W
C0G0P3 = Slice("p3", 0, (), ((12, 1),), (), ((8, 12),))  # W
C0G1P0 = Slice("p3", 0, ((2, 48),), ((4, 12),), (), ((12, 1),))  # Wv
C0G1P1 = Slice("p4", 0, ((2, 12),), ((4, 1),), (), ((12, 24), (3, 4)))  # Wo
C0G2P0 = Slice("p1", 0, ((2, 144),), ((2, 12),), ((2, 24),), ((3, 48), (12, 1)))  # Wq
C0G2P1 = Slice("p2", 0, ((2, 48),), ((2, 12),), ((2, 24),), ((12, 1),))  # Wk
C0POOL_p1 = (Piece(0, ((2, 144, False), (3, 48, False), (2, 24, True), (2, 12, False), (12, 1, False))),)
C0POOL_p2 = (Piece(0, ((2, 48, False), (2, 24, True), (2, 12, False), (12, 1, False))),)
C0POOL_p3 = (Piece(0, ((2, 48, False), (4, 12, True), (12, 1, False))),)
C0POOL_p4 = (Piece(0, ((12, 24, False), (2, 12, False), (3, 4, False), (4, 1, True))),)


class Component0:
    """Gauges that share parameters; `instances` lists where.

    g0: norm_gain, positive on 1 x 12. A norm's gain can move into every linear map that reads the norm. Canonical
        form: abs(g) == 1.
    g1: value_rotation, orthogonal on 2 x 4. A head's value basis is arbitrary.
    g2: qk_rotation, torus on 2 x 2. Queries and keys may turn together in every rotary plane.
    """

    shapes: ClassVar[dict[str, tuple[int, ...]]] = {
        "p0": (12,),
        "p1": (24, 12),
        "p2": (8, 12),
        "p3": (8, 12),
        "p4": (12, 24),
    }
    elements: ClassVar[dict[str, tuple[str, int, int]]] = {
        "g0": ("scale", 1, 12),
        "g1": ("rotate", 2, 4),
        "g2": ("turn", 2, 2),
    }
    pooled: ClassVar[tuple[str, ...]] = ("p1", "p2", "p3", "p4")
    cuts: ClassVar[dict[str, int]] = {"p0": 1, "p1": 12, "p2": 4, "p3": 4, "p4": 1}
    whole: ClassVar[bool] = False
    kept: ClassVar[tuple[str, ...]] = ()
    powers: ClassVar[dict[str, tuple[float, ...]]] = {"g0": (1.0, -1.0)}
    canonical_powers: ClassVar[dict[str, tuple[tuple[Slice, str, float], ...]]] = {
        "p0": ((C0G0P0, "g0", 1.0),),
        "p1": ((C0G0P1, "g0", -1.0),),
        "p2": ((C0G0P2, "g0", -1.0),),
        "p3": ((C0G0P3, "g0", -1.0),),
    }
    pull_powers: ClassVar[dict[str, tuple[tuple[Slice, str, float], ...]]] = {
        "p0": ((C0G0P0, "g0", -1.0),),
        "p1": ((C0G0P1, "g0", 1.0),),
        "p2": ((C0G0P2, "g0", 1.0),),
        "p3": ((C0G0P3, "g0", 1.0),),
    }
    moves: ClassVar[dict[str, tuple[str, ...]]] = {
        "g0": ("p0", "p1", "p2", "p3"),
        "g1": ("p3", "p4"),
        "g2": ("p1", "p2"),
    }
    instances: ClassVar[tuple[tuple[str, ...], ...]] = (
        # layers.0.norm1, layers.0.
        ("layers.0.norm1.weight", "layers.0.q.weight", "layers.0.k.weight", "layers.0.v.weight", "layers.0.o.weight"),
        # layers.1.norm1, layers.1.
        ("layers.1.norm1.weight", "layers.1.q.weight", "layers.1.k.weight", "layers.1.v.weight", "layers.1.o.weight"),
    )

    @staticmethod
    def alive(params: Tensors) -> Tensors:
        """Where every scale can be solved for; elsewhere the orbit is singular and the scale stays 1."""
        live: Tensors = {}
        point = {
            "p0": params["p0"],
        }
        n0 = frames.norm(point, (C0G0P0,))
        live["g0"] = frames.alive(1 / n0)
        return live

    @staticmethod
    def frame(params: Tensors, live: Tensors) -> Frame:
        """Solve for the scales that bring the parameters to canonical form."""
        out = Frame()
        point = {
            "p0": params["p0"],
        }
        # g0: abs(g) == 1
        n0 = frames.norm(point, (C0G0P0,))
        out.scales["g0"] = frames.settle(1 / n0, live["g0"])
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
        if "p1" in out:
            out["p1"] = pooling.pool(out["p1"], C0POOL_p1)
        if "p2" in out:
            out["p2"] = pooling.pool(out["p2"], C0POOL_p2)
        if "p3" in out:
            out["p3"] = pooling.pool(out["p3"], C0POOL_p3)
        if "p4" in out:
            out["p4"] = pooling.pool(out["p4"], C0POOL_p4)
        return out

    @staticmethod
    def unpool(pooled: Tensors, out: Tensors) -> Tensors:
        """Spread what `pool` gave over the parameters' shapes, in `out` where it was averaged."""
        spread = dict(pooled)
        if "p1" in spread:
            spread["p1"] = pooling.unpool(spread["p1"], C0POOL_p1, out["p1"])
        if "p2" in spread:
            spread["p2"] = pooling.unpool(spread["p2"], C0POOL_p2, out["p2"])
        if "p3" in spread:
            spread["p3"] = pooling.unpool(spread["p3"], C0POOL_p3, out["p3"])
        if "p4" in spread:
            spread["p4"] = pooling.unpool(spread["p4"], C0POOL_p4, out["p4"])
        return spread

    @staticmethod
    def lift(values: Tensors, point: Tensors, coefficients: Tensors, alpha: float) -> Tensors:
        """Add alpha times the vertical vector with these coefficients at point, in place."""
        actions.add_scaled(values, point, C0G0P0, coefficients["g0"], alpha)
        actions.add_scaled(values, point, C0G0P1, coefficients["g0"], -alpha)
        actions.add_scaled(values, point, C0G0P2, coefficients["g0"], -alpha)
        actions.add_scaled(values, point, C0G0P3, coefficients["g0"], -alpha)
        actions.add_rotation(values, point, C0G1P0, coefficients["g1"], alpha)
        actions.add_rotation(values, point, C0G1P1, -coefficients["g1"].mT, alpha)
        actions.add_turn(values, point, C0G2P0, coefficients["g2"], alpha)
        actions.add_turn(values, point, C0G2P1, coefficients["g2"], alpha)
        return values

    @staticmethod
    def vertical(point: Tensors, coefficients: Tensors) -> Tensors:
        """The tangent vector of the orbit at point that the coefficients name."""
        zeros = {slot: torch.zeros_like(value) for slot, value in point.items()}
        return Component0.lift(zeros, point, coefficients, 1.0)

    @staticmethod
    def covertical(update: Tensors, point: Tensors) -> Tensors:
        """The transpose of `vertical`: inner products of an update with every tangent vector."""
        products = actions.products(update, point, ("p0", "p1", "p2", "p3"), None)
        return {
            "g0": (
                actions.total(products, C0G0P0)
                - actions.total(products, C0G0P1)
                - actions.total(products, C0G0P2)
                - actions.total(products, C0G0P3)
            ),
            "g1": solvers.skew(actions.moment(update, point, C0G1P0) - actions.moment(update, point, C0G1P1).mT),
            "g2": actions.torque(update, point, C0G2P0) + actions.torque(update, point, C0G2P1),
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
            "right g0": actions.zeros(point, "scale", 1, 12),
            "d0": actions.zeros(point, "scale", 1, 12),
            "right g1": actions.zeros(point, "rotate", 2, 4),
            "s1": actions.zeros(point, "rotate", 2, 4),
            "right g2": actions.zeros(point, "turn", 2, 2),
            "d2": actions.zeros(point, "turn", 2, 2),
        }

    @staticmethod
    def measure(update: Tensors, point: Tensors, out: Tensors, room: Tensors | None = None) -> None:
        """Add what these slots and rows contribute to the joint normal equations, in `out`.

        They are made of products of the update and of the tangents with the tangents.  room: tensors like the update's.
        """
        products = actions.products(update, point, ("p0", "p1", "p2", "p3"), room)
        actions.add_total(out["right g0"], products, C0G0P0, 1.0)
        actions.add_total(out["right g0"], products, C0G0P1, -1.0)
        actions.add_total(out["right g0"], products, C0G0P2, -1.0)
        actions.add_total(out["right g0"], products, C0G0P3, -1.0)
        actions.add_moment(out["right g1"], update, point, C0G1P0, 1.0)
        actions.add_moment(out["right g1"], point, update, C0G1P1, -1.0)
        actions.add_torque(out["right g2"], update, point, C0G2P0, room)
        actions.add_torque(out["right g2"], update, point, C0G2P1, room)
        squares = actions.products(point, point, ("p0", "p1", "p2", "p3"), room)
        actions.add_total(out["d0"], squares, C0G0P0, 1.0)
        actions.add_total(out["d0"], squares, C0G0P1, 1.0)
        actions.add_total(out["d0"], squares, C0G0P2, 1.0)
        actions.add_total(out["d0"], squares, C0G0P3, 1.0)
        actions.add_moment(out["s1"], point, point, C0G1P0, 1.0)
        actions.add_moment(out["s1"], point, point, C0G1P1, 1.0)
        actions.add_total(out["d2"], squares, C0G2P0, 1.0)
        actions.add_total(out["d2"], squares, C0G2P1, 1.0)

    @staticmethod
    def solve(measured: Tensors, point: Tensors, off: frozenset[str]) -> Tensors:
        """The coefficients of the vertical part, of all gauges jointly."""
        right = {
            "g0": measured["right g0"],
            "g1": solvers.skew(measured["right g1"]),
            "g2": measured["right g2"],
        }
        tolerance = solvers.tolerance(point)
        d0 = measured["d0"]
        s1 = measured["s1"]
        d2 = measured["d2"]
        a: Tensors = {
            "g0": right["g0"] * solvers.inverse(d0),
            "g1": solvers.sylvester(s1, right["g1"], tolerance),
            "g2": right["g2"] * solvers.inverse(d2),
        }
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
        actions.stretch(point, C0G0P1, 1 / element["g0"])
        actions.stretch(point, C0G0P2, 1 / element["g0"])
        actions.stretch(point, C0G0P3, 1 / element["g0"])
        actions.rotate(point, C0G1P0, element["g1"])
        actions.rotate(point, C0G1P1, element["g1"])
        actions.turn(point, C0G2P0, element["g2"])
        actions.turn(point, C0G2P1, element["g2"])
        return {
            "p0": point["p0"],
            "p1": point["p1"],
            "p2": point["p2"],
            "p3": point["p3"],
            "p4": point["p4"],
        }


# --- component 1: (slot, offset, copies, group axis, rotary pair, rest), axes as (size, stride)

C1G0P0 = Slice("p0", 0, (), ((12, 1),), (), ())  # g
C1G0P1 = Slice("p1", 0, (), ((12, 1),), (), ((14, 12),))  # W
C1G0P2 = Slice("p2", 0, (), ((12, 1),), (), ((14, 12),))  # W
C1G1P0 = Slice("p2", 0, (), ((14, 12),), (), ((12, 1),))  # W1
C1G1P1 = Slice("p3", 0, (), ((14, 1),), (), ((12, 14),))  # W2


class Component1:
    """Gauges that share parameters; `instances` lists where.

    g0: norm_gain, positive on 1 x 12. A norm's gain can move into every linear map that reads the norm. Canonical
        form: abs(g) == 1.
    g1: swiglu_rescale, positive on 1 x 14. A gated unit's scale can move from the rows of up to the columns of down.
        Canonical form: rownorm(W1) == colnorm(W2).
    """

    shapes: ClassVar[dict[str, tuple[int, ...]]] = {"p0": (12,), "p1": (14, 12), "p2": (14, 12), "p3": (12, 14)}
    elements: ClassVar[dict[str, tuple[str, int, int]]] = {"g0": ("scale", 1, 12), "g1": ("scale", 1, 14)}
    pooled: ClassVar[tuple[str, ...]] = ()
    cuts: ClassVar[dict[str, int]] = {"p0": 1, "p1": 1, "p2": 1, "p3": 1}
    whole: ClassVar[bool] = False
    kept: ClassVar[tuple[str, ...]] = ("q0",)
    powers: ClassVar[dict[str, tuple[float, ...]]] = {"g0": (1.0, -1.0), "g1": (1.0, -1.0)}
    canonical_powers: ClassVar[dict[str, tuple[tuple[Slice, str, float], ...]]] = {
        "p0": ((C1G0P0, "g0", 1.0),),
        "p1": ((C1G0P1, "g0", -1.0),),
        "p2": ((C1G0P2, "g0", -1.0), (C1G1P0, "g1", 1.0)),
        "p3": ((C1G1P1, "g1", -1.0),),
    }
    pull_powers: ClassVar[dict[str, tuple[tuple[Slice, str, float], ...]]] = {
        "p0": ((C1G0P0, "g0", -1.0),),
        "p1": ((C1G0P1, "g0", 1.0),),
        "p2": ((C1G0P2, "g0", 1.0), (C1G1P0, "g1", -1.0)),
        "p3": ((C1G1P1, "g1", 1.0),),
    }
    moves: ClassVar[dict[str, tuple[str, ...]]] = {"g0": ("p0", "p1", "p2"), "g1": ("p2", "p3")}
    instances: ClassVar[tuple[tuple[str, ...], ...]] = (
        # layers.0.norm2, layers.0.
        ("layers.0.norm2.weight", "layers.0.gate.weight", "layers.0.up.weight", "layers.0.down.weight"),
        # layers.1.norm2, layers.1.
        ("layers.1.norm2.weight", "layers.1.gate.weight", "layers.1.up.weight", "layers.1.down.weight"),
    )

    @staticmethod
    def alive(params: Tensors) -> Tensors:
        """Where every scale can be solved for; elsewhere the orbit is singular and the scale stays 1."""
        live: Tensors = {}
        point = {
            "p0": params["p0"],
            "p2": params["p2"].clone(),
            "p3": params["p3"],
        }
        n0 = frames.norm(point, (C1G0P0,))
        live["g0"] = frames.alive(1 / n0)
        n0 = frames.norm(point, (C1G1P0,))
        n1 = frames.norm(point, (C1G1P1,))
        live["g1"] = frames.alive(n1.sqrt() / n0.sqrt())
        return live

    @staticmethod
    def frame(params: Tensors, live: Tensors) -> Frame:
        """Solve for the scales that bring the parameters to canonical form."""
        out = Frame()
        point = {
            "p0": params["p0"],
            "p2": params["p2"].clone(),
            "p3": params["p3"],
        }
        # g0: abs(g) == 1
        n0 = frames.norm(point, (C1G0P0,))
        out.scales["g0"] = frames.settle(1 / n0, live["g0"])
        actions.stretch(point, C1G0P2, 1 / out.scales["g0"])
        # g1: rownorm(W1) == colnorm(W2)
        n0 = frames.norm(point, (C1G1P0,))
        n1 = frames.norm(point, (C1G1P1,))
        out.scales["g1"] = frames.settle(n1.sqrt() / n0.sqrt(), live["g1"])
        actions.stretch(point, C1G1P0, out.scales["g1"])
        return out.ready(Component1.powers, next(iter(params.values())).dtype)

    @staticmethod
    def canonical(params: Tensors, frame: Frame, out: Tensors | None = None) -> Tensors:
        """The moved quantities in canonical coordinates, in `out` (where a scale moves them) or as new tensors."""
        return frames.scaled(params, frame, Component1.canonical_powers, out)

    @staticmethod
    def pull(gradient: Tensors, frame: Frame, out: Tensors | None = None) -> Tensors:
        """A gradient in canonical coordinates, by the inverse transposed Jacobian of `canonical`; `out` as there."""
        return frames.scaled(gradient, frame, Component1.pull_powers, out)

    @staticmethod
    def push(update: Tensors, frame: Frame) -> Tensors:
        """A step from canonical coordinates to the parameters', in place."""
        return frames.scaled(update, frame, Component1.pull_powers, update)

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
        actions.add_scaled(values, point, C1G0P0, coefficients["g0"], alpha)
        actions.add_scaled(values, point, C1G0P1, coefficients["g0"], -alpha)
        actions.add_scaled(values, point, C1G0P2, coefficients["g0"], -alpha)
        actions.add_scaled(values, point, C1G1P0, coefficients["g1"], alpha)
        actions.add_scaled(values, point, C1G1P1, coefficients["g1"], -alpha)
        return values

    @staticmethod
    def vertical(point: Tensors, coefficients: Tensors) -> Tensors:
        """The tangent vector of the orbit at point that the coefficients name."""
        zeros = {slot: torch.zeros_like(value) for slot, value in point.items()}
        return Component1.lift(zeros, point, coefficients, 1.0)

    @staticmethod
    def covertical(update: Tensors, point: Tensors) -> Tensors:
        """The transpose of `vertical`: inner products of an update with every tangent vector."""
        products = actions.products(update, point, ("p0", "p1", "p2", "p3"), None)
        return {
            "g0": actions.total(products, C1G0P0) - actions.total(products, C1G0P1) - actions.total(products, C1G0P2),
            "g1": actions.total(products, C1G1P0) - actions.total(products, C1G1P1),
        }

    @staticmethod
    def tangents(params: Tensors) -> Tensors:
        """Every tangent vector of the orbit at the parameters: slot -> [number, batch, *shape]."""
        point = {
            "p0": params["p0"].clone(),
            "p1": params["p1"].clone(),
            "p2": params["p2"].clone(),
            "p3": params["p3"].clone(),
        }
        return actions.tangents(Component1.vertical, point, Component1.elements)

    @staticmethod
    def blank(point: Tensors) -> Tensors:
        """Room for what `measure` adds up, zeros."""
        batch = next(iter(point.values())).shape[0]
        return {
            "right g0": actions.zeros(point, "scale", 1, 12),
            "d0": actions.zeros(point, "scale", 1, 12),
            "right g1": actions.zeros(point, "scale", 1, 14),
            "d1": actions.zeros(point, "scale", 1, 14),
            "q0": actions.room_for(point, batch, ((12, 1), (14, 12))),
            "size": torch.zeros(batch, dtype=torch.float64, device=next(iter(point.values())).device),
        }

    @staticmethod
    def measure(update: Tensors, point: Tensors, out: Tensors, room: Tensors | None = None) -> None:
        """Add what these slots and rows contribute to the joint normal equations, in `out`.

        They are made of products of the update and of the tangents with the tangents.  room: tensors like the update's.
        """
        products = actions.products(update, point, ("p0", "p1", "p2", "p3"), room)
        actions.add_total(out["right g0"], products, C1G0P0, 1.0)
        actions.add_total(out["right g0"], products, C1G0P1, -1.0)
        actions.add_total(out["right g0"], products, C1G0P2, -1.0)
        actions.add_total(out["right g1"], products, C1G1P0, 1.0)
        actions.add_total(out["right g1"], products, C1G1P1, -1.0)
        squares = actions.products(point, point, ("p0", "p1", "p2", "p3"), room)
        actions.add_total(out["d0"], squares, C1G0P0, 1.0)
        actions.add_total(out["d0"], squares, C1G0P1, 1.0)
        actions.add_total(out["d0"], squares, C1G0P2, 1.0)
        actions.add_total(out["d1"], squares, C1G1P0, 1.0)
        actions.add_total(out["d1"], squares, C1G1P1, 1.0)
        actions.add_block(out["q0"], squares, "p2", 0, ((12, 1), (14, 12)), ())
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
            solvers.Cross("g0", "g1", measured["q0"], ("ab", "a", "b"), (0, ((12, 1),)), (0, ((14, 1),)), -1.0),
        )
        size = measured["size"].sqrt()
        a.update(solvers.solve_blocks(together, diagonal, inverse, crosses, ("g1",), size, tolerance, off))
        return solvers.without(a, off, right)

    @staticmethod
    def project(update: Tensors, point: Tensors, frame: Frame, a: Tensors | None = None) -> Tensors:
        """Remove the vertical part of an update at the canonical point, in place.

        a: the coefficients of the vertical part, where they are known: then any slots and rows will do.
        """
        if a is None:
            measured = Component1.blank(point)
            Component1.measure(update, point, measured)
            a = Component1.solve(measured, point, frame.off)
        return Component1.lift(update, point, a, -1.0)

    @staticmethod
    def random_element(batch: int, generator: torch.Generator | None = None) -> Tensors:
        """A random element of every gauge, in float64."""
        return {
            name: actions.random_element(kind, copies, size, batch, generator)
            for name, (kind, copies, size) in Component1.elements.items()
        }

    @staticmethod
    def act(params: Tensors, element: Tensors) -> Tensors:
        """Move the parameters by an element, gauge after gauge, as new tensors."""
        point = {
            "p0": params["p0"].clone(),
            "p1": params["p1"].clone(),
            "p2": params["p2"].clone(),
            "p3": params["p3"].clone(),
        }
        actions.stretch(point, C1G0P0, element["g0"])
        actions.stretch(point, C1G0P1, 1 / element["g0"])
        actions.stretch(point, C1G0P2, 1 / element["g0"])
        actions.stretch(point, C1G1P0, element["g1"])
        actions.stretch(point, C1G1P1, 1 / element["g1"])
        return {
            "p0": point["p0"],
            "p1": point["p1"],
            "p2": point["p2"],
            "p3": point["p3"],
        }


# --- component 2: (slot, offset, copies, group axis, rotary pair, rest), axes as (size, stride)

C2G0P0 = Slice("p0", 0, (), ((12, 1),), (), ())  # g
C2G0P1 = Slice("p1", 0, (), ((12, 1),), (), ((17, 12),))  # W
C2G1P0 = Slice("p1", 0, (), ((12, 1),), (), ((17, 12),))  # U


class Component2:
    """Gauges that share parameters; `instances` lists where.

    g0: norm_gain, positive on 1 x 12. A norm's gain can move into every linear map that reads the norm. Canonical
        form: abs(g) == 1.
    g1: logit_shift, translation on 1 x 12. Cross-entropy forgets what is added to every logit of a row.
    """

    shapes: ClassVar[dict[str, tuple[int, ...]]] = {"p0": (12,), "p1": (17, 12)}
    elements: ClassVar[dict[str, tuple[str, int, int]]] = {"g0": ("scale", 1, 12), "g1": ("shift", 1, 12)}
    pooled: ClassVar[tuple[str, ...]] = ()
    cuts: ClassVar[dict[str, int]] = {"p0": 1, "p1": 1}
    whole: ClassVar[bool] = False
    kept: ClassVar[tuple[str, ...]] = ()
    powers: ClassVar[dict[str, tuple[float, ...]]] = {"g0": (1.0, -1.0)}
    canonical_powers: ClassVar[dict[str, tuple[tuple[Slice, str, float], ...]]] = {
        "p0": ((C2G0P0, "g0", 1.0),),
        "p1": ((C2G0P1, "g0", -1.0),),
    }
    pull_powers: ClassVar[dict[str, tuple[tuple[Slice, str, float], ...]]] = {
        "p0": ((C2G0P0, "g0", -1.0),),
        "p1": ((C2G0P1, "g0", 1.0),),
    }
    moves: ClassVar[dict[str, tuple[str, ...]]] = {"g0": ("p0", "p1"), "g1": ("p1",)}
    instances: ClassVar[tuple[tuple[str, ...], ...]] = (
        # norm, head
        ("norm.weight", "head.weight"),
    )

    @staticmethod
    def alive(params: Tensors) -> Tensors:
        """Where every scale can be solved for; elsewhere the orbit is singular and the scale stays 1."""
        live: Tensors = {}
        point = {
            "p0": params["p0"],
        }
        n0 = frames.norm(point, (C2G0P0,))
        live["g0"] = frames.alive(1 / n0)
        return live

    @staticmethod
    def frame(params: Tensors, live: Tensors) -> Frame:
        """Solve for the scales that bring the parameters to canonical form."""
        out = Frame()
        point = {
            "p0": params["p0"],
        }
        # g0: abs(g) == 1
        n0 = frames.norm(point, (C2G0P0,))
        out.scales["g0"] = frames.settle(1 / n0, live["g0"])
        return out.ready(Component2.powers, next(iter(params.values())).dtype)

    @staticmethod
    def canonical(params: Tensors, frame: Frame, out: Tensors | None = None) -> Tensors:
        """The moved quantities in canonical coordinates, in `out` (where a scale moves them) or as new tensors."""
        return frames.scaled(params, frame, Component2.canonical_powers, out)

    @staticmethod
    def pull(gradient: Tensors, frame: Frame, out: Tensors | None = None) -> Tensors:
        """A gradient in canonical coordinates, by the inverse transposed Jacobian of `canonical`; `out` as there."""
        return frames.scaled(gradient, frame, Component2.pull_powers, out)

    @staticmethod
    def push(update: Tensors, frame: Frame) -> Tensors:
        """A step from canonical coordinates to the parameters', in place."""
        return frames.scaled(update, frame, Component2.pull_powers, update)

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
        actions.add_scaled(values, point, C2G0P0, coefficients["g0"], alpha)
        actions.add_scaled(values, point, C2G0P1, coefficients["g0"], -alpha)
        actions.add_constant(values, C2G1P0, coefficients["g1"], alpha)
        return values

    @staticmethod
    def vertical(point: Tensors, coefficients: Tensors) -> Tensors:
        """The tangent vector of the orbit at point that the coefficients name."""
        zeros = {slot: torch.zeros_like(value) for slot, value in point.items()}
        return Component2.lift(zeros, point, coefficients, 1.0)

    @staticmethod
    def covertical(update: Tensors, point: Tensors) -> Tensors:
        """The transpose of `vertical`: inner products of an update with every tangent vector."""
        products = actions.products(update, point, ("p0", "p1"), None)
        return {
            "g0": actions.total(products, C2G0P0) - actions.total(products, C2G0P1),
            "g1": actions.total(update, C2G1P0),
        }

    @staticmethod
    def tangents(params: Tensors) -> Tensors:
        """Every tangent vector of the orbit at the parameters: slot -> [number, batch, *shape]."""
        point = {
            "p0": params["p0"].clone(),
            "p1": params["p1"].clone(),
        }
        return actions.tangents(Component2.vertical, point, Component2.elements)

    @staticmethod
    def blank(point: Tensors) -> Tensors:
        """Room for what `measure` adds up, zeros."""
        batch = next(iter(point.values())).shape[0]
        return {
            "right g0": actions.zeros(point, "scale", 1, 12),
            "d0": actions.zeros(point, "scale", 1, 12),
            "right g1": actions.zeros(point, "shift", 1, 12),
            "q0": actions.room_for(point, batch, ((12, 1),)),
            "size": torch.zeros(batch, dtype=torch.float64, device=next(iter(point.values())).device),
        }

    @staticmethod
    def measure(update: Tensors, point: Tensors, out: Tensors, room: Tensors | None = None) -> None:
        """Add what these slots and rows contribute to the joint normal equations, in `out`.

        They are made of products of the update and of the tangents with the tangents.  room: tensors like the update's.
        """
        products = actions.products(update, point, ("p0", "p1"), room)
        actions.add_total(out["right g0"], products, C2G0P0, 1.0)
        actions.add_total(out["right g0"], products, C2G0P1, -1.0)
        actions.add_total(out["right g1"], update, C2G1P0, 1.0)
        squares = actions.products(point, point, ("p0", "p1"), room)
        actions.add_total(out["d0"], squares, C2G0P0, 1.0)
        actions.add_total(out["d0"], squares, C2G0P1, 1.0)
        actions.add_block(out["q0"], point, "p1", 0, ((12, 1),), ((17, 12),))
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
        d1 = 17.0
        a: Tensors = {}
        together = {name: right[name] for name in ("g0", "g1")}
        inverse: solvers.Blocks = {
            "g0": lambda x: x * i0,
            "g1": lambda x: x / d1,
        }
        diagonal: solvers.Blocks = {
            "g0": lambda x: x * d0,
            "g1": lambda x: x * d1,
        }
        crosses = (
            solvers.Cross("g0", "g1", measured["q0"], ("a", "a", "a"), (0, ((12, 1),)), (0, ((12, 1),)), -1.0),
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
            measured = Component2.blank(point)
            Component2.measure(update, point, measured)
            a = Component2.solve(measured, point, frame.off)
        return Component2.lift(update, point, a, -1.0)

    @staticmethod
    def random_element(batch: int, generator: torch.Generator | None = None) -> Tensors:
        """A random element of every gauge, in float64."""
        return {
            name: actions.random_element(kind, copies, size, batch, generator)
            for name, (kind, copies, size) in Component2.elements.items()
        }

    @staticmethod
    def act(params: Tensors, element: Tensors) -> Tensors:
        """Move the parameters by an element, gauge after gauge, as new tensors."""
        point = {
            "p0": params["p0"].clone(),
            "p1": params["p1"].clone(),
        }
        actions.stretch(point, C2G0P0, element["g0"])
        actions.stretch(point, C2G0P1, 1 / element["g0"])
        actions.add_constant(point, C2G1P0, element["g1"], 1.0)
        return {
            "p0": point["p0"],
            "p1": point["p1"],
        }


COMPONENTS = (Component0(), Component1(), Component2())
