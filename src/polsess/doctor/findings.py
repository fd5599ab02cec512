"""Advice from the facts of a machine: failures, slow parts, and one command that mends each."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from polsess.dependencies import install_command, list_extras
from polsess.doctor.facts import Facts
from polsess.text_tables import counted

Level = Literal["broken", "slow", "absent"]

_UNSAFE_LIGHTNING = {"2.6.2", "2.6.3"}
_LEAST_MEMORY_GIB = 4.0
_LEAST_DISK_GIB = 2.0


@dataclass(frozen=True)
class Finding:
    """One fault of a machine.

    Attributes:
        level: ``broken``: something fails; ``slow``: it works, slower than it could; ``absent``: an optional
            part is not installed.
        message: The fault and its effect.
        remedy: The command or setting that mends it; None if there is none.
    """

    level: Level
    message: str
    remedy: str | None = None


def judge(facts: Facts) -> list[Finding]:
    """Return the faults of a machine, the gravest first; empty if there is none."""
    found = [*_packages(facts), *_accelerators(facts), *_kernels(facts), *_resources(facts)]
    order: list[Level] = ["broken", "slow", "absent"]
    return sorted(found, key=lambda finding: order.index(finding.level))


def _packages(facts: Facts) -> Iterator[Finding]:
    missing = [name for name, version in facts.required.items() if version is None]
    if missing:
        names = " ".join(missing)
        yield Finding("broken", f"Required packages are missing: {names}.", f"pip install {names}")
    elif facts.libsndfile is None:
        remedy = "pip install --force-reinstall soundfile"
        yield Finding("broken", "libsndfile cannot be loaded: no sound file can be read.", remedy)
    elif lacking := sorted({"WAV", "FLAC", "OGG", "MP3"} - set(facts.audio_formats)):
        message = f"libsndfile {facts.libsndfile} lacks {', '.join(lacking)}: such files cannot be used."
        yield Finding("broken", message, "pip install --upgrade soundfile")
    if facts.ffmpeg is None:
        install = {"Linux": "sudo apt install ffmpeg", "Darwin": "brew install ffmpeg"}.get(facts.system)
        yield Finding("absent", "No ffmpeg: M4A, MP4, WebM, AAC, WMA and ADPCM files are not read.", install)
    if facts.optional.get("lightning") in _UNSAFE_LIGHTNING:
        message = f"lightning {facts.optional['lightning']} was a malicious upload: remove it now."
        yield Finding("broken", message, "pip uninstall -y lightning && pip install 'lightning>2.6.3'")
    for extra in sorted(set(list_extras().values())):
        absent = [name for name, of in list_extras().items() if of == extra and facts.optional[name] is None]
        if absent:
            message = f"Optional packages of '{extra}': {', '.join(absent)}."
            yield Finding("absent", message, install_command(extra))


def _accelerators(facts: Facts) -> Iterator[Finding]:
    if facts.nvidia_driver and not facts.cuda_devices:
        remedy = "pip install --force-reinstall torch"
        yield Finding("slow", "There is an NVIDIA driver, but this torch cannot use it.", remedy)
    elif not facts.cuda_devices and not facts.mps:
        yield Finding("slow", "No GPU: separation runs on the processor; training takes days.")
    if facts.cuda_devices and not facts.triton:
        yield Finding("slow", "No triton: Mamba models run a slower path on the GPU.", "pip install triton")


def _kernels(facts: Facts) -> Iterator[Finding]:
    if facts.kernels_off:
        message = "POLSESS_KERNELS turns the native kernels off: Mamba models are slower on the processor."
        yield Finding("slow", message, "unset POLSESS_KERNELS")
    elif facts.compiler is None:
        remedy = {"Linux": "sudo apt install g++", "Darwin": "xcode-select --install"}.get(facts.system)
        yield Finding("slow", "No C++ compiler: Mamba models are slower on the processor.", remedy)
    elif not facts.kernels_work:
        message = f"{facts.compiler} cannot build the native kernels: Mamba models are slower."
        code = "from polsess.models.layers.kernels import load_kernel; load_kernel('mamba')"
        yield Finding("slow", message, f'{sys.executable} -c "{code}"  # shows why')


def _resources(facts: Facts) -> Iterator[Finding]:
    if facts.products_off:
        message = "POLSESS_PRODUCTS=plain: matrix products may take twice as long on AMD processors."
        yield Finding("slow", message, "unset POLSESS_PRODUCTS")
    if facts.threads != facts.processors:
        amount = "fewer" if facts.threads < facts.processors else "more"
        message = (
            f"torch uses {counted(facts.threads, 'thread')}, {amount} than the {facts.processors} processors."
        )
        yield Finding("slow", message, f"export OMP_NUM_THREADS={facts.processors}")
    if facts.allocator_default:
        message = "POLSESS_ALLOCATOR=default: long recordings take up to three times as long."
        yield Finding("slow", message, "unset POLSESS_ALLOCATOR")
    if facts.memory_gib is not None and facts.memory_gib < _LEAST_MEMORY_GIB:
        message = f"{facts.memory_gib:g} GiB of memory are free: large models may need shorter pieces."
        yield Finding("slow", message, "polsess separate --segment 6 INPUT")
    if not facts.cache_writable:
        message = f"{facts.cache} cannot be written: weights cannot be downloaded."
        yield Finding("broken", message, "export HF_HOME=/a/folder/of/yours")
    elif facts.cache_free_gib < _LEAST_DISK_GIB:
        message = f"{facts.cache_free_gib:g} GiB are free in {facts.cache}: downloads may fail."
        yield Finding("broken", message, "hf cache prune")
