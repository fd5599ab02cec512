"""Voices are found by their enrolments, or it is said why not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from polsess.audio import Samples, write_audio
from polsess.diarization import SpeakerTimeline
from polsess.inference import EnrolmentError, Extractor
from polsess.inference.enrolment import SAME_VOICE, Voice, match_voices
from polsess.inference.extraction import ChosenTracks
from polsess.inference.rendering import Rendering
from polsess.timelines import Turn
from tests.inference.oracle import identity
from tests.inference.scripted import RATE, ScriptedDetector, ScriptedEmbedder, splitter, talk
from tests.inference.test_gated import CONVERSATION, error_db

ENROLMENTS = [talk(band, 5.0, (0.5, 4.5)) for band in range(3)]


def extractor(voices: Mapping[str, Tensor], **options: object) -> Extractor:
    networks = {
        "detector": ScriptedDetector(),
        "embedder": ScriptedEmbedder(),
        "enhancer": "none",
        "device": "cpu",
    }
    sounds = {name: (sound, RATE) for name, sound in voices.items()}
    return Extractor(splitter(), sounds, **{"threshold": SAME_VOICE, **networks, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("gate", ["always", "never"])
@pytest.mark.parametrize("order", [(0, 1), (1, 0), (1,)])
def test_tracks_are_those_of_the_voices_under_their_names(order: tuple[int, ...], gate: str) -> None:
    names = ("anna", "jan")
    voices = {names[band]: ENROLMENTS[band] for band in order}
    result = extractor(voices, gate=gate).separate(CONVERSATION.sum(0), RATE)
    assert result.names == tuple(names[band] for band in order)
    for band in order:
        assert error_db(result[names[band]], CONVERSATION[band]) < -15
    if gate == "always":
        assert result.timeline is not None
        assert set(result.timeline.speakers) == set(result.names)
        assert result.timeline.overlaps


def test_another_rate_and_several_channels(tmp_path: Path) -> None:
    path = tmp_path / "jan.wav"
    sound = talk(1, 5.0, (0.5, 4.5), sample_rate=44100)
    write_audio(path, torch.stack([sound, sound]), 44100)
    source = tmp_path / "talk.wav"
    write_audio(source, CONVERSATION.sum(0), RATE)
    networks = {
        "detector": ScriptedDetector(),
        "embedder": ScriptedEmbedder(),
        "enhancer": "none",
        "device": "cpu",
    }
    found = Extractor(splitter(), {"jan": path}, threshold=SAME_VOICE, **networks)
    result = found.separate_file(source, [tmp_path / "out.wav"])
    assert result.names == ("jan",)
    assert (tmp_path / "out.wav").is_file()


@pytest.mark.parametrize(
    ("sound", "reason"),
    [
        (torch.zeros(5 * RATE), "is silent"),
        (talk(0, 5.0, (1.0, 1.8)), r"holds 0\.\d s of speech.* needs 2 s"),
        (
            torch.cat([talk(0, 4.0, (0.5, 3.5)), talk(1, 4.0, (0.5, 3.5))]),
            "holds two voices, one of them for",
        ),
        (talk(0, 5.0, (0.5, 4.5)) + talk(1, 5.0, (0.5, 4.5)), "several people talk at once in 100 %"),
        (talk(0, 5.0, (0.5, 4.5)).repeat(130), r"is 10\.8 minutes long"),
    ],
)
def test_enrolments_that_cannot_be_used(sound: Tensor, reason: str) -> None:
    with pytest.raises(EnrolmentError, match=f"voice 'anna': .*{reason}"):
        extractor({"anna": sound})


def test_a_voice_that_is_not_there_is_named_with_its_score(tmp_path: Path) -> None:
    found = extractor({"anna": ENROLMENTS[0], "eve": ENROLMENTS[2]})
    with pytest.raises(
        EnrolmentError, match=r"not found in it: the voice of 'eve' \(similarity 0\.0\d\); 0\.\d\d is"
    ):
        found.separate(CONVERSATION.sum(0), RATE)
    source = tmp_path / "talk.wav"
    write_audio(source, CONVERSATION.sum(0), RATE)
    with pytest.raises(EnrolmentError, match=rf"{source}: not found in it"):
        found.separate_file(source, [tmp_path / "out" / "a.wav", tmp_path / "out" / "b.wav"])
    assert not (tmp_path / "out").exists()
    with pytest.raises(EnrolmentError, match="nobody talks"):
        found.separate(torch.zeros(3 * RATE), RATE)


def test_more_voices_than_tracks() -> None:
    voices = [Voice(name, np.eye(3, dtype=np.float32)[index]) for index, name in enumerate("abc")]
    match = match_voices(voices, np.eye(3, dtype=np.float32)[[2, 0]], 0.5)
    assert match.tracks == ((1,), (), (0,))
    assert match.best == (1.0, 0.0, 1.0)


def test_two_voices_never_share_a_track() -> None:
    voices = [Voice("a", np.array([1.0, 0.0], np.float32)), Voice("b", np.array([0.8, 0.6], np.float32))]
    tracks = np.array([[0.96, 0.28], [0.6, -0.8]], np.float32)
    assert match_voices(voices, tracks, 0.0).tracks == ((1,), (0,))
    assert match_voices(voices, tracks, 0.9).tracks == ((0,), ())


def test_a_voice_that_is_not_there_takes_no_track_from_another() -> None:
    voices = [Voice(name, unit) for name, unit in zip("ab", np.eye(2, dtype=np.float32), strict=True)]
    tracks = np.array([[0.6, 0.5], [0.5, -0.5]], np.float32)  # the sum of all would give a the second one
    match = match_voices(voices, tracks, 0.55)
    assert match.tracks == ((0,), ())
    assert match.nearest == (0, 0)
    assert match.best == pytest.approx((0.6, 0.5))


def test_one_person_with_two_enrolments_is_asked_about() -> None:
    found = extractor({"anna": ENROLMENTS[0], "ann": ENROLMENTS[0]})
    taken = r"'(anna|ann)' \(similarity [01]\.\d\d, but to the track of '(anna|ann)'; are both one person\?\)"
    with pytest.raises(EnrolmentError, match=taken):
        found.separate(CONVERSATION.sum(0), RATE)


def test_a_voice_that_was_heard_as_two_has_both_tracks() -> None:
    voices = [Voice("a", np.array([1.0, 0.0], np.float32))]
    tracks = np.array([[0.6, 0.8], [0.0, 1.0], [0.8, 0.6]], np.float32)
    assert match_voices(voices, tracks, 0.5).tracks == ((2, 0),)
    assert match_voices(voices, np.concatenate([tracks, np.eye(1, 2, dtype=np.float32)]), 0.5).tracks == (
        (3, 2),
    )
    cut = (Turn(0.0, 1.0, "speaker1"), Turn(1.0, 2.0, "speaker3"), Turn(1.5, 2.5, "speaker2"))

    class Cut(Rendering):
        num_tracks = 3

        def blocks(self) -> Iterator[Samples]:
            yield np.arange(12, dtype=np.float32).reshape(3, 1, 4)

        def timeline(self) -> SpeakerTimeline:
            return SpeakerTimeline(cut, 3.0, whole=False)

    joined = ChosenTracks(Cut(), ((2, 0),), ("anna",))
    (block,) = joined.blocks()
    assert block.tolist() == [[[8.0, 10.0, 12.0, 14.0]]]
    timeline = joined.timeline()
    assert timeline is not None
    assert timeline.turns == (Turn(0.0, 2.0, "anna"),)


def test_options_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="expected one or more enrolments"):
        extractor({})
    with pytest.raises(ValueError, match="expected a cosine"):
        extractor({"anna": ENROLMENTS[0]}, threshold=2.0)
    with pytest.raises(ValueError, match="has one output"):
        Extractor(identity(), {"anna": (ENROLMENTS[0], RATE)}, device="cpu")
