"""GTCRN as its authors publish it: a ``.tar`` written by torch with ``epoch``, ``optimizer``, ``model``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from polsess.checkpoints.formats import Converted, Reader, naming, register_reader
from polsess.checkpoints.translation import rename
from polsess.checkpoints.unpickling import CheckpointError
from polsess.checkpoints.weight_files import WeightFiles, state_of

_NORM = r"(weight|bias|running_mean|running_var|num_batches_tracked)"
_SIDES = {"en": "encoder", "de": "decoder"}
_RULES = [
    (r"erb\.erb_fc\.weight", "to_bands"),
    (r"erb\.ierb_fc\.weight", "from_bands"),
    *(
        (rf"{ours}\.{short}_convs\.(\d)\.{pattern}", rf"{ours}.\1.{name}")
        for short, ours in _SIDES.items()
        for pattern, name in (
            (r"conv\.(weight|bias)", r"conv.\2"),
            (rf"bn\.{_NORM}", r"norm.\2"),
            (r"act\.weight", "activation.weight"),
            (r"point_conv1\.(weight|bias)", r"expand.conv.\2"),
            (rf"point_bn1\.{_NORM}", r"expand.norm.\2"),
            (r"point_act\.weight", "expand.activation.weight"),
            (r"depth_conv\.(weight|bias)", r"depthwise.conv.\2"),
            (rf"depth_bn\.{_NORM}", r"depthwise.norm.\2"),
            (r"depth_act\.weight", "depthwise.activation.weight"),
            (r"point_conv2\.(weight|bias)", r"reduce.conv.\2"),
            (rf"point_bn2\.{_NORM}", r"reduce.norm.\2"),
            (r"tra\.att_gru\.(\w+)", r"attention.rnn.\2"),
            (r"tra\.att_fc\.(weight|bias)", r"attention.linear.\2"),
        )
    ),
    *(
        (rf"dpgrnn{block + 1}\.{theirs}_{pattern}", rf"recurrent.{block}.{ours}_path.{name}")
        for block in range(2)
        for theirs, ours in (("intra", "band"), ("inter", "time"))
        for pattern, name in (
            (r"rnn\.rnn1\.(\w+)", r"groups.0.\1"),
            (r"rnn\.rnn2\.(\w+)", r"groups.1.\1"),
            (r"fc\.(weight|bias)", r"linear.\1"),
            (r"ln\.(weight|bias)", r"norm.\1"),
        )
    ),
]
_SIGNATURE = "dpgrnn1.intra_rnn.rnn1.weight_ih_l0"


def convert_gtcrn(arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> Converted:  # noqa: ARG001
    """Convert GTCRN, which has no arguments.

    Args:
        arguments: Not used.
        state: The tensors.

    Raises:
        CheckpointError: If a tensor is not part of the network.
    """
    renamed = rename(state, _RULES, "GTCRN")
    return Converted(
        {"model_type": "gtcrn"}, {key: _as_convolution(key, value) for key, value in renamed.items()}
    )


def _as_convolution(key: str, value: Tensor) -> Tensor:
    """The decoder's blocks have transposed convolutions of stride one: convolutions with flipped kernels."""
    if not key.startswith("decoder.") or value.ndim != 4:
        return value
    if ".depthwise." in key:
        return value.flip(2, 3)
    return value.transpose(0, 1) if ".expand." in key or ".reduce." in key else value


@register_reader
class GTCRNReader(Reader):
    """``model_trained_on_*.tar``."""

    format = "gtcrn"
    tensors: ClassVar = {
        rf"^{re.escape(_SIGNATURE)}$": "GTCRN, which is read from a .tar with them under 'model'"
    }

    def recognises(self, files: WeightFiles) -> bool:
        return len(_names(files)) > 0

    def read(self, files: WeightFiles, config: Mapping[str, Any] | None) -> Converted:
        where, content = files.only_torch_dict(_names(files))
        if config is not None:
            raise CheckpointError(f"{where}: the network has one size; leave config out.")
        with naming(where):
            converted = convert_gtcrn({}, state_of(content["model"], where))
        epoch = content.get("epoch")
        return Converted(converted.model, converted.state, {"epoch": epoch} if isinstance(epoch, int) else {})


def _names(files: WeightFiles) -> list[str]:
    names = []
    for name in files.candidates("*.tar"):
        content = files.torch_file(name)
        inner = content.get("model") if isinstance(content, dict) else None
        if isinstance(inner, Mapping) and _SIGNATURE in inner:
            names.append(name)
    return names
