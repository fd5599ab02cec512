"""Cost of a model before it runs: multiply-accumulates, parameters and bytes."""

from polsess.costs.closed_forms import KINDS, Kind
from polsess.costs.macs import MAC_SECONDS, MacCount, count_macs
from polsess.costs.sizes import ParameterCount, count_parameters, weights_bytes

__all__ = [
    "KINDS",
    "MAC_SECONDS",
    "Kind",
    "MacCount",
    "ParameterCount",
    "count_macs",
    "count_parameters",
    "weights_bytes",
]
