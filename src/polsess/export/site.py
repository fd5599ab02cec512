"""A folder of static files with which a browser separates recordings by itself."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from polsess.checkpoints import load_model
from polsess.diarization.settings import GateConfig, speaker_range
from polsess.export.checks import Checks
from polsess.export.exporting import ExportError, Precision, check_accept, export_network
from polsess.files import check_folder
from polsess.inference.separator import DETECTOR, EMBEDDER, ENHANCER
from polsess.models import ActivityDetector, SeparationModel
from polsess.models.network import Network
from polsess.publication import atomic_folder

RUNTIME_VERSION = "1.30.0"
"""Of onnxruntime-web, for which the page was tried."""
_RUNTIME = "onnxruntime-web"
_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
_LISTENERS = (DETECTOR, EMBEDDER, ENHANCER)
"""Bundled networks that say who speaks when; their files are called like them."""
_MOST_SOURCES = 8
_SEGMENT_SECONDS, _OVERLAP = 24.0, 0.25
"""As in polsess.inference."""
_MOST_BYTES = 1 << 28
_LICENCE = """onnxruntime-web {version}, from npm (https://www.npmjs.com/package/onnxruntime-web)

MIT License

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
associated documentation files (the "Software"), to deal in the Software without restriction,
including without limitation the rights to use, copy, modify, merge, publish, distribute,
sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial
portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT
NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES
OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN
CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


def export_site(
    source: str | Path,
    folder: Path,
    *,
    precision: Precision = "float32",
    accept: bool = False,
    runtime: Path | None = None,
) -> Checks:
    """Write the page with a separation model; it appears whole or not at all.

    Args:
        source: A model, as for ``export_model``.
        folder: The folder to write, new or empty.
        precision: Of the weights.
        accept: As for ``export_model``.
        runtime: The npm package onnxruntime-web: its folder or its ``.tgz``; None to fetch it by npm.

    Returns:
        What was compared.

    Raises:
        ExportError: As ``export_model``, or if the model has more than 8 outputs, or onnxruntime-web is not
            there or not complete.
        FileExistsError: If the folder holds files.
        OSError: If nothing can be written there.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder}: exists already; choose a new or an empty folder.")
    check_accept(precision, accept)
    check_folder(folder)
    model = load_model(source, kind=SeparationModel)
    if model.output_sources > _MOST_SOURCES:
        raise ExportError(
            f"{source}: has {model.output_sources} outputs; the page separates at most {_MOST_SOURCES}."
        )
    listeners = {name: load_model(name, kind=Network) for name in _LISTENERS if model.output_sources > 1}
    content = _read_runtime(runtime)
    page = files("polsess.export").joinpath("web")
    with atomic_folder(folder) as place, as_file(page) as scripts:
        checks = export_network(model, str(source), place / "model.onnx", precision=precision, accept=accept)
        for name, network in listeners.items():
            export_network(network, name, place / f"{name}.onnx")
        shutil.copytree(scripts, place, dirs_exist_ok=True)
        (place / "facts.json").write_text(json.dumps(_facts(model, listeners), indent=2) + "\n")
        for name, data in content.items():
            (place / name).write_bytes(data)
    return checks


def _facts(model: SeparationModel, listeners: Mapping[str, Network]) -> dict[str, Any]:
    """What the page has to know of the networks."""
    count = model.output_sources
    facts: dict[str, Any] = {
        "model": model.model_type,
        "sample_rate": model.sample_rate,
        "names": ["speech"] if count == 1 else [f"speaker{number + 1}" for number in range(count)],
        "minimum_samples": model.minimum_samples,
        "segment_seconds": _SEGMENT_SECONDS,
        "overlap": _OVERLAP,
        "num_speakers": speaker_range(None),
        "detector": None,
        "embedder": None,
        "enhancer": None,
    }
    detector = listeners.get(DETECTOR)
    if isinstance(detector, ActivityDetector):
        facts |= {
            "detector": {"sample_rate": detector.sample_rate, "hop_seconds": detector.hop_seconds},
            "embedder": {"sample_rate": listeners[EMBEDDER].sample_rate},
            "enhancer": {"sample_rate": listeners[ENHANCER].sample_rate},
            "gate": asdict(GateConfig()),
        }
    return facts


def _read_runtime(place: Path | None) -> dict[str, bytes]:
    """The files of onnxruntime-web that a page needs, with its licence."""
    if place is not None and place.is_dir():
        found = {name: path.read_bytes() for name in _FILES if (path := place / "dist" / name).is_file()}
        package = place / "package.json"
        version = str(json.loads(package.read_text())["version"]) if package.is_file() else ""
    elif place is not None:
        found, version = _unpack(place.read_bytes(), place)
    else:
        found, version = _fetch()
    if missing := [name for name in _FILES if name not in found]:
        raise ExportError(f"{place or _RUNTIME}: is not the npm package {_RUNTIME}; {missing[0]} is missing.")
    return {**found, f"{_RUNTIME}-LICENSE.txt": _LICENCE.format(version=version).encode()}


def _fetch() -> tuple[dict[str, bytes], str]:
    npm = shutil.which("npm")
    if npm is None:
        raise ExportError(
            f"npm is not installed; get {_RUNTIME} {RUNTIME_VERSION} elsewhere and name its folder or .tgz "
            "(--web-runtime)."
        )
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", f"{_RUNTIME}@{RUNTIME_VERSION}", "--silent"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)  # noqa: S603 - fixed words
        packed = sorted(Path(folder).glob("*.tgz"))
        if done.returncode or not packed:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise ExportError(f"npm could not fetch {_RUNTIME} {RUNTIME_VERSION}: {reason}")
        return _unpack(packed[0].read_bytes(), packed[0])


def _unpack(content: bytes, path: Path) -> tuple[dict[str, bytes], str]:
    """The wanted members of an npm archive; nothing is written by a name from the archive."""
    found: dict[str, bytes] = {}
    version = ""
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
            for member in archive:
                name = member.name.removeprefix("package/")
                if not member.isfile() or member.size > _MOST_BYTES:
                    continue
                if name.removeprefix("dist/") in _FILES and name.startswith("dist/"):
                    file = archive.extractfile(member)
                    found[name.removeprefix("dist/")] = file.read() if file else b""
                elif name == "package.json":
                    file = archive.extractfile(member)
                    version = str(json.loads(file.read() if file else b"{}").get("version", ""))
    except (tarfile.TarError, OSError, ValueError, EOFError) as error:
        raise ExportError(f"{path}: is not the npm package {_RUNTIME} ({error}).") from None
    return found, version
