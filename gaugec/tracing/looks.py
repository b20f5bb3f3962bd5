"""A model at other sizes of its inputs: is it the same graph there?

Every axis that can have another size is varied, all together where the model takes that, at a far size and at a near
one (`gaugec.model.axes`); then at the sizes at which the forward turns (`gaugec.tracing.guards`); then, in numbers
alone, at sizes of 1.  The far look is an export that is compared node by node.  At further ones the forward is
recorded, and exported only where the recording is not what those before it foretell (`gaugec.model.recording`).  A
forward runs with numbers where what it takes is affordable, and without them elsewhere; what is left out is said.

What this module does not do: it sees no other function at sizes of which nothing speaks and at which it did not look.
"""

from __future__ import annotations

import math
from dataclasses import replace

from torch import nn

from gaugec.errors import MatchError
from gaugec.graph.check import check
from gaugec.graph.ir import Graph
from gaugec.model.axes import Bundle, Unseen, bundles, changed, said, together
from gaugec.model.fixed import Fixed
from gaugec.model.inputs import Axis, Inputs, alike, axes_of, resized, tensors_of
from gaugec.model.interfaces import without_lines
from gaugec.model.outputs import Counted
from gaugec.model.preserve import preserved
from gaugec.model.recording import Recording, TooMuchWork, Work, explained, foretold
from gaugec.model.run import recorded, runs
from gaugec.tracing.compare import departure, settled
from gaugec.tracing.export import exported
from gaugec.tracing.gradient_looks import gradient_looks
from gaugec.tracing.guards import FARTHEST, Asked, Turn, asked, asked_of_an_export, turns_of
from gaugec.tracing.left_behind import Place
from gaugec.tracing.lower import Trace, lower_program

EXPORTS = 12  # of one model; each is dear
LOOKS = 40  # sizes at which a model is looked at at all
_FREELY = Work(math.inf, math.inf, math.inf)


