"""Advice from made-up facts of many machines, and from the facts of this one."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from typer.testing import CliRunner

import polsess.doctor
from polsess.cli.main import app
from polsess.dependencies import list_extras
from polsess.doctor import Facts, gather_facts, judge
from polsess.doctor.prediction import Run, _extrapolate

HEALTHY = Facts(
    python="3.12.1",
    system="Linux",
    required={"torch": "2.13.0", "soundfile": "0.13.1"},
    optional=dict.fromkeys(list_extras(), "1.0"),
    cuda_devices=("NVIDIA H200",),
    nvidia_driver=True,
    mps=False,
    triton=True,
    kernels_off=False,
    compiler="/usr/bin/c++",
    kernels_work=True,
    products="oneDNN (2.1 times as fast as MKL)",
    auto_precision="bfloat16",
    products_off=False,
    audio_formats=("FLAC", "MP3", "OGG", "WAV"),
    libsndfile="1.2.2",
    ffmpeg="/usr/bin/ffmpeg",
    processors=8,
    threads=8,
    allocator_default=False,
    memory_gib=32.0,
    cache_free_gib=100.0,
    cache_writable=True,
    cache="/home/me/.cache/huggingface",
)


def test_a_healthy_machine_needs_nothing() -> None:
    assert judge(HEALTHY) == []


@pytest.mark.parametrize(
    ("change", "level", "remedy"),
    [
        ({"required": {"torch": "2.13.0", "soxr": None}}, "broken", "pip install soxr"),
        ({"libsndfile": None, "audio_formats": ()}, "broken", "pip install --force-reinstall soundfile"),
        ({"audio_formats": ("FLAC", "OGG", "WAV")}, "broken", "pip install --upgrade soundfile"),
        ({"ffmpeg": None}, "absent", "sudo apt install ffmpeg"),
        ({"cache_writable": False}, "broken", "export HF_HOME=/a/folder/of/yours"),
        ({"cache_free_gib": 0.5}, "broken", "hf cache prune"),
        ({"cuda_devices": ()}, "slow", "pip install --force-reinstall torch"),
        ({"cuda_devices": (), "nvidia_driver": False}, "slow", None),
        ({"triton": False}, "slow", "pip install triton"),
        ({"kernels_off": True, "kernels_work": False}, "slow", "unset POLSESS_KERNELS"),
        ({"compiler": None, "kernels_work": False}, "slow", "sudo apt install g++"),
        ({"threads": 1}, "slow", "export OMP_NUM_THREADS=8"),
        ({"threads": 16}, "slow", "export OMP_NUM_THREADS=8"),
        ({"products_off": True}, "slow", "unset POLSESS_PRODUCTS"),
        ({"allocator_default": True}, "slow", "unset POLSESS_ALLOCATOR"),
        ({"memory_gib": 1.5}, "slow", "polsess separate --segment 6 INPUT"),
        (
            {"optional": {**HEALTHY.optional, "pesq": None}},
            "absent",
            "pip install -e '.[pesq]'",
        ),
    ],
)
def test_each_finding_has_its_remedy(change: dict[str, object], level: str, remedy: str | None) -> None:
    (finding,) = judge(replace(HEALTHY, **change))  # type: ignore[arg-type]
    assert (finding.level, finding.remedy) == (level, remedy)


def test_malicious_packages_come_first() -> None:
    facts = replace(HEALTHY, optional={**HEALTHY.optional, "lightning": "2.6.3"}, threads=1)
    assert [finding.level for finding in judge(facts)] == ["broken", "slow"]
    assert "malicious" in judge(facts)[0].message


def test_a_kernel_that_does_not_build_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    (finding,) = judge(replace(HEALTHY, kernels_work=False))
    assert "load_kernel" in (finding.remedy or "")
    monkeypatch.setenv("POLSESS_KERNELS", "off")
    facts = gather_facts()
    assert facts.kernels_off
    assert not facts.kernels_work
    assert facts.processors >= 1
    assert facts.products.startswith(("MKL (", "oneDNN ("))
    assert facts.auto_precision.startswith(("bfloat16", "float32 (the "))
    assert {"WAV", "FLAC"} <= set(facts.audio_formats)
    assert None not in facts.required.values()


def test_the_exit_code_shows_whether_something_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polsess.doctor, "gather_facts", lambda: replace(HEALTHY, threads=1))
    slow = CliRunner().invoke(app, ["doctor"])
    assert slow.exit_code == 0
    assert "export OMP_NUM_THREADS=8" in slow.stdout
    monkeypatch.setattr(polsess.doctor, "gather_facts", lambda: replace(HEALTHY, cache_writable=False))
    broken = CliRunner().invoke(app, ["doctor", "--json"])
    assert broken.exit_code == 1
    record = json.loads(broken.stdout)
    assert record["findings"][0]["level"] == "broken"
    assert record["facts"]["cuda_devices"] == ["NVIDIA H200"]


def test_a_prediction_and_the_measured_run() -> None:
    command = ["doctor", "--predict", "blstm:small", "--seconds", "12", "--device", "cpu"]
    shown = CliRunner().invoke(app, [*command, "--measure"])
    assert shown.exit_code == 0, shown.output
    first, time, memory, lengths = shown.stdout.splitlines()
    assert first == "blstm:small, 12 s of audio on cpu, 1 thread:"
    assert re.fullmatch(r"  time    \S+ s, \S+ of real time, CPU \S+ s; measured \S+ s, [+-]\d+ %", time)
    parts = r"process with the model \d+ MiB, run \d+ MiB"
    assert re.fullmatch(rf"  memory  \d+ MiB: {parts}(; measured \d+ MiB(, [+-]\d+ %)?)?", memory)
    assert re.fullmatch(r"  measured on 0.5 s and \S+ s, extrapolated", lengths)
    assert "2 of 5: first run" in shown.stderr
    assert "5 of 5: running 12 s of audio" in shown.stderr


def test_a_short_mixture_is_measured_itself() -> None:
    command = ["doctor", "--predict", "blstm:small", "--seconds", "0.25", "--device", "cpu", "--json"]
    record = json.loads(CliRunner().invoke(app, command).stdout)
    assert record["predicted"] == record["samples"][0]
    assert record["predicted"]["seconds"] > 0
    assert record["measured"] is None


def test_time_grows_as_the_arithmetic_and_memory_as_between_the_runs() -> None:
    samples = [Run(1.0, 2.0, 1.0, 100), Run(2.0, 3.0, 2.0, 400)]
    assert _extrapolate(lambda seconds: round(seconds**2), samples, 4.0) == Run(4.0, 12.0, 8.0, 1600)
    assert _extrapolate(round, [Run(1.0, 2.0, 1.0, None)], 4.0) == Run(4.0, 8.0, 4.0, None)
    assert _extrapolate(round, samples, 2.0) is samples[1]


def test_bad_predictions_say_what_is_wrong() -> None:
    unknown = CliRunner().invoke(app, ["doctor", "--predict", "dprn"])
    assert unknown.exit_code == 2
    assert "Did you mean 'dprnn'" in unknown.stderr
    preset = CliRunner().invoke(app, ["doctor", "--predict", "dprnn:papr"])
    assert preset.exit_code == 2
    assert "Did you mean 'paper'" in preset.stderr
    for words in (["--measure"], ["--seconds", "60"], ["--device", "cpu"]):
        alone = CliRunner().invoke(app, ["doctor", *words])
        assert alone.exit_code == 2
        assert f"{words[0]}: name the model with --predict MODEL" in alone.stderr
