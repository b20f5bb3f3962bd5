"""The command line in the hands of somebody who means it badly: an exit code of its own, and never a traceback."""

from __future__ import annotations

import functools
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.hostile import SCALE, SPECS
from gaugec.cli import main

SOUND = SCALE.format(body="relu(x @ W1.T)")
HANGS = 600  # seconds after which a process is not slow but stuck
FACTORIES = '''
import os, sys, torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = torch.nn.Linear(5, 7, bias=False), torch.nn.Linear(7, 3, bias=False)

    def forward(self, x):
        return self.down(torch.relu(self.up(x)))

class Odd(Exception):
    def __str__(self): raise RuntimeError("no words")

class Base(BaseException):
    pass

class Liar:
    def __getattr__(self, name): raise Odd()
    def __repr__(self): raise Odd()

class Broken(Net):
    def forward(self, x): raise Odd()

class Loud(Net):
    def forward(self, x):
        print("loud"); return super().forward(x)

class Branching(Net):
    def forward(self, x):
        return self.up(x) if x.sum() > 0 else x

class Forever(Net):
    def forward(self, x): raise KeyboardInterrupt

x = torch.randn(4, 5)
def good(): return Net(), (x,)
def raises(): raise ValueError("line one\\nline two")
def odd(): raise Odd()
def base(): raise Base("base")
def exits(): sys.exit(0)
def exits_with_words(): sys.exit("words")
def interrupts(): raise KeyboardInterrupt
def recursion(): return recursion()
def memory(): raise MemoryError
def stop(): raise StopIteration
def nothing(): return None
def number(): return 3
def text(): return "ab"
def empty(): return ()
def four(): return Net(), (x,), {}, 1
def liar(): return Liar(), (x,)
def klass(): return Net, (x,)
def bad_args(): return Net(), 3
def bad_kwargs(): return Net(), (x,), 3
def bad_keys(): return Net(), (), {3: x}
def wrong_shape(): return Net(), (torch.randn(4, 9),)
def no_inputs(): return Net(), ()
def strings(): return Net(), ("a",)
def broken(): return Broken(), (x,)
def branching(): return Branching(), (x,)
def forever(): return Forever(), (x,)
def argument(a): return Net(), (x,)
def prints():
    print("x" * 10000); sys.stderr.write("Trace" + "back\\n"); return Net(), (x,)
loud = lambda: (Loud(), (x,))
value = 3
'''


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "sound.gauge").write_text(SOUND)
    (tmp_path / "wrong.gauge").write_text(SOUND.replace("relu(", "gelu("))
    (tmp_path / "slow.gauge").write_text(SPECS["squares"])
    (tmp_path / "typo.gauge").write_text(SOUND.replace("keeps  y", "keeps  z"))
    (tmp_path / "hostile_factories.py").write_text(FACTORIES)
    (tmp_path / "no_module.py").write_text("raise SystemExit(0)")
    (tmp_path / "syntax.py").write_text("def (:")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("hostile_factories", "no_module", "syntax"):
        sys.modules.pop(name, None)
    return tmp_path


def call(*words: str) -> Result:
    result = CliRunner().invoke(main, list(words))
    assert result.exception is None or isinstance(result.exception, SystemExit), (words, result.exception)
    assert result.exit_code in (0, 1, 2, 130), (words, result.output)
    assert "Traceback (most" not in result.output and "defect of gaugec" not in result.output, (words, result.output)
    return result


