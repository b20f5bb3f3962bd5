"""Suggesting a spec for a model: the shipped gauges that it has, and gauges that nobody has written.

What the graph suggests is put into words, and the words go the way of every spec: they are read, proved for all sizes,
matched, proved again on the model and looked at in numbers.  What passes is a gauge of the suggested spec; what does
not is a guess, and stands there as a comment with what it lacks.

What this module does not do: it finds nothing itself (see `gaugec.invention`) and believes nothing that it finds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from functools import partial
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from typing import Any

from gaugec import limits
from gaugec.codegen.derive import derive
from gaugec.codegen.plan import plan
from gaugec.errors import GaugeError, first_line, printable
from gaugec.groups import GROUPS
from gaugec.invention.finding import Finding, Unsaid
from gaugec.invention.formula import GaugeText, Operators, formula
from gaugec.invention.scales import scales, totals
from gaugec.invention.shift_text import shifted
from gaugec.invention.shifts import shifts
from gaugec.invention.turns import turns
from gaugec.language import SUFFIX, load, show_number, topics
from gaugec.language.check import check
from gaugec.language.parse import parse
from gaugec.language.tree import Entry, Spec
from gaugec.model.context import ordinary
from gaugec.model.guest import Model
from gaugec.model.preserve import preserved
from gaugec.model.taken import Taken, taken, trainable
from gaugec.pipeline.compile import build, largest
from gaugec.pipeline.compiled import CompiledGauge
from gaugec.pipeline.covered import covered
from gaugec.pipeline.find import Finder
from gaugec.pipeline.followed import unmatched
from gaugec.pipeline.unexplained import Looked, fitting, unexplained
from gaugec.pipeline.verify import accepted
from gaugec.progress import counted, stage
from gaugec.runtime.ranges import fold
from gaugec.sites import Site
from gaugec.tracing.trace import Trace, trace
from gaugec.witness.distinct import distinct

NAME = "suggested"
Said = Callable[[Finding], GaugeText]  # puts a finding into words, or raises Unsaid
Conjecture = tuple[Finding, Said]
Used = tuple[str, str]  # a gauge that ships, and its file
_WORDS = {"scale": "scale", "rotate": "turn", "shift": "shift"}


@dataclass(frozen=True)
class Invented:
    """A gauge that nobody has written: its name, its text, and the parameters at which it was seen first."""

    name: str
    text: GaugeText
    where: tuple[str, ...]
    group: str


@dataclass(frozen=True)
class Guess:
    """What may be a gauge: at which parameters, and by what; what it lacks; its text, where it has one.

    A gauge that ships, and does not compile here, has its name in place of the group, and no parameters.
    """

    where: tuple[str, ...]
    group: str
    lacks: str
    text: str = ""


@dataclass(frozen=True)
class Suggestion:
    """What is suggested for a model.

    shipped: names of gauges that ship, and of their files.  invented: gauges that nobody has written.  guesses: what
    is not proved, not followed, or not said.  compiled: the suggested spec, compiled; None where it has no gauge.
    numbers: what was seen in numbers of what the spec does not explain, where that was asked for.
    """

    model: str
    shipped: tuple[Used, ...]
    invented: tuple[Invented, ...]
    guesses: tuple[Guess, ...]
    compiled: CompiledGauge | None = field(compare=False, repr=False)
    numbers: Looked | None = None

    def text(self, name: str = NAME) -> str:
        """The spec file, of an architecture with that name; guesses are comments in it."""
        if self.compiled is None:
            parts = [f"# Nothing to suggest for {printable(self.model)}: no gauge is proved and has a site.\n"]
        else:
            parts = [
                f"# Suggested by gaugec for {printable(self.model)}: every gauge is proved and has a site.\n",
                _spec(name, self.model, self.shipped, self.invented),
            ]
        alike: dict[tuple[str, str], list[Guess]] = {}
        for guess in self.guesses:
            alike.setdefault((guess.lacks, guess.text), []).append(guess)
        seen = [_seen(self.numbers)] if self.numbers is not None else []
        return "\n".join([*parts, *map(_comment, alike.values()), *seen])

    def summary(self) -> str:
        """How much was found, in words."""
        return (
            f"{len(self.shipped)} that ship, {len(self.invented)} invented, {len(self.guesses)} guesses, "
            f"{len(self.compiled.sites) if self.compiled else 0} sites"
        )

    def told(self) -> dict[str, Any]:
        """The same for a program to read."""
        return {
            "model": self.model,
            "shipped": dict(self.shipped),
            "invented": {each.name: _block(each) for each in self.invented},
            "guesses": [asdict(guess) for guess in self.guesses],
            "sites": len(self.compiled.sites) if self.compiled else 0,
            "numbers": asdict(self.numbers) | {"left": self.numbers.left} if self.numbers else None,
            "text": self.text(),
        }


def suggest(
    model: Model,
    args: Sequence[Any] | Mapping[str, Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    loss: str | None = None,
    outputs: str | int | Sequence[str | int] | None = None,
    fixed: str | Sequence[str] = (),
    limit: float | None = None,
    numbers: bool = False,
) -> Suggestion:
    """Find the gauges of a model: those that ship, and others that its graph suggests, each proved and matched.

    model, args, kwargs, loss, outputs, fixed, limit: as for `gaugec.compile`.  numbers: look in numbers at what the
    gauges do not explain, in a model of 3,000 parameters at most; what is seen there is a guess.

    Raises MatchError for a model that fails, cannot be traced, or is too large to be looked at in numbers, and
    ValueError for a limit that is not positive.
    """
    with limits.each(limit), ordinary():
        given = taken(model, args, kwargs)
        with preserved(given.model):
            given = trainable(given)
            with stage("tracing"):
                traced = trace(given.model, given.args, given.kwargs, loss=loss, outputs=outputs, fixed=fixed)
            if numbers:
                fitting(traced)  # what is too large is refused before the search
            found = _Search(given, traced).run()
            return replace(found, numbers=unexplained(traced, found.compiled)) if numbers else found


@dataclass
class _Search:
    """The search in one model."""

    given: Taken
    traced: Trace
    sites: list[Site] = field(default_factory=list)
    invented: list[Invented] = field(default_factory=list)
    guesses: list[Guess] = field(default_factory=list)
    operators: Operators = field(default_factory=dict)
    turned: list[Finding] = field(default_factory=list)
    scaled: list[Finding] = field(default_factory=list)

    @property
    def still(self) -> frozenset[int]:
        """The parameters that may not move."""
        held = {*self.traced.blocked, *self.traced.frozen}
        return frozenset(id for name, id in self.traced.leaves.items() if name in held)

    def run(self) -> Suggestion:
        gauges = [replace(entry, required=False) for topic in topics() for entry in load(topic).entries]
        self.finder = Finder(self.traced)
        with stage("trying what ships"):
            there = self._that_ship(gauges)
        homes = {e.gauge.name: PurePath(e.gauge.span.file).stem for e in gauges if e.gauge.span is not None}
        shipped = tuple((name, home) for name, home in homes.items() if name in there)
        with stage("inventing"):
            for finding, said in counted(list(self._conjectures())):
                self._try(finding, said)
            self._totals()
        return self._compiled(shipped)

    def _that_ship(self, gauges: Sequence[Entry]) -> set[str]:
        """The names of the gauges that ship and have a site; of those that do not compile together the first."""
        found = []
        for entry, theorem in counted(list(zip(gauges, accepted(_of(gauges)).theorems))):
            sites, _ = self.finder.sites(entry, theorem)
            found += [(entry, sites)] if sites else []
        taken = [entry for entry, _ in found]
        if self._crossing([site for _, sites in found for site in sites]):
            taken, together = [], list[Site]()
            for entry, sites in found:
                if why := self._crossing([*together, *sites]):
                    self.guesses.append(Guess((), entry.gauge.name, f"a compiler: {why}"))
                else:
                    taken, together = [*taken, entry], [*together, *sites]
        self.sites = list(self._alone(taken).sites) if taken else []
        return {site.gauge for site in self.sites}

    def _crossing(self, sites: Sequence[Site]) -> str:
        """Why sites cannot be stepped with together, "" where they can."""
        shapes = self.traced.shapes
        kept = distinct(largest(sites), shapes)
        try:
            plan(kept, derive(kept), shapes)
        except GaugeError as error:
            return first_line(error)
        return ""

    def _alone(self, entries: Sequence[Entry]) -> CompiledGauge:
        """Some gauges without a file, compiled.

        Raises:
            GaugeError: they are not.
        """
        spec = _of(entries)
        return build(spec, NAME, accepted(spec), self.traced, self.given)

    def _conjectures(self) -> Iterator[Conjecture]:
        """What the graph suggests, and what puts it into words."""
        graph, still = self.traced.graph, self.still
        plain = partial(formula, graph, operators=self.operators)
        for turned in turns(graph, still):  # a turn by any matrix has the scales in it
            self.turned += [] if turned.charts else [turned.finding]
            yield turned.finding, _in_a_chart if turned.charts else plain
        self.scaled = scales(graph, still)
        for finding in self.scaled:
            yield finding, plain
        for shift in shifts(graph, still):
            yield shift.finding, partial(shifted, graph, shift)

    def _try(self, finding: Finding, said: Said) -> None:
        """Puts a finding into words and has them judged, if no site says the same."""
        if covered(finding, self.traced, self.sites) or self._crossed(finding):
            return
        missed: list[Guess] = []
        for group in (finding.group, *_smaller(finding.group)):
            tried = replace(finding, group=group)
            if missed and covered(tried, self.traced, self.sites):
                break
            lacks, text = self._judged(tried, said)
            if not lacks:
                break
            missed.append(Guess(self._names(finding), f"{group}({finding.size})", lacks, text))
        self.guesses += missed[:1]

    def _crossed(self, finding: Finding) -> bool:
        """Is it a scale of an axis that a compiled gauge turns?  They would not compile together."""
        if GROUPS[finding.group].kind != "scale":
            return False
        wider = [turn for turn in self.turned if finding.bound.keys() <= turn.bound.keys()]
        turning = (replace(turn, group=group) for turn in wider for group in _smaller(turn.group))
        return any(covered(each, self.traced, self.sites) for each in turning)

    def _totals(self) -> None:
        """Scales by one number, beyond those that were found for every unit: the language has no group so small."""
        leaves = self.traced.leaves
        known = [{leaf: moved.exponent for leaf, moved in scale.bound.items()} for scale in self.scaled]
        for turn in self.turned:
            if not GROUPS[turn.group].compact:
                known.append({leaf: Fraction(-1 if moved.dual else 1) for leaf, moved in turn.bound.items()})
        for site in self.sites:
            if GROUPS[site.group].kind == "scale":
                known.append({leaves[b.parameter]: b.move.exponent for b in site.bindings})
        names = {leaf: name for name, leaf in leaves.items()}
        for vector in totals(self.traced.graph, self.still, known):
            powers = ", ".join(f"c**{show_number(c)}" if c != 1 else "c" for _, c in sorted(vector.items()))
            lacks = f"words: one number c scales them, by {powers}, and there is no group of one number"
            self.guesses.append(Guess(tuple(names[leaf] for leaf in sorted(vector)), "a positive number", lacks))

    def _judged(self, finding: Finding, said: Said) -> tuple[str, str]:
        """What a finding lacks to be a gauge of the spec, "" where it is one; and its text."""
        try:
            text = said(finding)
        except Unsaid as unsaid:
            return f"words: {unsaid}", ""
        name = self._name(finding)
        invented = Invented(name, text, self._names(finding), f"{finding.group}({finding.size})")
        block = _block(invented)
        guess = _nameless(invented)
        try:
            (gauge,) = check(parse(block, f"{name}{SUFFIX}")).gauges
        except GaugeError as error:
            return f"words: {first_line(error)}", guess
        entry = Entry(gauge, required=False)
        verification = accepted(_of([entry]))
        (theorem,) = verification.theorems
        if not verification.ok:
            return f"a proof: it is {theorem.verdict}{': ' if theorem.reason else ''}{theorem.reason}", guess
        if missing := unmatched(gauge, theorem):
            return f"a compiler: it is proved, but {missing}", guess
        sites, refusals = self.finder.sites(entry, theorem)
        if not covered(finding, self.traced, sites):
            near = (refusal for refusal in refusals if {*refusal.parameters} & {*invented.where})
            return f"a site: it is proved, but {next(map(str, near), 'the matcher does not come to it')}", guess
        try:
            self._alone((entry,))
        except GaugeError as error:
            return f"a compiler: it is proved, but {first_line(error)}", guess
        self.sites += sites
        self.invented.append(invented)
        return "", ""

    def _name(self, finding: Finding) -> str:
        word = _WORDS[GROUPS[finding.group].kind]
        return f"{word}_{sum(each.name.startswith(word) for each in self.invented) + 1}"

    def _names(self, finding: Finding) -> tuple[str, ...]:
        leaves = {leaf: name for name, leaf in self.traced.leaves.items()}
        return tuple(printable(leaves[leaf]).replace('"', "'") for leaf in finding.bound)

    def _compiled(self, shipped: Sequence[Used]) -> Suggestion:
        """The suggested spec, compiled; of inventions that do not go together the first are taken."""
        with stage("compiling what is suggested"):
            try:
                return self._built(shipped, self.invented)
            except GaugeError:
                made, taken = None, list[Invented]()
            for each in counted(self.invented):
                try:
                    made = self._built(shipped, [*taken, each])
                    taken.append(each)
                except GaugeError as error:
                    lacks = f"a compiler: {first_line(error)}"
                    self.guesses.append(Guess(each.where, each.group, lacks, _nameless(each)))
            return made or self._built(shipped, taken)

    def _built(self, shipped: Sequence[Used], invented: Sequence[Invented]) -> Suggestion:
        """The suggestion with these gauges, read from a file as any spec is; what has no site in it is left out.

        Raises:
            GaugeError: they do not compile together.
        """
        model = type(self.given.model).__name__
        while shipped or invented:
            with TemporaryDirectory() as folder:
                path = Path(folder) / f"{NAME}{SUFFIX}"
                path.write_text(_spec(NAME, model, shipped, invented), encoding="utf-8")
                loaded = load(path)
            compiled = build(loaded, path.name, accepted(loaded), self.traced, self.given)
            there = {site.gauge for site in compiled.sites}
            if there == {entry.gauge.name for entry in loaded.entries}:
                return Suggestion(model, tuple(shipped), tuple(invented), tuple(self.guesses), compiled)
            shipped = [(name, home) for name, home in shipped if name in there]
            invented = [each for each in invented if each.name in there]
        return Suggestion(model, (), (), tuple(self.guesses), None)


def _of(entries: Sequence[Entry]) -> Spec:
    """A spec of gauges that stand in no one file."""
    return Spec(NAME, "", tuple(entries), "")


def _in_a_chart(finding: Finding) -> GaugeText:
    raise Unsaid("gains stand between the writers and the readers, so that it turns in a chart")


def _smaller(group: str) -> Iterator[str]:
    """The subgroups that may be tried in a group's place; not those of rotary pairs, which nothing here suggests."""
    if GROUPS[group].kind == "rotate":
        yield from (name for name in GROUPS[group].subgroups if not GROUPS[name].paired)


