"""Whole recordings through the modules of the page and through Python, with the same scripted networks."""

from __future__ import annotations

import itertools
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from polsess.audio import resample
from polsess.diarization import regions
from polsess.diarization.settings import GateConfig, NumSpeakers, speaker_range
from polsess.inference import Separator
from polsess.inference.hearing import Hearing, Listeners
from polsess.inference.torch_networks import TorchDetector, TorchEmbedder, TorchEstimator
from tests.export.page_modules import NODE, PageModules, compare_turns, masks, noise
from tests.inference.oracle import FunctionModel, Oracle, voice
from tests.inference.scripted import HOP, RATE, ScriptedDetector, ScriptedEmbedder, splitter, talk

pytestmark = pytest.mark.skipif(not NODE, reason="Node is missing")
CPU = torch.device("cpu")


def facts(model: FunctionModel, gate: bool, segment_seconds: float) -> dict[str, Any]:
    """What the export says of the networks."""
    listeners = {
        "detector": {"sample_rate": RATE, "hop_seconds": HOP / RATE},
        "embedder": {"sample_rate": RATE},
        "enhancer": {"sample_rate": RATE},
    }
    return {
        "sample_rate": RATE,
        "names": [str(source) for source in range(model.output_sources)],
        "segment_seconds": segment_seconds,
        "overlap": 0.25,
        "gate": asdict(GateConfig()),
        "num_speakers": speaker_range(None),
        **(listeners if gate else dict.fromkeys(listeners)),
    }


def quieter_at_first() -> FunctionModel:
    """An enhancer that hears where a block begins."""

    def enhance(mixture: Tensor) -> Tensor:
        return (mixture * (1 - 0.5 * torch.exp(-torch.arange(mixture.shape[-1]) / RATE))).unsqueeze(1)

    return FunctionModel(enhance, 1)


def compare_separations(
    page: PageModules,
    models: list[FunctionModel],
    mixture: Tensor,
    *,
    gate: bool,
    segment_seconds: float = 24.0,
    num_speakers: NumSpeakers = None,
    rate: int = RATE,
) -> dict[str, Any]:
    """Separate a recording in Python and by the page's modules, each with its copy of the network."""
    detector, embedder, enhancer = ScriptedDetector(), ScriptedEmbedder(), quieter_at_first()
    given: dict[str, Any] = {"detector": detector, "embedder": embedder, "enhancer": enhancer}
    separator = Separator(
        models[0],
        device="cpu",
        gate="auto" if gate else "never",
        segment_seconds=segment_seconds,
        num_speakers=num_speakers,
        **(given if gate else {}),
    )
    expected = separator.separate(mixture, rate)
    rows = TorchEmbedder(embedder, CPU)  # type: ignore[arg-type]
    networks = {
        "separate": lambda samples: list(np.atleast_2d(models[1](torch.tensor(samples)[None])[0].numpy())),
        "detect": lambda samples: TorchDetector(detector, CPU).detect(samples[None].copy())[0],  # type: ignore[arg-type]
        "enhance": lambda samples: TorchEstimator(enhancer, CPU).estimate(samples[None].copy())[0, 0],
        "embed": lambda samples: rows.embed(samples[None].copy())[0],
    }
    asked = None if num_speakers is None else speaker_range(num_speakers)
    found: dict[str, Any] = page(
        "m.separate.separate(a[0], a[3], n, a[1], {numSpeakers: a[2]})",
        list(np.atleast_2d(mixture.numpy())),
        facts(models[1], gate, segment_seconds),
        asked,
        rate,
        networks=networks,
    )
    tracks = np.stack(found["tracks"])
    sources = resample(expected.sources.numpy(), rate, RATE)
    np.testing.assert_allclose(tracks, sources, atol=1e-5 if rate == RATE else 1e-3)
    timeline = found["timeline"]
    if expected.timeline is not None:
        compare_turns(timeline["turns"], expected.timeline.turns)
        assert timeline["whole"] == expected.timeline.whole
        assert timeline["overlaps"] == [pytest.approx(each) for each in expected.timeline.overlaps]
        assert timeline["separated"] == [pytest.approx(each) for each in expected.timeline.separated]
        assert timeline["networkSeconds"] == pytest.approx(expected.timeline.network_seconds)
        assert timeline["swapsRepaired"] == expected.timeline.swaps_repaired
    return timeline


def test_whether_all_is_separated(page: PageModules) -> None:
    for seed, frames, kind, expected, fewest in itertools.product(
        range(2), (300, 1500), ("none", "some", "all"), (0.0, 0.05, 0.2, 0.6), (1, 2, 3)
    ):
        speech = masks(seed, frames)
        overlap = speech & {"none": False, "some": masks(seed + 1, frames), "all": True}[kind]
        found = regions.Regions(speech, overlap, speech, overlap, overlap, HOP / RATE, expected, 0.0)
        separator = Separator(splitter(), device="cpu", num_speakers=(fewest, 4))
        given = {"speech": speech.astype(int), "overlap": overlap.astype(int), "expectedOverlap": expected}
        whole = page(
            "m.separate.isWhole(...a)",
            {**given, "hopSeconds": HOP / RATE},
            fewest,
            facts(splitter(), True, 24.0),
        )
        assert whole == separator._is_whole(found), (seed, frames, kind, expected, fewest)


