"""Recorded mixtures put together anew: sums that hold, levels that are what they say, draws that repeat."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from polsess.audio import write_audio
from polsess.data import Corpus, DataConfig, Split, create_corpus, create_loader, parse_corpus_config
from polsess.data.rooms import MeasuredRooms, PlateRooms, list_rooms
from polsess.data.surroundings import NoiseConfig, RoomConfig, Surroundings
from polsess.schema import ConfigError
from polsess.tasks import Task
from tests.corpora.stored_layouts import NAMES, RATE, noise, whamr, write, write_mixtures

ALL: dict[str, Any] = {
    "remix": {"ssr_range_db": [-5.0, 5.0]},
    "speed_range": [0.95, 1.05],
    "gain_range_db": [-10.0, 0.0],
    "background_gain_db": [-3.0, 3.0],
    "rooms": {},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wham")
    mixtures = {"mix_clean": ["s1", "s2"], "mix_both": ["s1", "s2", "noise"], "mix_single": ["s1", "noise"]}
    for split in ("tr", "cv"):
        write_mixtures(folder / "wham/wav8k/min" / split, mixtures, ["s1", "s2", "noise"])
        write(folder / f"noise/{'train' if split == 'tr' else 'val'}/a.wav", noise(90, 400))
    return folder


def wham(root: Path, split: Split = Split.TRAIN, task: Task = Task.SB, **augmentation: Any) -> Corpus:
    values = {"root": str(root / "wham"), "segment_seconds": 0.05, "augmentation": augmentation}
    return create_corpus(parse_corpus_config({"corpus_type": "wham", **values}), split, task, seed=3)


def ratio_db(first: Tensor, second: Tensor) -> float:
    return float(20 * torch.log10(first.norm() / second.norm()))


def source(index: int, number: int) -> Tensor:
    return noise(17 * index + number)


def found_in(signal: Tensor, number: int) -> list[int]:
    """The recordings one of whose sources holds a scaled copy of a segment."""
    windows = [source(index, number).unfold(0, len(signal), 1) for index in range(len(NAMES))]
    similar = [torch.cosine_similarity(each, signal[None], dim=1).max() for each in windows]
    return [index for index, value in enumerate(similar) if value > 0.999]


def test_new_pairs_at_drawn_levels_in_the_background_of_the_first(root: Path) -> None:
    corpus = wham(root, remix={"ssr_range_db": [-5.0, 5.0]})
    partners = set()
    for epoch in range(12):
        for index in range(len(NAMES)):
            example = corpus.example(epoch, index)
            first, second = example.references
            assert example.mixture.shape == (400,)
            assert ratio_db(first, second) == pytest.approx(float(example.metadata["ssr_db"]), abs=0.01)
            assert found_in(first, 0) == [index]
            assert found_in(example.mixture - first - second, 2) == [index]
            partner = found_in(second, 0) or [n + 10 for n in found_in(second, 1)]
            assert len(partner) == 1
            assert partner[0] % 10 != index
            partners.add((index, *partner))
            one, other = str(example.metadata["speakers"]).split("-")
            assert one != other
    assert len(partners) >= 8  # of 3 recordings x 4 sources of others, less those of the same speaker


def test_without_a_change_it_is_what_was_recorded(root: Path) -> None:
    for index in range(len(NAMES)):
        example = wham(root).example(0, index)
        assert found_in(example.references[0], 0) == [index]
        rest = example.mixture - example.references.sum(0)
        assert found_in(rest, 2) == [index]


def test_speed_changes_speakers_and_background_alike(tmp_path: Path) -> None:
    time = torch.arange(4000) / RATE
    for n, tone in enumerate((400, 700)):
        write(tmp_path / f"wham/wav8k/min/tr/s{n + 1}/a.wav", 0.1 * torch.sin(2 * torch.pi * tone * time))
    both = sum(0.1 * torch.sin(2 * torch.pi * tone * time) for tone in (400, 700, 1300))
    assert isinstance(both, Tensor)
    write(tmp_path / "wham/wav8k/min/tr/mix_both/a.wav", both)
    corpus = wham(tmp_path, speed_range=[1.05, 1.05]).example(0, 0)
    spectrum = np.abs(np.fft.rfft(corpus.mixture.numpy(), 8000))
    peaks = [
        n
        for n in range(1, 2000)
        if spectrum[n] > 0.7 * spectrum.max() and spectrum[n - 1 : n + 2].argmax() == 1
    ]
    assert peaks == pytest.approx([420, 735, 1365], abs=4)
    torch.testing.assert_close(corpus.mixture.shape, torch.Size([400]))


@pytest.mark.parametrize("gain", [-9.0, -3.0])
def test_the_background_gets_louder_or_goes(root: Path, gain: float) -> None:
    plain = wham(root, background_gain_db=[gain, gain]).example(0, 0)
    rest = plain.mixture - plain.references.sum(0)
    window = source(0, 2).unfold(0, 400, 1)
    place = torch.cosine_similarity(window, rest[None], dim=1).argmax()
    assert ratio_db(rest, window[place]) == pytest.approx(gain, abs=0.01)
    clean = wham(root, background_gain_db=None).example(0, 0)
    torch.testing.assert_close(clean.mixture, clean.references.sum(0))


def test_validation_stays_as_it_was_recorded(root: Path) -> None:
    changed = wham(root, Split.VAL, **ALL, noise=[{"source": str(root / "noise")}]).example(4, 1)
    torch.testing.assert_close(changed.references[0], source(1, 0))
    assert len(changed.mixture) == 900


@pytest.mark.parametrize("target", ["dry", "reverberant"])
@pytest.mark.parametrize("task", [Task.SB, Task.EB])
def test_mixtures_are_the_sum_of_their_parts(root: Path, target: str, task: Task) -> None:
    """Without noise and background, references that hold the reverberation add up to the mixture."""
    values = {**ALL, "background_gain_db": None, "rooms": {"target": target}}
    example = wham(root, task=task, **values).example(2, 1)
    rest = (example.mixture - example.references.sum(0)).norm()
    assert (rest < 1e-5) == (target == "reverberant")
    assert example.metadata["reverberation"] == "yes"


def test_draws_depend_on_seed_epoch_and_index_alone(root: Path) -> None:
    values = {**ALL, "noise": [{"source": str(root / "noise"), "probability": 0.5}]}
    corpus, other = wham(root, **values), wham(root, **values)
    other.example(7, 0)
    assert torch.equal(corpus.example(1, 2).mixture, other.example(1, 2).mixture)
    assert not torch.equal(corpus.example(1, 2).mixture, corpus.example(2, 2).mixture)
    data = DataConfig(corpus=corpus.config, batch_size=1)
    by_workers = []
    for workers in (0, 2):
        loader = create_loader(corpus, data.model_copy(update={"num_workers": workers}), training=True)
        by_workers.append({batch.keys[0]: batch.mixture for batch in loader})
    assert by_workers[0].keys() == by_workers[1].keys()
    assert all(torch.equal(by_workers[0][key], by_workers[1][key]) for key in by_workers[0])


def test_what_belongs_to_a_speaker_is_no_background(tmp_path: Path) -> None:
    data = {**whamr(tmp_path), "augmentation": {"remix": {}}}
    with pytest.raises(ValueError, match="belongs to the speakers; set background_gain_db: null"):
        create_corpus(parse_corpus_config(data), Split.TRAIN, Task.SB)
    data["augmentation"] = {"remix": {}, "background_gain_db": None}
    assert create_corpus(parse_corpus_config(data), Split.TRAIN, Task.SB).example(0, 0).references.any()


def test_bad_values_are_explained(root: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"augmentation: speed_range: .*rising numbers from 0.5 to 2, got 3, 3"
    ):
        wham(root, speed_range=[3.0, 3.0])
    with pytest.raises(FileNotFoundError, match="nowhere: no folder or CSV"):
        wham(root, noise=[{"source": str(root / "nowhere")}])
    data = {"corpus_type": "wham", "root": str(root / "wham"), "mixture": "mix_single"}
    config = parse_corpus_config({**data, "augmentation": {"remix": {}}})
    with pytest.raises(ValueError, match="needs mixtures of two speakers or more"):
        create_corpus(config, Split.TRAIN, Task.ES)


def test_a_response_of_one_room_for_each_source(tmp_path: Path) -> None:
    for room, place in ((room, place) for room in range(3) for place in range(2)):
        response = torch.zeros(300)
        response[[5, 50 + 40 * room + 20 * place]] = torch.tensor([1.0, 0.5])
        write_audio(tmp_path / f"flat/room{room}_src{place}.wav", response, RATE)
        write_audio(tmp_path / f"nested/room{room}/{place}.wav", response, RATE)
    for rooms in (list_rooms(tmp_path / "flat"), list_rooms(tmp_path / "nested")):
        assert [len(room) for room in rooms.rooms] == [2, 2, 2]
        seen = set()
        for seed in range(30):
            click = np.eye(1, 300, dtype=np.float32)[0]
            wet = rooms.reverberate(np.random.default_rng(seed), [click, click], RATE)
            delays = sorted(int(each.argmax()) - 45 for each in wet)
            assert delays[1] - delays[0] == 20, "two places in one room"
            seen.add(delays[0] // 40)
        assert seen == {0, 1, 2}


def test_responses_without_rooms_are_drawn_one_by_one(tmp_path: Path) -> None:
    for n in range(4):
        write_audio(tmp_path / f"{n}-hall.wav", torch.eye(1, 100)[0], RATE)
    rooms = list_rooms(tmp_path)
    assert len(rooms.rooms) == 4
    chosen = rooms._choose(np.random.default_rng(0), 4)
    assert len(set(chosen)) == 4
    assert MeasuredRooms((rooms.rooms[0],))._choose(np.random.default_rng(0), 2) == [rooms.rooms[0][0]] * 2


def test_a_plate_is_causal_and_differs_between_places() -> None:
    click = np.eye(1, 4000, 1000, dtype=np.float32)[0]
    first, second = PlateRooms().reverberate(np.random.default_rng(1), [click, click], RATE)
    assert not np.abs(first[:1000]).max() > 1e-4
    assert np.abs(first).max() > 1e-3
    assert not np.array_equal(first, second)


def test_short_noise_is_repeated_or_heard_once(tmp_path: Path) -> None:
    write_audio(tmp_path / "train/x/a.wav", 0.3 * torch.ones(100), RATE)
    voices = np.ones((1, 1000), np.float32)
    for repeat, heard in ((True, 1000), (False, 100)):
        config = NoiseConfig(source=tmp_path, snr_range_db=(20.0, 20.0), repeat=repeat)
        noise_of = Surroundings([config], None, Split.TRAIN, RATE)
        found = noise_of.surround(np.random.default_rng(0), voices).noise
        assert (found > 0.05).sum() == heard
        assert found.max() == pytest.approx(0.1, rel=1e-3)


def test_silent_noise_is_refused(tmp_path: Path) -> None:
    write_audio(tmp_path / "train/x/a.wav", torch.zeros(100), RATE)
    quiet = Surroundings([NoiseConfig(source=tmp_path)], RoomConfig(), Split.TRAIN, RATE)
    with pytest.raises(ValueError, match="pieces of its sounds in a row were silent"):
        quiet.surround(np.random.default_rng(0), np.ones((1, 50), np.float32))
    with pytest.raises(ValueError, match="nothing in it is for split 'val'"):
        Surroundings([NoiseConfig(source=tmp_path)], None, Split.VAL, RATE)
