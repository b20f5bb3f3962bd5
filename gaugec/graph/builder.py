"""Builds a tensor graph: numpy-like operations on references, from formulas and from traces alike.

A `Ref` is a value seen through views: the node, the index with which it is read, and the axes that the reader sees.
Views make new references and no node.  `Builder.finish` freezes everything into a `gaugec.graph.ir.Graph`.

What this module does not do: it knows no ATen names (see `gaugec.tracing.aten`) and no laws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from gaugec import limits
from gaugec.graph.ir import Along, Concatenation, Contraction, Leaf, Map, Node, OneHot, Opaque, Sum
from gaugec.graph.spaces import Inexpressible, Space, Variable, align, leaves, regroup
from gaugec.operators import Attributes

Lin = tuple[int, tuple[tuple[int, Variable], ...]]
Axes = tuple[tuple[Variable, ...], ...]


@dataclass(frozen=True, eq=False)
class Ref:
    """A value seen through views; `shape` is the shape that the reader sees."""

    node: int
    index: tuple[Lin, ...]
    axes: Axes
    shape: tuple[int, ...]


@dataclass(eq=False)
class RawNode:
    """A node under construction: its type, with variables that may still split.

    `bound`: the variables that the node sums, acts along or joins.  `pieces`: of a concatenation, (start, length,
    counter) of every operand.  `own`: the fields of its type in which no variable occurs.
    """

    type: type[Node]
    axes: Axes
    shape: tuple[int, ...]
    operands: list[Ref] = field(default_factory=list)
    bound: tuple[Variable, ...] = ()
    pieces: tuple[tuple[int, int, Variable | None], ...] = ()
    own: dict[str, Any] = field(default_factory=dict)
    place: str = ""
    source: str = ""
    line: str = ""

    def obscure(self, reason: str, operands: list[Ref]) -> None:
        """Makes it a node of which nothing is known, and which reads all of its operands."""
        self.type, self.operands, self.own = Opaque, operands, {"reason": reason}
        self.bound, self.pieces = (), ()


class Builder:
    """Collects nodes.  All methods take and give `Ref`s; a view that digits cannot say becomes an opaque node."""

    def __init__(self, *, symbolic: bool = False) -> None:
        self.symbolic = symbolic
        self.nodes: list[RawNode] = []
        self.boolean: set[int] = set()
        self.joined: dict[int, tuple[int, list[Ref]]] = {}  # what was joined along which axis
        self.counted: dict[int, range] = {}  # the whole numbers that a value of one axis holds
        self.truth = False  # is what is made next a truth value?
        self.place = ""
        self.source = ""
        self.line = ""

    # -- nodes ------------------------------------------------------------------------------------------------
    def _add(self, node: RawNode) -> Ref:
        limits.check()
        node.place, node.source = node.place or self.place, node.source or self.source
        node.line = node.line or self.line
        self.nodes.append(node)
        return self.read(len(self.nodes) - 1)

    def read(self, id: int) -> Ref:
        """A fresh reference to a node's whole value."""
        node = self.nodes[id]
        axes = tuple(tuple(Variable(v.resolve().space) for v in axis) for axis in node.axes)
        return Ref(id, tuple((0, ((1, v),)) for axis in axes for v in axis), axes, node.shape)

    def leaf(self, kind: str, name: str, shape: Sequence[int], *, random: bool = False) -> Ref:
        """A parameter, input, constant or group element of the given shape; `random`: drawn anew in every forward."""
        own = {"kind": kind, "name": name, "random": random}
        return self._add(RawNode(Leaf, _axes(shape), tuple(shape), own=own))

    def scalar(self, value: Fraction, shape: Sequence[int] = ()) -> Ref:
        """The constant `value`, broadcast to `shape`."""
        return self.expand(self._add(RawNode(Contraction, (), (), own={"coefficient": value})), shape)

    def opaque(self, reason: str, operands: Sequence[Ref], shape: Sequence[int]) -> Ref:
        """An operation about which nothing is known: its output may depend on everything."""
        refs = [self._fresh(ref) for ref in operands]
        return self._add(RawNode(Opaque, _axes(shape), tuple(shape), refs, own={"reason": reason}))

    def one_hot(self, numbers: Ref, size: int) -> Ref:
        """1 where a new last axis of `size` is at the number that the other axes hold, else 0."""
        ref = self._fresh(numbers)
        return self._add(RawNode(OneHot, (*ref.axes, *_axes([size])), (*ref.shape, size), [ref]))

    def picked(self, ref: Ref, axis: int, numbers: Ref) -> Ref | None:
        """The places of an axis that numbers say which were counted out, as a slice; None where it is none.

        Nor is it where the axis is one of several digits: what is picked there may follow their sizes.
        """
        size, run = ref.shape[axis], self.counted.get(numbers.node, range(0))
        inside = all(0 <= n < size for n in run) or all(-size <= n < 0 for n in run)
        if not run or not inside or not self._whole(numbers) or len(leaves(ref.axes[axis])) != 1:
            return None
        return self.slice(ref, axis, run[0] % size, len(run), run.step)

    def _whole(self, ref: Ref) -> bool:
        """Is it a node's value as it stands, and no view of it?"""
        plain = [(0, ((1, v),)) for axis in ref.axes for v in axis]
        return ref.shape == self.nodes[ref.node].shape and list(ref.index) == plain

    def zero(self, ref: Ref) -> bool:
        """Is it a tensor of zeros?"""
        node = self.nodes[ref.node]
        return node.type is Contraction and node.own["coefficient"] == 0

    def spread(self, ref: Ref, axis: int) -> bool:
        """Is the value the same all along an axis, because a view spread it?"""
        read = {leaf for _, terms in ref.index for _, v in terms for leaf in v.leaves()}
        return bool(ref.axes[axis]) and not read.intersection(leaves(ref.axes[axis]))

    def einsum(
        self, operands: Sequence[Ref], labels: Sequence[str], out: str, coefficient: Fraction = Fraction(1)
    ) -> Ref:
        """coefficient * sum of products: one letter an axis, as in torch.einsum; letters not in `out` are summed.

        A letter may be broadcast: an axis of length 1 in one operand.  A repeated letter in one operand is a diagonal.
        """
        refs = [self._fresh(ref) for ref in operands]
        seen: dict[str, tuple[tuple[Variable, ...], int]] = {}
        try:
            for ref, letters in zip(refs, labels, strict=True):
                for letter, axis, size in zip(letters, ref.axes, ref.shape, strict=True):
                    if letter not in seen or seen[letter][1] == 1:
                        seen[letter] = (axis, size)
                    elif size != 1:
                        align(seen[letter][0], axis)
        except Inexpressible as error:
            sizes: dict[str, int] = {}
            for ref, letters in zip(refs, labels):
                for letter, size in zip(letters, ref.shape):
                    sizes[letter] = max(size, sizes.get(letter, 1))
            return self.opaque(f"{self.source} ({error})", operands, [sizes[letter] for letter in out])
        axes = tuple(seen[letter][0] for letter in out)
        summed = tuple(v for letter, (axis, _) in seen.items() if letter not in out for v in axis)
        shape = tuple(seen[letter][1] for letter in out)
        return self._add(RawNode(Contraction, axes, shape, refs, summed, own={"coefficient": coefficient}))

    def total(self, ref: Ref, positions: Sequence[int], *, mean: bool = False) -> Ref:
        """The sum or mean over axes, which stay with length 1.

        In a symbolic graph the mean divides by a node for the size, not by the label that stands for it.
        """
        drop = {p % len(ref.shape) for p in positions}
        letters = "abcdefghijklmnop"[: len(ref.shape)]
        kept = "".join(letter for i, letter in enumerate(letters) if i not in drop)
        count = 1
        for i in drop:
            count *= ref.shape[i]
        coefficient = Fraction(1, max(count, 1)) if mean and not self.symbolic else Fraction(1)
        made = self.einsum([ref], [letters], kept, coefficient)
        shape = tuple(1 if i in drop else n for i, n in enumerate(ref.shape))
        made = self.reshape(made, shape)
        if mean and self.symbolic:
            over = tuple(Variable(v.space) for i in sorted(drop) for v in ref.axes[i])
            size = self._add(RawNode(Contraction, (), (), bound=over))
            made = self.mul(made, self.power(size, Fraction(-1)))
        return made

    def _broadcast(self, operands: Sequence[Ref]) -> tuple[list[Ref], Axes, tuple[int, ...]]:
        """Aligns operands from the right, as numpy broadcasts."""
        refs = [self._fresh(ref) for ref in operands]
        rank = max((len(ref.shape) for ref in refs), default=0)
        axes: list[tuple[Variable, ...]] = []
        shape: list[int] = []
        for position in range(rank):
            axis: tuple[Variable, ...] = ()
            length = 1
            for ref in refs:
                place = position - rank + len(ref.shape)
                if place < 0 or ref.shape[place] == 1:
                    continue
                if length == 1:
                    axis, length = ref.axes[place], ref.shape[place]
                else:
                    align(axis, ref.axes[place])
            axes.append(axis)
            shape.append(length)
        return refs, tuple(axes), tuple(shape)

    def _pointwise(self, node: RawNode, operands: Sequence[Ref]) -> Ref:
        try:
            node.operands, node.axes, node.shape = self._broadcast(operands)
        except Inexpressible as error:
            rank = max(len(ref.shape) for ref in operands)
            padded = [(1,) * (rank - len(ref.shape)) + ref.shape for ref in operands]
            return self.opaque(f"{self.source} ({error})", operands, [max(sizes) for sizes in zip(*padded)])
        return self._add(node)

    def mul(self, *operands: Ref, coefficient: Fraction = Fraction(1)) -> Ref:
        """coefficient * product, broadcast."""
        return self._pointwise(RawNode(Contraction, (), (), own={"coefficient": coefficient}), operands)

    def add(self, *operands: Ref, coefficients: Sequence[Fraction] = (), constant: Fraction = Fraction(0)) -> Ref:
        """sum of coefficient * operand + constant, broadcast."""
        numbers = tuple(coefficients) or (Fraction(1),) * len(operands)
        own = {"coefficients": numbers, "constant": constant}
        return self._pointwise(RawNode(Sum, (), (), own=own), operands)

    def map(self, function: str, *operands: Ref, attributes: Attributes = ()) -> Ref:
        """A pointwise function of the operands; of one value that a view spread, it is spread too."""
        (ref, *more), shape = operands, operands[0].shape
        wide = [] if more else [axis for axis in range(len(shape)) if self.spread(ref, axis)]
        if wide:
            for axis in wide:
                ref = self.slice(ref, axis, 0, 1)
            return self.expand(self.map(function, ref, attributes=attributes), shape)
        own = {"function": function, "attributes": attributes}
        return self._pointwise(RawNode(Map, (), (), own=own), operands)

    def power(self, ref: Ref, exponent: Fraction) -> Ref:
        """x ** exponent; small positive integers become products, so that they are polynomials."""
        if exponent == 1:
            return ref
        if exponent.denominator == 1 and 2 <= exponent <= 4:
            return self.mul(*[ref] * int(exponent))
        return self.map("pow", ref, attributes=(("exponent", exponent),))

    def along(
        self,
        function: str,
        ref: Ref,
        axes: Sequence[int],
        *,
        keep: bool,
        data: Sequence[Ref] = (),
        out: Sequence[int] | None = None,
        attributes: Attributes = (),
    ) -> Ref:
        """A function along axes: kept (softmax) or reduced away (max).  `data` are read at any index (targets)."""
        ref = self._fresh(ref)
        positions = {axis % len(ref.shape) for axis in axes}
        bound = tuple(v for i, axis in enumerate(ref.axes) if i in positions for v in axis)
        kept = [i for i in range(len(ref.shape)) if keep or i not in positions]
        if out is not None:
            kept = list(out)
        made, shape = tuple(ref.axes[i] for i in kept), tuple(ref.shape[i] for i in kept)
        operands = [ref, *(self._fresh(extra) for extra in data)]
        own = {"function": function, "attributes": attributes}
        return self._add(RawNode(Along, made, shape, operands, bound, own=own))

    def cat(self, operands: Sequence[Ref], axis: int) -> Ref:
        """Joins along an axis."""
        axis %= len(operands[0].shape)
        operands = [ref for ref in operands if ref.shape[axis]] or operands[:1]  # empty pieces say nothing
        if len(operands) == 1:
            return operands[0]
        refs = [self._fresh(ref) for ref in operands]
        total = sum(ref.shape[axis] for ref in refs)
        shape = tuple(total if i == axis else n for i, n in enumerate(refs[0].shape))
        pieces: list[tuple[int, int, Variable | None]] = []
        start = 0
        try:
            for ref in refs:
                for i in range(len(shape)):
                    if i != axis:
                        align(refs[0].axes[i], ref.axes[i])
                length = ref.shape[axis]
                counter = Variable(Space(length)) if length > 1 else None
                if counter is not None:
                    align([counter], ref.axes[axis])
                pieces.append((start, length, counter))
                start += length
        except Inexpressible as error:
            return self.opaque(f"{self.source} ({error})", operands, shape)
        joined = Variable(Space(total))
        axes = tuple((joined,) if i == axis else a for i, a in enumerate(refs[0].axes))
        made = self._add(RawNode(Concatenation, axes, shape, refs, (joined,), tuple(pieces)))
        self.joined[made.node] = axis, list(operands)
        return made

    def parts(self, ref: Ref, axis: int) -> list[Ref]:
        """The pieces of which a value was joined along an axis; the value itself where it was not, or is a view."""
        along, pieces = self.joined.get(ref.node, (-1, []))
        return pieces if along == axis % len(ref.shape) and self._whole(ref) else [ref]

    def written(self, ref: Ref, axis: int, start: int, new: Ref) -> Ref:
        """A value in which `new` stands from `start` on along an axis, in place of what stood there."""
        pieces: list[Ref] = []
        at, end = 0, start + new.shape[axis]
        for piece in self.parts(ref, axis):
            size = piece.shape[axis]
            pieces += [self.slice(piece, axis, 0, min(start - at, size))] if at < start else []
            pieces += [new] if at <= start < at + size else []
            low = max(end - at, 0)
            pieces += [self.slice(piece, axis, low, size - low)] if low < size else []
            at += size
        return self.cat(pieces, axis)

    # -- views ------------------------------------------------------------------------------------------------
    def _fresh(self, ref: Ref) -> Ref:
        """The same reference with new variables, so that aliasing cannot reach another use."""
        new: dict[Variable, Variable] = {}

        def rename(variable: Variable) -> list[Variable]:
            return [new.setdefault(leaf, Variable(leaf.space)) for leaf in variable.leaves()]

        index: list[Lin] = []
        for offset, terms in ref.index:
            index.append((offset, tuple(t for stride, v in terms for t in spread(stride, rename(v)))))
        axes = tuple(tuple(leaf for v in axis for leaf in rename(v)) for axis in ref.axes)
        return Ref(ref.node, tuple(index), axes, ref.shape)

    def permute(self, ref: Ref, order: Sequence[int]) -> Ref:
        """Axes in another order."""
        order = [i % len(ref.shape) for i in order]
        return Ref(ref.node, ref.index, tuple(ref.axes[i] for i in order), tuple(ref.shape[i] for i in order))

    def transpose(self, ref: Ref, a: int, b: int) -> Ref:
        """Swaps two axes."""
        order = list(range(len(ref.shape)))
        if order:
            order[a], order[b] = order[b], order[a]
        return self.permute(ref, order)

    def reshape(self, ref: Ref, shape: Sequence[int]) -> Ref:
        """A row-major view of another shape (no -1)."""
        ref = self._fresh(ref)
        try:
            axes = regroup([v for axis in ref.axes for v in axis], shape)
        except Inexpressible as error:
            return self.opaque(f"{self.source} ({error})", [ref], shape)
        return Ref(ref.node, ref.index, tuple(axes), tuple(shape))

    def expand(self, ref: Ref, shape: Sequence[int]) -> Ref:
        """Broadcasts to a shape; -1 keeps an axis."""
        missing = len(shape) - len(ref.shape)
        axes = ((),) * missing + ref.axes
        old = (1,) * missing + ref.shape
        sizes = tuple(o if n == -1 else n for o, n in zip(old, shape, strict=True))
        new = tuple((Variable(Space(n)),) if o == 1 and n != 1 else a for a, o, n in zip(axes, old, sizes))
        return Ref(ref.node, ref.index, new, sizes)

    def unsqueeze(self, ref: Ref, axis: int) -> Ref:
        """A new axis of length 1."""
        axis %= len(ref.shape) + 1
        shape, axes = ref.shape, ref.axes
        return Ref(ref.node, ref.index, (*axes[:axis], (), *axes[axis:]), (*shape[:axis], 1, *shape[axis:]))

    def squeeze(self, ref: Ref, positions: Sequence[int] | None = None) -> Ref:
        """Drops axes of length 1 (all, or the given ones where their length is 1)."""
        rank = len(ref.shape)
        drop = {p % rank for p in positions} if positions is not None else set(range(rank))
        keep = [i for i in range(rank) if i not in drop or ref.shape[i] != 1]
        return self.permute(ref, keep)

    def slice(self, ref: Ref, axis: int, start: int, length: int, step: int = 1) -> Ref:
        """The elements start, start + step, ... of an axis (step may be negative: flip)."""
        axis %= len(ref.shape)
        size = ref.shape[axis]
        if (start, length, step) == (0, size, 1):
            return ref
        ref = self._fresh(ref)
        digits = list(ref.axes[axis])
        shape = tuple(length if i == axis else n for i, n in enumerate(ref.shape))
        if length == 1 and digits:
            rest = start
            lins: dict[Variable, Lin] = {}
            for variable in reversed(digits):
                lins[variable] = (rest % variable.size, ())
                rest //= variable.size
            return self._substitute(ref, axis, (), lins, shape)
        parts = _digitwise([v.size for v in digits], start, length, step)
        if parts is None:
            return self.opaque(f"{self.source} (a slice across the digits of an axis)", [ref], shape)
        left: list[Variable] = []
        lins = {}
        for variable, (begin, count, every) in zip(digits, parts, strict=True):
            if (begin, count, every) == (0, variable.size, 1):
                left.append(variable)
                continue
            variable.space.find().cuts.add((begin, count, every))
            counter = Variable(Space(count))
            lins[variable] = (begin, ((every, counter),) if count > 1 else ())
            left += [counter] if count > 1 else []
        return self._substitute(ref, axis, tuple(left), lins, shape)

    def windows(self, ref: Ref, axis: int, size: int, step: int) -> Ref:
        """Every `step` entries of an axis a window of `size`, which may overlap, as a new last axis."""
        axis %= len(ref.shape)
        count = (ref.shape[axis] - size) // step + 1
        ref = self._fresh(ref)
        shape = (*(count if i == axis else n for i, n in enumerate(ref.shape)), size)
        digits = ref.axes[axis]
        if len(digits) != 1:
            return self.opaque(f"{self.source} (a window across the digits of an axis)", [ref], shape)
        starts = Variable(Space(count)) if count > 1 else None
        within = Variable(Space(size)) if size > 1 else None
        terms = [(s, v) for s, v in ((step, starts), (1, within)) if v is not None]
        new = (starts,) if starts is not None else ()
        made = self._substitute(ref, axis, new, {digits[0]: (0, tuple(terms))}, shape[:-1])
        last = (within,) if within is not None else ()
        return Ref(made.node, made.index, (*made.axes, last), shape)

    def select(self, ref: Ref, axis: int, position: int) -> Ref:
        """One element of an axis, which goes away."""
        axis %= len(ref.shape)
        return self.squeeze(self.slice(ref, axis, position % ref.shape[axis], 1), [axis])

    def split(self, ref: Ref, axis: int, lengths: Sequence[int]) -> list[Ref]:
        """Consecutive pieces of an axis."""
        starts = [sum(lengths[:i]) for i in range(len(lengths))]
        return [self.slice(ref, axis, start, length) for start, length in zip(starts, lengths)]

    def repeat_each(self, ref: Ref, axis: int, times: int) -> Ref:
        """repeat_interleave: every element `times` times in a row."""
        axis %= len(ref.shape)
        new = () if times == 1 else (Variable(Space(times)),)
        axes = tuple((*a, *new) if i == axis else a for i, a in enumerate(ref.axes))
        return Ref(ref.node, ref.index, axes, tuple(n * times if i == axis else n for i, n in enumerate(ref.shape)))

    def repeat(self, ref: Ref, times: Sequence[int]) -> Ref:
        """torch.Tensor.repeat: the whole axis `times` times."""
        ref = self.expand(ref, (*(1,) * (len(times) - len(ref.shape)), *ref.shape))
        axes = tuple((Variable(Space(t)), *a) if t != 1 else a for a, t in zip(ref.axes, times))
        return Ref(ref.node, ref.index, axes, tuple(n * t for n, t in zip(ref.shape, times)))

    def _substitute(
        self, ref: Ref, axis: int, new: tuple[Variable, ...], lins: dict[Variable, Lin], shape: tuple[int, ...]
    ) -> Ref:
        index: list[Lin] = []
        for offset, terms in ref.index:
            result: list[tuple[int, Variable]] = []
            for stride, variable in terms:
                if variable in lins:
                    begin, inner = lins[variable]
                    offset += stride * begin
                    result.extend((stride * s, v) for s, v in inner)
                else:
                    result.append((stride, variable))
            index.append((offset, tuple(result)))
        axes = tuple(new if i == axis else a for i, a in enumerate(ref.axes))
        return Ref(ref.node, tuple(index), axes, shape)


def _axes(shape: Sequence[int]) -> Axes:
    return tuple((Variable(Space(n)),) if n != 1 else () for n in shape)


def _digitwise(
    sizes: Sequence[int], start: int, length: int, step: int
) -> list[tuple[int, int, int]] | None:
    """A slice (start, length, step) of an axis as one of each of its digits; None where it is none of digits.

    It takes one value of an inner digit (every second of pairs), or a run of it that goes on in the next outer one.
    """
    if len(sizes) < 2:
        return [(start, length, step)] if sizes else None
    *outer, n = sizes
    if step % n == 0:
        more, own = _digitwise(outer, start // n, length, step // n), (start % n, 1, 1)
    elif step > 0 and n % step == 0 and start % n < step and length % (n // step) == 0:
        more, own = _digitwise(outer, start // n, length // (n // step), 1), (start % n, n // step, step)
    else:
        return None
    return None if more is None else [*more, own]


def spread(stride: int, digits: Sequence[Variable]) -> list[tuple[int, Variable]]:
    """stride * v as a sum over v's digits."""
    result: list[tuple[int, Variable]] = []
    for variable in reversed(digits):
        result.insert(0, (stride, variable))
        stride *= variable.size
    return result
