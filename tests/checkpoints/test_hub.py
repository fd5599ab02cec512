from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from polsess.checkpoints import (
    CheckpointError,
    list_published,
    load_model,
    read_checkpoint,
    save_model,
)
from polsess.checkpoints.formats import READERS
from polsess.models import create_model, list_models
from tests.conftest import GOLDEN

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, and no network."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def put(
    cache: Path,
    hub_id: str,
    folder: Path,
    revision: str = "main",
    commit: str = COMMIT,
    experiment: str = "",
) -> Path:
    """Lay a folder into the cache as a download would, as a folder of the publication if it is named."""
    repository = cache / f"models--{hub_id.replace('/', '--')}"
    snapshot = repository / "snapshots" / commit / experiment
    (repository / "blobs").mkdir(parents=True, exist_ok=True)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / revision).write_text(commit)
    for path in folder.iterdir():
        if not path.name.startswith(("io", "meta")):
            blob = repository / "blobs" / f"{commit}-{path.name}"
            shutil.copy(path, blob)
            (snapshot / path.name).symlink_to(blob)
    return snapshot


@pytest.mark.parametrize(
    ("hub_id", "folder"),
    [
        ("JorisCos/ConvTasNet_Libri2Mix_sepclean_16k", "ast_convtasnet"),
        ("speechbrain/sepformer-wsj02mix", "sb_convtasnet"),
    ],
)
def test_published_ids_load_from_the_cache(cache: Path, hub_id: str, folder: str) -> None:
    put(cache, hub_id, GOLDEN / folder)
    mixture = torch.randn(1, 400)
    assert torch.equal(load_model(hub_id)(mixture), load_model(GOLDEN / folder)(mixture))
    checkpoint = read_checkpoint(hub_id)
    assert (checkpoint.source, checkpoint.revision) == (hub_id, COMMIT)


def test_an_experiment_within_a_publication_loads_with_its_commit(cache: Path, tmp_path: Path) -> None:
    hub_id, golden = "lichenda/wsj0_2mix_skim_small_causal", GOLDEN / "tflocoformer"
    entry = next(entry for entry in list_published() if entry.hub_id == hub_id)
    assert entry.experiment == "exp/enh_train_enh_skim_causal_small_raw"
    weights = next(path for path in golden.glob("*.pth") if path.name != "checkpoint.pth")
    (tmp_path / "run").mkdir()
    shutil.copy(golden / "config.yaml", tmp_path / "run")
    shutil.copy(weights, tmp_path / "run" / entry.files[1].rpartition("/")[2])
    put(cache, hub_id, tmp_path / "run", experiment=entry.experiment)
    checkpoint = read_checkpoint(hub_id)
    assert (checkpoint.revision, checkpoint.provenance["file"]) == (COMMIT, "149epoch.pth")


@pytest.mark.filterwarnings("ignore:somebody")
def test_a_revision_is_the_one_that_is_loaded(cache: Path, tmp_path: Path) -> None:
    models = [create_model("blstm", preset="tiny").eval() for _ in range(2)]
    folders = [save_model(model, tmp_path / f"saved{i}") for i, model in enumerate(models)]
    put(cache, "somebody/model", folders[0])
    put(cache, "somebody/model", folders[1], "v2", "f" * 40)
    mixture = torch.randn(1, 400)
    assert torch.equal(load_model("somebody/model")(mixture), models[0](mixture))
    for revision in ("v2", "f" * 40):
        assert torch.equal(load_model("somebody/model", revision=revision)(mixture), models[1](mixture))
    with pytest.raises(CheckpointError, match="revision is for ids on the hub"):
        load_model(folders[0], revision="main")


def test_offline_without_a_cache_says_what_to_do(cache: Path) -> None:
    assert not list(cache.iterdir())
    with pytest.raises(
        CheckpointError, match=r"not in the cache .* hf download speechbrain/sepformer-wham\."
    ):
        load_model("speechbrain/sepformer-wham")


