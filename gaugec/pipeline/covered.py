"""Do sites say what a finding says?

What this module does not do: it proves nothing; a finding that seems uncovered is tried, and costs time at most.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from gaugec.groups import GROUPS
from gaugec.invention.finding import Finding
from gaugec.sites import Site
from gaugec.tracing.trace import Trace

Axis = tuple[str, int, int]  # a parameter, and the size and the stride in elements of an axis of it
Powers = dict[Axis, Fraction]


def covered(finding: Finding, traced: Trace, sites: Sequence[Site]) -> bool:
    """Is every movement of a finding one of the sites', or, of scales, a product of theirs?"""
    wanted = _places(finding, traced)
    if GROUPS[finding.group].kind == "scale":
        known = [powers for site in sites if GROUPS[site.group].kind == "scale" for powers in _powers(site)]
        larger = (site for site in sites if _has_scales(site))
        return any(_reach(site, True) >= wanted.keys() for site in larger) or _spanned(wanted, known)
    turning = [site for site in sites if _reach(site, False) >= wanted.keys()]
    if len(finding.bound) > 1 and GROUPS[finding.group].kind == "shift":  # what takes up a shift moves in a chart
        names = {parameter for parameter, *_ in wanted}
        moved = [{b.parameter for b in site.bindings} for site in sites if GROUPS[site.group].kind == "shift"]
        return any(names <= there for there in moved)
    return any(finding.group == site.group or finding.group in GROUPS[site.group].subgroups for site in turning)


def _reach(site: Site, copies: bool) -> set[Axis]:
    """The axes along which its elements act; `copies`: and those along which each copy has its own."""
    return {
        (b.parameter, *axis) for b in site.bindings for axis in (*b.group, *(b.copies if copies else ()))
    }


def _has_scales(site: Site) -> bool:
    """Is every positive diagonal matrix an element?  So it is of a group of matrices that is not compact."""
    row = GROUPS[site.group]
    return row.element == "matrix" and not row.compact


def _places(finding: Finding, traced: Trace) -> Powers:
    names = {leaf: name for name, leaf in traced.leaves.items()}
    out: Powers = {}
    for (leaf, position), exponent in finding.places.items():
        node = traced.graph[leaf]
        mode = node.modes[position]
        out[names[leaf], mode.size, mode.stride * math.prod(node.shape[mode.axis + 1 :])] = exponent
    return out


def _powers(site: Site) -> list[Powers]:
    """For every axis along which a scale's elements differ, where it is in each parameter, with the exponent."""
    made: list[Powers] = []
    for part in ("copies", "group"):
        for number in range(len(getattr(site.bindings[0], part))):
            at = [(b, getattr(b, part)) for b in site.bindings]
            made.append({(b.parameter, *axes[number]): b.move.exponent for b, axes in at if number < len(axes)})
    return made


def _spanned(wanted: Powers, known: Sequence[Powers]) -> bool:
    """Is a vector a combination of others?"""
    rows: dict[Axis, Powers] = {}
    for vector in (*known, wanted):
        row = {axis: c for axis, c in vector.items() if c}
        while row and (first := min(row)) in rows:
            row = _minus(row, rows[first], row[first])
        if vector is wanted:
            return not row
        if row:
            rows[first] = {axis: c / row[first] for axis, c in row.items()}
    return False


def _minus(row: Powers, other: Powers, times: Fraction) -> Powers:
    made = {axis: row.get(axis, Fraction(0)) - times * other.get(axis, Fraction(0)) for axis in (*row, *other)}
    return {axis: c for axis, c in made.items() if c}
