"""Configurations of the original polsess, read as today's: one way in, ``upgrade``."""

from polsess.old_settings.upgrading import Upgraded, is_old, upgrade

__all__ = ["Upgraded", "is_old", "upgrade"]
