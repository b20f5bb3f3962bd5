"""What a chart reads: gains that multiply a tensor, and biases that are added to one through a weight.

In the coordinates X^ = X * g**power and B^ = B + weight * W b gauges move by constant coefficients, and the function
does not see g and b any more: they are held.  Since they are, a gain is a constant factor, read once.  A sum moves with
its weight: a step of B and W is taken with B^ in B's place and with the gradients that W and B^ have then (see
`coordinates`), and where b is zero, as in every fresh model, nothing is done.

Not here: which gauges there are; what a step does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gaugec.runtime.layout import Axes, Tensors

if TYPE_CHECKING:
    from gaugec.runtime.batch import Batch

FAR = 1e6  # what no gain that is held may be beyond, nor below its inverse
Steps = tuple[tuple[int, int, int], ...]


class Gain:
    """A tensor is moved as the tensor times (gain + plus)**power.

    axes: (size, stride in the tensor, stride in the gain) of all along which the gain varies.  offset: where it begins.
    """

    def __init__(
        self, tensor: str, gain: str, axes: Steps, *, offset: int = 0, power: float = 1, plus: float = 0.0
    ) -> None:
        self.slot, self.gain, self.axes = tensor, gain, axes
        self.offset, self.power, self.plus = offset, float(power), float(plus)

    @property
    def reads(self) -> tuple[str, ...]:
        """What is held for it."""
        return (self.gain,)

    def factor(self, values: Mapping[str, Tensor], shape: Sequence[int]) -> Tensor:
        """What a tensor of a shape is multiplied by: [batch, ...], of length one where nothing depends on an axis.

        By an entry of 0 nothing can be: there it is 1, and a gauge that reads the gain moves another function.
        """
        g = values[self.gain].contiguous()
        axes = sorted(self.axes, key=lambda axis: -axis[1])
        sizes, steps = [n for n, _, _ in axes], [step for _, _, step in axes]
        seen = g.as_strided([g.shape[0], *sizes], [g.stride(0), *steps], g.storage_offset() + self.offset)
        seen = seen.double() + self.plus
        seen = (torch.where(seen == 0, torch.ones_like(seen), seen) ** self.power).to(g.dtype)
        full, known = list[int](), list[int]()  # all axes of the tensor: those of the gain, and between them the others
        left = math.prod(shape)
        for n, stride, _ in axes:
            full, known = [*full, left // (n * stride), n], [*known, 1, n]
            left = stride
        full, known = [*full, left], [*known, 1]
        whole = seen.reshape(g.shape[0], *known)
        out, i = list[int](), 0
        for size in shape:  # dimension by dimension, as long as axes do not run over several
            first, reached = i, 1
            while reached < size and i < len(full):
                reached, i = reached * full[i], i + 1
            if reached != size:
                return reduced(whole.expand(g.shape[0], *full).reshape(g.shape[0], *shape))
            if any(known[j] > 1 for j in range(first, i)):
                whole = whole.expand(g.shape[0], *[full[j] if first <= j < i else n for j, n in enumerate(known)])
                known[first:i] = full[first:i]
                out.append(size)
            else:
                out.append(1)
        return whole.reshape(g.shape[0], *out)


class Added:
    """A tensor is moved as the tensor plus weight times (matrix @ bias), or plus the bias itself.

    kept: (size, stride in the tensor, in the matrix, in the bias); summed: (size, stride in the matrix, in the bias).
    offset: where in the tensor it begins.  starts: where matrix and bias do.
    """

    def __init__(
        self,
        tensor: str,
        matrix: str | None,
        bias: str,
        kept: tuple[tuple[int, int, int, int], ...],
        summed: Steps = (),
        *,
        offset: int = 0,
        starts: tuple[int, int] = (0, 0),
        weight: float = 1,
    ) -> None:
        self.slot, self.matrix, self.bias = tensor, matrix, bias
        self.kept, self.summed, self.starts, self.weight = kept, summed, (offset, *starts), float(weight)
        letters = "abcdefghijklmnopqrstuvwxy"
        axes = [(n, x, w, b) for n, x, w, b in kept] + [(n, 0, w, b) for n, w, b in summed]
        self._axes = [
            [(letter, n, each[side]) for letter, (n, *each) in zip(letters, axes) if each[side]] for side in range(3)
        ]
        there = {letter for side in self._axes[1:] for letter, _, _ in side}
        self._times = 1
        for letter, (n, *_) in list(zip(letters, axes))[len(kept) :]:
            self._times *= 1 if letter in there else n

    @property
    def reads(self) -> tuple[str, ...]:
        """What is held for it."""
        return (self.bias,)

    def _seen(self, x: Tensor, side: int) -> tuple[Tensor, str]:
        start, axes = self.starts[side], self._axes[side]
        view = x.as_strided(
            [x.shape[0], *[n for _, n, _ in axes]],
            [x.stride(0), *[stride for _, _, stride in axes]],
            x.storage_offset() + start,
        )
        return view, "z" + "".join(letter for letter, _, _ in axes)

    def _product(self, out: tuple[Tensor, str], *factors: tuple[Tensor, str], sign: float = 1.0) -> None:
        """Add sign times weight times a product, summed over what `out` has not, to `out`."""
        target, letters = out
        there = {letter for _, names in factors for letter in names}
        kept = "".join(letter for letter in letters if letter in there)
        if len(factors) == 2 and sorted(kept[1:]) == sorted("".join(names[1:] for _, names in factors)):
            one, two = (_spread(x, names, letters) for x, names in factors)  # nothing is summed
            target.addcmul_(one, two, value=sign * self.weight * self._times)
            return
        value = torch.einsum(f"{','.join(names for _, names in factors)}->{kept}", *[x for x, _ in factors])
        sizes = [n if letter in there else 1 for letter, n in zip(letters, target.shape)]
        target.add_(value.reshape(sizes), alpha=sign * self.weight * self._times)

    def add(self, out: Tensor, matrix: Tensor | None, bias: Tensor) -> None:
        """Add the sum to a contiguous tensor [batch, *shape]."""
        factors = [self._seen(bias.contiguous(), 2)]
        if matrix is not None:
            factors.insert(0, self._seen(matrix.contiguous(), 1))
        self._product(self._seen(out, 0), *factors)

    def from_matrix(self, out: Tensor, slope: Tensor, bias: Tensor) -> None:
        """The transpose: subtract what a gradient of the tensor is for the matrix, times the weight."""
        factors = (self._seen(slope.contiguous(), 0), self._seen(bias.contiguous(), 2))
        self._product(self._seen(out, 1), *factors, sign=-1.0)

    def to_bias(self, out: Tensor, slope: Tensor, matrix: Tensor | None) -> None:
        """The transpose: add what a gradient of the tensor is for the bias, times the weight."""
        factors = [self._seen(slope.contiguous(), 0)]
        if matrix is not None:
            factors.append(self._seen(matrix.contiguous(), 1))
        self._product(self._seen(out, 2), *factors)


def _spread(x: Tensor, names: str, letters: str) -> Tensor:
    """A factor with the axes of a product, of length one where it has none."""
    x = x.permute([names.index(letter) for letter in letters if letter in names])
    return x[tuple(slice(None) if letter in names else None for letter in letters)]


def marked(shape: Sequence[int], parts: Sequence[tuple[int, Axes]]) -> Tensor:
    """Where parts of a tensor of a shape are: bool [*shape]."""
    out = torch.zeros(*shape, dtype=torch.bool, device="cpu")
    for offset, axes in parts:
        out.as_strided([n for n, _ in axes], [stride for _, stride in axes], offset).fill_(True)
    return out


def in_order(sums: Sequence[Added]) -> tuple[Added, ...]:
    """Sums so that what others read comes before them; ValueError where they read one another in a circle."""
    left, out = list(sums), list[Added]()
    while left:
        ready = [each for each in left if not any(other.slot == each.bias for other in left)]
        if not ready:
            raise ValueError(f"the sums of {', '.join(each.slot for each in left)} read one another in a circle")
        out += ready
        left = [each for each in left if each not in ready]
    return tuple(out)


def amounts(sums: Sequence[Added], values: Mapping[str, Tensor]) -> Tensors:
    """By tensor what sums, in order, add to it; a bias that something is added to itself counts with that."""
    out: Tensors = {}
    for each in sums:
        if each.slot not in out:
            out[each.slot] = torch.zeros_like(values[each.slot], memory_format=torch.contiguous_format)
        bias = values[each.bias] + out[each.bias] if each.bias in out else values[each.bias]
        each.add(out[each.slot], values[each.matrix] if each.matrix else None, bias)
    return out


def at_hand(sums: Sequence[Added], values: Mapping[str, Tensor]) -> tuple[Added, ...]:
    """The sums of which something is added: biases are not zero, or something is added to them."""
    out, reached = list[Added](), set[str]()
    for each in sums:
        if each.bias in reached or bool(values[each.bias].any()):
            out.append(each)
            reached.add(each.slot)
    return tuple(out)


@contextmanager
def coordinates(batches: Sequence[Batch], *, stepped: bool = True) -> Iterator[None]:
    """Inside, gradients are those of the coordinates in which sums are taken; and parameters are those coordinates.

    stepped: false where parameters are only read, and stay as they are.  Gradients are what they were afterwards.
    """
    with torch.no_grad():
        some = [batch for batch in batches if batch.sums or batch.held & {*batch.component.partly}]
        new = [pair for batch in some for pair in _exchanged(batch)]
        kept: list[tuple[Tensor, Tensor | None]] = [(p, p.grad) for p, _ in new]
        parts = [each for batch in some for each in _parts(batch)] if stepped else []
        inside = some if stepped else []
        try:
            for p, slope in new:
                p.grad = slope
            for batch in inside:
                _add(batch, 1.0)
                batch.inside = True
            yield
        finally:
            _restore(parts)
            for batch in inside:
                if batch.inside:
                    batch.inside = False
                    _add(batch, -1.0)
            _restore(parts)
            for p, before in kept:
                p.grad = before


def _parts(batch: Batch) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Parameters of which a part is held, where, and what that was."""
    for slot in batch.held & {*batch.component.partly}:
        for p in batch.slots[slot]:
            mark = batch.component.held[slot].to(p.device)
            yield p.detach(), mark, p.detach()[mark].clone()


