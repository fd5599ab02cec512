"""The separator: length, rate, level and order are right whatever the recording, in memory and from disk."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from polsess.audio import AudioError, AudioFormat, read_audio, resample, write_audio
from polsess.checkpoints import CheckpointError, save_model
from polsess.inference import SeparationError, Separator, long_form, pick_device
from polsess.models import create_model
from tests.inference.oracle import FunctionModel, Oracle, identity, voice

LOW, HIGH = (500.0, 1100.0, 2400.0), (700.0, 1600.0, 3000.0)


def cpu(model: FunctionModel, **options: object) -> Separator:
    return Separator(model, device="cpu", **{"gate": "never", **options})  # type: ignore[arg-type]


@settings(max_examples=40, deadline=None)
@given(
    samples=st.integers(3, 3000),
    rate=st.sampled_from([1000, 8000, 11025, 16000, 44100, 48000]),
    num_sources=st.integers(1, 3),
    channels=st.integers(1, 3),
    mode=st.sampled_from(["mix", "each"]),
    segment=st.sampled_from([None, 0.01, 0.05]),
)
def test_the_output_is_as_long_as_the_input(
    samples: int, rate: int, num_sources: int, channels: int, mode: str, segment: float | None
) -> None:
    sound = 0.1 * torch.randn(channels, samples, generator=torch.Generator().manual_seed(samples))
    separator = cpu(identity(num_sources), channels=mode, segment_seconds=segment)
    result = separator.separate(sound, rate)
    expected = (num_sources, samples) if mode == "mix" else (num_sources, channels, samples)
    assert result.sources.shape == expected
    assert result.sources.dtype == torch.float32
    assert result.sample_rate == rate
    assert result.sources.isfinite().all()


@settings(max_examples=60, deadline=None)
@given(
    samples=st.integers(2, 20000),
    segment=st.floats(0.001, 3.0),
    overlap=st.floats(0, 0.5),
    batch_size=st.integers(1, 5),
    level=st.sampled_from([1e-6, 0.1, 3.0, 1e5]),
)
def test_an_identity_is_an_identity(
    samples: int, segment: float, overlap: float, batch_size: int, level: float
) -> None:
    segment = max(segment, samples / 8000 / 50)
    sound = level * torch.randn(2, samples, generator=torch.Generator().manual_seed(samples))
    sound -= sound.mean(-1, keepdim=True)  # an offset is no sound and is removed
    separator = cpu(
        identity(), segment_seconds=segment, overlap=overlap, batch_size=batch_size, channels="each"
    )
    result = separator.separate(sound, 8000)
    torch.testing.assert_close(result.sources[0], sound, rtol=1e-4, atol=1e-5 * level)


def test_another_rate_and_back() -> None:
    speech = resample(voice(LOW, 2.0, 0)[None], 8000, 44100)
    result = cpu(identity(), segment_seconds=0.7).separate(speech, 44100)
    error = (result.sources - speech).square().sum() / speech.square().sum()
    assert error < 1e-5


@pytest.mark.parametrize("gains", [(1.0, 1.0), (20.0, 0.05), (-3.0, 0.2)])
def test_levels_are_those_of_the_mixture(gains: tuple[float, float]) -> None:
    references = torch.stack([voice(LOW, 6.0, 1), 0.3 * voice(HIGH, 6.0, 2)])
    model = Oracle(references, gains, shuffle=False)
    result = cpu(model, segment_seconds=2.0).separate(references.sum(0), 8000)
    torch.testing.assert_close(result.sources, references, rtol=0.02, atol=2e-4)


def test_random_orders_from_segment_to_segment_are_undone() -> None:
    pause = torch.zeros(2, 5 * 8000)
    turns = [torch.stack([voice(LOW, 4.0, 10 + i), voice(HIGH, 4.0, 20 + i)]) for i in range(3)]
    references = torch.cat([turns[0], pause, turns[1], pause, turns[2]], 1)
    result = cpu(Oracle(references), segment_seconds=1.5).separate(references.sum(0), 8000)
    errors = [(result.sources - each).square().sum() for each in (references, references.flip(0))]
    assert min(errors) < 1e-4 * references.square().sum()


def test_silence_stays_silence_without_the_network() -> None:
    model = identity(2)
    result = cpu(model, segment_seconds=0.5).separate(torch.zeros(12000), 16000)
    assert not result.sources.any()
    assert not model.calls
    sound = torch.cat([torch.randn(8000), torch.zeros(80000)])
    cpu(model, segment_seconds=0.5).separate(sound, 8000)
    assert len(model.calls) <= 4


def test_what_the_network_adds_to_silence_is_not_heard() -> None:
    noisy = FunctionModel(lambda mixture: torch.ones(len(mixture), 2, mixture.shape[-1]))
    assert not cpu(noisy).separate(torch.zeros(4000), 8000).sources.any()


def test_segments_are_equal_and_batched() -> None:
    model = identity()
    cpu(model, segment_seconds=1.0, overlap=0.25, batch_size=4).separate(torch.randn(50_000), 8000)
    assert {shape[1] for shape in model.calls} == {model.calls[0][1]}
    assert model.calls[0][0] == 4
    model = identity()
    cpu(model, segment_seconds=None).separate(torch.randn(50_000), 8000)
    assert model.calls == [(1, 50_000)]


def test_a_quiet_recording_reaches_the_network_at_a_usual_level() -> None:
    heard: list[float] = []

    def listen(mixture: Tensor) -> Tensor:
        heard.append(float(mixture.square().mean().sqrt()))
        return mixture.unsqueeze(1)

    for level in (1e-5, 0.1, 1e4):
        cpu(FunctionModel(listen, 1)).separate(level * torch.randn(8000), 8000)
    assert max(heard) < 2 * min(heard)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_model_that_returns_no_numbers_is_an_error_and_no_file(tmp_path: Path, bad: float) -> None:
    broken = FunctionModel(lambda mixture: mixture.unsqueeze(1).repeat(1, 2, 1) * bad)
    write_audio(tmp_path / "a.wav", 0.1 * torch.randn(8000), 8000)
    with pytest.raises(SeparationError, match=r"a\.wav: the model returned NaN or infinity .* at 0\.0 s"):
        cpu(broken).separate_file(tmp_path / "a.wav", [tmp_path / "1.wav", tmp_path / "2.wav"])
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


@pytest.mark.parametrize(
    ("audio", "rate", "cause"),
    [
        (torch.zeros(0), 8000, "expected \\[T\\]"),
        (torch.zeros(1, 2, 3), 8000, "expected \\[T\\]"),
        (torch.zeros(10, dtype=torch.int16), 8000, "expected floats"),
        (torch.full((10,), float("nan")), 8000, "NaN or infinity"),
        (torch.zeros(10), None, "sample_rate: expected"),
        (torch.zeros(10), 0, "sample_rate: expected"),
        ("a.wav", 8000, "a file knows its own"),
        (torch.zeros(500, 2), 8000, r"at most 64 channels, got \[500, 2\]; give audio\.T"),
        (torch.zeros(65, 500), 8000, "at most 64 channels"),
        (torch.zeros(10), 16, "sample_rate: expected"),
        (torch.zeros(10), True, "sample_rate: expected"),
        (torch.zeros(10), 8000.5, "sample_rate: expected"),
    ],
)
def test_bad_input(audio: Tensor | str, rate: float | None, cause: str) -> None:
    with pytest.raises(ValueError, match=cause):
        cpu(identity()).separate(audio, rate)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("segment_seconds", 0.0),
        ("segment_seconds", -1.0),
        ("overlap", 0.6),
        ("overlap", -0.1),
        ("channels", "left"),
        ("batch_size", 0),
        ("device", "toaster"),
        ("device", "meta"),
    ],
)
def test_bad_options(option: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{option}: "):
        Separator(identity(), **{"device": "cpu", option: value})  # type: ignore[arg-type]


def test_numpy_arrays_and_one_sample_are_fine() -> None:
    assert cpu(identity(2)).separate(np.array([0.5]), 16000).sources.shape == (2, 1)
    model = create_model("blstm", preset="tiny")
    result = Separator(model, device="cpu").separate(0.1 * np.random.default_rng(0).random((3, 7)), 44100)
    assert result.sources.shape == (2, 7)


@pytest.mark.parametrize("mode", ["mix", "each"])
def test_from_disk_equals_in_memory(tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_form, "_SPOOL_BYTES", 5000)
    monkeypatch.setattr("polsess.inference.recordings._BLOCK_SECONDS", 0.3)
    monkeypatch.setattr("polsess.inference.whole.BLOCK_SAMPLES", 700)
    write_audio(tmp_path / "a.wav", 0.1 * torch.randn(2, 50_001), 22050, bits="32f")
    model = create_model("blstm", preset="tiny")
    separator = Separator(model, device="cpu", segment_seconds=0.5, channels=mode)
    targets = [tmp_path / "1.wav", tmp_path / "2.wav"]
    shares: list[float] = []
    done = separator.separate_file(
        tmp_path / "a.wav", targets, audio_format=AudioFormat("wav", "32f"), progress=shares.append
    )
    monkeypatch.undo()
    expected = separator.separate(tmp_path / "a.wav")
    written = torch.stack([read_audio(path)[0] for path in done.paths])
    torch.testing.assert_close(written.reshape_as(expected.sources), expected.sources, rtol=1e-4, atol=1e-6)
    assert (done.sample_rate, done.num_samples, done.peak_gain) == (22050, 50_001, 1.0)
    assert done.realtime_factor > 0
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_one_factor_for_all_speakers_against_clipping(tmp_path: Path) -> None:
    references = torch.stack([voice(LOW, 2.0, 1), voice(HIGH, 2.0, 2)])
    references *= 1.6 / references.abs().max()
    write_audio(tmp_path / "a.wav", references.sum(0), 8000, bits="32f")
    separator, targets = cpu(Oracle(references, shuffle=False)), [tmp_path / "1.wav", tmp_path / "2.wav"]
    done = separator.separate_file(tmp_path / "a.wav", targets)
    assert done.peak_gain == pytest.approx(1 / 1.6, rel=0.01)
    written = torch.cat([read_audio(path)[0] for path in targets])
    torch.testing.assert_close(written, references * done.peak_gain, rtol=0.02, atol=1e-3)
    with pytest.raises(ValueError, match="beyond full scale"):
        separator.separate_file(tmp_path / "a.wav", targets, clip_mode="error", overwrite=True)


def test_files_in_the_way(tmp_path: Path) -> None:
    source, target = tmp_path / "a.wav", tmp_path / "b.wav"
    write_audio(source, 0.1 * torch.randn(800), 8000)
    separator, before = cpu(identity()), source.read_bytes()
    with pytest.raises(AudioError, match="is the input itself"):
        separator.separate_file(source, [source], overwrite=True)
    target.write_text("precious")
    with pytest.raises(AudioError, match="exists already"):
        separator.separate_file(source, [target])
    assert target.read_text() == "precious"
    separator.separate_file(source, [target], overwrite=True)
    assert target.read_bytes() == before
    with pytest.raises(ValueError, match="expected 1 paths, got 2"):
        separator.separate_file(source, [target, target])


def test_files_hold_what_their_names_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_audio("day.flac", 0.1 * torch.randn(800), 8000)
    model = create_model("blstm", preset="tiny")
    separator = Separator(model, device="cpu", gate="never")
    done = separator.separate_file("day.flac", ["a.flac", "b.flac"])
    assert done.paths == (Path("a.flac"), Path("b.flac"))
    assert [path.read_bytes()[:4] for path in done.paths] == [b"fLaC", b"fLaC"]


@pytest.mark.parametrize(
    ("names", "audio_format", "cause"),
    [
        (["1.flac", "2.wav"], None, r"2\.wav: would hold flac; end the name in \.flac"),
        (
            ["1.aiff", "2.aiff"],
            None,
            r"1\.aiff: format: expected a name that ends in \.wav",
        ),
        (["1", "2.FLAC"], AudioFormat(), r"2\.FLAC: would hold wav"),
    ],
)
def test_names_that_do_not_say_what_files_hold(
    tmp_path: Path, names: list[str], audio_format: AudioFormat | None, cause: str
) -> None:
    write_audio(tmp_path / "a.wav", 0.1 * torch.randn(800), 8000)
    model = create_model("blstm", preset="tiny")
    separator = Separator(model, device="cpu", gate="never")
    with pytest.raises(AudioError, match=cause):
        separator.separate_file(
            tmp_path / "a.wav", [tmp_path / name for name in names], audio_format=audio_format
        )
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


def test_a_damaged_file_is_found_before_the_work(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.flac", 0.1 * torch.randn(80_000), 8000)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    (tmp_path / "a.flac").write_bytes(content)
    model = identity()
    with pytest.raises(AudioError):
        cpu(model).separate_file(tmp_path / "a.flac", [tmp_path / "b.wav"])
    assert not model.calls
    assert not (tmp_path / "b.wav").exists()


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    def interrupted(_: Tensor) -> Tensor:
        raise KeyboardInterrupt

    write_audio(tmp_path / "a.wav", 0.1 * torch.randn(8000), 8000)
    with pytest.raises(KeyboardInterrupt):
        cpu(FunctionModel(interrupted, 1)).separate_file(tmp_path / "a.wav", [tmp_path / "out" / "b.wav"])
    assert not (tmp_path / "out").exists()


def test_a_result_saves_itself(tmp_path: Path) -> None:
    result = cpu(identity(2)).separate(0.1 * torch.randn(2, 800), 16000)
    paths = result.save(tmp_path, "rozmowa 🎤", container="flac", bits="24")
    assert [path.name for path in paths] == ["rozmowa 🎤_speaker1.flac", "rozmowa 🎤_speaker2.flac"]
    assert torch.allclose(read_audio(paths[0])[0][0], result.sources[0], atol=2**-23)
    with pytest.raises(AudioError, match="exists already"):
        result.save(tmp_path, "rozmowa 🎤", container="flac")
    each = cpu(identity(1), channels="each").separate(0.1 * torch.randn(2, 800), 16000)
    [path] = each.save(tmp_path / "new", pattern="{speaker}/{track}.{ext}")
    assert path == tmp_path / "new" / "speech" / "separated.wav"
    assert read_audio(path)[0].shape == (2, 800)
    assert each.realtime_factor == each.elapsed_seconds / 0.05


def test_models_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_model(create_model("blstm", preset="tiny"), tmp_path / "assets" / "models" / "default")
    monkeypatch.setattr("polsess.checkpoints.loading.package_files", lambda _: tmp_path)
    separator = Separator.from_pretrained(device="cpu", segment_seconds=1.0)
    assert separator.names == ("speaker1", "speaker2")
    assert Separator.from_pretrained(tmp_path / "assets" / "models" / "default").model.model_type == "blstm"
    monkeypatch.setattr("polsess.checkpoints.loading.package_files", lambda _: tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="holds no model of that name"):
        Separator.from_pretrained()
    with pytest.raises(CheckpointError):
        Separator.from_pretrained(tmp_path / "missing")
    assert pick_device("cpu").type == "cpu"


def test_a_channel_that_is_inverted_is_turned(tmp_path: Path) -> None:
    sound = 0.1 * torch.randn(20000)
    opposed = torch.stack([sound, -sound])
    write_audio(tmp_path / "talk.wav", opposed, 8000, bits="32f")
    for recording, rate in ((tmp_path / "talk.wav", None), (opposed, 8000)):
        with pytest.warns(UserWarning, match="its channels cancel each other when mixed"):
            sources = cpu(identity(1), segment_seconds=0.5).separate(recording, rate).sources
        torch.testing.assert_close(sources[0], sound, atol=1e-5, rtol=0)
    each = cpu(identity(1), channels="each").separate(tmp_path / "talk.wav").sources
    torch.testing.assert_close(each[0], opposed, atol=1e-5, rtol=0)


def test_an_offset_is_removed_and_a_constant_is_silence() -> None:
    model = identity()
    for constant in (0.1, 0.3, -0.7, 1e-3):
        assert not cpu(model).separate(torch.full((8000,), constant), 8000).sources.any()
        channels = torch.tensor([[constant], [0.2], [-constant / 3]]).expand(3, 8000)
        assert not cpu(model).separate(channels, 8000).sources.any()
    assert not model.calls
    speech = voice(LOW, 2.0, 1)
    both = torch.stack([speech + 0.5, 0.3 * speech])
    each = cpu(identity(), channels="each").separate(both, 8000).sources[0]
    torch.testing.assert_close(each, both - torch.tensor([[0.5], [0.0]]), atol=2e-3, rtol=1e-3)


def test_lists_and_open_files(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.flac" for name in "ab"]
    for path in paths:
        write_audio(path, 0.1 * torch.randn(900), 8000)
    separator = cpu(identity(2))
    results = separator.separate([*paths, io.BytesIO(paths[0].read_bytes())])
    torch.testing.assert_close(results[2].sources, results[0].sources)
    for result in results[:2]:
        result.save(tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        f"{name}_speaker{i}.wav" for name in "ab" for i in (1, 2)
    ]
    with paths[1].open("rb") as file:
        torch.testing.assert_close(separator(file).sources, results[1].sources)


def test_a_result_shows_itself_and_is_a_sequence() -> None:
    result = cpu(identity(2))(0.1 * torch.randn(800), 8000.0)
    assert len(result) == len(list(result)) == 2
    torch.testing.assert_close(result["speaker2"], result[1])
    assert repr(result) == "Separation(separated: speaker1, speaker2; 0.1 s at 8000 Hz)"
    assert result._repr_html_().count("<audio controls src=") == 2
    assert repr(cpu(identity(2))) == "Separator(function, 8000 Hz, cpu)"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_mode_type_and_defaults_are_the_separator_s_own_matter(dtype: torch.dtype) -> None:
    model = create_model("blstm", preset="tiny", dropout=0.5)
    separator, sound = Separator(model, device="cpu"), 0.1 * torch.randn(4000)
    expected = separator.separate(sound, 8000).sources
    model.train()
    torch.testing.assert_close(separator.separate(sound, 8000).sources, expected)
    assert model.training
    try:
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        result = separator.separate(sound, 8000).sources
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    torch.testing.assert_close(result, expected)
    halved = separator.model.to(dtype)
    torch.testing.assert_close(separator.separate(sound, 8000).sources, expected, atol=0.02, rtol=0.1)
    assert next(halved.parameters()).dtype == dtype


def test_too_little_memory_says_what_helps() -> None:
    def exhaust(_: Tensor) -> Tensor:
        return torch.empty(2**50)

    with pytest.raises(SeparationError, match=r"a piece of 0\.1 s does not fit .* \(--segment"):
        cpu(FunctionModel(exhaust)).separate(torch.randn(800), 8000)


def test_pieces_that_do_not_fit_together_go_in_smaller_batches() -> None:
    sizes: list[int] = []

    def crowded(mixture: Tensor) -> Tensor:
        sizes.append(len(mixture))
        return torch.empty(2**50) if len(mixture) > 2 else mixture.unsqueeze(1)

    sound = 0.1 * torch.randn(8000, generator=torch.Generator().manual_seed(0))
    separator = cpu(FunctionModel(crowded, 1), segment_seconds=0.1, overlap=0.0, batch_size=5)
    torch.testing.assert_close(separator.separate(sound, 8000).sources[0], sound)
    assert sizes == [5, 3, 2, 2, 1, 2, 2, 1]


@pytest.mark.parametrize("level", [0.0, 10**-3.5])
def test_a_long_silence_before_speech_does_not_enter_its_segment(level: float) -> None:
    references = torch.stack([voice(LOW, 20.0, 1), voice(HIGH, 20.0, 2)])
    references[:, : 14 * 8000] = 0.0
    silence = level * torch.randn(20 * 8000, generator=torch.Generator().manual_seed(0))

    def disturbed(mixture: Tensor) -> Tensor:  # like a norm over all of a piece, silence spoils the estimates
        quiet = mixture.unfold(-1, 400, 400).square().mean(-1) < 1e-6
        return exact(mixture) + quiet.float().mean() * mixture.std() * torch.randn(2, mixture.shape[-1])

    exact = Oracle(references + silence / 2)
    model = FunctionModel(disturbed, 2)
    result = cpu(model).separate(references.sum(0) + silence, 8000)
    speech = slice(14 * 8000, None)
    errors = [(result.sources - each)[:, speech].square().sum() for each in (references, references.flip(0))]
    assert min(errors) < 0.02 * references.square().sum()
    assert result.sources[:, : 13 * 8000].square().mean() <= 2 * level**2
