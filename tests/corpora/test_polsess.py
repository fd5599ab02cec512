from __future__ import annotations

import csv
import math
import shutil
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from polsess.audio import write_audio
from polsess.data import Corpus, Split, create_corpus, parse_corpus_config
from polsess.data.polsess.layers import INDOOR_VARIANTS, OUTDOOR_VARIANTS, VARIANTS
from polsess.data.polsess.table import REVERB_COLUMNS
from polsess.data.sources import speaker_of
from polsess.schema import ConfigError
from polsess.tasks import SEPARATION_TASKS, Task

LENGTH, RATE = 1600, 8000
LSB = 2.0**-15
Layers = dict[str, Tensor]

COLUMNS = {
    "speaker1File": ("clean", "A"),
    "speaker2File": ("clean", "B"),
    "sceneFile": ("scene", "S"),
    "eventFile": ("event", "E"),
    "reverbForSpeaker1": ("sp1_reverb", "sp1_R"),
    "reverbForSpeaker2": ("sp2_reverb", "sp2_R"),
    "reverbForEvent": ("ev_reverb", "ev_R"),
}


def write_row(folder: Path, number: int, indoor: bool) -> tuple[dict[str, Any], Layers]:
    """One mixture with layers on the 16-bit grid, so that sums are exact."""
    layers: Layers = {}
    row: dict[str, Any] = {}
    for column, (place, stem) in COLUMNS.items():
        row[column] = ""
        if indoor or column not in REVERB_COLUMNS:
            row[column] = f"{stem}{number}.wav"
            layers[column] = torch.randint(-3000, 3000, (LENGTH,)) * LSB
            write_audio(folder / place / row[column], layers[column], RATE)
    layers["mixFile"] = torch.stack(list(layers.values())).sum(0)
    row["mixFile"] = f"A{number}-B{number}-S{number}-E{number}{f'-R{number}' if indoor else ''}.wav"
    write_audio(folder / "mix" / row["mixFile"], layers["mixFile"], RATE)
    row |= {"SSR": number - 2, "sceneClass": "office" if indoor else "park", "eventClass": "Bark"}
    row |= {"decay": 0.95 if indoor else math.nan, "speech1OryginalPath": f"mls/{number}_7_000.flac"}
    return row | {"speech2OryginalPath": f"C:\\emu\\session{number % 2}\\b.wav"}, layers


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("polsess")
    for split in Split:
        write_split(folder / split, 6)
    return folder


@pytest.fixture
def root(template: Path, tmp_path: Path) -> Path:
    """A corpus of six rows a split in a folder of another name, for the test alone."""
    return Path(shutil.copytree(template, tmp_path / "renamed"))


def write_split(folder: Path, count: int) -> None:
    rows = []
    for number in range(count):
        row, layers = write_row(folder, number, indoor=number % 2 == 0)
        rows.append(row)
        torch.save(layers, folder / f"layers{number}.pt")
    with (folder / f"corpus_ORIGINAL_{folder.name}_final.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def corpus(
    root: Path, split: Split = Split.TEST, task: Task = Task.SB, seed: int = 0, **values: Any
) -> Corpus:
    config = parse_corpus_config({"corpus_type": "polsess", "root": str(root), **values})
    return create_corpus(config, split, task, seed)


def expected_mixture(layers: Layers, task: Task, variant: str, indoor: bool) -> Tensor:
    """The direct sum of what stays, from the definition of the letters."""
    kept = variant.split("_")[0]
    speakers = ("1",) if task is Task.ES else ("1", "2")
    names = [f"speaker{n}File" for n in speakers]
    if "S" in kept:
        names.append("sceneFile")
    if "E" in kept:
        names += ["eventFile", "reverbForEvent"] if indoor else ["eventFile"]
    if "R" in kept:
        names += [f"reverbForSpeaker{n}" for n in speakers]
    return torch.stack([layers[name] for name in names]).sum(0)


CASES = [
    *product(sorted(SEPARATION_TASKS), INDOOR_VARIANTS, [True], ["dry", "reverberant"]),
    *product(sorted(SEPARATION_TASKS), OUTDOOR_VARIANTS, [False], ["dry", "reverberant"]),
]


@pytest.mark.parametrize(("task", "variant", "indoor", "target"), CASES)
def test_every_variant_is_the_direct_sum_of_what_stays(
    root: Path, task: Task, variant: str, indoor: bool, target: str
) -> None:
    rows = corpus(root, task=task, variants=[variant], target=target)
    assert len(rows) == 3
    for index in range(3):
        example = rows.example(0, index)
        layers = torch.load(root / "test" / f"layers{2 * index + (0 if indoor else 1)}.pt")
        expected = expected_mixture(layers, task, variant, indoor)
        assert (example.mixture - expected).abs().max() <= 4 * LSB
        dry = torch.stack([layers["speaker1File"], layers["speaker2File"]])
        if target == "reverberant" and "R" in variant:
            dry = dry + torch.stack([layers["reverbForSpeaker1"], layers["reverbForSpeaker2"]])
        assert torch.equal(example.references, task.references(dry))
        assert example.metadata["variant"] == variant
        assert example.metadata["location"] == ("indoor" if indoor else "outdoor")


