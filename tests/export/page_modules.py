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
