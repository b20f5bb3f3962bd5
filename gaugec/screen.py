"""What the command line and the demo show a person: verifications, sites, a spinner.

Plain lines in a pipe and under NO_COLOR; colour and a spinner on a terminal. Nothing is computed here, only shown.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from gaugec.progress import Progress, heard
from gaugec.runtime.report import overview

_STYLES = {"proved": "green", "approximate": "yellow", "refused": "red"}
_LOUD = {"refused": "yellow", "no site": "dim"}
_FOUND = {"ok": "green", "differs": "red", "not done": "yellow"}


def console(*, stderr: bool = False) -> Console:
    """Return a console that neither wraps nor colours what it does not understand."""
    # rich would still send the escape codes of bold and dim, and of the cursor
    return Console(
        highlight=False,
        soft_wrap=True,
        file=sys.stderr if stderr else sys.stdout,  # as it is now: what a model prints is kept away from both later
        color_system=None if _plain() else "auto",
        force_terminal=False if _plain() else None,
    )


def _plain() -> bool:
    return bool(os.environ.get("NO_COLOR"))


def complain(message: str) -> None:
    """Print a message on stderr."""
    console(stderr=True).print(Text(message))


class _Line:
    """What the work is at, how long it has been at it, and how long in all; drawn anew at every look."""

    def __init__(self, what: str, progress: Progress) -> None:
        self.what, self.progress = what, progress

    def __rich__(self) -> Text:
        now = f": {self.progress.now}" if self.progress.now else ""
        return Text(f"{self.what}{now}  {self.progress.elapsed:.0f} s of {self.progress.total:.0f} s")


@contextmanager
def working(what: str, quiet: bool = False) -> Iterator[Progress]:
    """Show on a terminal what the work is at while it takes its time; nothing in a pipe."""
    screen, progress = console(stderr=True), Progress()
    with heard(progress), ExitStack() as stack:
        if screen.is_terminal and not quiet:
            spinner = Spinner("dots", _Line(what, progress))
            stack.enter_context(Live(spinner, console=screen, refresh_per_second=8, transient=True))
        yield progress


def show_stages(out: Console, progress: Progress) -> None:
    """Print how long each stage took."""
    width = max(map(len, progress.seconds), default=0)
    for name, seconds in progress.seconds.items():
        out.print(Text(f"  {name.ljust(width)}  {seconds:5.1f} s", "dim"))


def count(number: int, noun: str) -> str:
    """`1 site`, `2 sites`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def indent(lines: Iterable[str], by: int) -> str:
    """Join `lines`, each of which may hold several, with `by` spaces before every one."""
    return "\n".join(" " * by + line for text in lines for line in str(text).splitlines())


def show_verification(out: Console, name: str, result: Any, seconds: float, explain: bool = False) -> None:
    """Print one line a theorem with its verdict, under it why and on what conditions; `explain` adds the steps."""
    theorems = tuple(result.theorems)
    width = max((len(theorem.verdict) for theorem in theorems), default=0)
    out.print(Text(name, "bold"))
    for operator, found in result.operators:
        out.print(Text(f"  op {operator}: {'; '.join(found)}", "dim"))
    for theorem, unmatched in zip(theorems, result.unmatched, strict=True):
        verdict = (theorem.verdict.ljust(width), _STYLES.get(theorem.verdict, "bold"))
        out.print(Text.assemble("  ", verdict, "  ", theorem.name, (f"  {theorem.seconds:.2f} s", "dim")))
        details = [f"not matched yet: {unmatched}"] if unmatched else []
        details += _details(theorem, explain)
        if details:
            out.print(Text(indent(details, width + 4), "dim"))
    proved = sum(theorem.verdict == "proved" for theorem in theorems)
    out.print(f"{proved} of {count(len(theorems), 'gauge')} proved, {seconds:.1f} s")


def _details(theorem: Any, explain: bool) -> Iterator[str]:
    """What stands under a theorem's line, only where there is something to say."""
    if theorem.verdict != "proved" and theorem.reason:
        yield theorem.reason
    yield from theorem.evidence
    if theorem.conditions:
        yield "if " + "; ".join(str(condition) for condition in theorem.conditions)
    if explain:
        yield from map(str, theorem.steps)
        if theorem.sampled:
            yield f"sampled with exact numbers, {theorem.sampled} times"


def show_spec(out: Console, text: str) -> None:
    """Print a spec to the letter, in colour on a terminal."""
    if out.is_terminal and out.color_system:
        lexer = importlib.import_module("gaugec.lexer").GaugeLexer(stripnl=False)
        syntax = importlib.import_module("rich.syntax").Syntax("", lexer, theme="ansi_dark", background_color="default")
        out.print(syntax.highlight(text), end="")  # not the Syntax, which crops and fills lines to the terminal's width
    else:
        out.file.write(text)


def show_recheck(out: Console, result: Any) -> None:
    """Print one line a check: ok, what differs first, or why it was not made; then what else should be known."""
    out.print(Text(result.path, "bold"))
    for check in result.checks:
        verdict = (check.verdict.ljust(8), _FOUND.get(check.verdict, "bold"))
        out.print(Text.assemble("  ", verdict, "  ", check.name.ljust(7), "  ", check.says))
    for note in result.notes:
        out.print(Text("  " + note, "dim"))
    failed = [check.name for check in result.checks if check.verdict != "ok"]
    out.print("all that was checked holds" if result.ok else f"does not hold: {', '.join(failed)}")


def show_sites(out: Console, certificate: Mapping[str, Any]) -> None:
    """Print one line a gauge with its sites, then what was refused."""
    for line in overview(certificate):
        out.print(Text(line, _LOUD.get(line.strip().partition(":")[0], "")))
