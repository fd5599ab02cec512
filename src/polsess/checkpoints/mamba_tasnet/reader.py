"""Recognising and reading Mamba-TasNet and DPMamba by the tensors of their mask networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from polsess.checkpoints.formats import CheckpointError, Converted, Reader, register_reader
from polsess.checkpoints.mamba_tasnet.converters import (
    PUBLISHED,
    architecture,
    convert_dpmamba,
    convert_mamba_tasnet,
)
from polsess.checkpoints.weight_files import WeightFiles, state_of, unwrapped

PARTS = ("encoder", "masknet", "decoder")
_FILES = [f"{part}.ckpt" for part in PARTS]
_CONVERTERS = {"mambatasnet": convert_mamba_tasnet, "dpmamba": convert_dpmamba}
_UNTOLD = {"mambatasnet": {"sample_rate"}, "dpmamba": {"sample_rate", *PUBLISHED}}


@register_reader
class MambaTasNetReader(Reader):
    """``encoder.ckpt``, ``masknet.ckpt`` and ``decoder.ckpt`` with bidirectional Mamba layers.

    The classes in the run's YAML are not ones that SpeechBrain has, so sizes come from the tensors. What no
    tensor shows is as published unless ``config`` says otherwise.
    """

    format = "mamba-tasnet"

    def recognises(self, files: WeightFiles) -> bool:
        """See the base class."""
        if files.main not in (None, *_FILES) or not files.has(*_FILES):
            return False
        content = files.torch_file("masknet.ckpt")
        if not isinstance(content, Mapping) or not all(isinstance(key, str) for key in content):
            return False
        return architecture(unwrapped(content)) is not None

    def read(self, files: WeightFiles, config: Mapping[str, Any] | None) -> Converted:
        """See the base class; ``config`` may say only what no tensor shows."""
        parts = {part: state_of(files.torch_file(f"{part}.ckpt"), f"{part}.ckpt") for part in PARTS}
        name = architecture(parts["masknet"])
        assert name is not None
        given = {key: value for key, value in (config or {}).items() if key != "model_type"}
        if not given.keys() <= _UNTOLD[name]:
            known = ", ".join(sorted(_UNTOLD[name]))
            raise CheckpointError(f"{files.path}: the tensors tell all but {known}; leave the rest out.")
        state = {f"{part}.{key}": value for part in PARTS for key, value in parts[part].items()}
        try:
            return _CONVERTERS[name](given, state)
        except CheckpointError as error:
            raise CheckpointError(f"{files.path}: {error}") from None
