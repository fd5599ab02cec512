"""A folder of static files, shown by a server, in a headless Chromium that is driven by its own protocol."""

from __future__ import annotations

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

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--remote-debugging-port=0",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
)
_SECONDS = 250


class Page:
    """A page of the browser.

    Args:
        socket: Of the browser's protocol.
        url: Of the page.
    """

    def __init__(self, socket: Any, url: str) -> None:
        self._socket, self._numbers, self._session = socket, itertools.count(1), ""
        target = self.command("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.command("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.problems: list[str] = []
        """What the browser wrote into its console: errors, also of the policy of contents."""
        for domain in ("Page", "Runtime", "Log"):
            self.command(f"{domain}.enable")
        self.command("Page.navigate", url=url)
        self.wait_for("document.body?.dataset.ready === 'true'")

    def command(self, method: str, **parameters: Any) -> Any:
        """Send a command of the protocol."""
        number = next(self._numbers)
        told = {"id": number, "method": method, "params": parameters}
        self._socket.send(json.dumps(told | ({"sessionId": self._session} if self._session else {})))
        while True:
            answer = json.loads(self._socket.recv(timeout=_SECONDS))
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]
            if answer.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown"):
                self.problems.append(json.dumps(answer["params"]))

    def evaluate(self, expression: str) -> Any:
        """The value of an expression, after what it promises."""
        found = self.command("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

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

    def picture(self, path: Path, width: int, height: int, *, dark: bool = False, whole: bool = True) -> None:
        """Write a PNG file of the page."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.command("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.command("Emulation.setEmulatedMedia", features=[scheme])
        self.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        taken = self.command("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(taken["data"]))


@contextlib.contextmanager
def shown(site: Path, profile: Path) -> Iterator[Page]:
    """A page of a folder in Chromium, whose profile goes into another folder."""
    connect = pytest.importorskip("websockets.sync.client").connect
    mimetypes.add_type("text/javascript", ".mjs")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    command = [str(CHROMIUM), *_OPTIONS, f"--user-data-dir={profile}", "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        ports = profile / "DevToolsActivePort"
        wait(lambda: ports.exists() and len(ports.read_text().splitlines()) == 2, lambda: "Chromium starts")
        port, path = ports.read_text().splitlines()
        with connect(f"ws://127.0.0.1:{port}{path}", max_size=None) as socket:
            yield Page(socket, f"http://127.0.0.1:{server.server_port}/index.html")
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
