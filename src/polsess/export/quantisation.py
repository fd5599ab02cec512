"""Weights of an ONNX graph in 8 bits: whole numbers and a scale per channel, floats again when it is loaded.

Only the weights are rounded, so any operator keeps its form, and a browser needs no operator of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_FEWEST = 1024
"""Smaller tensors stay as they are."""
_CHANNEL_AXIS = {"Conv": 0, "ConvTranspose": 1, "LSTM": 1, "GRU": 1, "RNN": 1, "MatMul": -1, "Gemm": 0}
"""Which dimension of its weight is that of an operator's outputs; other operators have none."""


def quantise_weights(model: Any) -> None:
    """Round the weights of an ONNX model in place."""
    import onnx
    from onnx import helper, numpy_helper

    axes = {
        name: _CHANNEL_AXIS[node.op_type]
        for node in model.graph.node
        if node.op_type in _CHANNEL_AXIS
        for name in node.input
    }
    nodes, kept = [], []
    for tensor in model.graph.initializer:
        weights = numpy_helper.to_array(tensor)
        axis = axes.get(tensor.name)
        if axis is None or weights.dtype != np.float32 or weights.ndim < 2 or weights.size < _FEWEST:
            kept.append(tensor)
            continue
        axis %= weights.ndim
        whole, scale = _rounded(weights, axis)
        names = f"{tensor.name}_int8", f"{tensor.name}_scale"
        kept += [numpy_helper.from_array(whole, names[0]), numpy_helper.from_array(scale, names[1])]
        nodes.append(helper.make_node("DequantizeLinear", names, [tensor.name], axis=axis))
    others = list(model.graph.node)
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(kept)
    model.graph.node.extend([*nodes, *others])
    onnx.checker.check_model(model)


def _rounded(weights: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Whole numbers from -127 to 127, and the scale of each channel."""
    others = tuple(each for each in range(weights.ndim) if each != axis)
    scale = np.maximum(np.abs(weights).max(others), 1e-12).astype(np.float32) / np.float32(127)
    shape = [-1 if each == axis else 1 for each in range(weights.ndim)]
    return np.rint(weights / scale.reshape(shape)).astype(np.int8), scale
