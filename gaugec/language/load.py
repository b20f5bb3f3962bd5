"""Files -> Spec: find a spec by name or path, follow its `use` lines, hash what was read.

`use … from norms` looks for norms.gauge beside the file that says so, then among the specs that ship: gauges by topic
in `specs/`, one file an architecture in `specs/architectures/`.  "auto" is every gauge that ships but those of
invertible bases, which are named where they are wanted: a step costs more.  A `use` line holds a plain name, and a link
beside a spec is followed only to a `.gauge` file in the same folder, so a spec cannot make anyone open a file
elsewhere, and no error can show a line of one.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import stat
from dataclasses import dataclass, field, replace
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from gaugec.errors import Span, SpecError, printable, register_source
from gaugec.groups import GROUPS
from gaugec.language import tree as t
from gaugec.language.check import check
from gaugec.language.messages import count
from gaugec.language.parse import MAX_WORDS, parse
from gaugec.language.printer import show_architecture
from gaugec.language.shapes import nearest

MAX_BYTES = 1_000_000
MAX_CHAIN = 20  # architectures that use architectures
MAX_FILES = 30  # that one spec reads
MAX_GAUGES = 100  # of one spec
SUFFIX = ".gauge"
AUTO = "auto"
"""The spec of every gauge that ships and costs little, each optional: what a model has is found out."""
_ARCHITECTURES = "architectures"  # the folder of the shipped ones
_FULL = "full"  # that of the topics which make a list of gauges complete, and cost more: "auto" leaves them out
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def load(spec: str | os.PathLike[str]) -> t.Spec:
    """Load a spec: the name of one that ships ("llama"), "auto" for every gauge that ships, or a path ("my.gauge").

    Returns the checked gauges in the order of the text.  Raises SpecError for anything that is wrong with the spec, and
    TypeError for an argument that is neither text nor path.
    """
    path = os.fspath(spec)
    if not isinstance(path, str):
        raise TypeError(f"a spec is a str or a path of str, not {type(spec).__name__}")
    if spec == AUTO:
        return _Loader().auto()
    return _Loader().spec(_find(path, plain=isinstance(spec, str)))


def topics() -> tuple[str, ...]:
    """Return the names of the shipped files of gauges, sorted."""
    return tuple(sorted(name for name, (folder, _) in _places().items() if folder != _ARCHITECTURES + "/"))


def shipped() -> tuple[str, ...]:
    """Return the names of the specs that ship, topics and architectures, sorted."""
    return tuple(sorted(_places()))


def shipped_text(name: str) -> str:
    """Return the text of a spec that ships, or of the architecture that "auto" stands for.

    Raises SpecError where none is called so.
    """
    if name == AUTO:
        spec = load(AUTO)
        return show_architecture(AUTO, spec.doc, spec.entries)
    places = _places()
    if name not in places:
        help = nearest(name, (AUTO, *places), "shipped specs")
        raise SpecError(f"there is no shipped spec '{printable(name)}'", help=help)
    return places[name][1].read_text(encoding="utf-8")


def _places() -> dict[str, tuple[str, Traversable]]:
    """Where every shipped spec is: by its name, the folder below `specs/` and the file."""
    top = shipped_folder()
    folders = (("", top), *((name + "/", top.joinpath(name)) for name in (_ARCHITECTURES, _FULL)))
    found = ((folder, item) for folder, where in folders for item in where.iterdir() if item.name.endswith(SUFFIX))
    return {item.name.removesuffix(SUFFIX): (folder, item) for folder, item in found}


@dataclass(frozen=True)
class _Source:
    """A file to read: what errors call it, its folder (None for a shipped one), its stem."""

    key: str
    where: Traversable
    folder: Path | None
    stem: str


def shipped_folder() -> Traversable:
    """The folder of the specs that come with the package."""
    try:
        return resources.files("gaugec.specs")
    except ModuleNotFoundError:  # a source tree that is not installed keeps them beside the package
        return Path(__file__).resolve().parents[2] / "specs"


def _shipped(name: str) -> _Source | None:
    if name not in _places():
        return None
    folder, where = _places()[name]
    return _Source(f"gaugec/specs/{folder}{name}{SUFFIX}", where, None, name)


def _find(text: str, plain: bool) -> _Source:
    if plain and NAME.fullmatch(text):
        found = _shipped(text)
        if found:
            return found
    path = Path(text)
    shown = printable(text if len(text) < 200 else text[:200] + "…")
    is_folder = is_other = False
    try:
        if path.is_file():
            if path.is_symlink() and path.resolve().suffix != SUFFIX:
                raise SpecError(f"'{shown}' is a link to a file that is no spec", help=f"its name ends in {SUFFIX}")
            return _Source(text, path, path.parent, path.name.removesuffix(SUFFIX))
        is_folder = path.is_dir()
        is_other = path.exists()
    except (OSError, ValueError, RuntimeError):  # a NUL or a lone surrogate in the path; a circle of links
        pass
    if is_folder:
        raise SpecError(f"'{shown}' is a folder, not a spec", help=f"give the path of a {SUFFIX} file")
    if is_other:
        raise SpecError(f"'{shown}' is a pipe or a device, not a spec", help=f"give the path of a {SUFFIX} file")
    if plain and NAME.fullmatch(text):
        raise SpecError(f"there is no shipped spec '{shown}'", help=nearest(text, shipped(), "shipped specs"))
    raise SpecError(f"there is no file '{shown}'", help="a shipped spec is named without a path, as in load('llama')")


@dataclass
class _Loader:
    """Reads each file once; remembers what it read for the hash."""

    files: dict[str, t.File] = field(default_factory=dict)
    words: int = 0
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)

    def spec(self, source: _Source) -> t.Spec:
        file = self._file(source, None)
        entries = self._entries(source, file, ())
        architecture = file.architecture
        name = architecture.name if architecture else source.stem
        doc = architecture.doc if architecture else ""
        return t.Spec(name, doc, entries, self.digest.hexdigest())

    def auto(self) -> t.Spec:
        """Every gauge of every shipped topic that costs little, each optional; of bases the rotations."""
        sources = filter(None, map(_shipped, [name for name, (folder, _) in sorted(_places().items()) if not folder]))
        gauges = (gauge for each in sources for gauge in self._file(each, None).gauges)
        entries = tuple(t.Entry(x, required=False) for x in gauges if GROUPS[x.element.group].frame != "polar")
        doc = "Every gauge that ships and costs little, wherever it holds; of invertible bases the rotations."
        return t.Spec(AUTO, doc, entries, self.digest.hexdigest())

    def _file(self, source: _Source, asked: Span | None) -> t.File:
        if source.key in self.files:
            return self.files[source.key]
        if len(self.files) >= MAX_FILES:
            raise SpecError(f"a spec reads at most {MAX_FILES} files", asked, "put gauges into one file")
        text = _text(source, asked)
        self.words += count(text)
        if self.files and self.words > MAX_WORDS:  # of one file alone the parser says it, with the place
            message = f"the files of this spec have more than {MAX_WORDS:,} names, numbers and signs together"
            raise SpecError(f"{printable(source.key)}: {message}", asked, "leave out what is not used")
        self.digest.update(f"{source.stem}\0{len(text)}\0{text}".encode(errors="surrogatepass"))
        register_source(source.key, text)  # what is said of it later shows its lines, where it was read before too
        file = _read_once(text, source.key)
        if not file.gauges and not file.architecture:
            help = "a spec starts with `gauge name(n, d):` or `architecture name:`"
            raise SpecError(f"{printable(source.key)}: there is no gauge in this file", asked, help)
        self.files[source.key] = file
        return file

    def _entries(self, source: _Source, file: t.File, chain: tuple[str, ...]) -> tuple[t.Entry, ...]:
        """Return what a file stands for: the lines of its architecture, or all its gauges."""
        architecture = file.architecture
        if architecture is None:
            for gauge in file.gauges[MAX_GAUGES:]:
                raise SpecError(f"a spec has at most {MAX_GAUGES} gauges", gauge.marks[0], "split it into files")
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
                    if len(entries) >= MAX_GAUGES:
                        raise SpecError(f"a spec has at most {MAX_GAUGES} gauges", span, "write several architectures")
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
                    real = path.resolve()
                    if real.parent != source.folder.resolve() or real.suffix != SUFFIX:
                        message = f"{name}{SUFFIX} is a link out of the folder of this file"
                        raise SpecError(message, span, "put the file itself there, or a link to one beside it")
                    return _Source(str(path), path, source.folder, name)
            except (OSError, RuntimeError):
                pass
        found = _shipped(name)
        if found is None:
            beside = f"there is no {name}{SUFFIX} beside this file" if source.folder is not None else ""
            help = nearest(name, shipped(), "shipped specs")
            raise SpecError(f"there is no spec '{name}'", span, f"{beside}; {help}" if beside else help)
        return found


@functools.lru_cache(maxsize=32)
def _read_once(text: str, key: str) -> t.File:
    """The tree of a text; one process reads the same specs again for every model."""
    return check(parse(text, key))


def _read(where: Traversable) -> bytes:
    """Return at most MAX_BYTES + 1 bytes of a file, and of nothing that may block or never end."""
    if not isinstance(where, Path):
        with where.open("rb") as stream:
            return stream.read(MAX_BYTES + 1)
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    with open(os.open(where, flags), "rb") as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):  # looked at once it is open: nobody can exchange it
            raise OSError(None, "it is a pipe or a device")
        return stream.read(MAX_BYTES + 1)


def _text(source: _Source, asked: Span | None) -> str:
    """Return a file's text with plain line ends."""
    shown = printable(source.key)
    try:
        raw = _read(source.where)
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
