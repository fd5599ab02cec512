"""The original ConvTasNet: SpeechBrain's modules under the names of a wrapper."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from polsess.checkpoints.formats import Converted
from polsess.checkpoints.legacy.reader import CONVERTERS
from polsess.checkpoints.legacy.wrapper import wrapped
from polsess.checkpoints.speechbrain.convtasnet import convert_convtasnet as convert_masknet

_DEFAULTS = {"N": 256, "kernel_size": 16, "stride": 8, "B": 256, "H": 512, "P": 3, "X": 8, "R": 4, "C": 1}


@CONVERTERS.register("convtasnet")
def convert_convtasnet(arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> Converted:
    """Convert; letters that a file leaves out had these defaults."""
    masknet = {**_DEFAULTS, **arguments}
    kernel, stride = masknet.pop("kernel_size"), masknet.pop("stride")
    return convert_masknet(*wrapped(masknet, state, "mask_net", masknet["N"], kernel, stride))
