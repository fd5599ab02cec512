from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from polsess.audio import write_audio
from polsess.checkpoints import Published, list_published, save_model
from polsess.checkpoints.catalogue import catalogue
from polsess.cli.main import app
from polsess.cli.terminal import ExitCode
from polsess.data import parse_corpus_config
from polsess.evaluation import verification
from polsess.evaluation.verification import BENCHMARKS, Benchmark, find_published, verify
from polsess.models import create_model
from polsess.schema import ConfigError

NAMES = ("011a0101_1.5_20ga010m_-1.5", "01aa010b_0.7_20fc010a_-0.7", "050a050a_2.1_01oo030v_-2.1")


def write_wsj0(root: Path, mode: str = "min", num_mixtures: int = 3) -> Path:
    """Noise in the layout of WSJ0-2mix."""
    generator = torch.Generator().manual_seed(2)
    for name in NAMES[:num_mixtures]:
        sources = 0.1 * torch.randn(2, 900, generator=generator)
        for part, signal in zip(("mix", "s1", "s2"), (sources.sum(0), *sources), strict=True):
            folder = root / "2speakers" / "wav8k" / mode / "tt" / part
            folder.mkdir(parents=True, exist_ok=True)
            write_audio(folder / f"{name}.wav", signal, 8000, bits="32f")
    return root


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Published:
    """A publication of a tiny model whose score on three mixtures is measured, and thus true."""
    save_model(create_model("blstm", preset="tiny"), tmp_path / "weights")
    benchmark = replace(BENCHMARKS["wsj0-2mix"], num_utterances=3)
    monkeypatch.setattr(verification, "BENCHMARKS", {**BENCHMARKS, "wsj0-2mix": benchmark})
    changes = {"hub_id": "nobody/tiny-wsj02mix", "score": 0.0, "model_type": "tinynet"}
    entry = catalogue()["speechbrain/sepformer-wsj02mix"].model_copy(update=changes)
    first = verify(entry, write_wsj0(tmp_path / "wsj0"), model=str(tmp_path / "weights"), device="cpu")
    entry = entry.model_copy(update={"score": round(first.measured.mean, 1)})
    monkeypatch.setattr(verification, "list_published", lambda: [*list_published(), entry])
    return entry


def run(*words: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["verify", *map(str, words)])
    return result.exit_code, result.stdout, result.stderr


def test_the_published_score_is_found_again(fake: Published, tmp_path: Path) -> None:
    words: list[str | Path] = [
        "tinynet",
        "--corpus",
        "wsj0-2mix",
        tmp_path / "wsj0",
        "-m",
        tmp_path / "weights",
        "--device",
        "cpu",
    ]
    code, text, _ = run(*words, "-o", tmp_path / "out")
    assert code == ExitCode.DONE
    assert "PASS: this is the published score." in text
    assert (
        f"published  {fake.score:g} (https://huggingface.co/nobody/tiny-wsj02mix; trained with dynamic"
        in text
    )
    assert "95 % interval" in text
    assert (tmp_path / "out" / "scores.csv").is_file()


def test_another_score_fails(fake: Published, tmp_path: Path) -> None:
    other = fake.model_copy(update={"score": float(fake.score or 0) + 0.3})
    found = verify(other, tmp_path / "wsj0", model=str(tmp_path / "weights"), device="cpu")
    assert not found.deviations
    assert found.difference == pytest.approx(-0.3, abs=0.06)
    assert not found.passed
    save_model(create_model("blstm", preset="tiny", num_sources=3), tmp_path / "three")
    with pytest.raises(ConfigError, match="gives 3 estimate"):
        verify(fake, tmp_path / "wsj0", model=str(tmp_path / "three"), device="cpu")


def test_other_conditions_are_said_and_never_pass(fake: Published, tmp_path: Path) -> None:
    write_wsj0(tmp_path / "wsj0", "max")
    words: list[str | Path] = [fake.hub_id, tmp_path / "wsj0", "-m", tmp_path / "weights", "--device", "cpu"]
    code, text, _ = run(*words, "--mode", "max")
    assert code == ExitCode.SOME_FAILED
    assert "mixtures are 'max', the published score is of 'min'" in text
    assert "NOT VERIFIED" in text
    code, text, _ = run(*words, "--limit", "2")
    assert code == ExitCode.SOME_FAILED
    assert "2 utterances have a score, the test set has 3" in text
    (tmp_path / "wsj0" / "2speakers" / "wav8k").rename(tmp_path / "wsj0" / "2speakers" / "wav16k")
    code, _, message = run(*words)
    assert code == ExitCode.USAGE
    assert "no folder wav8k" in message
    code, _, message = run(fake.hub_id, tmp_path / "nowhere")
    assert (code, "no folder at" in message) == (ExitCode.USAGE, True)


def test_names_lead_to_one_publication() -> None:
    assert find_published("sepformer", "wsj0-2mix").hub_id == "speechbrain/sepformer-wsj02mix"
    assert find_published("SepFormer-WSJ03mix").benchmark == "wsj0-3mix"
    assert find_published("julien-c/DPRNNTasNet-ks16_WHAM_sepclean").score == 18.23
    for name, corpus, message in (
        ("sepfromer", None, "Did you mean 'sepformer'"),
        ("sepformer", "wsj02mix", "Did you mean 'wsj0-2mix'"),
        ("sepformer", None, r"may be one of .*write which, or --corpus"),
        ("dprnn", "wham-clean", "ks16_WHAM_sepclean.*ks2_WHAM_sepclean"),
        ("dptnet", "wsj0-2mix", r"no score of dptnet on wsj0-2mix is known.*on libri1mix"),
        ("mossformer2", "wsj0-3mix", "No card states one"),
    ):
        with pytest.raises(ConfigError, match=message):
            find_published(name, corpus)
    assert run("sepfromer", "nowhere")[0] == ExitCode.USAGE


@pytest.mark.parametrize(
    "entry", [each for each in list_published() if each.score], ids=lambda each: each.hub_id
)
def test_every_published_score_can_be_verified_or_names_its_test_set(entry: Published) -> None:
    if entry.benchmark is None:  # of a test set that no corpus here is
        with pytest.raises(ConfigError, match=f"Scores are known of .* on {entry.corpus}"):
            find_published(entry.hub_id)
        return
    benchmark: Benchmark = BENCHMARKS[entry.benchmark]
    settings = {"root": "x", "sample_rate": entry.sample_rate, "mode": "min"}
    config = parse_corpus_config({**benchmark.corpus, **settings})
    speakers = getattr(config, "num_speakers", 2)
    assert benchmark.task.num_sources(speakers) == entry.num_sources
    assert 0.05 < entry.tolerance_db <= 0.1
    assert find_published(entry.hub_id, entry.benchmark) is entry
