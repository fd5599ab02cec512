from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from polsess.evaluation import Evaluation, Row, read_evaluation
from polsess.evaluation.score_table import TableFormat, to_csv
from polsess.evaluation.storage import EvaluationFolder
from polsess.evaluation.summary_file import summary_of
from polsess.evaluation.tables import failure_lines, strata_table, summary_table
from polsess.metrics import Scores


def row(identifier: str, value: float, **metadata: str | float) -> Row:
    values = {
        "si_snr": (value + 1, value + 3),
        "si_snri": (value, value + 2),
        "si_snr_mixture": (1.0, 1.0),
    }
    reasons = {"si_snri": "silent reference"} if math.isnan(value) else {}
    return Row(identifier, Scores(values, reasons, (1, 0)), 2.0, f"digest{identifier}", metadata)


def evaluation(*rows: Row) -> Evaluation:
    settings = {"system": "a", "metrics": ["si_snr"], "task": "SB"}
    return Evaluation("a", ("si_snr",), rows, settings)


def test_pooling_is_by_utterance() -> None:
    pooled = evaluation(row("1", 0.0)) + evaluation(row("2", 3.0), row("3", 6.0))
    assert pooled.summary("si_snri").mean == 4.0  # not the mean of the means 1 and 5.5
    assert pooled.summary("si_snri").count == 3
    with pytest.raises(ValueError, match="'1' comes twice"):
        pooled + evaluation(row("1", 0.0))
    with pytest.raises(ValueError, match="system and metrics agree"):
        pooled + Evaluation("b", ("si_snr",), ())


def test_utterances_of_one_pair_of_speakers_are_one_cluster() -> None:
    rows = [row(str(index), float(index), speakers="a-b" if index % 2 else "b-a") for index in range(6)]
    assert evaluation(*rows).summary("si_snri").num_clusters == 1
    assert evaluation(*rows, row("x", 1.0)).summary("si_snri").num_clusters == 2
    apart = [row("p", 0.0, speaker1="a", speaker2="b"), row("q", 0.0, speaker1="b", speaker2="a")]
    assert evaluation(*rows, *apart).summary("si_snri").num_clusters == 1


@pytest.mark.parametrize("spelling", ["speaker{}", "speaker_{}"])
def test_speakers_are_known_by_the_columns_of_a_manifest(spelling: str) -> None:
    columns = spelling.format(1), spelling.format(2)
    pairs: list[tuple[str | float, str]] = [("a", "7"), (7.0, "b"), ("none", "unknown")]
    one, other, nobody = (
        row(str(index), 0.0, **dict(zip(columns, pair, strict=True))) for index, pair in enumerate(pairs)
    )
    assert one.speakers == ("a", "7")
    assert other.speakers == ("7", "b")
    assert set(one.clusters) & set(other.clusters) == {"7"}
    assert nobody.clusters == ("2",)  # recordings without voices have nobody in common
    assert row("3", 0.0, speaker="a", speakers_room="b").speakers == ("a",)


def test_rates_of_failure_are_of_improvements_in_decibels() -> None:
    values = {"si_snri": (1.0,), "stoi": (0.4,), "overlap_si_snri": (6.0,)}
    settings = {"system": "a", "metrics": ["si_snr", "stoi", "conversation"]}
    metrics = ("si_snr", "stoi", "conversation")
    scores = summary_of(Evaluation("a", metrics, (Row("1", Scores(values, {}, (0,))),), settings))["scores"]
    rated = {column for column, found in scores.items() if "rate_below_0_db" in found}
    assert rated == {"si_snri", "overlap_si_snri"}


def test_the_list_hash_knows_the_audio_and_not_the_order() -> None:
    one, two = row("1", 0.0), row("2", 0.0)
    assert evaluation(one, two).list_hash == evaluation(two, one).list_hash
    other = Row("2", two.scores, 2.0, "another digest")
    assert evaluation(one, two).list_hash != evaluation(one, other).list_hash


def test_failures_are_counted_by_reason() -> None:
    broken = Row("3", Scores({}), failure="no such file")
    summary = evaluation(row("1", 1.0), row("2", math.nan), broken).summary("si_snri")
    assert summary.count == 1
    assert summary.failures == {"silent reference": 1, "no such file": 1}


def test_strata_by_words_numbers_and_scores() -> None:
    rows = [
        row(str(index), float(index), sexes="FM" if index % 2 else "FF", ssr=index / 7, scene="bus")
        for index in range(20)
    ]
    result = evaluation(*rows, row("no condition", 0.0))
    assert {key: len(part.rows) for key, part in result.strata("sexes").items()} == {
        "different": 10,
        "same": 10,
    }
    quartiles = result.strata("ssr")
    assert [len(part.rows) for part in quartiles.values()] == [5, 5, 5, 5]
    assert next(iter(quartiles)).startswith("0 to ")
    assert list(quartiles["0 to 0.679"].values("si_snri")) == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert list(result.strata("scene")) == ["bus"]
    assert sum(len(part.rows) for part in result.strata("si_snr").values()) == 21
    assert result.condition_keys() == ["sexes", "ssr"]
    assert result.strata("nothing") == {}