def _block(*invented: Invented) -> str:
    """The text of gauges, with every `op` line that they call once."""
    operators = dict.fromkeys(line for each in invented for line in each.text.operators)
    return "\n".join([*operators, *(each.text.under(each.name, _doc(each)) for each in invented)])


def _nameless(invented: Invented) -> str:
    """The text of what is no gauge of the spec: of findings that are alike one text."""
    return _block(replace(invented, name="guess", where=()))


def _doc(invented: Invented) -> str:
    return f"Found at {', '.join(invented.where)}." if invented.where else "Not a gauge of this spec."


def _spec(name: str, model: str, shipped: Sequence[Used], invented: Sequence[Invented]) -> str:
    homes: dict[str, list[str]] = {}
    for gauge, home in shipped:
        homes.setdefault(home, []).append(gauge)
    lines = [f"architecture {name}:", f'    "The gauges of {printable(model)}."']
    lines += [f"    use {', '.join(gauges)} from {home}" for home, gauges in homes.items()]
    lines += [f"    use {', '.join(each.name for each in invented)}"] if invented else []
    return "\n".join(["\n".join(lines) + "\n", _block(*invented)] if invented else [*lines, ""])


def _seen(numbers: Looked) -> str:
    """What was seen in numbers, as comments."""
    lines = [
        f"in numbers: {numbers.dead} directions are dead, the gauges explain {numbers.explained}"
        + ("" if numbers.clear else "; NO CLEAR GAP, so that the count is in doubt")
    ]
    for each in numbers.relations:
        lines += [f"guess: {', '.join(each.parameters)}, {each.dimension} directions: {each.words}"]
    if numbers.relations:
        lines += ["  lacks a proof: it was seen at one random point"]
    lines += [f"{numbers.left} more are of three parameters or more at once"] if numbers.left else []
    return "".join(f"# {printable(line)}\n" for line in lines)


def _comment(guesses: Sequence[Guess]) -> str:
    """Guesses that are alike, as comments."""
    guess = guesses[0]
    what = [*(f"{', '.join(fold(each.where))} by " if each.where else "" for each in guesses)]
    lines = [f"guess: {where}{each.group}" for where, each in zip(what, guesses, strict=True)]
    lines += [f"  lacks {guess.lacks}", *(f"  {line}" for line in guess.text.splitlines())]
    return "\n".join(f"# {printable(line)}".rstrip() for line in lines) + "\n"
