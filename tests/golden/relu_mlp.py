"""The gauges of relu_mlp in Units: frames and projectors for its parameters.

    relu_rescale: positive, proved, 2 sites

Written by gaugec: edit the spec, not this file. One class a component of gauges that share parameters: the rows that
an element moves, the frame solved from the spec's `fix` lines, and how the vertical part of a step is solved for;
what all components do alike they inherit. In a pattern c are copies, k is the axis on which an element acts, p a
rotary pair; along other letters all is moved alike. Every tensor has a batch axis in front: parameters of equal
shape are stacked.
"""

from __future__ import annotations

from typing import Any

from gaugec.runtime.component import Component, Coupling, Gram
from gaugec.runtime.frames import Point
from gaugec.runtime.groups import Positive, Row
from gaugec.runtime.layout import Tensors


class Component0(Component, gauges=2, rows=6, couplings=1):
    """1 place: maps

    relu_rescale_1: A ReLU unit may be scaled on the way in and unscaled on every way out.
    relu_rescale_2: A ReLU unit may be scaled on the way in and unscaled on every way out.
    """

    shapes = {"maps.0": (11, 7), "maps.0.bias": (11,), "maps.1": (9, 11), "maps.1.bias": (9,), "maps.2": (5, 9)}
    gauges = (
        Positive("relu_rescale_1", copies=1, size=11).moves(
            Row("W1", "maps.0", "k m", power=1),
            Row("b1", "maps.0.bias", "k", power=1),
            Row("W2", "maps.1", "m k", power=-1),
        ),
        Positive("relu_rescale_2", copies=1, size=9).moves(
            Row("W1", "maps.1", "k m", power=1),
            Row("b1", "maps.1.bias", "k", power=1),
            Row("W2", "maps.2", "m k", power=-1),
        ),
    )
    couplings = (Coupling(("relu_rescale_1", "relu_rescale_2"), "maps.1", "b a", "a", "b", squares=True, weight=-1),)
    cuts = {"maps.0": 1, "maps.0.bias": 1, "maps.1": 1, "maps.1.bias": 1, "maps.2": 1}

    def fix(self, point: Point) -> None:
        """Solve for the scales that bring the parameters to canonical form."""
        # fix rownorm(W1) == colnorm(W2), by one side
        point.start("relu_rescale_1", lambda norm: 1 / norm("W1"))
        # fix rownorm(W1) == colnorm(W2), by one side
        point.start("relu_rescale_2", lambda norm: 1 / norm("W1"))
        for _ in point.rounds(4):
            # fix rownorm(W1) == colnorm(W2)
            point.settle("relu_rescale_1", lambda norm: norm("W2").sqrt() / norm("W1").sqrt())
            # fix rownorm(W1) == colnorm(W2)
            point.settle("relu_rescale_2", lambda norm: norm("W2").sqrt() / norm("W1").sqrt())

    def coefficients(self, gram: Gram) -> Tensors:
        """Of the vertical part of a step: relu_rescale_1 meets relu_rescale_2 in maps.1."""
        return gram.eliminate("relu_rescale_1", rest=("relu_rescale_2",))


# Where they are: for every tensor its parameters, place after place.
COMPONENTS = (
    Component0(
        {
            "maps.0": "maps.0.weight",
            "maps.0.bias": "maps.0.bias",
            "maps.1": "maps.1.weight",
            "maps.1.bias": "maps.1.bias",
            "maps.2": "maps.2.weight",
        },
    ),
)

