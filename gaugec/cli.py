"""The `gaugec` command: list, show, new, verify, compile, report, audit, suggest, canonicalize, distance, demo.

Exit codes: 0 done, 1 refused (a wrong spec, a failed proof, a model where a declared gauge has no site), 2 misused
(no such spec, a factory that fails, a file that cannot be written), 130 interrupted. Results go to stdout, errors to
stderr, and neither is ever a traceback. The work is done by `gaugec.pipeline`; here is only what a person types and
reads. Not here: progress or colour in a pipe.
"""

from __future__ import annotations

import errno
import importlib
import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
from rich.text import Text

import gaugec
from gaugec.arguments import (
    FilePath,
    NewSpec,
    NewSpecFile,
    Seconds,
    SpecName,
    Target,
    made_by,
    named,
    saying,
    starts_with,
    telling,
)
from gaugec.errors import first_line, printable
from gaugec.garbage import seldom_collected
from gaugec.pipeline.page import MARK
from gaugec.runtime.certificate import unfolded
from gaugec.runtime.report import proved_once
from gaugec.runtime.report import report as in_words
from gaugec.runtime.seal import intact
from gaugec.screen import (
    complain,
    console,
    show_recheck,
    show_sites,
    show_spec,
    show_stages,
    show_verification,
    working,
)

REFUSED = 1
MISUSED = 2
INTERRUPTED = 130


