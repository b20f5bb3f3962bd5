"""A random gauge in the making, and the words that random formulas are made of."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

DIMS = ("n", "d", "e", "f")
SCALES = ("positive", "positive", "positive", "positive_pairs")
TURNS = ("orthogonal", "orthogonal", "orthogonal_ones", "torus", "invertible")
OPS = (
    ("max(x, 0)**2", "2"),
    ("x * abs(x)", "2"),
    ("max(x, 0) - max(-x, 0) / 10", "1"),
    ("abs(x)**(1/2)", "1/2"),
    ("x**2 - x * abs(x) / 2", "2"),
    ("max(x, 0)**3 + max(-x, 0)**3", "3"),
    ("max(x, -x)", "1"),
    ("(x**2)**(1/2)", "1"),
    ("x**3 / (1 + 0 * x)", "3"),
    ("x / abs(x)**(1/2)", "1/2"),
    # without a degree
    ("max(x, 0) + max(x, 0)**2", ""),
    ("max(x, 0) - max(x - 6, 0)", ""),
    ("x * sigmoid(1.7 * x)", ""),
    ("max(x, 1)", ""),
    ("x**2 + 1", ""),
    ("max(x, 0)**2 - max(-x, 0)", ""),
    ("exp(-x**2)", ""),
    ("tanh(x)**2", ""),
    ("abs(x) / x", ""),
    ("tanh(x)", ""),
)
EVEN = ("abs", "x**2")
ANY = ("relu", "silu", "gelu", "sigmoid", "tanh", "exp", "abs", "gelu_tanh", "dropout")
ROWS = ("softmax", "log_softmax", "rms_norm", "layer_norm", "rope")
SLIP = 0.18


@dataclass
class Draft:
    """A gauge in the making: its names with shapes and actions."""

    rng: random.Random
    group: str
    dim: str = "k"
    givens: dict[str, tuple[str, ...]] = field(default_factory=dict)
    params: dict[str, tuple[str, ...]] = field(default_factory=dict)
    marks: dict[str, str] = field(default_factory=dict)
    actions: dict[str, str] = field(default_factory=dict)
    models: list[tuple[str, str]] = field(default_factory=list)
    ops: list[str] = field(default_factory=list)
    slip: float = SLIP

    def slips(self) -> bool:
        return self.rng.random() < self.slip

    def pick(self, *choices: str) -> str:
        return self.rng.choice(choices)

    def given(self, shape: tuple[str, ...], reuse: float = 0.3) -> str:
        known = [name for name, own in self.givens.items() if own == shape and not name.startswith("t")]
        if known and self.rng.random() < reuse:
            return self.rng.choice(known)
        name = f"x{len(self.givens)}"
        self.givens[name] = shape
        return name

    def param(self, shape: tuple[str, ...], action: str = "") -> str:
        name = f"W{len(self.params)}"
        self.params[name] = shape
        if action:
            self.actions[name] = action.replace("@@", name)
        return name

    def op(self, expr: str) -> str:
        free = (
            "own",
            "log",
            "sin",
            "erf",
            "pow",
            "min",
            "sqrt",
            "delta",
            "size",
            "inverse",
            "node",
            "base",
            "softplus",
        )
        name = next(n for n in (self.pick(*free), f"own{len(self.ops)}") if f"op {n}(" not in " ".join(self.ops))
        self.ops.append(f"op {name}(x) = {expr}")
        return name

    def text(self, keeps: tuple[str, ...]) -> str:
        lines = list(self.ops)
        used = {dim for shape in (*self.givens.values(), *self.params.values()) for dim in shape} | {self.dim}
        body = " ".join(expr for _, expr in self.models) + " ".join(self.actions.values())
        used |= {dim for dim in (*DIMS, "k") if f"ones({dim})" in body}
        lines.append(f"gauge g({', '.join(dim for dim in (*DIMS, 'k') if dim in used)}):")
        if self.givens:
            lines.append("    given  " + ", ".join(f"{n}[{', '.join(s)}]" for n, s in self.givens.items()))
        lines.append(
            "    param  " + ", ".join(f"{n}[{', '.join(s)}]{self.marks.get(n, '')}" for n, s in self.params.items())
        )
        lines += [f"    model  {name} = {expr}" for name, expr in self.models]
        lines.append(f"    for every R in {self.group}({self.dim}):")
        lines += [f"        {name} -> {expr}" for name, expr in self.actions.items()]
        lines.append(f"    keeps  {', '.join(keeps)}")
        if self.group in SCALES:
            along = [n for n in self.actions if self.dim in self.params[n] and n not in self.marks]
            name = (along or list(self.actions))[0]
            shape = self.params[name]
            norm = "abs" if len(shape) < 2 else "rownorm" if shape[0] == self.dim else "colnorm"
            lines.append(f"    fix    {norm}({name}) == 1")
        return "\n".join(lines) + "\n"
