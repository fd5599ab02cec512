"""The checkpoints of our own training: Lightning files with the whole configuration beside the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from polsess.checkpoints.formats import CheckpointError, Converted, Reader, register_reader
from polsess.checkpoints.weight_files import WeightFiles, state_of, without_prefix

_KEYS = {"polsess_config", "state_dict"}


@register_reader
class TrainingReader(Reader):
    """``polsess_config`` (plain data with ``model``) and ``state_dict`` with the model under ``model.``."""

    format = "training"

    def recognises(self, files: WeightFiles) -> bool:
        """See the base class."""
        return len(self._names(files)) > 0

    def read(self, files: WeightFiles, config: Mapping[str, Any] | None) -> Converted:
        """See the base class."""
        names = self._names(files)
        if len(names) > 1:
            raise CheckpointError(f"{files.path}: name one of {', '.join(names)}.")
        where, content = str(files.folder / names[0]), files.torch_dict(names[0])
        stored = content["polsess_config"]
        if not isinstance(stored, Mapping) or not isinstance(stored.get("model"), Mapping):
            raise CheckpointError(f"{where}: polsess_config has no model section.")
        if config is not None:
            raise CheckpointError(f"{where}: holds its configuration; leave config out.")
        state = without_prefix(state_of(content["state_dict"], where), "model.")
        notes = {key: content[key] for key in ("epoch", "global_step") if isinstance(content.get(key), int)}
        if isinstance(content.get("polsess_origin"), Mapping):
            notes["started_from"] = dict(content["polsess_origin"])
        task = stored.get("task")
        return Converted(
            dict(stored["model"]),
            state,
            {**notes, "config": dict(stored)},
            task if isinstance(task, str) else None,
        )

    def _names(self, files: WeightFiles) -> list[str]:
        return [name for name in files.candidates("*.ckpt") if _is_ours(files.torch_file(name))]


def _is_ours(content: Any) -> bool:
    return isinstance(content, dict) and content.keys() >= _KEYS
