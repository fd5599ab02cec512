"""Recognising and reading the files of SepReformer's trainer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from polsess.checkpoints.formats import CheckpointError, Converted, Reader, register_reader
from polsess.checkpoints.sepreformer.network import convert_sepreformer, is_sepreformer
from polsess.checkpoints.weight_files import WeightFiles, state_of

_CONFIGS = ("configs.yaml", "../../configs.yaml")
"""Beside the weights, or where the trainer keeps it: two folders above ``log/scratch_weights``."""
_UNTOLD = ("stride", "sample_rate", "dropout")
"""Fields that no tensor shows."""


@register_reader
class SepReformerReader(Reader):
    """``model_state_dict`` beside the losses of an epoch; of several epochs in a folder the last."""

    format = "sepreformer"

    def recognises(self, files: WeightFiles) -> bool:
        """See the base class."""
        return _weights(files) is not None

    def read(self, files: WeightFiles, config: Mapping[str, Any] | None) -> Converted:
        """See the base class; ``config`` may say what no tensor shows, where ``configs.yaml`` is missing."""
        name = _weights(files)
        assert name is not None
        where, content = str(files.folder / name), files.torch_dict(name)
        state = state_of(content["model_state_dict"], where)
        try:
            converted = convert_sepreformer({**_arguments(files), **_given(files, config)}, state)
        except KeyError as error:
            raise CheckpointError(f"{where}: {error.args[0]} is missing.") from None
        except CheckpointError as error:
            raise CheckpointError(f"{where}: {error}") from None
        keys = ("epoch", "train_loss", "valid_loss")
        notes: dict[str, Any] = {
            key: content[key] for key in keys if isinstance(content.get(key), int | float)
        }
        return Converted(converted.model, converted.state, notes)


def _weights(files: WeightFiles) -> str | None:
    """The file with the weights: the named one, or the last epoch of a folder."""
    names = files.candidates("*.pth" if files.main else "epoch.*.pth")
    for name in reversed(names):
        content = files.torch_file(name)
        inner = content.get("model_state_dict") if isinstance(content, dict) else None
        if isinstance(inner, Mapping) and is_sepreformer({str(key): None for key in inner}):
            return name
    return None


def _given(files: WeightFiles, config: Mapping[str, Any] | None) -> dict[str, Any]:
    given = dict(config or {})
    given.pop("model_type", None)
    wrong = [key for key in given if key not in _UNTOLD]
    if wrong:
        raise CheckpointError(
            f"{', '.join(wrong)} stand in the tensors; only {', '.join(_UNTOLD)} may be said."
        )
    if given and _config_name(files) is not None:
        raise CheckpointError("configs.yaml holds the configuration; leave config out.")
    if not given and _config_name(files) is None:
        raise CheckpointError(
            "configs.yaml is missing; say what no tensor shows, config={'stride': 4, 'sample_rate': 8000}."
        )
    return given


def _arguments(files: WeightFiles) -> dict[str, Any]:
    """What ``configs.yaml`` says that the tensors do not."""
    name = _config_name(files)
    if name is None:
        return {}
    content = files.yaml(name)
    encoder = _value(content, "config", "model", "module_audio_enc")
    stride = _value(encoder, "stride")
    if stride is None:
        raise CheckpointError(f"{name}: config.model.module_audio_enc.stride is missing.")
    found = {"stride": stride}
    rate = _value(content, "config", "dataset", "sampling_rate")
    dropout = _value(
        content, "config", "model", "module_separator", "enc_stage", "local_blocks", "dropout_rate"
    )
    return found | {k: v for k, v in (("sample_rate", rate), ("dropout", dropout)) if v is not None}


def _config_name(files: WeightFiles) -> str | None:
    return next((name for name in _CONFIGS if files.has(name)), None)


def _value(content: Any, *path: str) -> Any:
    for key in path:
        content = content.get(key) if isinstance(content, Mapping) else None
    return content