# fmt: off
METADATA: dict[str, Any] = {
    "certificate": 4, "gaugec": "...", "torch": "...",
    "file_sha256": "0000000000000000000000000000000000000000000000000000000000000000",
    "spec": "relu_mlp", "spec_file": "relu_mlp",
    "spec_sha256": "094930987f745b1fcc938b7e3b2fca22db4f58298d85e3abc0c7a805460c15e7",
    "steps": [
        "linearity: products distribute over sums", "delta: sum over j of delta[i,j] f[j] is f[i]",
        "degree: f(c x) = c^n f(x) for c > 0", "degree of relu is 1", "power of a product: (c x)^n = c^n x^n for c > 0",
        "cross_entropy shift: cross_entropy forgets what is added along its axis",
    ],
    "theorems": [
        {
            "gauge": "relu_rescale", "verdict": "proved", "conditions": ["c > 0"], "steps": [0, 1, 2, 3, 4],
            "sampled": True,
        },
        {"gauge": "logit_shift", "verdict": "proved", "conditions": [], "steps": [0, 5], "sampled": True},
    ],
    "loss": "", "outputs": [], "fixed": [], "taken": [],
    "traced": "same graph with input sizes 3->6; 3->4; in numbers 3->1; fixed sizes 7",
    "inputs": [("x", (3, 7))],
    "graph_sha256": "5f03cfb0b015c3c3eec5b2ba5d379ba61dcbdb61eb4232f442b72e95d0fd8be8",
    "graph_trail": [(1, "902c7d0b5125e7d6c2b095e83a5373")],
    "structures": {
        "5a9d9e57758f": {"group": "positive", "verdict": "proved", "conditions": ["c > 0"], "steps": [0, 2, 3]},
        "b98767ade12e": {"group": "positive", "verdict": "proved", "conditions": ["c > 0"], "steps": [0, 2, 3]},
    },
    "layouts": [
        {"copies": 1, "size": 11, "bindings": [
            {"role": "W1", "group": ((11, 7),), "rest": ((7, 1),), "move": "scale"},
            {"role": "b1", "group": ((11, 1),), "move": "scale"},
            {"role": "W2", "group": ((11, 1),), "rest": ((9, 11),), "move": "scale", "exponent": "-1"},
        ]},
        {"copies": 1, "size": 9, "bindings": [
            {"role": "W1", "group": ((9, 11),), "rest": ((11, 1),), "move": "scale"},
            {"role": "b1", "group": ((9, 1),), "move": "scale"},
            {"role": "W2", "group": ((9, 1),), "rest": ((5, 9),), "move": "scale", "exponent": "-1"},
        ]},
    ],
    "sites": [
        {
            "gauge": "relu_rescale", "index": "0", "place": "maps", "structure": "5a9d9e57758f", "layout": 0,
            "parameters": ["maps.0.weight", "maps.0.bias", "maps.1.weight"],
        },
        {
            "gauge": "relu_rescale", "index": "1", "place": "maps", "structure": "b98767ade12e", "layout": 1,
            "parameters": ["maps.1.weight", "maps.1.bias", "maps.2.weight"],
        },
    ],
    "refused": [
        "logit_shift at maps.2.weight: the moved value is an output of the model at aten.linear in maps.2",
        "logit_shift at maps.{0..1}.weight: relu does not forget the shift at aten.relu",
    ],
    "gauged": (241, 246),
    "ungauged": {
        "maps.2.bias": (
            "relu_rescale at maps.2.weight, with maps.2.bias: the moved value is an output of the model at aten.lin"
            "ear in maps.2"
        ),
    },
    "parameters": {
        "maps.0.weight": (11, 7), "maps.0.bias": (11,), "maps.1.weight": (9, 11), "maps.1.bias": (9,),
        "maps.2.weight": (5, 9), "maps.2.bias": (5,),
    },
    "tied": {},
    "roles": [
        {"role": "stem", "matrices": [(0, (), ((11, 7),), ((7, 1),))], "parameters": ["maps.0.weight"]},
        {"role": "bias", "matrices": [], "parameters": ["maps.{0..2}.bias"]},
        {"role": "matrix", "matrices": [(0, (), ((9, 11),), ((11, 1),))], "parameters": ["maps.1.weight"]},
        {"role": "head", "matrices": [(0, (), ((5, 9),), ((9, 1),))], "parameters": ["maps.2.weight"]},
    ],
    "unchecked": {"what": "", "why": []},
    "assumed": {
        "mode": "train",
        "settings": [
            ("forward", "runtime:Units.forward", ("",)), ("forward", "torch:Linear.forward", ("maps.{0..2}",)),
        ],
        "globals": [], "tensors": [("x", "float32", (0, 7), "")], "values": [], "frozen": [],
        "parts": ["maps", "maps.{0..2}"], "unknown": [],
        "everywhere": {
            "_backward_hooks": "{}", "_backward_pre_hooks": "{}", "_forward_hooks": "{}", "_forward_pre_hooks": "{}",
            "training": "True",
        },
    },
    "witness": {"error": "...", "control": "...", "controls": 2, "note": ""},
}
