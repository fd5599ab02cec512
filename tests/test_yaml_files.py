from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from polsess.yaml_files import MAX_BYTES, Tagged, YamlError, parse_yaml, read_tagged_yaml, read_yaml


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "file.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_plain_data() -> None:
    text = "a: [1, 2.5, 1e-3, -2.5E+4, true, null, '1e-3']\nb: {c: żółw}\n"
    assert parse_yaml(text) == {"a": [1, 2.5, 1e-3, -25000.0, True, None, "1e-3"], "b": {"c": "żółw"}}
    assert parse_yaml("") is None


def test_tags_become_data(tmp_path: Path) -> None:
    text = """
    rate: &rate 8000
    net: &net !new:package.Class
        size: !ref <rate>
        inner: !name:package.function
        parts: !tuple [1, 2]
    again: *net
    run: !apply:os.system [touch canary]
    todo: !PLACEHOLDER
    """
    data = read_tagged_yaml(write(tmp_path, text))
    assert data["net"].tag == "!new:package.Class"
    assert data["net"].value["size"] == Tagged("!ref", "<rate>")
    assert data["net"].value["inner"] == Tagged("!name:package.function", None)
    assert data["net"].value["parts"] == Tagged("!tuple", [1, 2])
    assert data["again"] == data["net"]
    assert data["run"] == Tagged("!apply:os.system", ["touch canary"])
    assert data["todo"] == Tagged("!PLACEHOLDER", None)


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10)
)

MERGES = "\n".join(
    ["m0: &m0 {a: 1, b: 2}"] + [f"m{i}: &m{i} {{<<: [*m{i - 1}, *m{i - 1}]}}" for i in range(1, 40)]
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("a: !!python/name:os.system", "could not determine a constructor"),
        ("a: 1\nb: 2\na: 3", "line 3: the key 'a' comes twice"),
        (BOMB, "aliases expand to more than"),
        ("[" * 100 + "]" * 100, "more than 64 levels"),
        ("[" * 100_000, "more than 64 levels"),
        ("- x\n" * 20_001, "nodes"),
        ("a: &a [*a]", "more than|levels"),
        ("a: [1, 2", "line 1"),
        ("a: b: c", "line 1"),
        ("a: 2026-13-45", "month"),
        ("a: \x00", "unacceptable character|special characters"),
        ("{[1]: 2}", "line 1: a key must be text"),
        ("--- 1\n--- 2", "but found another document"),
        ("a: *missing", "undefined alias"),
        (MERGES, "merge keys expand to more than"),
        ("a: &a {<<: *a}", "recursion|merge keys"),
        ("a: " + "1:" * 400 + "1.0", "line 1: expected a number of at most 100 characters"),
        ("a: 0x" + "f" * 5000, "line 1: expected a number of at most 100 characters"),
    ],
)
@pytest.mark.parametrize("read", [read_yaml, read_tagged_yaml])
def test_hostile_files_end_in_one_line(read: Any, text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(YamlError, match=message) as caught:
        read(write(tmp_path, text))
    assert "\n" not in str(caught.value)
    assert "file.yaml" in str(caught.value)


def test_plain_files_take_no_tags(tmp_path: Path) -> None:
    with pytest.raises(YamlError, match="could not determine a constructor"):
        read_yaml(write(tmp_path, "a: !new:os.system"))


def test_size_and_encoding(tmp_path: Path) -> None:
    with pytest.raises(YamlError, match="larger than"):
        read_yaml(write(tmp_path, "#" * (MAX_BYTES + 1)))
    with pytest.raises(YamlError, match="larger than"):
        parse_yaml("#" * (MAX_BYTES + 1))
    with pytest.raises(YamlError, match="not UTF-8"):
        read_yaml(write(tmp_path, b"a: \xff"))
    assert read_yaml(write(tmp_path, b"\xef\xbb\xbfa: 1\r\nb: 2\r\n")) == {"a": 1, "b": 2}