def test_numeric_groups_stand_in_order() -> None:
    rows = [row(str(index), 0.0, ssr=float(ssr)) for index, ssr in enumerate((10, -5, 2, -5))]
    assert list(evaluation(*rows).strata("ssr")) == ["-5", "2", "10"]


def test_files_hold_every_utterance(tmp_path: Path) -> None:
    broken = Row("3", Scores({}), failure="gone, with a comma")
    result = evaluation(row("1", 1.5, speakers="a-b", ssr=2.5), row("2", math.nan), broken)
    EvaluationFolder(tmp_path, result.settings).finish(result)
    table = list(csv.DictReader((tmp_path / "scores.csv").read_text().splitlines()))
    assert [line["si_snri"] for line in table] == ["2.5", "", ""]
    assert table[0]["si_snri_1"] == "1.5"
    assert table[0]["permutation"] == "2 1"
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["scores"]["si_snri"]["count"] == 1
    assert summary["scores"]["si_snri"]["rate_below_5_db"] == 1.0
    assert summary["num_failed"] == 1
    restored = read_evaluation(tmp_path)
    assert restored.list_hash == result.list_hash
    assert restored.rows[0] == result.rows[0]
    assert restored.rows[1].reason("si_snri") == "silent reference"
    assert restored.rows[2].failure == broken.failure
    assert restored.summary("si_snr").mean == result.summary("si_snr").mean


def test_a_table_without_rows_or_scores_is_still_a_table() -> None:
    assert to_csv(evaluation()).startswith("identifier,seconds,content,permutation,si_snr,")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("summary.json", "{", "not readable as JSON"),
        ("summary.json", "[]", "expected an object"),
        ("summary.json", "{}", "not the summary of an evaluation"),
        ("scores.csv", "a,b\n1,2\n", "not a table of scores"),
    ],
)
def test_foreign_files_are_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    result = evaluation(row("1", 1.0))
    EvaluationFolder(tmp_path, result.settings).finish(result)
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_evaluation(tmp_path)
    with pytest.raises(FileNotFoundError, match="folder of a finished evaluation"):
        read_evaluation(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("settings.system", ["a"], "summary.json.settings.system: Input should be a valid string"),
        ("settings.metrics", "si_snr", "settings.metrics"),
        ("settings.sample_rate", 10**300, "settings.sample_rate"),
        ("settings.predictors", [{"name": []}], "settings.predictors"),
        ("settings.versions", {"torch": [1]}, "settings.versions"),
        ("origin", [], "origin"),
        ("origin.macs_per_second", ["1"], "origin.macs_per_second"),
        ("num_utterances", 3, "scores.csv: holds 2 of 3 utterances; evaluate again with --overwrite"),
        ("list_hash", "0", "scores.csv: holds other utterances than summary.json"),
    ],
)
def test_hostile_summaries_are_refused(tmp_path: Path, path: str, value: object, message: str) -> None:
    result = evaluation(row("1", 1.0), row("2", 2.0))
    EvaluationFolder(tmp_path, result.settings).finish(result)
    summary = json.loads((tmp_path / "summary.json").read_text())
    part = summary
    *parents, key = path.split(".")
    for name in parents:
        part = part[name]
    part[key] = value
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(ValueError, match=message):
        read_evaluation(tmp_path)


@pytest.mark.parametrize(
    ("column", "cell", "message"),
    [
        ("permutation", "1 1", "'1 1' is not a permutation"),
        ("permutation", "0 1", "'0 1' is not a permutation"),
        ("reasons", "[1]", "expected reasons as a mapping"),
        ("reasons", '{"si_snr": [2]}', "expected reasons as a mapping"),
        ("si_snr_1", "much", "could not convert string to float"),
        ("identifier", "2", "the utterance '2' comes twice"),
        ("identifier", "x" * 200_000, "field larger than field limit"),
    ],
)
def test_hostile_tables_are_refused(tmp_path: Path, column: str, cell: str, message: str) -> None:
    result = evaluation(row("1", 1.0), row("2", 2.0))
    EvaluationFolder(tmp_path, result.settings).finish(result)
    table = list(csv.DictReader((tmp_path / "scores.csv").read_text().splitlines()))
    table[0][column] = cell
    with (tmp_path / "scores.csv").open("w") as file:
        writer = csv.DictWriter(file, table[0])
        writer.writeheader()
        writer.writerows(table)
    with pytest.raises(ValueError, match=r"scores\.csv: .*" + message):
        read_evaluation(tmp_path)


