"""Models with what was measured of them: in a folder, and on a server that answers as the hub does."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import torch
import yaml
from huggingface_hub import ModelCard, constants
from typer.testing import CliRunner

from polsess.checkpoints import CheckpointError, load_model, push_to_hub, read_checkpoint, save_model
from polsess.cli.main import app
from polsess.cli.terminal import ExitCode
from polsess.models import create_model
from tests.evaluation.corpora import write_items

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def run(*words: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result.exit_code, result.stderr


@pytest.fixture
def evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model, the mixtures that it was evaluated on, and the evaluation; the folder that holds them."""
    torch.manual_seed(0)
    monkeypatch.chdir(tmp_path)
    save_model(create_model("blstm", preset="tiny", num_shifts=1), "trained", task="SB")
    write_items(Path("my_set"))
    code, message = run("evaluate", "-m", "trained", "-d", "my_set", "--metrics", "si_snr", "--limit", "3")
    assert code == ExitCode.DONE, message
    return tmp_path


def test_the_card_states_what_was_measured_and_its_code_runs(evaluated: Path) -> None:
    code, message = run(
        "convert", "trained", "model", "--license", "cc-by-4.0", "--evaluation", "evaluation/my_set/trained"
    )
    assert (code, message) == (ExitCode.DONE, "Saved: model\n")
    summary = json.loads(Path("evaluation/my_set/trained/summary.json").read_text())
    score = summary["scores"]["si_snri"]
    card = Path("model/README.md").read_text()
    low, high = score["interval_95"]
    assert re.search(rf"SI-SNRi \[dB\] +\| +{score['mean']:.2f} \| +{low:.2f} to {high:.2f} \|", card)
    assert (
        f"folder my_set, split test, task SB: 3 utterances at 8000 Hz, list `{summary['list_hash']}`" in card
    )
    assert f"Caution: {score['caution']}." in card
    assert str(evaluated) not in card
    result = ModelCard(card).data.eval_results  # type: ignore[attr-defined]
    assert result is not None
    values = {each.metric_type: each.metric_value for each in result}
    assert values["si_snri"] == pytest.approx(score["mean"], abs=1e-4)

    card = card.replace("path/of/this/folder", "model")
    python, data, command = re.findall(r"```\w*\n(.*?)```", card, flags=re.DOTALL)
    shutil.copy("my_set/item0/mix.wav", "mixture.wav")
    exec(python, {})
    assert len(list(Path("speakers").glob("*.wav"))) == 2
    Path("data.yaml").write_text(data)
    words = shlex.split(command)
    assert words[0] == "polsess"
    code, message = run(*words[1:], "-o", "again")
    assert code == ExitCode.DONE, message
    again = json.loads(Path("again/data/model/summary.json").read_text())
    assert (again["list_hash"], again["scores"]["si_snri"]["mean"]) == (summary["list_hash"], score["mean"])


def test_results_stay_with_a_model_that_is_converted_again(evaluated: Path) -> None:
    run("convert", "trained", "model", "--evaluation", "evaluation/my_set/trained")
    run("convert", "model", "smaller", "--half")
    cards = [Path(name, "README.md").read_text() for name in ("model", "smaller")]
    tables = [[line for line in card.splitlines() if "SI-SNR" in line] for card in cards]
    assert tables[0] == tables[1] != []
    assert "rounded to 16 bits after" in cards[1]
    assert "rounded" not in cards[0]
    assert (evaluated / "smaller").is_dir()


def test_another_models_evaluation_is_refused(evaluated: Path) -> None:
    save_model(create_model("blstm", preset="tiny", num_shifts=2), evaluated / "other")
    code, message = run("convert", "other", "model", "--evaluation", "evaluation/my_set/trained")
    assert code == ExitCode.USAGE
    assert (
        "other: is another model now than evaluation/my_set/trained evaluated. Evaluate this one." in message
    )
    assert not Path("model").exists()
    assert run("convert", "trained", "model", "--evaluation", "nowhere")[0] == ExitCode.USAGE


