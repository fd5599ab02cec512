"""The page separates in a browser as the Python runtime does, and says what it cannot take.

The browser test needs Chromium and the npm package onnxruntime-web, whose folder or archive is named by the
environment variable ONNXRUNTIME_WEB.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import http.server
import itertools
import json
import mimetypes
import os
import shutil
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from polsess.audio import read_audio, write_audio
from polsess.checkpoints import save_model
from polsess.data.mini import MIXTURES
from polsess.export import ExportError, export_site
from polsess.models import create_model
from polsess.runtime import Separator

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PACKAGE = os.environ.get("ONNXRUNTIME_WEB", "")
Evaluate = Callable[[str], Any]


def package(folder: Path) -> Path:
    """An npm package with the names of onnxruntime-web's files."""
    (folder / "dist").mkdir(parents=True)
    for name in ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"):
        (folder / "dist" / name).write_text(name)
    (folder / "package.json").write_text('{"version": "1.2.3"}')
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model") / "blstm"
    save_model(create_model("blstm", preset="tiny", num_shifts=2), folder)
    return folder


def test_the_folder_holds_all_that_the_page_needs(model: Path, tmp_path: Path) -> None:
    archive = tmp_path / "package.tgz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(package(tmp_path / "package"), "package")
    for number, runtime in enumerate((archive, tmp_path / "package")):
        site = tmp_path / f"site{number}"
        export_site(model, site, runtime=runtime)
        names = {path.name for path in site.iterdir()}
        assert {"index.html", "page.css", "page.js", "worker.js", "model.onnx", "facts.json"} < names
        assert "onnxruntime-web 1.2.3" in (site / "onnxruntime-web-LICENSE.txt").read_text()
        assert json.loads((site / "facts.json").read_text())["names"] == ["speaker1", "speaker2"]
        for name in ("index.html", "page.css", "page.js", "worker.js"):
            assert "//cdn" not in (site / name).read_text()
            assert "https://" not in (site / name).read_text()


def test_what_is_no_package_and_folders_with_files(model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.tgz").write_text("no archive")
    for runtime in (tmp_path, tmp_path / "a.tgz"):
        with pytest.raises(ExportError, match="is not the npm package onnxruntime-web"):
            export_site(model, tmp_path / "site", runtime=runtime)
    with pytest.raises(FileExistsError, match="choose a new or an empty folder"):
        export_site(model, tmp_path, runtime=package(tmp_path / "package"))
    assert not (tmp_path / "site").exists()


@contextlib.contextmanager
def browser(site: Path, profile: Path) -> Iterator[tuple[Evaluate, Callable[..., Any]]]:
    """Chromium on the page: a function that evaluates JavaScript in it, and one that sends a command."""
    connect = pytest.importorskip("websockets.sync.client").connect
    handler = functools.partial(_Quiet, directory=str(site))
    mimetypes.add_type("text/javascript", ".mjs")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]
    command = [str(CHROMIUM), *options, f"--user-data-dir={profile}", "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        ports = profile / "DevToolsActivePort"
        wait(lambda: ports.exists() and len(ports.read_text().splitlines()) == 2)
        port, path = ports.read_text().splitlines()
        with connect(f"ws://127.0.0.1:{port}{path}", max_size=None) as socket:
            numbers = itertools.count(1)

            def send(method: str, session: str | None = None, **parameters: Any) -> Any:
                number = next(numbers)
                told = {"id": number, "method": method, "params": parameters}
                socket.send(json.dumps(told | ({"sessionId": session} if session else {})))
                while True:
                    answer = json.loads(socket.recv(timeout=200))
                    if answer.get("id") == number:
                        assert "error" not in answer, answer
                        return answer["result"]

            url = f"http://127.0.0.1:{server.server_port}/index.html"
            target = send("Target.createTarget", url=url)["targetId"]
            session = send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

            def evaluate(text: str) -> Any:
                found = send(
                    "Runtime.evaluate", session, expression=text, awaitPromise=True, returnByValue=True
                )
                return found["result"].get("value")

            wait(lambda: evaluate("facts !== null"))
            yield evaluate, functools.partial(send, session=session)
    finally:
        process.terminate()
        process.wait()
        server.shutdown()
        server.server_close()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


def wait(condition: Callable[[], Any], seconds: float = 250) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the page did not get there"
        time.sleep(0.2)


def give(evaluate: Evaluate, content: bytes, name: str, kind: str) -> None:
    """Give the page a file."""
    text = base64.b64encode(content).decode()
    evaluate(
        f"open(new File([Uint8Array.from(atob('{text}'), (c) => c.charCodeAt(0))], '{name}', "
        f"{{type: '{kind}'}}))"
    )


def separated(evaluate: Evaluate) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The tracks that the page shows, ``[C, T]``."""
    tracks = []
    for index in range(1, evaluate("sounds.length")):
        text = evaluate(
            f"(() => {{ const b = new Uint8Array(sounds[{index}].samples.buffer); let t = '';"
            "for (let i = 0; i < b.length; i += 4096) t += String.fromCharCode(...b.subarray(i, i + 4096));"
            "return btoa(t); })()"
        )
        tracks.append(np.frombuffer(base64.b64decode(text), np.float32))
    return np.stack(tracks)


@pytest.mark.skipif(not CHROMIUM or not PACKAGE, reason="Chromium or ONNXRUNTIME_WEB is missing")
def test_a_browser_separates_as_python_does(model: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    export_site(model, site, runtime=Path(PACKAGE))
    sound = read_audio(MIXTURES / "8k" / "different_sex" / "mix.flac")[0][0, :24_000]
    write_audio(tmp_path / "a.wav", sound, 8000)
    expected = Separator.from_onnx(site / "model.onnx", gate="never").separate(tmp_path / "a.wav").sources
    with browser(site, tmp_path / "profile") as (evaluate, _):
        give(evaluate, (tmp_path / "a.wav").read_bytes(), "a.wav", "audio/wav")
        wait(lambda: evaluate("!document.getElementById('results').hidden"))
        np.testing.assert_allclose(separated(evaluate), expected, atol=1e-3)
        give(evaluate, b"\x89PNG", "a.png", "image/png")
        wait(lambda: "is no sound" in evaluate("document.getElementById('status').textContent"))
        evaluate("lengthOf = async () => 7200")
        give(evaluate, (tmp_path / "a.wav").read_bytes(), "long.wav", "audio/wav")
        wait(lambda: "120 minutes" in evaluate("document.getElementById('status').textContent"))
