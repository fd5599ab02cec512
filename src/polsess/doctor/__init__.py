"""What this machine has, what will be slow or fail on it, and the command that mends it."""

from polsess.doctor.facts import Facts, gather_facts
from polsess.doctor.findings import Finding, judge

__all__ = ["Facts", "Finding", "gather_facts", "judge"]
