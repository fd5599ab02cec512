"""Each published layout of recordings in small."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import soundfile
import torch
from torch import Tensor

from polsess.data import Split, create_corpus, parse_corpus_config
from polsess.data.corpora.stored_corpus import StoredCorpus
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
