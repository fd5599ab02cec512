"""Checks of a PolSESS corpus: sums of layers, duplicates, leakage between splits, damaged files."""

from polsess.data.polsess.audit.corpus import audit_polsess
from polsess.data.polsess.audit.findings import AuditResult, Finding, Kind, save_findings

__all__ = ["AuditResult", "Finding", "Kind", "audit_polsess", "save_findings"]