def test_what_is_meant_as_a_path_is_missed_as_a_path(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cache == tmp_path
    best = Path("runs", "skim", "checkpoints", "best.ckpt")
    best.parent.mkdir(parents=True)
    best.touch()
    cases = {
        "runs/skin": r"runs/skin: no such file or folder\. Did you mean 'runs/skim'\? Nor was it",
        "runs/nothing": r"runs/nothing: no such file or folder\. Nor was it found as an id of the hub\.$",
        "runs/skim/best": r"runs/skim/best: no such file or folder\. runs/skim is a run: name that folder",
        "runs/skim/best.ckpt": "runs/skim is a run: name that folder",
    }
    for source, message in cases.items():
        with pytest.raises(CheckpointError, match=message):
            load_model(source)


def test_half_a_download_is_not_loaded(cache: Path) -> None:
    snapshot = put(cache, "speechbrain/sepformer-wham", GOLDEN / "sb_convtasnet")
    (snapshot / "decoder.ckpt").unlink()
    with pytest.raises(CheckpointError, match=r"decoder.ckpt is not in the cache"):
        load_model("speechbrain/sepformer-wham")


def test_ids_outside_the_catalogue_load_in_every_layout_and_name_their_commit(cache: Path) -> None:
    for number, folder in enumerate(("ast_convtasnet", "sb_convtasnet")):
        put(cache, f"somebody/else{number}", GOLDEN / folder)
        mixture = torch.randn(1, 400)
        with pytest.warns(UserWarning, match=f"not in the catalogue; loaded commit {COMMIT}"):
            model = load_model(f"somebody/else{number}")
        assert torch.equal(model(mixture), load_model(GOLDEN / folder)(mixture))
        assert load_model(f"somebody/else{number}", revision=COMMIT).model_type == model.model_type


@pytest.mark.filterwarnings("ignore:somebody")
def test_safetensors_are_taken_before_a_pickle(cache: Path, tmp_path: Path) -> None:
    folder = save_model(create_model("blstm", preset="tiny"), tmp_path / "saved")
    shutil.copy(GOLDEN / "ast_convtasnet" / "pytorch_model.bin", folder)
    put(cache, "somebody/both", folder)
    assert load_model("somebody/both").model_type == "blstm"
    with pytest.raises(CheckpointError, match=r"model.safetensors is not in the cache .*None of model.safe"):
        load_model("somebody/nothing")


@pytest.mark.parametrize(
    ("hub_id", "said"),
    [
        (
            "iic/speech_flatsepreformer_separation_temporal_8k_base_libri2mix100",
            r"at https://modelscope\.cn/models/iic/\S+; run: modelscope download --model iic/\S+ "
            r"--local_dir FOLDER and give FOLDER\.$",
        ),
        (
            "Xiaobin-Rong/gtcrn",
            r"git clone https://github\.com/\S+ FOLDER and give FOLDER/checkpoints/\S+dns3",
        ),
    ],
)
@pytest.mark.usefixtures("cache")
def test_ids_of_other_hubs_say_how_their_files_are_had(hub_id: str, said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        load_model(hub_id)


def test_a_path_that_exists_is_a_path(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(cache, "my/model", GOLDEN / "ast_convtasnet")
    save_model(create_model("blstm", preset="tiny"), tmp_path / "here" / "my" / "model")
    monkeypatch.chdir(tmp_path / "here")
    assert load_model("my/model").model_type == "blstm"


def test_the_catalogue_is_readable_here() -> None:
    formats, models = {reader.format for reader in READERS}, set(list_models())
    entries = list_published()
    assert len({entry.hub_id for entry in entries}) == len(entries) > 20
    for entry in entries:
        assert entry.format in formats, entry
        assert entry.model_type in models, entry
        assert (entry.task == "enhancement") == (entry.num_sources == 1), entry
