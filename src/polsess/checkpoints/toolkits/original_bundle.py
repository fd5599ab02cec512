"""Bundles of the original project: ``separator.json`` with the arguments, ``weights.safetensors``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from polsess.checkpoints.formats import Converted, Reader, naming, register_reader
from polsess.checkpoints.toolkits.original import CONVERTERS
from polsess.checkpoints.unpickling import CheckpointError
from polsess.checkpoints.weight_files import WeightFiles

_CONFIG, _WEIGHTS = "separator.json", "weights.safetensors"
_VERSION = 1
_NOTES = ("epoch", "val_sisdr", "val_metric", "source_checkpoint", "training", "exported_on", "exported_with")


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
