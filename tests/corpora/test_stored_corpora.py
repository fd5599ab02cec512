"""The corpora of recordings: each published layout in small, what is served, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from torch import Tensor
from typer.testing import CliRunner

from polsess.cli.main import app
from polsess.data import Split, create_corpus, parse_corpus_config
from polsess.data.corpora.stored_corpus import StoredCorpus
from polsess.schema import ConfigError
from polsess.tasks import Task

RATE = 8000
NAMES = ["011a0101_1.5_20ga010m_-1.5", "011c0202_0.25_22ga010x_-0.25", "012a0103_2_20ga010q_-2"]


def noise(seed: int, samples: int = 900) -> Tensor:
    return 0.2 * torch.randn(samples, generator=torch.Generator().manual_seed(seed)).clamp(-2, 2)


def write(path: Path, samples: Tensor, rate: int = RATE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples.numpy(), rate, subtype="FLOAT")


def write_mixtures(folder: Path, mixtures: Mapping[str, Sequence[str]], sources: Sequence[str]) -> None:
    """Recordings of ``NAMES`` in folders by kind; each mixture is the sum of the parts that it names."""
    for index, name in enumerate(NAMES):
        parts = {part: noise(17 * index + number) for number, part in enumerate(sources)}
        for part, samples in parts.items():
            write(folder / part / f"{name}.wav", samples)
        for mixture, summands in mixtures.items():
            write(folder / mixture / f"{name}.wav", torch.stack([parts[each] for each in summands]).sum(0))


def wsj0(root: Path) -> dict[str, Any]:
    for split in ("tr", "cv", "tt"):
        write_mixtures(root / "2speakers/wav8k/min" / split, {"mix": ["s1", "s2"]}, ["s1", "s2"])
    return {"corpus_type": "wsj0_mix", "root": str(root)}


def wsj0_3(root: Path) -> dict[str, Any]:
    sources = ["s1", "s2", "s3"]
    for split in ("tr", "cv", "tt"):
        write_mixtures(root / "wav8k/max" / split, {"mix": sources}, sources)
    return {"corpus_type": "wsj0_mix", "root": str(root), "num_speakers": 3, "mode": "max"}


def wham(root: Path) -> dict[str, Any]:
    mixtures = {"mix_clean": ["s1", "s2"], "mix_both": ["s1", "s2", "noise"], "mix_single": ["s1", "noise"]}
    for split in ("tr", "cv", "tt"):
        write_mixtures(root / "wav8k/min" / split, mixtures, ["s1", "s2", "noise"])
    return {"corpus_type": "wham", "root": str(root)}


def whamr(root: Path) -> dict[str, Any]:
    parts = ["s1_anechoic", "s2_anechoic", "s1_reverb", "s2_reverb", "noise"]
    mixtures = {
        f"{name}_{room}": [f"s1_{room}", *([f"s2_{room}"] * two), *(["noise"] * noisy)]
        for room in ("anechoic", "reverb")
        for name, two, noisy in (("mix_clean", 1, 0), ("mix_both", 1, 1), ("mix_single", 0, 1))
    }
    for split in ("tr", "cv", "tt"):
        write_mixtures(root / "wav8k/min" / split, mixtures, parts)
    return {"corpus_type": "whamr", "root": str(root)}


def libri(root: Path) -> dict[str, Any]:
    mixtures = {"mix_clean": ["s1", "s2"], "mix_both": ["s1", "s2", "noise"], "mix_single": ["s1", "noise"]}
    folder = root / "Libri2Mix/wav8k/min"
    for subset in ("train-100", "dev", "test"):
        write_mixtures(folder / subset, mixtures, ["s1", "s2", "noise"])
        lines = ["mixture_ID,mixture_path,source_1_path,source_2_path,noise_path,length"]
        for name in NAMES:
            paths = [
                f"/elsewhere/Libri2Mix/wav8k/min/{subset}/{part}/{name}.wav"
                for part in ("mix_both", "s1", "s2", "noise")
            ]
            lines.append(",".join([name, *paths, "900"]))
        (folder / "metadata").mkdir(exist_ok=True)
        (folder / "metadata" / f"mixture_{subset}_mix_both.csv").write_text("\n".join(lines))
    return {"corpus_type": "libri_mix", "root": str(root)}


def libri_lists(root: Path) -> dict[str, Any]:
    return {**libri(root), "use_lists": True}


def look2hear(root: Path) -> dict[str, Any]:
    write_mixtures(root / "audio", {"mix": ["s1", "s2", "noise"]}, ["s1", "s2", "noise"])
    for split in ("train", "cv", "test"):
        (root / split).mkdir()
        for part in ("mix", "s1", "s2"):
            entries = [[f"audio/{part}/{name}.wav", 900] for name in NAMES]
            (root / split / f"{part}.json").write_text(json.dumps(entries))
    return {"corpus_type": "look2hear", "root": str(root)}


def manifest(root: Path) -> dict[str, Any]:
    write_mixtures(root / "audio", {"mix": ["s1", "s2", "noise"]}, ["s1", "s2", "noise"])
    lines = ["identifier,mixture,source_1,source_2,split,room,snr_db"]
    for split in Split:
        for name in NAMES:
            mixture = root / f"audio/{split}/{name}.wav"  # no mixture is in two splits
            mixture.parent.mkdir(exist_ok=True)
            mixture.write_bytes((root / f"audio/mix/{name}.wav").read_bytes())
            paths = [f"audio/{part}/{name}.wav" for part in (split, "s1", "s2")]
            lines.append(",".join([name, *paths, split, "hall", "3.5"]))
    path = root / "corpus.csv"
    path.write_bytes(("\ufeff" + "\r\n".join(lines) + "\r\n").encode())
    return {"corpus_type": "manifest", "manifest": str(path)}


MAKERS = [wsj0, wsj0_3, wham, whamr, libri, libri_lists, look2hear, manifest]
Maker = Callable[[Path], dict[str, Any]]


def opened(
    values: dict[str, Any], split: Split = Split.TEST, task: Task = Task.SB, **changes: Any
) -> StoredCorpus:
    corpus = create_corpus(parse_corpus_config({**values, **changes}), split, task, seed=5)
    assert isinstance(corpus, StoredCorpus)
    return corpus


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("split", list(Split))
def test_whole_recordings_are_served_as_they_lie(make: Maker, split: Split, tmp_path: Path) -> None:
    corpus = opened(make(tmp_path), split, segment_seconds=None)
    assert len(corpus) == 3
    for index, example in enumerate(corpus.example(0, number) for number in range(3)):
        assert NAMES[index] in example.identifier
        assert example.references.shape == (corpus.num_sources, 900)
        sources = torch.stack([noise(17 * index + number) for number in range(corpus.num_sources)])
        torch.testing.assert_close(example.references, sources)
        residual = example.mixture - example.references.sum(0)
        if make in (wsj0, wsj0_3):
            assert residual.abs().max() < 1e-6
            assert example.metadata["speakers"] == ["011-20g", "011-22g", "012-20g"][index]
            assert example.metadata["ssr_db"] == [3.0, 0.5, 4.0][index]
        else:
            assert residual.abs().max() > 0.1  # noise or reverberation
    assert corpus.refused == []


@pytest.mark.parametrize("make", MAKERS)
def test_training_takes_segments_by_seed_epoch_and_index(make: Maker, tmp_path: Path) -> None:
    values = make(tmp_path)
    corpus, again = (opened(values, Split.TRAIN, segment_seconds=0.05) for _ in range(2))
    draws = [corpus.example(epoch, 1) for epoch in range(6)]
    assert all(draw.mixture.shape == (400,) for draw in draws)
    assert len({tuple(draw.mixture[:5].tolist()) for draw in draws}) > 1
    for epoch, draw in enumerate(draws):
        twin = again.example(epoch, 1)
        assert torch.equal(draw.mixture, twin.mixture)
        whole = opened(values, Split.TRAIN, segment_seconds=None).example(0, 1)
        (start,) = [
            start for start in range(501) if torch.equal(whole.mixture[start : start + 400], draw.mixture)
        ]
        torch.testing.assert_close(draw.references, whole.references[:, start : start + 400])
    assert opened(values, Split.TRAIN, segment_seconds=9.0).example(0, 0).mixture.shape == (900,)


@pytest.mark.parametrize(
    ("make", "changes", "tasks"),
    [
        (wsj0, {}, {Task.SB}),
        (wham, {"mixture": "mix_clean"}, {Task.SB}),
        (wham, {"mixture": "mix_both"}, {Task.SB, Task.EB}),
        (wham, {"mixture": "mix_single"}, {Task.ES}),
        (whamr, {"mixture": "mix_clean"}, {Task.SB, Task.EB}),
        (whamr, {"mixture": "mix_clean", "target": "reverb"}, {Task.SB}),
        (whamr, {"mixture": "mix_single", "room": "anechoic"}, {Task.ES}),
        (libri, {"mixture": "mix_both"}, {Task.SB, Task.EB}),
        (libri, {"mixture": "mix_single"}, {Task.ES}),
        (look2hear, {}, {Task.SB, Task.EB}),
        (manifest, {}, {Task.SB, Task.EB}),
    ],
)
def test_tasks_that_do_not_fit_the_mixtures_are_refused(
    make: Maker, changes: dict[str, Any], tasks: set[Task], tmp_path: Path
) -> None:
    values = make(tmp_path)
    for task in Task:
        if task not in tasks:
            with pytest.raises(ValueError, match=f"task {task}"):
                opened(values, task=task, **changes)
            continue
        corpus = opened(values, task=task, **changes)
        example = corpus.example(0, 2)
        assert example.references.shape == (corpus.num_sources, 900)
        speakers = torch.stack([noise(34), noise(35)])
        if make is not whamr:
            expected = {Task.SB: speakers, Task.EB: speakers.sum(0, keepdim=True), Task.ES: speakers[:1]}
            torch.testing.assert_close(example.references, expected[task])


@pytest.mark.parametrize("room", ["anechoic", "reverb"])
@pytest.mark.parametrize("target", ["anechoic", "reverb"])
def test_whamr_hears_one_room_and_aims_at_another(room: str, target: str, tmp_path: Path) -> None:
    example = opened(whamr(tmp_path), mixture="mix_clean", room=room, target=target).example(0, 0)
    heard = {"anechoic": (0, 1), "reverb": (2, 3)}
    torch.testing.assert_close(example.mixture, noise(heard[room][0]) + noise(heard[room][1]))
    torch.testing.assert_close(example.references, torch.stack([noise(each) for each in heard[target]]))


@pytest.mark.parametrize("make", MAKERS)
def test_a_missing_split_or_root_is_named(make: Maker, tmp_path: Path) -> None:
    values = make(tmp_path / "there")
    key = "manifest" if make is manifest else "root"
    with pytest.raises(FileNotFoundError, match="nowhere"):
        opened({**values, key: str(tmp_path / "nowhere")})


def test_bad_recordings_beyond_the_share_stop_and_below_it_are_left_out(tmp_path: Path) -> None:
    values = wham(tmp_path)
    folder = tmp_path / "wav8k/min/tt"
    cut = folder / "s2" / f"{NAMES[1]}.wav"
    cut.write_bytes(cut.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"1 of 3 recordings.*allows 0.*011c0202.*cut off|missing"):
        opened(values)
    with pytest.raises(ValueError, match="allows 0"):
        opened(values, max_bad="33%")
    with pytest.warns(UserWarning, match="1 of 3 recordings cannot be used and are left out"):
        corpus = opened(values, max_bad="34%")
    assert [corpus.example(0, index).identifier for index in range(len(corpus))] == [NAMES[0], NAMES[2]]
    assert len(corpus.refused) == 1
    assert opened(values, mixture="mix_single", task=Task.ES).refused == []  # s2 is not heard


@pytest.mark.parametrize(
    ("samples", "rate", "message"),
    [
        (noise(1, 800), RATE, "has 800 samples, its mixture has 900"),
        (noise(1), 16000, "has 16000 Hz; expected 8000 Hz"),
        (torch.stack([noise(1), noise(2)], 1), RATE, "has 2 channels"),
    ],
)
def test_what_differs_from_its_mixture_is_bad(
    samples: Tensor, rate: int, message: str, tmp_path: Path
) -> None:
    values = wham(tmp_path)
    write(tmp_path / "wav8k/min/tt/s1" / f"{NAMES[0]}.wav", samples, rate)
    with pytest.raises(ValueError, match=message):
        opened(values)


def test_a_recording_without_a_source_is_bad(tmp_path: Path) -> None:
    values = wsj0(tmp_path)
    (tmp_path / "2speakers/wav8k/min/tt/s2" / f"{NAMES[0]}.wav").unlink()
    with pytest.raises(ValueError, match="1 of 3 recordings"):
        opened(values)


@pytest.mark.parametrize("share", ["x%", -0.1, 1.0, "0.1"])
def test_a_share_that_is_none_is_refused(share: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="max_bad"):
        opened({"corpus_type": "wham", "root": str(tmp_path), "max_bad": share})


def test_other_rates_of_wsj0_are_refused_and_of_lists_resampled(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="sample_rate"):
        opened(wsj0(tmp_path / "a"), sample_rate=11025)
    with pytest.raises(FileNotFoundError, match="no folder wav16k"):
        opened(wsj0(tmp_path / "b"), sample_rate=16000)
    for number, make in enumerate((look2hear, manifest)):
        corpus = opened(make(tmp_path / str(number)), sample_rate=4000)
        assert corpus.example(0, 0).references.shape == (2, 450)


def test_a_subset_by_list(tmp_path: Path) -> None:
    values = libri_lists(tmp_path)
    path = tmp_path / "Libri2Mix/wav8k/min/metadata/mixture_test_mix_both.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[2]]))
    corpus = opened(values)
    assert [one.identifier for one in corpus.mixtures] == [NAMES[1]]
    path.write_text("\n".join([lines[0], lines[2].replace(",900", ",901")]))
    with pytest.raises(ValueError, match="its list says 901"):
        opened(values)
    path.write_text("\n".join([lines[0], lines[2].replace(",900", ",many")]))
    with pytest.raises(ValueError, match="row 2, length"):
        opened(values)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("s1.json", "[", "not readable as JSON"),
        ("s1.json", "{}", "expected a list"),
        ("s1.json", '[["a.wav", "900"]]', "entry 0"),
        ("s1.json", '[["audio/s1/a.wav", 900]]', "differ in length"),
        ("s1.json", None, "no such file"),
    ],
)
def test_lists_that_cannot_be_used_are_named(
    name: str, content: str | None, message: str, tmp_path: Path
) -> None:
    values = look2hear(tmp_path)
    path = tmp_path / "test" / name
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        opened(values)


def test_two_folders_for_one_split_are_refused(tmp_path: Path) -> None:
    values = look2hear(tmp_path)
    (tmp_path / "tt").mkdir()
    with pytest.raises(FileNotFoundError, match=r"one folder of split 'test' in .*, got: test, tt"):
        opened(values)


def test_the_manifest_keeps_conditions(tmp_path: Path) -> None:
    example = opened(manifest(tmp_path)).example(0, 0)
    assert example.metadata == {"room": "hall", "snr_db": 3.5}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",", ";", "separator must be a comma"),
        ("mixture", "mix", r"missing column\(s\) mixture"),
        ("source_2", "source_3", "without a gap"),
        (",hall,3.5", ",hall", r"row 2: expected 7 cells"),
        (",hall,3.5", ",hall,3.5,4", r"row 2: expected 7 cells"),
        (f"audio/s1/{NAMES[0]}.wav", "", r"row 8, source_1: is empty"),
        (",test,", ",tests,", "'tests' is not one of train, val, test"),
        (",test,", ",val,", "identifier: .* is there before|no row has split 'test'"),
        (f"{NAMES[1]},", f"{NAMES[0]},", "is there before"),
        (f"audio/s2/{NAMES[0]}.wav", "audio/none.wav", "audio/none.wav"),
    ],
)
def test_manifests_that_cannot_be_used_are_named(old: str, new: str, message: str, tmp_path: Path) -> None:
    values = manifest(tmp_path)
    path = Path(values["manifest"])
    path.write_text(path.read_text(encoding="utf-8-sig").replace(old, new))
    with pytest.raises(ValueError, match=message):
        opened(values)


def test_a_manifest_of_single_speakers_is_for_enhancement(tmp_path: Path) -> None:
    values = manifest(tmp_path)
    path = Path(values["manifest"])
    path.write_text(path.read_text(encoding="utf-8-sig").replace("source_2", "other"))
    assert opened(values, task=Task.ES).num_sources == 1
    with pytest.raises(ValueError, match="task SB"):
        opened(values)


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    path = tmp_path / "corpus.csv"
    for content in (b"\xff\xfe\x00mixtures", b"mixture,source_1,split\na.wav,b\xb3.wav,test\n"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"row [12]: not a CSV file in UTF-8 \(byte"):
            opened({"corpus_type": "manifest", "manifest": str(path)})


def test_a_table_in_utf_16_and_padded_cells_are_read(tmp_path: Path) -> None:
    values = manifest(tmp_path)
    path = Path(values["manifest"])
    text = path.read_text(encoding="utf-8-sig").replace(",", " , ")
    path.write_bytes(text.encode("utf-16"))
    assert len(opened(values)) == len(NAMES)
    assert opened(values).example(0, 0).metadata == {"room": "hall", "snr_db": 3.5}


@pytest.mark.parametrize("folder", ["D:\\data\\set\\audio", ".\\audio", "audio", "/of/another/machine/audio"])
def test_lists_of_other_machines_are_found_beside_their_files(folder: str, tmp_path: Path) -> None:
    values = manifest(tmp_path)
    path = Path(values["manifest"])
    separator = "\\" if "\\" in folder else "/"
    text = path.read_text(encoding="utf-8-sig").replace("audio/", "audio/")
    lines = [
        ",".join(
            cell.replace("audio/", f"{folder}/").replace("/", separator) if "audio/" in cell else cell
            for cell in line.split(",")
        )
        for line in text.splitlines()
    ]
    path.write_text("\n".join(lines))
    assert len(opened(values)) == len(NAMES)
    lists = look2hear(tmp_path / "lists")
    for name in ("mix", "s1", "s2"):
        file = tmp_path / "lists" / "test" / f"{name}.json"
        entries = json.loads(file.read_text())
        moved = [[one.replace("audio/", f"{folder}/").replace("/", separator), f] for one, f in entries]
        file.write_text(json.dumps([[one, float(count)] for one, count in moved]))
    assert len(opened(lists)) == len(NAMES)


def test_lengths_with_a_point_are_whole_numbers(tmp_path: Path) -> None:
    values = libri_lists(tmp_path)
    path = tmp_path / "Libri2Mix/wav8k/min/metadata/mixture_test_mix_both.csv"
    path.write_text(path.read_text().replace(",900", ",900.0"))
    assert len(opened(values)) == len(NAMES)
    path.write_text(path.read_text().replace(",900.0", ",900.5"))
    with pytest.raises(ValueError, match=r"row 2, length: expected a number of samples, got '900\.5'"):
        opened(values)


def test_a_name_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    values = libri_lists(tmp_path)
    path = tmp_path / "Libri2Mix/wav8k/min/metadata/mixture_test_mix_both.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[1]]))
    with pytest.raises(ValueError, match="names 2 mixtures; names must differ"):
        opened(values)


def test_a_mixture_in_two_splits_is_refused(tmp_path: Path) -> None:
    values = manifest(tmp_path)
    path = Path(values["manifest"])
    path.write_text(path.read_text(encoding="utf-8-sig").replace("audio/val/", "audio/train/"))
    with pytest.raises(ValueError, match=r"row 5, mixture: .* is in split val, and in train in row 2"):
        opened(values)


def test_files_that_systems_add_are_no_mixtures(tmp_path: Path) -> None:
    values = wham(tmp_path)
    folder = tmp_path / "wav8k/min/tt"
    for name in ("mix_both", "s1", "s2"):
        (folder / name / f"._{NAMES[0]}.wav").write_bytes(b"\0\5\x16\7")
        (folder / name / ".DS_Store").write_bytes(b"\0")
    assert len(opened(values)) == len(NAMES)


def test_bad_files_are_allowed_on_the_command_line(tmp_path: Path) -> None:
    """The same share as ``data.corpus.max_bad``, for training, evaluation and the bench."""
    data = wham(tmp_path)
    (tmp_path / f"wav8k/min/tr/s1/{NAMES[0]}.wav").write_bytes(b"no sound")
    lines = [
        "model: {model_type: blstm, preset: tiny}",
        f"data: {{corpus: {json.dumps(data)}, batch_size: 1}}",
    ]
    (tmp_path / "a.yaml").write_text("\n".join(lines))
    command = ["data", "bench", str(tmp_path / "a.yaml"), "--workers", "0", "--items", "1"]
    stopped = CliRunner().invoke(app, command)
    assert stopped.exit_code == 1
    assert "1 of 3 recordings cannot be used, max_bad=0 allows 0" in stopped.stderr
    with pytest.warns(UserWarning, match="1 of 3 recordings cannot be used and are left out"):
        assert CliRunner().invoke(app, [*command, "--max-bad", "40%"]).exit_code == 0
    refused = CliRunner().invoke(app, [*command, "--max-bad", "many"])
    assert refused.exit_code == 2
    assert "data.corpus.max_bad" in refused.stderr
    for other in (["train"], ["evaluate"], ["data", "bench"]):
        assert "--max-bad" in CliRunner().invoke(app, [*other, "--help"], env={"COLUMNS": "200"}).stdout
