"""Weight files as an attacker would write them: refused with a reason, nothing run."""

from __future__ import annotations

import codecs
import io
import os
import pickle
import random
import resource
import subprocess
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from polsess.checkpoints import CheckpointError, load_model
from polsess.checkpoints.unpickling import read_torch_file
from tests.conftest import GOLDEN


def torch_bytes(content: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def rewrite(
    content: bytes, change: Callable[[str, bytes], list[tuple[zipfile.ZipInfo | str, bytes]]]
) -> bytes:
    """The archive with every entry replaced by what ``change`` says."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w") as new:
        for entry in old.infolist():
            for info, data in change(entry.filename, old.read(entry)):
                new.writestr(info, data)
    return buffer.getvalue()


class Gadget:
    """Pickles as a call that leaves a canary file."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def gadgets(canary: Path) -> dict[str, Gadget]:
    code = f"open({str(canary)!r}, 'w').close()"
    return {
        "os.system": Gadget(os.system, f"touch {canary}"),
        "exec": Gadget(exec, code),
        "eval": Gadget(eval, code),
        "open": Gadget(open, str(canary), "w"),
        "getattr": Gadget(getattr, Path, "touch"),
        "subprocess": Gadget(subprocess.Popen, ["touch", str(canary)]),
        "pathlib": Gadget(Path.touch, canary),
        "pickle": Gadget(pickle.loads, pickle.dumps(Gadget(exec, code))),
    }


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", list(gadgets(Path("x"))))
def test_code_in_a_file_does_not_run(name: str, zipped: bool, tmp_path: Path) -> None:
    canary, path = tmp_path / "canary", tmp_path / "pytorch_model.bin"
    payload = {"model_name": "ConvTasNet", "model_args": gadgets(canary)[name], "state_dict": {}}
    path.write_bytes(torch_bytes(payload, _use_new_zipfile_serialization=zipped))
    with pytest.raises(CheckpointError, match=r"asks to run or build|damaged or refused") as caught:
        load_model(path)
    assert not canary.exists()
    assert "\n" not in str(caught.value)


def test_a_plain_pickle_is_no_torch_file(tmp_path: Path) -> None:
    canary, path = tmp_path / "canary", tmp_path / "model.pth"
    path.write_bytes(pickle.dumps(gadgets(canary)["exec"]))
    with pytest.raises(CheckpointError, match=r"not a file of torch.save"):
        load_model(path)
    assert not canary.exists()


STATE = {"model_name": "x", "weights": torch.zeros(1000)}


def deflated(name: str, data: bytes) -> list[tuple[zipfile.ZipInfo | str, bytes]]:
    info = zipfile.ZipInfo(name)
    info.compress_type = zipfile.ZIP_DEFLATED
    return [(info, data)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (deflated, "compressed or encrypted"),
        (lambda name, data: [(f"{name}/../../../evil", data)], "leads out of the archive"),
        (lambda name, data: [(f"/abs/{name}", data)], "leads out of the archive"),
        (lambda name, data: [(name.replace("/", "\\"), data)], "leads out of the archive|not laid out"),
        (lambda name, data: [(f"C:{name}", data)], "leads out of the archive"),
        (lambda name, data: [(name, data), (f"other/{name}", data)], "not laid out as torch.save does"),
        (lambda name, data: [] if name.endswith("data.pkl") else [(name, data)], "not laid out"),
        (lambda name, data: [(name, data), (f"{name.split('/')[0]}/code/{name}", b"")], "TorchScript"),
    ],
)
def test_archives_that_torch_did_not_write(change: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(rewrite(torch_bytes(STATE), change))
    with pytest.raises(CheckpointError, match=message):
        read_torch_file(path)


def test_a_damaged_tensor_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    content = torch_bytes({"weights": torch.full((1000,), 3.0)})
    damaged = bytearray(content)
    damaged[content.index(torch.full((9,), 3.0).numpy().tobytes()) + 2000] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(CheckpointError, match=r"damaged zip .*Bad CRC-32.*data/0.*download it again"):
        read_torch_file(path)


def test_an_archive_without_checksums_is_read(tmp_path: Path) -> None:
    weights = torch.arange(1000.0)
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"weights": weights}, tmp_path / "m.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    assert torch.equal(read_torch_file(tmp_path / "m.pt")["weights"], weights)


def test_a_zip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x00" * (50 << 20))
    assert path.stat().st_size < 100_000
    with pytest.raises(CheckpointError, match="compressed or encrypted"):
        read_torch_file(path)


def test_entries_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    content = bytearray(torch_bytes({"a": torch.zeros(500), "b": torch.zeros(500)}))
    entry = content.rindex(b"PK\x01\x02")  # the last central record claims a huge size
    content[entry + 20 : entry + 28] = (1 << 31).to_bytes(4, "little") * 2
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="claim more bytes than the file has"):
        read_torch_file(path)


def test_views_that_claim_more_than_is_stored_are_refused(tmp_path: Path) -> None:
    torch.save({"x": torch.zeros(1).expand(1 << 40)}, tmp_path / "m.pt")
    with pytest.raises(CheckpointError, match="more than is stored"):
        read_torch_file(tmp_path / "m.pt")


def test_sparse_tensors_are_refused(tmp_path: Path) -> None:
    torch.save({"x": torch.zeros(3).to_sparse()}, tmp_path / "m.pt")
    with pytest.raises(CheckpointError, match="sparse"):
        read_torch_file(tmp_path / "m.pt")