# --- the matrix of exit codes


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ("verify sound.gauge", 0, "1 of 1 gauge proved"),
        ("verify wrong.gauge", 1, "refused"),
        ("verify wrong.gauge sound.gauge", 1, "1 of 1 gauge proved"),
        ("verify slow.gauge --limit 0.3", 1, "not decided in 0.3 s"),
        ("verify slow.gauge --limit 0.3 sound.gauge", 1, "1 of 1 gauge proved"),
        ("verify typo.gauge", 1, "typo.gauge:8:"),
        ("verify nowhere.gauge", 2, "there is no file"),
        ("verify .", 2, "is a folder"),
        ("verify", 2, "Missing argument"),
        ("verify sound.gauge --limit 0", 2, "not a positive number of seconds"),
        ("verify sound.gauge --limit -1", 2, "not a positive number of seconds"),
        ("verify sound.gauge --limit nan", 2, "not a positive number of seconds"),
        ("verify sound.gauge --limit inf", 2, "not a positive number of seconds"),
        ("verify sound.gauge --limit soon", 2, "is not a number of seconds"),
        ("verify sound.gauge --unknown", 2, "No such option"),
        ("compile slow.gauge hostile_factories:good -o x.py --limit 0.3", 1, "not decided in 0.3 s"),
        ("compile wrong.gauge hostile_factories:good -o x.py", 1, "is refused"),
        ("compile typo.gauge hostile_factories:good -o x.py", 1, "typo.gauge:8:"),
        ("compile sound.gauge hostile_factories:good -o .", 2, "is a directory"),
        ("compile sound.gauge hostile_factories:good", 0, "nothing written, as there is no -o: 1 site"),
        ("compile sound.gauge hostile_factories -o x.py", 2, "should read package.module:factory"),
        ("compile sound.gauge :f -o x.py", 2, "should read package.module:factory"),
        ("compile sound.gauge ..:f -o x.py", 2, "raised"),
        ("compile sound.gauge no_module:f -o x.py", 2, "raised SystemExit"),
        ("compile sound.gauge syntax:f -o x.py", 2, "raised SyntaxError"),
        ("compile sound.gauge hostile_factories:good -o x.py --loss mse", 2, "Invalid value"),
        ("report sound.gauge", 2, "gaugec: "),
        ("report no_module.py", 2, "gaugec: "),
        ("report syntax.py", 2, "gaugec: "),
        ("report .", 2, "is a directory"),
        ("report nowhere.py", 2, "does not exist"),
        ("nonsense", 2, "No such command"),
        ("", 2, "Usage"),
        ("--help", 0, "Usage"),
        ("--version", 0, "gaugec"),
        ("list", 0, "llama"),
        ("list extra", 2, "unexpected extra argument"),
    ],
)
def test_exit_codes(words: str, code: int, says: str) -> None:
    result = call(*words.split())
    assert result.exit_code == code, result.output
    assert says in result.output


FACTORY_CODES = {
    "raises": 2, "odd": 2, "base": 2, "exits": 2, "exits_with_words": 2, "interrupts": 130, "recursion": 2, "memory": 2,
    "stop": 2, "nothing": 2, "number": 2, "text": 2, "empty": 2, "four": 2, "liar": 2, "klass": 2, "bad_args": 2,
    "bad_kwargs": 2, "argument": 2, "value": 2, "bad_keys": 1, "wrong_shape": 1, "no_inputs": 1, "strings": 1,
    "broken": 1, "branching": 1, "forever": 130, "prints": 0, "loud": 0,
}  # fmt: skip


@pytest.mark.parametrize("factory", FACTORY_CODES)
def test_factories(folder: Path, factory: str) -> None:
    result = call("compile", "sound.gauge", f"hostile_factories:{factory}", "-o", "x.py")
    assert result.exit_code == FACTORY_CODES[factory], result.output
    assert (folder / "x.py").exists() == (result.exit_code == 0)
    if result.exit_code == 2:
        assert f"hostile_factories:{factory}" in result.stderr
    if result.exit_code == 130:
        assert result.stderr.endswith("gaugec: interrupted\n")


@pytest.mark.parametrize("output", ["no/such/folder/x.py", "x\0y.py", "/dev/full", "/proc/x.py", "x" * 300, "/"])
def test_outputs_that_cannot_be_written(output: str) -> None:
    result = call("compile", "sound.gauge", "hostile_factories:good", "-o", output)
    assert result.exit_code == 2, result.output
    assert any(says in result.stderr for says in ("cannot write", "is a directory", "is no path")), result.stderr


