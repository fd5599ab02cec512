from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from polsess.audio import write_audio
from polsess.data import Corpus, Example, Split, create_corpus, parse_corpus_config
from polsess.data.speech_activity import find_speech
from polsess.data.turns import TurnConfig, plan_turns
from polsess.schema import ConfigError
from polsess.tasks import Task
from polsess.timelines import activity, list_speakers, overlap_share

RATE = 8000


@pytest.fixture
def metadata(tmp_path: Path) -> Path:
    """Five speakers of two clips each in every split: noise in bursts of speech-like length."""
    random = np.random.default_rng(0)
    lines = ["path,speaker,sex,split"]
    for split in Split:
        for speaker in range(5):
            for clip in range(2):
                samples = 0.1 * random.standard_normal(4 * RATE).astype(np.float32)
                name = f"{split}/{speaker}-{clip}.wav"
                write_audio(tmp_path / name, torch.from_numpy(samples), RATE)
                lines.append(f"{name},{split}-{speaker},{'FM'[speaker % 2]},{split}")
    path = tmp_path / "metadata.csv"
    path.write_text("\n".join(lines))
    return path


def corpus(metadata: Path, split: Split = Split.TRAIN, task: Task = Task.SB, **values: Any) -> Corpus:
    values = {"segment_seconds": 6.0, "conversation_seconds": 20.0, "evaluation_examples": 6, **values}
    config = parse_corpus_config({"corpus_type": "conversations", "metadata": str(metadata), **values})
    return create_corpus(config, split, task, seed=3)


def share_of_frames(example: Example, count: int) -> float:
    """Share of the frames in which ``count`` references sound."""
    sounding = example.references[..., : example.references.shape[-1] // 80 * 80]
    return float(((sounding.unflatten(-1, (-1, 80)).abs().amax(-1) > 0).sum(0) == count).float().mean())


@pytest.mark.parametrize("overlap", [0.0, 0.05, 0.15, 0.4, 0.7, 1.0])
@pytest.mark.parametrize("voices", [2, 3, 4])
def test_a_plan_has_the_overlap_that_is_asked_for(overlap: float, voices: int) -> None:
    random = np.random.default_rng(1)
    shares = []
    for _ in range(20):
        turns = plan_turns(random, voices, 120.0, overlap, TurnConfig())
        frames = np.zeros((voices, 12_000), bool)
        for turn in turns:
            frames[turn.voice, max(0, round(100 * turn.start)) : round(100 * turn.end)] = True
        count = frames.sum(0)
        shares.append((count > 1).sum() / (count > 0).sum())
        if 0 < overlap <= 0.4:
            assert count.max() <= 2
    assert np.mean(shares) == pytest.approx(overlap, abs=0.05)


def test_turns_of_one_voice_never_overlap() -> None:
    random = np.random.default_rng(2)
    for overlap in (0.1, 0.4):
        turns = plan_turns(random, 4, 60.0, overlap, TurnConfig(backchannel_rate=20))
        for voice in range(4):
            own = sorted((turn.start, turn.end) for turn in turns if turn.voice == voice)
            assert all(before[1] <= after[0] for before, after in pairwise(own))


def test_an_example_is_the_sum_of_its_references(metadata: Path) -> None:
    example = corpus(metadata).example(0, 0)
    torch.testing.assert_close(example.mixture, example.references.sum(0))
    assert example.mixture.shape == (6 * RATE,)
    assert example.references.shape == (2, 6 * RATE)


def test_draws_depend_on_seed_epoch_and_index_alone(metadata: Path) -> None:
    one, other = corpus(metadata), corpus(metadata)
    other.example(0, 5)
    assert torch.equal(one.example(1, 2).mixture, other.example(1, 2).mixture)
    assert not torch.equal(one.example(1, 2).mixture, one.example(2, 2).mixture)
    test = corpus(metadata, Split.TEST)
    assert torch.equal(test.example(0, 1).mixture, test.example(7, 1).mixture)


def test_the_timeline_says_which_reference_sounds_when(metadata: Path) -> None:
    test = corpus(metadata, Split.TEST, overlap_range=(0.2, 0.2))
    for index in range(len(test)):
        example = test.example(0, index)
        speakers = [name.replace("_", "-") for name in str(example.metadata["speakers"]).split("-")]
        frames = activity(example.timeline, speakers, 2000, 0.01)
        sounding = (example.references.unflatten(-1, (-1, 80)).square().mean(-1).sqrt() > 1e-3).numpy()
        assert (frames == sounding).mean() > 0.97
        assert example.metadata["overlap"] == pytest.approx(overlap_share(example.timeline), abs=1e-3)


def test_voices_may_be_fewer_than_references(metadata: Path) -> None:
    clips = corpus(metadata, num_speakers=3, voice_shares=(0.3, 0.3, 0.2, 0.2))
    counts = set()
    for index in range(30):
        example = clips.example(0, index)
        voices = int(example.metadata["voices"])
        counts.add(voices)
        assert example.references.shape[0] == 3
        assert (example.references[voices:] == 0).all()
        assert len(list_speakers(example.timeline)) <= voices
    assert counts == {0, 1, 2, 3}


@pytest.fixture
def noise(tmp_path: Path) -> list[dict[str, str]]:
    for split in Split:
        samples = 0.05 * torch.randn(RATE, generator=torch.Generator().manual_seed(1))
        write_audio(tmp_path / f"noise/{split}/{split}.flac", samples, RATE)
    return [{"source": str(tmp_path / "noise")}]


def test_nobody_talks_over_noise_alone(metadata: Path, noise: list[dict[str, str]]) -> None:
    example = corpus(metadata, voice_shares=(1.0,), noise=noise).example(0, 0)
    assert (example.references == 0).all()
    assert example.timeline == ()
    assert float(example.mixture.square().mean().sqrt()) > 1e-3


def test_full_overlap_has_all_talk_throughout(metadata: Path) -> None:
    clips = corpus(metadata, full_overlap_probability=1.0)
    assert share_of_frames(clips.example(0, 0), 2) > 0.98


def test_enhancement_takes_both_as_one(metadata: Path, noise: list[dict[str, str]]) -> None:
    separated = corpus(metadata, noise=noise).example(0, 0)
    enhanced = corpus(metadata, task=Task.EB, noise=noise).example(0, 0)
    torch.testing.assert_close(enhanced.mixture, separated.mixture)
    torch.testing.assert_close(enhanced.references.sum(0), separated.references.sum(0))
    with pytest.raises(ValueError, match="clean mixtures are what task EB asks for"):
        corpus(metadata, task=Task.EB)


def test_enhancement_of_one_has_no_other_voice(metadata: Path, noise: list[dict[str, str]]) -> None:
    task_es = corpus(metadata, task=Task.ES, noise=noise)
    for index in range(4):
        example = task_es.example(0, index)
        assert example.references.shape[0] == 1
        assert len(list_speakers(example.timeline)) == 1
        assert example.metadata["voices"] == "1"


def test_pauses_within_speech_are_found() -> None:
    random = np.random.default_rng(0)
    speech = 0.1 * random.standard_normal(3 * RATE).astype(np.float32)
    speech[RATE : RATE + RATE // 2] = 0
    found = find_speech(speech, RATE)
    np.testing.assert_allclose(found, [(0.0, 1.0), (1.5, 3.0)], atol=0.02)
    assert find_speech(np.zeros(RATE, np.float32), RATE) == []


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"voice_shares": (0.5, 0.4)}, "voice_shares: expected at most 3 shares"),
        ({"voice_shares": (0.1, 0.1, 0.1, 0.7)}, "voice_shares: expected at most 3 shares"),
        ({"overlap_range": (0.0, 1.2)}, "overlap_range: expected two rising numbers from 0 to 1"),
        ({"num_speakers": 8}, "has 5 speakers, but a mixture needs 8"),
    ],
)
def test_what_cannot_be_is_refused(metadata: Path, values: dict[str, Any], reason: str) -> None:
    with pytest.raises((ConfigError, ValueError), match=reason):
        corpus(metadata, **values)


