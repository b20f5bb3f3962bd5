"""Random gauges whose shapes fit, so that they reach the prover: a function of a seed, with every hostile habit.

Names are keywords, builtins and names of the emitted source; numbers are large and small; values have up to eight axes,
formulas are deep, lines square what the line before has squared; docstrings hold what strings should not.
"""

from __future__ import annotations

import random

from gaugec.groups import GROUPS

NAMES = (
    "class import lambda def None True False torch self print exec eval open os sys x y W b s n0 n1 c R "
    "T pi out params point frame linalg solvers Any Frame Slice Tensor Tensors Component0 METADATA "
    "COMPONENTS ClassVar init yield async await pass del global nonlocal raise try while with is not or "
    "and in from as assert break continue elif else except finally if return type int str list dict "
    "object super staticmethod a0 b1 l I O e E nan inf i j delta mask element"
).split()
DOCS = (
    "",
    "plain",
    "back\\slash \\",
    "{{ 1 + 1 }} {% raw %} {# x #}",
    "'''; import os; os.abort() #",
    "\\x22\\x22\\x22 \\N{QUOTATION MARK}",
    "%s {} {0} $x `x`",
    "שלום ñ 漢字 e\u0301 \u200b \ufeff",
    "\u202e reversed",
    "x" * 500,
)
NUMBERS = ("0", "1", "2", "3", "0.5", "7.25", "1e64", "1e-64", "12345678901234567890", "9" * 50 + "e64", "1e-9")
EXPONENTS = ("2", "3", "4", "5", "64", "-1", "-2", "-64", "(1/2)", "(-1/2)", "(1/64)", "(63/64)", "0", "1")
MAPS = ("relu", "silu", "gelu", "gelu_tanh", "sigmoid", "tanh", "exp", "abs", "dropout")