def doubled(word: Any, times: int) -> Any:
    for _ in range(times):
        word = Gadget(codecs.encode, word, "hex")
    return word


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "content",
    [
        Gadget(bytearray, 4_000_000_000),
        Gadget(np.dtype, "V4000000000"),
        Gadget(np._core.multiarray.scalar, np.dtype("V2000000000"), b""),  # type: ignore[attr-defined]
        doubled(b"x", 33),
        Gadget(torch.Tensor, 1 << 33),
        torch.zeros(3, device="meta"),
    ],
    ids=["bytearray", "void", "scalar", "codec", "tensor", "meta"],
)
def test_small_files_take_little_memory(content: Any, zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    path.write_bytes(torch_bytes({"x": content}, _use_new_zipfile_serialization=zipped))
    tracemalloc.start()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError, match=r"refused|sparse or quantised|claim more bytes"):
        read_torch_file(path)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert max(1024 * grown, tracemalloc.get_traced_memory()[1]) < 300_000_000
    tracemalloc.stop()


TEXT, NUMBERS = "x" * 100_000, tuple(range(100_000))


def test_the_structure_that_torch_reads_is_the_one_inspected(tmp_path: Path) -> None:
    harmless, path = pickle.dumps({}, protocol=2), tmp_path / "m.pt"
    harmful = pickle.dumps({"x": Gadget(bytearray, 1000)}, protocol=2)
    for other, structure, reason in [
        ("a/x/data.pkl", harmful, "build 'bytearray'"),
        ("a/DATA.PKL", harmless, "two entries have one name"),
    ]:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(other, harmless)
            archive.writestr("a/data.pkl", structure)
            archive.writestr("a/version", "3\n")
        assert reason in refusal(path)


def test_an_archive_with_two_directories_is_refused(tmp_path: Path) -> None:
    """Readers differ in which one they take: the one before the end record, or the one where that says."""
    path = tmp_path / "m.pt"
    one, two = (torch_bytes({"a": value}) for value in (1, 2))
    for content in (one + two, one[:-22] + two, two + b"\0" * 30, one + two[-22:]):
        path.write_bytes(content)
        assert refusal(path)
    place = int.from_bytes(one[-50:-42], "little") + 1  # torch writes the records of large archives always
    path.write_bytes(one[:-50] + place.to_bytes(8, "little") + one[-42:])
    assert "two directories" in refusal(path)
    path.write_bytes(one)
    assert read_torch_file(path) == {"a": 1}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (Gadget(codecs.encode, b"x", Gadget(codecs.encode, "urk", "rot13")), "build 'rot13'"),
        ([Gadget(codecs.encode, TEXT, "latin1") for _ in range(3000)], "structure is too large"),
        ([Gadget(set, NUMBERS) for _ in range(3000)], "structure is too large"),
    ],
    ids=["made codec", "copies of a text", "copies of numbers"],
)
def test_small_files_that_ask_for_much(content: Any, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    path.write_bytes(torch_bytes({"x": content}))
    assert reason in refusal(path)


def test_keys_of_storages_in_the_old_format_are_inspected(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    content = torch_bytes({"a": 1}, _use_new_zipfile_serialization=False)
    keys = pickle.dumps([], protocol=2)
    assert content.endswith(keys)
    path.write_bytes(content[: -len(keys)] + pickle.dumps(Gadget(bytearray, 1000), protocol=2))
    assert "build 'bytearray'" in refusal(path)


def test_a_pipe_is_no_checkpoint(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="neither a file nor a folder"):
        load_model(tmp_path / "pipe")


@pytest.mark.parametrize(
    "start", [b"", b"<html>404</html>", b"\x89PNG\r\n", b"PK\x03\x04rubbish", b"\x80\x02"]
)
def test_other_files_are_named_as_such(start: bytes, tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(start)
    with pytest.raises(CheckpointError, match=r"not a file of torch.save|damaged"):
        load_model(path)


def refusal(path: Path) -> str:
    """Why a file is refused; nothing if it is read. Any other exception passes."""
    try:
        read_torch_file(path)
    except CheckpointError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("folder", ["ast_convtasnet/pytorch_model.bin", "legacy"])
def test_damage_anywhere_is_an_error_or_harmless(folder: str, tmp_path: Path) -> None:
    if folder == "legacy":
        content = torch_bytes({"a": torch.zeros(50), "b": [1, 2]}, _use_new_zipfile_serialization=False)
    else:
        content = (GOLDEN / folder).read_bytes()
    generator, path = random.Random(1), tmp_path / "pytorch_model.bin"
    for _ in range(40):
        damaged = bytearray(content)
        if generator.random() < 0.5:
            del damaged[generator.randrange(len(damaged)) :]
        else:
            damaged[generator.randrange(len(damaged))] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        assert "\n" not in refusal(path)


def test_what_published_files_hold_is_read(tmp_path: Path) -> None:
    content = {
        "score": np.float64(12.5),
        "version": torch.torch_version.TorchVersion("2.0.1"),
        "nested": [{"lr": 1e-3, "none": None}, (True, "text")],
    }
    for zipped in (True, False):
        path = tmp_path / f"{zipped}.pth"
        path.write_bytes(torch_bytes(content, _use_new_zipfile_serialization=zipped))
        assert read_torch_file(path) == content
    old = (tmp_path / "False.pth").read_bytes().replace(b"numpy._core.", b"numpy.core.")
    assert b"numpy.core." in old  # the name before numpy 2
    (tmp_path / "old.pth").write_bytes(old)
    assert read_torch_file(tmp_path / "old.pth") == content


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file or folder"):
        load_model(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match="Did you mean 'enhance-one'"):
        load_model("enhance-noone")
    with pytest.raises(CheckpointError, match=r"not a checkpoint of a known format\. Known: polsess,"):
        load_model(tmp_path)
    torch.save({"some": 1}, tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match="not a checkpoint of a known format"):
        load_model(tmp_path / "model.pth")
