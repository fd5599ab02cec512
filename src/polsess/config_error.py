"""The error of everything that is configured by a file, a key or an option."""

from __future__ import annotations


class ConfigError(ValueError):
    """A configuration cannot be used; the message says where, why, and what to do."""
