from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.signal import lfilter

from polsess.audio import write_audio
from polsess.data import Corpus, Split, create_corpus, parse_corpus_config
from polsess.data.mixing import colour, move_formants
from polsess.schema import ConfigError
from polsess.tasks import Task

RATE = 8000


@pytest.fixture
def metadata(tmp_path: Path) -> Path:
    """Six speakers, each a tone of its own with a varying envelope; speaker 0 has a short clip."""
    lines = ["path,speaker,sex,split"]
    for split in Split:
        for speaker in range(6):
            seconds = 0.5 if speaker == 0 else 3.0
            time = torch.arange(int(seconds * RATE)) / RATE
            tone = (
                0.3 * torch.sin(2 * torch.pi * (200 + 100 * speaker) * time) * (1 + 0.5 * torch.sin(3 * time))
            )
            name = f"{split}/{speaker}.wav"
            write_audio(tmp_path / name, tone, RATE)
            lines.append(f"{name},{split}-{speaker},{'FM'[speaker % 2]},{split}")
    path = tmp_path / "metadata.csv"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    """A recording for each split, shorter than most mixtures."""
    for split in Split:
        write_audio(tmp_path / f"noise/{split}/{split}.flac", 0.05 * torch.randn(RATE // 4), RATE)
    return tmp_path / "noise"


def ratio_db(signal: torch.Tensor, noise: torch.Tensor) -> float:
    return float(10 * torch.log10(signal.square().mean() / noise.square().mean()))


def corpus(metadata: Path, split: Split = Split.TRAIN, task: Task = Task.SB, **values: Any) -> Corpus:
    values = {"examples_per_epoch": 12, "evaluation_examples": 7, "segment_seconds": 1.0, **values}
    config = parse_corpus_config({"corpus_type": "speech_clips", "metadata": str(metadata), **values})
    return create_corpus(config, split, task, seed=3)


@pytest.mark.parametrize("damage", [b"", b"RIFF", None])
def test_clips_that_cannot_be_read_are_left_out_up_to_a_share(metadata: Path, damage: bytes | None) -> None:
    clip = metadata.parent / "train" / "2.wav"
    clip.write_bytes(clip.read_bytes()[:1000] if damage is None else damage)
    with pytest.raises(ValueError, match=r"speech_clips, train: 1 of 6 recordings .*allows 0: .*2\.wav"):
        corpus(metadata)
    with pytest.warns(UserWarning, match="1 of 6 recordings cannot be used and are left out"):
        clips = corpus(metadata, max_bad="20%")
    names = {
        name for index in range(12) for name in str(clips.example(0, index).metadata["speakers"]).split("-")
    }
    assert "train_2" not in names
    assert len(corpus(metadata, Split.VAL)) == 7


def test_the_mixture_is_the_sum_and_the_level_is_what_it_says(metadata: Path) -> None:
    clips = corpus(metadata)
    for index in range(len(clips)):
        example = clips.example(0, index)
        torch.testing.assert_close(example.mixture, example.references.sum(0))
        assert example.references.shape == (2, RATE)
        first, second = example.references.square().mean(-1)
        assert 10 * torch.log10(first / second) == pytest.approx(example.metadata["ssr_db"], abs=0.02)
        one, other = str(example.metadata["speakers"]).rsplit("-train", 1)[0], example.metadata["speakers"]
        assert one != other
        assert example.mixture.abs().max() <= 1.0


def test_draws_depend_on_seed_epoch_and_index_alone(metadata: Path) -> None:
    one, two = corpus(metadata), corpus(metadata)
    two.example(5, 3)  # what was drawn before does not matter
    assert torch.equal(one.example(1, 4).mixture, two.example(1, 4).mixture)
    assert not torch.equal(one.example(1, 4).mixture, one.example(2, 4).mixture)
    assert not torch.equal(one.example(1, 4).mixture, one.example(1, 5).mixture)


def test_validation_and_test_are_fixed_and_whole(metadata: Path) -> None:
    for split in (Split.VAL, Split.TEST):
        clips = corpus(metadata, split)
        assert len(clips) == 7
        assert torch.equal(clips.example(0, 2).mixture, clips.example(9, 2).mixture)
        assert {len(clips.example(0, i).mixture) for i in range(7)} <= {RATE // 2, 3 * RATE}


def test_short_clips_are_padded_at_a_random_place(metadata: Path) -> None:
    clips = corpus(metadata, examples_per_epoch=60)
    starts = set()
    for index in range(60):
        example = clips.example(0, index)
        names = str(example.metadata["speakers"]).split("-")
        for row, name in enumerate(names):
            if name.endswith("0"):
                starts.add(int(example.references[row].nonzero()[0]))
    assert len(starts) > 3


@pytest.mark.parametrize(("task", "sources"), [(Task.ES, 1), (Task.EB, 1), (Task.SB, 2)])
@pytest.mark.parametrize("split", [Split.TRAIN, Split.VAL])
def test_tasks(metadata: Path, noise: Path, task: Task, sources: int, split: Split) -> None:
    values: dict[str, Any] = {"noise": [{"source": str(noise), "snr_range_db": [6.0, 6.0]}]}
    example = corpus(metadata, split, task, **values).example(0, 1)
    both = corpus(metadata, split, **values).example(0, 1).references
    assert example.references.shape[0] == sources
    expected = task.references(both)
    scale = example.references.abs().max() / expected.abs().max()  # lest it is clipped
    torch.testing.assert_close(example.references, scale * expected)
    left = example.mixture - example.references.sum(0)
    assert ratio_db(example.references.sum(0), left) == pytest.approx(6.0, abs=0.01)
    assert example.metadata["snr_db"] == pytest.approx(6.0, abs=0.01)
    assert example.metadata["noise"] == split


def test_a_clean_mixture_needs_no_enhancement(metadata: Path, noise: Path) -> None:
    with pytest.raises(ValueError, match=r"clean mixtures are what task EB asks for; add noise, or rooms"):
        corpus(metadata, task=Task.EB, noise=[{"source": str(noise), "probability": 0.5}])
    assert corpus(metadata, task=Task.EB, rooms={}).example(0, 0).references.shape == (1, RATE)


def test_rooms_and_noise_are_fixed_in_validation_and_drawn_in_training(metadata: Path, noise: Path) -> None:
    values: dict[str, Any] = {"noise": [{"source": str(noise)}], "rooms": {}}
    fixed, drawn = (corpus(metadata, split, **values) for split in (Split.VAL, Split.TRAIN))
    assert torch.equal(fixed.example(0, 2).mixture, fixed.example(5, 2).mixture)
    assert not torch.equal(drawn.example(0, 2).mixture, drawn.example(5, 2).mixture)


def test_a_folder_of_speakers(metadata: Path) -> None:
    """``<split>/<speaker>/<file>``, without a list."""
    folder = metadata.parent / "speech"
    for split in Split:
        for speaker in range(3):
            write_audio(folder / f"{split}/{split}-{speaker}/a.wav", 0.1 * torch.randn(2 * RATE), RATE)
    example = corpus(folder, Split.VAL).example(0, 0)
    assert set(str(example.metadata["speakers"]).split("-")) <= {"val_0", "val_1", "val_2"}


def test_three_speakers(metadata: Path) -> None:
    clips = corpus(metadata, num_speakers=3)
    assert clips.num_sources == 3
    assert clips.example(0, 0).references.shape == (3, RATE)


@pytest.mark.parametrize(("rate", "speed"), [(8000, 1.1), (16000, 1.0)])
def test_rate_and_speed_change_the_pitch_as_they_should(metadata: Path, rate: int, speed: float) -> None:
    values: dict[str, Any] = {"num_speakers": 1, "speed_range": [speed, speed], "gain_range_db": [0.0, 0.0]}
    clips = corpus(metadata, sample_rate=rate, **values)
    for index in range(6):
        example = clips.example(0, index)
        assert len(example.mixture) == rate
        speaker = int(str(example.metadata["speakers"])[-1])
        spectrum = np.abs(np.fft.rfft(example.mixture.numpy()))
        assert spectrum.argmax() == pytest.approx(speed * (200 + 100 * speaker), abs=2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,speaker\na.wav,x", "missing column.* split"),
        ("path,speaker,split\na.wav,x,extra", "row 2, split: 'extra' is not one of train, val, test"),
        ("path,speaker,split\nval/1.wav,x,val", "nothing in it is for split 'train'"),
        ("path,speaker,split\ntrain/1.wav, ,train", "row 2, speaker: is empty"),
        (
            "path,speaker,split\ntrain/1.wav,x,train\ntrain/1.wav,y,train",
            r"row 3, path: 1.wav is in row 2 too for x",
        ),
        pytest.param(
            "path,speaker,split\n" + "train/1.wav,x,train\n" * 100_000,
            "row 3, path: 1.wav is in row 2 too",
            id="repeated",
        ),
        ("path,speaker,split\ntrain/1.wav,x,train\nval/1.wav,x,val", "'x' is in train and in val"),
        ("path,speaker,split\ntrain/1.wav,x", "row 2: expected 3 cells as in the header, got 2"),
        ("path,speaker,split\n,,\ntrain/1.wav,x,train", "row 2: all its cells are empty"),
        ("path;speaker;split\ntrain/1.wav;x;train", "the separator must be a comma"),
        ("path,speaker,split\ntrain/1.wav,train,x", "row 2, split: 'x' is not one of"),
        pytest.param(
            "path,speaker,split\ntrain/1.wav," + "x" * 10_000_000 + ",train",
            "row 2: not a CSV.*field limit",
            id="large",
        ),
        ("path,speaker,split\nb.wav,x,train", "row 2: no file 'b.wav'"),
        ("path,speaker,split\ntrain/1.wav,x,train", "1 speakers, but a mixture needs 2"),
        ("path,speaker,split\nmetadata.csv,x,train\ntrain/1.wav,y,train", "metadata.csv"),
    ],
)
def test_bad_metadata_is_explained(metadata: Path, text: str, message: str) -> None:
    metadata.write_text(text)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        corpus(metadata)


def test_bytes_that_spreadsheets_add_are_accepted(metadata: Path) -> None:
    text = "\ufeff" + metadata.read_text().replace("\n", "\r\n")
    metadata.write_bytes(text.encode())
    assert len(corpus(metadata)) == 12


def test_bad_values_are_explained(metadata: Path) -> None:
    with pytest.raises(
        ConfigError, match="level_range_db: expected two rising numbers from -60 to 60, got 3, -3"
    ):
        corpus(metadata, level_range_db=[3, -3])
    with pytest.raises(ConfigError, match=r"speed_range: expected two rising numbers from 0.5 to 2"):
        corpus(metadata, speed_range=[0.1, 3])
    with pytest.raises(FileNotFoundError, match="no file at"):
        corpus(metadata.with_name("none.csv"))
    with pytest.raises(ConfigError, match=r"Unknown corpus 'speech_clip'\. Did you mean 'speech_clips'"):
        parse_corpus_config({"corpus_type": "speech_clip"})


def test_an_equaliser_changes_the_voice_and_only_in_training(metadata: Path) -> None:
    plain, coloured = corpus(metadata), corpus(metadata, equaliser_db=6.0)
    one, same, other = plain.example(0, 0), coloured.example(0, 0), coloured.example(1, 0)
    assert not torch.allclose(one.references[0], same.references[0])
    torch.testing.assert_close(same.mixture, same.references.sum(0))
    torch.testing.assert_close(same.mixture, coloured.example(0, 0).mixture, rtol=0, atol=0)
    assert not torch.allclose(same.mixture, other.mixture)
    for split in (Split.VAL, Split.TEST):
        still = corpus(metadata, split, equaliser_db=6.0, reverse_probability=1.0).example(0, 0)
        assert torch.equal(still.mixture, corpus(metadata, split).example(0, 0).mixture)


def test_colour_is_a_gain_over_frequency_of_the_deviation_asked_for() -> None:
    random, click = np.random.default_rng(0), np.zeros(1000, np.float32)
    click[500] = 1.0
    assert colour(click, 0.0, random) is click
    gains = np.stack(
        [20 * np.log10(np.abs(np.fft.rfft(colour(click, 4.0, random), 1024))) for _ in range(300)]
    )
    np.testing.assert_allclose(gains[:, [0, -1]].std(axis=0), 4.0, rtol=0.15)
    assert np.abs(np.diff(gains, axis=1)).max() < 4.0  # smooth


def test_moved_formants_keep_the_pitch() -> None:
    rate, random = 8000, np.random.default_rng(0)
    pulses = np.zeros(rate, np.float32)
    pulses[:: rate // 100] = 1.0  # 100 Hz
    turn = 2 * np.pi * 1000 / rate
    resonance = [1.0, -2 * 0.96 * np.cos(turn), 0.96**2]  # a formant at 1 kHz
    vowel = lfilter([1.0], resonance, pulses).astype(np.float32)
    assert move_formants(vowel, 1.0, rate) is vowel
    for factor in (0.8, 1.25):
        moved = move_formants(vowel, factor, rate)
        assert moved.shape == vowel.shape
        assert moved.dtype == np.float32
        spectrum = np.abs(np.fft.rfft(moved))  # bins of 1 Hz
        assert abs(spectrum.argmax() - 1000 * factor) <= 100
        harmonics = spectrum[100::100]
        between = spectrum[150::100]
        assert harmonics[:20].min() > 5 * between[:20].max()
    sound = random.normal(size=3333).astype(np.float32)
    np.testing.assert_allclose(move_formants(sound, 1.0 + 1e-9, rate), sound, atol=1e-5)
    assert not move_formants(np.zeros(500, np.float32), 1.2, rate).any()


def test_formants_move_in_training_only(metadata: Path) -> None:
    plain, moved = corpus(metadata), corpus(metadata, formant_range=[0.8, 0.9])
    assert not torch.allclose(plain.example(0, 0).references, moved.example(0, 0).references)
    still = corpus(metadata, Split.VAL, formant_range=[0.8, 0.9]).example(0, 0)
    assert torch.equal(still.mixture, corpus(metadata, Split.VAL).example(0, 0).mixture)
    with pytest.raises(ConfigError, match=r"formant_range: expected two rising numbers from 0.5 to 2"):
        corpus(metadata, formant_range=[0.3, 1.0])


def test_clips_are_played_backwards(tmp_path: Path) -> None:
    lines = ["path,speaker,split"]
    for speaker in range(2):
        ramp = torch.linspace(0.01, 0.3, RATE)
        write_audio(tmp_path / f"{speaker}.wav", ramp, RATE)
        lines.append(f"{speaker}.wav,{speaker},train")
    (tmp_path / "metadata.csv").write_text("\n".join(lines))
    values: dict[str, Any] = {"examples_per_epoch": 200, "gain_range_db": (0.0, 0.0)}
    clips = corpus(tmp_path / "metadata.csv", reverse_probability=0.25, **values)
    falling = [
        bool(reference[0] > reference[-1]) for i in range(200) for reference in clips.example(0, i).references
    ]
    assert 0.18 < np.mean(falling) < 0.32
