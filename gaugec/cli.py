"""The `gaugec` command: list, verify, compile, report, demo.

Exit codes: 0 done, 1 refused (a wrong spec, a failed proof, a model where a declared gauge has no site), 2 misused
(no such spec, a factory that fails, a file that cannot be written). Results go to stdout, errors to stderr. The work is
done by `gaugec.driver`; here is only what a person types and reads. Not here: progress or colour in a pipe.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.resources
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import click
from rich.console import Console
from rich.text import Text

import gaugec

REFUSED = 1
MISUSED = 2
_STYLES = {"proved": "green", "approximate": "yellow", "train mode only": "yellow", "refused": "red"}


class Workload(NamedTuple):
    """What a MODEL factory gave: the module and the example inputs that it is traced with."""

    model: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


# --- the screen


def _out() -> Console:
    return Console(highlight=False, soft_wrap=True)


def _err() -> Console:
    return Console(highlight=False, soft_wrap=True, stderr=True)


@contextmanager
def _working(what: str) -> Iterator[None]:
    """Show a spinner on a terminal while something takes its time; nothing anywhere else."""
    console = _err()
    if console.is_terminal:
        with console.status(what):
            yield
    else:
        yield


@contextmanager
def _refusals() -> Iterator[None]:
    """Turn a GaugeError into what it draws on stderr and exit code 1."""
    try:
        yield
    except gaugec.GaugeError as error:
        _err().print(Text(str(error)))
        sys.exit(REFUSED)


def _indent(lines: Iterable[str], by: int) -> str:
    return "\n".join(" " * by + line for text in lines for line in str(text).splitlines())


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


# --- arguments


def _shipped() -> list[str]:
    """The names of the specs inside the package, sorted."""
    folder = importlib.resources.files("gaugec.specs")
    return sorted(entry.name.removesuffix(".gauge") for entry in folder.iterdir() if entry.name.endswith(".gauge"))


class SpecName(click.ParamType):
    """A shipped spec's name or the path of a `.gauge` file; anything else is a usage error that offers a near name."""

    name = "spec"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return `value` when it names a spec that exists."""
        names = _shipped()
        if value in names or Path(value).is_file():
            return str(value)
        near = difflib.get_close_matches(value, names, 1)
        hint = f" Did you mean {near[0]!r}?" if near else " `gaugec list` shows the shipped ones."
        self.fail(f"{value!r} is neither a shipped spec nor a file.{hint}", param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        """Offer the shipped names."""
        return [click.shell_completion.CompletionItem(name) for name in _shipped() if name.startswith(incomplete)]


def _workload(name: str) -> Workload:
    """Call package.module:factory and check what it returns; a click.UsageError says what is wrong with it.

    The current folder is importable, as it is for `python -m`.
    """
    module_name, _, attribute = name.partition(":")
    if not (module_name and attribute):
        raise click.UsageError(f"MODEL {name!r} should read package.module:factory.")
    sys.path.insert(0, "")
    try:
        factory: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            factory = getattr(factory, part)
        made = factory()
    except (Exception, SystemExit) as error:
        raise click.UsageError(f"{name} raised {type(error).__name__}: {_first_line(error)}") from None
    want = "a factory returns (model, args) or (model, args, kwargs)"
    if not isinstance(made, tuple) or len(made) not in (2, 3):
        raise click.UsageError(f"{name} returned a {type(made).__name__}; {want}.")
    model, args, kwargs = (*made, {})[:3]
    if not callable(getattr(model, "named_parameters", None)):
        raise click.UsageError(f"{name} returned a {type(model).__name__} where the model should be; {want}.")
    if not isinstance(args, tuple | list) or not isinstance(kwargs, dict):
        raise click.UsageError(f"{name}: args should be a tuple and kwargs a dict; {want}.")
    return Workload(model, tuple(args), kwargs)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0]


# --- commands


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(gaugec.__version__, prog_name="gaugec", message="%(prog)s %(version)s")
def main() -> None:
    """Turn declared parameter symmetries into proved, gauge-equivariant optimizers."""


@main.command("list")
def list_() -> None:
    """Show the specs that the package ships."""
    out = _out()
    with _refusals():
        specs = [gaugec.load(name) for name in _shipped()]
    width = max((len(spec.name) for spec in specs), default=0)
    for spec in specs:
        out.print(Text.assemble((spec.name.ljust(width), "bold"), "  ", _headline(spec)))


def _headline(spec: Any) -> str:
    names = ", ".join(entry.gauge.name for entry in spec.entries)
    return f"{spec.doc} ({names})" if spec.doc else names


@main.command()
@click.argument("specs", metavar="SPEC...", nargs=-1, required=True, type=SpecName())
@click.option("--explain", is_flag=True, help="Show the steps of every proof.")
def verify(specs: tuple[str, ...], explain: bool) -> None:
    """Prove every gauge of the specs; no model is needed. Exits with 1 when one is refused."""
    failed = False
    for name in specs:
        try:
            with _working(f"proving {name}"):
                start = time.perf_counter()
                result = gaugec.verify(name)
                seconds = time.perf_counter() - start
        except gaugec.GaugeError as error:
            _err().print(Text(str(error)))
            failed = True
            continue
        _show_verification(name, result, seconds, explain)
        failed = failed or not result.ok
    sys.exit(REFUSED if failed else 0)


def _show_verification(name: str, result: Any, seconds: float, explain: bool) -> None:
    out = _out()
    theorems = tuple(result.theorems)
    width = max((len(theorem.verdict) for theorem in theorems), default=0)
    out.print(Text(name, "bold"))
    for theorem in theorems:
        verdict = (theorem.verdict.ljust(width), _STYLES.get(theorem.verdict, "bold"))
        out.print(Text.assemble("  ", verdict, "  ", theorem.name, (f"  {theorem.seconds:.2f} s", "dim")))
        for title, lines in _details(theorem, explain):
            out.print(Text(_indent([f"{title}{line}" for line in lines], width + 4), "dim"))
    proved = sum(theorem.verdict == "proved" for theorem in theorems)
    out.print(f"{proved} of {_count(len(theorems), 'gauge')} proved, {seconds:.1f} s")


def _details(theorem: Any, explain: bool) -> Iterator[tuple[str, list[str]]]:
    """What stands under a theorem's line: title and lines, only where there is something to say."""
    if theorem.verdict != "proved" and theorem.reason:
        yield "", [theorem.reason]
    if theorem.verdict == "refused" and theorem.counterexample:
        yield "", ["counterexample:", _indent([theorem.counterexample], 2)]
    if theorem.conditions:
        yield "if ", ["; ".join(str(condition) for condition in theorem.conditions)]
    if explain and theorem.steps:
        yield "", [str(step) for step in theorem.steps]


