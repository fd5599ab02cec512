"""Every planted fault is found, and a sound corpus has no findings."""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from polsess.audio import read_audio, write_audio
from polsess.cli.main import app
from polsess.data.polsess.audit import AuditResult, Kind, audit_polsess
from tests.corpora.test_polsess import LENGTH, LSB, RATE, write_split

Rows = list[dict[str, str]]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sound")
    write_split(root / "train", 6)
    write_split(root / "val", 4)
    edit(
        root,
        "val",
        lambda rows: [row.update(speech1OryginalPath=f"v/9{i}_1_1.flac") for i, row in enumerate(rows)],
    )
    edit(
        root,
        "val",
        lambda rows: [row.update(speech2OryginalPath=f"w{i}/b.wav") for i, row in enumerate(rows)],
    )
    edit(
        root,
        "train",
        lambda rows: [row.update(speech2OryginalPath=f"s{i}/b.wav") for i, row in enumerate(rows)],
    )
    return root


@pytest.fixture
def root(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "corpus"))


def table(root: Path, split: str) -> Path:
    return root / split / f"corpus_ORIGINAL_{split}_final.csv"


def edit(root: Path, split: str, change: Callable[[Rows], object]) -> None:
    with table(root, split).open(newline="") as file:
        rows = list(csv.DictReader(file))
    change(rows)
    with table(root, split).open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def kinds(result: AuditResult) -> dict[Kind, int]:
    return dict(Counter(finding.kind for finding in result.findings))


def test_a_sound_corpus_has_no_findings(root: Path) -> None:
    result = audit_polsess(root)
    assert kinds(result) == {}
    assert (result.num_rows, result.num_files, result.largest_residual) == ({"train": 6, "val": 4}, 65, 0)
    assert not result.broken


def test_processes_find_the_same(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "train/scene/S2.wav").unlink()
    alone = audit_polsess(root)
    monkeypatch.setattr("polsess.data.polsess.audit.corpus._FEW", 1)
    assert audit_polsess(root, num_workers=2).findings == alone.findings


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def add(path: Path, value: float, where: slice) -> None:
    samples, rate = read_audio(path)
    samples[0, where] += value
    write_audio(path, samples, rate, clip_mode="clamp")


FILE_FAULTS: dict[str, tuple[Callable[[Path], object], Kind, bool]] = {
    "missing": (lambda root: (root / "train/scene/S1.wav").unlink(), Kind.MISSING_FILE, True),
    "cut off": (lambda root: truncate(root / "train/event/E1.wav"), Kind.UNREADABLE_FILE, True),
    "no sound": (lambda root: (root / "train/event/E1.wav").write_text("<html>"), Kind.UNREADABLE_FILE, True),
    "rate": (
        lambda root: write_audio(root / "train/scene/S1.wav", torch.full((LENGTH,), 0.1), 2 * RATE),
        Kind.WRONG_RATE,
        True,
    ),
    "length": (
        lambda root: write_audio(root / "train/scene/S1.wav", torch.full((LENGTH - 1,), 0.1), RATE),
        Kind.WRONG_LENGTH,
        True,
    ),
    "stereo": (
        lambda root: write_audio(root / "train/scene/S1.wav", torch.full((2, LENGTH), 0.1), RATE),
        Kind.WRONG_CHANNELS,
        True,
    ),
    "sum": (
        lambda root: add(root / "train/mix/A1-B1-S1-E1.wav", 5 * LSB, slice(7, 8)),
        Kind.NOT_THE_SUM,
        False,
    ),
}


@pytest.mark.parametrize("fault", FILE_FAULTS)
def test_faults_of_files(root: Path, fault: str) -> None:
    plant, kind, in_headers = FILE_FAULTS[fault]
    plant(root)
    for headers_only in (False, True):
        result = audit_polsess(root, headers_only=headers_only)
        expected = {kind: 1} if in_headers or not headers_only else {}
        assert kinds(result) == expected
        assert result.broken == bool(expected)
    (finding,) = audit_polsess(root).findings
    assert (finding.split, finding.row) == ("train", 3)


def test_rounding_is_no_fault(root: Path) -> None:
    add(root / "train/mix/A1-B1-S1-E1.wav", 4 * LSB, slice(None))
    result = audit_polsess(root)
    assert not result.findings
    assert result.largest_residual == 4


def test_what_a_limiter_did_is_named_and_excused(root: Path) -> None:
    add(root / "train/clean/B1.wav", 0.2, slice(10, 20))
    add(root / "train/clean/A1.wav", 1.2, slice(10, 20))  # the mixture was made of the limited sum
    result = audit_polsess(root)
    assert kinds(result) == {Kind.CLIPPED: 1, Kind.UNEQUAL_VARIANTS: 1}
    assert "limited in 10 samples" in result.findings[0].detail
    assert "RMS, more than 0.001" in result.findings[1].detail
    assert not result.broken


