"""What models cost on a machine, and how that compares with other toolkits and with published quality."""

from polsess.benchmark.against import benchmark_peers, select_peers
from polsess.benchmark.journal import RESULT
from polsess.benchmark.outputs import DOCUMENT, PICTURE, TABLE, render
from polsess.benchmark.pareto import draw_pareto
from polsess.benchmark.results import Result, Settings, read_result, write_result
from polsess.benchmark.running import benchmark_models
from polsess.benchmark.variants import Variant, parse_variants

__all__ = [
    "DOCUMENT",
    "PICTURE",
    "RESULT",
    "TABLE",
    "Result",
    "Settings",
    "Variant",
    "benchmark_models",
    "benchmark_peers",
    "draw_pareto",
    "parse_variants",
    "read_result",
    "render",
    "select_peers",
    "write_result",
]