def test_only_the_files_that_a_variant_needs_are_read(root: Path) -> None:
    for place in ("event", "ev_reverb", "scene", "sp1_reverb", "sp2_reverb"):
        for path in (root / "test" / place).iterdir():
            path.unlink()
    assert len(corpus(root, variants=["SER"]).example(0, 0).references) == 2
    with pytest.raises(FileNotFoundError, match=r"row 2, column sceneFile: no file at .*S0\.wav"):
        corpus(root, variants=["ER"]).example(0, 0)


def test_c_is_counted_apart_and_c_alone_means_both(root: Path) -> None:
    rows = corpus(root, variants=["C"])
    assert [rows.example(0, i).metadata["variant"] for i in range(6)] == ["C_in", "C_out"] * 3


def test_every_row_in_each_of_its_variants(root: Path) -> None:
    drawn, whole = corpus(root), corpus(root, each_variant=True)
    seen: dict[str, list[str]] = {}
    for index in range(len(whole)):
        example = whole.example(0, index)
        row, _, variant = example.identifier.rpartition("-")
        assert variant == example.metadata["variant"]
        seen.setdefault(row, []).append(variant)
    assert list(seen) == [drawn.example(0, index).identifier for index in range(len(drawn))]
    for index in range(len(drawn)):
        example = drawn.example(0, index)
        expected = INDOOR_VARIANTS if example.metadata["location"] == "indoor" else OUTDOOR_VARIANTS
        assert tuple(seen[example.identifier]) == expected
    fewer = corpus(root, each_variant=True, variants=["C", "SER"])
    left = {fewer.example(0, index).metadata["variant"] for index in range(len(fewer))}
    assert left == {"C_in", "C_out", "SER"}
    assert len(corpus(root, Split.TRAIN, each_variant=True)) == len(corpus(root, Split.TRAIN))


def test_training_draws_and_validation_and_test_do_not(root: Path) -> None:
    train = corpus(root, Split.TRAIN)
    drawn = {train.example(epoch, 0).metadata["variant"] for epoch in range(40)}
    assert drawn == set(INDOOR_VARIANTS)
    for split in (Split.VAL, Split.TEST):
        one, two = corpus(root, split, seed=0), corpus(root, split, seed=5)
        for index in range(len(one)):
            assert one.example(0, index).metadata == two.example(7, index).metadata
            assert torch.equal(one.example(0, index).mixture, two.example(7, index).mixture)


def test_the_curriculum_changes_the_variants_by_epoch(root: Path) -> None:
    stages = [{"epoch": 1, "variants": ["C"]}, {"epoch": 3, "variants": ["SER"]}]
    train = corpus(root, Split.TRAIN, variants=["S", "R"], curriculum=stages)
    seen = [{train.example(epoch, i).metadata["variant"] for i in range(6)} for epoch in range(4)]
    assert seen == [{"S", "R"}, {"C_in", "C_out"}, {"C_in", "C_out"}, {"SER"}]


def test_filters(root: Path) -> None:
    assert len(corpus(root, location="outdoor")) == 3
    assert len(corpus(root, ssr_range_db=[-1, 1])) == 3
    assert len(corpus(root, scene_classes=["park"])) == 3
    subsets = {tuple(row.number for row in corpus(root, max_examples=3, seed=seed).rows) for seed in range(3)}  # type: ignore[attr-defined]
    assert len(subsets) == 1
    assert subsets != {(2, 3, 4)}  # not the head of the table
    limits = {"val": 1, "test": 3}
    assert {tuple(row.number for row in corpus(root, max_examples=limits).rows)} == subsets  # type: ignore[attr-defined]
    assert len(corpus(root, Split.TRAIN, max_examples=limits)) == 6
    with pytest.raises(ValueError, match="none of its 6 rows passes"):
        corpus(root, scene_classes=["moon"])


def test_same_speaker_pairs_can_be_left_out(root: Path) -> None:
    table = root / "test" / "corpus_ORIGINAL_test_final.csv"
    table.write_text(table.read_text().replace("C:\\emu\\session1\\b.wav", "mls/1_9_000.flac"))
    assert len(corpus(root)) == 6
    assert len(corpus(root, same_speaker_pairs=False)) == 5


def test_speakers_are_read_from_source_names() -> None:
    assert speaker_of("data/mls/audio/6892/10342/6892_10342_000056.flac") == "6892"
    assert speaker_of(r"D:\emu\SES0012\rec_007.wav") == "SES0012"


