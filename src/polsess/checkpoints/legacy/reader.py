"""Recognising and reading the original trainer's files of every year."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from polsess.checkpoints.formats import (
    CheckpointError,
    Converted,
    Converters,
    Reader,
    register_reader,
)
from polsess.checkpoints.weight_files import WeightFiles, state_of

CONVERTERS = Converters("original polsess")
"""By ``model_type``; ``arguments`` are the model's block of the old configuration (letters N, B, H ...),
``state`` the tensors."""


@register_reader
class LegacyReader(Reader):
    """``model_state_dict`` with a ``config`` of that time: flat or nested, with or without ``model_type``."""

    format = "legacy"

    def recognises(self, files: WeightFiles) -> bool:
        """See the base class."""
        return len(_names(files)) > 0

    def read(self, files: WeightFiles, config: Mapping[str, Any] | None) -> Converted:
        """See the base class."""
        names = _names(files)
        if len(names) > 1:
            raise CheckpointError(f"{files.path}: name one of {', '.join(names)}.")
        where, content = str(files.folder / names[0]), files.torch_dict(names[0])
        model_type, arguments = model_arguments(_config_of(content, config, where), where)
        state = state_of(content["model_state_dict"], where)
        convert = CONVERTERS.find(model_type, where)
        try:
            converted = convert(arguments, state)
        except KeyError as error:
            raise CheckpointError(f"{where}: {error.args[0]} is missing.") from None
        return Converted(converted.model, converted.state, _notes(content), _task(content))


def model_arguments(model: Mapping[str, Any], where: str) -> tuple[str, dict[str, Any]]:
    """The architecture and its own block from the ``model`` section of an old configuration.

    The oldest files hold ConvTasNet's letters directly and no ``model_type``.

    Raises:
        CheckpointError: If the block of the named architecture is missing.
    """
    model_type = str(model.get("model_type") or "convtasnet")
    block = model.get(model_type)
    if block is None:
        nested = [key for key, value in model.items() if isinstance(value, Mapping)]
        if nested:
            raise CheckpointError(
                f"{where}: config.model has no '{model_type}' block, only {', '.join(nested)}."
            )
        block = {key: value for key, value in model.items() if key != "model_type" and value is not None}
    if not isinstance(block, Mapping):
        raise CheckpointError(f"{where}: config.model.{model_type} must be a mapping.")
    return model_type, dict(block)


def _config_of(content: dict[str, Any], config: Mapping[str, Any] | None, where: str) -> Mapping[str, Any]:
    stored = content.get("config")
    model = stored.get("model") if isinstance(stored, Mapping) else None
    if isinstance(model, Mapping):
        if config is not None:
            raise CheckpointError(f"{where}: holds its configuration; leave config out.")
        return model
    if config is None:
        raise CheckpointError(
            f"{where}: holds no configuration; pass the model section of the old YAML, e.g. "
            "config={'model_type': 'convtasnet', 'convtasnet': {'N': 256, 'B': 256, 'C': 2}}."
        )
    return config


def _notes(content: dict[str, Any]) -> dict[str, Any]:
    notes = {key: content[key] for key in ("epoch", "val_sisdr") if isinstance(content.get(key), int | float)}
    if isinstance(content.get("config"), Mapping):
        notes["config"] = content["config"]
    return notes


def _task(content: dict[str, Any]) -> str | None:
    config = content.get("config")
    data = config.get("data") if isinstance(config, Mapping) else None
    task = data.get("task") if isinstance(data, Mapping) else None
    return task if task in ("ES", "EB", "SB") else None


def _names(files: WeightFiles) -> list[str]:
    return [name for name in files.candidates("*.pt") if _is_legacy(files.torch_file(name))]


def _is_legacy(content: Any) -> bool:
    keys = {"model_state_dict", "optimizer_state_dict"}
    # SepReformer's trainer uses these two keys as well, but records its losses.
    return isinstance(content, dict) and content.keys() >= keys and "train_loss" not in content