def test_a_table_that_was_cut_is_not_continued(tmp_path: Path) -> None:
    """A cut at the end of a line leaves a valid table of fewer utterances."""
    result = evaluation(row("1", 1.0), row("2", 2.0))
    folder = EvaluationFolder(tmp_path, result.settings)
    folder.finish(result)
    table = tmp_path / "scores.csv"
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(ValueError, match="holds 1 of 2 utterances"):
        folder.restore()


@pytest.mark.parametrize("text", ["[\n", '{"system": "a"}\n{"identifier": "1"}\n', '{}\n"text"\n'])
def test_a_damaged_journal_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "journal.jsonl").write_text(text)
    with pytest.raises(ValueError, match="damaged; start anew with --overwrite"):
        EvaluationFolder(tmp_path, {"system": "a"}).restore()


def test_tables_show_means_failures_and_strata() -> None:
    result = evaluation(
        *(row(str(index), float(index), sexes="FM") for index in range(4)), row("x", math.nan)
    )
    assert "| SI-SNRi [dB] | 2.50 |" in summary_table(result)
    assert failure_lines(result) == ["SI-SNR: 1 x unknown", "SI-SNRi: 1 x silent reference"]
    reasons = dict.fromkeys(result.columns, "silent estimate")
    silent = Scores(dict.fromkeys(reasons, (math.nan,)), reasons)
    one = evaluation(replace(row("y", 0.0), scores=silent))
    assert failure_lines(one) == ["every score: 1 x silent estimate"]
    line = strata_table(result, "sexes").splitlines()[2]
    assert line.startswith("| different | 2.50 |")
    assert line.endswith("|      0.0 % |    100.0 % |")


def test_parquet_holds_what_csv_does(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    broken = Row("3", Scores({}), failure="gone, with a comma", metadata={"ssr": 2.0, "scene": "7"})
    result = evaluation(row("1", 1.5, speakers="a-b", ssr=2.5, scene="bus"), row("2", math.nan), broken)
    for table_format in get_args(TableFormat):
        EvaluationFolder(tmp_path / table_format, result.settings).finish(result, table_format)
    csv_rows, parquet_rows = (read_evaluation(tmp_path / name).rows for name in get_args(TableFormat))
    assert parquet_rows[0] == csv_rows[0] == result.rows[0]
    assert parquet_rows[1].reason("si_snri") == "silent reference"
    assert parquet_rows[2].failure == broken.failure
    assert parquet_rows[2].metadata == csv_rows[2].metadata == {"ssr": 2.0, "scene": 7.0}
    from pyarrow import parquet

    schema = parquet.read_schema(tmp_path / "parquet" / "scores.parquet")
    assert str(schema.field("si_snri").type) == "double"
    assert str(schema.field("ssr").type) == "double"


def test_parquet_needs_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = evaluation(row("1", 1.0))
    monkeypatch.setattr("polsess.dependencies.is_installed", lambda _: False)
    with pytest.raises(ModuleNotFoundError, match=r"needs pyarrow.*pip install -e"):
        EvaluationFolder(tmp_path, result.settings).finish(result, "parquet")


def test_damaged_parquet_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    result = evaluation(row("1", 1.0))
    EvaluationFolder(tmp_path, result.settings).finish(result, "parquet")
    (tmp_path / "scores.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="not a table of scores"):
        read_evaluation(tmp_path)
    (tmp_path / "scores.csv").write_text("")
    with pytest.raises(ValueError, match="remove the one that is old"):
        read_evaluation(tmp_path)


def test_every_condition_of_polsess_makes_strata() -> None:
    scenes = ("bus", "park", "tram", "metro_station")
    rows = [
        row(
            str(index),
            float(index),
            variant="SER" if index % 2 else "C_out",
            ssr_db=float(index % 11 - 5),
            scene=scenes[index % 4],
            location="indoor" if index % 2 else "outdoor",
            sexes="FM" if index % 3 else "MM",
            **({"decay": round(0.1 * index, 1)} if index % 2 else {}),
        )
        for index in range(44)
    ]
    keys = evaluation(*rows).condition_keys()
    assert keys == ["variant", "ssr_db", "scene", "location", "sexes", "decay"]
    inputs = [
        replace(
            each, scores=Scores({**each.scores.values, "si_snr_mixture": (float(n), n + 1.0)}, {}, (1, 0))
        )
        for n, each in enumerate(rows)
    ]
    assert len(evaluation(*inputs).strata("si_snr_mixture")) == 4
