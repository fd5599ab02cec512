"""One self-contained page on one or several evaluations: tables, pictures, and players of the sounds."""

from polsess.report.document import ReportOptions, create_report
from polsess.report.runs import Run, open_runs

__all__ = ["ReportOptions", "Run", "create_report", "open_runs"]
