"""Conversations whose turns are known: scores, timelines and bad RTTM files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from polsess.audio import read_audio, write_audio
from polsess.checkpoints import save_model
from polsess.data import Corpus, Example, Split, create_corpus, parse_corpus_config
from polsess.data.timeline_files import match_speakers
from polsess.diarization import SpeakerTimeline
from polsess.evaluation import (
    ModelSystem,
    SavedEvaluation,
    evaluate,
    open_estimates,
    open_models,
    read_evaluation,
)
from polsess.evaluation.baselines import list_baselines
from polsess.evaluation.conversations import track_timeline
from polsess.evaluation.results import digest_of
from polsess.evaluation.systems import Estimate
from polsess.inference import Separator
from polsess.metrics import METRICS
from polsess.models import create_model
from polsess.schema import ConfigError
from polsess.tasks import Task
from polsess.timelines import Timeline, TimelineError, Turn, activity, write_rttm
from tests.evaluation.corpora import halves, open_folder

RATE = 8000
SECONDS = 6.0
TURNS = (Turn(0.0, 2.5, "anna"), Turn(2.0, 4.0, "jan"), Turn(4.5, 6.0, "anna"))
FAST = ["si_snr", "conversation"]


def write_conversations(folder: Path, num_items: int = 2, timeline: Timeline = TURNS) -> Path:
    """A folder of conversations with RTTM, whose second reference is the first to talk."""
    generator = np.random.default_rng(0)
    talking = activity(TURNS, ("jan", "anna"), round(SECONDS * RATE), 1 / RATE)
    for index in range(num_items):
        item = folder / f"item{index}"
        voices = torch.from_numpy(0.1 * generator.standard_normal(talking.shape) * talking).float()
        for name, samples in zip(("mix", "s1", "s2"), (voices.sum(0), *voices), strict=True):
            write_audio(item / f"{name}.wav", samples[None], RATE)
        (item / "mix.rttm").write_text(write_rttm(timeline, item.name))
    return folder


class Scripted:
    """Gives the references, with errors that are known, in the wrong order."""

    name, identity, sample_rate, num_sources, task = "scripted", "1", RATE, None, None

    def __init__(self, turns: Timeline | None = None, num_tracks: int = 2) -> None:
        self.origin: dict[str, str] = {}
        self.turns, self.num_tracks = turns, num_tracks

    def estimate(self, example: Example) -> Estimate:
        tracks = example.references.numpy()[::-1].copy()[: self.num_tracks]
        if self.turns is None:
            return Estimate(tracks)
        names = ("speaker1", "speaker2")
        known = SpeakerTimeline(self.turns, SECONDS, whole=False, network_seconds=1.5, swaps_repaired=1)
        return Estimate(tracks, names, known, known.saved_share)


def test_scores_of_planted_errors(tmp_path: Path) -> None:
    corpus = open_folder(write_conversations(tmp_path / "data"))
    found = (Turn(0.0, 2.5, "speaker1"), Turn(2.0, 4.5, "speaker2"), Turn(4.5, 5.5, "speaker1"))
    folder = tmp_path / "out"
    evaluation = evaluate(Scripted(found), corpus, metrics=FAST, folder=folder)
    assert evaluation.num_failed == 0
    expected = {"der_missed": 0.5, "der_false_alarm": 0.5, "der_confusion": 0.0, "der": 1.0}  # of 6 s
    for column, seconds in expected.items():
        assert evaluation.summary(column).mean == pytest.approx(100 * seconds / 6.0)
    assert evaluation.summary("wrong_track").mean == 0
    assert evaluation.summary("compute_saved").mean == pytest.approx(75)
    assert evaluation.rows[0].scores.permutation == (1, 0)
    collar = evaluate(Scripted(found), corpus, metrics=FAST, collar_seconds=0.25)
    assert 0 < collar.summary("der").mean < evaluation.summary("der").mean
    again = read_evaluation(folder)
    assert again.values("der") == pytest.approx(evaluation.values("der"))
    assert again.rows[1].timelines == evaluation.rows[1].timelines
    lines = [json.loads(line) for line in (folder / "timelines.jsonl").read_text().splitlines()]
    assert [line["identifier"] for line in lines] == ["item0", "item1"]
    assert lines[0]["speakers"] == ["jan", "anna"]  # in the order of the references
    assert lines[0]["tracks"] == ["speaker2", "speaker1"]
    assert (lines[0]["source"], lines[0]["swaps_repaired"]) == ("system", 1)
    timelines = again.rows[0].timelines
    assert timelines is not None
    assert (timelines.truth, timelines.found) == (TURNS, found)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["scores"]["der"]["interval_95"] is not None
    assert summary["settings"]["collar_seconds"] == 0


def test_baselines_are_rows_like_others(tmp_path: Path) -> None:
    corpus = open_folder(write_conversations(tmp_path / "data"))
    done = {
        each.name: evaluate(each, corpus, metrics=FAST) for each in list_baselines(RATE, conversations=True)
    }
    mixture, turns, references = (done[name] for name in ("mixture", "mixture-in-turns", "references"))
    assert mixture.summary("wrong_track").mean == 100
    assert mixture.summary("si_snri").mean == pytest.approx(0, abs=1e-6)
    assert turns.summary("der").mean == pytest.approx(0, abs=1e-6)
    assert turns.summary("overlap_si_snri").mean == pytest.approx(0, abs=0.1)
    assert turns.summary("solo_snr").mean > 20
    assert references.summary("si_snr").mean == 100
    assert references.summary("der").mean < 2  # its turns are made from the levels of the tracks
    assert references.rows[0].timelines is not None
    assert references.rows[0].timelines.source == "activity"
    assert [each.name for each in list_baselines(RATE, conversations=False)] == ["mixture", "references"]


def test_turns_from_levels_leave_out_leakage_and_pauses() -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal((2, 4 * RATE)).astype(np.float32)
    talking = activity(
        (Turn(0, 2, "x"), Turn(1.9, 2.0, "y"), Turn(2, 4, "y")), ("x", "y"), 4 * RATE, 1 / RATE
    )
    tracks = noise * talking + 0.1 * (noise * talking)[::-1]  # leaks by -20 dB
    tracks[:, RATE : RATE + RATE // 10] = 0
    found = track_timeline(tracks, RATE, ("x", "y"))
    assert [turn.speaker for turn in found] == ["x", "y"]  # the pause is closed
    assert found[0].end == pytest.approx(2.0, abs=0.05)
    assert found[1].start == pytest.approx(1.9, abs=0.05)
    assert track_timeline(np.zeros((2, RATE), np.float32), RATE, ("x", "y")) == ()


def test_fewer_tracks_than_speakers_are_filled_with_silence(tmp_path: Path) -> None:
    corpus = open_folder(write_conversations(tmp_path / "data", 1))
    evaluation = evaluate(Scripted(num_tracks=1), corpus, metrics=FAST)
    assert evaluation.num_failed == 0
    assert evaluation.rows[0].reason("si_snr") == "silent estimate"
    assert 30 < evaluation.summary("der_missed").mean < 36  # jan talks 2 of 6 s


def test_a_model_separates_conversations_as_separate_does(tmp_path: Path) -> None:
    corpus = open_folder(write_conversations(tmp_path / "data", 1))
    save_model(create_model("blstm", preset="tiny"), tmp_path / "net")
    (model,) = open_models([str(tmp_path / "net")], "cpu")
    assert isinstance(model, ModelSystem)
    system = model.as_separate(gate="never", num_speakers=None)
    assert system.identity not in (model.identity, model.as_separate().identity)
    evaluation = evaluate(system, corpus, metrics=FAST, folder=tmp_path / "out")
    assert evaluation.values("compute_saved") == [0]
    plain = Separator(model.model, device="cpu", precision="float32", gate="never")
    expected = plain.separate(corpus.example(0, 0).mixture, RATE)
    sounds = SavedEvaluation(tmp_path / "out", "cpu").sounds("item0")  # separated again
    order = list(sounds.row.scores.permutation)
    assert np.array_equal(sounds.estimates, expected.sources.numpy()[order])


def test_turns_and_words_are_part_of_an_utterance(tmp_path: Path) -> None:
    data = write_conversations(tmp_path / "data", num_items=1)
    words = {"one": "Good morning.", "two": "Good evening."}
    contents = []
    for text in ("one", "one", "two", None):
        stm = data / "item0" / "mix.stm"
        stm.unlink(missing_ok=True)
        if text:
            stm.write_text(f"mix 1 anna 0.5 2.0 {words[text]}\n")
        contents.append(digest_of(open_folder(data).example(0, 0)))
    (data / "item0" / "mix.rttm").write_text(write_rttm((Turn(0.0, 2.4, "anna"), *TURNS[1:]), "mix"))
    contents.append(digest_of(open_folder(data).example(0, 0)))
    assert contents[0] == contents[1]
    assert len(set(contents)) == 4
    assert len({content.partition("-")[0] for content in contents}) == 1  # the sounds are the same


def test_what_separate_wrote_brings_its_turns(tmp_path: Path) -> None:
    corpus = open_folder(write_conversations(tmp_path / "data"))
    for index in range(2):
        example, folder = corpus.example(0, index), tmp_path / "separated" / f"item{index}"
        for number in range(1 + index):  # of the first recording, one voice was found
            write_audio(folder / f"mix_speaker{number + 1}.wav", example.references[number][None], RATE)
        found = tuple(Turn(turn.start, turn.end, "speaker1") for turn in TURNS if turn.speaker == "jan")
        if index:
            found += (Turn(0.0, 1.0, "speaker2"),)
        (folder / "mix.rttm").write_text(write_rttm(found, "mix"))
    (system,) = open_estimates(tmp_path / "separated")
    evaluation = evaluate(system, corpus, metrics=FAST)
    assert evaluation.values("der_missed") == pytest.approx([100 * 4 / 6, 100 * 3 / 6])
    assert [row.timelines.source for row in evaluation.rows if row.timelines] == ["system", "system"]
    before = system.identity
    (tmp_path / "separated" / "item0" / "mix.rttm").unlink()
    assert system.identity != before  # scores of other turns are not taken for these
    assert "1 of 2 estimates" in evaluate(system, corpus, metrics=FAST).rows[0].failure


def test_estimates_in_files_need_no_track_for_those_who_never_talk(tmp_path: Path) -> None:
    data = write_conversations(tmp_path / "data", num_items=1)
    jan, silence = read_audio(data / "item0" / "s1.wav")[0], torch.zeros(1, round(RATE * SECONDS))
    for name, samples in (("mix", jan), ("s2", silence)):
        write_audio(data / "item0" / f"{name}.wav", samples, RATE)
    (data / "item0" / "mix.rttm").write_text(write_rttm((TURNS[1],), "mix"))
    write_audio(tmp_path / "found" / "item0" / "s1.wav", jan, RATE)
    (system,) = open_estimates(tmp_path / "found")
    evaluation = evaluate(system, open_folder(data), metrics=FAST)
    assert not evaluation.num_failed
    assert evaluation.values("wrong_track") == [0]
    assert evaluation.rows[0].metadata == {"voices": "1", "overlap": 0.0}


def test_interrupted_and_continued(tmp_path: Path) -> None:
    corpus = open_folder(write_conversations(tmp_path / "data"))

    def interrupt(done: int, _: int) -> None:
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(Scripted(TURNS), corpus, metrics=FAST, folder=tmp_path / "out", progress=interrupt)
    evaluate(Scripted(TURNS), corpus, metrics=FAST, folder=tmp_path / "out")
    assert len((tmp_path / "out" / "timelines.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("SPEAKER item0 1 0.0 2.5 <NA> <NA> anna\n", "line 1: expected at least 9 fields"),
        ("SPEAKER item0 1 0.0 x <NA> <NA> anna <NA>\n", "line 1: expected seconds from 0 up, got 'x'"),
        (
            ";;\nSPEAKER other 1 0.0 2.5 <NA> <NA> anna <NA> <NA>\n",
            "line 2: is of the recording 'other', expected 'item0' or 'mix'",
        ),
        (
            "SPEAKER item0 1 0.0 9.0 <NA> <NA> anna <NA> <NA>\n",
            "line 1: ends at 9.00 s, the recording at 6.00",
        ),
        ("SPEAKER item0 1 0.0 6.0 <NA> <NA> anna <NA> <NA>\n", "names 1 speaker, but 2 references"),
        (
            "".join(f"SPEAKER item0 1 {n}.0 1.0 <NA> <NA> {n} <NA> <NA>\n" for n in range(3)),
            "names 3 speakers (0, 1, 2), the recording has 2 reference",
        ),
        (
            "SPEAKER mix 1 4.0 0.4 <NA> <NA> anna <NA> <NA>\nSPEAKER mix 1 2.0 2.0 <NA> <NA> jan <NA> <NA>\n",
            "0 % of a reference sounds within the turns of 'anna'; is it of another recording?",
        ),
    ],
)
def test_a_wrong_rttm_is_one_line_and_the_others_are_done(tmp_path: Path, lines: str, message: str) -> None:
    data = write_conversations(tmp_path / "data")
    (data / "item0" / "mix.rttm").write_text(lines)
    evaluation = evaluate(Scripted(TURNS), open_folder(data), metrics=FAST)
    assert message in evaluation.rows[0].failure
    assert str(data / "item0" / "mix.rttm") in evaluation.rows[0].failure
    assert not evaluation.rows[1].failure


def test_a_speaker_of_one_word_in_a_long_recording_is_one(tmp_path: Path) -> None:
    noise = 0.1 * torch.randn(3, 1000 * RATE, generator=torch.Generator().manual_seed(0))
    noise[1, : 500 * RATE] = noise[1, 500 * RATE + RATE // 10 :] = 0.0  # 0.1 s of 1000, 20 dB down
    noise *= torch.tensor([[1.0], [0.1], [1e-4]])  # the third one says nothing; a recording's noise floor
    turns = (Turn(0.0, 1000.0, "anna"), Turn(500.0, 500.1, "jan"))
    assert match_speakers(turns, noise, noise.sum(0), RATE, tmp_path) == ("anna", "jan", "")
    with pytest.raises(TimelineError, match="names 2 speakers, but 1 reference is not silent"):
        match_speakers(turns, noise[[0, 2]], noise.sum(0), RATE, tmp_path)


def test_who_talks_when_must_be_known(tmp_path: Path) -> None:
    data = write_conversations(tmp_path / "data")
    with pytest.raises(ConfigError, match=r"'conversation' needs data that says who talks when"):
        evaluate(halves(num_sources=1), open_folder(data, Task.ES), metrics=FAST)
    (data / "item0" / "mix.rttm").unlink()
    evaluation = evaluate(Scripted(), open_folder(data), metrics=FAST)
    assert evaluation.rows[0].reason("der") == "it is not known who talks when"
    assert evaluation.values("der")[1] < 5
    (data / "item1" / "mix.rttm").unlink()
    assert "conversation" not in evaluate(Scripted(), open_folder(data)).metrics


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Three speakers of noise in every split."""
    random = np.random.default_rng(0)
    lines = ["path,speaker,split"]
    for split in Split:
        for speaker in range(3):
            samples = 0.1 * random.standard_normal(3 * RATE).astype(np.float32)
            write_audio(tmp_path / f"{split}/{speaker}.wav", torch.from_numpy(samples), RATE)
            lines.append(f"{split}/{speaker}.wav,{split}-{speaker},{split}")
    path = tmp_path / "metadata.csv"
    path.write_text("\n".join(lines))
    return path


