"""Every example of the language reference parses as it stands, and what ships loads."""

from __future__ import annotations

from fractions import Fraction

import pytest

from gaugec.language import Binary, Call, Name, Number, load, shipped, show, show_action, show_fix
from gaugec.language.check import check
from gaugec.language.parse import parse

VALUE_ROTATION = """\
gauge value_rotation(n, m, d, k):           # queries, keys, model width, head width
    "A head's value basis is arbitrary: rotate the values, rotate the output projection back."

    given  x[m, d], A[n, m]                 # any tokens, any mixing weights
    param  Wv[k, d], bv[k]?, Wo[d, k]       # torch layout [out, in]; ? marks a parameter that a model may lack
    model  y = A @ (x @ Wv.T + bv) @ Wo.T

    for every R in orthogonal(k):
        Wv -> R @ Wv
        bv -> R @ bv
        Wo -> Wo @ R.T

    keeps  y
"""
FOUR = """\
gauge norm_gain(n, d):
    "A norm's gain can move into every linear map that reads the norm."
    given  x[n, d]                          # the normalised activations
    param  g[d], b[d]?, each W[_, d]
    model  y = (x * g + b) @ W.T
    for every c in positive(d):
        g -> c * g
        b -> c * b
        W -> W @ diag(1/c)
    keeps  y
    fix    g**2 + b**2 == 1                 # without a bias: abs(g) == 1

gauge logit_shift(n, d, v):
    "Cross-entropy forgets what is added to every logit of a row."
    given  h[n, d], t[n]
    param  U[v, d], b[v]?
    model  loss = cross_entropy(h @ U.T + b, t)
    for every a in translation(d):
        U -> U + outer(ones(v), a)
    keeps  loss

gauge qk_rotation_rope(n, m, d, k):
    "Queries and keys may turn together in every rotary plane."
    given  x[n, d], z[m, d]
    param  Wq[k, d], Wk[k, d]
    model  s = rope(x @ Wq.T) @ rope(z @ Wk.T).T
    for every R in torus(k):
        Wq -> R @ Wq
        Wk -> R @ Wk
    keeps  s
"""
LLAMA = """\
architecture llama:
    "Pre-norm decoder: RMSNorm, rotary attention with grouped queries, SwiGLU."
    use norm_gain from norms
    use swiglu_rescale from mlp
    use value_rotation, qk_rotation_rope from attention
    use logit_shift from head                # `optional` behind a line: may find no site
"""
RELU2 = """\
op relu2(x) = max(x, 0)**2

gauge relu2_rescale(n, d, f):
    given  x[n, d]
    param  W1[f, d], W2[d, f]
    model  y = relu2(x @ W1.T) @ W2.T
    for every c in positive(f):
        W1 -> diag(c) @ W1
        W2 -> W2 @ diag(c**-2)
    keeps  y
    fix    rownorm(W1) == colnorm(W2)
"""
STREAM = """\
gauge stream(n, d, e):
    "An action may read a parameter that the gauge leaves alone."
    given  x[n, e]
    param  P[d, e], g[d], W[_, d]
    model  h = rms_norm(x @ P.T, eps=0)
    model  y = (h * g) @ W.T
    for every R in orthogonal(d):
        P -> R @ P
        W -> W @ diag(g) @ R.T @ diag(1/g)
    keeps  y
"""


def checked(text: str):
    return check(parse(text, "example.gauge"))


def test_value_rotation():
    (gauge,) = checked(VALUE_ROTATION).gauges
    assert gauge.name == "value_rotation"
    assert gauge.dims == ("n", "m", "d", "k")
    assert gauge.doc.startswith("A head's value basis is arbitrary")
    assert [(p.name, p.shape, p.optional, p.each) for p in gauge.params] == [
        ("Wv", ("k", "d"), False, False),
        ("bv", ("k",), True, False),
        ("Wo", ("d", "k"), False, False),
    ]
    assert (gauge.element.name, gauge.element.group, gauge.element.dims) == ("R", "orthogonal", ("k",))
    assert gauge.models[0].expr.shape == ("n", "d")
    assert [show_action(action) for action in gauge.actions] == ["Wv -> R @ Wv", "bv -> R @ bv", "Wo -> Wo @ R.T"]
    assert gauge.keeps == ("y",) and gauge.fixes == ()


