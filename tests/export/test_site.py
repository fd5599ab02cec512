"""The page separates in a browser as the Python runtime does, and says what it cannot take.

The tests in a browser need Chromium or Firefox, and the npm package onnxruntime-web, whose folder or archive
the environment variable ONNXRUNTIME_WEB names.
"""

from __future__ import annotations

import inspect
import json
import os
import tarfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from polsess.audio import Samples, read_audio, write_audio
from polsess.checkpoints import load_model, save_model
from polsess.data.mini import MIXTURES
from polsess.diarization.settings import GateConfig
from polsess.evaluation.systems import LISTENERS
from polsess.export import ExportError, export_site
from polsess.export import exporting as exporting_module
from polsess.export import site as site_module
from polsess.models import create_model
from polsess.models.network import Network
from polsess.runtime import Separator
from polsess.timelines import read_rttm
from tests.export.browsers import Chromium, Firefox, Page, shown

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")
PACKAGE = os.environ.get("ONNXRUNTIME_WEB", "")
BROWSERS = [browser for browser in (Chromium, Firefox) if browser.program]
in_browser = pytest.mark.skipif(not BROWSERS or not PACKAGE, reason="a browser or ONNXRUNTIME_WEB is missing")


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


def test_the_folder_holds_all_that_the_page_needs(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []

    def load(source: str | Path, **options: Any) -> Network:
        loaded.append(Path(source).name)
        return load_model(source, **options)

    for module in (site_module, exporting_module):
        monkeypatch.setattr(module, "load_model", load)
    archive = tmp_path / "package.tgz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(package(tmp_path / "package"), "package")
    for number, runtime in enumerate((archive, tmp_path / "package")):
        site = tmp_path / f"site{number}"
        loaded.clear()
        export_site(model, site, runtime=runtime)
        assert sorted(loaded) == sorted(["blstm", *LISTENERS.values()])
        names = {path.name for path in site.iterdir()}
        assert {"index.html", "page.css", "page.js", "worker.js", "separation", "facts.json"} < names
        assert {"model.onnx", *(f"{each}.onnx" for each in LISTENERS.values())} < names
        assert "onnxruntime-web 1.2.3" in (site / "onnxruntime-web-LICENSE.txt").read_text()
        facts = json.loads((site / "facts.json").read_text())
        assert facts["names"] == ["speaker1", "speaker2"]
        assert facts["gate"] == asdict(GateConfig())
        defaults = inspect.signature(Separator.__mro__[1]).parameters
        assert facts["segment_seconds"] == defaults["segment_seconds"].default
        assert facts["overlap"] == defaults["overlap"].default
        own = [path for path in site.rglob("*") if path.suffix in (".html", ".css", ".js")]
        assert not [path for path in own if "://" in path.read_text()]


def test_what_is_no_package_and_folders_with_files(model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.tgz").write_text("no archive")
    for runtime in (tmp_path, tmp_path / "a.tgz"):
        with pytest.raises(ExportError, match="is not the npm package onnxruntime-web"):
            export_site(model, tmp_path / "site", runtime=runtime)
    with pytest.raises(FileExistsError, match="choose a new or an empty folder"):
        export_site(model, tmp_path, runtime=package(tmp_path / "package"))
    with pytest.raises(ExportError, match="--accept: float32 loses nothing"):
        export_site(model, tmp_path / "site", accept=True, runtime=package(tmp_path / "another"))
    assert not (tmp_path / "site").exists()


def test_an_enhancer_needs_no_networks_that_listen(tmp_path: Path) -> None:
    save_model(create_model("blstm", preset="tiny", num_sources=1, num_shifts=2), tmp_path / "enhancer")
    export_site(tmp_path / "enhancer", tmp_path / "site", runtime=package(tmp_path / "package"))
    assert [path.name for path in (tmp_path / "site").glob("*.onnx")] == ["model.onnx"]
    assert json.loads((tmp_path / "site" / "facts.json").read_text())["detector"] is None


@pytest.fixture(scope="module")
def site(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page") / "site"
    export_site(model, folder, runtime=Path(PACKAGE))
    return folder


@pytest.fixture(scope="module", params=BROWSERS, ids=lambda browser: browser.__name__)
def page(
    request: pytest.FixtureRequest, site: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Page]:
    with shown(request.param, site, tmp_path_factory.mktemp("profile")) as opened:
        yield opened
        assert not opened.problems


def voices() -> list[Samples]:
    folder = MIXTURES / "8k" / "different_sex"
    return [read_audio(folder / f"{name}.flac")[0][0].numpy() for name in ("s1", "s2", "mix")]


def conversation() -> Samples:
    """Each voice alone, both for a second and a half, and each alone again."""
    first, second, both = voices()
    return np.concatenate([first, second, both[4000:16_000], first, second])


def work(page: Page, content: bytes, name: str) -> list[str]:
    """Give the page a sound and wait for its tracks; what it says then, in lines."""
    page.give(content, name)
    page.wait_for("!document.getElementById('results').hidden")
    return page.status.splitlines()


@in_browser
@pytest.mark.parametrize("whole", [False, True])
def test_a_browser_separates_as_python_does(page: Page, site: Path, tmp_path: Path, whole: bool) -> None:
    """With the gate; without it in several pieces. The name of the file is text, whatever is in it."""
    sound = np.tile(voices()[2], 8) if whole else conversation()
    name = "a<img src=x onerror=alert(1)>.wav"
    write_audio(tmp_path / name, sound, 8000)
    expected = Separator.from_onnx(site / "model.onnx").separate(tmp_path / name)
    assert expected.timeline is not None
    assert expected.timeline.whole == whole
    said = work(page, (tmp_path / name).read_bytes(), name)
    assert ("all of it was separated" in said[0]) == whole
    files = page.saved("document.getElementById('save-all').click()")
    assert list(files) == [f"a_img src=x onerror=alert(1)__{track}.wav" for track in expected.names]
    for number, content in enumerate(files.values()):
        (tmp_path / f"{number}.wav").write_bytes(content)
        track = read_audio(tmp_path / f"{number}.wav")[0][0]
        scale = max(1.0, np.abs(expected.sources).max())
        np.testing.assert_allclose(track, expected.sources[number] / scale, atol=1e-3)
    (rttm,) = page.saved("document.getElementById('save-timeline').click()").values()
    (tmp_path / "a.rttm").write_bytes(rttm.replace(b"a<img src=x onerror=alert(1)>", b"a"))
    (turns,) = read_rttm(tmp_path / "a.rttm").values()
    assert [each.speaker for each in turns] == [each.speaker for each in expected.timeline.turns]
    for turn, other in zip(turns, expected.timeline.turns, strict=True):
        assert (turn.start, turn.end) == pytest.approx((other.start, other.end), abs=0.03)
    assert page.evaluate("document.querySelectorAll('img').length") == 0


@in_browser
def test_keys_languages_and_players(page: Page, tmp_path: Path) -> None:
    write_audio(tmp_path / "b.wav", conversation(), 8000)
    work(page, (tmp_path / "b.wav").read_bytes(), "b.wav")
    pressed = "[...document.querySelectorAll('.hear')].map((each) => each.ariaPressed)"
    assert page.evaluate(pressed) == ["true", "false", "false"]
    page.press("2")
    assert page.evaluate(pressed) == ["false", "false", "true"]
    page.press("ArrowRight")
    assert page.evaluate("document.getElementById('time').textContent") == "0:02 / 0:17"
    page.press(" ")
    assert page.evaluate("document.getElementById('play').textContent") == "Pause"
    if isinstance(page, Firefox):  # which plays nothing without an output, where Chromium makes as if
        page.wait_for("document.getElementById('play').textContent === 'Play'")
        assert "plays no sound here" in page.status
    else:
        page.wait_for("document.getElementById('time').textContent.startsWith('0:03')")
        page.press(" ")
    page.press("Home")
    assert page.evaluate("document.getElementById('time').textContent") == "0:00 / 0:17"
    page.evaluate("document.getElementById('language').click()")
    assert page.evaluate("document.documentElement.lang") == "pl"
    assert "Znalezione głosy: 2" in page.status
    assert page.evaluate("document.querySelectorAll('.hear')[1].textContent") == "Mówca 1"
    page.evaluate("document.getElementById('language').click()")
    for width in (320, 390, 768, 1280):
        page.picture(tmp_path / "page.png", width, 800)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        wide = page.evaluate("document.querySelector('canvas').width")
        assert wide == page.evaluate("document.querySelector('canvas').clientWidth")


@in_browser
def test_what_is_no_sound_or_too_long_is_said(page: Page, tmp_path: Path) -> None:
    write_audio(tmp_path / "c.wav", voices()[0], 8000)
    cut = (tmp_path / "c.wav").read_bytes()[:9000]
    for content, name, kind, expected in (
        (b"\x89PNG", "a.png", "image/png", "a.png is no sound"),
        (b"", "a.wav", "audio/wav", "a.wav is empty"),
        (b"RIFF nothing", "<b>a</b>.wav", "audio/wav", "<b>a</b>.wav is no sound"),
        (b"fLaC nothing", "a.flac", "audio/flac", "a.flac is no sound"),
        (cut, "cut.wav", "audio/wav", "cut.wav is cut off"),
        (b"text", "a", "", "a is no sound"),
    ):
        page.give(content, name, kind, drop=True)
        page.wait_for(f"document.getElementById('status').textContent.includes({json.dumps(expected)})")
        assert page.evaluate("document.getElementById('results').hidden")
        assert page.evaluate("document.getElementById('work').hidden")
    write_audio(tmp_path / "start.wav", np.zeros(8000, np.float32), 8000)
    head = bytearray((tmp_path / "start.wav").read_bytes()[:44])
    head[40:44] = (2 * 8000 * 7200).to_bytes(4, "little")
    page.evaluate(
        "(() => { const transfer = new DataTransfer(), input = document.getElementById('file');"
        f"const parts = [new Uint8Array({list(head)}), new Uint8Array({2 * 8000 * 7200})];"
        "transfer.items.add(new File(parts, 'day.wav', {type: 'audio/wav'}));"
        "input.files = transfer.files; input.dispatchEvent(new Event('change')); })()"
    )
    page.wait_for("document.getElementById('status').textContent.includes('day.wav is 120 minutes long')")
    said = work(page, (tmp_path / "start.wav").read_bytes(), "start.wav")
    assert said[0] == "start.wav holds nothing but silence."
    write_audio(
        tmp_path / "noise.wav", 1e-3 * np.random.default_rng(0).standard_normal(16000, np.float32), 8000
    )
    assert "No speech was found" in work(page, (tmp_path / "noise.wav").read_bytes(), "noise.wav")[0]


@in_browser
def test_work_is_cancelled_and_the_microphone_is_recorded(page: Page, tmp_path: Path) -> None:
    write_audio(tmp_path / "c.wav", np.tile(conversation(), 10), 8000)
    page.give((tmp_path / "c.wav").read_bytes(), "c.wav")
    page.wait_for("document.getElementById('status').textContent.startsWith('Separating')")
    page.press("Escape")
    assert page.status == "Cancelled."
    assert page.evaluate("document.getElementById('results').hidden")
    page.evaluate("document.getElementById('record').click()")
    page.wait_for("document.getElementById('record').textContent.includes('Stop (0:01)')")
    page.evaluate("document.getElementById('record').click()")
    page.wait_for("!document.getElementById('results').hidden")
    assert page.evaluate("document.getElementById('name').textContent") == "recording"
