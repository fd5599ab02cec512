"""The lists of models: stored facts agree with the code, and so does the document that shows them."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import polsess.checkpoints
from polsess.checkpoints import list_published
from polsess.checkpoints.formats import READERS
from polsess.cli.main import app
from polsess.models import list_models, list_presets
from polsess.overview import describe_model, read_literature, select, stored_architectures
from polsess.overview.measuring import measure_architecture
from polsess.schema import ConfigError

ROOT = Path(__file__).parents[2]
HINT = "run: python benchmarks/model_facts.py"
TOOLKITS = Path(polsess.checkpoints.__file__).parent / "toolkits"


def script() -> dict[str, Any]:
    """The names of the script that stores facts and writes the document."""
    return runpy.run_path(str(ROOT / "benchmarks/model_facts.py"))


@pytest.mark.release
def test_stored_facts_and_document_are_those_of_the_code() -> None:
    names = script()
    stored = json.loads(names["STORED"].read_text())
    assert sorted(stored) == list_models()
    errors = {name: describe_model(name).golden_errors for name in stored}
    measured = [measure_architecture(name, errors[name]) for name in stored]
    assert names["STORED"].read_text() == names["store"](measured), HINT
    assert names["DOCUMENT"].read_text() == names["render"](measured), HINT


@pytest.mark.release
def test_every_architecture_with_a_reference_shows_its_distance() -> None:
    without = [name for name in list_models() if not describe_model(name).golden_errors]
    assert without == ["blstm"]
    assert "Golden parity: no reference." in script()["DOCUMENT"].read_text()


@pytest.mark.release
def test_every_architecture_has_literature() -> None:
    assert set(list_models()) == set(read_literature())


@pytest.mark.parametrize("name", list_models())
def test_every_architecture_is_described(name: str) -> None:
    architecture = describe_model(name)
    assert architecture.name == name
    assert architecture.title
    presets = {preset.name: preset for preset in (architecture.default, *architecture.presets)}
    assert presets.keys() == {"default", *list_presets(name)} - {"tiny"}
    assert all(preset.parameters > 0 for preset in presets.values())


def test_an_architecture_is_measured_when_its_file_has_changed_or_is_not_stored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stored = describe_model("skim")
    facts = stored_architectures()["skim"]
    wrong = {**facts["architecture"], "title": "a title that the file no longer has"}
    monkeypatch.setitem(facts, "architecture", wrong)
    assert describe_model("skim").title == wrong["title"]  # the file is the stored one: nothing is measured
    monkeypatch.setitem(facts, "source", "")
    assert describe_model("skim") == stored
    monkeypatch.delitem(stored_architectures(), "skim")
    assert describe_model("skim") == replace(stored, golden_errors=())


def test_the_lists_are_made_without_torch() -> None:
    """A table for the terminal does not wait for three seconds of imports."""
    code = """
import sys
from polsess.cli.main import main
from polsess.overview import stored_facts

stored = stored_facts.stored_architectures()  # of models that are neither new nor edited
stored_facts.architecture_sources = lambda: {name: name for name in stored}
stored_facts.source_digest = lambda name: stored[name]["source"]
sys.argv = ["polsess", "models"]
try:
    main()
except SystemExit as end:
    assert not end.code
assert "torch" not in sys.modules
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "dprnn" in ended.stdout


@pytest.mark.parametrize("folder", script()["golden_folders"](), ids=lambda path: path.name)
def test_no_golden_is_further_from_its_reference_than_stored(folder: Path) -> None:
    names = script()
    model, error = names["golden_error"](folder)
    toolkit = names["TOOLKITS"][folder.name.partition("_")[0]]
    stored = {each.reference: each.relative for each in describe_model(model).golden_errors}
    assert error <= 5 * stored[toolkit]  # another processor rounds otherwise
    assert error < 1e-5


def test_every_publication_is_described_plausibly() -> None:
    for entry in list_published():
        assert entry.model_type in list_models(), entry
        assert entry.num_sources in {1, 2, 3, 5}, entry
        assert entry.sample_rate in {8000, 16000}, entry
        assert entry.license in {*("apache-2.0", "mit", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", None)}, (
            entry
        )
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
    assert set(read_literature()) <= set(list_models())
    for name, literature in read_literature().items():
        assert set(literature.formats) <= known
        for toolkit in literature.formats:
            place = toolkit.replace("-", "_")
            sources = [*TOOLKITS.glob(f"{place}.py"), *TOOLKITS.glob(f"{place}/*.py")]
            assert any(f'"{name}"' in path.read_text() for path in sources), (name, toolkit)
        for score in literature.scores:
            assert 5 < score.value < 26, (name, score)
    for entry in list_published():
        assert entry.format in read_literature()[entry.model_type].formats, entry


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
    shown_json = CliRunner().invoke(app, ["models", "dprnn", "--json"])
    assert shown_json.exit_code == 0, shown_json.output
    record = json.loads(shown_json.stdout)
    assert record["architectures"][0]["default"]["parameters"] == 2_609_857
    notes = {entry["id"]: entry["license_notes"] for entry in record["checkpoints"]}
    assert "non-commercial" in notes["mpariente/DPRNNTasNet-ks2_WHAM_sepclean"][-1]
    shown = CliRunner().invoke(app, ["models", "dprnn"], env={"COLUMNS": "200"})
    assert "DPRNNTasNet-ks16_WHAM_sepclean" in shown.stdout
    assert "3.65 M" in shown.stdout
    for words in (["models"], ["models", "dprnn"]):
        lines = CliRunner().invoke(app, words, env={"COLUMNS": "40"}).stdout.splitlines()
        assert "JorisCos/DPRNNTasNet-ks2_Libri1Mix_enhsingle_16k" in lines, "whole on any terminal"
    table = CliRunner().invoke(app, ["models"]).stdout.partition("\n\n")[0].splitlines()
    assert {len(line) for line in table} == {len(table[0])}
    assert len(table[0]) <= 80
    (convtasnet,) = [line for line in table if line.startswith("| convtasnet ")]
    assert "| no, can be" in convtasnet
    assert "sepclean" not in convtasnet, "presets are shown under the model's name"
    assert CliRunner().invoke(app, ["models", "nobody"]).exit_code == 2
    refused = CliRunner().invoke(app, ["models", "--markdown"])
    assert refused.exit_code == 2
    assert "docs/MODELS.md" in refused.stderr
