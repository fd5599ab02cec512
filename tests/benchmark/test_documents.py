"""Generated documents and pictures."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks import store
from benchmarks.store import add, benchmark_parts, fill, readme_parts, store_peers, stored_peers
from polsess.benchmark import draw_pareto, read_result, render
from polsess.benchmark.pareto import Point, pareto_front, points
from polsess.cli.main import app
from polsess.config_error import ConfigError
from polsess.models import list_models
from polsess.overview import published_scores
from tests.benchmark.builders import model_result, peers_result, result, timing

ROOT = Path(__file__).parents[2]
STORE = ROOT / "docs/benchmarks"
HINT = "run: python benchmarks/store.py"


@pytest.mark.release
def test_the_documents_are_generated_from_the_stored_results() -> None:
    models, peers = read_result(STORE / "models.json"), stored_peers()
    document = (ROOT / "docs/BENCHMARKS.md").read_text()
    assert document == fill(document, benchmark_parts(models, peers)), HINT
    readme = (ROOT / "README.md").read_text()
    assert readme == fill(readme, readme_parts(models)), HINT
    assert set(list_models()) <= {model.name for model in models.models}
    assert not [model.name for model in models.models if model.failure]
    assert not [peer.name for result in peers for peer in result.peers if peer.refused]


def test_parts_are_replaced_between_their_marks() -> None:
    text = "a\n<!-- generated: x by y -->\nold\n<!-- end of x -->\nb\n"
    filled = fill(text, {"x": "new \\1\n"})
    assert filled == "a\n<!-- generated: x by y -->\nnew \\1\n<!-- end of x -->\nb\n"
    assert fill(filled, {"x": "new \\1\n"}) == filled
    with pytest.raises(ValueError, match="one part 'z'"):
        fill(text, {"z": ""})


def test_a_comparison_takes_the_place_of_one_on_the_same_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "PEERS_STORE", tmp_path)
    first = peers_result()
    later = first.conditions.model_copy(update={"date": "2026-11-29", "processor": "Another (AVX-512)"})
    elsewhere = first.model_copy(update={"conditions": later})
    reduced = first.model_copy(update={"settings": first.settings.model_copy(update={"precision": "auto"})})
    names = [store_peers(each).name for each in (first, elsewhere, reduced, first)]
    assert names[:2] == ["a-processor-float32.json", "another-avx-512-float32.json"]
    assert len(set(names)) == 3
    assert stored_peers()[0] == elsewhere
    models = result(model_result("skim", timing(4.0, 1.0)))
    text = benchmark_parts(models, stored_peers())["peers"]
    headings = [line for line in text.splitlines() if line.startswith("### ")]
    assert headings[0] == "### Another (AVX-512), precision float32"
    assert sorted(headings[1:]) == ["### a processor, precision auto", "### a processor, precision float32"]


def test_models_measured_later_keep_their_own_conditions() -> None:
    stored = result(model_result("dprnn", timing(4.0, 1.0)), model_result("skim", timing(4.0, 1.0)))
    peak = stored.conditions.model_copy(update={"matrix_gflops": 100.0})
    stored = stored.model_copy(update={"conditions": peak})
    one = result(model_result("gtcrn", timing(1.0, 1.0), timing(4.0, 2.0)))
    at_night = one.conditions.model_copy(
        update={"date": "at night", "matrix_gflops": 100.0, "load_after": 7.5}
    )
    later = one.model_copy(update={"conditions": at_night})
    joined = add(stored, later)
    assert [each.name for each in joined.models] == ["dprnn", "gtcrn", "skim"]
    assert joined.models[1].conditions == at_night
    text = render(joined)
    assert "Measured apart: `gtcrn`, at night; load average 0.5 before, 7.5 after" in text
    shares = [line.rpartition("%")[0].split()[-1] for line in text.splitlines() if "% |" in line]
    assert shares == ["21", "11", "21"]  # 2 x 4 GMAC/s x 4 s in 1.5 s or 3 s of a processor
    short, other = (later.settings.model_copy(update={"seconds": (each,)}) for each in (4.0, 2.0))
    assert add(stored, later.model_copy(update={"settings": short})).models[1].settings == short
    with pytest.raises(ConfigError, match="some of the lengths"):
        add(stored, later.model_copy(update={"settings": other}))
    with pytest.raises(ConfigError, match=r"torch '2\.13', got 'newer'"):
        add(stored, later.model_copy(update={"conditions": at_night.model_copy(update={"torch": "newer"})}))


def test_a_model_measured_on_another_processor_says_so() -> None:
    stored = result(model_result("skim", timing(4.0, 1.0)))
    later = result(model_result("gtcrn", timing(4.0, 1.0)))
    there = later.conditions.model_copy(update={"processor": "a slow one", "matrix_gflops": 50.0})
    joined = add(stored, later.model_copy(update={"conditions": there}))
    assert joined.conditions == stored.conditions
    apart = next(line for line in render(joined).splitlines() if "Measured apart" in line)
    assert apart.startswith("- Measured apart: `gtcrn`, on **a slow one**, matrix peak 50 GFLOP/s, ")
    assert apart.endswith("Times do not compare with the others.")
    legend = readme_parts(joined)["models"].rpartition("|\n")[2]
    assert "`gtcrn` ran on another processor, a slow one." in legend
    assert "another processor" not in readme_parts(stored)["models"]


def test_scores_belong_to_the_configuration_that_was_measured() -> None:
    def values(name: str) -> list[float]:
        return [score.value for score in published_scores(name, "WSJ0-2mix")]

    assert values("sepformer") == [20.4, 22.4]
    assert values("dprnn") == [15.9]
    assert values("dprnn:paper") == [18.8]
    assert values("dptnet") == []
    assert values("dptnet:paper") == [20.2]
    assert values("mambatasnet") == [21.44]
    assert values("a_folder") == []


def test_weights_of_ones_own_have_no_published_score() -> None:
    known = model_result("skim", timing(4.0, 1.0))
    own = known.model_copy(update={"own_weights": True})
    assert [point.decibels for point in points([known, own], lambda _: 1.0)] == [18.1]


def test_the_front_holds_what_nothing_cheaper_beats() -> None:
    def point(cost: float, decibels: float) -> Point:
        return Point("x", cost, decibels, "fixed mixtures", False)

    best = [point(1, 10), point(3, 12)]
    assert pareto_front([point(3, 12), point(2, 9), point(1, 10), point(4, 12), point(1, 8)]) == best


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    made = result(model_result("skim", timing(4.0, 1.0, 500)), model_result("sepformer", timing(4.0, 9.0)))
    assert draw_pareto(made, tmp_path / "pareto.png")
    assert (tmp_path / "pareto.png").read_bytes().startswith(b"\x89PNG")
    assert draw_pareto(made, tmp_path / "pareto.svg")
    assert "sepformer" in (tmp_path / "pareto.svg").read_text()
    assert draw_pareto(result(model_result("skim")), tmp_path / "no_times.png")  # arithmetic alone
    assert not draw_pareto(result(model_result("blstm", timing(4.0, 1.0))), tmp_path / "none.png")


def test_the_command_refuses_removed_options_and_bad_values(tmp_path: Path) -> None:
    def run(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["benchmark", *words, "-o", str(tmp_path)])
        return done.exit_code, done.output

    assert run("--against", "asteroid") == (
        2,
        "error: --against was removed; in the source folder of polsess, use: "
        "python benchmarks/against.py --against asteroid\n",
    )
    assert "use: python benchmarks/against.py --python p3" in run("--peer-python", "p3")[1]
    code, message = run("--allocator", "as_shipped")
    assert code == 2
    assert "use tuned or default" in message
    assert run("--seconds", "4,x")[1] == "error: --seconds: expected numbers such as 1,4,30, got '4,x'.\n"
    assert run("nobody")[0] == 2
    assert "benchmark.allocator" in run("skim", "--allocator", "mine")[1]
