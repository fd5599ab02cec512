"""The original DPRNN: SpeechBrain's modules under the names of a wrapper."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from polsess.checkpoints.arguments import Arguments
from polsess.checkpoints.formats import Converted
from polsess.checkpoints.legacy.reader import CONVERTERS
from polsess.checkpoints.legacy.wrapper import wrapped
from polsess.checkpoints.speechbrain.dprnn import convert_dprnn as convert_dual_path
from polsess.checkpoints.speechbrain.hyperparams import Instance


@CONVERTERS.register("dprnn")
def convert_dprnn(arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> Converted:
    """Convert; letters that a file leaves out had these defaults."""
    values = Arguments(arguments, "original DPRNN")
    values.ignore("hop_size")  # never reached the network: chunks overlap by half
    filters = values.take("N", default=64)
    block = Instance(
        "SBRNNBlock",
        {
            "hidden_channels": values.take("hidden_size", default=128),
            "num_layers": values.take("num_rnn_layers", default=1),
            "rnn_type": values.take("rnn_type", default="LSTM"),
            "dropout": values.take("dropout", default=0.0),
            "bidirectional": values.take("bidirectional", default=True),
        },
    )
    masknet = {
        "in_channels": filters,
        "out_channels": filters,
        "num_layers": values.take("num_layers", default=6),
        "K": values.take("chunk_size", default=100),
        "num_spks": values.take("C", default=1),
        "norm": values.take("norm_type", default="ln"),
        "intra_model": block,
        "inter_model": block,
    }
    kernel, stride = values.take("kernel_size", default=16), values.take("stride", default=8)
    values.finish()
    return convert_dual_path(*wrapped(masknet, state, "separator", filters, kernel, stride))
