from __future__ import annotations

from pathlib import Path

import pytest
import torch

from polsess.audio import write_audio
from polsess.checkpoints import save_model
from polsess.data.polsess.layers import VARIANTS
from polsess.evaluation import open_corpus, open_models
from polsess.evaluation.corpus import name_of_data, names_of_data
from polsess.models import create_model
from polsess.schema import ConfigError
from polsess.tasks import Task
from tests.conftest import DATA
from tests.evaluation.corpora import write_items


def write_clips(folder: Path) -> Path:
    lines = ["path,speaker,split,sex"]
    for number, sex in enumerate("FMFM"):
        write_audio(folder / f"{number}.wav", 0.1 * torch.randn(1, 4000 + 100 * number), 8000)
        lines.append(f"{number}.wav,speaker{number},test,{sex}")
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    return folder / "metadata.csv"


def test_a_folder_is_read_at_its_own_rate(tmp_path: Path) -> None:
    corpus = open_corpus(write_items(tmp_path / "set", sample_rate=16000), sample_rate=8000)
    assert corpus.config.sample_rate == 16000
    assert (len(corpus), corpus.num_sources, corpus.task) == (4, 2, Task.SB)
    lower = open_corpus(tmp_path / "set", ["corpus.sample_rate=8000"], task=Task.ES)
    assert lower.example(0, 0).mixture.shape == (1000,)
    assert lower.num_sources == 1


def test_speech_clips_become_fixed_mixtures(tmp_path: Path) -> None:
    path = write_clips(tmp_path)
    corpus = open_corpus(path, ["corpus.evaluation_examples=5"], seed=3)
    assert len(corpus) == 5
    again = open_corpus(path, ["corpus.evaluation_examples=5"], seed=3)
    assert torch.equal(corpus.example(0, 2).mixture, again.example(0, 2).mixture)
    assert open_corpus(path, sample_rate=16000).config.sample_rate == 16000
    assert name_of_data(path) == tmp_path.name


@pytest.mark.parametrize("nested", [True, False])
def test_yaml_with_a_corpus(tmp_path: Path, nested: bool) -> None:
    items = write_items(tmp_path / "set")
    lines = ["corpus:", "  corpus_type: folder", f"  folder: {items}"]
    if nested:
        lines = ["data:", *(f"  {line}" for line in lines), "model:", "  model_type: blstm"]
    path = tmp_path / "experiment.yaml"
    path.write_text("\n".join([*lines, "task: EB", "seed: 7", ""]))
    corpus = open_corpus(path, ["corpus.sample_rate=4000"])
    assert (corpus.config.sample_rate, corpus.task, corpus.seed) == (4000, Task.EB, 7)
    assert open_corpus(path, task=Task.SB, seed=1).seed == 1
    assert name_of_data(path) == "experiment"


def test_a_recipe_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = Path("convtasnet_sb_polsess")
    corpus = open_corpus(recipe, [f"corpus.root={DATA / 'polsess_mini'}"])
    assert corpus.config.corpus_type == "polsess"
    assert name_of_data(recipe) == "convtasnet_sb_polsess"
    with pytest.raises(ConfigError, match=r"no such file or folder\. Did you mean the recipe 'convtasnet"):
        open_corpus(Path("convtasnet_sb_polses"))


def test_what_is_no_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file or folder"):
        open_corpus(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="no items in it"):
        open_corpus(tmp_path)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ConfigError, match="expected a folder of items"):
        open_corpus(tmp_path / "notes.txt")
    (tmp_path / "model.yaml").write_text("model: {model_type: blstm}\n")
    with pytest.raises(ConfigError, match="no corpus in it"):
        open_corpus(tmp_path / "model.yaml")
    items = write_items(tmp_path / "items")
    with pytest.raises(ConfigError, match="'data': not a key of evaluation data"):
        open_corpus(items, ["data.corpus.sample_rate=8000"])
    with pytest.raises(ConfigError, match="Did you mean 'sample_rate'"):
        open_corpus(items, ["corpus.sample_rat=8000"])


def test_a_csv_with_mixtures_is_a_manifest(tmp_path: Path) -> None:
    folder = write_items(tmp_path / "set")
    lines = ["identifier,mixture,source_1,source_2,split,room"]
    lines += [f"{name},{name}/mix.wav,{name}/s1.wav,{name}/s2.wav,test,hall" for name in ("item1", "item3")]
    path = folder / "mine.csv"
    path.write_text("\ufeff" + "\n".join(lines) + "\n", encoding="utf-8")
    found = open_corpus(path, sample_rate=8000)
    assert [found.example(0, index).identifier for index in range(len(found))] == ["item1", "item3"]
    assert found.example(0, 0).metadata == {"room": "hall"}
    assert name_of_data(path) == "mine"


def test_the_task_that_nobody_named_is_the_models(tmp_path: Path) -> None:
    folder = write_items(tmp_path / "set")
    assert open_corpus(folder, default_task=Task.ES).task is Task.ES
    assert open_corpus(folder, task=Task.EB, default_task=Task.ES).task is Task.EB
    save_model(create_model("blstm", preset="tiny", num_sources=1), tmp_path / "model", task="EB")
    (system,) = open_models([str(tmp_path / "model")], "cpu")
    assert system.task is Task.EB


def test_the_root_of_polsess_is_recognised() -> None:
    found = open_corpus(DATA / "polsess_mini", ["corpus.each_variant=true"], sample_rate=8000)
    assert found.config.corpus_type == "polsess"
    assert found.example(0, 0).metadata["variant"] in VARIANTS


def test_data_of_one_name_has_folders_of_several(tmp_path: Path) -> None:
    places = [tmp_path / name for name in ("A/test", "B/test", "C/metadata.csv")]
    assert list(names_of_data(places).values()) == ["A-test", "B-test", f"{tmp_path.name}-C"]
    assert list(names_of_data(places[1:]).values()) == ["test", "C"]
    with pytest.raises(ConfigError, match="named twice"):
        names_of_data([places[0], tmp_path / "B" / ".." / "A" / "test"])
