"""Statements for the prover's tests: sound gauges, and wrong ones, each written as a spec would write it."""

from __future__ import annotations

from gaugec.graph.statement import Statement
from gaugec.language.check import check
from gaugec.language.lower import lower
from gaugec.language.parse import parse
from gaugec.language.tree import Gauge


def gauge(head: str, given: str, param: str, model: str, group: str, actions: str, keeps: str, more: str = "") -> Gauge:
    """A gauge from the parts of its text; `actions` are separated by semicolons."""
    lines = [f"gauge g0({head}):", f"    given  {given}", f"    param  {param}"]
    lines += [f"    model  {line.strip()}" for line in model.split(";")]
    lines += [f"    for every {group}:"] + [f"        {line.strip()}" for line in actions.split(";")]
    lines += [f"    keeps  {keeps}"]
    if "positive" in group:
        first = actions.split("->")[0].strip()
        norm = "abs" if first == "g" else "colnorm" if f"{first} @ diag(c)" in actions else "rownorm"
        lines += [f"    fix    {norm}({first}) == 1"]
    return check(parse("\n".join([*([more] if more else []), *lines]) + "\n", "test.gauge")).gauges[0]


def statement(*parts: str) -> Statement:
    """The lowered gauge of these parts."""
    return lower(gauge(*parts))


ATTENTION = ("n, m, d, e, k", "x[n, d], z[m, e]", "Wq[k, d], bq[k]?, Wk[k, e], bk[k]?")
SCORES = "s = (x @ Wq.T + bq) @ (z @ Wk.T + bk).T"
BIASES = ("n, m, d, e, k", "x[n, d], z[m, e]", "Wq[k, d], bq[k], Wk[k, e], bk[k]")
GAIN = ("n, d", "x[n, d]", "g[d], each W[_, d]")
ROPE = "s = rope(x @ Wq.T) @ rope(z @ Wk.T).T"
ROPED = ("n, m, d, k", "x[n, d], z[m, d]", "Wq[k, d], Wk[k, d]")
VALUES = ("n, m, d, k", "x[m, d], A[n, m]", "Wv[k, d], bv[k]?, Wo[d, k]")
MIX = "y = A @ (x @ Wv.T + bv) @ Wo.T"
MLP = ("n, d, e, f", "x[n, d]", "W1[f, d], b1[f]?, W2[e, f]")
TWO = "y = {f}(x @ W1.T + b1) @ W2.T"
SCALED = "W1 -> diag(c) @ W1; b1 -> c * b1; W2 -> W2 @ diag(1/c)"
HEAD = ("n, d, v", "h[n, d], t[n]", "U[v, d], b[v]?")
LOSS = "loss = cross_entropy(h @ U.T + b, t)"
NORM = ("n, d", "x[n, d]", "g[d], b[d]?, each W[_, d]")
BOTH = "Wq -> R @ Wq; bq -> R @ bq; Wk -> R @ Wk; bk -> R @ bk"
STREAM = ("n, d, e", "x[n, e]", "E[d, e], W[e, d]")

