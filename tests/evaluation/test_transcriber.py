"""Recognisers as other programs, scripted so that what they print is known; and word errors of them."""

from __future__ import annotations

import json
import math
import os
import shlex
import shutil
import signal
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from polsess.audio import write_audio
from polsess.cli.main import app
from polsess.data import Split, create_corpus, parse_corpus_config
from polsess.data.transcripts import Segment, TranscriptError, find_text, plain_words, read_stm
from polsess.dependencies import is_installed
from polsess.evaluation import evaluate, read_evaluation
from polsess.evaluation.baselines import list_baselines
from polsess.evaluation.transcriber import Transcriber, TranscriberError, read_output
from polsess.evaluation.word_errors import count_word_errors, distinct_tracks
from polsess.interruption import Interrupted, stopped_by_signals
from polsess.schema import ConfigError
from polsess.tasks import Task
from polsess.timelines import Turn, activity, write_rttm
from tests.evaluation.corpora import open_folder

RATE = 8000
SOUND = 0.1 * np.sin(np.arange(RATE)).astype(np.float32)
TONES = {"low": 400, "high": 1600}
TURNS = (Turn(0.0, 2.0, "low"), Turn(1.5, 3.0, "high"), Turn(3.5, 4.0, "low"))
needs_meeteval = pytest.mark.skipif(not is_installed("meeteval"), reason="needs meeteval")

LISTENER = """
import json, sys, wave
with wave.open(sys.argv[1]) as file:
    assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16000, 1, 2)
    data = memoryview(file.readframes(file.getnframes())).cast("h")
for number in range(len(data) // 8000):  # half seconds
    block = data[8000 * number : 8000 * (number + 1)]
    crossings = sum(a < 0 <= b for a, b in zip(block, block[1:]))
    if max(block) > 500:
        word = "low" if crossings < 300 else "high"
        print(json.dumps({"word": word, "start": number / 2, "end": number / 2 + 0.5, "sure": 0.9}))
"""


def script(folder: Path, text: str) -> str:
    """The command of a recogniser of these lines of Python."""
    path = folder / "it's a recogniser.py"
    path.write_text(text)
    return f"{shlex.quote(sys.executable)} {shlex.quote(str(path))} {{wav}}"


def hear(folder: Path, text: str, limit: float = 20.0) -> tuple[Segment, ...]:
    return Transcriber(script(folder, text), limit).transcribe(SOUND, RATE, "anna")


def test_text_and_words_with_times(tmp_path: Path) -> None:
    (segment,) = hear(tmp_path, "print('Dzień dobry,\\n', 'Ala!')")
    assert (segment.speaker, segment.text, segment.has_times) == ("anna", "dzień dobry ala", False)
    line = {"word": "Don\N{RIGHT SINGLE QUOTATION MARK}t!", "start": 0.25, "end": 0.5, "score": None}
    words = hear(tmp_path, f"print({json.dumps(json.dumps(line))})")
    assert words == (Segment("anna", 0.25, 0.5, "don't"),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import sys; sys.exit('no\\x1b[31m model\\n')", "exit code 1: no[31m model"),
        ("import sys; sys.exit(3)", "exit code 3: no reason given"),
        ("import sys; sys.stdout.buffer.write(b'\\xff\\xfe')", "no text in UTF-8"),
        ("print('\\x00\\x01')", "the character '\\x00'"),
        ("print('?!', '---')", "prints no words: '?! ---'"),
        ('print(\'{"word": "a"\')', "no word of JSON: line 1"),
        ('print(\'{"word": "a", "start": 2}\')', "end: missing"),
        ('print(\'{"word": "a", "start": 2, "end": NaN}\')', "not a number of JSON"),
        ('print(\'{"word": "a", "start": 2, "end": 1}\')', "line 1: the word ends before it starts"),
        ('print(\'{"word": "a", "start": 200, "end": 500}\')', "the word ends at 500 s, the sound at 1 s"),
        ('print("loading"); print(\'{"word": "a", "start": 0, "end": 1}\')', "no word of JSON: line 1"),
        ('print(\'[{"word": "a", "start": 0, "end": 1}]\')', "line 1: expected"),
    ],
)
def test_failures_and_rubbish_are_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(TranscriberError) as caught:
        hear(tmp_path, text)
    assert message in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("text", ["import time; time.sleep(60)", "import os\nos.close(1)\nwhile True: pass"])
