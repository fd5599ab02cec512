"""The journal of JSON lines: what it gives back, what a kill leaves, what damage is called."""

from __future__ import annotations

from pathlib import Path

import pytest

from polsess.journal import Journal


def test_values_come_back_in_order(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "new" / "journal.jsonl")
    assert journal.restore() == []
    journal.append({"plan": 1}, [1, None])
    journal.append("żółw\u2028")
    assert Journal(journal.path).restore() == [{"plan": 1}, [1, None], "żółw\u2028"]
    journal.remove()
    journal.remove()
    assert not journal.path.exists()


def test_an_unfinished_line_is_removed_so_that_the_next_one_is_whole(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append("first")
    with journal.path.open("a") as file:
        file.write('{"cut": tr')
    assert journal.restore() == ["first"]
    journal.append("second")
    assert journal.restore() == ["first", "second"]


@pytest.mark.parametrize("line", [b"{not json}\n", b"\xff\xfe\n", b"[" * 100_000 + b"\n"])
def test_a_damaged_line_is_named(tmp_path: Path, line: bytes) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append("first")
    journal.path.write_bytes(journal.path.read_bytes() + line)
    with pytest.raises(ValueError, match=r"journal\.jsonl: line 2 is damaged; remove"):
        journal.restore()
