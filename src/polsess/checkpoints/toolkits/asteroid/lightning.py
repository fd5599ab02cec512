"""Checkpoints of Asteroid's trainer: Lightning files with the network under ``model.``.

They name no class, so the tensors decide. Arguments are in the file's ``training_config``, in the run's
``conf.yml``, or in no file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from polsess.checkpoints.formats import Converted, Reader, naming, register_reader
from polsess.checkpoints.toolkits.asteroid.reader import CONVERTERS
from polsess.checkpoints.unpickling import CheckpointError
from polsess.checkpoints.weight_files import WeightFiles, state_of, without_prefix

_CONF = ("conf.yml", "../conf.yml")
"""Places of the run's files: beside the checkpoint, or above the folder ``checkpoints`` of a run."""
_CLASSES = {
    r"masker\.TCN\.0\.": "ConvTasNet",
    r"masker\.net\.0\.intra_RNN\.": "DPRNNTasNet",
    r"masker\.layers\.0\.0\.mha\.": "DPTNet",
    r"masker\.masker\.0\.rnn\.": "LSTMTasNet",
    r"masker\.bottleneck\.weight": "SuDORMRFImprovedNet",
    r"masker\.reshape_before_masks\.": "SuDORMRFNet",
}
"""A tensor that only one class has."""


@register_reader
class AsteroidTrainingReader(Reader):
    """``state_dict`` with ``model.encoder``, ``model.masker`` and ``model.decoder``."""

    format = "asteroid"

    def recognises(self, files: WeightFiles) -> bool:
        return len(_names(files)) > 0

    def read(self, files: WeightFiles, config: Mapping[str, Any] | None) -> Converted:
        """Read and convert; ``config`` holds the class's arguments, e.g. ``n_src``, where no file does."""
        names = _names(files)
        if len(names) > 1:
            raise CheckpointError(f"{files.path}: {', '.join(names)}: name the file that you mean.")
        where, content = str(files.folder / names[0]), files.torch_dict(names[0])
        state = without_prefix(state_of(content["state_dict"], where), "model.")
        class_name = _class_name(state)
        assert class_name is not None
        with naming(where):
            converted = CONVERTERS[class_name](_arguments(files, content, class_name, config), state)
        notes = {key: content[key] for key in ("epoch", "global_step") if isinstance(content.get(key), int)}
        return Converted(converted.model, converted.state, notes)


def _names(files: WeightFiles) -> list[str]:
    return [name for name in files.candidates("*.ckpt") if _is_training(files.torch_file(name))]


def _is_training(content: Any) -> bool:
    state = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(state, Mapping):
        return False
    names = [key.removeprefix("model.") for key in state if isinstance(key, str) and key.startswith("model.")]
    return _class_name(dict.fromkeys(names)) is not None


def _class_name(state: Mapping[str, Any]) -> str | None:
    if not any("filterbank" in key for key in state):
        return None
    found = (name for pattern, name in _CLASSES.items() if any(re.match(pattern, key) for key in state))
    return next(found, None)


def _arguments(
    files: WeightFiles, content: Mapping[str, Any], class_name: str, config: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The arguments as the recipe gave them: sections ``filterbank`` and ``masknet``, and the data's rate."""
    run = content.get("training_config")
    conf = next((name for name in _CONF if files.has(name)), None)
    if not (isinstance(run, Mapping) and "masknet" in run):
        run = files.yaml(conf) if conf else None
    if run is None:
        if config is None:
            raise CheckpointError(
                f"the arguments of {class_name} are neither in the file nor in a conf.yml beside it; pass "
                "them, e.g. config={'n_src': 2, 'n_filters': 512, 'kernel_size': 16, 'sample_rate': 8000}."
            )
        return {key: value for key, value in config.items() if key != "model_type"}
    if config is not None:
        raise CheckpointError(f"{conf or 'the file'} holds the configuration; leave config out.")
    names = ("filterbank", "masknet", "data")
    sections = [
        run[name] for name in names if isinstance(run, Mapping) and isinstance(run.get(name), Mapping)
    ]
    if len(sections) < len(names):
        raise CheckpointError("the run's configuration has no sections filterbank, masknet and data.")
    filterbank, masknet, data = sections
    shared = {name: data[name] for name in ("n_src", "sample_rate") if name in data}
    return {**shared, **filterbank, **masknet}