def drawn(clips: Path, **values: object) -> Corpus:
    config = {"corpus_type": "conversations", "metadata": str(clips), "num_speakers": 3, **values}
    config |= {"conversation_seconds": 8.0, "evaluation_examples": 2}
    return create_corpus(parse_corpus_config(config), Split.TEST, Task.SB)


@pytest.mark.parametrize("voices", [0, 1, 2])
def test_absent_speakers_have_no_reference(tmp_path: Path, clips: Path, voices: int) -> None:
    corpus = drawn(clips, voice_shares=[float(count == voices) for count in range(voices + 1)])
    system = list_baselines(RATE, conversations=True)[2]
    evaluation = evaluate(system, corpus, metrics=FAST, folder=tmp_path / "out")
    row = read_evaluation(tmp_path / "out").rows[0]
    assert len(row.scores.permutation) == voices
    assert evaluation.num_failed == 0
    if voices:
        assert row.value("der") < 10
        assert row.value("si_snr") == 100
        assert row.scores.unassigned_db == -100
        sounds = SavedEvaluation(tmp_path / "out", "cpu").sounds(row.identifier)
        assert len(sounds.references) == voices
        assert np.array_equal(sounds.estimates, sounds.references)  # made again, as those of a model are
    else:
        assert row.reason("si_snr") == row.reason("der") == row.reason("wrong_track") == "nobody talks"
    assert set(METRICS["conversation"]) < set(evaluation.columns)