# --- any words


WORDS = st.sampled_from(
    "list verify compile report demo --help --explain --limit --loss --recheck -o --output --out --steps --seed 0 1 -1 "
    "1e9 nan x.py . / - -- = sound.gauge wrong.gauge typo.gauge llama lllama cross_entropy hostile_factories:good "
    "hostile_factories a:b ../x.gauge --limit=0.1 --limit= -h -oo --version \ufeff \u202e".split(" ")
) | st.text(max_size=8)


@settings(max_examples=25, deadline=None)
@given(st.lists(WORDS, max_size=6))
def test_any_words(words: list[str]) -> None:
    if "demo" in words and not {"-h", "--help"} & set(words):
        words = [*words, "--no-such-option"]  # the demo is a minute's work, and has its own test
    call(*words)


def argv(seed: int) -> Iterator[str]:
    """For the long mode: `verify` of a shipped or a broken spec with options in any order."""
    rng = random.Random(seed)
    yield from rng.sample(["verify", "sound.gauge", "--explain", "--limit", "0.2", "wrong.gauge", "typo.gauge"], 5)


@pytest.mark.parametrize("seed", range(10))
def test_verify_with_words_in_any_order(seed: int) -> None:
    call(*argv(seed))


# --- pipes, signals, terminals


def run(*words: str, **more: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gaugec", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=HANGS, **more)  # type: ignore[call-overload]


@pytest.mark.parametrize("words", ["list", "verify sound.gauge --explain", "--help"])
def test_a_reader_that_goes_away(words: str) -> None:
    command = [sys.executable, "-m", "gaugec", *words.split()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        said = process.stderr.read()
        assert process.wait(HANGS) in (0, 1)
    assert "Traceback" not in said and "Exception ignored" not in said, said


def test_a_full_disk() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "gaugec", "list"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=HANGS
        )
    assert done.returncode in (1, 2) and "Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-16"])
def test_a_terminal_that_knows_few_signs(folder: Path, encoding: str) -> None:
    text = SOUND.replace("gauge g(n, d, f):", 'gauge g(n, d, f):\n    "漢字 θ"')
    (folder / "漢字.gauge").write_text(text.replace("keeps  y", "keeps  z"), encoding="utf-8")
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    done = subprocess.run(
        [sys.executable, "-m", "gaugec", "verify", "漢字.gauge"], capture_output=True, env=environment, timeout=HANGS
    )
    assert done.returncode == 1 and b"Traceback" not in done.stderr + done.stdout


def test_a_path_of_bytes_that_are_no_text(folder: Path) -> None:
    raw = b"\xff\xfe.gauge"
    (folder / os.fsdecode(raw)).write_text(SOUND)
    done = subprocess.run([sys.executable, "-m", "gaugec", "verify", raw], capture_output=True, timeout=HANGS)
    assert done.returncode == 0 and b"Traceback" not in done.stderr + done.stdout, done.stderr


# The tool with a clock that, in the middle of a proof, says so and never tells the time.
STOPPED = """
import sys, time
from gaugec import limits
from gaugec.cli import main

looks = 0

def stopped():
    global looks
    looks += 1
    if looks > 500:
        print("proving", flush=True)
        time.sleep(1e9)
    return 0.0

with limits.clock(stopped):
    main(sys.argv[1:], prog_name="gaugec")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a system without SIGINT for one process")
def test_an_interruption(folder: Path) -> None:
    command = [sys.executable, "-c", STOPPED, "verify", "slow.gauge", "--limit", "60"]
    pipes: Any = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    # whoever runs the tests in the background (`nohup make test`) hands down an ignored signal
    heard = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(command, preexec_fn=heard, **pipes) as process:
        assert process.stdout is not None and process.stdout.readline() == "proving\n"
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=HANGS)[1]
    assert process.returncode == 130 and said == "gaugec: interrupted\n", said
