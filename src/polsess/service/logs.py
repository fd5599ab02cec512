"""The log of a service: a line of JSON for each event, on stderr."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import Any


def log(event: str, *, level: str = "info", **fields: Any) -> None:
    """Write one line; fields that are None are left out.

    Args:
        event: What happened.
        level: info, warning or error.
        **fields: Facts, ``job`` for the job that they belong to.
    """
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    known = {name: value for name, value in fields.items() if value is not None}
    print(json.dumps({"time": now, "level": level, "event": event, **known}), file=sys.stderr, flush=True)