@pytest.mark.parametrize("num_sources", [1, 2])
def test_long_recordings_are_stitched_alike(page: PageModules, num_sources: int) -> None:
    """Voices that pause in turn, a long silence, and a network that gives every piece in another order."""
    references = torch.stack([voice((300.0, 900.0), 50, 1), voice((500.0, 1500.0), 50, 2)])[:num_sources]
    references[0, 18 * RATE : 25 * RATE] = 0.0
    references[-1, 23 * RATE : 31 * RATE] = 0.0
    references[:, 38 * RATE : 43 * RATE] = 0.0
    models = [Oracle(references, gains=(-0.4, 2.0)[:num_sources]) for _ in range(2)]
    compare_separations(page, list(models), references.sum(0), gate=False, segment_seconds=6.0)


@pytest.mark.parametrize("num_speakers", [None, 2, (3, 4)])
def test_conversations_are_gated_alike(page: PageModules, num_speakers: NumSpeakers) -> None:
    conversation = torch.stack(
        [
            talk(0, 40.0, (0.5, 4.0), (7.0, 10.0), (13.0, 17.0), (20.0, 22.0), (25.0, 29.0)),
            talk(1, 40.0, (3.0, 6.5), (9.0, 12.5), (16.0, 19.5), (20.5, 21.5), (28.0, 29.5)),
            talk(2, 40.0, (31.0, 34.0), (36.5, 39.0)),
        ]
    )
    models = [splitter(seed=1), splitter(seed=1)]
    timeline = compare_separations(
        page, list(models), conversation.sum(0), gate=True, num_speakers=num_speakers
    )
    assert timeline["swapsRepaired"] > 0
    assert len({turn["speaker"] for turn in timeline["turns"]}) == (2 if num_speakers == 2 else 3)


@pytest.mark.parametrize("kind", ["silence", "noise", "one voice", "always several", "a tenth of a second"])
def test_recordings_that_are_no_conversation(page: PageModules, kind: str) -> None:
    mixture = {
        "silence": torch.zeros(RATE),
        "noise": 1e-4 * torch.randn(2, 3 * RATE, generator=torch.Generator().manual_seed(0)),
        "one voice": talk(0, 8.0, (0.5, 4.0), (6.0, 7.5)),
        "always several": talk(0, 14.0, (0.0, 14.0)) + talk(1, 14.0, (0.0, 14.0)),
        "a tenth of a second": talk(0, 0.1, (0.0, 0.1)),
    }[kind]
    timeline = compare_separations(page, [splitter(seed=2), splitter(seed=2)], mixture, gate=True)
    assert timeline["whole"] == (kind in ("noise", "always several"))  # noise is made loud, in all bands


def test_recordings_at_another_rate(page: PageModules) -> None:
    spans = [(0.5, 3.0), (4.0, 6.0), (7.0, 12.0)], [(2.0, 4.5), (8.0, 9.0)]
    mixture = sum(talk(band, 13.0, *each, sample_rate=16000) for band, each in enumerate(spans))
    assert isinstance(mixture, Tensor)
    compare_separations(page, [splitter(), splitter()], mixture, gate=True, rate=16000)


@pytest.mark.parametrize("rate", [RATE, 2 * RATE])
def test_they_hear_alike(page: PageModules, rate: int) -> None:
    """Three blocks, the last one short, through an enhancer of a rate of its own."""
    enhancer = TorchEstimator(quieter_at_first(), CPU)
    detector, embedder = TorchDetector(ScriptedDetector(), CPU), TorchEmbedder(ScriptedEmbedder(), CPU)  # type: ignore[arg-type]
    hearing = Hearing(Listeners(detector, embedder, enhancer), rate)
    sound = noise(0, 33 * rate + 77)
    found = page(
        "new m.hearing.Hearing(n, a[0]).clear(a[1], () => {})",
        {**facts(splitter(), True, 24.0), "sample_rate": rate},
        sound,
        networks={"enhance": lambda samples: enhancer.estimate(samples[None].copy())[0, 0]},
    )
    expected = hearing.clear_all(sound)
    assert found.shape == expected.shape == sound.shape
    np.testing.assert_allclose(found, expected, atol=1e-6 if rate == RATE else 1e-3)
    if rate == RATE:
        np.testing.assert_allclose(expected[:100], 0.65 * sound[:100], rtol=1e-2)
        second = slice(15 * rate, 15 * rate + 100)
        np.testing.assert_allclose(expected[second], (1 - 0.35 * np.exp(-2)) * sound[second], rtol=1e-2)


def test_samples_that_are_no_numbers(page: PageModules) -> None:
    given = facts(splitter(), gate=False, segment_seconds=24.0)
    for wrong in (np.nan, np.inf):
        with pytest.raises(AssertionError, match="noNumbers"):
            page("m.separate.separate([a[0]], 8000, n, a[1])", np.array([0, wrong, 0.1], np.float32), given)
    with pytest.raises(AssertionError, match="notFinite"):
        page(
            "m.separate.separate([a[0]], 8000, {separate: async (s) => [s, s.map(() => NaN)]}, a[1])",
            noise(0, 800),
            given,
        )
