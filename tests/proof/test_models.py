"""Proofs on subgraphs of models: regions of parameters, copies, rotary tables, fused weights, depth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import pytest
from clocks import Clock
from proof.models import Model

from gaugec import limits
from gaugec.graph.builder import Ref
from gaugec.graph.ir import Graph, Leaf
from gaugec.graph.layers import over_root
from gaugec.graph.statement import Digit, Region
from gaugec.proof.prove import equivariant, forget, prove_invariance, structure

D = [("rest", 48)]
HEADS = [("copy", 2), ("rest", 3), ("group", 10)]
GROUPS = [("copy", 2), ("group", 10)]


def halves(m: Model, q: Ref, cos: Ref, sin: Ref) -> Ref:
    """q * cos + cat(-q2, q1) * sin."""
    b, half = m.b, q.shape[-1] // 2
    first, second = b.slice(q, -1, 0, half), b.slice(q, -1, half, half)
    turned = b.cat([b.mul(second, coefficient=Fraction(-1)), first], -1)
    return b.add(b.mul(q, cos), b.mul(turned, sin))


def partial(m: Model, q: Ref, cos: Ref, sin: Ref) -> Ref:
    """The leading coordinates turn, the others pass."""
    b, rotary = m.b, cos.shape[-1]
    return b.cat([halves(m, b.slice(q, -1, 0, rotary), cos, sin), b.slice(q, -1, rotary, q.shape[-1] - rotary)], -1)


def interleaved(m: Model, q: Ref, cos: Ref, sin: Ref) -> Ref:
    """Pairs (2j, 2j + 1), spelled by a view and a stack."""
    b, half = m.b, q.shape[-1] // 2
    cos, sin = b.slice(cos, -1, 0, half), b.slice(sin, -1, 0, half)
    pairs = b.reshape(q, (*q.shape[:-1], half, 2))
    even, odd = b.select(pairs, -1, 0), b.select(pairs, -1, 1)
    minus = [Fraction(1), Fraction(-1)]
    one = b.add(b.mul(even, cos), b.mul(odd, sin), coefficients=minus)
    two = b.add(b.mul(odd, cos), b.mul(even, sin))
    return b.reshape(b.cat([b.unsqueeze(one, len(one.shape)), b.unsqueeze(two, len(two.shape))], -1), q.shape)


STYLES = {"halves": halves, "interleaved": interleaved, "partial": partial}


@dataclass
class Attention:
    model: Model
    scores: int
    out: int
    weights: int
    cut: frozenset[int]
    queries: Region
    keys: Region
    values: Region
    outward: Region
    graph: Graph
    q: int
    tables: int


def attention(style: str = "halves", equal: bool = True) -> Attention:
    """Six query heads of ten on two groups of keys and values, with rotary embedding."""
    m = Model()
    b, k, heads, groups, length = m.b, 10, 6, 2, 5
    x = m.input("x", 3, length, 48)
    wq, wk, wv = (m.param(f"w{c}", n * k, 48) for c, n in zip("qkv", (heads, groups, groups)))
    q, key, v = (m.linear(x, w) for w in (wq, wk, wv))
    wo = m.param("wo", 48, heads * k)
    half = 3 if style == "partial" else k // 2
    first = m.input("frequencies", length, half)
    second = first if equal else m.input("others", length, half)
    angles = b.cat([first, second], -1)
    cos, sin = b.map("cos", angles), b.map("sin", angles)

    def split(y: Ref, n: int) -> Ref:
        return b.transpose(b.reshape(y, (3, length, n, k)), 1, 2)

    q, key, v = split(q, heads), split(key, groups), split(v, groups)
    turned = STYLES[style](m, q, cos, sin)
    key = STYLES[style](m, key, cos, sin)
    spread = [
        b.reshape(b.expand(b.unsqueeze(y, 2), (3, groups, heads // groups, length, k)), (3, heads, length, k))
        for y in (key, v)
    ]
    scores = b.einsum([turned, spread[0]], ["bhnd", "bhmd"], "bhnm")
    weights = b.along("softmax", scores, [-1], keep=True)
    mixed = b.einsum([weights, spread[1]], ["bhnm", "bhmd"], "bhnd")
    y = m.linear(b.reshape(b.transpose(mixed, 1, 2), (3, length, heads * k)), wo)
    ids = m.freeze(scores, y, weights, turned)
    regions = [m.region(w, [axes, D], "rotate") for w, axes in ((wq, HEADS), (wk, GROUPS), (wv, GROUPS))]
    return Attention(
        m,
        ids[0],
        ids[1],
        ids[2],
        frozenset({m.node(cos), m.node(sin)}),
        *regions,
        m.region(wo, [D, HEADS], "rotate"),
        m.graph,
        ids[3],
        m.node(cos),
    )


@pytest.mark.parametrize(("style", "rotary"), [("halves", 0), ("interleaved", 0), ("partial", 6)])
def test_rotary_planes(style: str, rotary: int) -> None:
    a = attention(style)
    pairing = "interleaved" if style == "interleaved" else "halves"
    regions = (a.queries, a.keys)
    for cut in (a.cut, frozenset[int]()):
        theorem = prove_invariance(a.graph, (a.scores,), regions, "torus", cut, pairing, rotary)
        assert theorem, theorem.reason
    other = "halves" if pairing == "interleaved" else "interleaved"
    assert not prove_invariance(a.graph, (a.scores,), regions, "torus", a.cut, other, rotary)
    assert not prove_invariance(a.graph, (a.scores,), regions[:1], "torus", a.cut, pairing, rotary)
    assert not prove_invariance(a.graph, (a.scores,), regions, "orthogonal", a.cut)
    if rotary:
        assert not prove_invariance(a.graph, (a.scores,), regions, "torus", a.cut, pairing, 0)
        assert not prove_invariance(a.graph, (a.scores,), regions, "torus", a.cut, pairing, rotary - 2)


def test_unequal_halves_of_a_rotary_table() -> None:
    a = attention(equal=False)
    for cut in (a.cut, frozenset[int]()):
        theorem = prove_invariance(a.graph, (a.scores,), (a.queries, a.keys), "torus", cut, "halves")
        assert theorem.verdict == "refused"


def test_scales_of_pairs() -> None:
    a = attention()
    up = Region(a.queries.leaf, a.queries.digits, "scale")
    down = Region(a.keys.leaf, a.keys.digits, "scale", Fraction(-1))
    theorem = prove_invariance(a.graph, (a.scores,), (up, down), "positive_pairs", a.cut, "halves")
    assert theorem, theorem.reason
    assert not prove_invariance(a.graph, (a.scores,), (up, down), "positive", a.cut)
    assert not prove_invariance(a.graph, (a.scores,), (up, up), "positive_pairs", a.cut, "halves")


def test_values_with_grouped_heads() -> None:
    a = attention()
    for cut in (frozenset({a.weights}), frozenset[int]()):
        theorem = prove_invariance(a.graph, (a.out,), (a.values, a.outward), "orthogonal", cut)
        assert theorem, theorem.reason
    cut = frozenset({a.weights})
    dual = Region(a.outward.leaf, a.outward.digits, "rotate", dual=True)
    assert prove_invariance(a.graph, (a.out,), (a.values, dual), "invertible", cut)
    assert not prove_invariance(a.graph, (a.out,), (a.values, a.outward), "invertible", cut)
    assert not prove_invariance(a.graph, (a.out,), (a.values,), "orthogonal", cut)


def test_a_fused_gate_and_up_projection() -> None:
    m = Model()
    b, x, fused, down = m.b, m.input("x", 3, 6), m.param("gate_up", 16, 6), m.param("down", 5, 8)
    both = m.linear(x, fused)
    gate, up = b.split(both, -1, [8, 8])
    (id,) = m.freeze(m.linear(b.mul(b.map("silu", gate), up), down))
    rest = [("rest", 6)]
    first, second = (m.region(fused, [[("skip", start), ("group", 8)], rest], "scale") for start in (0, 8))
    back = m.region(down, [[("rest", 5)], [("group", 8)]], "scale", -1)
    assert prove_invariance(m.graph, (id,), (second, back), "positive")
    assert not prove_invariance(m.graph, (id,), (first, back), "positive")
    twice = prove_invariance(m.graph, (id,), (second, second, back), "positive")
    assert twice.verdict == "not decided" and "overlap" in twice.reason
    off = Region(second.leaf, (Digit("group", 7, 8), second.digits[1]), "scale")
    assert not prove_invariance(m.graph, (id,), (off, back), "positive")


def test_digits_that_share_one_mode() -> None:
    # queries, keys and values of grouped heads in one weight: its rows are one mode, with several digits in each slice
    m = Model()
    b, k, x = m.b, 4, m.input("x", 3, 7)
    fused, out = m.param("wqkv", 8 * k, 7), m.param("wo", 7, 4 * k)
    parts = b.split(m.linear(x, fused), -1, [4 * k, 2 * k, 2 * k])
    q, key, v = (b.reshape(y, (3, n, k)) for y, n in zip(parts, (4, 2, 2)))
    q = b.reshape(q, (3, 2, 2, k))
    scores = b.einsum([q, key], ["ngrk", "mgk"], "grnm")
    weights = b.along("softmax", scores, [-1], keep=True)
    mixed = b.einsum([weights, v], ["grnm", "mgk"], "ngrk")
    kept = m.freeze(scores, m.linear(b.reshape(mixed, (3, 4 * k)), out))
    leaf = m.graph[m.node(fused)]
    assert [mode.size for mode in leaf.modes] == [8 * k, 7]
    rest = Digit("rest", 0, 7, order=9, mode=1)

    def rows(start: int, heads: int) -> Region:
        digits = [Digit("copy", start, 2, k * heads // 2, 0)]
        if heads > 2:
            digits.append(Digit("rest", 0, heads // 2, k, 1))
        return Region(leaf.id, (*digits, Digit("group", 0, k, 1, 2), rest), "rotate")

    theorem = prove_invariance(m.graph, kept[:1], (rows(0, 4), rows(4 * k, 2)), "orthogonal")
    assert theorem, theorem.reason
    assert not prove_invariance(m.graph, kept[:1], (rows(0, 4), rows(6 * k, 2)), "orthogonal")
    back = m.region(out, [[("rest", 7)], [("copy", 2), ("rest", 2), ("group", k)]], "rotate")
    theorem = prove_invariance(m.graph, kept[1:], (rows(6 * k, 2), back), "orthogonal")
    assert theorem, theorem.reason


def test_copies_must_agree() -> None:
    a = attention()
    one = [
        Digit("rest" if d.part == "copy" else d.part, d.start, d.length, d.step, d.order, d.mode)
        for d in a.outward.digits
    ]
    wrong = Region(a.outward.leaf, tuple(one), "rotate")
    theorem = prove_invariance(a.graph, (a.out,), (a.values, wrong), "orthogonal", frozenset({a.weights}))
    assert theorem.verdict == "refused" and "copies" in theorem.reason


def test_a_cut_node_must_not_move() -> None:
    a = attention()
    theorem = prove_invariance(a.graph, (a.out,), (a.queries, a.keys), "torus", frozenset({a.weights}), "halves")
    assert theorem.verdict == "refused" and "held fixed" in theorem.reason
    # through a kept node it is invariant, and may be cut
    kept = (a.scores, a.out)
    theorem = prove_invariance(a.graph, kept, (a.queries, a.keys), "torus", a.cut | {a.weights}, "halves")
    assert theorem, theorem.reason


def test_a_value_turns_with_its_parameter() -> None:
    a = attention()
    node = a.graph[a.q]
    parts = {0: "rest", 1: "head", 2: "rest", 3: "group"}
    digits = []
    for order, mode in enumerate(node.modes):
        part = parts[mode.axis]
        part = ("copy" if mode.size == 2 else "rest") if part == "head" else part
        digits.append(Digit(part, 0, mode.size, order=order, mode=order))
    output = Region(a.q, tuple(digits), "rotate")
    theorem = equivariant(a.graph, output, (a.queries,), "torus", a.cut, "halves")
    assert theorem, theorem.reason
    assert not equivariant(a.graph, output, (a.queries,), "orthogonal", a.cut)
    unequal = attention(equal=False)
    assert not equivariant(unequal.graph, output, (unequal.queries,), "torus", unequal.cut, "halves")


def gain(form: str) -> tuple[Model, int, tuple[Region, ...]]:
    m = Model()
    b = m.b
    x, g, w, u = m.input("x", 2, 5, 12), m.param("g", 12), m.param("w", 7, 12), m.param("u", 12, 9)
    y = over_root(b, x, [2], Fraction(1, 10**5))
    y = b.mul(y, b.add(g, constant=Fraction(1)) if form == "affine" else g)
    out = b.cat([m.linear(y, w), b.einsum([y, u], ["abc", "cd"], "abd")], -1)
    (id,) = m.freeze(out)
    group = [("group", 12)]
    regions = (
        m.region(g, [group], "scale", shift_by=int(form != "plain")),
        m.region(w, [[("rest", 7)], group], "scale", -1),
        m.region(u, [group, [("rest", 9)]], "scale", -1),
    )
    return m, id, regions


def test_gains_and_all_their_readers() -> None:
    m, id, regions = gain("plain")
    theorem = prove_invariance(m.graph, (id,), regions, "positive")
    assert theorem, theorem.reason
    assert "c > 0" in theorem.conditions
    assert not prove_invariance(m.graph, (id,), regions[:2], "positive")


def test_affine_gains() -> None:
    m, id, regions = gain("affine")
    assert prove_invariance(m.graph, (id,), regions, "positive")
    plain = (Region(regions[0].leaf, regions[0].digits, "scale"), *regions[1:])
    assert not prove_invariance(m.graph, (id,), plain, "positive")
    m, id, regions = gain("shifted without being affine")
    assert not prove_invariance(m.graph, (id,), regions, "positive")


def stream(layers: int, norm: bool = True) -> tuple[Graph, int, tuple[Region, ...]]:
    """A pre-norm decoder without gains, whose whole stream may turn."""
    m = Model()
    b, d, k, f = m.b, 8, 4, 12
    x, embed = m.input("x", 2, 3, 20), m.param("embed", d, 20)
    h, sides = m.linear(x, embed), [(embed, "out")]

    def normed(h: Ref) -> Ref:
        return over_root(b, h, [2], Fraction(1, 10**6)) if norm else b.map("relu", h)

    for layer in range(layers):
        n = normed(h)
        q, key, v = (m.param(f"{w}{layer}", k, d) for w in "qkv")
        o, up, gate, down = m.param("o", d, k), m.param("u", f, d), m.param("g", f, d), m.param("d", d, f)
        scores = b.einsum([m.linear(n, q), m.linear(n, key)], ["bnd", "bmd"], "bnm")
        weights = b.along("softmax", scores, [-1], keep=True)
        h = b.add(h, m.linear(b.einsum([weights, m.linear(n, v)], ["bnm", "bmd"], "bnd"), o))
        n = normed(h)
        h = b.add(h, m.linear(b.mul(b.map("silu", m.linear(n, gate)), m.linear(n, up)), down))
        sides += [(w, "in") for w in (q, key, v, up, gate)] + [(w, "out") for w in (o, down)]
    head = m.param("head", 20, d)
    (id,) = m.freeze(m.linear(normed(h), head))
    regions = []
    for w, side in [*sides, (head, "in")]:
        other = [("rest", m.graph[m.node(w)].shape[0 if side == "in" else 1])]
        regions.append(m.region(w, [[("group", d)], other] if side == "out" else [other, [("group", d)]], "rotate"))
    return m.graph, id, tuple(regions)


def test_a_deep_stream_is_proved_in_time_linear_in_its_layers() -> None:
    forget()
    looks = []
    for layers in (8, 16):
        clock = Clock()
        graph, id, regions = stream(layers)
        with limits.clock(clock):
            theorem = prove_invariance(graph, (id,), regions, "orthogonal")
        assert theorem, theorem.reason
        looks.append(clock.looks)
    assert looks[1] < 2.2 * looks[0] < 50_000, looks


def test_a_stream_is_refused_when_one_layer_is_forgotten() -> None:
    graph, id, regions = stream(1)
    for gone in (0, 2, 7, len(regions) - 1):
        some = tuple(region for k, region in enumerate(regions) if k != gone)
        assert not prove_invariance(graph, (id,), some, "orthogonal")
    graph, id, regions = stream(1, norm=False)
    assert not prove_invariance(graph, (id,), regions, "orthogonal")


def test_equal_structures_are_proved_once() -> None:
    one, two = attention(), attention()
    kept, regions = (one.scores,), (one.queries, one.keys)
    assert structure(one.graph, kept, regions, one.cut) == structure(two.graph, kept, regions, two.cut)
    other = attention(equal=False)
    assert structure(one.graph, kept, regions, one.cut) != structure(other.graph, (other.scores,), regions, other.cut)
    assert structure(one.graph, kept, regions[:1], one.cut) != structure(one.graph, kept, regions, one.cut)
    first = prove_invariance(one.graph, kept, regions, "torus", one.cut, "halves")
    assert prove_invariance(two.graph, kept, regions, "torus", two.cut, "halves") is first


def test_names_do_not_matter() -> None:
    graph, id, regions = stream(1)
    bare = (replace(node, place="", source="") for node in graph)
    renamed = Graph(tuple(replace(n, name=f"p{n.id}") if isinstance(n, Leaf) else n for n in bare))
    assert structure(graph, (id,), regions, frozenset()) == structure(renamed, (id,), regions, frozenset())


def test_an_unknown_operation_that_meets_a_moved_value() -> None:
    m = Model()
    x, w = m.input("x", 3, 4), m.param("w", 5, 4)
    m.b.source = "aten.mystery"
    y = m.b.opaque("aten.mystery", [m.linear(x, w)], [3, 5])
    (id,) = m.freeze(y)
    region = m.region(w, [[("group", 5)], [("rest", 4)]], "scale")
    theorem = prove_invariance(m.graph, (id,), (region,), "positive")
    assert not theorem and "aten.mystery" in theorem.reason


def test_dropout_on_the_axis_breaks_a_rotation_but_not_a_scale() -> None:
    def two(mask: bool) -> tuple[Model, int, Ref, Ref]:
        m = Model()
        x, w, u = m.input("x", 3, 4), m.param("w", 5, 4), m.param("u", 6, 5)
        h = m.linear(x, w)
        drawn = m.b.mul(h, m.b.leaf("input", "dropout", h.shape, random=True)) if mask else h
        y = m.linear(drawn, u)
        return m, m.freeze(y)[0], w, u

    for mask in (False, True):
        m, id, w, u = two(mask)
        group = [("group", 5)]
        turn = tuple(
            m.region(r, axes, "rotate") for r, axes in ((w, [group, [("rest", 4)]]), (u, [[("rest", 6)], group]))
        )
        scale = tuple(
            m.region(r, axes, "scale", e)
            for r, axes, e in ((w, [group, [("rest", 4)]], 1), (u, [[("rest", 6)], group], -1))
        )
        assert prove_invariance(m.graph, (id,), scale, "positive")
        assert bool(prove_invariance(m.graph, (id,), turn, "orthogonal")) is not mask


def test_a_shift_of_all_logits() -> None:
    m = Model()
    h, u, bias, t = m.input("h", 6, 4), m.param("u", 9, 4), m.param("b", 9), m.input("t", 6)
    logits = m.linear(h, u, bias)
    loss = m.b.along("cross_entropy", logits, [-1], keep=False, data=[t], out=[])
    (id,) = m.freeze(loss)
    region = m.region(u, [[("group", 9)], [("rest", 4)]], "shift")
    assert prove_invariance(m.graph, (id,), (region,), "translation")
    (id,) = [m.node(logits)]
    assert not prove_invariance(m.graph, (id,), (region,), "translation")
    across = m.region(u, [[("rest", 9)], [("group", 4)]], "shift")
    assert not prove_invariance(m.graph, (m.node(loss),), (across,), "translation")


@pytest.mark.parametrize("way", ["root", "log"])
def test_a_condition_that_the_group_does_not_keep_is_refused_on_a_model(way: str) -> None:
    """A gain under a root, or a logarithm, that cancels: a scale keeps its sign, a shift does not."""
    for group, kind in (("positive", "scale"), ("translation", "shift")):
        m = Model()
        x, w, v = m.input("x", 6, 4), m.param("w", 4), m.param("v", 4)
        if way == "root":
            made = m.b.power(m.b.power(w, Fraction(1, 2)), Fraction(2))
        else:
            made = m.b.add(m.b.add(w, m.b.mul(m.b.map("log", w), coefficient=Fraction(-1))), m.b.map("log", w))
        y = m.b.mul(x, m.b.mul(made, v) if kind == "scale" else m.b.add(made, m.b.mul(v, coefficient=Fraction(-1))))
        (id,) = m.freeze(y)
        axes = [[("group", 4)]] if kind == "scale" else [[("rest", 4)]]
        regions = [m.region(w, axes, kind)]
        regions.append(m.region(v, axes, kind, exponent=-1) if kind == "scale" else m.region(v, axes, kind))
        theorem = prove_invariance(m.graph, (id,), tuple(regions), group)
        if kind == "scale":
            assert theorem and len(theorem.conditions) == 2 and "c > 0" in theorem.conditions, theorem
        else:
            conditions = {
                "root": "what a root or a divisor stands on ≥ 0",
                "log": "its argument is where log has a value",
            }
            after = "and the group does not keep that: what has a value before an element acts may have none after"
            assert (theorem.verdict, theorem.reason) == ("refused", f"it holds only where {conditions[way]}, {after}")
