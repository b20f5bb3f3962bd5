"""Matrices that are treated as a whole go along with the rotations of a gauge, or are none."""

from __future__ import annotations

from fractions import Fraction

from gaugec.graph.roles import Block, Played
from gaugec.pipeline.matrices import compatible
from gaugec.sites import Axes, Binding, Move, Site

SHAPE = (12, 20)
ALL = ("matrix", (Block(0, (), ((12, 20),), ((20, 1),)),))
HEADS = ("matrix", (Block(0, ((3, 80),), ((4, 20),), ((20, 1),)),))  # three heads of four rows
NONE: Played = ("other", ())


def kept(
    played: Played,
    group: Axes,
    *,
    rest: Axes = (),
    copies: Axes = (),
    offset: int = 0,
    name: str = "orthogonal",
    shape: tuple[int, ...] = SHAPE,
) -> Played:
    """What is left of a role where a made-up site rotates along these axes of its parameter."""
    count, size = copies[0][0] if copies else 1, group[0][0]
    kind = "rotate" if name != "positive" else "scale"
    binding = Binding("W", "w", offset, copies, group, rest, Move(kind, Fraction(1)))
    site = Site("made_up", 0, name, count, size, "", 0, (binding,), (), "proved", "", "", ())
    return compatible({"w": played, "other": ALL}, [site], {"w": shape, "other": SHAPE})["w"]


def test_rotations_of_rows_and_of_columns_are_kept() -> None:
    assert kept(ALL, ((12, 20),), rest=((20, 1),)) == ALL
    assert kept(ALL, ((20, 1),), rest=((12, 20),)) == ALL
    assert kept(HEADS, ((20, 1),), rest=((12, 20),)) == HEADS
    assert kept(HEADS, ((4, 20),), copies=((3, 80),), rest=((20, 1),)) == HEADS
    assert kept(ALL, ((4, 20),), copies=((3, 80),), rest=((20, 1),)) == ALL, "a block for every head"
    assert kept(HEADS, ((2, 40),), offset=20, copies=((3, 80),), rest=((20, 1),)) == HEADS, "a part of each head"


def test_what_a_rotation_crosses_is_one_matrix() -> None:
    """Heads that the rotation mixes."""
    assert kept(HEADS, ((12, 20),), rest=((20, 1),)) == ALL
    assert kept(HEADS, ((3, 80),), rest=((4, 20), (20, 1))) == ALL
    assert kept(HEADS, ((6, 20),), copies=((2, 120),), rest=((20, 1),)) == ALL


def test_what_is_turned_in_part_or_by_several_elements_is_none() -> None:
    assert kept(ALL, ((12, 20),), rest=((10, 1),)) == NONE, "half of the columns"
    assert kept(ALL, ((12, 20),), copies=((20, 1),)) == NONE, "every column by its own"
    assert kept(ALL, ((12, 20),), copies=((4, 5),), rest=((5, 1),)) == NONE
    assert kept(ALL, ((20, 1),), copies=((12, 20),)) == NONE, "every row by its own"
    assert kept(ALL, ((240, 1),)) == NONE, "rows and columns at once"


def test_experts_by_their_number() -> None:
    experts: Played = ("matrix", (Block(0, ((3, 48),), ((8, 6),), ((6, 1),)),))
    shape = (3, 8, 6)
    assert kept(experts, ((6, 1),), rest=((3, 48), (8, 6)), shape=shape) == experts
    assert kept(experts, ((8, 6),), copies=((3, 48),), rest=((6, 1),), shape=shape) == experts
    assert kept(experts, ((8, 6),), offset=48, rest=((6, 1),), shape=shape) == experts, "one of them alone"
    assert kept(experts, ((3, 48),), rest=((8, 6), (6, 1)), shape=shape) == NONE, "experts mixed"


def test_other_groups_and_other_roles_are_let_be() -> None:
    assert kept(HEADS, ((12, 20),), rest=((20, 1),), name="positive") == HEADS
    assert kept(("gain", ()), ((12, 20),), rest=((20, 1),)) == ("gain", ())
