"""Commands start without the packages that they do not need; each of these costs up to seconds to import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch

from polsess.audio import write_audio
from polsess.cli.main import Commands

SCRIPT = """
import sys
from polsess.cli.main import app
for words in sys.stdin.read().splitlines():
    try:
        app(words.split())
    except SystemExit as done:
        assert not done.code, words
print(*sys.modules)
"""
COMPILERS = {"sympy", "torch._dynamo", "torch._inductor", "torch.distributed.fsdp"}
APPLICATIONS = {"lightning", "tensorboard", "matplotlib", "optuna", "scipy", "onnx", "huggingface_hub"}
NUMERICS = {"torch", "numpy", "soundfile", "soxr"}


def imported(*lines: str, cwd: Path | None = None) -> set[str]:
    """The modules that a process has imported after some commands."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], input="\n".join(lines), capture_output=True, text=True, cwd=cwd
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


def test_the_help_of_the_program_needs_next_to_nothing() -> None:
    modules = imported("--help", "--version")
    assert not modules & (COMPILERS | APPLICATIONS | NUMERICS | {"rich", "pydantic", "yaml"})


def test_the_help_of_every_command_needs_no_numerics() -> None:
    modules = imported(*(f"{name} --help" for name in Commands()))
    assert not modules & (COMPILERS | APPLICATIONS | NUMERICS | {"rich"})


def test_separation_needs_neither_compilers_nor_applications(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", 0.1 * torch.randn(2000), 8000)
    modules = imported("separate a.wav --device cpu", cwd=tmp_path)
    assert not modules & (COMPILERS | APPLICATIONS)
    assert (tmp_path / "separated" / "a_speaker1.wav").exists()
