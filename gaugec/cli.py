"""The `gaugec` command: list, verify, compile, report, demo.

Exit codes: 0 done, 1 refused (a wrong spec, a failed proof, a model where a declared gauge has no site), 2 misused
(no such spec, a factory that fails, a file that cannot be written), 130 interrupted. Results go to stdout, errors to
stderr, and neither is ever a traceback. The work is done by `gaugec.pipeline`; here is only what a person types and
reads. Not here: progress or colour in a pipe.
"""

from __future__ import annotations

import errno
import importlib
import io
import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.text import Text

import gaugec
from gaugec.errors import first_line, printable
from gaugec.runtime.report import proved_once
from gaugec.runtime.report import report as in_words
from gaugec.screen import console, show_recheck, show_sites, show_verification, working

REFUSED = 1
MISUSED = 2
INTERRUPTED = 130


@contextmanager
def _refusals() -> Iterator[None]:
    """Turn a GaugeError into what it draws on stderr and exit code 1."""
    try:
        yield
    except gaugec.GaugeError as error:
        _complain(str(error))
        sys.exit(REFUSED)


class _Commands(click.Group):
    """The commands, with one plain line and an exit code where Python would show a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was asked for."""
        for stream in (sys.stdout, sys.stderr):  # a path or a spec may hold what the terminal's encoding lacks
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            _complain("gaugec: interrupted")
            sys.exit(INTERRUPTED)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise  # click's own affair
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise  # which click knows too
            _complain(f"gaugec: {error.strerror or error}")
            _discard(sys.stdout)
            sys.exit(MISUSED)
        except Exception as error:
            _complain(
                f"gaugec: {type(error).__name__}: {first_line(error)}\n"
                "This is a defect of gaugec: please report it, with the input. From Python it shows where."
            )
            sys.exit(MISUSED)


