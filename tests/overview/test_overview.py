"""The lists of models: data that agrees with the code, and the document that is generated from them."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import polsess.checkpoints
from polsess.checkpoints import list_published
from polsess.checkpoints.formats import READERS
from polsess.cli.main import app
from polsess.models import list_models, list_presets
from polsess.overview import LITERATURE, describe_model, render_markdown, select
from polsess.schema import ConfigError

ROOT = Path(__file__).parents[2]
TOOLKITS = Path(polsess.checkpoints.__file__).parent / "toolkits"


def test_the_document_is_up_to_date() -> None:
    stored = (ROOT / "docs/MODELS.md").read_text()
    assert stored == render_markdown(), "run: polsess models --markdown > docs/MODELS.md"


def script() -> dict[str, Any]:
    """The names of the script that stores what takes minutes."""
    return runpy.run_path(str(ROOT / "benchmarks/model_facts.py"))


def test_every_preset_has_stored_macs_and_they_are_those_of_the_code() -> None:
    for name in list_models():
        architecture = describe_model(name)
        for preset in (architecture.default, *architecture.presets):
            assert preset.macs_per_second, f"{name}:{preset.name}: run benchmarks/model_facts.py"
    stored = json.loads(script()["STORED"].read_text())["macs_per_second"]
    assert stored.keys() == set(list_models())
    for name in ("skim", "resepformer"):
        assert stored[name] == script()["macs_of_presets"](name)


@pytest.mark.parametrize("folder", script()["golden_folders"](), ids=lambda path: path.name)
def test_no_golden_is_further_from_its_reference_than_stored(folder: Path) -> None:
    names = script()
    model, error = names["golden_error"](folder)
    toolkit = names["TOOLKITS"][folder.name.partition("_")[0]]
    stored = {each.reference: each.relative for each in describe_model(model).golden_errors}
    assert error <= 5 * stored[toolkit]  # another processor rounds otherwise
    assert error < 1e-5


def test_every_architecture_with_a_reference_shows_its_distance() -> None:
    without = [name for name in list_models() if not describe_model(name).golden_errors]
    assert without == ["blstm"]
    assert "Golden parity: no reference." in render_markdown()


def test_every_publication_is_described_plausibly() -> None:
    for entry in list_published():
        assert entry.model_type in list_models(), entry
        assert entry.num_sources in {1, 2, 3}, entry
        assert entry.sample_rate in {8000, 16000}, entry
        assert entry.license in {"apache-2.0", "mit", "cc-by-sa-4.0", None}, entry
        assert entry.score is None or 5 < entry.score < 26, entry
        assert entry.corpus, entry
        assert bool(entry.license_notes) == (
            any(word in entry.corpus for word in ("WSJ0", "WHAM", "noisy", "enh_single"))
        ), entry


def test_publications_of_a_preset_have_its_sources_and_rate() -> None:
    compared = 0
    for entry in list_published():
        name = entry.hub_id.partition("/")[2]
        presets = {preset.name: preset for preset in describe_model(entry.model_type).presets}
        if entry.format in {"asteroid", "speechbrain"}:
            assert name in presets, f"{entry.hub_id} has no preset"
        if name in presets:
            compared += 1
            assert presets[name].num_sources == entry.num_sources, entry
            assert presets[name].sample_rate == entry.sample_rate, entry
    assert compared > 20


def test_the_literature_is_of_registered_models_and_readable_formats() -> None:
    known = {reader.format for reader in READERS}
    assert set(list_models()) == set(LITERATURE)
    for name, literature in LITERATURE.items():
        assert set(literature.formats) <= known
        for toolkit in literature.formats:
            place = toolkit.replace("-", "_")
            sources = [*TOOLKITS.glob(f"{place}.py"), *TOOLKITS.glob(f"{place}/*.py")]
            assert any(f'"{name}"' in path.read_text() for path in sources), (name, toolkit)
        for score in literature.scores:
            assert 5 < score.value < 26, (name, score)
    for entry in list_published():
        assert entry.format in LITERATURE[entry.model_type].formats, entry


def test_a_model_is_described_from_its_module_and_class() -> None:
    skim = describe_model("skim")
    assert skim.title.startswith("SkiM: an LSTM within each segment")
    assert skim.papers == ("https://arxiv.org/abs/2201.10800",)
    assert not any(paragraph.startswith("Shapes") for paragraph in skim.about)
    assert skim.default.parameters == 14_506_753
    causal = {preset.name: preset.look_ahead_samples for preset in skim.presets if preset.causal}
    assert causal == {"skim-causal": 15}
    assert {preset.name for preset in skim.presets} == set(list_presets("skim")) - {"tiny"}


def test_one_name_selects_its_part() -> None:
    architectures, published = select("resepformer")
    assert [each.name for each in architectures] == ["resepformer"]
    assert [entry.hub_id for entry in published] == ["speechbrain/resepformer-wsj02mix"]
    architectures, published = select("speechbrain/resepformer-wsj02mix")
    assert [each.name for each in architectures] == ["resepformer"]
    assert len(published) == 1
    with pytest.raises(ConfigError, match="Did you mean 'speechbrain/resepformer-wsj02mix'"):
        select("speechbrain/resepformer-wsj02mx")
    with pytest.raises(ConfigError, match="resepformer"):
        select("resepforme")


def test_the_command_prints_tables_and_json() -> None:
    told = CliRunner().invoke(app, ["models", "dprnn", "--json"])
    assert told.exit_code == 0, told.output
    record = json.loads(told.stdout)
    assert record["architectures"][0]["default"]["parameters"] == 2_609_857
    notes = {entry["id"]: entry["license_notes"] for entry in record["checkpoints"]}
    assert "non-commercial" in notes["mpariente/DPRNNTasNet-ks2_WHAM_sepclean"][-1]
    shown = CliRunner().invoke(app, ["models", "dprnn"], env={"COLUMNS": "200"})
    assert "DPRNNTasNet-ks16_WHAM_sepclean" in shown.stdout
    assert "3.65 M" in shown.stdout
    for shown in (CliRunner().invoke(app, ["models"]), CliRunner().invoke(app, ["models", "dprnn"])):
        assert "DPRNNTasNet-ks2_Libri1Mix_enhsingle_16k" in shown.stdout  # whole, where no terminal is
    assert CliRunner().invoke(app, ["models", "nobody"]).exit_code == 2
    assert CliRunner().invoke(app, ["models", "dprnn", "--markdown"]).exit_code == 2