SOUND: dict[str, tuple[str, ...]] = {
    "norm gain": (
        *NORM,
        "y = (x * g + b) @ W.T",
        "c in positive(d)",
        "g -> c * g; b -> c * b; W -> W @ diag(1/c)",
        "y",
    ),
    "relu": (*MLP, TWO.format(f="relu"), "c in positive(f)", SCALED, "y"),
    "abs": (*MLP, TWO.format(f="abs"), "c in positive(f)", SCALED, "y"),
    "relu2": (
        *MLP,
        TWO.format(f="relu2"),
        "c in positive(f)",
        "W1 -> diag(c) @ W1; b1 -> c * b1; W2 -> W2 @ diag(1/c**2)",
        "y",
        "op relu2(x) = max(x, 0)**2",
    ),
    "leaky": (
        *MLP,
        TWO.format(f="leaky"),
        "c in positive(f)",
        SCALED,
        "y",
        "op leaky(x) = max(x, 0) - max(-x, 0) / 100",
    ),
    "swiglu": (
        "n, d, e, f",
        "x[n, d], gate[n, f]",
        "Wu[f, d], bu[f]?, Wd[e, f]",
        "y = (gate * (x @ Wu.T + bu)) @ Wd.T",
        "c in positive(f)",
        "Wu -> diag(c) @ Wu; bu -> c * bu; Wd -> Wd @ diag(1/c)",
        "y",
    ),
    "gated by a parameter": (
        "n, d, e, f",
        "x[n, d]",
        "Wg[f, d], Wu[f, d], Wd[e, f]",
        "y = (silu(x @ Wg.T) * (x @ Wu.T)) @ Wd.T",
        "c in positive(f)",
        "Wu -> diag(c) @ Wu; Wd -> Wd @ inv(diag(c))",
        "y",
    ),
    "values": (*VALUES, MIX, "R in orthogonal(k)", "Wv -> R @ Wv; bv -> R @ bv; Wo -> Wo @ R.T", "y"),
    "values, right action": (*VALUES, MIX, "R in orthogonal(k)", "Wv -> R.T @ Wv; bv -> R.T @ bv; Wo -> Wo @ R", "y"),
    "values, invertible": (*VALUES, MIX, "R in invertible(k)", "Wv -> R @ Wv; bv -> R @ bv; Wo -> Wo @ inv(R)", "y"),
    "scores": (*ATTENTION, SCORES, "R in orthogonal(k)", BOTH, "s"),
    "scores, softmax": (
        *ATTENTION,
        "s = softmax((x @ Wq.T + bq) @ (z @ Wk.T + bk).T)",
        "R in orthogonal(k)",
        BOTH,
        "s",
    ),
    "scores, invertible": (
        *ATTENTION,
        SCORES,
        "R in invertible(k)",
        "Wq -> R @ Wq; bq -> R @ bq; Wk -> inv(R).T @ Wk; bk -> inv(R).T @ bk",
        "s",
    ),
    "scores, torus": (*ATTENTION, SCORES, "R in torus(k)", BOTH, "s"),
    "rope": (*ROPED, ROPE, "R in torus(k)", "Wq -> R @ Wq; Wk -> R @ Wk", "s"),
    "rope, scales of pairs": (
        *ROPED,
        ROPE,
        "c in positive_pairs(k)",
        "Wq -> diag(c) @ Wq; Wk -> diag(1/c) @ Wk",
        "s",
    ),
    "logits": (*HEAD, LOSS, "a in translation(d)", "U -> U + outer(ones(v), a)", "loss"),
    "key bias": (
        *BIASES,
        "s = softmax((x @ Wq.T + bq) @ (z @ Wk.T + bk).T)",
        "a in translation(k)",
        "bk -> bk + a",
        "s",
    ),
    "layer norm of a shift": (
        "n, d, e",
        "x[n, e]",
        "E[d, e]",
        "y = layer_norm(x @ E.T)",
        "a in translation(e)",
        "E -> E + outer(ones(d), a)",
        "y",
    ),
    "rms norm of a scale": (
        "n, d",
        "x[n, d]",
        "E[n, d]",
        "y = rms_norm(E, eps=0) + x",
        "c in positive(n)",
        "E -> diag(c) @ E",
        "y",
    ),
    "rms of a rotation": (
        *STREAM,
        "y = rms_norm(x @ E.T) @ W.T",
        "R in orthogonal(d)",
        "E -> R @ E; W -> W @ R.T",
        "y",
    ),
    "layer norm of a rotation that keeps ones": (
        *STREAM,
        "y = layer_norm(x @ E.T) @ W.T",
        "R in orthogonal_ones(d)",
        "E -> R @ E; W -> W @ R.T",
        "y",
    ),
    "rotation conjugated by a gain": (
        "n, d, e",
        "x[n, e]",
        "E[d, e], g[d], W[e, d]",
        "y = (rms_norm(x @ E.T) * g) @ W.T",
        "R in orthogonal(d)",
        "E -> R @ E; W -> W @ diag(g) @ R.T @ diag(1/g)",
        "y",
    ),
    "rotation conjugated by a gain of 1 + g": (
        "n, d, e",
        "x[n, e]",
        "E[d, e], g[d], W[e, d]",
        "y = (rms_norm(x @ E.T) * (1 + g)) @ W.T",
        "R in orthogonal(d)",
        "E -> R @ E; W -> W @ diag(1 + g) @ R.T @ diag(1/(1 + g))",
        "y",
    ),
    "residual stream, two layers": (
        "n, d, e, f",
        "x[n, e]",
        "E[d, e], U[f, d], V[d, f], P[f, d], Q[d, f], W[e, d]",
        "h = x @ E.T; j = h + relu(rms_norm(h) @ U.T) @ V.T; l = j + relu(rms_norm(j) @ P.T) @ Q.T;"
        "y = rms_norm(l) @ W.T",
        "R in orthogonal(d)",
        "E -> R @ E; U -> U @ R.T; V -> R @ V; P -> P @ R.T; Q -> R @ Q; W -> W @ R.T",
        "y",
    ),
    "affine gain": (
        *GAIN,
        "y = (x * (1 + g)) @ W.T",
        "c in positive(d)",
        "g -> c * (1 + g) - 1; W -> W @ diag(1/c)",
        "y",
    ),
    "a constant of a bias, under a layer norm": (
        "n, d, e",
        "x[n, e]",
        "W[d, e], b[d]",
        "y = layer_norm(x @ W.T + b)",
        "c in translation(1)",
        "b -> b + c",
        "y",
    ),
    "a constant that a matrix takes from a bias": (
        "n, d, e",
        "x[n, e]",
        "W[d, e], E[n, d], b[d]",
        "y = tanh(x @ W.T + E + b)",
        "c in translation(1)",
        "E -> E + c; b -> b - c",
        "y",
    ),
    "a softmax of constants": (
        "n, k",
        "x[n, k]",
        "W[k]",
        "y = x * softmax(outer(W, ones(n))).T",
        "a in translation(k)",
        "W -> W + a",
        "y",
    ),
    "a root that has no value at every entry": (
        "n, d, e, f",
        "x[n, d]",
        "W1[f, d], W2[e, f]",
        "y = (x @ W1.T @ W2.T)**(1/2)",
        "c in positive(f)",
        "W1 -> diag(c) @ W1; W2 -> W2 @ diag(1/c)",
        "y",
    ),
    "rotary positions on an axis that no element moves": (
        "n, d, e, k",
        "x[n, e]",
        "E[d, e], W[k, d]",
        "y = rope(x @ E.T @ W.T)",
        "R in orthogonal(d)",
        "E -> R @ E; W -> W @ R.T",
        "y",
    ),
}