class Looks:
    """Everything that one model is looked at, beside its first trace: other inputs, and what the graph is beside them.

    graph: the first trace's, in which what depends on a size has become opaque.  elsewhere: the other exports'.
    others: inputs at which it ran, in numbers, by the names of their sizes.  free: the bundles of axes that had another
    size with the same graph.  weights: see `gaugec.tracing.left_behind`.  fixed: what the caller says of the sizes.
    """

    def __init__(
        self,
        model: nn.Module,
        here: Inputs,
        counted: Counted,
        first: Trace,
        weights: frozenset[Place],
        fixed: Fixed,
    ) -> None:
        self.model, self.here, self.counted, self.first, self.weights = model, here, counted, first, weights
        self.fixed = fixed
        self.graph = first.graph
        self.elsewhere: list[Graph] = []
        self.others: list[tuple[str, Inputs]] = []
        self.free: set[Bundle] = set()
        self.numbers = not any(p.is_meta for p in model.parameters())
        self.recordings: dict[tuple[tuple[tuple[Axis, int], ...], bool], Recording] = {}
        self.base = self._recorded(here, self.numbers, _FREELY)
        self.close: Recording | None = None
        self.far: Inputs | None = None
        self.known: dict[tuple[bool, bool], Recording | None] = {(False, self.numbers): self.base}
        self.exports = 0
        self.looked = {_shapes(here)}
        self.same: list[str] = []
        self.in_numbers: list[str] = []
        self.left_out: list[str] = []
        self.waiting: list[tuple[str, Inputs]] = []
        self.apart: dict[str, None] = {}
        self.all_seen = True
        self.asked: dict[tuple[Bundle, ...], Asked | None] = {}
        self.bundles = self._bundles()

    def all(self) -> Trace:
        """The first trace with all that was seen beside it.

        Raises:
            MatchError: it is another function at other sizes.
        """
        self._far_and_near()
        self._where_it_turns()
        self._at_one_row()
        self._in_numbers()
        gradients = gradient_looks(self.model, self.here, self.bundles, self.others, self._takes)
        return replace(
            self.first,
            graph=check(self.graph, "tracing"),
            second=self._note(gradients.note),
            gradients=gradients,
            free=self._free(),
            fixed=self.fixed.words,
            elsewhere=tuple(self.elsewhere),
        )

    def _free(self) -> dict[Axis, int]:
        """See `gaugec.tracing.lower.Trace`."""
        several = sorted(bundle.axes for bundle in self.free if len(bundle.axes) > 1)
        number = {axis: n for n, axes in enumerate(several, start=1) for axis in axes}
        places = alike(*self.here, [axis for bundle in self.free for axis in bundle.axes])
        return {place: number.get(axis, 0) for place, axis in places.items()}

    def _note(self, gradients: str) -> str:
        free = {axis for bundle in self.free for axis in bundle.axes}
        fixed = sorted({n for axis, n in axes_of(*self.here).items() if axis not in free})
        parts = [f"same graph with input sizes {'; '.join(self.same)}" if self.same else ""]
        parts.append(f"in numbers {', '.join(self.in_numbers)}" if self.in_numbers else "")
        still = self.fixed.still
        if len(set(still.values())) == len(axes_of(*self.here)):
            parts.append("all sizes are fixed, as the caller says")
        elif not self.free:
            parts.append("all sizes are fixed: the model takes no other")
        elif fixed:
            asked = f" ({', '.join(still)} as the caller says)" if still else ""
            parts.append(f"fixed sizes {', '.join(map(str, fixed))}{asked}")
        parts.append(f"one size {', '.join(self.fixed.as_one)} as the caller says" if self.fixed.as_one else "")
        apart = (f'other elements are read where {w} is several (fixed="{w}" says that it is one)' for w in self.apart)
        parts += apart
        parts.append(f"not looked at {', '.join(dict.fromkeys(self.left_out))}" if self.left_out else "")
        parts.append("" if self.all_seen else "what the forward asks of other sizes could not be seen")
        return "; ".join(part for part in (*parts, gradients) if part)

    def _bundles(self) -> list[Bundle]:
        """The axes that may have other sizes, in calls and in an export, which goes the way of a run without numbers.

        A call may not read a mask of ones, whose sizes an export asks.  What one run asked of the sizes says whether it
        would go the same way at others; only where not is it run there.
        """
        said = frozenset(self.fixed.still.values()), tuple(self.fixed.as_one.values())
        found = bundles(self.here, self._takes, *said)
        if not self.numbers:
            return found
        run = self._asked(found)
        if run is not None and all(run.same({b: n}) for b in found for n in (b.far, b.near) if n):
            return found
        with preserved(self.model, parameters=False):
            traceable = runs(self.model, *self.here, numbers=False)
        return bundles(self.here, self._takes_traced, *said) if traceable else found

    def _asked(self, found: list[Bundle]) -> Asked | None:
        """What a run at the example's sizes asks of them; found once."""
        key = tuple(found)
        if key not in self.asked:
            self.asked[key] = asked(self.model, self.here, found)
        return self.asked[key]

    def _far_and_near(self) -> None:
        """Looks at all bundles at their far sizes, at those that do not run together one by one; then near."""
        near, near_alone = together(self.here, {b: b.near for b in self.bundles if b.near}, self._takes)
        if near:  # it costs little, and foretells what the far ones take
            self.close = self._recorded(resized(*self.here, changed(near)), self.numbers)
        change, alone = together(self.here, {b: b.far for b in self.bundles}, self._takes)
        for far in ([change] if change else []) + alone:
            inputs = resized(*self.here, changed(far))
            if self._look(said(far), inputs):
                self.free |= far.keys()
                self.far = self.far or inputs
        for change in ([near] if near else []) + near_alone:
            self._look(said(change), resized(*self.here, changed(change)))

    def _where_it_turns(self) -> None:
        """Looks at sizes that break what the forward asked of its sizes, and asks again there."""
        places: list[tuple[str, Inputs]] = [("", self.here)]
        for way, here in places:  # it grows: what is asked behind a branch is seen only there
            sizes = axes_of(*here)
            there = [replace(bundle, size=sizes[bundle.axes[0]]) for bundle in self.bundles]
            run = self._asked(there) if here is self.here else asked(self.model, here, there)
            turns, all_of_it = turns_of(run or asked_of_an_export(self.model, here, there), there)
            self.all_seen = self.all_seen and all_of_it
            for turn in turns:
                name = f"{way}, {turn}" if way else str(turn)
                at = None if way and turn.guess else self._at_a_turn(turn, name, here)
                if at is not None:
                    places.append((name, at))

    def _at_a_turn(self, turn: Turn, name: str, here: Inputs) -> Inputs | None:
        """Looks behind a turn; the inputs there, where more may be asked."""
        at = turn.apply(*here)
        if at is None:
            self.left_out.append(f"{name} (the inputs would be too large)")
            return None
        if _shapes(at) in self.looked:
            return None
        if len(self.looked) >= LOOKS:
            self.left_out.append(f"{name} ({LOOKS} other sizes were looked at)")
            return None
        if turn.guess and turn.farthest >= FARTHEST:
            # a layer that steps along its input is too long a graph there: its numbers alone are looked at
            self.looked.add(_shapes(at))
            self.waiting.append((name, at))
            return None
        exports = self.exports
        taken = self._look(name if turn.own else "", at, turned=turn.own)
        return at if taken and (turn.own or self.exports > exports) else None

    def _at_one_row(self) -> None:
        """Sizes of 1 are looked at in numbers: a trace of them would be another graph, and no other function."""
        for bundle in self.bundles:
            self.waiting.append((f"{bundle.size}->1", resized(*self.here, changed({bundle: 1}))))

    def _in_numbers(self) -> None:
        """Runs the forward at the inputs that wait for it."""
        for name, inputs in dict(self.waiting).items() if self.numbers else ():
            if not self._affordable(inputs):
                self.left_out.append(f"{name} in numbers (it would take {self._foretold(inputs)})")
            elif self._takes(inputs):
                self.others.append((name, inputs))
                self.in_numbers.append(name)

    # --- one look

    def _look(self, name: str, inputs: Inputs, *, turned: bool = False) -> bool:
        """Compares with what the model is at other inputs; False where it does not take them, or it was left out.

        name: what is said of it; "" for what nobody asks for.  turned: the forward may do another thing here.

        Raises:
            MatchError: it is another function there.
        """
        if _shapes(inputs) in self.looked:
            return False
        self.looked.add(_shapes(inputs))
        numbers = self.numbers and self._affordable(inputs)
        known = self.recordings.get((_shapes(inputs), numbers))
        done = known is not None and self._explained(known, numbers)
        with preserved(self.model, parameters=False):
            # with numbers first: what the forward keeps of this size (a table in a cache) is then no fake
            try:
                here = known if done else recorded(self.model, *inputs, self._limit(numbers), numbers=numbers)
            except TooMuchWork:
                self.left_out.append(f"{name} (it would take {self._foretold(inputs)})")
                return False
            if here is None and self.numbers:
                return False
            if here is not None:
                self.recordings[_shapes(inputs), numbers] = here
            if not done and (here is None or not self._explained(here, numbers)):
                if self.exports >= EXPORTS:
                    self.left_out.append(f"{name} ({EXPORTS} exports were compared)")
                    return False
                self.exports += 1
                try:
                    with without_lines():  # the first trace's are shown
                        program = exported(self.model, *inputs, self.weights)
                    other = lower_program(self.model, program, self.counted)
                except MatchError:
                    if here is not None:
                        raise
                    return False  # what runs only where there are numbers may still be traced, or not
                self._compare(other, self._several(inputs))
            elif not turned:
                numbers = False  # no other numbers are expected so near
        self.same += [name] if name else []
        if numbers:
            self.others.append((_sizes(self.here, inputs), inputs))
        return True

    def _compare(self, other: Trace, apart: list[str]) -> None:
        """What is left of the graph beside another one; apart: the words for sizes that are one no more there.

        Raises:
            MatchError: they are two functions.
        """
        difference = _difference(self.first, other) or departure(self.first.graph, other.graph)
        if difference:
            one = f', or, where they are always one size, say so: fixed="{apart[0]}"' if apart else ""
            raise MatchError(
                f"the model's graph depends on the shape of its input: {difference}",
                help="a branch on a length or batch size is frozen by the trace; make the forward independent of it, "
                f'or, where no other size comes, call it fixed: fixed="all", --fixed all{one}',
            )
        left = settled(self.graph, self.first.graph, other.graph)
        self.apart |= dict.fromkeys(apart if left != self.graph else ())
        self.graph = left
        self.elsewhere.append(other.graph)

    def _several(self, there: Inputs) -> list[str]:
        """The words for what is one size in the example, at one place of several inputs, and more than one there."""
        sizes, now = axes_of(*self.here), axes_of(*there)
        found: dict[tuple[int, int], list[Axis]] = {}
        for axis, n in sizes.items():
            if axis not in self.fixed.still.values() and axis in self.fixed.names:
                found.setdefault((n, axis[1]), []).append(axis)
        groups = [axes for axes in found.values() if len({now[axis] for axis in axes}) > 1]
        return ["=".join(sorted(self.fixed.names[axis] for axis in axes)) for axes in groups]

    def _explained(self, here: Recording, numbers: bool) -> bool:
        """Do the two places at which exports were compared say what an export would say here?"""
        if self.far is None:
            return False
        one, two = self._known(False, numbers), self._known(True, numbers)
        return one is not None and two is not None and explained(one, two, here)

    def _known(self, far: bool, numbers: bool) -> Recording | None:
        """The recording at a place at which exports were compared: the example's sizes, or the far ones."""
        if (far, numbers) not in self.known:
            place = self.far if far else self.here
            self.known[far, numbers] = self._recorded(place, numbers) if place is not None else None
        return self.known[far, numbers]

    # --- what it takes

    def _takes(self, inputs: Inputs) -> bool:
        """Does it run there?  A run without numbers would not see the end of a table, and is believed on meta only."""
        if self.numbers and not self._affordable(inputs):
            return False
        with preserved(self.model, parameters=False):
            return runs(self.model, *inputs, numbers=self.numbers)

    def _takes_traced(self, inputs: Inputs) -> bool:
        """Does it run there, and in an export too?

        Raises:
            Unseen: it runs there, and an export does not.
        """
        if not self._takes(inputs):
            return False
        with preserved(self.model, parameters=False):
            if runs(self.model, *inputs, numbers=False):
                return True
        changes = sum(n != m for n, m in zip(axes_of(*self.here).values(), axes_of(*inputs).values(), strict=True))
        alone = " in one input alone" if changes == 1 and len(tensors_of(*inputs)) > 1 else ""
        self.left_out.append(f"{_sizes(self.here, inputs)}{alone} (it runs there, and cannot be traced)")
        raise Unseen

    def _recorded(self, inputs: Inputs, numbers: bool, limit: Work | None = None) -> Recording | None:
        """What it does there, recorded once; None where it does not run, or takes too much."""
        key = (_shapes(inputs), numbers)
        if key in self.recordings:
            return self.recordings[key]
        with preserved(self.model, parameters=False):
            try:
                made = recorded(self.model, *inputs, limit or self._limit(numbers), numbers=numbers)
            except TooMuchWork:
                return None
        if made is not None:
            self.recordings[key] = made
        return made

    def _limit(self, numbers: bool) -> Work:
        """Beside what a forward must be affordable: without numbers it takes neither arithmetic nor memory."""
        own = self.base.work if self.base is not None else Work()
        return own if numbers else replace(own, arithmetic=math.inf, memory=math.inf)

    def _foretold(self, inputs: Inputs) -> Work:
        if self.base is None:
            return Work()
        return foretold(self.base, self.known.get((True, self.numbers)) or self.close, tuple(axes_of(*inputs).values()))

    def _affordable(self, inputs: Inputs) -> bool:
        return self._foretold(inputs).within(self._limit(True))


def _shapes(inputs: Inputs) -> tuple[tuple[Axis, int], ...]:
    return tuple(axes_of(*inputs).items())


def _sizes(here: Inputs, there: Inputs) -> str:
    """What sizes have changed, for people."""
    pairs = zip(axes_of(*here).values(), axes_of(*there).values(), strict=True)
    return ", ".join(dict.fromkeys(f"{old}->{new}" for old, new in pairs if old != new))


def _difference(first: Trace, second: Trace) -> str:
    """The first place where two traces differ in more than sizes, or ""."""
    one, two = first.kinds, second.kinds
    for a, b in zip(one, two):
        if a != b:
            return f"{a} at one shape, {b} at another"
    return "" if len(one) == len(two) else f"{len(one)} operations at one shape, {len(two)} at another"


__all__ = ["Looks"]
