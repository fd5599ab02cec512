"""Measured costs of models on a machine: arithmetic, time, memory and training steps."""

from polsess.benchmark.journal import RESULT
from polsess.benchmark.pareto import draw_pareto
from polsess.benchmark.results import Result, Settings, read_result, write_result
from polsess.benchmark.running import Variant, benchmark_models, parse_variants
from polsess.benchmark.tables import DOCUMENT, PICTURE, TABLE, render

__all__ = [
    "DOCUMENT",
    "PICTURE",
    "RESULT",
    "TABLE",
    "Result",
    "Settings",
    "Variant",
    "benchmark_models",
    "draw_pareto",
    "parse_variants",
    "read_result",
    "render",
    "write_result",
]
