"""Facts about a machine that decide which models and formats work on it."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from polsess.audio import find_ffmpeg
from polsess.dependencies import is_installed, list_extras
from polsess.machine import installed_version, memory_gib
from polsess.models.layers.kernels import load_kernel
from polsess.models.layers.products import choose_products
from polsess.precision import multiplies_natively
from polsess.processes import num_processors

_REQUIRED = ("torch", "numpy", "soundfile", "soxr", "pydantic", "PyYAML", "safetensors", "huggingface_hub")
_OFF = {"off", "0", "no", "false"}


@dataclass(frozen=True)
class Facts:
    """Facts of one machine and one environment.

    Attributes:
        python: Version.
        system: As ``platform.system`` names it: Linux, Darwin, Windows.
        required: Version of each required package; None if it is missing.
        optional: Version of each optional package; None if it is missing.
        cuda_devices: Names of the GPUs that torch can use.
        nvidia_driver: Whether the machine has an NVIDIA driver, used or not.
        mps: Whether torch can use Apple's GPU.
        triton: Whether GPU kernels can be compiled.
        kernels_off: Whether ``POLSESS_KERNELS`` forbids the native CPU kernels.
        compiler: The C++ compiler, if there is one.
        kernels_work: Whether the native kernels could be built and loaded.
        products: Library of large matrix products, with its gain over MKL or the reason for MKL.
        auto_precision: What ``--precision auto`` multiplies in here, for networks that it does not harm.
        products_off: Whether ``POLSESS_PRODUCTS`` forbids the faster library.
        audio_formats: Formats of libsndfile; empty if it cannot be loaded.
        libsndfile: Its version; None if it cannot be loaded.
        ffmpeg: Path of the program; None if it is not installed.
        processors: Processors that this process may use.
        threads: Threads that torch uses.
        allocator_default: Whether ``POLSESS_ALLOCATOR`` keeps the slower allocator.
        memory_gib: Physical memory that is free now; None where the system does not report it.
        cache_free_gib: Free disk space for downloaded weights.
        cache_writable: Whether this user may write to the folder of downloaded weights.
        cache: That folder.
    """

    python: str
    system: str
    required: dict[str, str | None]
    optional: dict[str, str | None]
    cuda_devices: tuple[str, ...]
    nvidia_driver: bool
    mps: bool
    triton: bool
    kernels_off: bool
    compiler: str | None
    kernels_work: bool
    products: str
    auto_precision: str
    products_off: bool
    audio_formats: tuple[str, ...]
    libsndfile: str | None
    ffmpeg: str | None
    processors: int
    threads: int
    allocator_default: bool
    memory_gib: float | None
    cache_free_gib: float
    cache_writable: bool
    cache: str


def gather_facts() -> Facts:
    """Gather the facts of this machine; native kernels that are missing are built, which takes seconds."""
    formats, libsndfile = _codecs()
    cache = _existing(Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface")))
    cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return Facts(
        python=platform.python_version(),
        system=platform.system(),
        required={name: installed_version(name) for name in _REQUIRED},
        optional={name: installed_version(name) for name in sorted(list_extras())},
        cuda_devices=tuple(torch.cuda.get_device_name(index) for index in range(cuda)),
        nvidia_driver=Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None,
        mps=torch.backends.mps.is_available(),
        triton=is_installed("triton"),
        kernels_off=os.environ.get("POLSESS_KERNELS", "").lower() in _OFF,
        compiler=shutil.which(os.environ.get("CXX", "c++")),
        kernels_work=load_kernel("mamba") is not None,
        products=str(choose_products()),
        auto_precision=_auto_precision(),
        products_off=os.environ.get("POLSESS_PRODUCTS") == "plain",
        audio_formats=formats,
        libsndfile=libsndfile,
        ffmpeg=find_ffmpeg(),
        processors=num_processors(),
        threads=torch.get_num_threads(),
        allocator_default=os.environ.get("POLSESS_ALLOCATOR") == "default",
        memory_gib=memory_gib("MemAvailable"),
        cache_free_gib=round(shutil.disk_usage(cache).free / 2**30, 1),
        cache_writable=os.access(cache, os.W_OK),
        cache=str(cache),
    )


def _auto_precision() -> str:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if multiplies_natively(device, torch.bfloat16):
        return "bfloat16"
    return f"float32 (the {device.type} has no instructions for products in bfloat16)"


def _codecs() -> tuple[tuple[str, ...], str | None]:
    try:
        soundfile = importlib.import_module("soundfile")
    except (ImportError, OSError):  # OSError: the package without its library
        return (), None
    return tuple(sorted(soundfile.available_formats())), str(soundfile.__libsndfile_version__)


def _existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())