class Maker:
    """Writes one gauge."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.pool = list(NAMES)
        rng.shuffle(self.pool)
        self.ops: list[tuple[str, str]] = []
        self.values: dict[str, tuple[str, ...]] = {}
        self.givens: dict[str, tuple[str, ...]] = {}
        self.calls = 0

    def fresh(self, *, small: bool = False) -> str:
        while True:
            name = self.pool.pop() if self.pool else f"v{self.rng.randrange(10**6)}"
            if small:
                name = name.lower()
            if self.rng.random() < 0.02:
                name = (name * 64)[:64]
            if name in ("not", "in", "from", "or") and self.rng.random() < 0.5:
                continue
            if not name.isidentifier() or name in self.taken:
                continue
            self.taken.add(name)
            return name

    def pick(self, options: object) -> str:
        return self.rng.choice(list(options))  # type: ignore[call-overload]

    def term(self, depth: int) -> str:
        """A pointwise formula in z."""
        rng = self.rng
        if depth <= 0 or rng.random() < 0.2:
            return "z" if rng.random() < 0.7 else self.pick(NUMBERS)
        match rng.randrange(6):
            case 0:
                return f"({self.term(depth - 1)} {self.pick('+-*/')} {self.term(depth - 1)})"
            case 1:
                return f"({self.term(depth - 1)})**{self.pick(EXPONENTS)}"
            case 2:
                return f"max({self.term(depth - 1)}, {self.pick(NUMBERS)})"
            case 3:
                return f"-{self.term(depth - 1)}"
            case _:
                return f"{self.pick(MAPS[:-1])}({self.term(depth - 1)})"

    def expr(self, shape: tuple[str, ...], depth: int) -> str:
        """A formula of a shape."""
        rng = self.rng
        self.calls += 1
        here = [name for name, own in self.values.items() if own == shape]
        if depth <= 0 or self.calls > 60 or rng.random() < 0.15:
            if here:
                return self.pick(here)
            if len(shape) == 0:
                return self.pick(NUMBERS)
            if len(shape) == 1:
                return f"ones({shape[0]})"
            name = self.fresh()
            self.values[name] = self.givens[name] = shape
            return name
        choice = rng.randrange(12)
        if choice < 2:
            return f"({self.expr(shape, depth - 1)} {self.pick('+-*')} {self.expr(shape, depth - 1)})"
        if choice == 2:
            return f"({self.expr(shape, depth - 1)})**{self.pick(EXPONENTS)}"
        if choice == 3:
            return f"({self.pick(NUMBERS)} * {self.expr(shape, depth - 1)})"
        if choice == 4 and self.ops:
            return f"{self.pick(name for name, _ in self.ops)}({self.expr(shape, depth - 1)})"
        if choice in (4, 5):
            return f"{self.pick(MAPS)}({self.expr(shape, depth - 1)})"
        if choice == 6 and shape:
            head = self.pick(("softmax", "log_softmax", "rms_norm", "layer_norm"))
            eps = f", eps={self.pick(NUMBERS)}" if head.endswith("norm") and rng.random() < 0.4 else ""
            return f"{head}({self.expr(shape, depth - 1)}{eps})"
        if choice == 7 and len(shape) >= 2:
            return f"rope({self.expr(shape, depth - 1)})"
        if choice == 8 and len(shape) >= 2:
            turned = (*shape[:-2], shape[-1], shape[-2])
            return f"({self.expr(turned, depth - 1)}).T"
        if choice == 9 and len(shape) == 2 and shape[0] == shape[1]:
            return f"diag({self.expr(shape[:1], depth - 1)})"
        if choice == 9 and len(shape) == 2:
            return f"outer({self.expr(shape[:1], depth - 1)}, {self.expr(shape[1:], depth - 1)})"
        if len(shape) >= 2:
            middle = self.pick(self.dims)
            return f"({self.expr((*shape[:-1], middle), depth - 1)} @ {self.expr((middle, shape[-1]), depth - 1)})"
        if len(shape) == 1 and len(self.dims) > 1:
            middle = self.pick(self.dims)
            return f"({self.expr((*shape, middle), depth - 1)} @ {self.expr((middle,), depth - 1)})"
        return f"max({self.expr(shape, depth - 1)}, {self.pick(NUMBERS)})"

    def text(self) -> str:
        """One gauge, with its op lines."""
        rng = self.rng
        self.taken = {"z"}
        group = self.pick(GROUPS)
        name, element = self.fresh(), self.fresh()
        count = rng.choice((1, 2, 3, 3, 4, 4, 5, 14, 30))
        self.dims = [self.fresh(small=True) for _ in range(count)]
        for _ in range(rng.choice((0, 0, 1, 2))):
            made = self.term(rng.choice((1, 2, 3, 5)))
            self.ops.append((self.fresh(), made if "z" in made else f"{made} * z"))
        axis = self.dims[0]
        lines: list[str] = []
        params: dict[str, tuple[str, ...]] = {}
        for _ in range(rng.choice((1, 2, 2, 3, 4, 12))):
            rank = rng.choice((1, 2, 2, 2, 3)) if params else 2
            shape = tuple(self.pick(self.dims) for _ in range(rank))
            if not params:
                shape = (shape[0], axis)
            elif rng.random() < 0.8:
                shape = (axis, *shape[1:]) if rng.random() < 0.5 else (*shape[:-1], axis)
            params[self.fresh()] = shape
        givens = self.givens
        for _ in range(rng.choice((1, 1, 2, 3))):
            rank = rng.choice((0, 1, 2, 2, 3, 8))
            givens[self.fresh()] = tuple(self.pick(self.dims) for _ in range(rank))
        self.values = {**givens, **params}
        models = []
        for _ in range(rng.choice((1, 1, 2, 3, 20))):
            self.calls = 0
            models.append(made := self.fresh())
            if len(models) > 1 and rng.random() < 0.6:
                last = models[-2]
                lines.append(f"model {made} = {self.pick((f'{last} * {last}', f'({last})**4', f'exp({last})', last))}")
                self.values[made] = self.values[last]
                continue
            shape = tuple(self.pick(self.dims) for _ in range(rng.choice((0, 1, 2, 2, 2, 3))))
            lines.append(f"model {made} = {self.expr(shape, rng.choice((1, 2, 3, 4, 12)))}")
            self.values[made] = shape
        used = " ".join(lines).replace("(", " ").replace(")", " ").replace(",", " ").split()
        spare = [n for n in (*givens, *params, *models[:-1]) if used.count(n) == (1 if n in models else 0)]
        shapes = {**givens, **params, **{m: self.values[m] for m in models}}
        last = models[-1]
        read = {dim for shape in shapes.values() for dim in shape}
        total = " + ".join(
            ["1", *(self._scalar(n, shapes[n]) for n in spare), *(f"{op}(1)" for op, _ in self.ops)]
            + [f"ones({dim}) @ ones({dim})" for dim in self.dims if dim not in read]
        )
        lines.append(f"model {(loss := self.fresh())} = {total}")
        acts = [self._action(p, shape, group, element, axis) for p, shape in params.items()]
        acts = [act for act in acts if act]
        head = f"gauge {name}({', '.join(self.dims)}):"
        doc = f'    "{self.pick(DOCS)}"' if rng.random() < 0.3 else ""
        body = [head, doc]
        body += [f"    given {n}[{', '.join(shape)}]" for n, shape in givens.items()]
        body += [f"    param {n}[{', '.join(shape)}]" for n, shape in params.items()]
        body += [f"    {line}" for line in lines]
        body += [f"    for every {element} in {group}({axis}):", *(f"        {act}" for act in acts)]
        body += [f"    keeps {last}, {loss}"]
        if GROUPS[group].fix == "required" and params:
            body.append(f"    fix {self._fix(params, axis)}")
        ops = [f"op {n}(z) = {definition}" for n, definition in self.ops]
        return "\n".join([*ops, *body]) + "\n"

    def _scalar(self, name: str, shape: tuple[str, ...]) -> str:
        """Something of the last axis at most, so that everything is read and shapes fit."""
        text = name
        for dim in reversed(shape):
            text = f"({text} @ ones({dim}))"
        return text

    def _action(self, param: str, shape: tuple[str, ...], group: str, element: str, axis: str) -> str:
        rng = self.rng
        if axis not in shape:
            return ""
        if rng.random() < 0.05:
            return f"{param} -> {param} * {element}"
        if group == "translation":
            if shape[-1] != axis:
                return ""
            return f"{param} -> {param} + {element}"
        vector = group in ("positive", "positive_pairs")
        matrix = f"diag({element})" if vector else element
        inverse = f"diag(1/{element})" if vector else f"inv({element})" if group == "invertible" else f"{element}.T"
        if rng.random() < 0.4:
            matrix, inverse = inverse, matrix
        if shape[-1] == axis and (len(shape) > 1 or not vector):
            return f"{param} -> {param} @ {matrix}"
        if vector and shape == (axis,):
            return f"{param} -> {element} * {param}"
        if len(shape) >= 2 and shape[-2] == axis:
            return f"{param} -> {matrix} @ {param}"
        return ""

    def _fix(self, params: dict[str, tuple[str, ...]], axis: str) -> str:
        sides = []
        for name, shape in params.items():
            if shape == (axis,):
                sides.append(f"abs({name})")
            elif len(shape) == 2 and shape[0] == axis:
                sides.append(f"rownorm({name})")
            elif len(shape) == 2 and shape[1] == axis:
                sides.append(f"colnorm({name})")
        sides = sides or [f"abs({next(iter(params))})"]
        right = self.pick([*sides[1:], "1", "2", NUMBERS[-2]])
        return f"{self.pick(sides[:1])}**{self.pick(('1', '2', '64'))} == {right}"


def gauge(seed: int) -> str:
    """The text of gauge number `seed`."""
    return Maker(random.Random(seed)).text()
