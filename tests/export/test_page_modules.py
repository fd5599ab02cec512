"""Every module of the page against its counterpart in Python: generated cases, then whole recordings."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from polsess.audio import Samples, hann_window, magnitudes, read_audio, resample
from polsess.diarization import assignment, clustering, regions, stretches
from polsess.diarization.settings import GateConfig, NumSpeakers, speaker_range
from polsess.inference import Separator, levels, segments, speakers
from polsess.inference.recordings import ArrayRecording
from polsess.inference.torch_networks import TorchDetector, TorchEmbedder
from polsess.timelines import Turn, list_overlaps, sorted_timeline, turns_of, write_rttm
from tests.export.page_modules import NODE, PageModules
from tests.inference.oracle import FunctionModel, Oracle, voice
from tests.inference.scripted import HOP, RATE, ScriptedDetector, ScriptedEmbedder, splitter, talk

pytestmark = pytest.mark.skipif(not NODE, reason="Node is missing")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageModules]:
    modules = PageModules(tmp_path_factory.mktemp("page"))
    yield modules
    modules.close()


def random(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def noise(seed: int, *shape: int) -> Any:
    return (0.1 * random(seed).standard_normal(shape)).astype(np.float32)


def masks(seed: int, length: int = 400) -> Any:
    """Runs of random lengths."""
    lengths = random(seed).integers(1, 30, length)
    return np.repeat(np.arange(length) % 2 == 0, lengths)[:length]


def test_numbers(page: PageModules) -> None:
    halves = np.arange(-6, 7) / 2
    assert page("a[0].map(m.numbers.round)", halves) == [round(each) for each in halves]
    for first, last, count in itertools.product((0, 3), (10, 41), (1, 2, 4, 7)):
        edges = np.linspace(first, last, count + 1).round().astype(int).tolist()
        assert page("m.numbers.evenEdges(...a)", first, last, count) == edges
    values = random(0).standard_normal(37)
    for share in (0.0, 0.1, 0.5, 0.95, 1.0):
        assert page("m.numbers.quantile(...a)", values, share) == pytest.approx(np.quantile(values, share))
    matrix = random(1).standard_normal((6, 6))
    matrix[0, 0] = 0.0
    assert page("m.numbers.logDeterminant(a[0])", matrix) == pytest.approx(np.linalg.slogdet(matrix)[1])
    assert page("m.numbers.solve(...a)", matrix, values[:6]) == pytest.approx(
        np.linalg.solve(matrix, values[:6]).tolist()
    )
    for count, taken in ((3, 3), (4, 2), (2, 0)):
        expected = [list(each) for each in itertools.permutations(range(count), taken)]
        assert page("m.numbers.permutations(...a)", count, taken) == expected
    mask = masks(0)
    assert page("m.numbers.listRuns(a[0])", mask) == [list(each) for each in regions.list_runs(mask)]


@pytest.mark.parametrize("length", [256, 706, 353])
def test_spectra_of_any_length(page: PageModules, length: int) -> None:
    samples = noise(length, length)
    window = page("Float32Array.from(m.spectra.hannWindow(a[0]))", length)
    np.testing.assert_array_equal(window, hann_window(length))
    power = page(
        "(() => { const p = new Float64Array(a[1]); new m.spectra.Fourier(a[0].length).power(a[0], p);"
        "return p; })()",
        samples,
        length // 2 + 1,
    )
    expected = magnitudes(samples, length, length, np.ones(length, np.float32))[:, 0]
    np.testing.assert_allclose(np.sqrt(power), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("origin", "target"), [(16000, 8000), (8000, 16000), (44100, 8000), (8000, 8000)])
def test_resampling_is_that_of_soxr_within_the_band(page: PageModules, origin: int, target: int) -> None:
    times = np.arange(origin // 2 + 3) / origin
    tones = [np.sin(2 * np.pi * hertz * times) for hertz in (200, 1900, 3400)]
    sound: Samples = (0.1 * sum(tones) * np.hanning(len(times))).astype(np.float32)
    found = page("m.resampling.resample(...a)", sound, origin, target)
    error = (
        1e-4 if origin % target and target % origin else 3e-6
    )  # soxr's own where rates have no simple ratio
    np.testing.assert_allclose(found, resample(sound, origin, target), atol=error)
    above = (0.1 * np.sin(2 * np.pi * 4300 * times) * np.hanning(len(times))).astype(np.float32)
    if target < origin:
        assert np.abs(page("m.resampling.resample(...a)", above, origin, target)).max() < 1e-6


@pytest.mark.parametrize("kind", ["mono", "stereo", "inverted", "offset", "silent", "short"])
def test_the_mixture_its_gain_and_its_levels(page: PageModules, kind: str) -> None:
    samples = 0.01 * noise(0, 1 if kind == "mono" else 2, 800 if kind == "short" else 9001)
    if kind == "inverted":
        samples[1] = -0.5 * samples[0]
    samples[0] += 0.3 * (kind == "offset")
    samples *= kind != "silent"
    recording = ArrayRecording(samples, RATE)
    gain = recording.working_gain("each" if kind == "inverted" else "mix")  # which does not warn
    found = page("m.recordings.prepare(...a)", list(samples), RATE)
    np.testing.assert_allclose(
        found["mixture"], np.concatenate(list(recording.blocks("mix")), -1)[0], atol=1e-8
    )
    np.testing.assert_allclose(found["levels"], recording.frame_levels, rtol=1e-4, atol=1e-16)
    assert found["frameSeconds"] == recording.level_frame / RATE
    if kind != "inverted":  # the gain is then that of the channels, not of their mix
        assert found["gain"] == gain


def test_segments(page: PageModules) -> None:
    for seed in range(4):
        loud = np.where(np.repeat(masks(seed, 12), 40), 1.0, 1e-5).astype(np.float32) * (seed != 3)
        silences = segments.find_silences(loud, 0.05)
        assert page("m.segments.findSilences(...a)", loud, 0.05) == [list(each) for each in silences]
    for length, longest, silences_of in itertools.product(
        (1, 97, 1000), (10, 97), ([], [(0, 30)], [(20, 50), (60, 97)])
    ):
        given = [each for each in silences_of if each[1] <= length]
        planned = segments.plan_segments(length, longest, longest // 4, given)
        assert page("m.segments.planSegments(...a)", length, longest, longest // 4, given) == [
            asdict(each) for each in planned
        ]


def test_levels(page: PageModules) -> None:
    for seed, count in itertools.product(range(3), (1, 2, 3)):
        sources = noise(seed, count, 4000) * np.repeat(masks(seed, count * 20).reshape(count, 20), 200, 1)
        sources[0] *= 0.3 if seed else 0.0
        mixture = (np.linspace(-2, 2, count)[:, None] * sources).sum(0).astype(np.float32)
        expected = levels.LevelStatistics(count, 1, RATE)
        expected.add(sources[:, None], mixture[None])
        found = page(
            "(() => { const s = new m.levels.LevelStatistics(a[0].length, a[2]); s.add(a[0], a[1]);"
            "return [s.gains(), s.onsets()]; })()",
            list(sources),
            mixture,
            RATE,
        )
        np.testing.assert_allclose(found[0], expected.gains()[:, 0], rtol=1e-6, atol=1e-9)
        assert found[1] == expected.onsets()
        energy = np.square(noise(seed, count, 90))
        assert page("m.levels.activeFrames(a[0])", list(energy)) == levels.active_frames(energy).tolist()


@pytest.mark.parametrize("rate", [8000, 16000, 22050])
def test_cepstra_and_profiles(page: PageModules, rate: int) -> None:
    sources = np.stack(
        [voice(of, 2.0, seed, rate).numpy() for seed, of in enumerate([(300.0, 900.0), (500.0, 1500.0)])]
    )
    expected = speakers.CepstralFrames(sources, rate)
    threshold = expected.speech_threshold(expected.loud_level())
    spoken = [frames[on] for frames, on in zip(expected.cepstra, expected.speech(threshold), strict=True)]
    profile = speakers.SpeakerProfile()
    profile.add(spoken[0])
    found = page(
        "(() => { const f = new m.speakers.CepstralFrames(a[0], a[1]), l = f.loudLevel();"
        "const t = f.speechThreshold(l), p = new m.speakers.SpeakerProfile(); p.add(f.spoken(t)[0]);"
        "return [l, t, f.spoken(t), p.spread()]; })()",
        list(sources),
        rate,
    )
    np.testing.assert_allclose(found[:2], [expected.loud_level(), threshold], rtol=1e-4)
    for one, other in zip(found[2], spoken, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=2e-3)
    assert found[3] == pytest.approx(profile.spread(), rel=1e-3)


def test_orders_of_stretches_and_onsets(page: PageModules) -> None:
    for seed, count in itertools.product(range(3), (2, 3)):
        means = random(100 + seed).standard_normal((count, 12))
        frames = [
            [
                (means[i] + 0.3 * random(seed * 97 + k * 7 + i).standard_normal((20 * (k != 2), 12))).astype(
                    np.float32
                )
                for i in random(k).permutation(count)
            ]
            for k in range(5)
        ]
        profiles = [[speakers.SpeakerProfile() for _ in each] for each in frames]
        for profile, rows in zip(itertools.chain(*profiles), itertools.chain(*frames), strict=True):
            profile.add(rows)
        found = page(
            "m.speakers.orderStretches(a[0].map((s) => s.map((rows) => {"
            "const p = new m.speakers.SpeakerProfile(); p.add(rows); return p; })))",
            frames,
        )
        assert found == [list(order) for order in speakers.order_stretches(profiles)]
        scores = random(seed).standard_normal((count - 1, count))
        best = speakers.two_best_orders(scores)
        assert [each["order"] for each in page("m.speakers.twoBestOrders(a[0])", scores)] == [
            list(order) for _, order in best
        ]
        onsets, places = (
            random(seed).integers(0, 25, count).tolist(),
            random(seed).permutation(count).tolist(),
        )
        expected = list(speakers.in_order_of_onset(onsets, places))
        assert page("m.speakers.inOrderOfOnset(...a)", onsets, places) == expected


def probabilities(seed: int, length: int = 600) -> Any:
    walk = np.cumsum(random(seed).standard_normal((length, 3)), 0) * 0.5
    exact = np.exp(walk - walk.max(1, keepdims=True))
    return (exact / exact.sum(1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("seed", range(4))
def test_regions_and_their_pieces(page: PageModules, seed: int) -> None:
    scores, config = probabilities(seed), GateConfig()
    config = GateConfig(regions.RegionConfig(speech_on=0.6, overlap_on=0.7)) if seed % 2 else config
    expected = regions.find_regions(scores, 0.01, config.regions)
    found = page("m.regions.findRegions(...a)", scores.tolist(), 0.01, asdict(config.regions))
    for one, other in (
        ("speech", expected.speech),
        ("overlap", expected.overlap),
        ("wideSpeech", expected.wide_speech),
        ("wideOverlap", expected.wide_overlap),
        ("solo", expected.solo),
    ):
        assert found[one] == other.astype(int).tolist(), one
    assert found["expectedOverlap"] == pytest.approx(expected.expected_overlap, rel=1e-5)
    assert found["overlapShare"] == pytest.approx(expected.overlap_share)
    pieces = regions.cut_pieces(expected, scores, config.regions)
    assert page("m.regions.cutPieces(...a)", found, scores.tolist(), asdict(config.regions)) == listed(pieces)
    steps, windows = regions.cut_steps(expected, pieces, config.regions)
    cut = page("m.regions.cutSteps(...a)", found, pieces, asdict(config.regions))
    assert (cut["steps"], cut["windows"]) == (listed(steps), listed(windows))


def listed(pairs: Any) -> Any:
    return [list(each) for each in pairs]


def of_voices(seed: int, count: int, spread: float, num_voices: int = 3) -> Any:
    centres = random(seed).standard_normal((num_voices, 16))
    rows = centres[random(seed + 50).integers(0, num_voices, count)]
    rows = rows + spread * random(seed + 90).standard_normal((count, 16))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize(("seed", "spread"), [*itertools.product(range(4), [0.3, 0.8, 2.0])])
def test_clustering(page: PageModules, seed: int, spread: float) -> None:
    embeddings = of_voices(seed, (1, 9, 40, 60)[seed], spread)
    seconds = random(seed).uniform(0.3, 2.4, len(embeddings))
    groups = clustering.join_by_average(embeddings, 0.5)
    assert page("m.clustering.joinByAverage(...a)", list(embeddings), 0.5) == groups.tolist()
    for num_speakers in ((1, 8), (1, 2), (4, 6), (1, 1)):
        _, expected = clustering.cluster(
            embeddings, seconds, num_speakers=num_speakers, threshold=0.53, eager_threshold=0.9
        )
        found = page("m.clustering.cluster(...a)", list(embeddings), seconds, num_speakers, 0.53, 0.9)
        np.testing.assert_allclose(np.stack(found), expected, atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_assignment(page: PageModules, seed: int) -> None:
    draw = random(seed)
    cuts = np.sort(draw.choice(600, 24, replace=False)).tolist()
    edges = list(zip(cuts[::2], cuts[1::2], strict=True))
    similarities = draw.standard_normal((len(edges), 3)) * 0.3
    expected = assignment.decode_voices(similarities, edges, 0.01)
    assert page("m.assignment.decodeVoices(...a)", similarities, edges, 0.01) == expected.tolist()
    shape = 2 + seed % 2, 1 + seed
    given = draw.standard_normal(shape), draw.uniform(0, 0.5, shape[1]), draw.standard_normal(shape)
    assert page("m.assignment.assignOutputs(...a)", *given) == assignment.assign_outputs(*given).tolist()


@pytest.mark.parametrize("seed", range(5))
def test_stretches(page: PageModules, seed: int) -> None:
    draw, overlap = random(seed), masks(seed) & masks(seed + 10)
    who = np.repeat(draw.integers(-1, 3, 40), 10)
    who[overlap] = -1
    found = page("m.stretches.passedThrough(...a)", who, overlap, 12)
    assert found == listed(stretches.passed_through(who, overlap, 12))
    for longest, most in ((60, 2), (200, 3)):
        expected = stretches.plan_pieces(overlap, who, context=20, longest=longest, most_voices=most)
        pieces = page(
            "m.stretches.planPieces(a[0], a[1], {context: 20, longest: a[2], mostVoices: a[3]})",
            overlap.astype(int),
            who,
            longest,
            most,
        )
        assert [(p["first"], p["last"], p["overlaps"]) for p in pieces] == [
            (p.first, p.last, listed(p.overlaps)) for p in expected
        ]
    speech, confidence = masks(seed + 20) | overlap, draw.uniform(0, 1, 400).astype(np.float32)
    voices = [(run, sorted({0, 1 + index % 2})) for index, run in enumerate(regions.list_runs(overlap))]
    turns = stretches.find_turns(speech, overlap, who, voices, confidence, ("0", "1", "2"), 0.01)
    found = page(
        "m.stretches.findTurns(...a)",
        speech.astype(int),
        overlap.astype(int),
        who,
        [{"frames": run, "voices": several} for run, several in voices],
        confidence,
        ["0", "1", "2"],
        0.01,
    )
    compare_turns(found, turns, confidence=2e-3)


def compare_turns(found: Any, expected: Any, confidence: float = 1e-3) -> None:
    assert [(each["start"], each["end"], each["speaker"]) for each in found] == [
        (pytest.approx(turn.start), pytest.approx(turn.end), turn.speaker) for turn in expected
    ]
    for each, turn in zip(found, expected, strict=True):
        assert (each["confidence"] is None) == (turn.confidence is None)
        assert each["confidence"] is None or each["confidence"] == pytest.approx(
            turn.confidence, abs=confidence
        )


def test_timelines(page: PageModules) -> None:
    for seed in range(4):
        draw = random(seed)
        starts = draw.uniform(0, 20, 12).round(2)
        turns = [
            Turn(
                float(start),
                float(start + draw.uniform(0.1, 3)),
                f"speaker{draw.integers(1, 4)}",
                float(draw.uniform()),
            )
            for start in starts
        ]
        given = [asdict(turn) for turn in turns]
        compare_turns(
            page("m.timelines.sortedTimeline(...a)", given, 0.2), sorted_timeline(turns, join_seconds=0.2)
        )
        assert page("m.timelines.listOverlaps(a[0])", given) == listed(list_overlaps(tuple(turns)))
        assert page("m.timelines.toRttm(...a)", given, "a  b\tc") == write_rttm(tuple(turns), "a  b\tc")
        active = np.stack([masks(seed), masks(seed + 5)])
        compare_turns(
            page("m.timelines.turnsOf(...a)", active.astype(int), ["a", "b"], 0.02),
            turns_of(active, ["a", "b"], 0.02),
        )


def facts(model: FunctionModel, gate: bool, segment_seconds: float) -> dict[str, Any]:
    """What the export says of the networks."""
    listeners = {
        "detector": {"sample_rate": RATE, "hop_seconds": HOP / RATE},
        "embedder": {"sample_rate": RATE},
    }
    return {
        "sample_rate": RATE,
        "names": [str(source) for source in range(model.output_sources)],
        "segment_seconds": segment_seconds,
        "overlap": 0.25,
        "gate": asdict(GateConfig()),
        "num_speakers": speaker_range(None),
        **(listeners if gate else {"detector": None, "embedder": None}),
    }


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
    detector, embedder = ScriptedDetector(), ScriptedEmbedder()
    listeners: dict[str, Any] = {"detector": detector, "embedder": embedder} if gate else {}
    separator = Separator(
        models[0],
        device="cpu",
        gate="auto" if gate else "never",
        segment_seconds=segment_seconds,
        num_speakers=num_speakers,
        **listeners,
    )
    expected = separator.separate(mixture, rate)
    rows = TorchEmbedder(embedder, CPU)  # type: ignore[arg-type]
    networks = {
        "separate": lambda samples: list(np.atleast_2d(models[1](torch.tensor(samples)[None])[0].numpy())),
        "detect": lambda samples: TorchDetector(detector, CPU).detect(samples.copy()),  # type: ignore[arg-type]
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
        found = regions.Regions(speech, overlap, speech, overlap, HOP / RATE, expected)
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


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("form", ["WAV", "WAVEX"])
def test_wav_files_are_read_exactly(page: PageModules, tmp_path: Path, subtype: str, form: str) -> None:
    samples = np.concatenate([noise(0, 2, 70_000), [[1, -1], [-1, 0.999]]], 1).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", samples.T, 11025, subtype, format=form)
    content, blob = (tmp_path / "a.wav").read_bytes(), "new Blob([Buffer.from(a[0], 'base64')])"
    header = page(f"m.wav.readHeader({blob})", base64.b64encode(content).decode())
    assert [header[key] for key in ("rate", "numChannels", "length", "missing")] == [11025, 2, 70_002, 0]
    found = page(
        f"(async () => m.wav.readSamples({blob}, await m.wav.readHeader({blob})))()",
        base64.b64encode(content).decode(),
    )
    np.testing.assert_allclose(np.stack(found), read_audio(tmp_path / "a.wav")[0], atol=1e-9)
    assert page(f"m.wav.readHeader({blob})", base64.b64encode(content[:-1000]).decode())["missing"] == 1000


def test_wav_files_are_written(page: PageModules, tmp_path: Path) -> None:
    samples = np.append(noise(0, 900), np.array([1.0, -1.0, 1.5], np.float32))
    written = page("new Uint8Array(m.wav.encodeWav(a[0], 8000, 0.5).buffer)", samples)
    (tmp_path / "a.wav").write_bytes(bytes(written))
    found, rate = read_audio(tmp_path / "a.wav")
    np.testing.assert_allclose(found[0], 0.5 * samples, atol=0.51 / 32768)
    assert rate == 8000
    for content in (b"", b"RIFF", b"RIFF    WAVEfmt ", b"fLaC" + bytes(40), b"RIFF\0\0\0\0WAVEdata\0\0\0\0"):
        assert page("m.wav.readHeader(new Blob([Uint8Array.from(a[0])]))", list(content)) is None
