"""Specs that somebody writes to make a compiler hang, fill the memory or fall over: name -> text.

Each is small and almost all are well formed; each must end in a verdict or a GaugeError within its limits.
"""

from __future__ import annotations

SCALE = """gauge g(n, d, f):
    given  x[n, d]
    param  W1[f, d], W2[d, f]
    model  y = {body} @ W2.T
    for every c in positive(f):
        W1 -> diag(c) @ W1
        W2 -> W2 @ diag(1/c)
    keeps  y
    fix    rownorm(W1) == colnorm(W2)
"""
LINES = """gauge g(n, d):
    given  x[n, d]
    param  W[d, d]
{lines}
    for every R in orthogonal(d):
        W -> {action}
    keeps  {kept}
"""


def op(definition: str) -> str:
    """A gauge about an operator of its own."""
    return f"op h(x) = {definition}\n" + SCALE.format(body="h(x @ W1.T)")


def lines(*models: str, kept: str, action: str = "R @ W") -> str:
    return LINES.format(lines="\n".join(f"    model  {model}" for model in models), kept=kept, action=action)


def chain(step: str, count: int, first: str = "x @ W") -> str:
    """y0 = first, y1 = step of y0, ..."""
    models = [f"y0 = {first}"] + [f"y{i} = {step.replace('Y', f'y{i - 1}')}" for i in range(1, count)]
    return lines(*models, kept=f"y{count - 1}")


def product(count: int) -> str:
    return balanced("*", [f"(x+{i})" for i in range(1, count + 1)])


def balanced(sign: str, parts: list[str]) -> str:
    """The parts joined in a tree, which is not deep."""
    if len(parts) == 1:
        return parts[0]
    half = len(parts) // 2
    return f"({balanced(sign, parts[:half])} {sign} {balanced(sign, parts[half:])})"


def nested(head: str, count: int, inner: str = "x") -> str:
    return f"{head}(" * count + inner + ")" * count


def tower(exponent: int, count: int, inner: str = "x") -> str:
    return "(" * count + inner + f")**{exponent}" * count


def axes(count: int) -> str:
    dims = [f"a{i}" for i in range(count)]
    return (
        f"gauge g({', '.join(dims)}):\n    given x[{', '.join(dims)}]\n    param W[{dims[-1]}, {dims[-1]}]\n"
        f"    model y = (x @ W.T) * (x @ W.T) * x\n    for every R in orthogonal({dims[-1]}):\n        W -> R @ W\n"
        "    keeps y\n"
    )


def many_dims(count: int) -> str:
    dims = [f"a{i}" for i in range(count)]
    weights = ", ".join(f"A{i}[a{i}, a{i + 1}]" for i in range(count - 1))
    whole = balanced("@", [f"A{i}" for i in range(count - 1)])
    return (
        f"gauge g({', '.join(dims)}, n, d):\n    given x[n, a0]\n    param {weights}, V[a{count - 1}, d], W[d, d]\n"
        f"    model y = x @ {whole} @ V @ W\n    for every R in orthogonal(d):\n"
        "        V -> V @ R.T\n        W -> R @ W\n    keeps y\n"
    )


def many_params(count: int) -> str:
    weights = ", ".join(f"A{i}[f, d]" for i in range(count))
    actions = "".join(f"        A{i} -> diag(c) @ A{i}\n" for i in range(count))
    whole = balanced("*", [f"relu(x @ A{i}.T)" for i in range(count)])
    return (
        f"gauge g(n, d, f):\n    given x[n, d]\n    param {weights}, V[d, f]\n    model y = ({whole}) @ V.T\n"
        f"    for every c in positive(f):\n{actions}        V -> V @ diag(1/c**{min(count, 64)})\n    keeps y\n"
        "    fix rownorm(A0) == colnorm(V)\n"
    )


def many_optional(count: int) -> str:
    weights = ", ".join(f"b{i}[f]?" for i in range(count))
    actions = "".join(f"        b{i} -> c * b{i}\n" for i in range(count))
    whole = balanced("+", ["x @ W1.T", *(f"b{i}" for i in range(count))])
    return (
        f"gauge g(n, d, f):\n    given x[n, d]\n    param {weights}, W1[f, d], W2[d, f]\n"
        f"    model y = relu({whole}) @ W2.T\n    for every c in positive(f):\n        W1 -> diag(c) @ W1\n{actions}"
        "        W2 -> W2 @ diag(1/c)\n    keeps y\n    fix rownorm(W1) == colnorm(W2)\n"
    )


