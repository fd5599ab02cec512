"""Results made up for tests."""

from __future__ import annotations

from benchmarks.peers.results import PeerResult, PeersResult
from polsess.benchmark.results import Conditions, Facts, ModelResult, Result, Settings, Timing

CONDITIONS = Conditions(
    date="2026-11-22 12:00 UTC",
    processor="a processor",
    num_processors=2,
    memory_gib=24.0,
    system="Linux x86_64",
    python="3.11",
    torch="2.13",
    polsess="0.1",
    device="cpu",
    kernels=True,
    load_before=0.5,
    load_after=None,
)


def timing(seconds: float, wall: float, grown: int = 0, round_number: int = 1) -> Timing:
    return Timing(
        mode="inference",
        round=round_number,
        seconds=seconds,
        wall=(wall, 3 * wall),
        cpu=(wall, 2 * wall),
        peak_bytes=1000 + grown,
        rest_bytes=1000,
    )


def model_result(name: str, *timings: Timing) -> ModelResult:
    facts = Facts(
        model_type=name.partition(":")[0],
        parameters=2_500_000,
        macs_per_second=4e9,
        macs_by_kind={"convolution": 3e9, "recurrent": 1e9},
        sample_rate=8000,
        num_sources=2,
        causal=True,
        look_ahead_samples=16,
        file_bytes=10_000_000,
    )
    return ModelResult(name=name, facts=facts, load_seconds=(0.5, 0.25, 0.125), timings=timings)


SETTINGS = Settings(seconds=(1.0, 4.0), modes=("inference",))


def result(*models: ModelResult) -> Result:
    return Result(conditions=CONDITIONS, settings=SETTINGS, models=models)


def peers_result(*peers: PeerResult) -> PeersResult:
    return PeersResult(conditions=CONDITIONS, settings=SETTINGS, peers=peers)
