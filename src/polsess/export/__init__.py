"""Models as files for other runtimes, each compared with the model before it is written."""

from polsess.export.checks import Checks, Fidelity
from polsess.export.exporting import ExportError, Precision, Target, export_model
from polsess.export.site import export_site

__all__ = ["Checks", "ExportError", "Fidelity", "Precision", "Target", "export_model", "export_site"]