def _discard(stream: Any) -> None:
    """What is still to be written goes nowhere: Python would try again when it ends, and say that it cannot."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except (OSError, ValueError):  # a stream without a file
        pass


def _complain(message: str) -> None:
    console(stderr=True).print(Text(message))


# --- arguments


class SpecName(click.ParamType[str]):
    """A shipped spec's name or the path of a `.gauge` file; naming one that does not exist is misuse."""

    name = "spec"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return `value` when it names a spec that exists."""
        if value not in shipped() and not Path(value).is_file():
            try:
                gaugec.load(value)
            except gaugec.SpecError as error:
                self.fail(f"{error.message}; {error.help}", param, ctx)
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        """Offer the shipped names."""
        return [click.shell_completion.CompletionItem(name) for name in shipped() if name.startswith(incomplete)]


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


def shipped() -> tuple[str, ...]:
    """Return the names of the specs inside the package, sorted."""
    names: tuple[str, ...] = importlib.import_module("gaugec.language").shipped()
    return names


def _made_by(name: str) -> Any:
    """What the factory gives that MODEL names; a click.UsageError says what is wrong with it."""
    guest = importlib.import_module("gaugec.model.guest")  # torch, which `verify` does without
    try:
        return guest.made_by(name)
    except guest.FactoryError as error:
        raise click.UsageError(error.message) from None


# --- commands


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(gaugec.__version__, prog_name="gaugec", message="%(prog)s %(version)s")
def main() -> None:
    """Turn declared parameter symmetries into proved, gauge-equivariant optimizers."""


@main.command("list")
def list_() -> None:
    """Show the specs that the package ships."""
    out = console()
    with _refusals():
        specs = [gaugec.load(name) for name in shipped()]
    width = max(len(spec.name) for spec in specs)
    for spec in specs:
        gauges = ", ".join(entry.gauge.name for entry in spec.entries)
        out.print(Text.assemble((spec.name.ljust(width), "bold"), "  ", spec.doc or gauges))
        if spec.doc:
            out.print(Text(" " * (width + 2) + gauges, "dim"))


@main.command()
@click.argument("specs", metavar="SPEC...", nargs=-1, required=True, type=SpecName())
@click.option("--explain", is_flag=True, help="Show the steps of every proof.")
@click.option("--limit", type=Seconds(), default=20.0, show_default=True, help="Seconds that one proof may take.")
def verify(specs: tuple[str, ...], explain: bool, limit: float) -> None:
    """Prove every gauge of the specs; no model is needed. Exits with 1 when one is refused, or not decided in time."""
    failed = False
    for name in specs:
        try:
            with working(f"proving {name}"):
                start = time.perf_counter()
                result = gaugec.verify(name, limit=limit)
                seconds = time.perf_counter() - start
        except gaugec.GaugeError as error:
            _complain(str(error))
            failed = True
            continue
        show_verification(console(), name, result, seconds, explain)
        failed = failed or not result.ok
    sys.exit(REFUSED if failed else 0)


@main.command("compile")
@click.argument("spec", type=SpecName())
@click.argument("model")
@click.option("-o", "--output", required=True, type=FilePath(dir_okay=False), help="The PyTorch module to write.")
@click.option("--explain", is_flag=True, help="Show every site, proof, refusal, and way.")
@click.option("--loss", type=click.Choice(["cross_entropy"]), help="What the model's output 0 reaches, and it alone.")
@click.option("--limit", type=Seconds(), default=20.0, show_default=True, help="Seconds that one proof may take.")
@click.option("--twin", metavar="MODEL", help="A small model of the same structure, to be looked at in numbers.")
def compile_(
    spec: str, model: str, output: str, explain: bool, loss: str | None, limit: float, twin: str | None
) -> None:
    """Find the SPEC's gauges in MODEL and write the PyTorch module of frames and projectors.

    MODEL is package.module:factory; the factory returns (model, args) or (model, args, kwargs), the example inputs that
    the model is traced with. The model may live on the meta device.
    """
    with _refusals(), working(f"compiling {spec}"):
        work = _made_by(model)
        start = time.perf_counter()
        small = tuple(_made_by(twin)) if twin else None
        compiled = gaugec.compile(spec, *work, loss=loss, limit=limit, twin=small)
        seconds = time.perf_counter() - start
    out = console()
    try:
        compiled.save(output)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        _complain(f"gaugec: cannot write {output}: {getattr(error, 'strerror', None) or error}")
        sys.exit(MISUSED)
    if explain:
        out.print(Text(compiled.report(explain=True)))
    else:
        show_sites(out, compiled.metadata)
    counts = proved_once(len(compiled.sites), len(compiled.metadata["structures"]))
    out.print(f"{output}: {counts}, {seconds:.1f} s")


@main.command()
@click.argument("file", metavar="FILE.py", type=FilePath(exists=True, dir_okay=False))
@click.argument("model", required=False)
@click.option("--explain", is_flag=True, help="Show every site, and the steps of every proof.")
@click.option("--recheck", is_flag=True, help="Check the file again: its text, its spec, the proofs; with MODEL, all.")
@click.option("--spec", type=SpecName(), help="Where the spec is; one that ships is found.")
@click.option("--loss", type=click.Choice(["cross_entropy"]), help="As for compile; the file is not believed.")
@click.option("--limit", type=Seconds(), help="Seconds that one proof may take, 20 unless given.")
@click.option("--twin", metavar="MODEL", help="As for compile, where the file was compiled with one.")
def report(
    file: str,
    model: str | None,
    explain: bool,
    recheck: bool,
    spec: str | None,
    loss: str | None,
    limit: float | None,
    twin: str | None,
) -> None:
    """Say what a compiled file holds, without running it.

    With --recheck nothing that it says is believed: the spec is proved again, and, where MODEL (package.module:factory)
    is given, traced, matched and compiled again; exits with 1 when anything differs.
    """
    if (model or spec or loss or limit) and not recheck:
        raise click.UsageError("MODEL, --spec, --loss and --limit are for --recheck.")
    if (loss or twin) and not model:
        raise click.UsageError("--loss and --twin are for a MODEL." if twin else "--loss is for a MODEL.")
    if explain and recheck:
        raise click.UsageError("--explain is for what the file says, not for --recheck.")
    try:
        compiled = importlib.import_module("gaugec.certificate.read").read(file)
    except gaugec.GaugeError as error:
        _complain(f"gaugec: {error}")
        sys.exit(MISUSED)
    if not recheck:
        lines = in_words(compiled.metadata, compiled.components, explain=explain).split("\n")
        console().print(Text("\n".join(map(printable, lines))))
        if not compiled.intact:
            _complain(f"gaugec: {file} was changed after it was compiled; what it says may not be what it does")
            sys.exit(REFUSED)
        return
    with _refusals(), working(f"checking {file} again"):
        work = _made_by(model) if model else None
        small = tuple(_made_by(twin)) if twin else None
        result = gaugec.recheck(file, *(work or ()), loss=loss, spec=spec, limit=limit, twin=small)
    show_recheck(console(), result)
    sys.exit(0 if result.ok else REFUSED)


@main.command()
@click.option("--out", default="gaugec-demo", show_default=True, type=click.Path(file_okay=False), help="Results.")
@click.option("--steps", default=300, show_default=True, type=click.IntRange(min=1), help="Training steps of each run.")
@click.option("--seed", default=0, show_default=True, help="Seed of the weights, the batches and the gauge element.")
def demo(out: str, steps: int, seed: int) -> None:
    """Prove, compile and train a small real Llama, from θ and from a random gauge copy gθ."""
    try:
        importlib.import_module("transformers")
        importlib.import_module("matplotlib")
    except ImportError as error:
        _complain(f"gaugec: the demo needs {error.name}: pip install 'gaugec[demo]'")
        sys.exit(MISUSED)
    try:
        Path(out).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _complain(f"gaugec: cannot write to {out}: {error.strerror or error}")
        sys.exit(MISUSED)
    with _refusals():
        importlib.import_module("gaugec.demo.run").run(Path(out), steps=steps, seed=seed)