def test_one_that_hangs_is_ended(tmp_path: Path, text: str) -> None:
    with pytest.raises(TranscriberError, match="takes more than 1 s"):  # the test itself has a limit
        hear(tmp_path, text, limit=1.0)


def test_one_that_hangs_on_the_first_sounds_is_not_asked_again(tmp_path: Path) -> None:
    transcriber = Transcriber(script(tmp_path, "import time; time.sleep(60)"), 0.2)
    for number, told in enumerate(
        [r"0\.2 s$"] * 3 + [r"0\.2 s for the first 3 sounds; the others are not tried$"]
    ):
        with pytest.raises(TranscriberError, match=f"^takes more than {told}"):
            transcriber.transcribe(np.float32(0.1 + number / 10) * SOUND, RATE, "anna")


def test_one_that_starts_another_is_ended_with_it(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    inner = f"import time; time.sleep(4); open({str(mark)!r}, 'w')"
    text = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    with pytest.raises(TranscriberError, match="takes more than 1 s"):
        hear(tmp_path, text, limit=1.0)
    time.sleep(5)
    assert not mark.exists()


def test_endless_output_is_cut(tmp_path: Path) -> None:
    with pytest.raises(TranscriberError, match="prints more than 16 MB"):
        hear(tmp_path, "while True: print('a' * 100000)", limit=300.0)


def test_each_sound_is_heard_once_and_silence_never(tmp_path: Path) -> None:
    count = f"open({str(tmp_path / 'count')!r}, 'a').write('x'); print('word')"
    transcriber = Transcriber(script(tmp_path, count))
    for speaker in ("a", "b"):
        assert transcriber.transcribe(SOUND, RATE, speaker)[0].speaker == speaker
    assert transcriber.transcribe(0 * SOUND, RATE, "a") == ()
    assert (tmp_path / "count").read_text() == "x"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("recognise", r"expected a program and \{wav\}"),
        ("{wav}", r"expected a program and \{wav\}"),
        ("no-such-program-1 {wav}", "no program 'no-such-program-1' is found"),
        ("recognise '{wav}", "cannot be split"),
    ],
)
def test_commands_that_cannot_be_run(command: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Transcriber(command)


@pytest.mark.parametrize("limit", [0.0, -1.0, math.nan])
def test_a_limit_that_is_none_is_refused(tmp_path: Path, limit: float) -> None:
    with pytest.raises(ConfigError, match="expected a limit of more than 0 s"):
        hear(tmp_path, "print('good')", limit=limit)


def test_there_may_be_no_limit(tmp_path: Path) -> None:
    assert [segment.text for segment in hear(tmp_path, "print('good')", limit=math.inf)] == ["good"]


def test_a_signal_ends_a_recogniser_in_another_thread(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    text = f"import time\nopen({str(mark)!r}, 'w').close()\ntime.sleep(60)"
    jobs: list[Future[tuple[Segment, ...]]] = []

    def interrupt() -> None:
        with stopped_by_signals(), ThreadPoolExecutor(1) as pool:
            jobs.append(pool.submit(hear, tmp_path, text, 600.0))
            while not mark.exists() and not jobs[0].done():
                time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)

    with pytest.raises(Interrupted):
        interrupt()
    assert isinstance(jobs[0].exception(), Interrupted)


def test_no_shell_reads_the_command(tmp_path: Path) -> None:
    code = "import sys; print(' '.join(sys.argv[1:]))"
    command = f"{shlex.quote(sys.executable)} -c {shlex.quote(code)} $(touch {tmp_path}/x) ; {{wav}}"
    assert "touch" in Transcriber(command).transcribe(SOUND, RATE, "")[0].text
    assert not list(tmp_path.iterdir())


def test_transcripts_in_files(tmp_path: Path) -> None:
    path = tmp_path / "mix.stm"
    path.write_text(
        ";; by hand\n\nmix 1 jan 2.0 3.5 <o,f0,male> Good day\nmix 1 anna 0 2.5 Hello, there\n"
        "mix 1 anna 4 5\n"
    )
    assert read_stm(path, {"mix"}, 5.0) == (
        Segment("anna", 0.0, 2.5, "Hello, there"),
        Segment("jan", 2.0, 3.5, "Good day"),
        Segment("anna", 4.0, 5.0, ""),
    )
    for line, message in (
        ("mix 1 anna 0", "got 4 fields"),
        ("other 1 anna 0 1 a", "is of the recording 'other', expected 'mix'"),
        ("mix 1 anna 2 1 a", "expected times that rise up to 5.00 s, got 2 and 1"),
        ("mix 1 anna 2 9 a", "expected times that rise up to 5.00 s"),
        ("mix 1 anna x 1 a", "expected seconds from 0 up, got 'x'"),
    ):
        path.write_text(f"mix 1 jan 0 1 a\n{line}\n")
        with pytest.raises(TranscriptError) as caught:
            read_stm(path, {"mix"}, 5.0)
        assert str(caught.value).startswith(f"{path}, line 2: ")
        assert message in str(caught.value)
    path.write_bytes(b"\xff")
    with pytest.raises(TranscriptError, match="no text in UTF-8"):
        read_stm(path, {"mix"}, 5.0)


def test_transcripts_beside_clips(tmp_path: Path) -> None:
    (tmp_path / "19-198.trans.txt").write_text("19-198-0000 GOOD DAY\n19-198-0001 NORTHANGER ABBEY\n")
    (tmp_path / "19_198_000000_000001.normalized.txt").write_text("Good evening.\n")
    (tmp_path / "anna.txt").write_text("Dobry wieczór!\n", encoding="utf-8")
    names = ("19-198-0001.flac", "19-198-0002.flac", "19_198_000000_000001.wav", "anna.wav", "jan.wav")
    texts = [find_text(tmp_path / name) for name in names]
    assert texts == ["NORTHANGER ABBEY", "", "Good evening.", "Dobry wieczór!", ""]
    (tmp_path / "jan.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(TranscriptError, match=r"jan\.txt: is no text in UTF-8"):
        find_text(tmp_path / "jan.wav")


def test_words_are_compared_without_case_and_punctuation() -> None:
    assert plain_words("  Zażółć, GĘŚLĄ -- jaźń? ") == "zażółć gęślą jaźń"
    assert plain_words("It's 5 o'clock...") == "it's 5 o'clock"
    assert read_output(b"  \n ") == ()


def test_tracks_that_are_alike_are_one_stream() -> None:
    tracks = np.stack([SOUND, 2 * SOUND, SOUND])
    assert (distinct_tracks(tracks) == tracks[:2]).all()


@needs_meeteval
def test_word_errors_counted_by_hand() -> None:
    truth = (Segment("a", 0, 2, "One, two three"), Segment("b", 10, 12, "four five"))
    heard = (
        Segment("y", 0.0, 0.5, "one"),
        Segment("y", 0.5, 1.0, "too"),  # substituted
        Segment("x", 10.0, 10.5, "four"),
        Segment("x", 30.0, 30.5, "five"),  # too late for the collar: one deletion and one insertion
        Segment("z", 5.0, 5.5, "six"),  # a track too many
    )
    errors = count_word_errors(heard, truth)
    assert errors.rates == pytest.approx({"cp_wer": 3 / 5, "tcp_wer": 5 / 5})
    without_times = tuple(Segment(each.speaker, math.nan, math.nan, each.text) for each in heard)
    errors = count_word_errors(without_times, truth)
    assert errors.rates["cp_wer"] == pytest.approx(3 / 5)
    assert errors.reasons == {"tcp_wer": "the transcriber gives no times of words"}
    assert count_word_errors((), truth).rates == {"cp_wer": 1.0, "tcp_wer": 1.0}
    assert count_word_errors(heard, ()).reasons["cp_wer"] == "nothing is said"


def write_tones(folder: Path, num_items: int) -> Path:
    """Conversations of two voices that are tones, with a transcript of the second item only."""
    talking = activity(TURNS, tuple(TONES), 4 * RATE, 1 / RATE)
    waves = np.sin(2 * np.pi * np.outer(list(TONES.values()), np.arange(4 * RATE)) / RATE)
    for index in range(num_items):
        voices = torch.from_numpy(0.2 / (1 + index) * waves * talking).float()
        item = folder / f"item{index}"
        for name, samples in zip(("mix", "s1", "s2"), (voices.sum(0), *voices), strict=True):
            write_audio(item / f"{name}.wav", samples[None], RATE)
        (item / "mix.rttm").write_text(write_rttm(TURNS, "mix"))
    (folder / "item1" / "mix.stm").write_text(
        "mix 1 low 0 2 Low low low low!\nmix 1 high 1.5 3 high high high\n"
    )
    return folder


@needs_meeteval
def test_rows_of_conversations_with_word_errors(tmp_path: Path) -> None:
    corpus = open_folder(write_tones(tmp_path / "data", 2))
    transcriber = Transcriber(script(tmp_path, LISTENER))
    rows = {
        each.name: evaluate(
            each, corpus, metrics=["si_snr"], transcriber=transcriber, folder=tmp_path / each.name
        )
        for each in list_baselines(RATE, conversations=True)
    }
    references = rows["references"]
    assert references.columns[-2:] == ("cp_wer", "tcp_wer")
    # Without a transcript the references are right by definition; the transcript lacks one "low".
    assert references.values("cp_wer") == references.values("tcp_wer") == pytest.approx([0, 100 / 7])
    # One stream of 4 low or high words before, within and after the overlap: all of "high" is missed.
    assert rows["mixture"].values("cp_wer")[0] > 30
    assert [row.metadata["true_words"] for row in references.rows] == ["references", "transcript"]
    again = read_evaluation(tmp_path / "references")
    assert again.summary("cp_wer").mean == pytest.approx(50 / 7)
    assert "transcriber" in json.loads((tmp_path / "references" / "summary.json").read_text())["settings"]


COUNTER = """
import json, sys, wave
with wave.open(sys.argv[1]) as file:
    data = memoryview(file.readframes(file.getnframes())).cast("h")
blocks = [data[start : start + 320] for start in range(0, len(data), 320)]  # 20 ms
loud = [max(block) > 300 for block in blocks]
begin = None
for number, is_loud in enumerate([*loud, False]):
    if is_loud and begin is None:
        begin = number
    elif not is_loud and begin is not None:
        block = data[320 * begin : 320 * number]
        crossings = sum(a < 0 <= b for a, b in zip(block, block[1:])) / (len(block) / 16000)
        word = "low" if crossings < 1000 else "high"
        for _ in range(round((number - begin) / 50)):  # one a second
            print(json.dumps({"word": word, "start": begin / 50, "end": number / 50}))
        begin = None
"""


@needs_meeteval
def test_word_errors_of_conversations_made_of_clips_with_words(tmp_path: Path) -> None:
    lines = ["path,speaker,split,text"]
    for word, frequency in TONES.items():
        for seconds in (1, 2):
            wave = 0.2 * np.sin(2 * np.pi * frequency * np.arange(seconds * RATE) / RATE)
            write_audio(tmp_path / f"{word}{seconds}.wav", torch.from_numpy(wave[None]).float(), RATE)
            lines.append(f"{word}{seconds}.wav,{word},test,{' '.join([word] * seconds)}")
    (tmp_path / "metadata.csv").write_text("\n".join(lines))
    values = {
        "conversation_seconds": 12.0,
        "evaluation_examples": 3,
        "overlap_range": (0.2, 0.2),
        "words": True,
    }
    config = {"corpus_type": "conversations", "metadata": str(tmp_path / "metadata.csv"), **values}
    corpus = create_corpus(parse_corpus_config(config), Split.TEST, Task.SB)
    transcriber = Transcriber(script(tmp_path, COUNTER), 60)
    rates = {
        each.name: evaluate(each, corpus, metrics=["si_snr"], transcriber=transcriber)
        for each in list_baselines(RATE, conversations=True)
    }
    assert {row.metadata["true_words"] for each in rates.values() for row in each.rows} == {"transcript"}
    assert rates["references"].values("cp_wer") == rates["references"].values("tcp_wer") == [0.0] * 3
    assert min(rates["mixture"].values("tcp_wer")) > 20


@needs_meeteval
def test_a_recogniser_that_fails_on_one_recording_leaves_the_others(tmp_path: Path) -> None:
    corpus = open_folder(write_tones(tmp_path / "data", 2))
    quiet = 'if max(data) < 5000: raise SystemExit("too quiet")'
    (system,) = (each for each in list_baselines(RATE, conversations=False) if each.name == "references")
    transcriber = Transcriber(script(tmp_path, LISTENER.replace("for number", f"{quiet}\nfor number", 1)))
    evaluation = evaluate(system, corpus, metrics=["si_snr"], transcriber=transcriber)
    assert evaluation.values("cp_wer")[0] == 0
    assert evaluation.rows[1].reason("cp_wer") == "transcriber: track 1: exit code 1: too quiet"
    assert evaluation.num_failed == 0


@needs_meeteval
@pytest.mark.parametrize("text", ["", "import time; time.sleep(60)", "print(chr(7))"])
def test_a_recogniser_that_gives_nothing_is_a_reason_in_every_row(tmp_path: Path, text: str) -> None:
    corpus = open_folder(write_tones(tmp_path / "data", 2))
    system = list_baselines(RATE, conversations=False)[1]
    transcriber = Transcriber(script(tmp_path, text), 0.5)
    evaluation = evaluate(system, corpus, metrics=["si_snr"], transcriber=transcriber)
    assert evaluation.num_failed == 0
    assert evaluation.summary("cp_wer").num_failures == 2
    assert evaluation.summary("si_snr").count == 2
    assert evaluation.rows[0].reason("cp_wer").startswith("transcriber: ")


@needs_meeteval
@pytest.mark.parametrize(
    ("text", "code", "told"),
    [
        ("import sys; sys.exit('no model')", 1, "references, s (reference 1: exit code 1: no model); mend"),
        ("", 1, "prints nothing for any"),
        ("import time; time.sleep(60)", 1, "takes more than 0.5 s"),
        (
            LISTENER.replace("for number", "if max(data) < 5000: raise SystemExit('quiet')\nfor number", 1),
            0,
            "",
        ),
    ],
)
def test_the_command_fails_where_nothing_is_heard_at_all(
    tmp_path: Path, text: str, code: int, told: str
) -> None:
    data = write_tones(tmp_path / "data", 2)
    words = ["evaluate", "--estimates", data, "--system", "s", "-d", data, "--metrics", "si_snr"]
    for item in data.iterdir():
        shutil.copytree(item, item / "s")
    limit = 0.5 if "sleep" in text else 60
    options = ["--transcriber", script(tmp_path, text), "--transcriber-limit", limit, "-o", tmp_path / "out"]
    result = CliRunner().invoke(app, [str(word) for word in (*words, *options)])
    assert result.exit_code == code, result.stderr
    assert told in result.stderr
    assert "transcriber: failed" not in result.stderr or code
    assert all((tmp_path / "out" / "data" / name / "scores.csv").is_file() for name in ("s", "mixture"))


@needs_meeteval
@pytest.mark.skipif(not is_installed("pocketsphinx"), reason="needs pocketsphinx")
def test_pocketsphinx_on_a_voice_of_the_package() -> None:
    from polsess.data.mini import MIXTURES

    example = Path(__file__).parents[2] / "examples" / "transcribe.py"
    corpus = open_folder(MIXTURES / "16k", sample_rate=16_000)
    command = f"{shlex.quote(sys.executable)} {shlex.quote(str(example))} {{wav}}"
    mixture, references = list_baselines(16_000, conversations=False)
    transcriber = Transcriber(command)
    rates = {
        each.name: evaluate(each, corpus, metrics=["si_snr"], transcriber=transcriber).summary("cp_wer").mean
        for each in (mixture, references)
    }
    assert rates["references"] == 0
    assert rates["mixture"] > 50
