"""Owns a headless Chromium, driven over a pipe; must not know what it shows.

The DevTools protocol over ``--remote-debugging-pipe`` is JSON objects ended by NUL, on the
descriptors 3 and 4 of the browser: no port, no library, no other program.
"""

from __future__ import annotations

import base64
import json
import os
import selectors
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
UNPACKED = ROOT / "build/browser"
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--remote-debugging-pipe", "--hide-scrollbars", "--disable-dev-shm-usage"),
)
PATIENCE_S = 60.0


class GoneError(Exception):
    """What was asked about belongs to a page that is shown no more."""


_PAUSE_S = 0.02


def need() -> tuple[str, dict[str, str]]:
    """The program and its environment; the test is skipped where there is none, but not in CI."""
    program = UNPACKED / "usr/lib/chromium/chromium-headless-shell"
    libraries = ":".join(map(str, UNPACKED.glob("usr/lib/*-linux-*"))) + ":".join(
        ["", *map(str, UNPACKED.glob("usr/lib/*-linux-*/pulseaudio"))]
    )
    if program.exists():
        return str(program), {**os.environ, "LD_LIBRARY_PATH": libraries}
    installed = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    if installed is None:
        assert not os.environ.get("CI"), "needs chromium-headless-shell: make build/browser/.done"
        pytest.skip("needs chromium-headless-shell: make build/browser/.done")
    return installed, dict(os.environ)


class Browser:
    """A browser that runs; every tab is in a context of its own, with its own cookies."""

    def __init__(self, process: subprocess.Popen[bytes], into: int, out: int) -> None:
        self._process = process
        self._into, self._out = into, out
        self._number = 0
        self._received = b""
        self._events: dict[str, list[dict[str, Any]]] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(out, selectors.EVENT_READ)

    def tab(self) -> Tab:
        """A new tab, without a cookie."""
        context: str = self.call("Target.createBrowserContext")["browserContextId"]
        return self.tab_in(context)

    def tab_in(self, context: str) -> Tab:
        """A new tab beside others, which have its cookies."""
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)
        attached = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        return Tab(self, attached["sessionId"], context)

    def call(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        """What the browser answers."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._into, json.dumps(message).encode() + b"\0")
        while True:
            received = self._next(PATIENCE_S)
            assert received is not None, f"the browser does not answer {method}"
            if received.get("id") == self._number:
                error = received.get("error", {})
                if "Could not find node" in error.get("message", ""):
                    raise GoneError(method)
                assert not error, (method, error)
                result: dict[str, Any] = received["result"]
                return result
            self._keep(received)

    def events(self, session: str, wait_s: float = 0.0) -> list[dict[str, Any]]:
        """What has happened in a tab."""
        if (received := self._next(wait_s)) is not None:
            self._keep(received)
        return self._events.setdefault(session, [])

    def _keep(self, received: dict[str, Any]) -> None:
        self._events.setdefault(received.get("sessionId", ""), []).append(received)

    def _next(self, wait_s: float) -> dict[str, Any] | None:
        end = time.monotonic() + wait_s
        while b"\0" not in self._received:
            if not self._selector.select(max(0.0, end - time.monotonic())):
                return None
            piece = os.read(self._out, 1 << 20)
            assert piece, "the browser has ended"
            self._received += piece
        frame, _, self._received = self._received.partition(b"\0")
        message: dict[str, Any] = json.loads(frame)
        return message


class Tab:
    """A tab: what it shows, and what happens in it."""

    def __init__(self, browser: Browser, session: str, context: str) -> None:
        self._browser, self._session, self._context = browser, session, context
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **parameters)

    def sibling(self) -> Tab:
        """Another tab with the cookies of this one."""
        return self._browser.tab_in(self._context)

    def open(self, url: str) -> None:
        """Load a page, with all that belongs to it."""
        before = len(self.happened("Page.loadEventFired"))
        self.call("Page.navigate", url=url)
        end = time.monotonic() + PATIENCE_S
        while len(self.happened("Page.loadEventFired", _PAUSE_S)) == before:
            assert time.monotonic() < end, f"{url} does not load"

    def happened(self, method: str, wait_s: float = 0.0) -> list[dict[str, Any]]:
        events = self._browser.events(self._session, wait_s)
        return [event["params"] for event in events if event["method"] == method]

    def evaluate(self, expression: str) -> Any:
        """The value of an expression of JavaScript."""
        reply = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in reply, reply
        return reply["result"].get("value")

    def until(self, expression: str) -> Any:
        """Wait until an expression has a value that is true; between two pages it has none."""
        end = time.monotonic() + PATIENCE_S
        guarded = f"(() => {{ try {{ return {expression}; }} catch {{ return null; }} }})()"
        while True:
            # While another page is loaded there is nothing that could evaluate it.
            with suppress(AssertionError):
                if value := self.evaluate(guarded):
                    return value
            assert time.monotonic() < end, (expression, self.text())
            time.sleep(_PAUSE_S)

    def text(self) -> str:
        """All that can be read, as it is laid out."""
        return str(self.evaluate("document.body.innerText"))

    def html(self) -> str:
        """The document, also where scripts are off."""
        while True:
            root = self.call("DOM.getDocument")["root"]["nodeId"]
            # A page that takes its place meanwhile has nodes of its own.
            with suppress(GoneError):
                return str(self.call("DOM.getOuterHTML", nodeId=root)["outerHTML"])

    def size(self, width: int, height: int = 900) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height,
            deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip

    def dark(self) -> None:
        features = [{"name": "prefers-color-scheme", "value": "dark"}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def without_scripts(self) -> None:
        self.call("Emulation.setScriptExecutionDisabled", value=True)

    def picture(self, path: Path) -> None:
        """Write all of the page as it looks to a PNG file."""
        reply = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(reply["data"]))

    def complaints(self) -> list[str]:
        """What went wrong: dialogs, errors of scripts, and what the policy of the page refused."""
        dialogs = [event["message"] for event in self.happened("Page.javascriptDialogOpening")]
        errors = [
            str(event["exceptionDetails"]) for event in self.happened("Runtime.exceptionThrown")
        ]
        entries = [event["entry"] for event in self.happened("Log.entryAdded")]
        return [*dialogs, *errors, *(each["text"] for each in entries if each["level"] == "error")]


@contextmanager
def running(directory: Path) -> Iterator[Browser]:
    """A browser with a profile in a new directory."""
    program, environment = need()
    fonts = directory / "fonts.conf"
    places = [UNPACKED / "usr/share/fonts", Path("/usr/share/fonts")]
    dirs = "".join(f"<dir>{place}</dir>" for place in places)
    fonts.write_text(f"<fontconfig>{dirs}<cachedir>{directory}/fonts</cachedir></fontconfig>")
    environment["FONTCONFIG_FILE"] = str(fonts)
    theirs_in, into = os.pipe()
    out, theirs_out = os.pipe()
    # Other shells take descriptors of one digit only.
    script = f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}'
    words = ["bash", "-c", script, program, *FLAGS, f"--user-data-dir={directory}", "about:blank"]
    with subprocess.Popen(
        words, env=environment, pass_fds=(theirs_in, theirs_out), stderr=subprocess.DEVNULL
    ) as process:
        os.close(theirs_in)
        os.close(theirs_out)
        try:
            yield Browser(process, into, out)
        finally:
            os.close(into)
            os.close(out)
            process.terminate()
            process.wait(PATIENCE_S)
