"""The gate: what one says alone stays as it is, overlaps are separated, every voice keeps its track."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from polsess.audio import read_audio, resample, write_audio
from polsess.data.mini import MIXTURES
from polsess.diarization import SpeakerTimeline
from polsess.diarization.regions import Regions
from polsess.diarization.settings import parse_speakers
from polsess.inference import Separator
from polsess.inference.whole import _who_talks
from polsess.timelines import Turn, list_overlaps
from tests.inference.oracle import FunctionModel
from tests.inference.scripted import RATE, ScriptedDetector, ScriptedEmbedder, splitter, talk

CONVERSATION = torch.stack(
    [
        talk(0, 30.0, (0.5, 4.0), (7.0, 10.0), (13.0, 17.0), (20.0, 22.0), (25.0, 29.0)),
        talk(1, 30.0, (3.0, 6.5), (9.0, 12.5), (16.0, 19.5), (20.5, 21.5), (28.0, 29.5)),
    ]
)


def gated(model: FunctionModel, **options: object) -> Separator:
    networks = {"detector": ScriptedDetector(), "embedder": ScriptedEmbedder(), "enhancer": "none"}
    return Separator(model, device="cpu", **{**networks, **options})  # type: ignore[arg-type]


def error_db(estimate: Tensor, reference: Tensor) -> float:
    return float(10 * torch.log10((estimate - reference).square().sum() / reference.square().sum()))


@pytest.mark.parametrize("num_speakers", [None, 2, (1, 4)])
@pytest.mark.parametrize("rate", [8000, 44100])
def test_one_speaker_is_the_input_and_the_other_track_is_silent(
    num_speakers: int | tuple[int, int] | None, rate: int
) -> None:
    model = splitter()
    sound = talk(0, 12.0, (0.5, 4.0), (6.0, 11.0), sample_rate=rate)
    sound += 1e-3 * torch.randn(len(sound))
    sound -= sound.mean()
    result = gated(model, num_speakers=num_speakers).separate(sound, rate)
    assert torch.equal(result.sources[0], sound)
    assert result.sources.shape == (2, len(sound))
    assert not result.sources[1].any()
    assert not model.calls
    assert result.timeline is not None
    assert (result.timeline.speakers, result.timeline.saved_share) == (("speaker1",), 1.0)


@pytest.mark.parametrize("seed", range(3))
def test_outputs_in_any_order_come_onto_the_track_of_their_voice(seed: int) -> None:
    model = splitter(seed=seed)
    mixture = CONVERSATION.sum(0)
    result = gated(model).separate(mixture, RATE)
    assert error_db(result.sources, CONVERSATION) < -20
    alone = slice(round(1.0 * RATE), round(2.5 * RATE))
    assert torch.equal(result.sources[0, alone], mixture[alone])
    assert not result.sources[1, alone].any()
    assert sum(samples for _, samples in model.calls) < 0.85 * len(mixture)
    timeline = result.timeline
    assert timeline is not None
    assert timeline.swaps_repaired > 0
    assert timeline.saved_share == pytest.approx(1 - sum(n for _, n in model.calls) / len(mixture))
    expected = [(0.5, 4.0, "speaker1"), (3.0, 6.5, "speaker2"), (7.0, 10.0, "speaker1")]
    assert [turn.speaker for turn in timeline.turns[:3]] == [name for _, _, name in expected]
    for turn, (start, end, _) in zip(timeline.turns, expected, strict=False):
        assert (turn.start, turn.end) == pytest.approx((start, end), abs=0.05)
        assert 0.9 < (turn.confidence or 0) <= 1
    assert len(timeline.overlaps) == 5
    assert timeline.overlaps == tuple(list_overlaps(timeline.turns))
    assert timeline.settings["model"] == "function"


def test_more_voices_than_outputs_as_long_as_no_more_talk_at_once() -> None:
    references = torch.stack(
        [
            talk(0, 24.0, (0.5, 4.0), (12.0, 16.0)),
            talk(1, 24.0, (3.2, 8.0), (15.0, 19.5)),
            talk(2, 24.0, (7.0, 11.5), (19.0, 23.0)),
        ]
    )
    result = gated(splitter()).separate(references.sum(0), RATE)
    assert result.names == ("speaker1", "speaker2", "speaker3")
    assert error_db(result.sources, references) < -20
    two = gated(splitter(), num_speakers=2).separate(references.sum(0), RATE)
    assert len(two) == 2
    assert error_db(two.sources.sum(0), references.sum(0)) < -10
    assert two.timeline is not None
    assert two.timeline.note().startswith("2 voices were found; ")


@pytest.mark.parametrize(
    ("asked", "remark"),
    [
        ((1, 8), "2 voices were found; "),
        ((1, 2), r"2 voices were found, as many as were allowed \(--speakers allows more\); "),
        ((3, 3), "2 voices were found, 3 were asked for: the others talk too little alone, or sound alike; "),
    ],
)
def test_the_note_compares_the_voices_with_those_asked_for(asked: tuple[int, int], remark: str) -> None:
    turns = (Turn(0.0, 1.0, "speaker1"), Turn(1.5, 2.5, "speaker2"))
    timeline = SpeakerTimeline(turns, 4.0, whole=False, network_seconds=1.0, asked=asked)
    assert re.fullmatch(remark + "75 % of the recording did not need the network.", timeline.note())


@pytest.mark.parametrize(
    ("asked", "remark"),
    [((1, 8), r" \(if there are two, --speakers 2 says so\)"), ((1, 1), ""), ((2, 8), ", 2 .*")],
)
def test_one_voice_may_be_two_and_the_note_says_how_to_ask(asked: tuple[int, int], remark: str) -> None:
    timeline = SpeakerTimeline((Turn(0.0, 1.0, "speaker1"),), 4.0, whole=False, asked=asked)
    assert re.fullmatch(f"1 voice was found{remark}; 100 % of the recording .*", timeline.note())
    of_two = replace(timeline, voices_found=2)
    assert of_two.note().startswith("2 voices were found")


@pytest.mark.parametrize("words", ["0", "3-2", "65", "two", "2-", "-2"])
def test_numbers_of_voices_that_make_no_sense(words: str) -> None:
    with pytest.raises(ValueError, match=r"speakers: expected .*, got '"):
        parse_speakers(words)


def test_those_who_talk_throughout_are_separated_whole_exactly_as_without_the_gate() -> None:
    mixture = talk(0, 10.0, (0.3, 9.5)) + talk(1, 10.0, (0.8, 9.7))
    whole = Separator(splitter(seed=1), device="cpu", gate="never").separate(mixture, RATE)
    auto = gated(splitter(seed=1)).separate(mixture, RATE)
    assert torch.equal(auto.sources, whole.sources)
    assert whole.timeline is None
    assert auto.timeline is not None
    assert auto.timeline.whole
    assert {turn.speaker for turn in auto.timeline.turns} == {"speaker1", "speaker2"}
    always = gated(splitter(seed=1), gate="always").separate(mixture, RATE)
    assert always.timeline is not None
    assert not always.timeline.whole
    assert max(error_db(a, b) for a, b in zip(always.sources, whole.sources, strict=True)) < -20


def test_whose_turn_it_is_where_everything_was_separated() -> None:
    """A quiet voice in an overlap has its turn; what leaks of one who talks alone has none."""
    energy = np.stack([np.full(500, 1.0), np.full(500, 0.1), np.zeros(500)]).astype(np.float32)
    energy[:2, 400:450] = energy[1::-1, 400:450]
    frames = np.arange(500)
    speech, overlap = (frames >= 20) & (frames < 480), (frames >= 100) & (frames < 300)
    found = Regions(speech, overlap, speech, overlap, overlap, 0.02, 0.4, 0.4)
    active = _who_talks(energy, found, 0.02)
    changed = (frames >= 400) & (frames < 450)
    np.testing.assert_array_equal(active, [speech & ~changed, overlap | changed, np.zeros(500, np.bool_)])
    speech, overlap = speech.repeat(2), overlap.repeat(2)
    twice = Regions(speech, overlap, speech, overlap, overlap, 0.01, 0.4, 0.4)
    np.testing.assert_array_equal(_who_talks(energy, twice, 0.02), active)


@pytest.mark.parametrize("sound", [torch.zeros(30_000), 0.1 * torch.sin(torch.arange(30_000) * 0.9)])
def test_without_speech_all_tracks_are_silent_and_that_is_said(sound: Tensor) -> None:
    result = gated(splitter()).separate(sound, RATE)
    assert result.sources.shape == (2, 30_000)
    assert not result.sources.any()
    assert result.timeline is not None
    assert result.timeline.note().startswith("no speech was found")


@pytest.mark.parametrize("samples", [1, 7, 159, 161])
def test_very_short_sounds(samples: int) -> None:
    assert gated(splitter()).separate(0.1 * torch.ones(samples), RATE).sources.shape == (2, samples)


@pytest.mark.parametrize("samples", [30 * RATE - 1, 30 * RATE - 119, 30 * RATE - 159])
def test_talk_to_the_very_end_of_a_recording_of_any_length(samples: int) -> None:
    mixture = talk(0, 30.0, (0.5, 30.0))[:samples]
    result = gated(splitter()).separate(mixture, RATE)
    assert torch.equal(result.sources[0], mixture)


def test_a_short_recording_with_any_overlap_is_separated_whole() -> None:
    mixture = talk(0, 8.0, (0.5, 7.5)) + talk(1, 8.0, (5.5, 6.5))
    result = gated(splitter(seed=1)).separate(mixture, RATE)
    assert result.timeline is not None
    assert result.timeline.whole
    alone = gated(splitter()).separate(talk(0, 8.0, (0.5, 7.5)), RATE)
    assert alone.timeline is not None
    assert not alone.timeline.whole


@pytest.mark.parametrize(
    ("seconds", "expected", "whole"),
    [
        (60, 0.4, False),
        (20, 0.4, True),
        (20, 0.2, False),
        (60, 0.8, True),
        (600, 0.8, False),
        (2, 0.08, False),
    ],
)
def test_what_is_separated_whole_depends_on_what_is_said_alone(
    seconds: int, expected: float, whole: bool
) -> None:
    speech = np.ones(100 * seconds, np.bool_)
    overlap = np.arange(len(speech)) < expected * len(speech)
    found = Regions(speech, overlap, speech, overlap, overlap, 0.01, expected, 0.0)
    assert gated(splitter())._is_whole(found) is whole
    assert not gated(splitter(), gate="always")._is_whole(found)


def test_a_voice_that_never_talks_alone_has_a_track() -> None:
    references = torch.stack([talk(0, 12.0, (0.5, 11.0)), talk(1, 12.0, (2.0, 3.5), (7.0, 8.5))])
    result = gated(splitter()).separate(references.sum(0), RATE)
    assert error_db(result.sources, references) < -15


def test_each_channel_and_another_rate() -> None:
    native = resample(CONVERSATION, RATE, 22050)
    channels = torch.stack([native.sum(0), 0.5 * native[0] + native[1]])
    result = gated(splitter(), channels="each").separate(channels, 22050)
    assert result.sources.shape == (2, 2, native.shape[-1])
    expected = torch.stack([native, torch.stack([0.5 * native[0], native[1]])], 1)
    assert error_db(result.sources, expected) < -15
    alone = slice(round(1.0 * 22050), round(2.5 * 22050))
    assert torch.equal(result.sources[0, :, alone], channels[:, alone])


def test_from_disk_equals_in_memory_in_blocks_of_any_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_audio(tmp_path / "a.wav", CONVERSATION.sum(0), RATE, bits="32f")
    expected = gated(splitter()).separate(tmp_path / "a.wav")
    monkeypatch.setattr("polsess.inference.long_form._SPOOL_BYTES", 5000)
    monkeypatch.setattr("polsess.inference.recordings._BLOCK_SECONDS", 0.7)
    monkeypatch.setattr("polsess.inference.hearing._BLOCK_SECONDS", 5.0)
    shares: list[float] = []

    def targets(names: Sequence[str]) -> list[Path]:
        return [tmp_path / f"{name}.flac" for name in names]

    done = gated(splitter()).separate_file(tmp_path / "a.wav", targets, progress=shares.append)
    written = torch.stack([read_audio(path)[0][0] for path in done.paths])
    torch.testing.assert_close(written, expected.sources, atol=2e-4, rtol=0)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert done.names == ("speaker1", "speaker2")
    assert done.timeline == expected.timeline


def test_paths_that_are_given_bound_the_number_of_voices(tmp_path: Path) -> None:
    sound = talk(0, 12.0, (0.5, 4.0)) + talk(1, 12.0, (4.5, 8.0)) + talk(2, 12.0, (8.5, 11.5))
    write_audio(tmp_path / "a.wav", sound, RATE, bits="32f")
    separator, paths = gated(splitter()), [tmp_path / "1.wav", tmp_path / "2.wav"]
    assert len(separator.separate_file(tmp_path / "a.wav", paths).paths) == 2
    with pytest.raises(ValueError, match="expected 2 paths, got 1"):
        separator.separate_file(tmp_path / "a.wav", paths[:1])
    assert len(separator.separate(tmp_path / "a.wav")) == 3


@pytest.mark.parametrize(
    ("option", "value", "cause"),
    [
        ("gate", "maybe", "gate: expected auto, never or always"),
        ("num_speakers", 0, "num_speakers: expected a number from 1 to 64"),
        ("num_speakers", (3, 2), "num_speakers: expected"),
        ("num_speakers", 65, "num_speakers: expected"),
    ],
)
def test_bad_options(option: str, value: object, cause: str) -> None:
    with pytest.raises(ValueError, match=cause):
        gated(splitter(), **{option: value})


def test_options_that_contradict_each_other() -> None:
    with pytest.raises(ValueError, match="only the gate counts voices"):
        gated(splitter(), gate="never", num_speakers=2)
    with pytest.raises(ValueError, match="a model with one output"):
        gated(splitter(1), gate="always")
    with pytest.raises(ValueError, match="detector: nobody listens for voices"):
        gated(splitter(), gate="never")
    assert Separator(splitter(1), device="cpu").gate == "never"


@pytest.mark.parametrize(
    ("name", "seconds"), [("s1", 0.4), ("s2", 0.4), ("s2", 1.0), ("s1", 4.0), ("s2", 4.0)]
)
def test_a_short_recording_of_one_voice_is_given_back(name: str, seconds: float) -> None:
    voice = read_audio(MIXTURES / "8k" / "different_sex" / f"{name}.flac")[0][0]
    begin = int(voice.square().unfold(0, round(seconds * RATE), 1).sum(-1).argmax())
    clip = voice[begin : begin + round(seconds * RATE)]
    first, second = Separator.from_pretrained("default", device="cpu").separate(clip, RATE).sources
    assert not second.any()
    assert error_db(first, clip) < -40
