"""Recognising an ESPnet enhancement experiment and finding its converter by the separator's name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from polsess.checkpoints.formats import Converted, Converters, Reader, given_fields, naming, register_reader
from polsess.checkpoints.unpickling import CheckpointError
from polsess.checkpoints.weight_files import WeightFiles, state_of

CONVERTERS = Converters("ESPnet")
CONFIG = "config.yaml"
_PREFERENCE = (r"valid\.loss\.ave.*", r"valid\..*\.ave.*", r"valid\.loss\.best", r"valid\..*\.best", r".*")
"""Averaged models before single ones; ESPnet's own choice for scoring."""
_DEFAULT_SAMPLE_RATE = 8000  # of ESPnet's enhancement task


@register_reader
class ESPnetReader(Reader):
    """Tensors under ``separator.`` beside a ``config.yaml`` that names the separator.

    Those of a convolutional encoder and decoder are under ``encoder.`` and ``decoder.``.
    """

    format = "espnet"

    def recognises(self, files: WeightFiles) -> bool:
        if not files.has(CONFIG) or ((files.main or CONFIG) != CONFIG and not files.candidates("*.pth")):
            return False
        config = files.yaml(CONFIG)
        return isinstance(config, dict) and isinstance(config.get("separator"), str) and "encoder" in config

    def read(self, files: WeightFiles, config: Mapping[str, Any] | None) -> Converted:
        """Read and convert; ``config`` may give only the sample rate, which trainers seldom set."""
        given = given_fields(config, ["sample_rate"], str(files.path))
        experiment = files.yaml(CONFIG)
        where = str(files.folder / CONFIG)
        converter = CONVERTERS.find(experiment["separator"], where)
        name = _weights(files)
        state = _separator(state_of(files.torch_file(name), str(files.folder / name)), name, experiment)
        with naming(f"{where}, {name}"):
            converted = converter(_arguments(experiment), state)
        rate = given.get("sample_rate", experiment.get("sample_rate", _DEFAULT_SAMPLE_RATE))
        notes = {"separator": experiment["separator"], "file": name}
        return Converted({**converted.model, "sample_rate": rate}, converted.state, notes)


def _weights(files: WeightFiles) -> str:
    """The named file, or the one that ESPnet would score; links to one file count once."""
    if files.main not in (None, CONFIG):
        return str(files.main)
    names = sorted(path.name for path in files.folder.glob("*.pth") if path.name != "checkpoint.pth")
    for pattern in _PREFERENCE:
        matching = [name for name in names if re.fullmatch(pattern, name.removesuffix(".pth"))]
        if len({(files.folder / name).resolve() for name in matching}) > 1:
            raise CheckpointError(f"{files.folder}: {', '.join(matching)}: name the file that you mean.")
        if matching:
            return matching[0]
    raise CheckpointError(f"{files.folder}: {CONFIG} is of ESPnet, but there is no .pth file beside it.")


def _separator(state: Mapping[str, Tensor], name: str, experiment: Mapping[str, Any]) -> dict[str, Tensor]:
    """The separator's tensors under their own names, and those of a convolutional encoder and decoder."""
    parts = ("encoder.", "decoder.") if experiment["encoder"] == "conv" else ()
    foreign = [key for key in state if not key.startswith(("separator.", *parts))]
    if foreign:
        raise CheckpointError(f"{name}: the tensor '{foreign[0]}' is not of a separator on spectra.")
    return {key.removeprefix("separator."): value for key, value in state.items()}


def _arguments(experiment: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of the experiment that shape the network: names, and their arguments as mappings."""
    parts: dict[str, Any] = {part: experiment.get(part, "same") for part in ("encoder", "decoder")}
    for part in ("separator", "encoder", "decoder", "model"):
        conf = experiment.get(f"{part}_conf") or {}
        if not isinstance(conf, dict):
            raise CheckpointError(f"{CONFIG}: {part}_conf must be a mapping, got {conf!r:.60}.")
        parts[f"{part}_conf"] = conf
    return parts
