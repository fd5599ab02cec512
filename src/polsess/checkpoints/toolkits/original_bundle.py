"""Bundles of the original project: ``separator.json`` with the arguments, ``weights.safetensors``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from polsess import __version__
from polsess.checkpoints.formats import Converted, Reader, naming, register_reader
from polsess.checkpoints.native import plain_data, refuse_other_files, stored_tensor
from polsess.checkpoints.toolkits.original import CONVERTERS
from polsess.checkpoints.toolkits.original_layouts import layout_of
from polsess.checkpoints.unpickling import CheckpointError
from polsess.checkpoints.weight_files import WeightFiles
from polsess.machine import installed_version
from polsess.models import NetworkConfig, SeparationModel, parse_model_config
from polsess.publication import atomic_folder

_CONFIG, _WEIGHTS = "separator.json", "weights.safetensors"
_VERSION = 1
_PACKAGE_VERSION = "0.1.1"
"""Of polsess-models, whose classes a bundle that is written here fits."""
_PAST = ("epoch", "val_sisdr", "val_metric", "source_checkpoint", "training")
_NOTES = (*_PAST, "exported_on", "exported_with")
_HALVES = {"stride": "kernel_size", "hop_size": "chunk_size"}
"""Fields that are half of another where they are None."""


@register_reader
class OriginalBundleReader(Reader):
    """The folder that the original project exports for inference."""

    format = "original-bundle"

    def recognises(self, files: WeightFiles) -> bool:
        return files.main in (None, _CONFIG, _WEIGHTS) and files.has(_CONFIG, _WEIGHTS)

    def near_miss(self, files: WeightFiles) -> str | None:
        if files.main in (None, _CONFIG) and files.has(_CONFIG):
            return f"{_CONFIG} is there, {_WEIGHTS} is missing; a bundle needs both."
        return None

    def read(self, files: WeightFiles, config: Mapping[str, Any] | None) -> Converted:
        where, content = str(files.folder / _CONFIG), files.json(_CONFIG)
        if config is not None:
            raise CheckpointError(f"{where}: holds the configuration; leave config out.")
        if not isinstance(content, Mapping) or content.get("format_version") != _VERSION:
            found = content.get("format_version") if isinstance(content, Mapping) else content
            raise CheckpointError(f"{where}: format_version is {found!r}; this release reads {_VERSION}.")
        with naming(where):
            arguments, name = content["model_params"], content["model_type"]
            expected = {"sample_rate": content["sample_rate"], "num_sources": content["n_src"]}
            if not isinstance(arguments, Mapping):
                raise CheckpointError("model_params must be a mapping.")
        convert = CONVERTERS.find(str(name), where)
        with naming(where):
            converted = convert(arguments, files.safetensors(_WEIGHTS))
        if converted.model["num_sources"] != expected["num_sources"]:
            raise CheckpointError(
                f"{where}: n_src is {expected['num_sources']}, "
                f"model_params say {converted.model['num_sources']}."
            )
        notes = {key: content[key] for key in _NOTES if key in content}
        task = content.get("task")
        known = task if task in ("ES", "EB", "SB") else None
        return Converted({**converted.model, **expected}, converted.state, notes, known)


def save_bundle(
    model: SeparationModel,
    folder: str | Path,
    *,
    task: str | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Path:
    """Write a model as a bundle that ``load_separator`` of the original project's package reads.

    The folder appears whole or not at all; an older bundle in it is replaced only at the end.

    Args:
        model: The model; it must be one that the original's class of its name can be.
        folder: Folder that receives the bundle. It may hold an older one, but nothing else.
        task: The task it was trained for.
        provenance: Origin of the weights; the notes that bundles have are taken from it.

    Returns:
        The folder.

    Raises:
        CheckpointError: If the original package has no such network, a weight is not finite, or the folder
            holds other files.
    """
    target = Path(folder)
    refuse_other_files(target, (_CONFIG, _WEIGHTS))
    config, layout = model.config, layout_of(model.config)
    if model.output_sources == 1:  # its classes then leave the axis out that load_separator promises
        raise CheckpointError(
            "a bundle holds a network with two outputs or more, as [B, C, T]; this has one."
        )
    arguments = layout.arguments(config)
    try:
        fields = layout.fields(arguments)
    except CheckpointError as error:
        raise CheckpointError(
            f"the original project's {config.model_type} has no such option: {error}"
        ) from None
    _refuse_other_options(config, fields)
    notes = {key: (provenance or {}).get(key) for key in _PAST}
    content = {
        "format_version": _VERSION,
        "polsess_models_version": _PACKAGE_VERSION,
        "model_type": layout.name,
        "model_params": arguments,
        "sample_rate": model.sample_rate,
        "n_src": model.output_sources,
        "task": task,
        **plain_data(notes),
        "exported_on": date.today().isoformat(),
        "exported_with": {
            "polsess": __version__,
            **{name: installed_version(name) for name in ("torch", "safetensors")},
        },
    }
    tensors = layout.tensors(config, model.state_dict())
    with atomic_folder(target) as temporary:
        stored = {key: stored_tensor(key, value, half_precision=False) for key, value in tensors.items()}
        save_file(stored, temporary / _WEIGHTS)
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        (temporary / _CONFIG).write_text(text, encoding="utf-8")
    return target


def _refuse_other_options(config: NetworkConfig, fields: Mapping[str, Any]) -> None:
    """See that the original's class would be this network; what acts in training only is left out."""
    built = parse_model_config({**fields, "sample_rate": config.sample_rate})
    wanted, given = _options(built), _options(config)
    if other := [
        f"{key}={given[key]!r} (there {wanted[key]!r})" for key in given if given[key] != wanted[key]
    ]:
        raise CheckpointError(
            f"the original project's {config.model_type} has no {', '.join(other)}; this network cannot be a "
            "bundle of it."
        )


def _options(config: NetworkConfig) -> dict[str, Any]:
    values = config.model_dump(exclude={"dropout"})
    for name, whole in _HALVES.items():
        if name in values and values[name] is None:
            values[name] = values[whole] // 2
    return values
