"""Spreads, exponents, result files, journals and tables."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from polsess.benchmark import parse_variants, read_result, render, write_result
from polsess.benchmark.journal import Journal, Plan, Step, Visit
from polsess.benchmark.results import Settings, Skip
from polsess.benchmark.summary import costs, memory_exponent, percentile, spread
from polsess.benchmark.tables import full_table
from polsess.measurement import growth_exponent
from polsess.models import list_models
from polsess.schema import ConfigError
from polsess.text_tables import comma_separated
from tests.benchmark.builders import model_result, result, timing


def test_the_exponent_of_a_power_is_found() -> None:
    lengths = (1.0, 4.0, 30.0)
    assert growth_exponent({length: 7.0 * length**1.5 for length in lengths}) == pytest.approx(1.5)
    assert growth_exponent(dict.fromkeys(lengths, 3.0)) == pytest.approx(0.0)
    assert growth_exponent({1.0: 0.0, 4.0: 5.0}) is None  # what did not grow says nothing


def test_percentiles_are_interpolated() -> None:
    assert percentile([4.0, 1.0, 2.0, 3.0], 50) == 2.5
    assert percentile([10.0], 95) == 10.0
    assert percentile(list(range(101)), 95) == 95.0
    found = spread([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (found.low, found.median, found.high, found.count) == (2.0, 3.0, 4.0, 5)
    with pytest.raises(ValueError, match="at least one"):
        percentile([], 50)


def test_costs_join_the_rounds() -> None:
    model = model_result("dprnn", timing(4.0, 1.0, 400), timing(4.0, 2.0, 800, 2), timing(1.0, 1.0, 150))
    cost = costs(model, "inference")[4.0]
    assert cost.latency.median == 2.5  # of 1, 3, 2, 6
    assert cost.realtime_factor == 0.625
    assert cost.cpu.count == 4
    assert (cost.peak_bytes, cost.grown_bytes) == (1600, 600)
    assert memory_exponent(model) == pytest.approx(1.0)
    assert list(costs(model, "inference")) == [1.0, 4.0]


def test_a_result_file_comes_back(tmp_path: Path) -> None:
    made = result(model_result("dprnn", timing(4.0, 1.25, 400)))
    write_result(made, tmp_path / "results.json")
    assert read_result(tmp_path / "results.json") == made


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not readable as JSON"),
        ("[]", "expected a mapping"),
        ('{"format_version": 2, "settings": {}}', "format_version"),
        ('{"extra": 1}', "extra: unknown key"),
    ],
)
def test_a_foreign_file_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(ConfigError, match=message):
        read_result(tmp_path / "results.json")
    with pytest.raises(FileNotFoundError, match="polsess benchmark -o"):
        read_result(tmp_path / "nothing.json")


def test_a_journal_goes_on_where_it_stopped(tmp_path: Path) -> None:
    plan = Plan(settings=Settings(rounds=2), names=("dprnn", "skim"))
    journal = Journal(plan, tmp_path)
    visit = Visit(name="dprnn", round=1, spent_seconds=2.0, timings=(timing(1.0, 0.5),))
    journal.add(Step(visit=visit))
    with journal.path.open("a") as file:
        file.write('{"visit": {"name"')  # killed in the middle of a line
    again = Journal(plan, tmp_path)
    assert again.visits("dprnn") == [visit]
    assert again.visits("skim") == []
    again.add(Step(visit=visit.model_copy(update={"round": 2})))
    assert len(Journal(plan, tmp_path).visits("dprnn")) == 2
    other = Plan(settings=Settings(rounds=3), names=("dprnn", "skim"))
    with pytest.raises(ConfigError, match="other models or settings"):
        Journal(other, tmp_path)
    assert Journal(other, tmp_path, overwrite=True).visits("dprnn") == []


def test_a_finished_run_is_not_written_over(tmp_path: Path) -> None:
    write_result(result(), tmp_path / "results.json")
    with pytest.raises(ConfigError, match="finished run"):
        Journal(Plan(settings=Settings(), names=()), tmp_path)


def test_tables_show_everything_or_the_reason() -> None:
    skip = Skip(mode="inference", seconds=4.0, reason="needs about 90.0 GiB of memory, 4.0 GiB are free")
    model = model_result("dprnn", timing(1.0, 0.0625, 50_000_000)).model_copy(update={"skips": (skip,)})
    text = render(result(model))
    assert "2.50 M" in text
    assert "2.0 ms" in text  # 16 samples at 8 kHz
    assert "needs about 90.0 GiB" in text
    assert "0.125 (0.181)" in text  # the median and the 95th percentile of 0.0625 and 0.1875
    table = full_table(result(model))
    (row,) = csv.DictReader(io.StringIO(comma_separated(table.header, table.rows)))
    assert row["macs_recurrent"] == "1e+09"
    assert row["inference_1s_latency_median"] == "0.125"
    assert row["left_out"].startswith("inference 4 s: needs about")


def test_variants_are_named_models_and_sources() -> None:
    assert [each.name for each in parse_variants([])] == list_models()
    named = parse_variants(["dprnn", "dptnet:paper"], "tiny", ["runs/best"])
    assert [each.name for each in named] == ["dprnn:tiny", "dptnet:paper", "best"]
    assert named[2].config is None
    with pytest.raises(ConfigError, match="Did you mean 'dprnn'"):
        parse_variants(["dprn"])
    with pytest.raises(ConfigError, match="unknown preset 'papr'"):
        parse_variants(["dptnet:papr"])
    with pytest.raises(ConfigError, match="named twice"):
        parse_variants(["dprnn", "dprnn"])
