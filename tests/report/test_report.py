from __future__ import annotations

import base64
import hashlib
import io
import json
import math
import re
from html.parser import HTMLParser
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from polsess.cli.main import app
from polsess.cli.terminal import ExitCode
from polsess.evaluation import FolderSystem, evaluate
from polsess.report import ReportOptions, Run, create_report, open_runs
from polsess.report.charts import Estimate, Scale, histogram, intervals, plane, scatter
from polsess.report.markup import Markup, element, join, table
from polsess.report.players import choose
from polsess.report.runs import group_runs
from polsess.report.spectra import spectrogram_uri
from polsess.schema import ConfigError
from tests.evaluation.corpora import halves, open_folder, write_items

FAST = ["si_snr"]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two systems on one list of ten utterances, estimates kept."""
    corpus = open_folder(write_items(tmp_path / "data", num_items=10))
    first = halves()
    evaluate(first, corpus, metrics=FAST, folder=tmp_path / "out" / "first", save_estimates=True)
    copies = FolderSystem(tmp_path / "out" / "first" / "estimates")
    copies.name = "copies"
    evaluate(copies, corpus, metrics=FAST, folder=tmp_path / "out" / "second")
    return tmp_path / "out"


class Page(HTMLParser):
    """Elements with their attributes and the text in each kind; complains of what is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, list[str]] = {}
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in {"meta", "input", "img", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.setdefault(self.open[-1] if self.open else "", []).append(data)

    def all(self, tag: str, kind: str = "") -> list[dict[str, str | None]]:
        return [
            a
            for name, a in self.found
            if name == tag and (not kind or kind in (a.get("class") or "").split())
        ]


def make(results: Path, **options: Any) -> tuple[Page, str, list[str]]:
    text, problems = create_report(open_runs([str(results)]), ReportOptions(**options))
    return Page(text), text, problems


def test_the_page_stands_alone_and_holds_every_part(results: Path) -> None:
    page, text, problems = make(results, num_examples=1)
    assert problems == []
    headings = page.text["h3"]
    assert headings[0] == "Failures"
    assert headings[-1] == "Listen"
    assert {"Scores", "Comparison", "Conditions", "Distribution"} < set(headings)
    assert (
        "copies and halves: no difference shown" in text or "halves and copies: no difference shown" in text
    )
    assert len(re.findall(r'class="(?:best|tied)"', text)) >= 2  # in every column the best and its equals
    contents = [a["href"] or "" for _, a in page.found if (a.get("href") or "").startswith("#data1-")]
    anchors = {f"#{a['id']}" for _, a in page.found if "id" in a}
    assert {"#data1-scores", "#data1-comparison", "#data1-listen"} <= set(contents) <= anchors
    addresses = [a.get(key) or "" for _, a in page.found for key in ("src", "href") if key in a]
    assert addresses
    assert all(address.startswith(("data:image/png;base64,", "#")) for address in addresses)
    assert "@import" not in text
    assert "url(" not in text
    (policy,) = [a["content"] for a in page.all("meta") if "http-equiv" in a]
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy
    assert policy.startswith("default-src 'none'; ")
    assert policy.endswith(f"script-src 'sha256-{digest}'")


def test_players_hold_what_was_scored(results: Path) -> None:
    page, text, _ = make(results, num_examples=1)
    assert len(page.all("article", "player")) == 3
    kinds = [a["class"] for a in page.all("span", "kind")]
    assert kinds == ["kind worst", "kind median", "kind best"]
    sounds = json.loads(re.findall(r'class="sounds">(.*?)</script>', text)[0])
    assert len(sounds) == 1 + 2 * 3  # the mixture; by speaker a reference and two estimates
    signals = [soundfile.read(io.BytesIO(base64.b64decode(each)))[0] for each in sounds]
    assert len({len(signal) for signal in signals}) == 1
    mixture, *sources = signals
    np.testing.assert_allclose(mixture, sources[0] + sources[3], atol=2e-4)  # one gain for all
    for reference, one, same in (sources[:3], sources[3:]):
        np.testing.assert_array_equal(one, same)
        assert np.std(one) == pytest.approx(np.std(reference), rel=0.01)
    buttons = page.all("button", "pick")
    assert [a["aria-pressed"] for a in buttons[:7]] == ["true", *["false"] * 6]


def test_players_are_cut_and_limited_and_the_page_says_so(results: Path) -> None:
    _, text, problems = make(results, num_examples=2, seconds=0.1, max_megabytes=0.02)
    assert "the first 0.1 s of 0." in text
    assert len(problems) == 1
    assert "more utterances left out" in problems[0]
    assert problems[0] in text
    page, _, problems = make(results, num_examples=0)
    assert not page.all("article")
    assert problems == []


def test_what_cannot_be_heard_is_said_in_the_page(results: Path) -> None:
    for path in (results.parent / "data").rglob("mix.wav"):
        path.unlink()
    page, text, problems = make(results, num_examples=1)
    assert not page.all("article")
    assert len(problems) == 3
    assert "cannot be played" in text


def test_hostile_names_stay_text(results: Path) -> None:
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    runs = [Run(f"{evil}{index}", run.opened) for index, run in enumerate(open_runs([str(results)]))]
    text, _ = create_report(runs, ReportOptions(title=evil, num_examples=1))
    page = Page(text)
    assert len(page.all("script")) == 1 + 3
    assert all((a.get("src") or "").startswith("data:") for a in page.all("img"))
    assert not any(key.startswith("on") for _, attributes in page.found for key in attributes)


def test_other_lists_stand_apart(results: Path, tmp_path: Path) -> None:
    corpus = open_folder(write_items(tmp_path / "more", num_items=3))
    evaluate(halves(), corpus, metrics=FAST, folder=tmp_path / "other" / "first")
    groups = group_runs(open_runs([str(results), str(tmp_path / "other")]))
    assert [len(group.runs) for group in groups] == [2, 1]
    with pytest.raises(ConfigError, match="two systems have the name 'halves'"):
        group_runs(open_runs([str(results / "first"), str(results / "first")]))
    named = open_runs([f"again={results / 'first'}", str(results / "first")])
    assert [run.name for run in named] == ["again", "halves"]
    with pytest.raises(ConfigError, match="holds 2 evaluations"):
        open_runs([f"name={results}"])
    with pytest.raises(FileNotFoundError, match="no finished evaluation"):
        open_runs([str(tmp_path / "more")])
    with pytest.raises(ConfigError, match=r"has no score 'pesq'"):
        create_report(named, ReportOptions(column="pesq"))


def test_costs_of_models_make_a_plane(results: Path) -> None:
    page, _, _ = make(results, num_examples=0)
    assert "Quality and cost" not in page.text["h3"]  # files have no size
    page, text, _ = make(results, num_examples=0, costs={"halves": 2.0, "copies": 400.0}, cost_title="GMAC/s")
    assert "Quality and cost" in page.text["h3"]
    assert "GMAC/s, logarithmic" in text


def test_nothing_but_failures_is_still_a_page(tmp_path: Path) -> None:
    folder = write_items(tmp_path / "data", num_items=2)
    corpus = open_folder(folder)
    for path in folder.rglob("s1.wav"):
        path.write_bytes(b"RIFF")
    evaluate(halves(), corpus, metrics=FAST, folder=tmp_path / "out")
    _, text, problems = make(tmp_path / "out")
    assert problems == []
    assert "Why scores are missing" in text


def test_markup_escapes_what_is_not_markup() -> None:
    assert element("p", "<b>", Markup("<i></i>"), class_="a", data_x='"&', hidden=True, lang=None) == (
        '<p class="a" data-x="&quot;&amp;" hidden>&lt;b&gt;<i></i></p>'
    )
    assert element("br") == "<br>"
    assert join(["<", Markup("<")]) == "&lt;<"
    assert "&lt;x" in table(["a"], [["<x"]])


@pytest.mark.parametrize("values", [[0.0, 1.0], [-3.7, 12.1], [5.0], [1e-4, 2e-4], [], [math.nan]])
def test_scales_hold_all_values_at_round_numbers(values: list[float]) -> None:
    scale = Scale.around(values)
    assert all(0 <= scale.percent(value) <= 100 for value in values if math.isfinite(value))
    assert scale.percent(scale.low) == 0
    assert scale.percent(scale.high) == 100
    assert 2 <= len(scale.ticks) <= 8


@pytest.mark.parametrize("values", [[5.05e6], [1e5, 6e7], [0.4, 460.0]])
def test_logarithmic_scales(values: list[float]) -> None:
    scale = Scale.logarithmic_around(values)
    assert all(0 < scale.percent(value) < 100 for value in values)
    assert 2 <= len(scale.ticks) <= 10
    assert scale.percent(math.sqrt(scale.low * scale.high)) == pytest.approx(50)


def test_charts_leave_out_what_is_not_a_number() -> None:
    scale = Scale.around([0, 10])
    drawn = intervals([Estimate(5, math.nan, math.nan), Estimate(math.nan, math.nan, math.nan)], scale, "x")
    assert drawn.count("<use") == 1
    assert 'x="50.00%"' in drawn
    assert 'class="bar' not in drawn
    assert scatter([1, math.nan, 3], [2, 2, 2], scale, "x").count("<circle") == 2
    bars = histogram([1, 1, 1, 9], scale, 0, "x")
    heights = [float(height) for height in re.findall(r'<rect[^>]* height="([\d.]+)"', bars)]
    assert heights[0] == pytest.approx(3 * heights[1])


def test_names_in_the_plane_do_not_cover_each_other() -> None:
    same = [Estimate(5, 4, 6)] * 3
    drawn, across = plane([2e6, 2e6, 3e6], same, ["a", "b", "<c>"], Scale.around([0, 10]), "x")
    heights = [float(y) for y in re.findall(r'class="name"[^>]* y="([\d.]+)"', drawn)]
    assert len(heights) == 3
    assert min(abs(one - other) for one, other in combinations(heights, 2)) >= 15
    assert "&lt;c&gt;" in drawn
    assert across.logarithmic
    low = [Estimate(0.1, 0, 1)] * 30  # more than the lowest corner has room for
    drawn, _ = plane([2e6] * 30, low, [str(index) for index in range(30)], Scale.around([0, 10]), "x")
    heights = sorted(float(y) for y in re.findall(r'class="name"[^>]* y="([\d.]+)"', drawn))
    assert all(other - one >= 14.9 for one, other in pairwise(heights))
    assert heights[0] >= 0
    assert heights[-1] <= 15 * 32


def test_choice_of_utterances() -> None:
    ranked = [(str(index), float(index)) for index in range(9)]
    assert [(each.identifier, each.kind) for each in choose(ranked, 1)] == [
        ("0", "worst"),
        ("4", "median"),
        ("8", "best"),
    ]
    assert [each.identifier for each in choose(ranked, 2)] == ["0", "1", "4", "5", "7", "8"]
    assert [each.kind for each in choose(ranked[:2], 3)] == ["worst", "best"]
    assert [each.kind for each in choose(ranked[:3], 2)] == ["worst", "median", "best"]
    assert choose([], 2) == choose(ranked, 0) == []


def test_spectrogram_shows_a_tone_where_it_is(tmp_path: Path) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    assert matplotlib
    from matplotlib.image import imread

    tone = np.sin(2 * np.pi * 1000 * np.arange(8000) / 8000).astype(np.float32)
    uri = spectrogram_uri(tone, 8000, (-80, 0))
    (tmp_path / "tone.png").write_bytes(base64.b64decode(uri.partition(",")[2]))
    picture = imread(tmp_path / "tone.png")[..., :3].sum(-1)
    rows = picture[:, picture.shape[1] // 2]
    assert rows.argmax() / len(rows) == pytest.approx(1 - 1000 / 4000, abs=0.02)


def test_command(results: Path, tmp_path: Path) -> None:
    (tmp_path / "costs.json").write_text('{"halves": 1, "copies": 3}')
    words = [results, "-o", tmp_path / "page.html", "--examples", "1", "--costs", tmp_path / "costs.json"]
    done = CliRunner().invoke(app, ["report", *map(str, words)])
    assert done.exit_code == ExitCode.DONE, done.stderr
    assert "MB; open it in a browser" in done.stderr
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")
    (tmp_path / "costs.json").write_text("[1]")
    done = CliRunner().invoke(app, ["report", *map(str, words)])
    assert done.exit_code == ExitCode.USAGE
    assert "expected a mapping of systems to numbers" in done.stderr
    assert CliRunner().invoke(app, ["report", str(tmp_path / "nowhere")]).exit_code == ExitCode.USAGE
