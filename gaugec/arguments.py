"""What a person may type behind a `gaugec` command: specs, models, times, files, and how much is said.

An argument that names nothing is misuse, and said before any work begins.  What this module does not do: the work.
"""

from __future__ import annotations

import functools
import importlib
import math
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import click

import gaugec
from gaugec.screen import complain

F = TypeVar("F", bound=Callable[..., Any])


class SpecName(click.ParamType[str]):
    """A shipped spec's name or the path of a `.gauge` file; naming one that does not exist is misuse."""

    name = "spec"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return `value` when it names a spec that exists."""
        if value not in named() and not Path(value).is_file():
            try:
                gaugec.load(value)
            except gaugec.SpecError as error:
                self.fail(f"{error.message}; {error.help}", param, ctx)
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        """Offer the shipped names."""
        return [click.shell_completion.CompletionItem(name) for name in named() if name.startswith(incomplete)]


class Seconds(click.ParamType[float]):
    """A time limit: a positive number."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return `value` as a number of seconds."""
        try:
            seconds = float(value)
        except ValueError:
            self.fail(f"{value!r} is not a number of seconds.", param, ctx)
        if not seconds > 0 or math.isinf(seconds):
            self.fail(f"{value} is not a positive number of seconds.", param, ctx)
        return seconds


class FilePath(click.Path):
    """A path to a file; one that no file system can have is misuse, not a traceback."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return `value` as click.Path does."""
        try:
            return super().convert(value, param, ctx)
        except ValueError as error:
            self.fail(f"{value!r} is no path: {error}", param, ctx)


class NewSpec(click.ParamType[str]):
    """The name of a spec that is to be written; one that it cannot have is misuse."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return `value` where a spec can be called so."""
        if why := importlib.import_module("gaugec.language").unfit(value):
            self.fail(why, param, ctx)
        return str(value)


class NewSpecFile(FilePath):
    """The path of a spec that is to be written, called by the stem of the file; "-" is stdout."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return `value` where a spec in that file can have its name."""
        path = super().convert(value, param, ctx)
        if path != "-":
            NewSpec().convert(Path(path).stem, param, ctx)
        return path


def named() -> tuple[str, ...]:
    """Return the names that need no path: "auto", and the specs inside the package, sorted."""
    language = importlib.import_module("gaugec.language")
    return (language.AUTO, *language.shipped())


def saying(note: str = "") -> Callable[[F], F]:
    """The options of what a caller says of a model: --loss, --outputs, --fixed; commas stand between names.

    The command gets them as `said`, by the names that `gaugec.compile` has.  note: a help for all three.
    """
    options = (
        click.option("--loss", type=click.Choice(["cross_entropy"]),
                     help=note or "What the model's output 0 reaches, and it alone."),
        click.option("--outputs", metavar="NAME,...",
                     help=note or "Which outputs count in training; the others need not be kept."),
        click.option("--fixed", metavar="SIZE,...",
                     help=note or "Sizes that no input changes: all, an input, NAME:AXIS; x:0=y:0."),
    )  # fmt: skip

    def decorate(command: F) -> F:
        @functools.wraps(command)
        def with_words(*args: Any, loss: str | None, outputs: str | None, fixed: str | None, **more: Any) -> Any:
            words = {"loss": loss, "outputs": _listed(outputs), "fixed": _listed(fixed) or ()}
            return command(*args, said=words, **more)

        made: Any = with_words
        for option in reversed(options):
            made = option(made)
        return cast(F, made)

    return decorate


def _listed(names: str | None) -> list[str] | None:
    return [name.strip() for name in names.split(",")] if names is not None else None


def made_by(name: str, *, debug: bool = False) -> Any:
    """What the factory gives that MODEL names; a click.UsageError says what is wrong with it."""
    guest = importlib.import_module("gaugec.model.guest")  # torch, which `verify` does without
    try:
        return guest.made_by(name)
    except guest.FactoryError as error:
        if debug and error.__cause__ is not None:
            complain("".join(traceback.format_exception(error.__cause__)).rstrip())
        raise click.UsageError(error.message) from None


class Target:
    """A file that a command will write, looked at before the work: "-" is stdout, None is nowhere.

    What is there already is replaced only where it is what `ours` knows, or by force.
    """

    def __init__(self, path: str | None, force: bool, ours: Callable[[str], bool]) -> None:
        self.path = path
        if path in (None, "-"):
            return
        assert path is not None
        where = Path(path)
        try:
            folder = where.parent.is_dir()
            there = where.exists()
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            raise click.UsageError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}") from None
        if not folder:
            raise click.UsageError(f"cannot write {path}: there is no folder {where.parent}")
        if where.is_dir():
            raise click.UsageError(f"cannot write {path}: it is a folder")
        if not os.access(where if there else where.parent, os.W_OK):
            raise click.UsageError(f"cannot write {path}: permission denied")
        if there and not force and where.is_file() and not ours(path):
            raise click.UsageError(f"{path} is there already, and not of gaugec's making: --force replaces it")

    def write(self, text: str) -> None:
        """Write the text; a click.UsageError says why that cannot be done."""
        if self.path == "-":
            click.echo(text, nl=False)
        else:
            self.write_by(lambda path: path.write_text(text, encoding="utf-8"))

    def write_by(self, function: Callable[[Path], object]) -> None:
        """Have the file written by a function of its path, where there is one; a click.UsageError as for `write`."""
        if self.path is not None:
            try:
                function(Path(self.path))
            except OSError as error:
                raise click.UsageError(f"cannot write {self.path}: {error.strerror or error}") from None


def starts_with(*beginnings: str) -> Callable[[str], bool]:
    """What knows a file by how its text begins."""

    def known(path: str) -> bool:
        with open(path, "rb") as stream:
            return stream.read(200).startswith(tuple(text.encode() for text in beginnings))

    return known


def telling(command: F) -> F:
    """The options of how much a command says: -q, -v, --json."""
    command = click.option("--json", "as_json", is_flag=True, help="Say it as JSON, on stdout.")(command)
    command = click.option("-v", "--verbose", is_flag=True, help="Say all that is known, and the time of each stage.")(
        command
    )
    return click.option("-q", "--quiet", is_flag=True, help="Say nothing but what is wrong.")(command)
