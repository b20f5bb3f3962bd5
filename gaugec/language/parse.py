"""Text -> tree.  The only module that knows lark; nothing of a text is ever evaluated.

`parse` returns a tree whose form is right: one group and at least one action, model and keeps in each gauge.  Names and
shapes are `check`'s.  Sizes are bounded (text, nesting, numbers) so that a hostile text gives an error, not a hang.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import unicodedata
from fractions import Fraction
from importlib import resources
from typing import Any

import lark

from gaugec.errors import Span, SpecError, printable, register_source
from gaugec.language import messages as words
from gaugec.language import tree as t

_Node = Any  # lark's Tree or Token: the grammar says which stands where

MAX_CHARACTERS = 1_000_000
MAX_WORDS = 20_000  # names, numbers and signs of a text: what takes the parser its time
MAX_DEPTH = 100  # nested expressions; every later stage may recurse over a tree
MAX_PARTS = 2000  # names, numbers and signs of one expression
MAX_DIGITS = 50
MAX_EXPONENT = 64
MAX_NAME = 64
MAX_AXES = 8  # fewer than ten, so that the names of `_` dims ("_W0") never meet

# Characters that make a text look unlike what it is: controls, lone surrogates, and marks that reorder a line.
_FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


@functools.cache
def _grammar() -> lark.Lark:
    text = resources.files("gaugec.language").joinpath("grammar.lark").read_text(encoding="utf-8")
    return lark.Lark(text, parser="lalr", propagate_positions=True, maybe_placeholders=True)


def parse(text: str, file: str) -> t.File:
    """Parse a whole text; `file` is the name that errors show.

    The text is registered for error messages under that name.  Raises SpecError, and nothing else, for a text that is
    not one of the language.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    register_source(file, text)
    if len(text) > MAX_CHARACTERS:
        raise SpecError(
            f"{printable(file)}: the text is longer than {MAX_CHARACTERS:,} characters", help="split it into files"
        )
    bad = _FORBIDDEN.search(text)
    if bad:
        code = f"U+{ord(bad[0]):04X} {unicodedata.name(bad[0], '')}".strip()
        span = words.place(text, file, bad.start(), bad.end())
        raise SpecError(f"the text holds an invisible control character, {code}", span, "remove it")
    most = words.nth(text, MAX_WORDS + 1)
    if most is not None:
        message = f"the text has more than {MAX_WORDS:,} names, numbers and signs"
        raise SpecError(message, words.place(text, file, *most), "split it into files")
    return _Builder(file).file(_read(text, file))


def _read(text: str, file: str) -> _Node:
    try:
        return _grammar().parse(text)
    except lark.UnexpectedToken as error:
        token = error.token
        start = token.start_pos if token.start_pos is not None else len(text)
        end = token.end_pos if token.end_pos is not None else len(text)
        failure = words.unexpected_token(text, file, token.type, start, end, error.accepts or set())
    except lark.UnexpectedCharacters as error:
        failure = words.unexpected_character(text, file, error.pos_in_stream or 0)
    raise failure  # outside the handler: the reader shall not see lark's error as its context


