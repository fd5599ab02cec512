"""What is generated is a sound PolSESS corpus, byte for byte the same however it was made."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from polsess.audio import read_audio, write_audio
from polsess.cli.main import app
from polsess.data import Split, create_corpus, parse_corpus_config
from polsess.data.plate import Plate, create_reverb
from polsess.data.polsess.audit import Kind, audit_polsess
from polsess.data.polsess.generation import (
    GenerationConfig,
    generate_split,
)
from polsess.data.polsess.generation.item import Mixer, Redraw
from polsess.data.polsess.generation.scenes import load_scenes
from polsess.data.polsess.table import find_table, read_table
from polsess.folder_lock import FolderInUseError, locked
from polsess.schema import ConfigError
from polsess.tasks import Task
from tests.conftest import DATA
from tests.corpora.generated import RATE, SCENES, SECONDS, content, generate, ingredients, layer, rows, sound


@pytest.fixture(scope="module")
def corpus(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate(tmp_path_factory.mktemp("corpus"), sources)


def test_a_split_that_another_process_generates_is_refused(sources: Path, tmp_path: Path) -> None:
    with locked(tmp_path / "train", "polsess first"), pytest.raises(FolderInUseError, match="polsess first"):
        generate(tmp_path, sources)


def test_the_audit_finds_nothing_broken(corpus: Path) -> None:
    result = audit_polsess(corpus)
    kinds = {finding.kind for finding in result.findings}
    assert kinds <= {Kind.REPEATED_LAYER}  # a second of events has few places
    assert result.largest_residual == 0


def test_the_columns_are_the_generators(corpus: Path) -> None:
    indoor = [row for row in rows(corpus) if SCENES[row["sceneClass"]] == "indoor"]
    outdoor = [row for row in rows(corpus) if SCENES[row["sceneClass"]] == "outdoor"]
    assert indoor
    assert outdoor
    assert len(indoor[0]) == 34
    assert all(row["reverbForSpeaker1"] == "" and row["decay"] == "NaN" for row in outdoor)
    assert all(row["mixFile"].count("-") == 4 and row["reverbForEvent"] for row in indoor)
    for row in indoor:
        low, high = (0.5, 0.7) if row["sceneClass"] == "metro_station" else (0.9, 0.99)
        assert low <= float(row["decay"]) <= high
        assert float(row["preDelay2"]) <= float(row["preDelay1"])


def test_levels_and_places_are_what_the_csv_says(corpus: Path) -> None:
    for row in rows(corpus):
        first, second, scene, event = (
            layer(corpus, row, name) for name in ("speaker1File", "speaker2File", "sceneFile", "eventFile")
        )
        ssr = 20 * np.log10(np.linalg.norm(first) / np.linalg.norm(second))
        assert ssr == pytest.approx(int(row["SSR"]), abs=0.02)
        offset = 20 * np.log10(np.linalg.norm(scene) / np.linalg.norm(first + second))
        assert offset == pytest.approx(float(row["sceneOffsetDB"]), abs=0.05)
        assert -14 <= offset <= 0.05
        start, end = int(row["speech1Start"]), int(row["speech1End"])
        source = read_audio(Path(row["speech1OryginalPath"]))[0][0, start - 1 : end]
        np.testing.assert_allclose(first, source, atol=2**-15)
        start, end = int(row["eventStart"]), int(row["eventEnd"])
        source = read_audio(Path(row["eventOryginalPath"]))[0][0, start - 1 : end]
        np.testing.assert_allclose(event, source, atol=2**-15)


def test_nothing_that_should_not_be(corpus: Path) -> None:
    for split in Split:
        for row in rows(corpus, split):
            voices = [Path(row[f"speech{n}OryginalPath"]).parent for n in (1, 2)]
            assert voices[0] != voices[1]
            assert all(voice.parent.name == split for voice in voices)
            assert (row["sceneClass"], row["eventClass"]) not in {("office", "Cow"), ("park", "Typing")}


def test_the_reader_reads_it(corpus: Path) -> None:
    config = parse_corpus_config({"corpus_type": "polsess", "root": str(corpus), "sample_rate": RATE})
    for split in Split:
        opened = create_corpus(config, split, Task.SB)
        assert len(opened) == 8
        assert opened.example(0, 0).references.shape == (2, SECONDS * RATE)


@pytest.mark.parametrize("rate", [8000, 16000])
def test_another_seed_and_rate(sources: Path, tmp_path: Path, rate: int) -> None:
    root = generate(tmp_path / "a", sources, 2, seed=4, sample_rate=rate)
    path = root / "val/mix" / rows(root, "val")[0]["mixFile"]
    assert read_audio(path)[0].shape == (1, SECONDS * rate)
    assert rows(root)[0]["mixFile"] != rows(generate(tmp_path / "b", sources, 2))[0]["mixFile"]


def test_the_number_of_processes_changes_nothing(corpus: Path, sources: Path, tmp_path: Path) -> None:
    parts = ingredients(sources)[Split.TRAIN]
    generate_split(tmp_path, Split.TRAIN, 8, parts, num_workers=2)
    assert content(tmp_path / "train") == content(corpus / "train")


def test_an_interrupted_run_goes_on(corpus: Path, sources: Path, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    done: list[int] = []

    def stop() -> None:
        done.append(1)
        if len(done) == 5:
            raise Stop

    parts = ingredients(sources)[Split.TRAIN]
    with pytest.raises(Stop):
        generate_split(tmp_path, Split.TRAIN, 8, parts, on_item=stop)
    journal = tmp_path / "train/.generation.jsonl"
    journal.write_text(journal.read_text()[:-20])  # the last line was cut off by the crash
    with pytest.raises(FileExistsError, match="other settings"):
        generate_split(tmp_path, Split.TRAIN, 8, ingredients(sources, seed=9)[Split.TRAIN])
    made = generate_split(tmp_path, Split.TRAIN, 8, parts)
    assert made.num_resumed == 4
    assert content(tmp_path / "train") == content(corpus / "train")
    with pytest.raises(FileExistsError, match="is there already"):
        generate_split(tmp_path, Split.TRAIN, 8, parts)


def test_one_after_the_other(sources: Path, tmp_path: Path) -> None:
    root = generate(tmp_path, sources, 2, overlap=0.0)
    for row in rows(root):
        first, second = layer(root, row, "speaker1File"), layer(root, row, "speaker2File")
        assert first[:1900].any()
        assert second[2100:].any()
        assert not np.any(first * second)


def test_measured_rooms(sources: Path, tmp_path: Path) -> None:
    response = torch.zeros(1000)
    response[[10, 110, 410]] = torch.tensor([0.5, 0.25, -0.1])  # the direct sound and two echoes
    write_audio(tmp_path / "rooms/a.wav", response, RATE)
    root = generate(tmp_path / "corpus", sources, 4, rirs=tmp_path / "rooms")
    assert not audit_polsess(root).broken
    row = next(row for row in rows(root) if row["reverbForSpeaker1"])
    dry, wet = layer(root, row, "speaker1File"), layer(root, row, "reverbForSpeaker1")
    expected = np.zeros_like(dry)
    expected[100:] += 0.5 * dry[:-100]
    expected[400:] -= 0.2 * dry[:-400]
    np.testing.assert_allclose(wet, expected, atol=1e-4)
    assert row["decay"] == "NaN"


def test_the_original_rules(sources: Path, tmp_path: Path) -> None:
    """One speaker twice and in all splits, labels by a part of their text, a mixture rounded once."""
    for split in Split:
        for n in range(2):
            sound(tmp_path / f"speech/{split}/solo/{n}.wav", 1.0, 0.05)
        sound(tmp_path / f"events/{split}/Train/a.wav", 1.0, 0.02)
    shutil.copytree(sources / "scenes", tmp_path / "scenes")
    with pytest.raises(ValueError, match="solo"):
        ingredients(tmp_path)
    assert ingredients(tmp_path, compat="matlab")[Split.TRAIN]._events_with("rain")
    result = audit_polsess(generate(tmp_path / "corpus", tmp_path, 4, compat="matlab"))
    found = Counter(finding.kind for finding in result.findings)
    assert (found[Kind.SAME_SPEAKER], found[Kind.LEAKED_SPEAKER]) == (12, 2)
    assert result.largest_residual in (1, 2, 3, 4)
    assert not result.broken


def test_the_original_sums_speech_before_it_limits_a_speaker(sources: Path) -> None:
    settings: dict[str, Any] = {"ssr_range_db": (-20, -20), "scene_range_db": (-14.0, -14.0)}
    sine = 0.5 * np.sin(np.linspace(0, 60, 4000)).astype(np.float32)
    background = {"scene": 0.1 * sine, "event": 0.1 * sine}
    active = np.ones((2, 4000), np.bool_)
    mixer = Mixer(ingredients(sources, compat="matlab", **settings)[Split.TRAIN])
    layers = mixer._level(np.random.default_rng(0), [sine, -sine], active, background, {})
    np.testing.assert_allclose(layers["speaker2File"], np.clip(-10 * sine, -0.999, 0.999), atol=1e-5)
    np.testing.assert_allclose(layers["speech"], np.clip(-9 * sine, -0.999, 0.999), atol=1e-5)
    strict = Mixer(ingredients(sources, **settings)[Split.TRAIN])
    with pytest.raises(Redraw, match="clipped"):
        strict._level(np.random.default_rng(0), [sine, -sine], active, background, {})


class NaiveDelay:
    """A delay line, one sample after the other."""

    def __init__(self, length: int) -> None:
        self.values = [0.0] * (length + 1)

    def read(self, delay: int) -> float:
        return self.values[delay - 1]

    def write(self, value: float) -> None:
        self.values = [value, *self.values[:-1]]


def naive_plate(dry: np.ndarray, plate: Plate, rate: int) -> np.ndarray:
    """The plate as a program for a signal processor would be: both tanks in step, sample by sample."""

    def scaled(delay: int) -> int:
        return round(delay * rate / 29761)

    names = (142, 107, 379, 277, 672, 4453, 1800, 3720, 908, 4217, 2656, 3163)
    lines = {name: NaiveDelay(scaled(name)) for name in names}
    memory = {"in": 0.0, "a": 0.0, "b": 0.0}
    pole = np.exp(-2 * np.pi * plate.high_cut_hz / rate) if plate.high_cut_hz < rate / 2 else 0.0
    gain = 1 - plate.decay

    def low_pass(name: str, value: float, pole: float) -> float:
        memory[name] = (1 - pole) * value + pole * memory[name]
        return memory[name]

    def all_pass(name: int, value: float, coefficient: float) -> tuple[float, float]:
        delayed = lines[name].read(scaled(name))
        inside = value - coefficient * delayed
        return inside, coefficient * inside + delayed

    out = []
    for sample in dry:
        value, writes = low_pass("in", sample, pole), {}
        for name in (142, 107, 379, 277):
            writes[name], value = all_pass(name, value, plate.diffusion)
        crossed = {"a": gain * lines[3163].read(scaled(3163)), "b": gain * lines[3720].read(scaled(3720))}
        for branch, (first, long, middle, last) in (
            ("a", (672, 4453, 1800, 3720)),
            ("b", (908, 4217, 2656, 3163)),
        ):
            writes[first], writes[long] = all_pass(first, value + crossed[branch], -plate.diffusion)
            damped = gain * low_pass(branch, lines[long].read(scaled(long)), plate.damping)
            writes[middle], writes[last] = all_pass(middle, damped, plate.diffusion / 2)
        for name, written in writes.items():
            lines[name].write(written)
        left = (
            (4217, 266),
            (4217, 2974),
            (-2656, 1913),
            (3163, 1996),
            (-4453, 1990),
            (-1800, 187),
            (-3720, 1066),
        )
        right = (
            (4453, 353),
            (4453, 3627),
            (-1800, 1228),
            (3720, 2673),
            (-4217, 2111),
            (-2656, 335),
            (-3163, 121),
        )
        taps = sum(
            np.sign(name) * lines[abs(name)].read(scaled(delay) + 1) for name, delay in (*left, *right)
        )
        out.append(0.3 * taps)
    return np.array(out)


@pytest.mark.parametrize("high_cut_hz", [1500.0, 15000.0])
def test_the_plate_is_dattorros(high_cut_hz: float) -> None:
    plate = Plate(diffusion=0.6, decay=0.3, damping=0.4, high_cut_hz=high_cut_hz)
    dry = np.random.default_rng(0).standard_normal(3000).astype(np.float32)
    wet = create_reverb(plate, 4000, len(dry)).apply(dry, 50)
    expected = naive_plate(dry, plate, 4000)
    assert not wet[:50].any()
    np.testing.assert_allclose(wet[50:], expected[:-50], atol=1e-4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("scenes: {a: {location: indoor}}", "indoor scenes need it"),
        ("scenes: {a: {location: outdoor, excludes: [x]}}", "'x' is not among events"),
        ("scenes: {a: {location: moon}}", "location"),
        ("scenes: {a: {location: indoor, reverb: hall}}", "reverb"),
        ("[1]", "mapping"),
    ],
)
def test_bad_tables_of_scenes(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_scenes(tmp_path / "t.yaml")


def test_an_unknown_scene_is_found_out_before_anything_is_written(sources: Path, tmp_path: Path) -> None:
    shutil.copytree(sources, tmp_path / "s")
    (tmp_path / "s/scenes/train/park").rename(tmp_path / "s/scenes/train/parc")
    with pytest.raises(ValueError, match=r"scene class 'parc'.*Did you mean 'park'"):
        generate(tmp_path / "out", tmp_path / "s")
    assert not (tmp_path / "out").exists()


def test_a_split_whose_scenes_are_too_short_is_named(sources: Path, tmp_path: Path) -> None:
    shutil.copytree(sources, tmp_path / "s")
    for scene in (tmp_path / "s/scenes/val").rglob("*.flac"):
        sound(scene, 0.3)
    with pytest.raises(ValueError, match=r"s/scenes, split 'val': none of \d+ recordings? is longer than"):
        generate(tmp_path / "out", tmp_path / "s")


def test_the_command(sources: Path, tmp_path: Path) -> None:
    places = [word for name in ("speech", "scenes", "events") for word in (f"--{name}", str(sources / name))]
    arguments = ["data", "generate", str(tmp_path / "c"), *places, "--seconds", "0.5", "--workers", "1"]
    run = CliRunner()
    assert run.invoke(app, arguments).exit_code == 2
    done = run.invoke(app, [*arguments, "--train", "2", "--val", "1"])
    assert done.exit_code == 0, done.stderr
    assert "2 mixtures" in done.stderr
    assert (tmp_path / "c/val/corpus_c_val_final.csv").is_file()
    polish = run.invoke(app, [*arguments[:2], str(tmp_path / "żółty zbiór"), *arguments[3:], "--train", "1"])
    assert polish.exit_code == 0, polish.stderr
    assert len(read_table(find_table(tmp_path / "żółty zbiór", "train"))) == 1


def test_the_corpus_beside_the_tests_is_sound() -> None:
    result = audit_polsess(DATA / "polsess_mini")
    assert not result.findings
    assert sum(result.num_rows.values()) == 20


def test_one_speaker(sources: Path, tmp_path: Path) -> None:
    root = generate(tmp_path / "corpus", sources, 4, speakers=1)
    assert not audit_polsess(root).findings
    assert not (root / "train/sp2_reverb").exists()
    assert len(rows(root)[0]) == 34 - 3 - 1 - 3  # a speaker's source, level, files and delay
    config = parse_corpus_config({"corpus_type": "polsess", "root": str(root), "variants": ["SER", "SE"]})
    example = create_corpus(config, Split.TEST, Task.ES).example(0, 0)
    row = next(row for row in rows(root, "test") if row["mixFile"].startswith(example.identifier))
    np.testing.assert_allclose(example.references[0], layer(root, row, "speaker1File"))
    with pytest.raises(ValueError, match="mixtures of 1 speaker do not fit task SB, only ES"):
        create_corpus(config, Split.TEST, Task.SB)


def test_three_speakers(sources: Path, tmp_path: Path) -> None:
    root = generate(tmp_path / "corpus", sources, 4, speakers=3, overlap=0.5)
    result = audit_polsess(root)
    assert not result.broken, result.table()
    for task, count in ((Task.SB, 3), (Task.EB, 1), (Task.ES, 1)):
        for variant in ("SER", "SE", "C"):
            data = {"corpus_type": "polsess", "root": str(root), "variants": [variant]}
            config = parse_corpus_config({**data, "target": "reverberant"})
            corpus = create_corpus(config, Split.VAL, task)
            example = corpus.example(0, 0)
            assert (corpus.num_sources, len(example.references)) == (count, count)
            if variant == "C":
                torch.testing.assert_close(example.mixture, example.references.sum(0), atol=1e-4, rtol=0)
    row = rows(root)[0]
    assert len({row[f"speech{n}OryginalPath"] for n in (1, 2, 3)}) == 3
    dry = [layer(root, row, f"speaker{n}File") for n in (1, 2, 3)]
    levels = [20 * np.log10(np.linalg.norm(dry[0]) / np.linalg.norm(each)) for each in dry[1:]]
    assert levels == pytest.approx([float(row["SSR"]), float(row["SSR3"])], abs=0.1)
    turns = [(each.nonzero()[0].min() / len(each), each.nonzero()[0].max() / len(each)) for each in dry]
    assert np.allclose(turns, [(0, 2 / 3), (1 / 6, 5 / 6), (1 / 3, 1)], atol=0.02)


def test_settings_that_contradict_each_other() -> None:
    for settings, message in (
        ({"speakers": 1, "overlap": 0.5}, "one speaker cannot overlap"),
        ({"speakers": 3, "compat": "matlab"}, "mixes two speakers, not 3"),
    ):
        with pytest.raises(ValueError, match=message):
            GenerationConfig.model_validate({"name": "a", **settings})


def test_a_file_that_sounds_like_another_is_left_out(sources: Path, tmp_path: Path) -> None:
    """Otherwise one sound could be in two splits under two names."""
    shutil.copytree(sources, tmp_path / "all")
    cow = tmp_path / "all/events/train/Cow/a.flac"
    shutil.copy(cow, tmp_path / "all/events/test/Cow/copy.flac")
    repeated: list[str] = []
    found = ingredients(tmp_path / "all", repeated=repeated)
    (line,) = repeated
    assert {Path(name).name for name in line.split(" is ")} == {"a.flac", "copy.flac"}
    assert sum(len(parts.events) for parts in found.values()) == 9
    ingredients(tmp_path / "all", compat="matlab", repeated=repeated)
    assert len(repeated) == 1