@main.command("compile")
@click.argument("spec", type=SpecName())
@click.argument("model")
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False), help="The PyTorch module to write.")
@click.option("--explain", is_flag=True, help="Show every site, proof and refusal.")
@click.option("--loss", type=click.Choice(["cross_entropy"]), help="What the model's output 0 reaches, and it alone.")
def compile_(spec: str, model: str, output: str, explain: bool, loss: str | None) -> None:
    """Find the SPEC's gauges in MODEL and write the PyTorch module of frames and projectors.

    MODEL is package.module:factory; the factory returns (model, args) or (model, args, kwargs), the example inputs that
    the model is traced with. The model may live on the meta device.
    """
    with _refusals(), _working(f"compiling {spec}"):
        work = _workload(model)
        start = time.perf_counter()
        compiled = gaugec.compile(spec, work.model, work.args, work.kwargs, loss=loss)
        seconds = time.perf_counter() - start
    out = _out()
    try:
        compiled.save(output)
    except OSError as error:
        _err().print(Text(f"gaugec: cannot write {output}: {error.strerror or error}"))
        sys.exit(MISUSED)
    if explain:
        out.print(Text(str(compiled.report())))
    else:
        _show_sites(compiled)
    out.print(f"{output}: {_count(len(compiled.sites), 'site')}, {seconds:.1f} s")


def _show_sites(compiled: Any) -> None:
    """One line a gauge: how many sites, how many copies of the group, the verdicts; then what was refused."""
    out = _out()
    gauges = list(dict.fromkeys(site.gauge for site in compiled.sites))
    width = max((len(name) for name in gauges), default=0)
    for name in gauges:
        sites = [site for site in compiled.sites if site.gauge == name]
        verdicts = ", ".join(sorted({site.verdict for site in sites}))
        groups = ", ".join(sorted({f"{site.group}({site.size})" for site in sites}))
        copies = sum(site.copies for site in sites)
        out.print(f"{name.ljust(width)}  {_count(len(sites), 'site')} of {groups}, {copies} in all, {verdicts}")
    for refusal in getattr(compiled, "refusals", ()):
        out.print(Text(f"refused: {refusal}", "yellow"))


@main.command()
@click.argument("file", metavar="FILE.py", type=click.Path(exists=True, dir_okay=False))
@click.option("--recheck", is_flag=True, help="Prove again what the file's certificate claims.")
def report(file: str, recheck: bool) -> None:
    """Say what a compiled file holds. The file is Python and is run: open only what you trust."""
    out = _out()
    try:
        compiled = importlib.import_module("gaugec.runtime").load(file)
    except Exception as error:
        _err().print(Text(f"gaugec: {file} is not a compiled gauge: {type(error).__name__}: {_first_line(error)}"))
        sys.exit(MISUSED)
    out.print(Text(str(compiled.report())))
    if not recheck:
        return
    with _refusals(), _working(f"proving {file} again"):
        result = importlib.import_module("gaugec.driver").recheck(file)
    out.print(Text(str(result)))
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
        _err().print(Text(f"gaugec: the demo needs {error.name}: pip install 'gaugec[demo]'"))
        sys.exit(MISUSED)
    with _refusals():
        importlib.import_module("gaugec.demo").run(Path(out), steps=steps, seed=seed)