def deep(levels: int, count: int) -> str:
    """A sound gauge under a tower of functions."""
    models = [f"y{i} = {nested('tanh', levels, f'y{i - 1}' if i else 'relu(x @ W1.T) @ W2.T')}" for i in range(count)]
    text = SCALE.replace("    model  y = {body} @ W2.T\n", "".join(f"    model  {model}\n" for model in models))
    return text.replace("keeps  y", f"keeps  y{count - 1}")


def sound(step: str, count: int) -> str:
    """A gauge that holds, under lines that take longer and longer to write out: no counterexample ends it early."""
    text = SCALE.format(body="relu(x @ W1.T)")
    models = "".join(f"    model  y{i} = {step.replace('Y', f'y{i - 1}' if i else 'y')}\n" for i in range(count))
    head, tail = text.split("    for every")
    return f"{head}{models}    for every{tail}".replace("keeps  y", f"keeps  y{count - 1}")


NINES = "9" * 50 + "e64"
SPECS: dict[str, str] = {
    "product of sums to a power": op(f"({product(12)})**64"),
    "product of many sums": op(product(300)),
    "tower of powers": op(tower(64, 3)),
    "tower of powers of a sum": op(tower(64, 8, "(x+1)")),
    "tower of roots": op("(" * 20 + "abs(x)+1" + ")**(1/64)" * 20),
    "tower of fractional powers": op("(" * 6 + "abs(x)+1" + ")**(63/64)" * 6),
    "tower of tanh": op(nested("tanh", 40)),
    "tower of exp": op(nested("exp", 12)),
    "tower of exp of sums": op(nested("exp", 6, "x+x**2+1/x")),
    "tower of gelu": op(nested("gelu", 12)),
    "tower of silu": op(nested("silu", 60)),
    "tower of max": op("max(" * 40 + "x" + "".join(f", {i})" for i in range(40))),
    "sum of max": op(balanced("+", [f"max(x-{i}, 0)" for i in range(100)])),
    "product of max": op(balanced("*", [f"max(x-{i}, 0)" for i in range(60)])),
    "huge rational": op(f"max(x*{NINES}/1{'7' * 40}e-64, 0)**64"),
    "huge numbers multiplied": op("x*" + balanced("*", [NINES] * 400)),
    "huge number to a power": op(f"({tower(64, 4, NINES)})*max(x,0)"),
    "continued fraction": op("1/(1+" * 60 + "x" + ")" * 60),
    "sum of fractions": op(balanced("+", [f"1/(x**2+{i})" for i in range(1, 80)])),
    "gelu of gelu": op("gelu(gelu(x)*gelu(x))*gelu(x)"),
    "sigmoid soup": op(balanced("*", [f"sigmoid({i}*x)" for i in range(1, 30)])),
    "sound squares": sound("Y * Y", 60),
    "sound powers of sums": sound("(Y + x + 1)**4", 20),
    "sound, with a hard op": f"op h(x) = {nested('tanh', 30)} + 1/(1 + x**3)\n"
    + sound("Y + h(-x)", 1),
    "squares": chain("Y * Y", 90),
    "squares of a sum": chain("(Y + x) * (Y + x)", 60),
    "matrix squares": chain("Y @ Y.T @ Y", 60),
    "powers in lines": chain("Y**4", 60),
    "large powers in lines": chain("Y**64", 60),
    "negative powers in lines": chain("(1 + Y*Y)**-64", 40),
    "roots in lines": chain("(1 + Y*Y)**(1/64)", 40),
    "exp in lines": chain("exp(Y)", 80),
    "tanh in lines": chain("tanh(Y + Y @ W)", 80),
    "relu in lines": chain("relu(Y @ W) + Y", 80),
    "softmax in lines": chain("softmax(Y @ W)", 80),
    "norms in lines": chain("layer_norm(Y @ W) + Y", 60),
    "norms, moved right": lines(
        *[f"y{i} = rms_norm({'x @ W' if not i else f'y{i - 1} + y{i - 1}'})" for i in range(60)],
        kept="y59",
        action="W @ R",
    ),
    "big factors": chain(f"Y * {NINES}", 90),
    "big factors and powers": chain(f"(Y * {NINES})**64", 90),
    "deep expression": lines(f"y = {nested('tanh', 95, 'x @ W')}", kept="y"),
    "deep lines": chain(nested("tanh", 60, "Y"), 95),
    "deep and sound": deep(60, 90),
    "less deep and sound": deep(60, 3),
    "deep signs": lines("y = " + "-" * 90 + "(x @ W)", kept="y"),
    "too deep": lines(f"y = {nested('tanh', 500, 'x @ W')}", kept="y"),
    "far too deep": lines("y = " + "(" * 50_000 + "x @ W" + ")" * 50_000, kept="y"),
    "long sum": lines("y = " + balanced("+", ["x @ W"] * 380), kept="y"),
    "long product": lines("y = " + balanced("*", ["(x @ W)"] * 300), kept="y"),
    "long chain": lines("y = x @ " + balanced("@", ["W"] * 600), kept="y"),
    "product of sums": lines("y = " + balanced("*", ["(x @ W + x)"] * 40), kept="y"),
    "product of many sums in lines": chain("(Y + x) * (Y + 2 * x) * (Y + 3 * x)", 30),
    "sum to the fourth": chain("(Y + x + 1)**4", 20),
    "logits of logits": chain("log_softmax(Y + log_softmax(Y))", 40),
    "transposes": lines("y = (x @ W)" + ".T" * 90, kept="y"),
    "eight axes": axes(8),
    "many dims": many_dims(40),
    "most dims": many_dims(45),
    "many params": many_params(30),
    "most params": many_params(90),
    "six optional params": many_optional(6),
    "many optional params": many_optional(40),
    "inverse of a power": """gauge g(n, k):
    given x[n, k]
    param A[k, k], B[k, k]
    model y = x @ A @ B
    for every T in invertible(k):
        A -> A @ inv(T)
        B -> T @ B
    keeps y
""",
    "inverse of a long product": """gauge g(n, k):
    given x[n, k]
    param A[k, k], B[k, k]
    model y = x @ A @ B
    for every T in invertible(k):
        A -> A @ inv("""
    + balanced("@", ["T"] * 200)
    + """)
        B -> T @ B
    keeps y
""",
    "orthogonal powers": lines("y = x @ W", kept="y", action=balanced("@", ["R"] * 300) + " @ W"),
    "action of squares": """gauge g(n, d, f):
    given  x[n, d]
    param  W1[f, d], W2[d, f]
    model  y = relu(x @ W1.T) @ W2.T
    for every c in positive(f):
        W1 -> diag("""
    + tower(64, 20, "c")
    + """) @ W1
        W2 -> W2 @ diag(1/c)
    keeps  y
    fix    rownorm(W1) == colnorm(W2)
""",
    "tower in the fix line": SCALE.format(body="relu(x @ W1.T)").replace(
        "fix    rownorm(W1) == colnorm(W2)", f"fix {tower(64, 20, 'rownorm(W1)')} == {tower(64, 20, 'colnorm(W2)')}"
    ),
    "huge numbers in the fix line": SCALE.format(body="relu(x @ W1.T)").replace(
        "fix    rownorm(W1) == colnorm(W2)", "fix rownorm(W1) == " + balanced("*", [NINES] * 400)
    ),
    "huge exponent of numbers": lines("y = (x @ W)**(" + balanced("*", [NINES] * 500) + ")", kept="y"),
    "huge options": lines(f"y = rms_norm(x @ W, eps={NINES}/{'7' * 50})", kept="y", action="W @ R"),
    "eps of any size": "".join(
        f"gauge g{i}(n, d):\n given x[n, d]\n param W[d, d]\n model y = rms_norm(x @ W, eps={eps})\n"
        f" for every c in positive(d):\n W -> W @ diag(c)\n keeps y\n fix colnorm(W) == 1\n"
        for i, eps in enumerate(["1e64", "1e-64", "0", "1/3", NINES, "0.0000001"])
    ),
    "many gauges": "".join(SCALE.format(body="relu(x @ W1.T)").replace("gauge g(", f"gauge g{i}(") for i in range(30)),
    "too many gauges": "".join(
        SCALE.format(body="relu(x @ W1.T)").replace("gauge g(", f"gauge g{i}(") for i in range(200)
    ),
    "many ops": "".join(f"op h{i}(x) = max(x,0)**{i % 60 + 1}\n" for i in range(400))
    + SCALE.format(body="h0(x @ W1.T)"),
    "ropes": chain("rope(Y) + rope(Y @ W)", 30),
    "dropouts": chain("dropout(Y) * dropout(Y @ W)", 30),
    "outer products": """gauge g(n):
    given x[n], t[n]
    param W[n]
    model y = """
    + balanced("+", ["outer(W, W) @ x * t"] * 80)
    + """
    for every c in positive(n):
        W -> c * W
    keeps y
    fix abs(W) == 1
""",
}
