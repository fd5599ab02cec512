"""Generated PolSESS corpora in which people take turns."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from polsess.cli.main import app
from polsess.cli.terminal import ExitCode
from polsess.data import Split, create_corpus, parse_corpus_config
from polsess.data.polsess.audit import Kind, audit_polsess
from polsess.data.polsess.generation import (
    ConversationConfig,
    GenerationConfig,
    generate_split,
)
from polsess.evaluation import evaluate
from polsess.evaluation.baselines import list_baselines
from polsess.tasks import Task
from polsess.timelines import activity, conditions_of, list_speakers, read_rttm
from tests.corpora.generated import RATE, SCENES, content, generate, ingredients, layer, rows, sound

TURNS = {"overlap_range": (0.2, 0.4), "turns": {"median_seconds": 0.6, "pause_median_seconds": 0.2}}


def converse(root: Path, sources: Path, workers: int = 1, **settings: Any) -> Path:
    conversations = ConversationConfig.model_validate({**TURNS, **settings})
    return generate(root, sources, workers=workers, seconds=2.9, conversations=conversations)


@pytest.fixture(scope="module")
def talks(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return converse(tmp_path_factory.mktemp("talks"), sources, voice_shares=(0.4, 0.6))


def test_conversations_have_turns_and_silent_speakers(talks: Path) -> None:
    counts = []
    for row in rows(talks):
        mixture = talks / "train" / "mix" / row["mixFile"]
        (timeline,) = read_rttm(mixture.with_suffix(".rttm")).values()
        speakers = list_speakers(timeline)
        counts.append(len(speakers))
        for number in (1, 2):
            samples = layer(talks, row, f"speaker{number}File")
            heard = activity(timeline, [f"s{number}"], len(samples), 1 / RATE)[0]
            assert (f"s{number}" in speakers) == bool(samples.any())
            assert np.square(samples[heard]).sum() >= 0.97 * np.square(samples).sum()
        assert np.abs(layer(talks, row, "mixFile")).max() <= 0.951
        assert row["speech1OryginalPath"].split("/")[-2].startswith("train")
        if SCENES[row["sceneClass"]] == "indoor":
            assert any(layer(talks, row, f"reverbForSpeaker{number}").any() for number in (1, 2))
    assert set(counts) == {1, 2}


def test_levels_of_conversations_are_those_of_talk(sources: Path, tmp_path: Path) -> None:
    root = converse(tmp_path, sources)
    measured = 0
    for row in rows(root):
        voices = [layer(root, row, f"speaker{number}File") for number in (1, 2)]
        if not all(voice.any() for voice in voices):  # in three seconds not everybody gets to talk
            continue
        measured += 1
        (timeline,) = read_rttm((root / "train/mix" / row["mixFile"]).with_suffix(".rttm")).values()
        loud = [
            np.sqrt(np.square(voice[activity(timeline, [name], len(voice), 1 / RATE)[0]]).mean())
            for voice, name in zip(voices, ("s1", "s2"), strict=True)
        ]
        assert 20 * np.log10(loud[0] / loud[1]) == pytest.approx(float(row["SSR"]), abs=1.0)
    assert measured >= 4


def test_the_audit_and_the_reader_accept_conversations(talks: Path) -> None:
    result = audit_polsess(talks)
    assert {finding.kind for finding in result.findings} <= {Kind.REPEATED_LAYER}
    assert result.largest_residual == 0
    row = next(row for row in rows(talks) if not layer(talks, row, "speaker2File").any())
    path = (talks / "train/mix" / row["mixFile"]).with_suffix(".rttm")
    text = path.read_text()
    try:
        path.write_text(text.replace(" s1 ", " s2 "))  # then the second speaker should be heard
        assert Kind.SILENT in {finding.kind for finding in audit_polsess(talks).findings}
    finally:
        path.write_text(text)
    config = {"corpus_type": "polsess", "root": str(talks), "segment_seconds": 1.0}
    train = create_corpus(parse_corpus_config(config), Split.TRAIN, Task.SB)
    assert train.has_timelines
    example = train.example(0, 0)
    assert len(example.mixture) == RATE
    assert {key: example.metadata[key] for key in ("voices", "overlap")} == conditions_of(example.timeline)
    assert all(0 <= turn.start < turn.end <= 1.0 for turn in example.timeline)
    test = create_corpus(parse_corpus_config(config), Split.TEST, Task.SB)
    for index in range(len(test)):
        example = test.example(0, index)
        for name, reference in zip(example.speakers, example.references, strict=True):
            assert bool(name) == bool(reference.any())
    evaluation = evaluate(list_baselines(RATE, conversations=True)[2], test, metrics=["conversation"])
    assert evaluation.num_failed == 0
    assert evaluation.summary("solo_snr").mean == 100


def test_a_detector_learns_from_generated_conversations(talks: Path, sources: Path, tmp_path: Path) -> None:
    config = {"corpus_type": "polsess", "root": str(talks), "segment_seconds": 1.0}
    corpora = [create_corpus(parse_corpus_config(config), Split.TRAIN, task) for task in (Task.OSD, Task.SB)]
    examples = [corpus.example(0, 1) for corpus in corpora]
    assert [corpus.num_sources for corpus in corpora] == [0, 2]
    assert [len(example.references) for example in examples] == [0, 2]
    assert examples[0].timeline == examples[1].timeline
    assert examples[0].mixture.equal(examples[1].mixture)
    plain = generate(tmp_path, sources, 2)
    for more in ({"root": str(plain)}, {"background_gain_db": [-3, 3]}):
        with pytest.raises(ValueError, match="task OSD learns from RTTM files beside mixtures"):
            create_corpus(parse_corpus_config({**config, **more}), Split.TRAIN, Task.OSD)


def test_conversations_depend_on_the_seed_alone(talks: Path, sources: Path, tmp_path: Path) -> None:
    again = converse(tmp_path / "again", sources, workers=2, voice_shares=(0.4, 0.6))
    assert content(again) == content(talks)


def test_the_command_makes_conversations(sources: Path, tmp_path: Path) -> None:
    places = [f"--{name}={sources / name}" for name in ("speech", "scenes", "events")]
    words = ["data", "generate", str(tmp_path / "set"), *places, "--train", "1", "--seconds", "2.9"]
    more = ["--conversations", "--overlap-range", "0.1", "0.2", "--voices", "1", "--workers", "1"]
    result = CliRunner().invoke(app, [*words, *more])
    assert result.exit_code == 0, result.output
    assert len(list((tmp_path / "set" / "train" / "mix").glob("*.rttm"))) == 1
    assert CliRunner().invoke(app, [*words, "--voices", "1"]).exit_code == ExitCode.USAGE
    assert CliRunner().invoke(app, [*words, *more, "--overlap", "0.5"]).exit_code != 0


def test_conversations_carry_what_is_said(sources: Path, tmp_path: Path) -> None:
    shutil.copytree(sources, tmp_path / "all")
    for speaker in list((tmp_path / "all/speech").glob("*/*")):  # the others have no transcript
        sound(speaker / "short.flac", 1.2)
        (speaker / "short.txt").write_text(f"Words of {speaker.name}.")
    config = ConversationConfig.model_validate({**TURNS, "words": True})
    with pytest.warns(UserWarning, match="6 of 9 clips have no transcript"):
        found = ingredients(tmp_path / "all", seconds=2.9, conversations=config)
    with (
        pytest.warns(UserWarning, match="left out"),
        pytest.raises(ValueError, match=r"at most half as long as a mixture \(1 s\)"),
    ):
        ingredients(tmp_path / "all", seconds=2.0, conversations=config)
    generate_split(tmp_path / "set", Split.TEST, 4, found[Split.TEST])
    corpus = parse_corpus_config({"corpus_type": "polsess", "root": str(tmp_path / "set")})
    test = create_corpus(corpus, Split.TEST, Task.SB)
    for example in (test.example(0, index) for index in range(len(test))):
        assert example.transcript
        for said in example.transcript:
            assert 0 <= said.start < said.end <= 2.9
            assert said.end - said.start == pytest.approx(1.2, abs=0.1)  # the whole recording
            assert said.speaker in example.speakers
            assert said.text.startswith("words of test")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"overlap": 0.5}, "have an overlap_range of their own"),
        ({"compat": "matlab"}, "the original generator makes none"),
        ({"speakers": 1}, "at most 1 shares"),
    ],
)
def test_conversations_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    conversations = ConversationConfig(voice_shares=(0.5, 0.5))
    with pytest.raises(ValueError, match=message):
        GenerationConfig(name="x", conversations=conversations, **settings)