@contextmanager
def _refusals() -> Iterator[None]:
    """Turn a GaugeError into what it draws on stderr and exit code 1."""
    try:
        yield
    except gaugec.GaugeError as error:
        complain(str(error))
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
            complain("gaugec: interrupted")
            sys.exit(INTERRUPTED)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise  # click's own affair
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise  # which click knows too
            complain(f"gaugec: {error.strerror or error}")
            _discard(sys.stdout)
            sys.exit(MISUSED)
        except Exception as error:
            complain(
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


# --- commands


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(gaugec.__version__, prog_name="gaugec", message="%(prog)s %(version)s")
@click.pass_context
def main(context: click.Context) -> None:
    """Turn declared parameter symmetries into proved, gauge-equivariant optimizers."""
    context.with_resource(seldom_collected())  # from before torch is imported


@main.command("list")
def list_() -> None:
    """Show the specs that the package ships."""
    out = console()
    with _refusals():
        specs = [gaugec.load(name) for name in named()]
    width = max(len(spec.name) for spec in specs)
    for spec in specs:
        gauges = ", ".join(entry.gauge.name for entry in spec.entries)
        out.print(Text.assemble((spec.name.ljust(width), "bold"), "  ", spec.doc or gauges))
        if spec.doc:
            out.print(Text(" " * (width + 2) + gauges, "dim"))


@main.command()
@click.argument("name")
def show(name: str) -> None:
    """Show the text of a spec that ships: the gauges of a topic, or an architecture."""
    try:
        text = importlib.import_module("gaugec.language").shipped_text(name)
    except gaugec.SpecError as error:
        raise click.UsageError(f"{error.message}; {error.help}") from None
    show_spec(console(), text)


@main.command()
@click.argument("name", type=NewSpec())
@click.argument("model", required=False)
@saying("As for compile.")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@click.option("--debug", is_flag=True, help="Show the traceback of a factory or a model that fails.")
def new(
    name: str,
    model: str | None,
    said: dict[str, Any],
    force: bool,
    debug: bool,
) -> None:
    """Write NAME.gauge, a commented spec to begin with; with MODEL, of the gauges that ship and that it has."""
    if (any(said.values()) or debug) and not model:
        raise click.UsageError("--loss, --outputs, --fixed and --debug are for a MODEL.")
    language = importlib.import_module("gaugec.language")
    target = Target(f"{name}{language.SUFFIX}", force, lambda path: False)
    if model is None:
        target.write(language.template(name))
    else:
        with _refusals(), working("compiling auto"):
            compiled = gaugec.compile("auto", *made_by(model, debug=debug), **said)
        target.write(language.commented(name, _architecture(compiled, name), model))
    console().print(Text(f"{target.path} is written: gaugec verify {target.path}"))


def _architecture(compiled: Any, name: str) -> str:
    """The architecture file of what was compiled; where no gauge has a site there is none, and that is a refusal."""
    try:
        return str(compiled.architecture(name))
    except ValueError as error:
        complain(f"gaugec: {error}")
        sys.exit(REFUSED)


@main.command()
@click.argument("specs", metavar="SPEC...", nargs=-1, required=True, type=SpecName())
@click.option("--explain", is_flag=True, help="Show the steps of every proof.")
@click.option("--limit", type=Seconds(), default=20.0, show_default=True, help="Seconds that one proof may take.")
@telling
def verify(
    specs: tuple[str, ...], explain: bool, limit: float, quiet: bool, verbose: bool, as_json: bool
) -> None:
    """Prove every gauge of the specs; no model is needed. Exits with 1 when one is refused, or not decided in time."""
    failed = False
    told: list[Any] = []
    for name in specs:
        try:
            with working(f"proving {name}", quiet) as progress:
                result = gaugec.verify(name, limit=limit)
        except gaugec.GaugeError as error:
            complain(str(error))
            failed = True
            continue
        if as_json:
            told.append(_proofs(name, result))
        elif not quiet or not result.ok:
            show_verification(console(), name, result, progress.total, explain or verbose)
        failed = failed or not result.ok
    if as_json:
        _print_json(told)
    sys.exit(REFUSED if failed else 0)


def _proofs(name: str, result: Any) -> dict[str, Any]:
    """The theorems of one spec, for a program to read."""
    fields = ("name", "verdict", "reason", "conditions", "steps", "seconds")
    gauges = [
        {**{f: getattr(t, f) for f in fields}, "unmatched": why} for t, why in zip(result.theorems, result.unmatched)
    ]
    return {"spec": name, "ok": result.ok, "gauges": gauges}


def _print_json(what: Any) -> None:
    click.echo(json.dumps(what, indent=2, default=str))


@main.command("compile")
@click.argument("spec", type=SpecName())
@click.argument("model")
@click.option("-o", "--output", type=FilePath(dir_okay=False), help="The PyTorch module to write; - is stdout.")
@click.option("--spec", "architecture", type=NewSpecFile(dir_okay=False), help="The architecture file to write of it.")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@click.option("--explain", is_flag=True, help="Show every site, proof, refusal, and way.")
@saying()
@click.option("--limit", type=Seconds(), default=20.0, show_default=True, help="Seconds that one proof may take.")
@click.option("--twin", metavar="MODEL", help="A small model of the same structure, to be looked at in numbers.")
@click.option("--debug", is_flag=True, help="Show the traceback of a factory or a model that fails.")
@telling
def compile_(
    spec: str,
    model: str,
    output: str | None,
    architecture: str | None,
    force: bool,
    explain: bool,
    said: dict[str, Any],
    limit: float,
    twin: str | None,
    debug: bool,
    quiet: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    """Find the SPEC's gauges in MODEL and write the PyTorch module of frames and projectors.

    SPEC is a name of `gaugec list`, a path, or `auto`: every gauge that ships, wherever it holds. MODEL is
    package.module:factory or file.py:factory; the factory returns (model, args) or (model, args, kwargs), the example
    inputs that the model is traced with. The model may live on the meta device.
    """
    if [output, architecture, "-" if as_json else None].count("-") > 1:
        raise click.UsageError("-o -, --spec - and --json are for stdout: one of them can have it.")
    code = Target(output, force, lambda path: intact(Path(path).read_text(encoding="utf-8", errors="replace")))
    text = Target(architecture, force, lambda path: False)
    with _refusals(), working(f"compiling {spec}", quiet) as progress:
        work = made_by(model, debug=debug)
        small = tuple(made_by(twin, debug=debug)) if twin else None
        compiled = gaugec.compile(spec, *work, **said, limit=limit, twin=small)
    if architecture is not None:
        text.write(_architecture(compiled, "found" if architecture == "-" else Path(architecture).stem))
    code.write(compiled.source)
    if as_json:
        _print_json({"file": output, "seconds": progress.seconds, **unfolded(compiled.metadata)})
    if as_json or quiet or "-" in (output, architecture):
        return
    out = console()
    if explain or verbose:
        out.print(Text(compiled.report(explain=explain)))
    else:
        show_sites(out, compiled.metadata)
    if verbose:
        show_stages(out, progress)
    counts = proved_once(len(compiled.sites), len(compiled.metadata["structures"]))
    out.print(f"{output or 'nothing written, as there is no -o'}: {counts}, {progress.total:.1f} s")


@main.command()
@click.argument("spec", type=SpecName())
@click.argument("model")
@click.option("--html", metavar="FILE", type=FilePath(dir_okay=False), help="Write a page that shows it; - is stdout.")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@saying("As for compile.")
@click.option("--twin", metavar="MODEL", help="A small model of the same structure, counted in place of a large one.")
@click.option("--debug", is_flag=True, help="Show the traceback of a factory or a model that fails.")
@telling
def audit(
    spec: str,
    model: str,
    html: str | None,
    force: bool,
    said: dict[str, Any],
    twin: str | None,
    debug: bool,
    quiet: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    """Count the dead directions of a small MODEL, and how many of them the SPEC's gauges explain.

    SPEC and MODEL are as for compile; the model has 10,000 parameters at most, or a --twin that has. Exits with 1 where
    the count is in doubt.
    """
    if html == "-" and as_json:
        raise click.UsageError("--html - and --json are for stdout: one of them can have it.")
    page = Target(html, force, starts_with(MARK))
    with _refusals(), working(f"auditing {spec}", quiet) as progress:
        work = made_by(model, debug=debug)
        small = tuple(made_by(twin, debug=debug)) if twin else None
        found = gaugec.audit(spec, *work, **said, twin=small)
    if html is not None:
        page.write(found.html())
    if as_json:
        _print_json({"file": html, **asdict(replace(found, certificate={}))})
    elif not quiet and html != "-":
        console().print(Text("\n".join(map(printable, found.text().split("\n")))))
        if html:
            console().print(Text(f"{html} is written"))
        if verbose:
            show_stages(console(), progress)
    sys.exit(0 if found.clear else REFUSED)


@main.command()
@click.argument("model")
@click.option("-o", "--output", type=NewSpecFile(dir_okay=False), help="The spec file to write; stdout by default.")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@click.option("--numbers", is_flag=True, help="Look in numbers at what is left, in a small model.")
@saying("As for compile.")
@click.option("--limit", type=Seconds(), default=20.0, show_default=True, help="Seconds that one proof may take.")
@click.option("--debug", is_flag=True, help="Show the traceback of a factory or a model that fails.")
@telling
def suggest(
    model: str,
    output: str | None,
    force: bool,
    numbers: bool,
    said: dict[str, Any],
    limit: float,
    debug: bool,
    quiet: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    """Write a spec for MODEL: the gauges that ship and that it has, and others that its graph suggests.

    MODEL is as for compile. Every gauge of the spec is proved and has a site; what is not proved, or not followed, is
    a comment that says what it lacks. Exits with 1 where there is no gauge to suggest.
    """
    if output == "-" and as_json:
        raise click.UsageError("-o - and --json are for stdout: one of them can have it.")
    target = Target(output or (None if as_json or quiet else "-"), force, lambda path: False)
    with _refusals(), working("suggesting", quiet) as progress:
        found = gaugec.suggest(*made_by(model, debug=debug), **said, limit=limit, numbers=numbers)
    target.write(found.text("suggested" if output in (None, "-") else Path(output or "").stem))
    if as_json:
        _print_json(found.told() | {"file": output})
    elif output not in (None, "-") and not quiet:
        console().print(Text(f"{output} is written: {found.summary()}"))
    if verbose and not as_json:
        show_stages(console(stderr=target.path == "-"), progress)
    sys.exit(0 if found.compiled is not None else REFUSED)


@main.command()
@click.argument("file", metavar="FILE.py", type=FilePath(exists=True, dir_okay=False))
@click.argument("model", required=False)
@click.option("--explain", is_flag=True, help="Show every site, and the steps of every proof.")
@click.option("--recheck", is_flag=True, help="Check the file again: its text, its spec, the proofs; with MODEL, all.")
@click.option("--spec", type=SpecName(), help="Where the spec is; one that ships is found.")
@saying("As for compile; the file is not believed.")
@click.option("--limit", type=Seconds(), help="Seconds that one proof may take, 20 unless given.")
@click.option("--twin", metavar="MODEL", help="As for compile, where the file was compiled with one.")
@telling
def report(
    file: str,
    model: str | None,
    explain: bool,
    recheck: bool,
    spec: str | None,
    said: dict[str, Any],
    limit: float | None,
    twin: str | None,
    quiet: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    """Say what a compiled file holds, without running it.

    With --recheck nothing that it says is believed: the spec is proved again, and, where MODEL (package.module:factory)
    is given, traced, matched and compiled again; exits with 1 when anything differs.
    """
    if (model or spec or any(said.values()) or limit) and not recheck:
        raise click.UsageError("MODEL, --spec, --loss, --outputs, --fixed and --limit are for --recheck.")
    if (any(said.values()) or twin) and not model:
        raise click.UsageError("--loss, --outputs, --fixed and --twin are for a MODEL.")
    if explain and recheck:
        raise click.UsageError("--explain is for what the file says, not for --recheck.")
    try:
        compiled = importlib.import_module("gaugec.certificate.read").read(file)
    except gaugec.GaugeError as error:
        complain(f"gaugec: {error}")
        sys.exit(MISUSED)
    if not recheck:
        if as_json:
            _print_json({"intact": compiled.intact, **unfolded(compiled.metadata)})
        elif not quiet:
            lines = in_words(compiled.metadata, compiled.components, explain=explain or verbose).split("\n")
            console().print(Text("\n".join(map(printable, lines))))
        if not compiled.intact:
            complain(f"gaugec: {file} was changed after it was compiled; what it says may not be what it does")
            sys.exit(REFUSED)
        return
    with _refusals(), working(f"checking {file} again", quiet):
        work = made_by(model) if model else None
        small = tuple(made_by(twin)) if twin else None
        result = gaugec.recheck(file, *(work or ()), **said, spec=spec, limit=limit, twin=small)
    if as_json:
        _print_json({"file": file, "ok": result.ok, "notes": result.notes, "checks": [vars(c) for c in result.checks]})
    elif not quiet or not result.ok:
        show_recheck(console(), result)
    sys.exit(0 if result.ok else REFUSED)


@main.command()
@click.argument("gauge", metavar="GAUGE.py", type=FilePath(exists=True, dir_okay=False))
@click.argument("checkpoint", type=FilePath(exists=True, dir_okay=False))
@click.option("-o", "--output", required=True, type=FilePath(dir_okay=False), help="The checkpoint to write.")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@telling
def canonicalize(
    gauge: str, checkpoint: str, output: str, force: bool, quiet: bool, verbose: bool, as_json: bool
) -> None:
    """Move a checkpoint to the canonical representative of its function.

    GAUGE.py is a compiled gauge, which is run. CHECKPOINT is a state dict of torch.save, a safetensors file, or the
    index of several; what is written has the same form, and is one file where -o names no index. Scales and shifts have
    a canonical form, rotations have none and are left as they are.
    """
    if output == "-":
        raise click.UsageError("a checkpoint is no text: -o is for a file.")
    target = Target(output, force, lambda path: False)
    compiled, (held,) = _opened(gauge, checkpoint)
    for path in importlib.import_module("gaugec.runtime.checkpoints").beside(held, output):
        Target(str(path), force, lambda path: False)
    with _unfit(checkpoint):
        moved, done = importlib.import_module("gaugec.runtime.quotient").canonical(compiled, held.entries)
    held.entries.update(moved)
    target.write_by(lambda path: importlib.import_module("gaugec.runtime.checkpoints").write(held, path))
    if as_json:
        _print_json({"file": output, **vars(done)})
    elif not quiet:
        lines = [f"{title}: by at most {factor:.6g}" for title, factor in done.scaled.items()] if verbose else []
        console().print(Text("\n".join(map(printable, [*lines, *str(done).split("\n"), f"{output} is written"]))))


@main.command()
@click.argument("gauge", metavar="GAUGE.py", type=FilePath(exists=True, dir_okay=False))
@click.argument("a", type=FilePath(exists=True, dir_okay=False))
@click.argument("b", type=FilePath(exists=True, dir_okay=False))
@click.option("-v", "--verbose", is_flag=True, help="Show the part of every parameter, the largest first.")
@click.option("--json", "as_json", is_flag=True, help="Say it as JSON, on stdout.")
def distance(gauge: str, a: str, b: str, verbose: bool, as_json: bool) -> None:
    """Say how far two checkpoints are apart modulo the gauges of a compiled file, which is run.

    The Euclidean distance of their canonical representatives, of which the second is rotated to be nearest to the
    first; of two gauge copies it is 0, to rounding.
    """
    compiled, (one, two) = _opened(gauge, a, b)
    with _unfit(f"{a}, {b}"):
        found = compiled.distance(one.entries, two.entries)
    if as_json:
        _print_json({**vars(found), "relative": found.relative})
        return
    lines = [f"{found.value:.6g}, {found.relative:.3g} of the size of the parameters, {found.size:.6g}"]
    lines += importlib.import_module("gaugec.runtime.quotient").formless_in_words(found.formless)
    lines += [f"{title} meets another rotation: the least that was found" for title in found.searched]
    if verbose:
        parts = sorted(found.parameters.items(), key=lambda part: -part[1])
        lines += [f"  {part:.6g}  {name}" for name, part in parts]
    console().print(Text("\n".join(map(printable, lines))))


def _opened(gauge: str, *checkpoints: str) -> tuple[Any, list[Any]]:
    """A compiled gauge and checkpoints; what cannot be opened is misuse."""
    files = importlib.import_module("gaugec.runtime.checkpoints")
    try:
        compiled = importlib.import_module("gaugec.runtime.gauge").load(gauge)
        return compiled, [files.read(path) for path in checkpoints]
    except (ValueError, ImportError) as error:
        complain(f"gaugec: {error}")
        sys.exit(MISUSED)


@contextmanager
def _unfit(what: str) -> Iterator[None]:
    """Turn what speaks against a checkpoint into a line on stderr and exit code 1."""
    try:
        yield
    except ValueError as error:
        complain(f"gaugec: {what}: {error}")
        sys.exit(REFUSED)


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
        complain(f"gaugec: the demo needs {error.name}: pip install 'gaugec[demo]'")
        sys.exit(MISUSED)
    try:
        Path(out).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        complain(f"gaugec: cannot write to {out}: {error.strerror or error}")
        sys.exit(MISUSED)
    with _refusals():
        importlib.import_module("gaugec.demo.run").run(Path(out), steps=steps, seed=seed)
