"""The log of a service: a line of JSON for each event, on stderr."""

from __future__ import annotations

import json
import sys
import threading
from datetime import UTC, datetime
from typing import Any

_lock = threading.Lock()


def log(event: str, *, level: str = "info", **fields: Any) -> None:
    """Write one line; fields that are None are left out.

    Args:
        event: What happened.
        level: info, warning or error.
        **fields: Facts, ``job`` for the job that they belong to.
    """
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    known = {name: value for name, value in fields.items() if value is not None}
    line = json.dumps({"time": now, "level": level, "event": event, **known}) + "\n"
    with _lock:  # several threads write
        sys.stderr.write(line)
        sys.stderr.flush()
