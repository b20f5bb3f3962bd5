"""Files that are no specs: every one ends in a SpecError that names it, and none is read further than it may be."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

import gaugec
from gaugec.language import load
from gaugec.language.load import MAX_BYTES, MAX_FILES, MAX_GAUGES

SECRET = "root:x:0:0:topsecret"
GAUGE = """gauge {name}(n, d):
    given  x[n, d]
    param  W[_, d], V[_, d]
    model  y = (x @ W.T) @ (x @ W.T).T + (x @ V.T) @ (x @ V.T).T
    for every R in orthogonal(d):
        W -> W @ R
        V -> V @ R
    keeps  y
"""


def failure(spec: object, seconds: float = 600.0) -> gaugec.SpecError:
    """The error of a load, which must come; a load that hangs is a failure of its own."""
    caught: list[BaseException | None] = []

    def run() -> None:
        try:
            load(spec)  # type: ignore[arg-type]
            caught.append(None)
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), f"loading {spec!r} hangs"
    (error,) = caught
    assert isinstance(error, gaugec.SpecError), error
    assert error.help and SECRET not in str(error)
    assert all(c.isprintable() for line in str(error).split("\n") for c in line)
    return error


BYTES: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "there is no gauge in this file"),
    "a comment": (b"# nothing", "there is no gauge in this file"),
    "a NUL": (GAUGE.format(name="g").encode().replace(b"keeps", b"ke\0eps"), "invisible control character, U+0000"),
    "NULs": (b"\0" * 100_000, "invisible control character, U+0000"),
    "UTF-16": (GAUGE.format(name="g").encode("utf-16"), "the file is not UTF-8 text (byte 0, line 1)"),
    "UTF-16 without a mark": (GAUGE.format(name="g").encode("utf-16-le"), "invisible control character, U+0000"),
    "UTF-32": (GAUGE.format(name="g").encode("utf-32"), "the file is not UTF-8 text (byte 0, line 1)"),
    "latin-1": ('gauge g(n):\n  "d\u00e9j\u00e0"'.encode("latin-1"), "the file is not UTF-8 text (byte 16, line 2)"),
    "cut short": ("# €".encode()[:-1], "the file is not UTF-8 text"),
    "overlong": (b"# \xc0\x80", "the file is not UTF-8 text"),
    "surrogates": (b"# \xed\xa0\x80", "the file is not UTF-8 text"),
    "a direction mark": (GAUGE.format(name="g").replace("(n", "(\u202en").encode(), "U+202E RIGHT-TO-LEFT OVERRIDE"),
    "an escape": (b"# \x1b[2J\x1b]0;title\x07", "invisible control character, U+001B"),
    "one line of a million": (b"x" * 1_000_000, "expected a gauge, an op or an architecture"),
    "a million signs": (b"+" * 1_000_000, "more than 20,000 names, numbers and signs"),
    "a million brackets": (b"op f(x) = " + b"(" * 999_000, "more than 20,000 names, numbers and signs"),
    "a million digits": (b"op f(x) = x + " + b"7" * 900_000, "a number has at most 50 digits"),
    "a million quotes": (b'gauge g(n): "' + b"x" * 900_000, "no closing quote"),
    "a long name": (b"gauge " + b"g" * 900_000 + b"(n):", "a name has at most 64 characters"),
    "one byte too many": (b"#" * (MAX_BYTES + 1), "the file is larger than 1,000,000 bytes"),
    "many gauges": ("".join(GAUGE.format(name=f"g{i}") for i in range(MAX_GAUGES + 1)).encode(), "at most 100 gauges"),
    "pickle": (b"\x80\x04\x95\x0e\x00\x00\x00", "the file is not UTF-8 text"),
    "ELF": (b"\x7fELF\x02\x01\x01" + b"\0" * 99, "invisible control character, U+007F"),
}


@pytest.mark.parametrize("name", BYTES)
def test_bytes(tmp_path: Path, name: str) -> None:
    raw, says = BYTES[name]
    path = tmp_path / "spec.gauge"
    path.write_bytes(raw)
    error = failure(path)
    assert says in str(error)
    assert "spec.gauge" in str(error)
    assert len(str(error)) < 2_000, "a long line is cropped"


@pytest.mark.parametrize("ends", ["\r\n", "\r", "\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_and_byte_order_marks_do_not_matter(tmp_path: Path, ends: str, mark: str) -> None:
    path = tmp_path / "spec.gauge"
    path.write_bytes((mark + GAUGE.format(name="g").replace("\n", ends)).encode())
    assert [entry.gauge.name for entry in load(path).entries] == ["g"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without pipes in folders")
class TestSpecialFiles:
    """Nothing that blocks, never ends or does something when read is opened."""

    def test_a_pipe(self, tmp_path: Path) -> None:
        path = tmp_path / "pipe.gauge"
        os.mkfifo(path)
        assert failure(path).message == f"'{path}' is a pipe or a device, not a spec"
        (tmp_path / "user.gauge").write_text("architecture a: use g from pipe")
        assert failure(tmp_path / "user.gauge").message == "there is no spec 'pipe'"

    @pytest.mark.parametrize("device", ["/dev/zero", "/dev/random", "/dev/stdin", "/dev/tty", "/proc/self/mem"])
    def test_devices(self, device: str) -> None:
        failure(device)

    def test_a_pipe_that_takes_the_place_of_a_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "pipe.gauge"
        os.mkfifo(path)
        monkeypatch.setattr(Path, "is_file", lambda self: True)  # as if it had been a file when it was looked at
        assert "it is a pipe or a device" in failure(path).message

    def test_a_socket(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)  # the name of a socket is short
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("s.gauge")
            assert "is a pipe or a device" in failure("s.gauge").message

    def test_links(self, tmp_path: Path) -> None:
        secret = tmp_path / "secret"
        secret.write_text(SECRET)
        home = tmp_path / "home"
        home.mkdir()
        (home / "x.gauge").symlink_to(secret)
        assert failure(home / "x.gauge").message == f"'{home / 'x.gauge'}' is a link to a file that is no spec"
        (home / "a.gauge").symlink_to("b.gauge")
        (home / "b.gauge").symlink_to("a.gauge")
        assert failure(home / "a.gauge").message.startswith("there is no file")
        (home / "real.gauge").write_text(GAUGE.format(name="g"))
        (home / "link.gauge").symlink_to("real.gauge")
        assert load(home / "link.gauge").entries == load(home / "real.gauge").entries
        (home / "folder.gauge").mkdir()
        assert failure(home / "folder.gauge").message.endswith("is a folder, not a spec")

    def test_a_use_line_leads_to_no_other_folder(self, tmp_path: Path) -> None:
        home = tmp_path / "home"
        home.mkdir()
        (tmp_path / "secret").write_text(SECRET)
        (tmp_path / "secret.gauge").write_text(SECRET)
        (tmp_path / "good.gauge").write_text(GAUGE.format(name="g"))
        (home / "hidden.txt").write_text(SECRET)
        for name, target in {
            "passwd": "/etc/passwd",
            "up": "../secret",
            "spec": "../secret.gauge",
            "elsewhere": "../good.gauge",
            "beside": "hidden.txt",
            "again": "up.gauge",
        }.items():
            (home / f"{name}.gauge").symlink_to(target)
            (home / "user.gauge").write_text(f"architecture a: use g from {name}")
            error = failure(home / "user.gauge")
            assert error.message == f"{name}.gauge is a link out of the folder of this file"
            assert error.span is not None and error.span.file == str(home / "user.gauge")
        (home / "loop.gauge").symlink_to("loop.gauge")
        (home / "user.gauge").write_text("architecture a: use g from loop")
        assert failure(home / "user.gauge").message == "there is no spec 'loop'"
        # the folder itself may be reached through a link
        (tmp_path / "other").symlink_to(home)
        (home / "g.gauge").write_text(GAUGE.format(name="g"))
        (home / "user.gauge").write_text("architecture a: use g from g")
        assert [entry.gauge.name for entry in load(tmp_path / "other" / "user.gauge").entries] == ["g"]

    def test_a_file_that_nobody_may_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "x.gauge"
        path.write_text(GAUGE.format(name="g"))

        def denied(*_: object) -> int:  # root may read everything, so it is not asked
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(os, "open", denied)
        assert failure(path).message == f"{path}: cannot be read: permission denied"


@pytest.mark.parametrize(
    "source",
    ["../secret", "/etc/passwd", "..", ".", "~", "a/b", "a\\b", "C:x", '"x"', "x.gauge", "http://x", "$HOME", "*", "-"],
)
def test_a_use_line_names_no_path(tmp_path: Path, source: str) -> None:
    (tmp_path / "secret.gauge").write_text(SECRET)
    home = tmp_path / "home"
    home.mkdir()
    (home / "user.gauge").write_text(f"architecture a: use g from {source}")
    error = failure(home / "user.gauge")
    assert error.span is not None and error.span.file == str(home / "user.gauge")


@pytest.mark.parametrize(
    "name", ["a\0b", "x" * 300, "x/" * 3000, "\ud800.gauge", "con\n.gauge", "", " ", "norms/", "./norms", "llama.gauge"]
)
def test_names_of_specs(name: str) -> None:
    failure(name)


class TestCircles:
    """`use` lines that never end."""

    def test_a_file_that_uses_itself(self, tmp_path: Path) -> None:
        (tmp_path / "a.gauge").write_text("architecture a: use a from a")
        assert failure(tmp_path / "a.gauge").message.startswith("architecture 'a' uses itself")

    def test_long_circles_and_chains(self, tmp_path: Path) -> None:
        for i in range(200):
            (tmp_path / f"n{i}.gauge").write_text(f"architecture n{i}: use n{(i + 1) % 200} from n{(i + 1) % 200}")
        assert failure(tmp_path / "n0.gauge").message == "more than 20 architectures use each other"
        for i in range(7):
            (tmp_path / f"n{i}.gauge").write_text(f"architecture n{i}: use n{(i + 1) % 7} from n{(i + 1) % 7}")
        assert failure(tmp_path / "n3.gauge").message.startswith("architecture 'n3' uses itself")

    def test_diamonds_without_end(self, tmp_path: Path) -> None:
        for i in range(19):
            for side in "ab":
                (tmp_path / f"{side}{i}.gauge").write_text(
                    f"architecture {side}{i}: use a{i + 1} from a{i + 1} use b{i + 1} from b{i + 1}"
                )
        for side in "ab":
            (tmp_path / f"{side}19.gauge").write_text(GAUGE.format(name=f"{side}19"))
        # 2**19 ways lead to the end, and the second of them is one too many
        assert failure(tmp_path / "a0.gauge").message == "the gauge 'a19' is used twice"

    def test_many_files(self, tmp_path: Path) -> None:
        names = [f"f{i}" for i in range(MAX_FILES + 5)]
        for name in names:
            (tmp_path / f"{name}.gauge").write_text(GAUGE.format(name=name))
        uses = " ".join(f"use {name} from {name}" for name in names)
        (tmp_path / "all.gauge").write_text(f"architecture everything: {uses}")
        assert failure(tmp_path / "all.gauge").message == f"a spec reads at most {MAX_FILES} files"

    def test_many_words_in_several_files(self, tmp_path: Path) -> None:
        for i in range(5):
            text = "".join(GAUGE.format(name=f"g{i}x{j}") for j in range(90))
            (tmp_path / f"f{i}.gauge").write_text(text)
        (tmp_path / "all.gauge").write_text("architecture a: " + " ".join(f"use g{i}x0 from f{i}" for i in range(5)))
        assert "have more than 20,000 names, numbers and signs together" in failure(tmp_path / "all.gauge").message
