"""What a model costs: multiply-accumulates, parameters and bytes, and predictions of memory and time."""

from polsess.costs.closed_forms import KINDS, Kind
from polsess.costs.macs import MacCount, count_macs
from polsess.costs.measuring import RunMeasurement, measure_run
from polsess.costs.memory import MemoryPrediction, predict_memory
from polsess.costs.sizes import ParameterCount, count_parameters, weights_bytes
from polsess.costs.time import TimePrediction, predict_time

__all__ = [
    "KINDS",
    "Kind",
    "MacCount",
    "MemoryPrediction",
    "ParameterCount",
    "RunMeasurement",
    "TimePrediction",
    "count_macs",
    "count_parameters",
    "measure_run",
    "predict_memory",
    "predict_time",
    "weights_bytes",
]
