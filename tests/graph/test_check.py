"""A graph that breaks a rule is found, with the node and what is wrong; one good graph, corrupted in one place each."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

import pytest

from gaugec.graph.builder import Builder
from gaugec.graph.check import SWITCH, Malformed, check, checked
from gaugec.graph.freeze import freeze
from gaugec.graph.ir import Access, Graph, Ix, Node


def good() -> Graph:
    """%0 x[2, 3], %1 w[4, 3], %2 x @ w.T, %3 relu of it, %4 both joined, %5 softmax of that, %6 twice that plus %2."""
    b = Builder()
    x, w = b.leaf("input", "x", [2, 3]), b.leaf("param", "w", [4, 3])
    y = b.einsum([x, w], ["ik", "jk"], "ij")
    joined = b.cat([y, b.map("relu", y)], 1)
    soft = b.along("softmax", joined, [1], keep=True)
    graph, _ = freeze(b, [b.add(soft, b.slice(joined, 1, 1, 1), coefficients=[2, 1])])  # type: ignore[list-item]
    return graph


def with_node(id: int, /, **changes: object) -> Graph:
    graph = good()
    nodes = list(graph.nodes)
    nodes[id] = replace(nodes[id], **changes)
    return replace(graph, nodes=tuple(nodes))


def with_mode(id: int, at: int, /, **changes: object) -> Graph:
    modes = list(good()[id].modes)
    modes[at] = replace(modes[at], **changes)
    return with_node(id, modes=tuple(modes))


def read_at(id: int, operand: int, *index: Ix, node: int | None = None) -> Graph:
    operands = list(good()[id].operands)
    operands[operand] = Access(operands[operand].node if node is None else node, index or operands[operand].index)
    return with_node(id, operands=tuple(operands))


V0, V1, V2 = (Ix(0, ((1, v),)) for v in range(3))

WRONG: dict[str, tuple[Callable[[], Graph], str]] = {
    "id": (lambda: with_node(2, id=7), "its id is not its position 2, at %7"),
    "size of a mode": (lambda: with_mode(2, 0, size=9), "the mode v0 has not the size of its variable, at %2"),
    "space": (lambda: with_mode(2, 0, space=good()[2].modes[1].space), "has size 2 here and 4 before, at %2"),
    "digits": (lambda: with_mode(2, 1, stride=2), "its modes are not the digits of its shape (2, 4), at %2"),
    "shape": (lambda: with_node(2, shape=(2, 5)), "its modes are not the digits of its shape (2, 5), at %2"),
    "bound twice": (lambda: with_node(2, summed=(2, 2)), "it binds a variable twice, at %2"),
    "no size": (lambda: with_node(2, summed=(8,)), "it binds a variable that has no size"),
    "summed mode": (lambda: with_node(2, summed=(0,)), "it sums a variable of its modes, at %2"),
    "joined": (
        lambda: with_node(4, joined=2, sizes=(*good()[4].sizes, 5)),
        "it joins along a variable that is no mode",
    ),
    "along": (lambda: with_node(5, bound=()), "it acts along no variable, at %5"),
    "order": (lambda: read_at(2, 0, node=3), "it reads %3 before that is made, at %2"),
    "itself": (lambda: read_at(2, 0, node=2), "it reads %2 before that is made, at %2"),
    "no node": (lambda: read_at(2, 0, node=-1), "it reads %-1 before that is made, at %2"),
    "rank": (lambda: read_at(2, 0, V0), "it reads %0 with 1 indices, which has 2 modes, at %2"),
    "unknown variable": (lambda: read_at(3, 0, V0, Ix(0, ((1, 5),))), "it reads %2 at a variable that has no size"),
    "unbound variable": (lambda: with_node(2, summed=()), "it reads %0 at a variable that is not bound, at %2"),
    "terms": (lambda: read_at(2, 0, V0, Ix(0, ((0, 2),))), "the terms of the index 0*v2 are not in order, at %2"),
    "range above": (
        lambda: read_at(2, 0, V0, Ix(1, ((1, 2),))),
        "the index v2 + 1 of %0 runs from 1 to 3, outside 0 to 2",
    ),
    "range below": (lambda: read_at(2, 0, V0, Ix(-1, ((1, 2),))), "runs from -1 to 1, outside 0 to 2, at %2"),
    "leaf": (
        lambda: with_node(0, kind="guess"),
        "a leaf is of one of the kinds constant, delta, element, input, param",
    ),
    "coefficients": (lambda: with_node(6, coefficients=()), "it has 0 coefficients for 2 operands, at %6"),
    "function": (lambda: with_node(3, function=""), "it has no function or no operand, at %3"),
    "gap": (
        lambda: with_node(4, pieces=((0, 4), (5, 3))),
        "its pieces do not cover 0 to 7, one for each operand, at %4",
    ),
    "short": (lambda: with_node(4, pieces=((0, 4), (4, 3))), "its pieces do not cover 0 to 7, one for each operand"),
    "output": (lambda: replace(good(), outputs=(7,)), "after a test: the output %7 is no node of the graph"),
    "buffer": (lambda: replace(good(), buffers=(-1,)), "after a test: the buffer %-1 is no node of the graph"),
    "cut": (lambda: replace(good(), cuts=((0, 1, 2),)), "after a test: a cut of 2 from 1 lies outside its space 0"),
}


def test_the_good_one_is_well_formed() -> None:
    assert check(good(), "a test") == good()
    assert [str(node) for node in good()][2:4] == [
        "%2[v0 < 2, v1 < 4] = sum over v2 < 3 of %0[v0, v2] * %1[v1, v2]",
        "%3[v0 < 2, v1 < 4] = relu(%2[v0, v1])",
    ]


@pytest.mark.parametrize("name", WRONG)
def test_a_graph_that_breaks_a_rule_is_found(name: str) -> None:
    make, words = WRONG[name]
    with pytest.raises(Malformed) as error:
        check(make(), "a test")
    assert str(error.value).startswith("after a test: ") and words in str(error.value), str(error.value)


def test_stages_look_only_where_they_are_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    assert os.environ.get(SWITCH), "every test checks every stage"
    wrong = WRONG["id"][0]()
    with pytest.raises(Malformed, match="after a stage: its id"):
        checked(wrong, "a stage")
    monkeypatch.delenv(SWITCH)
    assert checked(wrong, "a stage") is wrong


FIELDS: dict[str, object] = {"kind": "delta", "random": True, "summed": (), "coefficient": 5, "coefficients": (5, 6)}
FIELDS |= {
    "constant": 7,
    "function": "tanh",
    "attributes": (("a", 1),),
    "bound": (0,),
    "joined": 0,
    "pieces": ((0, 1),),
}


def test_every_field_that_a_type_adds_is_in_its_key_but_for_names() -> None:
    for node in good():
        mine = [name for name in vars(node) if name not in {*Node.__dataclass_fields__}]
        operands = [access.node for access in node.operands]
        for name in mine:
            other = replace(node, **{name: FIELDS.get(name, "other")})  # type: ignore[arg-type]
            assert (other.key(operands) == node.key(operands)) == (name == "name"), (node.word, name)


def test_an_axis_of_length_one_has_no_variable() -> None:
    b = Builder()
    x = b.leaf("input", "x", [3, 1, 2])
    soft, least = b.along("softmax", x, [1], keep=True), b.along("min", x, [1], keep=False)
    graph, _ = freeze(b, [soft, least])
    assert check(graph, "a test") is graph
    assert [node.binds for node in graph.nodes[1:]] == [(), ()]


def test_what_has_no_elements_is_read_nowhere() -> None:
    b = Builder()
    x = b.leaf("input", "x", [3, 2])
    graph, _ = freeze(b, [b.total(b.slice(x, 0, 0, 0), [0])])
    assert check(graph, "a test") is graph


def test_an_axis_that_an_operand_was_spread_over_is_acted_along() -> None:
    b = Builder()
    x = b.leaf("input", "x", [3, 1])
    graph, _ = freeze(b, [b.along("softmax", b.expand(x, [3, 4]), [1], keep=True)])
    assert check(graph, "a test") is graph