def _restore(parts: Sequence[tuple[Tensor, Tensor, Tensor]]) -> None:
    for p, mark, before in parts:
        p[mark] = before


def _add(batch: Batch, sign: float) -> None:
    """Add to the parameters what sums add, or subtract it."""
    sums = batch.sums or ()
    for j in range(len(batch.keys)):
        values = {slot: _wide(batch.slots[slot][j].detach()) for slot in _involved(sums)}
        for slot, amount in amounts(sums, values).items():
            if slot not in batch.standing:
                batch.slots[slot][j].detach().add_(amount[0], alpha=sign)


def _exchanged(batch: Batch) -> Iterator[tuple[Tensor, Tensor]]:
    """Parameters, and their gradients in the coordinates of sums; of what is held in part, zero there."""
    sums, partly = batch.sums or (), batch.held & {*batch.component.partly}
    for j in range(len(batch.keys)):
        p = {slot: batch.slots[slot][j] for slot in dict.fromkeys([*_involved(sums), *sorted(partly)])}
        if any(x.grad is not None and x.grad.layout != torch.strided for x in p.values()):
            continue  # the step refuses it
        values = {slot: _wide(x.detach()) for slot, x in p.items()}
        added, new, across = amounts(sums, values), Tensors(), Tensors()
        for each in reversed(sums):
            own = p[each.slot].grad
            slope = None if own is None or each.slot in batch.standing else _wide(own)
            if each.slot in batch.held:
                slope = _instead(slope, across.get(each.slot), batch.component.held[each.slot])
            if slope is None:
                continue
            bias = values[each.bias] + added[each.bias] if each.bias in added else values[each.bias]
            if each.bias in added:
                across.setdefault(each.bias, torch.zeros_like(values[each.bias]))
                each.to_bias(across[each.bias], slope, values[each.matrix] if each.matrix else None)
            if each.matrix and p[each.matrix].requires_grad:
                if each.matrix not in new:
                    own = p[each.matrix].grad
                    new[each.matrix] = torch.zeros_like(values[each.matrix]) if own is None else _wide(own).clone()
                each.from_matrix(new[each.matrix], slope, bias)
        for slot, whole in new.items():
            yield p[slot], whole[0].to(p[slot].dtype)
        for slot in sorted(partly):
            before = p[slot].grad
            if before is not None:
                yield p[slot], before.masked_fill(batch.component.held[slot].to(before.device), 0.0)


