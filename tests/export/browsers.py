"""A folder of static files, shown by a server, in a headless browser that is driven by its own protocol."""

from __future__ import annotations

import abc
import base64
import contextlib
import functools
import http.server
import itertools
import json
import mimetypes
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

_SECONDS = 250


class Page(abc.ABC):
    """A page of a browser.

    Args:
        socket: Of the browser's protocol.
        url: Of the page.
    """

    def __init__(self, socket: Any, url: str) -> None:
        self._socket, self._numbers = socket, itertools.count(1)
        self.problems: list[str] = []
        """What the browser wrote into its console: errors, also of the policy of contents."""
        self.open(url)
        self.wait_for("document.body?.dataset.ready === 'true'")

    @abc.abstractmethod
    def open(self, url: str) -> None:
        """Begin a session, and go to a page."""

    @abc.abstractmethod
    def evaluate(self, expression: str) -> Any:
        """The value of an expression, after what it promises."""

    @abc.abstractmethod
    def picture(self, path: Path, width: int, height: int) -> None:
        """Write a PNG file of the whole page."""

    @abc.abstractmethod
    def heard(self, told: dict[str, Any]) -> None:
        """Take note of what the browser tells unasked."""

    def command(self, method: str, **parameters: Any) -> Any:
        """Send a command of the protocol."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, **self.sent_with(parameters)}))
        while True:
            answer = json.loads(self._socket.recv(timeout=_SECONDS))
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]
            self.heard(answer)

    def sent_with(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """What a command is sent with."""
        return {"params": parameters}

    def wait_for(self, expression: str) -> None:
        """Wait until an expression is true."""
        wait(lambda: self.evaluate(expression), lambda: f"{expression}; the page says: {self.status}")

    @property
    def status(self) -> str:
        """What the page says."""
        return str(self.evaluate("document.getElementById('status')?.textContent"))

    def give(self, content: bytes, name: str, kind: str = "audio/wav", drop: bool = False) -> None:
        """Choose a file, or drop it."""
        text, deed = base64.b64encode(content).decode(), "window.dispatchEvent(event)"
        if not drop:
            deed = "input.files = transfer.files; input.dispatchEvent(new Event('change'))"
        self.evaluate(
            "(() => { const transfer = new DataTransfer(), input = document.getElementById('file');"
            f"transfer.items.add(new File([Uint8Array.from(atob('{text}'), (c) => c.charCodeAt(0))], "
            f"{json.dumps(name)}, {{type: '{kind}'}}));"
            "const event = new DragEvent('drop', {dataTransfer: transfer, cancelable: true});"
            f"{deed}; }})()"
        )

    def saved(self, deed: str) -> dict[str, bytes]:
        """The files that the page saves in the course of an expression, by name."""
        found = self.evaluate(
            "(async () => { const blobs = [], names = [], make = URL.createObjectURL;"
            "const click = HTMLAnchorElement.prototype.click;"
            "URL.createObjectURL = (blob) => { blobs.push(blob); return make(blob); };"
            "HTMLAnchorElement.prototype.click = function () { names.push(this.download); };"
            f"try {{ {deed}; }} finally {{"
            "URL.createObjectURL = make; HTMLAnchorElement.prototype.click = click; }"
            "const read = (blob) => new Promise((resolve) => { const reader = new FileReader();"
            "reader.onload = () => resolve(reader.result.split(',')[1]); reader.readAsDataURL(blob); });"
            "const files = []; for (const blob of blobs) files.push(await read(blob));"
            "return names.map((name, i) => [name, files[i]]); })()"
        )
        return {name: base64.b64decode(content) for name, content in found}

    def press(self, key: str) -> None:
        """Press a key."""
        self.evaluate(
            "(document.activeElement ?? document.body).dispatchEvent("
            f"new KeyboardEvent('keydown', {{key: '{key}', bubbles: true, cancelable: true}}))"
        )


class Chromium(Page):
    """A page of Chromium, by its DevTools protocol."""

    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    _session = ""

    @staticmethod
    def options(profile: Path) -> list[str]:
        """How the browser is started."""
        media = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        plain = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]
        sound = "--autoplay-policy=no-user-gesture-required"
        return [*plain, *media, sound, f"--user-data-dir={profile}", "about:blank"]

    @staticmethod
    def address(profile: Path) -> str:
        """Of the socket; empty as long as there is none."""
        ports = profile / "DevToolsActivePort"
        lines = ports.read_text().splitlines() if ports.exists() else []
        return f"ws://127.0.0.1:{lines[0]}{lines[1]}" if len(lines) == 2 else ""

    def open(self, url: str) -> None:
        """Begin a session, and go to a page."""
        target = self.command("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.command("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.command(f"{domain}.enable")
        self.command("Page.navigate", url=url)

    def sent_with(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """What a command is sent with."""
        return {"params": parameters} | ({"sessionId": self._session} if self._session else {})

    def heard(self, told: dict[str, Any]) -> None:
        """Take note of what the browser tells unasked."""
        if told.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown"):
            self.problems.append(json.dumps(told["params"]))

    def evaluate(self, expression: str) -> Any:
        """The value of an expression, after what it promises."""
        found = self.command("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def picture(self, path: Path, width: int, height: int, *, dark: bool = False) -> None:
        """Write a PNG file of the whole page."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.command("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.command("Emulation.setEmulatedMedia", features=[scheme])
        self.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        taken = self.command("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(taken["data"]))


class Firefox(Page):
    """A page of Firefox, by WebDriver BiDi (https://www.w3.org/TR/webdriver-bidi/)."""

    program = shutil.which("firefox") or shutil.which("firefox-esr")
    _context = ""

    @staticmethod
    def options(profile: Path) -> list[str]:
        """How the browser is started."""
        settings = {"media.navigator.streams.fake": "true", "media.navigator.permission.disabled": "true"}
        settings |= {"media.autoplay.default": "0"}
        lines = [f'user_pref("{name}", {value});\n' for name, value in settings.items()]
        (profile / "user.js").write_text("".join(lines))
        return ["--headless", "--no-remote", "--remote-debugging-port=0", "--profile", str(profile)]

    @staticmethod
    def address(profile: Path) -> str:
        """Of the socket; empty as long as there is none."""
        told = profile / "WebDriverBiDiServer.json"
        try:
            facts = json.loads(told.read_text())
        except (OSError, ValueError):
            return ""
        return f"ws://{facts['ws_host']}:{facts['ws_port']}/session"

    def open(self, url: str) -> None:
        """Begin a session, and go to a page."""
        self.command("session.new", capabilities={})
        self.command("session.subscribe", events=["log.entryAdded"])
        self._context = self.command("browsingContext.getTree")["contexts"][0]["context"]
        self.command("browsingContext.navigate", context=self._context, url=url, wait="complete")

    def heard(self, told: dict[str, Any]) -> None:
        """Take note of what the browser tells unasked."""
        if told.get("method") == "log.entryAdded" and told["params"]["level"] == "error":
            self.problems.append(json.dumps(told["params"]))

    def evaluate(self, expression: str) -> Any:
        """The value of an expression, after what it promises."""
        found = self.command(
            "script.evaluate",
            expression=f"(async () => JSON.stringify(await ({expression}) ?? null))()",
            target={"context": self._context},
            awaitPromise=True,
        )
        assert found["type"] == "success", found
        return json.loads(found["result"]["value"])

    def picture(self, path: Path, width: int, height: int) -> None:
        """Write a PNG file of the whole page."""
        size = {"width": width, "height": height}
        self.command("browsingContext.setViewport", context=self._context, viewport=size)
        self.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        taken = self.command("browsingContext.captureScreenshot", context=self._context, origin="document")
        path.write_bytes(base64.b64decode(taken["data"]))


@contextlib.contextmanager
def shown(browser: type[Chromium | Firefox], site: Path, profile: Path) -> Iterator[Page]:
    """A page of a folder in a browser, whose profile goes into another folder."""
    connect = pytest.importorskip("websockets.sync.client").connect
    mimetypes.add_type("text/javascript", ".mjs")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    command = [str(browser.program), *browser.options(profile)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait(lambda: browser.address(profile), lambda: f"{browser.__name__} starts")
        with connect(browser.address(profile), max_size=None) as socket:
            yield browser(socket, f"http://127.0.0.1:{server.server_port}/index.html")
    finally:
        process.terminate()
        process.wait()
        server.shutdown()
        server.server_close()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


def wait(condition: Callable[[], Any], what: Callable[[], str]) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + _SECONDS
    while not condition():
        assert time.monotonic() < end, f"waited in vain: {what()}"
        time.sleep(0.2)
