"""A finding as the text of a gauge: the smallest formula that shows it, read off the values that move.

A formula holds the writers, what stands between and the readers.  Every moved value is written with the moved axis
last, all its other axes as one; data, and what only acts along other axes, is left out or given.  Two findings that
are one gauge have one text.

What this module does not do: it proves nothing, and does not look whether a model has such a gauge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from gaugec.graph.ir import Along, Concatenation, Contraction, Graph, Leaf, Map, Node, Sum
from gaugec.groups import GROUPS
from gaugec.invention.finding import Finding, Moved, Unsaid
from gaugec.language.printer import show, show_number
from gaugec.language.tree import Binary, Call, Expr, Name, Number, Transpose
from gaugec.laws.meanings import definition, degree
from gaugec.operators import SPELLINGS, Attributes, written

_ELEMENTS = {"scale": "c", "rotate": "R", "shift": "a"}
Operators = dict[tuple[str, Attributes], tuple[str, str]]  # what is computed -> the name of an `op` line, and the line
_SPOKEN = frozenset(name for name, rule in SPELLINGS.items() if rule == "pointwise") | {"max"}


@dataclass(frozen=True)
class GaugeText:
    """A gauge without its head: `body` goes under `gauge name(dims): "doc"`; operators: the `op` lines it calls."""

    dims: tuple[str, ...]
    body: str
    operators: tuple[str, ...] = ()

    def under(self, name: str, doc: str) -> str:
        """The block with a head."""
        return f'gauge {name}({", ".join(self.dims)}):\n    "{doc}"\n{self.body}'


def formula(graph: Graph, finding: Finding, *, operators: Operators) -> GaugeText:
    """The text of a finding; operators: what `op` lines of the same file define already, and where new ones go.

    Raises:
        Unsaid: the language has no words for a value on the way.
    """
    if not finding.values:
        raise Unsaid("a value moves along two of its axes at once")
    return _Writer(graph, finding, operators).text()


@dataclass
class _Role:
    """A parameter of the formula: its name, its shape, whether the moved axis is the last one."""

    name: str
    shape: tuple[str, ...]
    last: bool
    moved: Moved
    optional: bool = False
    each: bool = False


@dataclass
class _Writer:
    graph: Graph
    finding: Finding
    operators: Operators
    roles: dict[int, _Role] = field(default_factory=dict)
    readings: dict[str, tuple[_Role, Expr]] = field(default_factory=dict)  # readers, and what each reads
    givens: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    dims: list[str] = field(default_factory=list)
    called: dict[str, None] = field(default_factory=dict)  # op lines
    made: dict[int, Expr] = field(default_factory=dict)
    lines: list[tuple[str, Expr]] = field(default_factory=list)

    def text(self) -> GaugeText:
        kept: dict[Expr, None] = {}
        for id in self.finding.kept:
            expr = self._kept(self.graph[id])
            if expr is not None:
                kept.setdefault(expr)
        if not kept:
            raise Unsaid("no value is kept in a way that a formula can say")
        names = [f"y{number}" if number else "y" for number, _ in enumerate(kept)]
        models = [*self.lines, *zip(names, kept)]
        group = self.finding.group
        self._dim("f")
        element = _ELEMENTS[GROUPS[group].kind]
        given = ", ".join(f"{name}[{', '.join(shape)}]" for name, shape in self.givens)
        lines = [f"given  {given}"] if given else []
        lines += [f"param  {', '.join(map(_declared, self.roles.values()))}"]
        lines += [f"model  {name} = {show(expr)}" for name, expr in models]
        lines += ["", f"for every {element} in {group}(f):"]
        lines += [f"    {role.name} -> {_action(role, element, GROUPS[group].kind)}" for role in self.roles.values()]
        lines += ["", f"keeps  {', '.join(names)}"]
        lines += [f"fix    {_fix(list(self.roles.values()))}"] if GROUPS[group].fix == "required" else []
        body = "\n".join(f"    {line}".rstrip() for line in lines) + "\n"
        return GaugeText(tuple(self.dims), body, tuple(self.called))

    # -- names ---------------------------------------------------------------------------------------------------
    def _dim(self, name: str) -> str:
        if name not in self.dims:
            self.dims.append(name)
        return name

    def _given(self, *shape: str) -> Expr:
        name = f"x{len(self.givens) + 1}"
        self.givens.append((name, tuple(map(self._dim, shape))))
        return Name(name)

    def _role(self, leaf: int, last: bool, vector: bool | None = None) -> _Role:
        """The role of a leaf; `last`: where it is first used the moved axis comes last."""
        if leaf not in self.roles:
            vector = len(self.graph[leaf].shape) == 1 if vector is None else vector
            number = sum((len(role.shape) == 1) == vector for role in self.roles.values()) + 1
            name, axis = f"{'b' if vector else 'W'}{number}", self._dim("f")
            shape = (axis,) if vector else ("_", axis) if last else (axis, self._dim(f"d{number}"))
            self.roles[leaf] = _Role(name, shape, last, self.finding.bound[leaf])
        return self.roles[leaf]

    # -- values --------------------------------------------------------------------------------------------------
    def _value(self, id: int) -> Expr:
        """A moved value, with the moved axis last; a value that is read more than once has a line of its own."""
        if id not in self.made:
            expr = self._moved(self.graph[id])
            several = len(self.graph.users[id]) > 1
            if several and not isinstance(expr, Name | Transpose):
                name = f"h{len(self.lines) + 1}"
                self.lines.append((name, expr))
                expr = Name(name)
            self.made[id] = expr
        return self.made[id]

    def _rows(self, leaf: int) -> Expr:
        """A parameter itself as a moved value: its rows, with the moved axis last."""
        role = self._role(leaf, True)
        return Name(role.name) if role.last or len(role.shape) == 1 else Transpose(Name(role.name))

    def _moved(self, node: Node) -> Expr:
        match node:
            case Leaf():
                return self._rows(node.id)
            case Contraction():
                return self._product(node)
            case Sum():
                return self._sum(node)
            case Map():
                return self._called(node, self._value(node.operands[0].node))
            case Along() if degree(node.function, node.attributes) == 1:
                return self._value(node.operands[0].node)
            case Concatenation():
                parts = {self._value(access.node) for access in node.operands if access.node in self.finding.values}
                if len(parts) == 1:
                    return parts.pop()
        raise Unsaid(f"a moved value passes {node.source or node.title}, which a formula cannot say")

    def _product(self, node: Contraction) -> Expr:
        """A product that moves: of moved values, of a parameter with data, of a moved value with a gate."""
        factors: dict[Expr, int] = {}
        for access in node.operands:
            if access.node in self.finding.values:
                factor = self._factor(node, access.node)
                factors[factor] = factors.get(factor, 0) + 1
        expr = _times([x if n == 1 else Binary("**", x, Number(Fraction(n))) for x, n in factors.items()])
        axis = self._axis(node)
        gates = [a for a in node.operands if a.node not in self.finding.values and axis in a.variables]
        reads = [a.node for a in node.operands if a.node in self.finding.values]
        if gates and not self._masks(gates):
            kind = GROUPS[self.finding.group].kind
            if kind != "scale":
                raise Unsaid("what turns is multiplied by values that vary along the axis")
            alone = len(reads) == 1 and isinstance(self.graph[reads[0]], Leaf) and not isinstance(expr, Binary)
            return Binary("*", self._given("n", "f"), expr) if not alone else Binary("*", expr, self._given("n", "f"))
        return expr

    def _masks(self, gates: Sequence[object]) -> bool:
        """Are they dropout masks alone?"""
        leaves = [self.graph[access.node] for access in gates]  # type: ignore[attr-defined]
        return all(isinstance(leaf, Leaf) and leaf.random for leaf in leaves)

    def _factor(self, node: Contraction, id: int) -> Expr:
        """A moved operand: a parameter that is a weight of what is summed is applied to data of its own."""
        source = self.graph[id]
        access = next(a for a in node.operands if a.node == id)
        if isinstance(source, Leaf) and set(access.variables) & set(node.summed):
            role = self._role(id, False)
            weight = Name(role.name)
            if len(role.shape) == 1:
                raise Unsaid("a vector is summed along its only axis")
            data = self._given("n", role.shape[1] if not role.last else self._dim("d"))
            return Binary("@", data, weight if role.last else Transpose(weight))
        return self._value(id)

    def _axis(self, node: Node) -> int:
        """The variable along which the operands of a node move.

        Raises:
            Unsaid: they move along several, or are read in part.
        """
        found = {
            access.index[self.finding.values[access.node].position].plain
            for access in node.operands
            if access.node in self.finding.values
        }
        (axis, *more) = found
        if axis is None or more:
            raise Unsaid("moved values meet whose moved axes differ")
        return axis

    def _sum(self, node: Sum) -> Expr:
        terms = [(a.node, c) for a, c in zip(node.operands, node.coefficients) if a.node in self.finding.values]
        made = [(id, c, self._value(id)) for id, c in terms]
        if all(isinstance(self.graph[id], Leaf) for id, _ in terms) and len(terms) > 1:
            raise Unsaid("parameters are added to each other before they meet data")
        made.sort(key=lambda term: isinstance(self.graph[term[0]], Leaf))
        _, first, expr = made[0]
        expr = expr if first == 1 else Binary("*", Number(first), expr)
        for id, c, term in made[1:]:
            role = self.roles.get(id)
            if role is not None and len(role.shape) == 1 and c == 1:
                role.optional = True
            term = term if abs(c) == 1 else Binary("*", Number(abs(c)), term)
            expr = Binary("-" if c < 0 else "+", expr, term)
        return expr

    def _called(self, node: Map, inner: Expr) -> Expr:
        name, attributes = node.function, node.attributes
        if name == "pow":
            exponent = dict(attributes)["exponent"]
            if not isinstance(exponent, Fraction):
                raise Unsaid("a power with an exponent that is no number")
            return Binary("**", inner, Number(exponent))
        if name in _SPOKEN and not attributes and name != "max":
            return Call(name, (inner,))
        if (name, attributes) not in self.operators:
            meant = definition(name, attributes)
            if meant is None or not _speakable(meant):
                raise Unsaid(f"{node.source or name} has no spelling in the language")
            called = f"op{len(self.operators) + 1}"
            self.operators[name, attributes] = (called, f"op {called}(x) = {written(meant)}\n")
        called, line = self.operators[name, attributes]
        self.called.setdefault(line)
        return Call(called, (inner,))

    # -- readers -------------------------------------------------------------------------------------------------
    def _kept(self, node: Node) -> Expr | None:
        """What a node that is kept computes; None where it forgets what moves by itself, as a length does."""
        moved = [access.node for access in node.operands if access.node in self.finding.values]
        if any(self.finding.values[id].squared for id in moved):
            return None
        if isinstance(node, Map) and len(moved) == 1:
            return self._called(node, self._value(moved[0]))
        if not isinstance(node, Contraction):
            raise Unsaid(f"a moved value is kept by {node.source or node.title}, which a formula cannot say")
        axis = self._axis(node)
        if len(moved) == 2 and moved[0] == moved[1] and GROUPS[self.finding.group].kind == "rotate":
            return None
        if axis not in node.summed:
            return self._product(node)
        readers = [id for id in moved if isinstance(self.graph[id], Leaf)]
        others = [id for id in moved if id not in readers]
        if not others:
            if len(readers) != 2:
                raise Unsaid("one parameter meets no other value")
            others, readers = readers[:1], readers[1:]
        if len(readers) > 1:
            raise Unsaid("two parameters meet one moved value")
        expr = _times([self._value(id) for id in (others if readers else others[:-1] or others)])
        if not readers:
            if len(others) == 1:
                raise Unsaid("the moved axis is summed away")
            return Binary("@", expr, Transpose(self._value(others[-1])))
        return Binary("@", expr, self._reader(readers[0], expr))

    def _reader(self, leaf: int, of: Expr) -> Expr:
        """The weight that reads a value; of several of one value the first stands for `each`."""
        if leaf in self.roles:
            role = self.roles[leaf]
        else:
            moved = self.finding.bound[leaf]
            alike = [
                role
                for role, read in self.readings.values()
                if read == of and (role.moved.exponent, role.moved.dual) == (moved.exponent, moved.dual)
            ]
            role = alike[0] if alike else self._role(leaf, True, vector=False)
            role.each = True
            self.readings[role.name] = role, of
        return Transpose(Name(role.name)) if role.last else Name(role.name)


def _times(factors: Sequence[Expr]) -> Expr:
    expr = factors[0]
    for factor in factors[1:]:
        expr = Binary("*", expr, factor)
    return expr


def _speakable(term: object) -> bool:
    """Can an `op` line say the definition?"""
    if isinstance(term, tuple):
        head, *parts = term
        if head == "max" and not any(isinstance(part, int | Fraction) for part in parts):
            return False
        good = head in ("add", "mul", "pow") or head in _SPOKEN
        return good and all(map(_speakable, parts))
    return term == "x" or isinstance(term, int | Fraction)


def _declared(role: _Role) -> str:
    return f"{'each ' if role.each else ''}{role.name}[{', '.join(role.shape)}]{'?' if role.optional else ''}"


def _power(element: str, exponent: Fraction) -> str:
    size = show_number(abs(exponent))
    text = element if abs(exponent) == 1 else f"{element}**{size if '/' not in size else f'({size})'}"
    return text if exponent > 0 else f"1/{text}"


def _action(role: _Role, element: str, kind: str) -> str:
    if kind == "scale":
        by = _power(element, role.moved.exponent)
        if len(role.shape) == 1:
            return f"{by} * {role.name}"
        return f"{role.name} @ diag({by})" if role.last else f"diag({by}) @ {role.name}"
    if role.moved.dual:
        return f"{role.name} @ inv({element})" if role.last else f"inv({element}).T @ {role.name}"
    return f"{role.name} @ {element}.T" if role.last else f"{element} @ {role.name}"


def _norm(role: _Role) -> str:
    if len(role.shape) == 1:
        return f"abs({role.name})"
    return f"colnorm({role.name})" if role.last else f"rownorm({role.name})"


def _fix(roles: Sequence[_Role]) -> str:
    """One point of every orbit: what grows and what shrinks have one size."""
    sized = [role for role in roles if not role.optional]
    up = next((role for role in sized if role.moved.exponent > 0), None)
    down = next((role for role in sized if role.moved.exponent < 0), None)
    if up is None or down is None:
        return f"{_norm((up or down) or roles[0])} == 1"
    return f"{_norm(up)} == {_norm(down)}"

