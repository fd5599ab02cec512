"""Commands killed at random moments, each followed by the same command: the result is the undisturbed one.

A process that has imported everything forks one child per command, which keeps a kill at about a second.
"""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch

from polsess import publication
from polsess.audio import write_audio
from polsess.checkpoints import save_model
from polsess.models import create_model

KILLS = 50
"""Of every command."""
SIGNALS = [signal.SIGKILL] * 4 + [signal.SIGTERM, signal.SIGHUP, signal.SIGINT]
_TIMES = {"minutes_since_start", "separation_seconds"}


@dataclass(frozen=True)
class Case:
    """A command that writes to a folder, and its result there."""

    words: Callable[[Path], list[str]]
    result: Callable[[Path], Any]
    prepare: Callable[[Path], object] = lambda _: None
    """Makes what the command finds in the folder."""
    refusals: tuple[tuple[str, str], ...] = ()
    """Texts with which the same command may refuse; the option, if any, with which it then ends well."""


def cases(material: Path) -> dict[str, Case]:
    """The commands, on material made here."""
    torch.manual_seed(0)
    tiny, other = material / "tiny", material / "other"
    for folder in (tiny, other):
        save_model(create_model("blstm", preset="tiny"), folder)
    for number in range(4):
        sources = 0.1 * torch.randn(2, 24_000)
        for name, samples in zip(("mix", "s1", "s2"), (sources.sum(0), *sources), strict=True):
            write_audio(material / "set" / f"item{number}" / f"{name}.wav", samples, 8000)
        write_audio(material / "talks" / f"talk{number}.wav", sources.sum(0), 8000)
    make_clips(material / "clips")
    (material / "tiny.yaml").write_text(json.dumps(experiment(material / "clips" / "metadata.csv")))
    make_ingredients(material / "raw")
    raw = [f"--{kind}={material / 'raw' / kind}" for kind in ("speech", "scenes", "events")]
    raw += ["--train=6", "--seconds=0.5", "--workers=2", "--name=soak"]
    scored = ["-m", str(tiny), "-d", str(material / "set"), "--metrics=si_snr,sdr", "--jobs=2"]
    scored += ["--save-estimates"]
    return {
        "train": Case(
            lambda out: ["train", "-c", str(material / "tiny.yaml"), "-o", str(out / "run")],
            trained,
            refusals=(("holds a run already", "--resume"),),
        ),
        "separate": Case(
            lambda out: ["separate", str(material / "talks"), "-m", str(tiny), "-o", str(out / "separated")],
            contents,
            refusals=(("exists already", ""),),
        ),
        "evaluate": Case(
            lambda out: ["evaluate", "-o", str(out), *scored],
            contents,
        ),
        "convert": Case(
            lambda out: ["convert", str(tiny), str(out / "model")],
            contents,
            prepare=lambda out: save_model(create_model("blstm", preset="tiny"), out / "model"),
        ),
        "generate": Case(
            lambda out: ["data", "generate", str(out / "corpus"), *raw],
            contents,
            refusals=(("this split is there already", ""),),
        ),
    }


def make_clips(folder: Path) -> None:
    lines = ["path,speaker,sex,split"]
    for split in ("train", "val", "test"):
        for speaker in range(4):
            write_audio(folder / f"{split}{speaker}.wav", 0.1 * torch.randn(8000), 8000)
            lines.append(f"{split}{speaker}.wav,{split}{speaker},F,{split}")
    (folder / "metadata.csv").write_text("\n".join(lines))


def make_ingredients(folder: Path) -> None:
    for number in range(6):
        write_audio(
            folder / f"speech/train/speaker{number % 3}/{number}.wav", 0.1 * torch.randn(12_000), 8000
        )
    for scene in ("office", "park"):
        write_audio(folder / f"scenes/train/{scene}/a.wav", 0.02 * torch.randn(24_000), 8000)
    for event in ("Typing", "Knock"):
        write_audio(folder / f"events/train/{event}/a.wav", 0.05 * torch.randn(8000), 8000)


def experiment(metadata: Path) -> dict[str, Any]:
    corpus = {
        "corpus_type": "speech_clips",
        "metadata": str(metadata),
        "segment_seconds": 0.25,
        "examples_per_epoch": 16,
        "evaluation_examples": 4,
    }
    training = {"max_epochs": 2, "optimizer": {"learning_rate": 0.01}, "checkpoint_minutes": 0}
    return {
        "model": {"model_type": "blstm", "preset": "tiny"},
        "data": {"corpus": corpus, "batch_size": 4},
        "training": training | {"device": "cpu"},
    }


