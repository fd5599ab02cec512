"""A journal of JSON lines: each line is on disk before the work goes on, so that a kill loses none."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from polsess.files import write_text
from polsess.system_errors import errors_named


class Journal:
    """A file with one JSON value per line.

    Args:
        path: The file; it and its folder are made by the first ``append``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def restore(self) -> list[Any]:
        """Read all lines, and remove from the file an unfinished last line, which a killed process left.

        Returns:
            The values; none if there is no file.

        Raises:
            ValueError: If a line is not JSON; names the file and the line.
            OSError: If the file cannot be read.
        """
        if not self.path.is_file():
            return []
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        values = [self._parse(number, line) for number, line in enumerate(whole.splitlines(), start=1)]
        if not whole:
            self.remove()
        elif whole != content:
            write_text(self.path, whole.decode())
        return values

    def append(self, *values: Any) -> None:
        """Add values and flush them to disk.

        Args:
            values: Values that JSON can hold, one line each.

        Raises:
            OSError: If the file cannot be written.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with errors_named(self.path), self.path.open("a", encoding="utf-8", newline="\n") as file:
            file.writelines(json.dumps(value) + "\n" for value in values)
            file.flush()
            os.fsync(file.fileno())

    def remove(self) -> None:
        """Remove the file if there is one."""
        self.path.unlink(missing_ok=True)

    def _parse(self, number: int, line: bytes) -> Any:
        try:
            return json.loads(line)
        except (ValueError, RecursionError):
            raise ValueError(
                f"{self.path}: line {number} is damaged; remove the file to start anew."
            ) from None
