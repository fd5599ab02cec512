"""`polsess separate`: exit codes, names, and that nothing is lost, overwritten or left half done."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import soundfile
import torch
from typer.testing import CliRunner, Result

from polsess.audio import read_audio, write_audio
from polsess.checkpoints import save_model
from polsess.cli.main import app, main
from polsess.inference import Separator
from polsess.models import create_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    torch.manual_seed(0)
    save_model(create_model("blstm", preset="tiny"), folder)
    return folder


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POLSESS_ALLOCATOR", "default")


def sound(path: str, rate: int = 8000, channels: int = 1, seconds: float = 0.2) -> Path:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_audio(path, 0.1 * torch.randn(channels, round(rate * seconds)), rate)
    return Path(path)


def run(model: Path, *words: str) -> Result:
    always = ["-m", str(model), "--device", "cpu", "--gate", "never"]
    return CliRunner().invoke(app, ["separate", *words, *always])


def outputs(folder: str = "separated") -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


def test_one_file(model: Path) -> None:
    sound("talk.wav", rate=44100, channels=2)
    result = run(model, "talk.wav")
    assert result.exit_code == 0
    assert result.stdout.split() == ["separated/talk_speaker1.wav", "separated/talk_speaker2.wav"]
    assert "talk.wav: its 2 channels were mixed into one (--channels each keeps them)." in result.stderr
    assert "1 recording, 0.2 s of sound" in result.stderr
    assert "real-time factor" in result.stderr
    info = soundfile.info("separated/talk_speaker1.wav")
    assert (info.frames, info.samplerate, info.channels, info.subtype) == (8820, 44100, 1, "PCM_16")


def test_quiet_says_nothing(model: Path) -> None:
    sound("talk.wav")
    assert run(model, "talk.wav", "-q").stderr == ""


def test_folders_keep_their_sub_folders_and_names_do_not_collide(model: Path) -> None:
    for name in ("in/a.wav", "in/day 1/żółw 🐢.flac", "in/a.flac", "other/A.wav", "in/.hidden.wav"):
        sound(name)
    Path("in/notes.txt").write_text("not a sound")
    result = run(model, "in", "other", "in/a.wav", "--format", "flac", "-o", "in/out")
    assert result.exit_code == 0, result.stderr
    names = ["A_3", "a", "a_2", "day 1/żółw 🐢"]
    assert outputs("in/out") == sorted(f"{name}_speaker{i}.flac" for name in names for i in (1, 2))
    again = run(model, "in", "-o", "in/out", "--format", "flac")
    assert again.exit_code == 1, "outputs inside the input folder are not inputs, and are not overwritten"
    assert "3 inputs failed, 0 done" in again.stderr
    assert "exists already" in again.stderr


def test_names_that_are_not_utf8_are_opened_as_the_bytes_that_they_are(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = sound("talk.wav").read_bytes()
    try:
        Path(os.fsdecode(b"in/\xb9")).mkdir(parents=True)
        Path(os.fsdecode(b"in/\xb9/\xbf\xf3\xb3w.wav")).write_bytes(content)
    except OSError:
        pytest.skip("this file system has UTF-8 names only")
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stdout)
    monkeypatch.setattr(sys, "argv", ["polsess", "separate", "in", "-q", "-m", str(model)])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    sounds = [name for name in outputs() if name.endswith(".wav")]
    assert [os.fsencode(name) for name in sounds] == [
        b"\xb9/\xbf\xf3\xb3w_speaker%d.wav" % number for number in (1, 2)
    ]


def test_bad_inputs_do_not_stop_the_good_ones(model: Path) -> None:
    sound("good.wav")
    Path("text.wav").write_text("Hello")
    Path("empty").mkdir()
    assert run(model, "text.wav", "good.wav", "-o", "first").exit_code == 1
    result = run(model, "missing.wav", "text.wav", "empty", "good.wav")
    assert result.exit_code == 2, "an input that is not there is a wrong command line"
    assert outputs() == ["good_speaker1.wav", "good_speaker2.wav"]
    assert "3 inputs failed, 1 done" in result.stderr
    for line in ("missing.wav: there is no such file", "text.wav: is not a WAV", "empty: no sound files"):
        assert line in result.stderr


def test_overwriting_only_when_told_and_never_an_input(model: Path) -> None:
    original = sound("talk.wav").read_bytes()
    assert run(model, "talk.wav").exit_code == 0
    before = Path("separated/talk_speaker1.wav").read_bytes()
    assert run(model, "talk.wav").exit_code == 1
    assert Path("separated/talk_speaker1.wav").read_bytes() == before
    assert run(model, "talk.wav", "--overwrite").exit_code == 0
    sound("x_speaker1.wav")
    sound("x.wav")
    result = run(model, "x.wav", "x_speaker1.wav", "-o", ".", "--overwrite")
    assert result.exit_code == 1
    assert "one of the inputs" in result.stderr
    assert Path("talk.wav").read_bytes() == original


@pytest.mark.parametrize("pattern", ["{track}_{speaker}.{ext}", "{speaker}/{track}.{ext}"])
def test_outputs_in_the_input_folder_are_not_separated_again(model: Path, pattern: str) -> None:
    for name in ("in/a.wav", "in/sub/b.wav"):
        sound(name)
    words = ("in", "-o", "in", "--filename", pattern)
    assert run(model, *words).exit_code == 0
    assert len(outputs("in")) == 2 + 4
    again = run(model, *words, "--format", "flac")
    assert again.exit_code == 0, again.stderr
    assert "in: 4 files passed over, outputs of other inputs" in again.stderr
    assert len(outputs("in")) == 2 + 4 + 4
    assert run(model, *words, "--overwrite").exit_code == 0
    assert len(outputs("in")) == 2 + 4 + 4
    assert run(model, "in", "-o", "elsewhere", "-q").exit_code == 0
    assert len(outputs("elsewhere")) == 2 * 10, "elsewhere they are recordings like all others"


def test_existing_outputs_are_skipped_when_told(model: Path) -> None:
    for name in ("a", "b", "c"):
        sound(f"{name}.wav")
    assert run(model, "b.wav", "-o", ".").exit_code == 0
    before = Path("b_speaker1.wav").read_bytes()
    named = sorted(str(path) for path in Path().glob("*.wav"))
    assert named[2] == "b_speaker1.wav", "as a shell writes *.wav out"
    result = run(model, *named, "-o", ".", "--skip-existing")
    assert result.exit_code == 0, result.stderr
    assert "1 recording skipped, whose outputs exist" in result.stderr
    assert Path("b_speaker1.wav").read_bytes() == before
    assert outputs(".") == sorted([*named, *(f"{name}_speaker{i}.wav" for name in "ac" for i in (1, 2))])
    Path("c_speaker2.wav").unlink()
    assert "exists already" in run(model, "c.wav", "-o", ".", "--skip-existing").stderr
    assert run(model, "c.wav", "--skip-existing", "--overwrite").exit_code == 2


def test_a_line_of_json_per_recording(model: Path) -> None:
    sound("a.wav", rate=16000)
    Path("text.wav").write_text("Hello")
    lines = run(model, "a.wav", "text.wav", "--json", "--precision", "float32").stdout.splitlines()
    done, failed = map(json.loads, lines)
    assert done.pop("elapsed_seconds") > 0
    assert done == {
        "input": "a.wav",
        "outputs": {f"speaker{i}": f"separated/a_speaker{i}.wav" for i in (1, 2)},
        "mixed_channels": 1,
        "sample_rate": 16000,
        "model_rate": 8000,
        "bandwidth_hz": 4000,
        "seconds": 0.2,
        "precision": "float32",
        "gain": 1,
    }
    assert failed["input"] == "text.wav"
    assert failed["error"].startswith("text.wav: is not a WAV")
    (again,) = map(json.loads, run(model, "a.wav", "--json", "--skip-existing").stdout.splitlines())
    assert again == {"input": "a.wav", "outputs": done["outputs"], "skipped": True}


def test_sounds_through_pipes(model: Path) -> None:
    content = bytearray(sound("talk.wav", channels=2).read_bytes())
    content[40:44] = content[4:8] = b"\xff" * 4  # as ffmpeg writes WAV into a pipe
    words = ["separate", "-", "-m", str(model), "--device", "cpu", "--gate", "never"]
    result = CliRunner().invoke(app, [*words, "-o", "-"], input=bytes(content))
    assert result.exit_code == 0, result.stderr
    Path("both.wav").write_bytes(result.stdout_bytes)
    both, rate = read_audio("both.wav")
    assert rate == 8000
    assert run(model, "talk.wav").exit_code == 0
    alone = [read_audio(f"separated/talk_speaker{i}.wav")[0] for i in (1, 2)]
    assert torch.equal(both, torch.cat(alone)), "a channel per speaker"
    into = CliRunner().invoke(app, [*words, "-o", "into"], input=bytes(content))
    assert into.stdout.split() == ["into/stdin_speaker1.wav", "into/stdin_speaker2.wav"]
    for sent, cause in ((b"", "stdin: is empty"), (b"Hello", "stdin: is not a WAV")):
        failed = CliRunner().invoke(app, [*words, "-o", "-"], input=sent)
        assert (failed.exit_code, failed.stdout_bytes) == (1, b"")
        assert cause in failed.stderr
    for more in (["--json"], ["--overwrite"], ["--filename", "{track}{speaker}"], ["talk.wav"]):
        assert CliRunner().invoke(app, [*words, *more, "-o", "-"], input=bytes(content)).exit_code == 2


def test_a_full_disk_is_known_before_the_work(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Separator, "_render", lambda *_: pytest.fail("the network ran"))
    monkeypatch.setattr("polsess.system_errors.shutil.disk_usage", lambda _: SimpleNamespace(free=6000))
    sound("a.wav")
    result = run(model, "a.wav")
    assert result.exit_code == 1
    assert "no space left on the disk for 0.0 MB (0.0 MB free); make room" in result.stderr
    assert not Path("separated").exists()


def test_numbered_outputs_are_said_once(model: Path) -> None:
    for name in ("in/a.flac", "in/a.wav", "in/A.ogg", "in/b/a.wav"):
        sound(name)
    Path("in/note.txt").touch()
    result = run(model, "in")
    assert "Inputs of one name have numbered outputs: a_2 is in/a.flac, and 1 more." in result.stderr
    assert "in: 1 file of other kinds passed over: .txt 1." in result.stderr
    assert outputs() == sorted(
        f"{track}_speaker{n}.wav" for track in ("A", "a_2", "a_3", "b/a") for n in (1, 2)
    )
    assert "numbered" not in run(model, "in/b", "-o", "other").stderr


def test_the_band_of_the_model_is_said_once_per_rate(model: Path) -> None:
    for name in ("a", "b"):
        sound(f"in/{name}.wav", rate=44100)
    sound("in/c.wav", rate=8000)
    stderr = run(model, "in").stderr
    assert stderr.count("Hz") == 3
    assert "in/a.wav: is at 44100 Hz, the model at 8000 Hz: the outputs hold nothing above 4000 Hz." in stderr
    separation = Separator.from_pretrained(model, device="cpu", gate="never").separate("in/a.wav")
    assert separation.bandwidth_hz == 4000
    assert "44100 Hz, nothing above 4000 Hz" in repr(separation)


def test_the_band_of_the_model_is_not_said_where_all_passes_through(model: Path) -> None:
    write_audio("silence.wav", torch.zeros(1, 44100), 44100)
    always = ["separate", "silence.wav", "-m", str(model), "--device", "cpu"]
    assert "Hz" not in CliRunner().invoke(app, always).stderr
    assert "hold nothing above" in CliRunner().invoke(app, [*always, "--gate", "never", "--overwrite"]).stderr


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("a.wav", "--format", "aac"),
        ("a.wav", "--bits", "8"),
        ("a.wav", "--bits", "16", "--format", "mp3"),
        ("a.wav", "--bits", "32f", "--format", "flac"),
        ("a.wav", "--overlap", "0.7"),
        ("a.wav", "--segment", "-1"),
        ("a.wav", "--channels", "left"),
        ("a.wav", "--filename", "{track}.wav"),
        ("a.wav", "--filename", "../{track}{speaker}"),
        ("a.wav", "--clip-mode", "maybe"),
    ],
)
def test_a_wrong_command_line(model: Path, words: tuple[str, ...]) -> None:
    sound("a.wav")
    assert run(model, *words).exit_code == 2
    assert not Path("separated").exists()


def test_an_output_folder_that_is_none_is_found_out_first() -> None:
    taken = sound("a.wav").read_bytes()
    result = CliRunner().invoke(app, ["separate", "a.wav", "-m", "nowhere", "-o", "a.wav/deeper"])
    assert result.exit_code == 2
    assert result.stderr == f"error: {Path('a.wav').absolute()}: is a file; choose a folder.\n"
    assert Path("a.wav").read_bytes() == taken


def test_a_rate_that_the_outputs_cannot_have_costs_no_work(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Separator, "_render", lambda *_: pytest.fail("the network ran"))
    sound("a.wav", rate=7919)
    result = run(model, "a.wav", "--format", "mp3")
    assert result.exit_code == 1
    assert "MP3 has no rate of 7919 Hz" in result.stderr
    assert not Path("separated").exists()


def test_a_device_that_is_not_there(model: Path) -> None:
    sound("a.wav")
    result = CliRunner().invoke(app, ["separate", "a.wav", "-m", str(model), "--device", "toaster"])
    assert (result.exit_code, result.stderr[:14]) == (2, "error: device:")


def test_a_model_that_cannot_be_used(tmp_path: Path) -> None:
    sound("a.wav")
    for name in ("nowhere", "a.wav"):
        result = run(tmp_path / name, "a.wav")
        assert result.exit_code == 3
        assert result.stderr.startswith("error: ")
        assert result.stderr.count("\n") == 1


def test_options_reach_the_outputs(model: Path) -> None:
    sound("talk.wav", channels=2, seconds=1.0)
    words = ("--channels", "each", "--segment", "0.3", "--overlap", "0.5", "--bits", "32f")
    result = run(model, "talk.wav", *words, "--filename", "{speaker}/{track}.{ext}")
    assert result.exit_code == 0
    assert "mixed" not in result.stderr
    assert outputs() == ["speaker1/talk.wav", "speaker2/talk.wav"]
    written = torch.stack([read_audio(f"separated/speaker{i}/talk.wav")[0] for i in (1, 2)])
    expected = Separator.from_pretrained(
        model, device="cpu", channels="each", segment_seconds=0.3, overlap=0.5, gate="never"
    ).separate("talk.wav")
    torch.testing.assert_close(written, expected.sources)
    assert run(model, "talk.wav", "--segment", "0", "--format", "mp3").exit_code == 0
    assert outputs()[-1] == "talk_speaker2.mp3"


def test_enhancement_has_one_output_called_speech(tmp_path: Path) -> None:
    save_model(create_model("blstm", preset="tiny", num_sources=1), tmp_path / "one")
    sound("talk.wav")
    assert run(tmp_path / "one", "talk.wav", "--filename", "{track}_clean.{ext}").exit_code == 0
    assert run(tmp_path / "one", "talk.wav").exit_code == 0
    assert outputs() == ["talk_clean.wav", "talk_speech.wav"]


def test_pictures(model: Path) -> None:
    pytest.importorskip("matplotlib")
    sound("talk.wav")
    result = run(model, "talk.wav", "--spectrograms")
    assert result.stdout.split()[-1] == "separated/talk_speaker1.png"
    assert Path("separated/talk_speaker1.png").stat().st_size > 1000


def test_an_interrupt_ends_the_run_and_leaves_nothing(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    sound("talk.wav")
    monkeypatch.setattr("polsess.inference.file_outputs.write_sources", interrupt)
    assert run(model, "talk.wav").exit_code == 130
    assert outputs() == []


def test_who_speaks_when_is_written_beside_the_tracks(model: Path) -> None:
    pytest.importorskip("matplotlib")
    sound("in/day 1/talk.wav", seconds=1.0)
    words = ["separate", "in", "-m", str(model), "--device", "cpu", "--gate", "always"]
    result = CliRunner().invoke(app, [*words, "--timeline", "picture,elan", "--json"])
    assert result.exit_code == 0, result.stderr
    tracks = ["day 1/talk_speaker1.wav", "day 1/talk_speaker2.wav", "day 1/talk_timeline.png"]
    assert outputs() == ["day 1/talk.eaf", "day 1/talk.json", "day 1/talk.rttm", *tracks]
    assert "Who talks when: separated/day 1/talk.rttm." in result.stderr
    told = json.loads(result.stdout)
    assert [Path(path).name for path in told["timeline"]] == [
        "talk.rttm",
        "talk.json",
        "talk.eaf",
        "talk_timeline.png",
    ]
    assert json.loads(Path("separated/day 1/talk.json").read_text())["recording"] == "talk.wav"
    Path("separated/day 1/talk.rttm").write_text("mine")
    for path in Path("separated").rglob("*.wav"):
        path.unlink()
    again = CliRunner().invoke(app, words)
    assert again.exit_code == 1
    assert "talk.rttm: exists already" in again.stderr
    assert Path("separated/day 1/talk.rttm").read_text() == "mine"
    assert not list(Path("separated").rglob("*.wav"))
    assert CliRunner().invoke(app, [*words, "--overwrite"]).exit_code == 0


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--timeline", "praat"), "expected some of elan, audacity, picture, got 'praat'"),
        (("--timeline", "elan", "--gate", "never"), "nobody listens for speakers"),
        (("--timeline", "elan", "-o", "-"), "means nothing with -o -"),
    ],
)
def test_files_of_who_speaks_when_that_cannot_be(model: Path, words: tuple[str, ...], reason: str) -> None:
    sound("talk.wav")
    result = CliRunner().invoke(app, ["separate", "talk.wav", "-m", str(model), *words])
    assert result.exit_code == 2
    assert reason in result.stderr