def test_the_others():
    norm, head, rope = checked(FOUR).gauges
    assert norm.params[2].each and norm.params[2].shape == ("_W0", "d")
    assert norm.models[0].expr.shape == ("n", "_W0")
    assert show_fix(norm.fixes[0]) == "g**2 + b**2 == 1"
    assert head.models[0].expr.shape == ()
    assert head.actions[0].expr.shape == ("v", "d")
    assert rope.models[0].expr.shape == ("n", "m")


def test_architecture():
    architecture = checked(LLAMA).architecture
    assert architecture.name == "llama"
    assert [(use.gauges, use.source, use.optional) for use in architecture.uses] == [
        (("norm_gain",), "norms", False),
        (("swiglu_rescale",), "mlp", False),
        (("value_rotation", "qk_rotation_rope"), "attention", False),
        (("logit_shift",), "head", False),
    ]


def test_own_operator():
    file = checked(RELU2)
    (gauge,) = file.gauges
    (operator,) = gauge.operators
    assert (operator.name, operator.argument, show(operator.expr)) == ("relu2", "x", "max(x, 0)**2")
    assert gauge.actions[1].expr.right == Call("diag", (Binary("**", Name("c"), Number(Fraction(-2))),))


def test_action_that_reads_an_unmoved_param():
    (gauge,) = checked(STREAM).gauges
    assert gauge.models[0].expr.options == (("eps", Fraction(0)),)
    assert show(gauge.actions[1].expr) == "W @ diag(g) @ R.T @ diag(1/g)"


def test_layout_and_line_ends_carry_no_meaning():
    lines = [line.split("#")[0] for line in FOUR.splitlines()]
    flat = " ".join(" ".join(lines).split())
    assert parse(flat, "a").gauges == parse(FOUR, "b").gauges
    assert parse(FOUR.replace("\n", "\r\n"), "c").gauges == parse(FOUR, "b").gauges


def test_words_of_python_are_names():
    text = FOUR[: FOUR.index("gauge logit")].replace("W", "lambda").replace("g[d]", "in[d]").replace("x * g", "x * in")
    text = text.replace("g -> c * g", "in -> c * in").replace("g**2", "in**2")
    (gauge,) = checked(text).gauges
    assert [param.name for param in gauge.params] == ["in", "b", "lambda"]


def test_batch_axes():
    text = VALUE_ROTATION.replace("(n, m, d, k)", "(b, n, m, d, k)").replace(
        "x[m, d], A[n, m]", "x[b, m, d], A[b, n, m]"
    )
    (gauge,) = checked(text).gauges
    assert gauge.models[0].expr.shape == ("b", "n", "d")


@pytest.mark.parametrize(
    ("expression", "shape"),
    [
        ("x @ g", ("n",)),
        ("g @ g", ()),
        ("g @ x.T", ("n",)),
        ("z @ x.T", ("b", "n", "n")),
        ("x * g / 2 - 1", ("n", "d")),
        ("softmax(x) + layer_norm(z, eps=1e-5)", ("b", "n", "d")),
        ("outer(ones(n), g)", ("n", "d")),
        ("diag(g) @ x.T", ("d", "n")),
        ("x**(1/2)", ("n", "d")),
        ("-x**-2", ("n", "d")),
        ("cross_entropy(x @ x.T, x @ g)", ()),
        ("rope(z)", ("b", "n", "d")),
        ("dropout(gelu(max(x, -1/2)))", ("n", "d")),
        ("inv(x.T @ x)", ("d", "d")),
    ],
)
def test_shapes(expression: str, shape: tuple[str, ...]):
    text = f"""gauge s(b, n, d):
        given x[n, d], z[b, n, d]
        param g[d], W[_, d]
        model y = {expression}
        model u = z @ W.T + x @ W.T * (g @ g)
        for every R in orthogonal(d): W -> W @ R
        keeps y, u
    """
    (gauge,) = checked(text).gauges
    assert gauge.models[0].expr.shape == shape


def test_what_ships_loads():
    assert {"norms", "mlp", "attention", "head", "llama", "relu_mlp"} <= set(shipped())
    for name in shipped():
        spec = load(name)
        assert spec.entries and len(spec.sha256) == 64
        for entry in spec.entries:
            assert entry.gauge.doc, f"{entry.gauge.name} does not say what it means"
    assert [entry.gauge.name for entry in load("llama").entries] == [
        "norm_gain",
        "swiglu_rescale",
        "value_rotation",
        "qk_rotation_rope",
        "logit_shift",
    ]
