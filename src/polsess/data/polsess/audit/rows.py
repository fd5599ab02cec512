"""Check of one row: headers, and the mixture against the sum of its layers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polsess.audio import AudioError, read_audio, read_audio_info, read_plain_header, read_plain_pcm
from polsess.data.polsess.audit.findings import Finding, Kind
from polsess.data.polsess.layers import FOLDERS, ROLES, speaker_files
from polsess.data.polsess.table import REVERB_COLUMNS, PolSESSRow
from polsess.data.timeline_files import timeline_path
from polsess.timelines import TimelineError, read_rttm

MAX_RESIDUAL = 4
"""Largest residual in steps of 16 bits: eight files, each rounded to half a step."""
_FULL = 2**15 - 1
_LIMITER = 0.998 * 2**15
"""The original generator limits the sum of the speakers to 0.999 after the speakers were saved."""
_MAX_RMS = 1e-3
"""Of full scale: what a limiter may leave in a mixture of which layers are taken away (MM-IPC)."""
_CLIPPED_MIX = 0.9999 * 2**15

PcmSamples = NDArray[np.int32]


@dataclass(frozen=True)
class RowTask:
    """A row to check."""

    folder: Path
    """Folder of the split."""
    split: str
    row: PolSESSRow
    headers_only: bool


@dataclass
class RowReport:
    """Findings and measurements of a row."""

    findings: list[Finding] = field(default_factory=list)
    rate: int | None = None
    """Rate of the mixture in Hz."""
    hashes: dict[str, bytes] = field(default_factory=dict)
    """Hashes of the samples by column, for each layer that was read."""
    residual: int | None = None
    """Difference between the mixture and its layers in steps of 16 bits, if it is their sum."""


@dataclass(frozen=True)
class _Form:
    rate: int
    num_samples: int
    num_channels: int


def check_row(task: RowTask) -> RowReport:
    """Check the files of a row."""
    report = RowReport()
    forms = {column: form for column in task.row.files if (form := _check_header(task, column, report))}
    mix = forms.get("mixFile")
    if mix is None:
        return report
    report.rate = mix.rate
    for column, form in forms.items():
        if form.rate != mix.rate:
            _add(report, task, Kind.WRONG_RATE, column, f"has {form.rate} Hz, its mixture {mix.rate}")
        if form.num_samples != mix.num_samples:
            detail = f"has {form.num_samples} samples, its mixture {mix.num_samples}"
            _add(report, task, Kind.WRONG_LENGTH, column, detail)
    if not task.headers_only:
        _check_samples(task, report, whole=len(forms) == len(task.row.files) and not report.findings)
    return report


def _add(report: RowReport, task: RowTask, kind: Kind, column: str, detail: str) -> None:
    name = f"{FOLDERS[column]}/{task.row.files[column]}"
    report.findings.append(Finding(kind, task.split, task.row.number, name, detail))


def _path(task: RowTask, column: str) -> Path:
    return task.folder / FOLDERS[column] / task.row.files[column]


def _check_header(task: RowTask, column: str, report: RowReport) -> _Form | None:
    path = _path(task, column)
    if plain := read_plain_header(path):
        form = _Form(plain.sample_rate, plain.num_samples, plain.num_channels)
    elif not path.exists():
        _add(report, task, Kind.MISSING_FILE, column, "is not there")
        return None
    else:
        try:
            info = read_audio_info(path)
        except AudioError as error:
            _add(report, task, Kind.UNREADABLE_FILE, column, error.cause)
            return None
        form = _Form(info.sample_rate, info.num_samples, info.num_channels)
    if form.num_channels != 1:
        _add(report, task, Kind.WRONG_CHANNELS, column, f"has {form.num_channels} channels, expected one")
        return None
    return form


def _check_samples(task: RowTask, report: RowReport, *, whole: bool) -> None:
    layers: dict[str, PcmSamples] = {}
    for column in task.row.files:
        try:
            layers[column] = _read(_path(task, column))
        except AudioError:
            continue  # its header was reported
        if not layers[column].any() and _is_absent(task, column):
            continue
        report.hashes[column] = hashlib.blake2b(layers[column].tobytes(), digest_size=16).digest()
        if not layers[column].any():
            kind = Kind.SILENT_REVERB if column in REVERB_COLUMNS else Kind.SILENT
            _add(report, task, kind, column, "holds only zeros")
    if whole:
        _check_sum(task, report, layers)


def _is_absent(task: RowTask, column: str) -> bool:
    """Whether a layer is that of a speaker who has no turn in the conversation, and so is silent."""
    path = timeline_path(_path(task, "mixFile"))
    role = ROLES.get(column, "")
    if not role.startswith("speaker") or not path.is_file():
        return False
    try:
        timelines = read_rttm(path)
    except TimelineError:
        return False
    return role.replace("speaker", "s") not in {turn.speaker for each in timelines.values() for turn in each}


def _check_sum(task: RowTask, report: RowReport, layers: dict[str, PcmSamples]) -> None:
    """Compare a mixture with the sum of its layers; differences by a limiter are warnings."""
    mixture = layers["mixFile"]
    residual = np.abs(mixture - sum(samples for column, samples in layers.items() if column != "mixFile"))
    wrong = residual > MAX_RESIDUAL
    speakers = speaker_files(task.row.num_speakers)
    limited = np.abs(sum(layers[column] for column in speakers)) >= _LIMITER
    clipped = (np.abs(layers["sceneFile"]) >= _FULL) | (np.abs(mixture) >= _FULL)
    if np.any(wrong & ~limited & ~clipped):
        where = f"up to {residual.max()} steps of 16 bits in {wrong.sum()} samples"
        detail = f"differs by {where}; rounding explains {MAX_RESIDUAL}"
        _add(report, task, Kind.NOT_THE_SUM, "mixFile", detail)
        return
    report.residual = int(residual[~wrong].max(initial=0))
    if wrong.any():
        cause = (
            "the sum of the speakers was limited"
            if np.any(wrong & limited)
            else "a layer was cut at full scale"
        )
        _add(report, task, Kind.CLIPPED, "mixFile", f"{cause} in {int(wrong.sum())} samples")
        rms = float(np.sqrt(np.mean(np.square(residual / 2.0**15))))
        if rms > _MAX_RMS:
            detail = (
                f"without some layers differs from the others' sum by {rms:.2g} RMS, more than {_MAX_RMS:g}"
            )
            _add(report, task, Kind.UNEQUAL_VARIANTS, "mixFile", detail)
    elif np.any(np.abs(mixture) >= _CLIPPED_MIX):
        _add(report, task, Kind.CLIPPED, "mixFile", "reaches full scale")


def _read(path: Path) -> PcmSamples:
    """PcmSamples ``[T]`` in steps of 16 bits."""
    if plain := read_plain_pcm(path):
        return plain[0][:, 0].astype(np.int32)
    samples, _ = read_audio(path)
    steps: PcmSamples = np.rint(samples[0].numpy() * 2.0**15).astype(np.int32)
    return steps