def with_words(metadata: Path) -> Path:
    """The clips with what is said in all but one of each speaker."""
    header, *rows = metadata.read_text().splitlines()
    lines = [f"{row},{'' if '-1.wav' in row else row.partition(',')[0]}" for row in rows]
    table = metadata.with_name("words.csv")
    table.write_text("\n".join([f"{header},text", *lines]))
    return table


@pytest.mark.parametrize("overlap", [0.0, 0.2, 0.7, 1.0])
def test_conversations_of_clips_whose_words_are_known(metadata: Path, overlap: float) -> None:
    with pytest.warns(UserWarning, match="5 of 10 clips have no transcript and are left out"):
        test = corpus(with_words(metadata), Split.TEST, words=True, overlap_range=(overlap, overlap))
    shares = []
    for index in range(len(test)):
        example = test.example(0, index)
        assert example.transcript
        for said in example.transcript:
            assert 0 <= said.start < said.end <= 20.0
            assert said.end - said.start == pytest.approx(4.0, abs=0.05)  # the whole clip
            assert said.text.startswith("test ")
            assert said.speaker in example.speakers
        spoken = activity(example.timeline, example.speakers, 2000, 0.01).sum(1) / 100
        known = [sum(4.0 for each in example.transcript if each.speaker == name) for name in example.speakers]
        assert spoken == pytest.approx(known, abs=0.9)  # short pauses are joined
        shares.append(overlap_share(example.timeline))
    assert np.mean(shares) == pytest.approx(overlap, abs=0.12)


def test_words_need_transcripts_of_clips_that_fit(metadata: Path) -> None:
    with pytest.raises(ValueError, match=r"words is set, but no clip has a transcript"):
        corpus(metadata, Split.TEST, words=True)
    with (
        pytest.warns(UserWarning, match="left out"),
        pytest.raises(ValueError, match=r"0 speakers with clips of at most half of .* \(3\.5 s\)"),
    ):
        corpus(with_words(metadata), Split.TEST, words=True, conversation_seconds=7.0)
    training = corpus(metadata, words=True)  # pieces, as without
    assert training.example(0, 0).transcript is None
    assert torch.equal(training.example(0, 0).mixture, corpus(metadata).example(0, 0).mixture)
