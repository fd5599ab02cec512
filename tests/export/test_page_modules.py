"""Every module of the page against its counterpart in Python: generated cases."""

from __future__ import annotations

import base64
import itertools
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from polsess.audio import Samples, hann_window, magnitudes, read_audio, resample
from polsess.diarization import assignment, clustering, regions, stretches
from polsess.diarization.settings import GateConfig
from polsess.inference import levels, profiles, segments
from polsess.inference.recordings import ArrayRecording
from polsess.timelines import Turn, list_overlaps, sorted_timeline, turns_of, write_rttm
from tests.export.page_modules import NODE, PageModules, compare_turns, masks, noise, random
from tests.inference.oracle import voice
from tests.inference.scripted import RATE

pytestmark = pytest.mark.skipif(not NODE, reason="Node is missing")


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
    expected = profiles.CepstralFrames(sources, rate)
    threshold = expected.speech_threshold(expected.loud_level())
    spoken = [frames[on] for frames, on in zip(expected.cepstra, expected.speech(threshold), strict=True)]
    profile = profiles.SpeakerProfile()
    profile.add(spoken[0])
    found = page(
        "(() => { const f = new m.profiles.CepstralFrames(a[0], a[1]), l = f.loudLevel();"
        "const t = f.speechThreshold(l), p = new m.profiles.SpeakerProfile(); p.add(f.spoken(t)[0]);"
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
        stretches = [[profiles.SpeakerProfile() for _ in each] for each in frames]
        for profile, rows in zip(itertools.chain(*stretches), itertools.chain(*frames), strict=True):
            profile.add(rows)
        found = page(
            "m.profiles.orderStretches(a[0].map((s) => s.map((rows) => {"
            "const p = new m.profiles.SpeakerProfile(); p.add(rows); return p; })))",
            frames,
        )
        assert found == [list(order) for order in profiles.order_stretches(stretches)]
        scores = random(seed).standard_normal((count - 1, count))
        best = profiles.two_best_orders(scores)
        assert [each["order"] for each in page("m.profiles.twoBestOrders(a[0])", scores)] == [
            list(order) for _, order in best
        ]
        onsets, places = (
            random(seed).integers(0, 25, count).tolist(),
            random(seed).permutation(count).tolist(),
        )
        expected = list(profiles.in_order_of_onset(onsets, places))
        assert page("m.profiles.inOrderOfOnset(...a)", onsets, places) == expected


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
        ("unsure", expected.unsure),
        ("solo", expected.solo),
    ):
        assert found[one] == other.astype(int).tolist(), one
    assert found["expectedOverlap"] == pytest.approx(expected.expected_overlap, rel=1e-5)
    assert found["overlapShare"] == pytest.approx(expected.overlap_share)
    assert found["sureOverlap"] == pytest.approx(expected.sure_overlap)
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
    groups = clustering.join_by_average(embeddings, (0.7, 0.5))
    found = page("m.clustering.joinByAverage(...a)", list(embeddings), (0.7, 0.5))
    assert found == [each.tolist() for each in groups]
    pauses = random(seed).uniform(0, 0.2, len(seconds) - 1)
    several = random(seed).uniform(0, 0.1, len(seconds))
    pieces = clustering.Pieces(embeddings, seconds, pauses, several)
    given = {"embeddings": list(embeddings), "seconds": seconds, "pauses": pauses, "several": several}
    for num_speakers, share in itertools.product(((1, 8), (1, 2), (4, 6), (1, 1)), (0.0, 0.1)):
        _, expected = clustering.find_voices(
            pieces, num_speakers=num_speakers, sure_overlap=share, same_voice=1.0, same_voice_asked=0.9
        )
        found = page("m.clustering.findVoices(...a)", given, num_speakers, share, 1.0, 0.9)
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


@pytest.mark.parametrize(("seed", "voices"), [(0, 1), (1, 2), (2, 3), (3, 3)])
def test_steps_that_are_not_heard(page: PageModules, seed: int, voices: int) -> None:
    draw, begins = random(seed), np.arange(60)
    steps = listed(
        zip(begins + (begins > 9) + (begins > 10), begins + 1 + (begins > 9) + (begins > 10), strict=True)
    )
    similarities = 0.8 * draw.standard_normal((8, voices)).repeat(8, 0)[:60] + 0.05 * draw.standard_normal(
        (60, voices)
    )
    heard: list[int] = []

    def compare(places: list[int]) -> Any:
        heard.extend(places)
        return similarities[places]

    expected = assignment.compare_steps([(first, last) for first, last in steps], voices, compare)
    assert len(heard) < 50
    found = page(
        "m.assignment.compareSteps(a[0], a[1], (places) => places.map((i) => a[2][i]))",
        steps,
        voices,
        similarities,
    )
    np.testing.assert_allclose(found, expected, atol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_stretches(page: PageModules, seed: int) -> None:
    draw, overlap = random(seed), masks(seed) & masks(seed + 10)
    who = np.repeat(draw.integers(-1, 3, 40), 10)
    who[overlap] = -1
    given = who, masks(seed + 30), masks(seed + 40) & masks(seed + 50)
    found = page("m.stretches.findChanges(...a, 12)", who, *(mask.astype(int) for mask in given[1:]))
    assert found == stretches.find_changes(*given, 12).astype(int).tolist()
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
    separated = [
        stretches.StretchEnergies(run, (0, 1 + index % 2), draw.uniform(0, 1, (2, run[1] - run[0])) ** 8)
        for index, run in enumerate(regions.list_runs(overlap))
    ]
    several = overlap & masks(seed + 60)
    turns = stretches.find_turns(speech, several, who, separated, confidence, ("0", "1", "2"), 0.01)
    found = page(
        "m.stretches.findTurns(...a)",
        speech.astype(int),
        several.astype(int),
        who,
        [asdict(each) for each in separated],
        confidence,
        ["0", "1", "2"],
        0.01,
    )
    compare_turns(found, turns, confidence=2e-3)


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
