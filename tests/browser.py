"""A headless Chromium, asked over its devtools protocol; where none is installed, tests with it are skipped."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-port=0",
)  # fmt: skip
PATIENCE = 60.0  # seconds that a browser may take to start


class Page:
    """One page of a browser."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._number, self._session = socket, 0, ""
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.requests: list[str] = []
        self._ask("Network.enable")

    def _ask(self, method: str, **params: Any) -> Any:
        self._number += 1
        whole = {"id": self._number, "method": method, "params": params}
        self._socket.send(json.dumps(whole | ({"sessionId": self._session} if self._session else {})))
        while True:
            told = json.loads(self._socket.recv(timeout=PATIENCE))
            if told.get("method") == "Network.requestWillBeSent":
                self.requests.append(told["params"]["request"]["url"])
            if told.get("id") == self._number:
                assert "error" not in told, told["error"]
                return told["result"]

    def open(self, path: Path) -> None:
        """Show a file."""
        self._ask("Page.navigate", url=path.as_uri())
        while self.value("document.readyState") != "complete" or not self.value("location.href").startswith("file:"):
            time.sleep(0.02)

    def value(self, script: str) -> Any:
        """What a script gives."""
        told = self._ask("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    def text(self, selector: str) -> str:
        """What is shown of the first that is selected."""
        return str(self.value(f"document.querySelector({json.dumps(selector)}).innerText"))

    def press(self, key: str) -> None:
        """A key, down and up."""
        number = {"Tab": 9, "Enter": 13}[key]
        there = {"key": key, "code": key, "windowsVirtualKeyCode": number}
        if key == "Enter":
            there["text"] = "\r"
        self._ask("Input.dispatchKeyEvent", type="keyDown", **there)
        self._ask("Input.dispatchKeyEvent", type="keyUp", **there)

    def resize(self, width: int, height: int = 900) -> None:
        """The window, in CSS pixels."""
        self._ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )

    def scheme(self, name: str) -> None:
        """What the reader likes: light or dark."""
        self._ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def picture(self) -> str:
        """What is shown, as a PNG in base64."""
        return str(self._ask("Page.captureScreenshot", captureBeyondViewport=True)["data"])


@contextmanager
def page() -> Iterator[Page]:
    """A page of a browser of its own."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip("not run: there is no browser here; install Debian's chromium, or any other of its kind")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={home}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            with connect(_address(process, Path(home) / "DevToolsActivePort"), max_size=None) as socket:
                yield Page(socket)
        finally:
            process.terminate()
            process.wait()


def _address(process: subprocess.Popen[bytes], file: Path) -> str:
    until = time.monotonic() + PATIENCE
    while True:
        lines = file.read_text().split("\n") if file.exists() else []
        if len(lines) >= 2 and lines[1]:
            return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError("the browser does not start")
        time.sleep(0.05)
