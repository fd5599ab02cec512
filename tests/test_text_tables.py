from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence

from polsess.text_tables import comma_separated, condition, counted, fitted, latex, markdown, number, percent


def test_numbers_of_things() -> None:
    assert [counted(number, "file") for number in (0, 1, 2)] == ["0 files", "1 file", "2 files"]


def test_markdown_and_latex() -> None:
    assert markdown(["a", "b"], [["x", "10"]]).splitlines() == ["| a |  b |", "|:--|---:|", "| x | 10 |"]
    assert r"a\_b & 5 \% \\" in latex(["a", "b"], [["a_b", "5 %"]])


def test_markdown_aligns_words_left_and_escapes_what_would_end_a_cell() -> None:
    table = markdown(["name", "dB", "source"], [["a|b", "1", "a\nb"], ["c", "", "d"]])
    assert table.splitlines() == [
        "| name | dB | source |",
        "|:-----|---:|:-------|",
        "| a\\|b |  1 | a b    |",
        "| c    |    | d      |",
    ]


def test_names_wider_than_a_terminal_are_numbered_and_listed_below() -> None:
    def draw(labels: Sequence[str]) -> str:
        return markdown(["run", "dB"], [[label, "1"] for label in labels])

    assert fitted(draw, ["a", "b"]) == draw(["a", "b"])
    names = ["a" * 79, "runs/" + "b" * 70]
    assert fitted(draw, names).splitlines() == [
        *draw(["1", "2"]).splitlines(),
        "",
        f"1: {names[0]}",
        f"2: {names[1]}",
    ]


def test_csv_reads_back() -> None:
    rows = [["name", "mean"], ['a,"b"\nc', "1"]]
    assert list(csv.reader(io.StringIO(comma_separated(rows[0], rows[1:]), newline=""))) == rows


def test_numbers_that_do_not_exist_are_dashes() -> None:
    assert (number(1.005, 1), number(math.nan), percent(0.5), percent(math.inf)) == (
        "1.0",
        "-",
        "50.0 %",
        "-",
    )


def test_conditions_are_short() -> None:
    values: list[str | float] = ["a", -0.11583021999999998, 5.0, 3, 123456.0, float("inf")]
    assert [condition(value) for value in values] == ["a", "-0.1158", "5", "3", "123456", "inf"]
