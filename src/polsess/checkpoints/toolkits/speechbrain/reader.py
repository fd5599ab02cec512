"""SpeechBrain's folders, published or of a training, and the filterbank that its networks share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from polsess.checkpoints.formats import Converted, Converters, Reader, naming, register_reader
from polsess.checkpoints.toolkits.speechbrain.hyperparams import Hyperparams, Instance
from polsess.checkpoints.translation import Arguments
from polsess.checkpoints.unpickling import CheckpointError
from polsess.checkpoints.weight_files import WeightFiles, state_of

CONVERTERS = Converters("SpeechBrain")
"""Converters by the class of ``masknet``, with that of its inner model in brackets where it has one, e.g.
``MaskNet``, ``Dual_Path_Model[SBTransformerBlock]``, ``ResourceEfficientSeparator[SegLSTM]``.

``arguments`` are ``{"encoder": {...}, "masknet": {...}, "decoder": {...}, "sample_rate": ...}`` with keyword
arguments as the file gives them; an inner model is an ``Instance``. ``state`` holds the tensors of the three
files under ``encoder.``, ``masknet.`` and ``decoder.``.
"""

HYPERPARAMS = "hyperparams.yaml"
PARTS = ("encoder", "masknet", "decoder")
_INNER = ("intra_model", "seg_model")
_FILES = [f"{part}.ckpt" for part in PARTS]


@register_reader
class SpeechBrainReader(Reader):
    """``hyperparams.yaml`` with ``encoder.ckpt``, ``masknet.ckpt`` and ``decoder.ckpt``.

    A ``CKPT+...`` folder of a training takes the YAML of the run two folders above it.
    """

    format = "speechbrain"

    def recognises(self, files: WeightFiles) -> bool:
        named = files.main in (None, HYPERPARAMS, *_FILES)
        return named and files.has(*_FILES) and hyperparams_name(files) is not None

    def near_miss(self, files: WeightFiles) -> str | None:
        runs = sorted(files.folder.glob("save/CKPT+*"))
        if files.main is None and runs:
            return f"a SpeechBrain run; name one checkpoint, e.g. {runs[-1]}."
        if files.main in (None, *_FILES) and files.has(*_FILES):
            return "looks like SpeechBrain, but hyperparams.yaml is missing beside the three .ckpt files."
        if files.main in (None, HYPERPARAMS) and files.has(HYPERPARAMS):
            missing = ", ".join(name for name in _FILES if not files.has(name))
            return f"looks like SpeechBrain, but {missing} is missing beside hyperparams.yaml."
        return None

    def read(self, files: WeightFiles, config: Mapping[str, Any] | None) -> Converted:
        name = hyperparams_name(files)
        assert name is not None
        where = str(files.folder / name)
        if config is not None:
            raise CheckpointError(f"{where}: holds the configuration; leave config out.")
        hyperparams = Hyperparams(files.yaml(name), where)
        arguments = network_arguments(hyperparams, where)
        state = {f"{part}.{key}": value for part in PARTS for key, value in _part_state(files, part).items()}
        convert = CONVERTERS.find(_network_name(hyperparams), where)
        with naming(where):
            return convert(arguments, state)


def network_arguments(hyperparams: Hyperparams, where: str) -> dict[str, Any]:
    """The keyword arguments of encoder, masknet and decoder, and the sample rate.

    Raises:
        CheckpointError: If one of them is missing.
    """
    modules = hyperparams["modules"]
    for part in PARTS:
        if not isinstance(modules, Mapping) or not isinstance(modules.get(part), Instance):
            raise CheckpointError(f"{where}: modules.{part} must be a '!new:' entry.")
    arguments: dict[str, Any] = {part: modules[part].arguments for part in PARTS}
    return {**arguments, "sample_rate": hyperparams["sample_rate"]}


def _network_name(hyperparams: Hyperparams) -> str:
    masknet: Instance = hyperparams["modules"]["masknet"]
    inner = next((masknet.arguments[key] for key in _INNER if key in masknet.arguments), None)
    return f"{masknet.class_name}[{inner.class_name}]" if isinstance(inner, Instance) else masknet.class_name


def _part_state(files: WeightFiles, part: str) -> dict[str, Tensor]:
    name = f"{part}.ckpt"
    return state_of(files.torch_file(name), str(files.folder / name))


def hyperparams_name(files: WeightFiles) -> str | None:
    """The YAML of a run: beside the weights, or two folders above a ``CKPT+...``; None without one."""
    names = [HYPERPARAMS]
    if files.folder.name.startswith("CKPT+"):
        names.append(f"../../{HYPERPARAMS}")
    return next((name for name in names if files.has(name)), None)


def read_filterbank(arguments: Mapping[str, Any]) -> dict[str, int]:
    """The ``kernel_size`` of a network; filters and stride are checked to fit together.

    Args:
        arguments: Of encoder and decoder, as converters get them.

    Raises:
        CheckpointError: If encoder and decoder do not fit, or have what our filterbank does not offer.
    """
    encoder = Arguments(arguments["encoder"], "SpeechBrain Encoder")
    decoder = Arguments(arguments["decoder"], "SpeechBrain Decoder")
    kernel, filters = encoder.take("kernel_size", default=2), encoder.take("out_channels", default=64)
    if not isinstance(kernel, int):
        raise CheckpointError(f"SpeechBrain Encoder: kernel_size={kernel!r} is not a whole number.")
    encoder.expect("in_channels", 1)
    encoder.finish()
    wanted = {"kernel_size": kernel, "stride": kernel // 2, "in_channels": filters, "out_channels": 1}
    for name, value in wanted.items():
        found = decoder.take(name)
        if found != value:
            raise CheckpointError(
                f"SpeechBrain Decoder: {name}={found!r} does not fit the encoder, {value} would."
            )
    decoder.expect("bias", False)
    decoder.finish()
    return {"kernel_size": kernel}