def _instead(slope: Tensor | None, across: Tensor | None, mark: Tensor) -> Tensor | None:
    """A gradient with another one where a tensor is held, or with nothing there."""
    if slope is None:
        return across
    other = torch.zeros_like(slope) if across is None else across
    return torch.where(mark.to(slope.device), other, slope)


def _involved(sums: Sequence[Added]) -> list[str]:
    return list(dict.fromkeys(s for each in sums for s in (each.slot, each.matrix, each.bias) if s))


def _wide(x: Tensor) -> Tensor:
    """With an axis of places, contiguous, float32 at least."""
    return (x.float() if x.dtype in (torch.bfloat16, torch.float16) else x).contiguous().unsqueeze(0)


def alive(gain: Tensor, plus: float = 0.0) -> bool:
    """Can all entries of a gain be divided by?"""
    size = (gain.detach() + plus).abs()
    return bool(((size > 1 / FAR) & (size < FAR)).all())


def reduced(x: Tensor) -> Tensor:
    """The same with length one along all axes but the first along which it is constant."""
    for axis in range(1, x.dim()):
        first = x.narrow(axis, 0, 1)
        if x.shape[axis] > 1 and bool((x == first).all()):
            x = first
    return x.contiguous()


def one(x: Tensor) -> bool:
    """Is it one, up to the rounding of the sums that it was solved from?"""
    return bool(((x - 1).abs() <= 16 * torch.finfo(x.dtype).eps).all())