class StandIn(BaseHTTPRequestHandler):
    """A hub in memory."""

    files: dict[str, bytes]
    private: bool | None

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _answer_json(self, content: Any, status: int = 200) -> None:
        self._answer(status, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def do_POST(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        body, place = self.rfile.read(size) if size else self._chunks(), urlsplit(self.path).path
        if self.headers.get("Authorization") != "Bearer hf_good":
            self._answer_json({"error": "Invalid credentials"}, 401)
        elif place == "/api/repos/create":
            asked = json.loads(body)
            type(self).private = asked.get("private") or asked.get("visibility") == "private"
            self._answer_json({"url": f"http://{self.headers['Host']}/anna/model"})
        elif place == "/api/validate-yaml":
            self._answer_json({"errors": [], "warnings": []})
        elif place == "/api/models/anna/model/preupload/main":
            files = [each["path"] for each in json.loads(body)["files"]]
            self._answer_json(
                {"files": [{"path": each, "uploadMode": "regular", "shouldIgnore": False} for each in files]}
            )
        elif place == "/api/models/anna/model/commit/main":
            for each in map(json.loads, body.splitlines()):
                if each["key"] == "file":
                    self.files[each["value"]["path"]] = base64.b64decode(each["value"]["content"])
            address = f"http://{self.headers['Host']}/anna/model/commit/{COMMIT}"
            self._answer_json({"commitUrl": address, "commitOid": COMMIT})
        else:
            self._answer_json({"error": "no such page"}, 404)

    def _chunks(self) -> bytes:
        found = b""
        while size := int(self.rfile.readline(), 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found

    def do_GET(self) -> None:
        matched = re.fullmatch(rf"/anna/model/resolve/(?:main|{COMMIT})/([\w.]+)", urlsplit(self.path).path)
        body = self.files.get(matched[1]) if matched else None
        if body is None:
            self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})
        else:
            digest = hashlib.sha256(body).hexdigest()
            self._answer(200, body, {"X-Repo-Commit": COMMIT, "ETag": f'"{digest}"'})

    do_HEAD = do_GET


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[type[StandIn]]:
    """The hub of this process: its address, an empty cache and a token."""
    handler = type("Hub", (StandIn,), {"files": {}, "private": None})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
        monkeypatch.setenv("HF_TOKEN", "hf_good")
        yield handler
        server.shutdown()
        thread.join()


@pytest.mark.filterwarnings("ignore:anna/model is not in the catalogue")
def test_what_is_pushed_loads_by_its_id(hub: type[StandIn], tmp_path: Path) -> None:
    torch.manual_seed(0)
    folder = save_model(create_model("blstm", preset="tiny").eval(), tmp_path / "model", license_name="mit")
    code, message = run("push", folder, "anna/model", "--private")
    assert code == ExitCode.DONE, message
    assert message == (
        "Its card states no measured result: convert it with --evaluation and push again.\n"
        f"Pushed: {constants.ENDPOINT}/anna/model/commit/{COMMIT}\n"
    )
    assert hub.private is True
    assert hub.files.keys() == {"README.md", "config.json", "model.safetensors"}
    card = hub.files["README.md"].decode()
    assert 'from_pretrained("anna/model")' in card
    assert "path/of/this/folder" not in card
    assert yaml.safe_load(card.split("---")[1])["license"] == "mit"
    checkpoint = read_checkpoint("anna/model")
    assert checkpoint.revision == COMMIT
    mixture = torch.randn(1, 400)
    assert torch.equal(load_model("anna/model")(mixture), load_model(folder)(mixture))


def test_what_the_hub_refuses_is_said_in_a_line(
    hub: type[StandIn], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_model(create_model("blstm", preset="tiny"), tmp_path / "model")
    with pytest.raises(CheckpointError, match="expected OWNER/NAME"):
        push_to_hub(folder, "model")
    monkeypatch.setenv("HF_TOKEN", "hf_bad")
    with pytest.raises(CheckpointError, match=r"^anna/model: the hub refuses: log in with a token"):
        push_to_hub(folder, "anna/model")
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(CheckpointError, match=r"^anna/model: (log in first|the hub refuses: log in)"):
        push_to_hub(folder, "anna/model")
    (folder / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="SHA-256"):
        push_to_hub(folder, "anna/model")
    assert not hub.files