@pytest.mark.parametrize(
    ("layer", "kind"), [("scene/S0", Kind.SILENT), ("sp1_reverb/sp1_R0", Kind.SILENT_REVERB)]
)
def test_silence(root: Path, layer: str, kind: Kind) -> None:
    path = root / f"train/{layer}.wav"
    samples, rate = read_audio(path)
    mix = root / "train/mix/A0-B0-S0-E0-R0.wav"
    write_audio(mix, read_audio(mix)[0] - samples, rate)
    write_audio(path, 0 * samples, rate)
    assert kinds(audit_polsess(root)) == {kind: 1}


def test_a_row_twice(root: Path) -> None:
    edit(root, "train", lambda rows: rows.append(rows[0]))
    found = kinds(audit_polsess(root, headers_only=True))
    assert found == {Kind.DUPLICATE_ROW: 1}


def test_the_same_places_of_the_same_sources(root: Path) -> None:
    places = {f"{name}Start": "1" for name in ("speech1", "speech2", "scene", "event")}
    places |= {"sceneOryginalPath": "s.wav", "eventOryginalPath": "e.wav"}
    edit(root, "train", lambda rows: [row.update(places) for row in rows])
    assert kinds(audit_polsess(root, headers_only=True)) == {}
    edit(root, "train", lambda rows: rows[5].update({k: rows[2][k] for k in rows[2] if "Orygi" in k}))
    result = audit_polsess(root, headers_only=True)
    assert kinds(result) == {Kind.DUPLICATE_ROW: 1}
    assert "train row 4" in result.findings[0].detail


def test_the_same_audio_under_another_name(root: Path) -> None:
    for layer in ("mix/A{0}-B{0}-S{0}-E{0}", "clean/A{0}", "clean/B{0}", "scene/S{0}", "event/E{0}"):
        shutil.copy(root / f"train/{layer.format(1)}.wav", root / f"train/{layer.format(3)}.wav")
    assert kinds(audit_polsess(root)) == {Kind.DUPLICATE_AUDIO: 1, Kind.REPEATED_LAYER: 4}


def test_audio_of_one_split_in_another(root: Path) -> None:
    for layer in ("mix/A{0}-B{0}-S{0}-E{0}", "clean/A{0}", "clean/B{0}", "scene/S{0}", "event/E{0}"):
        shutil.copy(root / f"train/{layer.format(1)}.wav", root / f"val/{layer.format(1)}.wav")
    assert kinds(audit_polsess(root)) == {Kind.DUPLICATE_AUDIO: 1, Kind.LEAKED_AUDIO: 4}


def test_one_file_or_one_voice_in_both_slots(root: Path) -> None:
    def change(rows: Rows) -> None:
        rows[0]["speech2OryginalPath"] = rows[0]["speech1OryginalPath"]
        rows[1]["speech2OryginalPath"] = "mls/1_8_000.flac"

    edit(root, "train", change)
    result = audit_polsess(root, headers_only=True)
    assert kinds(result) == {Kind.SAME_SOURCE: 1, Kind.SAME_SPEAKER: 1}


def test_sources_in_two_splits(root: Path) -> None:
    edit(root, "val", lambda rows: rows[0].update(speech1OryginalPath="mls/1_7_000.flac"))
    assert kinds(audit_polsess(root)) == {Kind.LEAKED_SOURCE: 1, Kind.LEAKED_SPEAKER: 1}


def test_sources_that_only_validation_and_test_share_are_no_leak(root: Path) -> None:
    shutil.copytree(root / "val", root / "test")
    (root / "test" / table(root, "val").name).rename(table(root, "test"))
    result = audit_polsess(root, headers_only=True)
    assert Kind.SHARED_BY_TESTS in kinds(result)
    assert Kind.LEAKED_SOURCE not in kinds(result)


def test_a_table_that_cannot_be_read(root: Path) -> None:
    table(root, "val").write_text("a;b\n1;2\n")
    result = audit_polsess(root)
    assert kinds(result) == {Kind.BAD_TABLE: 1}
    assert result.num_rows == {"train": 6}


def test_no_corpus(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="expected a folder with train"):
        audit_polsess(tmp_path)


def test_the_command(root: Path, tmp_path: Path) -> None:
    run = CliRunner()
    clean = run.invoke(app, ["data", "audit", str(root), "--workers", "1"])
    assert (clean.exit_code, "Nothing found." in clean.stdout) == (0, True)
    (root / "train/scene/S1.wav").unlink()
    wrong = run.invoke(app, ["data", "audit", str(root), "-o", str(root), "--workers", "1"])
    assert (wrong.exit_code, wrong.stdout) == (2, "")
    assert wrong.stderr == f"error: {root}: is a folder; name a file.\n"
    broken = run.invoke(
        app, ["data", "audit", str(root), "-o", str(tmp_path / "found.csv"), "--workers", "1"]
    )
    assert broken.exit_code == 1
    assert "missing_file" in broken.stdout
    assert (
        (tmp_path / "found.csv")
        .read_text()
        .splitlines()[1]
        .startswith("broken,missing_file,train,3,scene/S1")
    )
