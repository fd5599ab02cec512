from __future__ import annotations

import csv
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
from typer.testing import CliRunner

from polsess.checkpoints import save_model
from polsess.cli.main import app
from polsess.cli.terminal import ExitCode
from polsess.evaluation import read_evaluation
from polsess.models import create_model
from tests.conftest import DATA, shared
from tests.evaluation.corpora import VOICES, write_estimates, write_items
from tests.evaluation.test_conversations import write_conversations

FAST = ["--metrics", "si_snr"]
BASELINES = ("mixture", "mixture-in-turns", "references")


def run(*words: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["evaluate", *map(str, words)])
    return result.exit_code, result.stdout, result.stderr


def test_published_estimates(tmp_path: Path) -> None:
    published = shared("audio/separation_samples/libri2mix_mossformer2")
    for name in ("item0", "item2", "item4"):
        shutil.copytree(published / name, tmp_path / "data" / name)
    folder = tmp_path / "data"
    code, table, _ = run("-d", folder, "--estimates", folder, "-o", tmp_path / "out", *FAST)
    assert code == ExitCode.DONE
    assert "| SI-SNRi [dB] | 22.44 |" in table
    assert "SI-SNRi below 0 dB: 0.0 % of the utterances, below 5 dB: 0.0 %" in table
    assert "mossformer2, task SB, 3 utterances at 8000 Hz" in table
    summary = json.loads((tmp_path / "out" / "data" / "mossformer2" / "summary.json").read_text())
    assert summary["scores"]["si_snri"]["mean"] == pytest.approx(22.4438, abs=0.01)