LEFT = "R in orthogonal(k)"
WRONG: dict[str, tuple[str, ...]] = {
    "values: transpose missing": (*VALUES, MIX, LEFT, "Wv -> R @ Wv; bv -> R @ bv; Wo -> Wo @ R", "y"),
    "values: bias forgotten": (*VALUES, MIX, LEFT, "Wv -> R @ Wv; Wo -> Wo @ R.T", "y"),
    "values: one-sided": (*VALUES, MIX, LEFT, "Wv -> R @ Wv; bv -> R @ bv", "y"),
    "values: transposed on both": (*VALUES, MIX, LEFT, "Wv -> R.T @ Wv; bv -> R.T @ bv; Wo -> Wo @ R.T", "y"),
    "values: invertible by transpose": (
        *VALUES,
        MIX,
        "R in invertible(k)",
        "Wv -> R @ Wv; bv -> R @ bv; Wo -> Wo @ R.T",
        "y",
    ),
    "scores: only on queries": (*ATTENTION, SCORES, LEFT, "Wq -> R @ Wq; bq -> R @ bq", "s"),
    "scores: key bias forgotten": (*ATTENTION, SCORES, LEFT, "Wq -> R @ Wq; bq -> R @ bq; Wk -> R @ Wk", "s"),
    "scores: invertible on both": (*ATTENTION, SCORES, "R in invertible(k)", BOTH, "s"),
    "rope: orthogonal": (*ROPED, ROPE, LEFT, "Wq -> R @ Wq; Wk -> R @ Wk", "s"),
    "rope: only on queries": (*ROPED, ROPE, "R in torus(k)", "Wq -> R @ Wq", "s"),
    "rope: opposite angles": (*ROPED, ROPE, "R in torus(k)", "Wq -> R @ Wq; Wk -> R.T @ Wk", "s"),
    "rope: scales of single coordinates": (
        *ROPED,
        ROPE,
        "c in positive(k)",
        "Wq -> diag(c) @ Wq; Wk -> diag(1/c) @ Wk",
        "s",
    ),
    "gelu": (*MLP, TWO.format(f="gelu"), "c in positive(f)", SCALED, "y"),
    "silu": (*MLP, TWO.format(f="silu"), "c in positive(f)", SCALED, "y"),
    "tanh": (*MLP, TWO.format(f="tanh"), "c in positive(f)", SCALED, "y"),
    "relu6": (*MLP, TWO.format(f="clip"), "c in positive(f)", SCALED, "y", "op clip(x) = max(x, 0) - max(x - 6, 0)"),
    "relu under a translation": (
        "n, d, e, f",
        "x[n, d]",
        "W1[f, d], b1[f], W2[e, f]",
        "y = relu(x @ W1.T + b1) @ W2.T",
        "a in translation(f)",
        "b1 -> b1 + a",
        "y",
    ),
    "relu under an orthogonal element": (
        *MLP,
        TWO.format(f="relu"),
        "R in orthogonal(f)",
        "W1 -> R @ W1; b1 -> R @ b1; W2 -> W2 @ R.T",
        "y",
    ),
    "relu: bias forgotten": (
        *MLP,
        TWO.format(f="relu"),
        "c in positive(f)",
        "W1 -> diag(c) @ W1; W2 -> W2 @ diag(1/c)",
        "y",
    ),
    "relu: not inverted": (
        *MLP,
        TWO.format(f="relu"),
        "c in positive(f)",
        "W1 -> diag(c) @ W1; b1 -> c * b1; W2 -> W2 @ diag(c)",
        "y",
    ),
    "relu2: inverse of degree 1": (
        *MLP,
        TWO.format(f="relu2"),
        "c in positive(f)",
        SCALED,
        "y",
        "op relu2(x) = max(x, 0)**2",
    ),
    "relu: scaled along the input": (
        *MLP,
        TWO.format(f="relu"),
        "c in positive(d)",
        "W1 -> W1 @ diag(c)",
        "y",
    ),
    "key bias as no action": (
        *BIASES,
        "s = softmax((x @ Wq.T + bq) @ (z @ Wk.T + bk).T)",
        "a in translation(k)",
        "bk -> bk + a + a * a",
        "s",
    ),
    "rotation conjugated by a gain, where 1 + g stands": (
        "n, d, e",
        "x[n, e]",
        "E[d, e], g[d], W[e, d]",
        "y = (rms_norm(x @ E.T) * (1 + g)) @ W.T",
        "R in orthogonal(d)",
        "E -> R @ E; W -> W @ diag(g) @ R.T @ diag(1/g)",
        "y",
    ),
    "a constant of a bias before an activation": (
        "n, d, f",
        "x[n, d]",
        "W[f, d], b[f]",
        "y = tanh(x @ W.T + b)",
        "c in translation(1)",
        "b -> b + c",
        "y",
    ),
    "query bias": (
        *BIASES,
        "s = softmax((x @ Wq.T + bq) @ (z @ Wk.T + bk).T)",
        "a in translation(k)",
        "bq -> bq + a",
        "s",
    ),
    "key bias without softmax": (*BIASES, SCORES, "a in translation(k)", "bk -> bk + a", "s"),
    "logits kept": (
        "n, d, v",
        "h[n, d]",
        "U[v, d]",
        "y = h @ U.T",
        "a in translation(d)",
        "U -> U + outer(ones(v), a)",
        "y",
    ),
    "logits along the classes": (*HEAD, LOSS, "a in translation(v)", "U -> U + outer(a, ones(d))", "loss"),
    "rms norm of a shift": (
        "n, d, e",
        "x[n, e]",
        "E[d, e]",
        "y = rms_norm(x @ E.T)",
        "a in translation(e)",
        "E -> E + outer(ones(d), a)",
        "y",
    ),
    "layer norm of a rotation": (
        *STREAM,
        "y = layer_norm(x @ E.T) @ W.T",
        "R in orthogonal(d)",
        "E -> R @ E; W -> W @ R.T",
        "y",
    ),
    "a gain between rotations": (
        "n, d, e",
        "x[n, e]",
        "E[d, e], g[d], W[e, d]",
        "y = (rms_norm(x @ E.T) * g) @ W.T",
        "R in orthogonal(d)",
        "E -> R @ E; W -> W @ R.T",
        "y",
    ),
    "gain: readers forgotten": (*NORM, "y = (x * g + b) @ W.T", "c in positive(d)", "g -> c * g; b -> c * b", "y"),
    "gain: bias forgotten": (
        *NORM,
        "y = (x * g + b) @ W.T",
        "c in positive(d)",
        "g -> c * g; W -> W @ diag(1/c)",
        "y",
    ),
    "affine gain scaled as if it were not": (
        *GAIN,
        "y = (x * (1 + g)) @ W.T",
        "c in positive(d)",
        "g -> c * g; W -> W @ diag(1/c)",
        "y",
    ),
    "a sum squared": (
        "n, d, e",
        "x[n, d]",
        "W1[e, d], W2[e, d]",
        "y = (x @ W1.T) * (x @ W2.T)",
        "R in orthogonal(e)",
        "W1 -> R @ W1; W2 -> R @ W2",
        "y",
    ),
    "an op that is named log and is none": (
        "n, k",
        "x[n, k]",
        "g[k], h[k]",
        "y = x * (log(g) - log(h))",
        "c in positive(k)",
        "g -> c * g; h -> c * h",
        "y",
        "op log(x) = x * abs(x)",
    ),
    "an op that is named pow and is none": (
        "n, k",
        "x[n, k]",
        "g[k], h[k]",
        "y = x * (pow(g) - pow(h))",
        "c in positive(k)",
        "g -> c * g; h -> c * h",
        "y",
        "op pow(x) = tanh(x)",
    ),
}
