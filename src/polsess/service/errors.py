"""Answers that refuse: a status, one line for people, and when to come again."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.exceptions import HTTPException


def refusal(status: int, reason: str, *, again_seconds: float | None = None) -> HTTPException:
    """An answer that refuses a request.

    Args:
        status: Of HTTP.
        reason: One line.
        again_seconds: When the request may succeed; None if it never does.
    """
    headers: Mapping[str, str] | None = None
    if again_seconds is not None:
        headers = {"Retry-After": str(max(1, min(3600, round(again_seconds))))}
    if status == 401:
        headers = {"WWW-Authenticate": "Bearer"}
    return HTTPException(status, " ".join(reason.split()), headers=headers)