class _Builder:
    """Builds our nodes from lark's trees, one method a rule of the grammar."""

    def __init__(self, file: str) -> None:
        self._file = file

    def _span(self, node: _Node) -> Span:
        at: Any = node if isinstance(node, lark.Token) else node.meta
        if getattr(at, "line", None) is None:  # an empty file
            return Span(self._file, 1, 1, 1, 1)
        return Span(self._file, at.line, at.column, at.end_line, at.end_column)

    def _name(self, token: lark.Token) -> str:
        if len(token) > MAX_NAME:
            raise SpecError(f"a name has at most {MAX_NAME} characters", self._span(token), "choose a shorter name")
        return str(token)

    def _names(self, tokens: list[lark.Token]) -> tuple[tuple[str, ...], tuple[Span, ...]]:
        return tuple(self._name(token) for token in tokens), tuple(self._span(token) for token in tokens)

    def file(self, root: _Node) -> t.File:
        gauges: list[t.Gauge] = []
        operators: list[t.Operator] = []
        architectures: list[t.Architecture] = []
        for item in root.children:
            if item.data == "gauge":
                gauges.append(self._gauge(item))
            elif item.data == "operator":
                operators.append(self._operator(item))
            else:
                architectures.append(self._architecture(item))
        if len(architectures) > 1:
            span = architectures[1].marks[0]
            raise SpecError("a file holds at most one architecture", span, "write one file an architecture")
        architecture = architectures[0] if architectures else None
        return t.File(tuple(gauges), tuple(operators), architecture, span=self._span(root))

    def _doc(self, node: _Node) -> str:
        return " ".join(" ".join(str(token)[1:-1].split()) for token in node.children)

    def _architecture(self, node: _Node) -> t.Architecture:
        name, doc, *uses = node.children
        lines = tuple(self._use(use) for use in uses)
        return t.Architecture(self._name(name), self._doc(doc), lines, span=self._span(node), marks=(self._span(name),))

    def _use(self, node: _Node) -> t.Use:
        names = [c for c in node.children if isinstance(c, lark.Token) and c.type == "NAME"]
        flags = [c for c in node.children if isinstance(c, lark.Token) and c.type != "NAME"]
        sources: list[Any] = [c.children[0] for c in node.children if isinstance(c, lark.Tree)]
        for index, flag in enumerate(flags):
            if flag in flags[:index]:
                raise SpecError(f"'{flag}' stands twice behind this line", self._span(flag), "leave one out")
        gauges, marks = self._names([*names, *sources])
        return t.Use(
            gauges[: len(names)],
            gauges[-1] if sources else None,
            optional="optional" in flags,
            approximate="approximate" in flags,
            span=self._span(node),
            marks=marks,
        )

    def _operator(self, node: _Node) -> t.Operator:
        name, argument, body = node.children
        marks = (self._span(name), self._span(argument))
        return t.Operator(self._name(name), self._name(argument), self._whole(body), span=self._span(node), marks=marks)

    def _gauge(self, node: _Node) -> t.Gauge:
        name, dims, doc, *clauses = node.children
        where = self._span(name)
        names, marks = self._names(dims.children if dims else [])
        givens: list[t.Given] = []
        params: list[t.Param] = []
        models: list[t.Model] = []
        foralls: list[tuple[t.Element, list[t.Action]]] = []
        keeps: list[lark.Token] = []
        fixes: list[t.Fix] = []
        for clause in clauses:
            parts = clause.children
            if clause.data == "given":
                givens += map(self._given, parts)
            elif clause.data == "param":
                params += map(self._param, parts)
            elif clause.data == "model":
                mark = (self._span(parts[0]),)
                models.append(t.Model(self._name(parts[0]), self._whole(parts[1]), span=self._span(clause), marks=mark))
            elif clause.data == "forall":
                foralls.append(self._forall(clause))
            elif clause.data == "keeps":
                keeps += parts
            else:
                fixes.append(t.Fix(self._whole(parts[0]), self._whole(parts[1]), span=self._span(clause)))
        title = f"gauge '{self._name(name)}'"
        if not models:
            raise SpecError(f"{title} has no model line", where, "say what is computed: `model y = x @ W.T`")
        if not foralls or not foralls[0][1]:
            help = "say what moves: `for every R in orthogonal(k):`, and under it `W -> R @ W`"
            raise SpecError(f"{title} has no action", foralls[0][0].span if foralls else where, help)
        if len(foralls) > 1:
            help = "write a gauge for each group"
            raise SpecError(f"{title} has two 'for every' lines", foralls[1][0].span, help)
        if not keeps:
            raise SpecError(f"{title} does not say what it keeps", where, "end it with `keeps y`")
        kept, kept_marks = self._names(keeps)
        element, actions = foralls[0]
        return t.Gauge(
            self._name(name),
            names,
            self._doc(doc),
            tuple(givens),
            tuple(params),
            tuple(models),
            element,
            tuple(actions),
            kept,
            tuple(fixes),
            span=self._span(node),
            marks=(where, *marks, *kept_marks),
        )

    def _shape(self, owner: lark.Token, node: _Node) -> tuple[t.Shape, tuple[Span, ...]]:
        axes = [axis.children[0] for axis in node.children if axis is not None]
        if len(axes) > MAX_AXES:
            raise SpecError(f"a value has at most {MAX_AXES} axes", self._span(axes[MAX_AXES]), "write it with fewer")
        dims = [f"_{owner}{i}" if axis.type == "BLANK" else self._name(axis) for i, axis in enumerate(axes)]
        return tuple(dims), tuple(self._span(axis) for axis in axes)

    def _given(self, node: _Node) -> t.Given:
        name, shape = node.children
        dims, marks = self._shape(name, shape)
        return t.Given(self._name(name), dims, span=self._span(name), marks=marks)

    def _param(self, node: _Node) -> t.Param:
        each, name, shape, optional = node.children
        dims, marks = self._shape(name, shape)
        flags = (optional is not None, each is not None)
        return t.Param(self._name(name), dims, *flags, span=self._span(name), marks=marks)

    def _forall(self, node: _Node) -> tuple[t.Element, list[t.Action]]:
        name, group, acted, *actions = node.children
        number = isinstance(acted, lark.Token)  # in the place of the dims
        args, arg_marks = ((str(acted),), (self._span(acted),)) if number else self._names(acted.children)
        marks = (self._span(name), self._span(group), *arg_marks)
        element = t.Element(self._name(name), self._name(group), args, span=marks[0].to(marks[-1]), marks=marks)
        return element, [self._action(action) for action in actions]

    def _action(self, node: _Node) -> t.Action:
        name, body = node.children
        return t.Action(self._name(name), self._whole(body), span=self._span(node), marks=(self._span(name),))

    def _whole(self, node: _Node) -> t.Expr:
        """Build an expression, after a walk without recursion has shown that it is not too deep to recurse over."""
        stack = [(node, 1)]
        parts = 0
        while stack:
            part, depth = stack.pop()
            parts += 1
            if depth > MAX_DEPTH:
                message = f"the expression is nested more than {MAX_DEPTH} deep"
                raise SpecError(message, self._span(part), "name a part of it with a model line of its own")
            if parts > MAX_PARTS:
                message = f"the expression has more than {MAX_PARTS:,} parts"
                raise SpecError(message, self._span(node), "name a part of it with a model line of its own")
            stack += [(child, depth + 1) for child in part.children if isinstance(child, lark.Tree)]
        return self._expr(node)

    def _expr(self, node: _Node) -> t.Expr:
        span, parts = self._span(node), node.children
        match node.data:
            case "number":
                return t.Number(self._number(parts[0]), span=span)
            case "name":
                return t.Name(self._name(parts[0]), span=span)
            case "paren":
                inner = self._expr(parts[0])
                return _respan(inner, span)
            case "negate":
                return t.Negate(self._expr(parts[1]), span=span)
            case "transpose":
                return t.Transpose(self._expr(parts[0]), span=span)
            case "call":
                return self._call(node)
            case _:
                left, sign, right = parts
                return t.Binary(str(sign), self._expr(left), self._expr(right), span=span, marks=(self._span(sign),))

    def _call(self, node: _Node) -> t.Call:
        name, *arguments = node.children
        args: list[t.Expr] = []
        options: list[tuple[str, Fraction]] = []
        for argument in arguments:
            if argument.data == "option":
                key = self._name(argument.children[0])
                if key in dict(options):
                    raise SpecError(f"the option '{key}' is given twice", self._span(argument), "leave one out")
                options.append((key, self._signed(argument.children[1])))
            elif options:
                help = "options come last: `f(x, eps=0)`"
                raise SpecError("a value stands behind an option", self._span(argument), help)
            else:
                args.append(self._expr(argument))
        marks = (self._span(name),)
        return t.Call(self._name(name), tuple(args), tuple(options), span=self._span(node), marks=marks)

    def _signed(self, node: _Node) -> Fraction:
        minus, top, bottom = node.children
        value = self._number(top)
        if bottom is not None:
            divisor = self._number(bottom)
            if divisor == 0:
                raise SpecError("division by zero", self._span(bottom), "write another number")
            value /= divisor
        return -value if minus is not None else value

    def _number(self, token: lark.Token) -> Fraction:
        mantissa, _, exponent = str(token).lower().partition("e")
        if len(mantissa.replace(".", "")) > MAX_DIGITS:
            raise SpecError(f"a number has at most {MAX_DIGITS} digits", self._span(token), "write it shorter")
        # Length first: int() of a long text is itself slow.
        if len(exponent) > 4 or abs(int(exponent or 0)) > MAX_EXPONENT:
            raise SpecError(f"an exponent is at most {MAX_EXPONENT}", self._span(token), "write a smaller one")
        return Fraction(mantissa) * Fraction(10) ** int(exponent or 0)


def _respan(node: t.Expr, span: Span) -> t.Expr:
    """Return the node with a wider span, so that an error in `(a + b) * c` shows the bracket too."""
    return dataclasses.replace(node, span=span)
