"""A store that speaks S3: recordings come from it, outputs go to it, errors name the object."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from polsess.audio import read_audio, write_audio
from polsess.checkpoints import save_model
from polsess.cli.main import app
from polsess.models import create_model
from polsess.object_storage import exists, fetched, folder_for, is_folder, list_objects

pytest.importorskip("s3fs")
moto = pytest.importorskip("moto.server")
pytestmark = pytest.mark.filterwarnings("ignore")  # those of a server for tests


@pytest.fixture(scope="module")
def _server() -> Iterator[str]:
    server = moto.ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def store(_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A file system with an empty bucket ``archive``."""
    import fsspec

    variables = {"AWS_ENDPOINT_URL": _server, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    for name, value in {**variables, "AWS_DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    fsspec.filesystem("s3").clear_instance_cache()
    found = fsspec.filesystem("s3", use_listings_cache=False)
    found.mkdir("archive")
    yield found
    found.rm("archive", recursive=True)


def sound(path: Path, seconds: float = 0.3) -> Path:
    write_audio(
        path, np.random.default_rng(0).normal(0, 0.1, (1, round(8000 * seconds))).astype(np.float32), 8000
    )
    return path


def separate(model: Path, *words: str) -> Result:
    always = ["-m", str(model), "--device", "cpu", "--gate", "never"]
    return CliRunner().invoke(app, ["separate", *words, *always])


@pytest.mark.usefixtures("store")
def test_files_come_and_go() -> None:
    place = Path("s3://archive/day 1/ą.wav")
    with folder_for(place.parent) as folder:
        (folder / "ą.wav").write_bytes(b"sound")
        (folder / "inner").mkdir()
        (folder / "inner" / "b.txt").write_bytes(b"text")
    assert exists(place)
    assert is_folder(place.parent)
    assert not is_folder(place)
    assert list_objects(Path("s3://archive")) == {place: 5, place.parent / "inner" / "b.txt": 4}
    with fetched(place) as copy:
        assert (copy.name, copy.read_bytes()) == ("ą.wav", b"sound")
    assert not copy.exists()
    with pytest.raises(ZeroDivisionError), folder_for(Path("s3://archive/none")) as folder:
        (folder / "half").write_bytes(bytes(1 // 0))
    assert not exists(Path("s3://archive/none"))


def test_separation_from_store_to_store(store: Any, tmp_path: Path) -> None:
    model = tmp_path / "net"
    save_model(create_model("blstm", preset="tiny"), model)
    local = sound(tmp_path / "in" / "a.wav")
    store.put_file(str(local), "archive/in/day 1/a.wav")
    store.pipe("archive/in/bad.wav", b"hello")
    cut = {"mixture": "s3://archive/in/day 1/a.wav", "start_seconds": 0.1, "identifier": "cut"}
    store.pipe("archive/list.jsonl.gz", gzip.compress(json.dumps(cut).encode()))
    words = ("s3://archive/in", "s3://archive/list.jsonl.gz", "-o", "s3://archive/in/out")
    result = separate(model, *words)
    assert result.exit_code == 1
    assert "s3://archive/in/bad.wav: is not a WAV" in result.stderr
    names = [f"{track}_speaker{number}.wav" for track in ("cut", "day 1/a") for number in (1, 2)]
    assert result.stdout.splitlines() == [f"s3://archive/in/out/{name}" for name in (*names[2:], *names[:2])]
    assert [key.removeprefix("archive/in/out/") for key in store.find("archive/in/out")] == names
    assert separate(model, str(local), "-o", str(tmp_path / "out")).exit_code == 0
    with fetched(Path("s3://archive/in/out/day 1/a_speaker2.wav")) as copy:
        assert copy.read_bytes() == (tmp_path / "out" / "a_speaker2.wav").read_bytes()
    with fetched(Path("s3://archive/in/out/cut_speaker1.wav")) as copy:
        assert read_audio(copy)[0].shape == (1, 1600)
    again = separate(model, *words)
    assert "exists already" in again.stderr
    skipped = separate(model, *words, "--skip-existing")
    assert "2 recordings skipped" in skipped.stderr


@pytest.mark.usefixtures("store")
def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    model = tmp_path / "net"
    save_model(create_model("blstm", preset="tiny"), model)
    result = separate(model, "s3://archive/none.wav", "s3://nobody/x", "-o", str(tmp_path / "out"))
    assert result.exit_code == 2
    for name in ("s3://archive/none.wav", "s3://nobody/x"):
        assert f"{name}: there is no such object or bucket." in result.stderr
    local = sound(tmp_path / "a.wav")
    result = separate(model, str(local), "-o", "s3://nobody/out")
    assert "s3://nobody/out/a_speaker1.wav: " in result.stderr
    assert result.exit_code == 1
