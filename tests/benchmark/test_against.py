"""Comparison with other toolkits: equal outputs first, then alternating passes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.peers.comparison import ORDER, Comparison, benchmark_peers, compare_peer, select_peers
from benchmarks.peers.networks import PEERS
from benchmarks.peers.results import PeerResult, ratios, read_peers, render, write_outputs
from polsess.benchmark import Settings
from polsess.checkpoints import save_model
from polsess.checkpoints.toolkits.asteroid.reader import CONVERTERS as ASTEROID
from polsess.checkpoints.toolkits.speechbrain.reader import CONVERTERS as SPEECHBRAIN
from polsess.models import create_model, list_models
from polsess.schema import ConfigError
from tests.benchmark.builders import SETTINGS as MADE_UP
from tests.benchmark.builders import peers_result, timing

STAND_IN = Path(__file__).with_name("peer_of_ours.py")
SETTINGS = Settings(seconds=(0.1,), modes=("inference",), rounds=2, budget_seconds=60.0)


def compare(workplace: Path, gain: float) -> PeerResult:
    folder = save_model(create_model("sudormrf", preset="tiny"), workplace / "ours")
    comparison = Comparison("any", SETTINGS, (sys.executable, str(STAND_IN), str(folder), str(gain)))
    comparison.run(workplace)
    return comparison.result()


def test_equal_outputs_give_a_ratio(tmp_path: Path) -> None:
    found = compare(tmp_path, 1.0)
    assert not found.refused
    assert found.agreement is not None
    assert found.agreement.max_error == 0.0
    assert found.toolkit_version == "1.2"
    assert ORDER == ("ours", "theirs", "theirs", "ours")
    for side in (found.ours, found.theirs):
        assert [timing.round for timing in side] == [1, 2]
        assert all(len(timing.wall) == 2 for timing in side)
    (ratio,) = ratios(found, SETTINGS)
    assert ratio.times.count == 2
    assert ratio.times.median > 0


def test_a_wrong_peer_is_refused_a_ratio(tmp_path: Path) -> None:
    found = compare(tmp_path, 1.001)
    assert "outputs differ: relative error 1.0e-03" in found.refused
    assert found.ours == found.theirs == ()
    assert found.agreement is not None
    assert found.agreement.si_snr_db > 70  # which forgives the level
    text = render(peers_result(found))
    assert "refused: the outputs differ" in text


def test_a_toolkit_that_is_not_there_is_named() -> None:
    found = compare_peer(
        "sepformer/speechbrain", SETTINGS, (sys.executable, "-c", "raise SystemExit('no torch')")
    )
    assert "no torch" in found.refused


def test_peers_are_chosen_by_architecture_and_toolkit() -> None:
    assert select_peers([], ["speechbrain", "asteroid"]) == list(PEERS)
    assert select_peers(["convtasnet"], ["asteroid"]) == ["convtasnet/asteroid"]
    assert select_peers(["dprnn/speechbrain"], ["speechbrain"]) == ["dprnn/speechbrain"]
    with pytest.raises(ConfigError, match="Did you mean 'asteroid'"):
        select_peers([], ["asteriod"])
    with pytest.raises(ConfigError, match="tfgridnet: asteroid have no such network"):
        select_peers(["tfgridnet"], ["asteroid"])


def test_a_missing_interpreter_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="name the Python of an environment"):
        benchmark_peers([], ["asteroid"], SETTINGS, tmp_path, lambda *_: None, python=tmp_path / "python")


def test_every_peer_has_a_converter_and_an_architecture() -> None:
    for name, peer in PEERS.items():
        converters = ASTEROID if peer.toolkit == "asteroid" else SPEECHBRAIN
        assert peer.converter in converters, name
        assert peer.model_type in list_models(), name
        assert name.endswith(f"/{peer.toolkit}")


def test_ratios_are_made_round_by_round() -> None:
    ours = (timing(4.0, 1.0, 100), timing(4.0, 2.0, 100, 2))
    theirs = (timing(4.0, 2.0, 300), timing(4.0, 6.0, 300, 2))
    (ratio,) = ratios(PeerResult(name="x", ours=ours, theirs=theirs), MADE_UP)
    assert ratio.times.median == 2.5  # of 2 and 3
    assert (ratio.clock, ratio.memory) == ("cpu", 3.0)
    assert ratios(PeerResult(name="x", ours=ours, theirs=theirs, refused="differs"), MADE_UP) == []


def test_the_files_of_a_comparison(tmp_path: Path) -> None:
    made = peers_result(PeerResult(name="x", ours=(timing(4.0, 1.0),), theirs=(timing(4.0, 2.0),)))
    write_outputs(made, tmp_path)
    assert read_peers(tmp_path / "results.json") == made
    assert "times_median" in (tmp_path / "results.csv").read_text()
    assert "2.00" in (tmp_path / "results.md").read_text()
