"""Files -> Spec: find a spec by name or path, follow its `use` lines, hash what was read.

`use … from norms` looks for norms.gauge beside the file that says so, then among the specs that ship.  A `use` line
holds a plain name, so a spec cannot make anyone open a file elsewhere.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, field, replace
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from gaugec.errors import Span, SpecError, printable
from gaugec.language import tree as t
from gaugec.language.check import check
from gaugec.language.parse import parse
from gaugec.language.shapes import nearest

MAX_BYTES = 1_000_000
MAX_CHAIN = 20  # architectures that use architectures
SUFFIX = ".gauge"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def load(spec: str | os.PathLike[str]) -> t.Spec:
    """Load a spec: the name of one that ships ("llama"), or a path ("my/model.gauge").

    Returns the checked gauges in the order of the text.  Raises SpecError for anything that is wrong with the spec, and
    TypeError for an argument that is neither text nor path.
    """
    path = os.fspath(spec)
    if not isinstance(path, str):
        raise TypeError(f"a spec is a str or a path of str, not {type(spec).__name__}")
    return _Loader().spec(_find(path, plain=isinstance(spec, str)))


def shipped() -> tuple[str, ...]:
    """Return the names of the specs that ship, sorted."""
    names = (item.name for item in _shipped_folder().iterdir())
    return tuple(sorted(name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX)))


@dataclass(frozen=True)
class _Source:
    """A file to read: what errors call it, its folder (None for a shipped one), its stem."""

    key: str
    where: Traversable
    folder: Path | None
    stem: str


def _shipped_folder() -> Traversable:
    try:
        return resources.files("gaugec.specs")
    except ModuleNotFoundError:  # a source tree that is not installed keeps them beside the package
        return Path(__file__).resolve().parents[2] / "specs"


def _shipped(name: str) -> _Source | None:
    if name not in shipped():
        return None
    return _Source(f"gaugec/specs/{name}{SUFFIX}", _shipped_folder().joinpath(name + SUFFIX), None, name)


def _find(text: str, plain: bool) -> _Source:
    if plain and _NAME.fullmatch(text):
        found = _shipped(text)
        if found:
            return found
    path = Path(text)
    try:
        if path.is_file():
            return _Source(text, path, path.parent, path.name.removesuffix(SUFFIX))
        is_folder = path.is_dir()
    except (OSError, ValueError):  # a NUL or a lone surrogate in the path
        is_folder = False
    shown = printable(text if len(text) < 200 else text[:200] + "…")
    if is_folder:
        raise SpecError(f"'{shown}' is a folder, not a spec", help=f"give the path of a {SUFFIX} file")
    if plain and _NAME.fullmatch(text):
        raise SpecError(f"there is no shipped spec '{shown}'", help=nearest(text, shipped(), "shipped specs"))
    raise SpecError(f"there is no file '{shown}'", help="a shipped spec is named without a path, as in load('llama')")


@dataclass
class _Loader:
    """Reads each file once; remembers what it read for the hash."""

    files: dict[str, t.File] = field(default_factory=dict)
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)

    def spec(self, source: _Source) -> t.Spec:
        file = self._file(source, None)
        entries = self._entries(source, file, ())
        architecture = file.architecture
        name = architecture.name if architecture else source.stem
        doc = architecture.doc if architecture else ""
        return t.Spec(name, doc, entries, self.digest.hexdigest())

    def _file(self, source: _Source, asked: Span | None) -> t.File:
        if source.key in self.files:
            return self.files[source.key]
        text = _text(source, asked)
        self.digest.update(f"{source.stem}\0{len(text)}\0{text}".encode())
        file = check(parse(text, source.key))
        if not file.gauges and not file.architecture:
            help = "a spec starts with `gauge name(n, d):` or `architecture name:`"
            raise SpecError(f"{printable(source.key)}: there is no gauge in this file", asked, help)
        self.files[source.key] = file
        return file

    def _entries(self, source: _Source, file: t.File, chain: tuple[str, ...]) -> tuple[t.Entry, ...]:
        """Return what a file stands for: the lines of its architecture, or all its gauges."""
        architecture = file.architecture
        if architecture is None:
            return tuple(t.Entry(gauge) for gauge in file.gauges)
        if not architecture.uses:
            help = "add lines like `use norm_gain from norms`"
            raise SpecError(f"architecture '{architecture.name}' uses no gauge", architecture.marks[0], help)
        entries: dict[str, t.Entry] = {}
        local: set[str] = set()
        for use in architecture.uses:
            for name, span in zip(use.gauges, use.marks):
                if use.source is None:
                    local.add(name)
                for entry in self._used(source, file, use, name, span, (*chain, source.key)):
                    if entry.gauge.name in entries:
                        raise SpecError(f"the gauge '{entry.gauge.name}' is used twice", span, "leave one out")
                    optional, approximate = use.optional, use.approximate
                    entry = replace(
                        entry,
                        required=entry.required and not optional,
                        approximate=entry.approximate or approximate,
                    )
                    entries[entry.gauge.name] = entry
        for gauge in file.gauges:
            if gauge.name not in local:
                message = f"architecture '{architecture.name}' does not use the gauge '{gauge.name}' of its own file"
                raise SpecError(message, gauge.marks[0], f"add `use {gauge.name}`, or leave the gauge out")
        return tuple(entries.values())

    def _used(
        self, source: _Source, file: t.File, use: t.Use, name: str, span: Span, chain: tuple[str, ...]
    ) -> tuple[t.Entry, ...]:
        """Return what one name of a `use` line stands for: a gauge, or all that another architecture uses."""
        origin, other = source, file
        if use.source is not None:
            origin = self._beside(source, use.source, use.marks[-1])
            other = self._file(origin, use.marks[-1])
        for gauge in other.gauges:
            if gauge.name == name:
                return (t.Entry(gauge),)
        if other.architecture is not None and other.architecture.name == name:
            if origin.key in chain:
                circle = " -> ".join([*chain[chain.index(origin.key) :], origin.key])
                raise SpecError(f"architecture '{name}' uses itself: {printable(circle)}", span, "break the circle")
            if len(chain) >= MAX_CHAIN:
                raise SpecError(f"more than {MAX_CHAIN} architectures use each other", span, "name the gauges")
            return self._entries(origin, other, chain)
        known = [gauge.name for gauge in other.gauges] + ([other.architecture.name] if other.architecture else [])
        place = f"'{use.source}'" if use.source is not None else "this file"
        kind = f"gauges in {place}"
        if use.source is None and file.gauges == ():
            raise SpecError(f"{place} defines no gauge '{name}'", span, f"say where it is: `use {name} from …`")
        raise SpecError(f"{place} defines no gauge '{name}'", span, nearest(name, known, kind))

    def _beside(self, source: _Source, name: str, span: Span) -> _Source:
        if source.folder is not None:
            path = source.folder / (name + SUFFIX)
            try:
                if path.is_file():
                    return _Source(str(path), path, source.folder, name)
            except OSError:
                pass
        found = _shipped(name)
        if found is None:
            beside = f"there is no {name}{SUFFIX} beside this file" if source.folder is not None else ""
            help = nearest(name, shipped(), "shipped specs")
            raise SpecError(f"there is no spec '{name}'", span, f"{beside}; {help}" if beside else help)
        return found


def _text(source: _Source, asked: Span | None) -> str:
    """Return a file's text with plain line ends."""
    shown = printable(source.key)
    try:
        with source.where.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except OSError as error:
        message = f"{shown}: cannot be read: {(error.strerror or 'unknown reason').lower()}"
        raise SpecError(message, asked, "check the file's permissions") from None
    if len(raw) > MAX_BYTES:
        raise SpecError(f"{shown}: the file is larger than {MAX_BYTES:,} bytes", asked, "split it into files")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        message = f"{shown}: the file is not UTF-8 text (byte {error.start}, line {line})"
        raise SpecError(message, asked, "save it as UTF-8") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")
