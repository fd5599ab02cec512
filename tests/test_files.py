"""Reading JSON that somebody else wrote: within limits, and refused in one line that names the file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from polsess.files import parse_json, read_json, show_bytes
from polsess.schema import ConfigError


def test_json_is_read_with_or_without_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    for encoding in ("utf-8", "utf-8-sig"):
        file.write_text('{"imię": [1, 2.5, null]}', encoding=encoding)
        assert read_json(file) == {"imię": [1, 2.5, None]}
    file.write_text("[1]")
    assert read_json(file, expected=list) == [1]
    assert read_json(file, expected=None) == [1]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[1]", "expected an object, got"),
        ("", "not readable as JSON"),
        ('{"a": 1', "not readable as JSON"),
        ('{"a": NaN}', "NaN is not a number of JSON"),
        ('{"a": -Infinity}', "Infinity is not a number of JSON"),
        ('{"a": 1, "a": 2}', "the key 'a' is given twice"),
        (b'{"a": "\xff"}', "not readable as JSON"),
        ('{"a": ' + "[" * 70 + "]" * 70 + "}", "more than 64 levels"),
        ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "not readable as JSON"),
        (json.dumps({"a": "b" * (1 << 20)}), "larger than 1048576 bytes"),
    ],
)
def test_json_outside_the_limits_is_refused_by_name(
    tmp_path: Path, content: str | bytes, reason: str
) -> None:
    file = tmp_path / "settings.json"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError, match=reason) as caught:
        read_json(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)


def test_a_line_of_a_journal_is_named(tmp_path: Path) -> None:
    assert parse_json('{"row": 1}', f"{tmp_path}, line 2") == {"row": 1}
    with pytest.raises(ConfigError, match="line 2: not readable as JSON"):
        parse_json('{"row": 1', f"{tmp_path}, line 2")


def test_the_beginning_of_a_file_is_shown_without_python() -> None:
    assert show_bytes(b"<!DOCTYPE") == "'<!DOCTYPE'"
    assert show_bytes(b"PK\x03\x04") == "the bytes 50 4b 03 04"
    assert show_bytes(b"a\nb") == "the bytes 61 0a 62"