def test_models_on_folders(tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_model(create_model("blstm", preset="tiny"), tmp_path / name)
    conditions = ["--by", "si_snr_mixture", "--by", "weather"]
    words: list[str | Path] = [
        *conditions,
        "-m",
        tmp_path / "one",
        "-m",
        tmp_path / "two",
        "-o",
        tmp_path / "out",
        "--limit",
        "2",
        *FAST,
    ]
    code, table, notes = run("-d", write_items(tmp_path / "data"), *words)
    assert code == ExitCode.DONE
    assert "SI-SNRi [dB] by si_snr_mixture" in table
    assert "No utterance has a condition 'weather'." in notes
    assert "one, task SB, 2 utterances" in table
    assert (tmp_path / "out" / "data" / "two" / "scores.csv").is_file()


def test_conversations_with_baselines(tmp_path: Path) -> None:
    data = write_conversations(tmp_path / "data")
    model = save_model(create_model("blstm", preset="tiny"), tmp_path / "net")
    words: list[str | Path] = ["-d", data, "-m", model, "--metrics", "si_snr,conversation", "--jobs", "0"]
    code, table, _ = run(*words, "--baselines", "--collar", "0.25", "--by", "mood", "-o", tmp_path / "out")
    assert code == ExitCode.DONE
    assert "DER and its parts: overlaps scored, 0.25 s around true starts and ends left out." in table
    rows = {name: read_evaluation(tmp_path / "out" / "data" / name) for name in (*BASELINES, "net")}
    assert rows["mixture"].summary("wrong_track").mean == 100
    assert "separator" in rows["net"].origin  # conversations go in pieces, unless told otherwise
    code, _, _ = run(*words, "--one-pass", "-o", tmp_path / "whole")
    assert "separator" not in read_evaluation(tmp_path / "whole" / "data" / "net").origin
    folders = [str(tmp_path / "out" / "data" / name) for name in ("mixture", "references")]
    result = CliRunner().invoke(app, ["table", *folders, "--columns", "wrong_track,der"])
    assert result.stdout.splitlines()[3].count("**") == 4  # the references have the lowest errors


def test_all_variants_of_all_tasks_in_one_command(tmp_path: Path) -> None:
    (tmp_path / "mini.yaml").write_text(f"corpus:\n  corpus_type: polsess\n  root: {DATA / 'polsess_mini'}\n")
    words: list[str | Path] = ["-d", tmp_path / "mini.yaml", "--variants", "-o", tmp_path / "out", *FAST]
    for task, num_sources in (("EB", 1), ("SB", 2)):
        save_model(create_model("blstm", preset="tiny", num_sources=num_sources), tmp_path / task, task=task)
        words += ["-m", tmp_path / task]
    code, table, _ = run(*words)
    assert code == ExitCode.DONE
    rows = list(csv.DictReader((tmp_path / "out" / "variants.csv").read_text().splitlines()))
    expected = ["SER", "SR", "ER", "R", "C_in", "SE", "S", "E", "C_out", "all"]
    assert [(row["task"], row["variant"]) for row in rows] == [(t, v) for t in ("EB", "SB") for v in expected]
    counts = [int(row["n"]) for row in rows[:10]]
    assert sum(counts[:-1]) == counts[-1]
    assert f"| EB   | all     | EB     | {counts[-1]} |" in table
    evaluation = read_evaluation(tmp_path / "out" / "mini" / "SB")
    assert {"variant", "location", "si_snr_mixture"} <= set(evaluation.condition_keys())
    code, _, message = run("-d", write_items(tmp_path / "data"), "--variants", "-m", tmp_path / "SB", *FAST)
    assert code == ExitCode.USAGE
    assert "each_variant: unknown key of FolderConfig" in message


def test_exit_codes(tmp_path: Path) -> None:
    items = write_items(tmp_path / "data")
    perfect = shutil.copytree(items, tmp_path / "perfect", ignore=shutil.ignore_patterns("mix.wav"))
    assert run("-d", items)[0] == ExitCode.USAGE
    assert run("-d", items, "--estimates", items, "-m", "x")[0] == ExitCode.USAGE
    code, _, message = run("-d", items, "-m", tmp_path / "nowhere", *FAST)
    assert code == ExitCode.MODEL
    assert "nowhere" in message
    code, _, message = run("-d", tmp_path / "nowhere", "--estimates", perfect, *FAST)
    assert code == ExitCode.USAGE
    assert "no such file or folder" in message
    code, _, message = run("-d", items, "--estimates", items, "--metrics", "peqs")
    assert code == ExitCode.USAGE
    assert "Did you mean 'pesq'" in message
    code, _, message = run("-d", items, "--estimates", items, *FAST)
    assert code == ExitCode.USAGE
    assert "Files beside a mixture are references" in message
    samples, rate = soundfile.read(items / "item2" / "mix.wav")
    soundfile.write(items / "item2" / "mix.wav", math.nan * samples, rate, subtype="FLOAT")
    code, table, message = run("-d", items, "--estimates", perfect, "-o", tmp_path / "out", *FAST)
    assert code == ExitCode.SOME_FAILED
    assert "| SI-SNR [dB]  | 100.00 |" in table
    assert "1 utterance could not be evaluated" in message


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        ("-m net --system mossformer2", "--system: names a system of --estimates"),
        ("-m net --transcriber-limit 9", "--transcriber-limit: is the limit of --transcriber"),
        ("-m net --transcriber-limit -5", "--transcriber-limit"),
        ("-m net --one-pass --gate never", "--gate: --one-pass has no gate"),
        ("-m net --one-pass", "--one-pass: the data says not who talks when"),
        ("-m net --collar 0.25", "--collar: the data says not who talks when"),
        ("-m net --embedder none.onnx", "--embedder: the data says not who talks when"),
        ("--estimates perfect --collar 0.25", "--collar: the data says not who talks when"),
        ("--estimates perfect --one-pass", "--one-pass: is for models, not for estimates"),
        ("--estimates perfect --shifts 2", "--shifts: is for models, not for estimates"),
    ],
)
def test_options_that_would_be_ignored_are_refused(
    words: str, cause: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    items = write_items(tmp_path / "data")
    shutil.copytree(items, "perfect", ignore=shutil.ignore_patterns("mix.wav"))
    save_model(create_model("blstm", preset="tiny"), tmp_path / "net")
    code, _, message = run("-d", "data", *words.split(), *FAST)
    assert code == ExitCode.USAGE
    assert cause in message


def test_compare(tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_model(create_model("blstm", preset="tiny"), tmp_path / name)
        run("-d", VOICES, "-m", tmp_path / name, "-o", tmp_path / "out", *FAST)
    folders = [str(tmp_path / "out" / "8k" / name) for name in ("one", "two")]
    result = CliRunner().invoke(app, ["compare", *folders, "--score", "si_snr", "-o", str(tmp_path / "cmp")])
    assert result.exit_code == ExitCode.DONE
    assert (
        "one and two: no difference shown (too few independent speakers or utterances: 3)." in result.stdout
    )
    assert (tmp_path / "cmp" / "utterances.csv").is_file()
    result = CliRunner().invoke(app, ["compare", folders[0], folders[0]])
    assert result.exit_code == ExitCode.USAGE


def test_the_script_in_the_root_starts_processes_of_its_own(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "evaluate.py"
    estimates = write_estimates(VOICES, tmp_path / "estimates")
    words = ["-d", VOICES, "--estimates", estimates, "-o", tmp_path / "out", "--limit", "1", *FAST]
    words += ["--jobs", "1"]
    command = [sys.executable, str(script), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == ExitCode.DONE, done.stderr
    assert "task SB, 1 utterance" in done.stdout
