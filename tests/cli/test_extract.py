"""`polsess extract`: tracks under the names of their voices, and what is said where that cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from typer.testing import CliRunner, Result

from polsess.audio import write_audio
from polsess.checkpoints import save_model
from polsess.cli.main import app
from polsess.models import ActivityDetector, create_model
from tests.inference.oracle import identity
from tests.inference.scripted import RATE, ScriptedDetector, ScriptedEmbedder, talk
from tests.inference.test_gated import CONVERSATION


@pytest.fixture(autouse=True)
def _scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A meeting of two, enrolments of three, and networks that know their voices."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POLSESS_ALLOCATOR", "default")

    def load(_: str, *, kind: type[nn.Module]) -> nn.Module:
        return ScriptedDetector() if kind is ActivityDetector else identity()

    monkeypatch.setattr("polsess.inference.separator.load_model", load)
    monkeypatch.setattr("polsess.inference.separator.load_embedder", lambda _: ScriptedEmbedder())
    torch.manual_seed(0)
    save_model(create_model("blstm", preset="tiny"), tmp_path / "tiny")
    write_audio("meeting.wav", CONVERSATION.sum(0)[: 14 * RATE], RATE)
    for band, name in enumerate(("anna", "jan", "eve")):
        write_audio(f"voices/{name}.wav", talk(band, 4.0, (0.3, 3.7)), RATE)


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["extract", *words, "-m", "tiny", "--device", "cpu"])


def test_tracks_are_called_as_the_voices() -> None:
    result = run("meeting.wav", "--voice", "voices/jan.wav", "--voice", "Anna K.=voices/anna.wav", "--json")
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["outputs"] == {
        "jan": "extracted/meeting_jan.wav",
        "Anna K.": "extracted/meeting_Anna K..wav",
    }
    document = json.loads(Path("extracted/meeting.json").read_text())
    assert [each["name"] for each in document["speakers"]] == ["jan", "Anna K."]
    assert {turn["speaker"] for turn in document["turns"]} == {"jan", "Anna K."}
    assert "Anna_K." in Path("extracted/meeting.rttm").read_text()


def test_a_voice_that_is_not_there_stops_only_its_recording() -> None:
    write_audio("more/two.wav", CONVERSATION[1], RATE)
    result = run("meeting.wav", "more", "--voice", "voices/anna.wav")
    assert result.exit_code == 1
    assert "1 input failed, 1 done" in result.stderr
    assert "two.wav: not found in it: the voice of 'anna' (similarity 0." in result.stderr
    assert sorted(path.name for path in Path("extracted").iterdir()) == [
        "meeting.json",
        "meeting.rttm",
        "meeting_anna.wav",
    ]


def test_enrolments_are_never_overwritten() -> None:
    before = Path("voices/jan.wav").read_bytes()
    result = run(
        "meeting.wav",
        "--voice",
        "voices/jan.wav",
        "-o",
        ".",
        "--filename",
        "voices/{speaker}{track}.{ext}",
        "--overwrite",
    )
    assert result.exit_code == 0, result.stderr
    Path("voices/janmeeting.wav").write_bytes(before)
    again = run(
        "meeting.wav",
        "--voice",
        "jan=voices/janmeeting.wav",
        "-o",
        ".",
        "--filename",
        "voices/{speaker}{track}.{ext}",
        "--overwrite",
    )
    assert again.exit_code == 1
    assert "one of the inputs, which are never overwritten" in again.stderr
    assert Path("voices/janmeeting.wav").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--voice", "nobody.wav"), "nobody.wav: there is no such file"),
        (("--voice", "../x=voices/jan.wav"), "'../x' cannot be the name of a track"),
        (("--voice", " =voices/jan.wav"), "' ' cannot be the name of a track"),
        (("--voice", "voices/jan.wav", "--voice", "JAN=voices/anna.wav"), "two voices are called 'JAN'"),
        (("--voice", "voices/jan.wav", "-o", "-"), "extract writes files"),
        (("--voice", "silence.wav"), "silence.wav: is silent"),
        (("--voice", "short.wav"), "short.wav: holds 0.9 s of speech; an enrolment needs 2 s or more"),
        (("--voice", "both.wav"), "both.wav: holds two voices"),
        (("--voice", "voices/jan.wav", "--speakers", "many"), "speakers: expected a number"),
        ((), "Missing option '--voice'"),
    ],
)
def test_what_cannot_be_is_said_before_the_work(words: tuple[str, ...], reason: str) -> None:
    write_audio("silence.wav", torch.zeros(3 * RATE), RATE)
    write_audio("short.wav", talk(0, 3.0, (1.0, 1.8)), RATE)
    write_audio("both.wav", torch.cat([talk(0, 3.0, (0.2, 2.8)), talk(1, 3.0, (0.2, 2.8))]), RATE)
    result = run("meeting.wav", *words)
    assert result.exit_code == 2, result.output
    assert reason in result.stderr
    assert not Path("extracted").exists()
