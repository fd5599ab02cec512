"""The JavaScript of the exported page, run by Node, with networks that stay in Python."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polsess.audio import Samples

NODE = shutil.which("node")
Networks = Mapping[str, Callable[[Samples], Any]]


class PageModules:
    """Evaluates expressions over the modules of the page.

    Args:
        folder: For a copy of the modules, which says that they are modules.
    """

    def __init__(self, folder: Path) -> None:
        modules = folder / "separation"
        shutil.copytree(str(files("polsess.export").joinpath("web", "separation")), modules)
        (folder / "package.json").write_text('{"type": "module"}')
        command = [str(NODE), str(Path(__file__).with_name("bridge.mjs")), str(modules)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, expression: str, *arguments: Any, networks: Networks | None = None) -> Any:
        """The value of an expression over the modules ``m``, the arguments ``a`` and the networks ``n``."""
        self._send({"expression": expression, "arguments": arguments})
        while "network" in (answer := self._receive()):
            assert networks is not None
            self._send({"answer": networks[answer["network"]](answer["samples"])})
        assert "error" not in answer, answer["error"]
        return answer.get("result")

    def _send(self, message: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(_encode(message)) + "\n")
        self._process.stdin.flush()

    def _receive(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline(), object_hook=_decode)

    def close(self) -> None:
        """End Node."""
        self._process.communicate()


def _encode(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        if value.ndim == 1 and value.dtype == np.float32:
            return {"f32": base64.b64encode(value.tobytes()).decode()}
        return [_encode(each) for each in value] if value.ndim > 1 else value.tolist()
    if isinstance(value, Mapping):
        return {key: _encode(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_encode(each) for each in value]
    return value.item() if isinstance(value, np.generic) else value


def _decode(value: dict[str, Any]) -> Any:
    return np.frombuffer(base64.b64decode(value["f32"]), np.float32) if "f32" in value else value


def random(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def noise(seed: int, *shape: int) -> Any:
    return (0.1 * random(seed).standard_normal(shape)).astype(np.float32)


def masks(seed: int, length: int = 400) -> Any:
    """Runs of random lengths."""
    lengths = random(seed).integers(1, 30, length)
    return np.repeat(np.arange(length) % 2 == 0, lengths)[:length]


def compare_turns(found: Any, expected: Any, confidence: float = 1e-3) -> None:
    assert [(each["start"], each["end"], each["speaker"]) for each in found] == [
        (pytest.approx(turn.start), pytest.approx(turn.end), turn.speaker) for turn in expected
    ]
    for each, turn in zip(found, expected, strict=True):
        assert (each["confidence"] is None) == (turn.confidence is None)
        assert each["confidence"] is None or each["confidence"] == pytest.approx(
            turn.confidence, abs=confidence
        )