def test_segments_are_cut_alike_from_every_layer(root: Path) -> None:
    train = corpus(root, Split.TRAIN, segment_seconds=0.05, variants=["C_out"])
    layers = torch.load(root / "train" / "layers1.pt")
    starts = set()
    for epoch in range(10):
        example = train.example(epoch, 0)
        assert example.mixture.shape == (400,)
        torch.testing.assert_close(example.mixture, example.references.sum(0), atol=4 * LSB, rtol=0)
        windows = layers["speaker1File"].unfold(0, 400, 1)
        starts.add(int((windows == example.references[0]).all(1).nonzero()[0]))
    assert len(starts) > 5


def test_a_lower_rate_is_resampled_after_mixing(root: Path) -> None:
    with pytest.warns(UserWarning, match=r"its files have 8000 Hz and are resampled .* 4000 Hz"):
        example = corpus(root, sample_rate=4000, variants=["SER"]).example(0, 0)
    assert example.mixture.shape == (LENGTH // 2,)


def test_a_rate_above_that_of_the_files_is_refused(root: Path) -> None:
    with pytest.raises(ValueError, match=r"its files have 8000 Hz.*nothing above 4000 Hz.*Set it to 8000"):
        corpus(root, sample_rate=16000)


@pytest.mark.parametrize("place", ["{root}", "{root}/{split}", "elsewhere"])
def test_the_table_is_found_wherever_it_is(root: Path, place: str, tmp_path: Path) -> None:
    source = root / "test" / "corpus_ORIGINAL_test_final.csv"
    folder = Path(place.format(root=root, split="test")) if "{" in place else tmp_path / place
    folder.mkdir(exist_ok=True)
    source.rename(folder / "corpus_X_test_final.csv")
    values: dict[str, Any] = {} if "{" in place else {"table": str(folder / "corpus_X_{split}_final.csv")}
    assert len(corpus(root, **values)) == 6


def rewrite(root: Path, change: Any) -> None:
    table = root / "test" / "corpus_ORIGINAL_test_final.csv"
    table.write_text(change(table.read_text()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("eventFile", "evFile"), r"missing column\(s\) eventFile"),
        (lambda text: text.replace(",", ";"), "separated by ';'"),
        (lambda text: text.splitlines()[0], "it has no rows"),
        (lambda text: text.replace("sp2_R0.wav", ""), "row 2, column reverbForSpeaker2: empty"),
        (
            lambda text: text.replace("S1.wav", "../S1.wav", 1),
            "row 3, column sceneFile: expected a file name",
        ),
        (
            lambda text: text.replace("B1.wav", "", 1),
            "row 3, column speaker2File: expected a file name, got noth",
        ),
        (
            lambda text: text.replace(",office,", ",office,", 1).replace(",-2,", ",loud,", 1),
            "row 2, column SSR",
        ),
    ],
)
def test_bad_tables_are_explained(root: Path, change: Any, message: str) -> None:
    rewrite(root, change)
    with pytest.raises(ValueError, match=message):
        corpus(root)


def test_spreadsheet_bytes_are_accepted(root: Path) -> None:
    rewrite(root, lambda text: "\ufeff" + text.replace("\n", "\r\n"))
    assert len(corpus(root)) == 6


def test_unequal_layers_are_explained(root: Path) -> None:
    write_audio(root / "test/clean/A0.wav", torch.zeros(LENGTH - 1), RATE)
    with pytest.raises(ValueError, match=r"A0\.wav.*1599 samples at 8000 Hz; the mixture of row 2"):
        corpus(root, variants=["SER"]).example(0, 0)
    write_audio(root / "test/clean/A0.wav", torch.zeros(2, LENGTH), RATE)
    with pytest.raises(ValueError, match=r"A0\.wav.*2 channels"):
        corpus(root, variants=["SER"]).example(0, 0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"variants": ["SRE"]}, "unknown variant 'SRE'"),
        ({"curriculum": [{"epoch": 3, "variants": ["S"]}, {"epoch": 1, "variants": ["S"]}]}, "must rise"),
        ({"curriculum": [{"epoch": 3, "variants": []}]}, "curriculum"),
        ({"target": "wet"}, "target"),
    ],
)
def test_bad_values_are_explained(root: Path, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        corpus(root, **values)


def test_missing_places_are_explained(root: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no folder at"):
        corpus(tmp_path / "none")
    (root / "test" / "corpus_ORIGINAL_test_final.csv").unlink()
    with pytest.raises(FileNotFoundError, match="no CSV for split 'test'"):
        corpus(root)
    (root / "a_test_b.csv").write_text("x")
    (root / "test" / "c.csv").write_text("x")
    with pytest.raises(ValueError, match=r"several CSVs could be split 'test'.*Set data\.corpus\.table"):
        corpus(root)


def test_all_variants_are_known() -> None:
    assert len(VARIANTS) == 9