def contents(folder: Path) -> dict[str, Any]:
    """Every file, hidden ones too, without the times in tables and summaries."""
    return {
        path.relative_to(folder).as_posix(): stable(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def stable(path: Path) -> Any:
    if path.name == "summary.json":
        return {key: value for key, value in json.loads(path.read_text()).items() if "seconds" not in key}
    if path.suffix == ".wav":
        return soundfile.read(path)[0].tolist()  # a header with floats holds the time
    return table(path) if path.suffix == ".csv" else path.read_bytes()


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{key: value for key, value in row.items() if key not in _TIMES} for row in rows]


def trained(folder: Path) -> Any:
    """Weights of the last and the best checkpoint, the table, and what lies about."""
    run = folder / "run"
    states = [
        {key: value.tolist() for key, value in torch.load(path, weights_only=True)["state_dict"].items()}
        for path in (run / "checkpoints" / "last.ckpt", run / "checkpoints" / "best.ckpt")
    ]
    about = {path.name for path in run.rglob("*") if path.is_file() and "tfevents" not in path.name}
    return states, table(run / "metrics.csv"), sorted(about)


def start(words: list[str], log: Path) -> int:
    """Fork a child that runs a command; returns its number."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.setsid()
        for number in set(SIGNALS) - {signal.SIGKILL}:
            signal.signal(number, signal.SIG_DFL)  # not ignored, even if this runs in the background
        publication._swept.clear()
        with log.open("w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        sys.argv = ["polsess", *words]
        from polsess.cli.main import main

        main()
    except SystemExit as ended:
        code = int(ended.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def run(words: list[str], log: Path) -> tuple[int, str]:
    _, status = os.waitpid(start(words, log), 0)
    return os.waitstatus_to_exitcode(status), " ".join(log.read_text().split())


def soak(folder: Path, kills: int, seed: int) -> dict[str, Counter[str]]:
    """Kill every command at random moments; raises if a result differs from the undisturbed one."""
    import lightning  # noqa: F401 - once for all children

    import polsess.cli.main
    import polsess.evaluation
    import polsess.inference.jobs
    import polsess.training.run  # noqa: F401

    torch.set_num_threads(1)
    source, found = random.Random(seed), {}
    for name, case in cases(folder / "material").items():
        found[name] = soak_case(name, case, folder / name, kills, source)
        print(name, dict(found[name]), flush=True)
    return found


def soak_case(name: str, case: Case, folder: Path, kills: int, source: random.Random) -> Counter[str]:
    counts, results, longest = Counter[str](), [], 0.0
    for undisturbed in ("first", "second"):  # the first time takes longer
        out = prepared(case, folder / undisturbed)
        begin = time.monotonic()
        code, text = run(case.words(out), out.with_suffix(".txt"))
        longest = time.monotonic() - begin
        assert code == 0, text
        results.append(case.result(out))
    expected = results[0]
    assert results[1] == expected
    for number in range(kills):
        out = prepared(case, folder / f"kill{number}")
        counts.update(kill_and_repeat(case, out, source.uniform(0.0, longest), source.choice(SIGNALS)))
        assert case.result(out) == expected, f"{name}, kill {number}"
    return counts


def prepared(case: Case, out: Path) -> Path:
    out.mkdir(parents=True)
    torch.manual_seed(1)
    case.prepare(out)
    return out


def kill_and_repeat(case: Case, out: Path, after: float, number: signal.Signals) -> list[str]:
    """Kill the command after some seconds and repeat it to its end; returns what happened."""
    log = out.with_suffix(".txt")
    child = start(case.words(out), log)
    time.sleep(after)
    os.kill(child, number)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    begun = (0, -signal.SIGKILL, 128 + number)
    assert code in begun or (code == -number and not log.read_text()), log.read_text()  # or not begun
    happened = ["ended before" if code == 0 else f"hit by {number.name}"]
    happened += ["left hidden files"] if any(out.rglob(".polsess-*")) else []
    assert number == signal.SIGKILL or happened[-1] != "left hidden files"
    code, text = run(case.words(out), log)
    for reason, option in case.refusals if code else ():
        if reason in text:
            happened.append("refused with its reason")
            code, text = run([*case.words(out), option], log) if option else (0, "")
            break
    assert code == 0, text
    return happened


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_the_same_command_after_a_kill_ends_as_if_undisturbed(tmp_path: Path) -> None:
    script = f"""
import sys
from pathlib import Path
from tests.cli.test_soak import soak
soak(Path(sys.argv[1]), {KILLS}, seed=0)
"""
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    print(done.stdout)
    assert done.returncode == 0, done.stderr
