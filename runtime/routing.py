"""Which parameters take which step: hidden matrices Muon's, all others AdamW's, as the compiled gauge says.

What a parameter is, was read off the traced graph when the gauge was compiled (see `Gauge.roles`); names decide
nothing, but for rows that a user overrules. Not here: how the roles are found, the steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from gaugec.runtime.layout import Slice, product
from gaugec.runtime.matrices import Layout
from gaugec.runtime.names import bare, by_name
from gaugec.runtime.ranges import fold_rows
from gaugec.runtime.roles import Role

MUON, ADAMW = STEPS = ("muon", "adamw")
UNKNOWN = Role("not in the compiled model", ())


class Route(NamedTuple):
    """One row: the parameter's name, its step, its role, its logical matrices, and whether it was overruled."""

    name: str
    step: str
    role: str
    matrices: str
    overruled: bool


class Routing(tuple[Route, ...]):
    """The rows; printed, a table with equal rows of numbered layers as one."""

    def __str__(self) -> str:
        alike: dict[tuple[str, ...], list[tuple[str]]] = {}
        for name, *row, overruled in self:
            alike.setdefault((*row, "overruled" if overruled else ""), []).append((name,))
        lines: list[tuple[str, ...]] = [("parameter", "step", "role", "matrices", "")]
        lines += [(name, *row) for row, names in alike.items() for (name,) in fold_rows(names)]
        widths = [max(map(len, column)) for column in zip(*lines)]
        return "\n".join("  ".join(word.ljust(n) for word, n in zip(line, widths)).rstrip() for line in lines)

    __repr__ = __str__


class Router:
    """Knows the roles of a compiled gauge by the names that an optimizer was given, and what a user overrules."""

    def __init__(
        self, roles: Mapping[str, Role], gauged: Iterable[str], names: Iterable[str], overruled: Mapping[str, str]
    ) -> None:
        """gauged: names of the parameters that the gauge moves, by which all others are known; overruled: names ->
        "muon" or "adamw", with the prefixes of wrappers or without.

        Raises ValueError for a gauge that knows no roles, a name that is not among `names`, a step that is none, and a
        parameter that is to take Muon's and has no logical matrices; TypeError for routes that are no dict.
        """
        if not roles:
            raise ValueError("this gauge does not say which parameters are matrices: compile the model again")
        if not isinstance(overruled, Mapping):
            raise TypeError(f"routes is {overruled!r}: it should be a dict from names to {MUON!r} or {ADAMW!r}")
        self._known = {bare(name): role for name, role in roles.items()}
        self._gauged = tuple(gauged) or tuple(roles)
        self.roles: dict[str, Role] = {}
        self.meet(names)
        called = self._called(self.roles)
        self.overruled: dict[str, str] = {}
        for name, step in overruled.items():
            own = name if name in self.roles else called.get(bare(name)) if isinstance(name, str) else None
            if own is None:
                raise ValueError(f"routes has {name!r}, which the optimizer was not given")
            self.check(own, step, "routes")
            self.overruled[own] = step

    def meet(self, names: Iterable[str]) -> None:
        """Know the roles of more parameters."""
        found = self._called(dict.fromkeys((*self.roles, *names)))
        self.roles = {name: self._known.get(known, UNKNOWN) for known, name in found.items()}

    def _called(self, names: Iterable[str]) -> dict[str, str]:
        """The names that were given, by the names that the gauge knows."""
        return by_name(((name, name) for name in names), self._gauged)

    def check(self, name: str, step: object, where: str) -> None:
        """Raise ValueError where a parameter cannot take a step."""
        if step not in STEPS:
            raise ValueError(f"{where} has the step {step!r}: it should be {MUON!r} or {ADAMW!r}")
        role = self.role(name)
        if step == MUON and not role.matrices:
            raise ValueError(
                f"{where} has the step {MUON!r} for {name}, which has no logical matrices: its role is {role.role!r}"
            )

    def role(self, name: str) -> Role:
        """The role of a parameter."""
        return self.roles.get(name, UNKNOWN)

    def step(self, name: str) -> str:
        """The step that a parameter takes, unless its group says another."""
        return self.overruled.get(name, self._default(name))

    def divided(self, group: Mapping[str, Any], own: Mapping[str, Any]) -> list[dict[str, Any]]:
        """A param group of (name, parameter) pairs as up to three: Muon's, AdamW's, and gains, which do not decay.

        own: for settings that a group has not, `adamw_lr`, `adamw_weight_decay` and `decay_gains`. A group that has a
        `step` stays one.
        """
        rest = {key: value for key, value in group.items() if key not in ("params", "decay_gains", *OWN)}
        if "step" in group:
            adamw = {setting: group.get(key, own[key]) for key, setting in OWN.items()}
            return [{**(adamw if group["step"] == ADAMW else {}), **rest, "params": group["params"]}]
        parts: dict[tuple[str, bool], list[tuple[str, Tensor]]] = {}
        for name, p in group["params"]:
            step = self.step(name)
            kept = step == ADAMW and not group.get("decay_gains", own["decay_gains"]) and self.role(name).role == "gain"
            parts.setdefault((step, kept), []).append((name, p))
        given = {"adamw_weight_decay": group["weight_decay"]} if "weight_decay" in group else {}
        adamw = {setting: {**own, **given, **group}[key] for key, setting in OWN.items()}
        return [
            {
                **rest,
                **(adamw if step == ADAMW else {}),
                **({"weight_decay": 0.0} if kept else {}),
                "step": step,
                "params": pairs,
            }
            for (step, kept), pairs in sorted(parts.items(), key=lambda part: (part[0][0] != MUON, part[0][1]))
        ]

    def layout(self, name: str) -> Layout:
        """The logical matrices of a parameter."""
        return tuple(Slice("", m.offset, m.copies, m.rows, (), m.columns) for m in self.role(name).matrices)

    def fitting(self, name: str, p: Tensor) -> Layout:
        """The same; ValueError where the parameter has another number of entries than these matrices."""
        layout = self.layout(name)
        if sum(product(part.copies + part.group + part.rest) for part in layout) != p.numel():
            raise ValueError(f"{name} has the shape {tuple(p.shape)}, and was compiled as {_shown(layout)}")
        return layout

    def table(self, steps: Iterable[tuple[str, str]]) -> Routing:
        """The rows of parameters and the steps that they take."""
        return Routing(
            Route(name, step, self.role(name).role, _shown(self.layout(name)), step != self._default(name))
            for name, step in steps
        )

    def _default(self, name: str) -> str:
        return MUON if self.role(name).role == "matrix" else ADAMW


OWN = {"adamw_lr": "lr", "adamw_weight_decay": "weight_decay"}
"""Settings that AdamW's groups have of their own: in a given group -> in that which is made of it."""


def _shown(layout: Layout) -> str:
    """Such as "12 of [64, 768]"."""
    texts = []
    for part in layout:
        count, shape = product(part.copies), f"[{product(part.group)}, {product(part.rest)}]"
        texts.append(shape if count == 1 else f"{count} of {shape}")
    return " and ".join(texts)
