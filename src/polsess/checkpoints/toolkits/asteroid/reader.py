"""Asteroid's files, and the filterbank and last stage that its networks share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from polsess.checkpoints.formats import Converted, Converters, Reader, naming, register_reader
from polsess.checkpoints.translation import Arguments, Rule
from polsess.checkpoints.unpickling import CheckpointError
from polsess.checkpoints.weight_files import WeightFiles, state_of
from polsess.schema import suggest

CONVERTERS = Converters("Asteroid")
"""Converters by ``model_name``; each module of this package registers ``convert_<arch>(arguments, state)``.

``arguments`` are the file's ``model_args``, ``state`` its tensors under Asteroid's names.
"""

_KEYS = {"model_name", "model_args", "state_dict"}
_PROVENANCE = ("dataset", "task", "licenses", "infos")


@register_reader
class AsteroidReader(Reader):
    """Pickled dictionaries of ``model_name``, ``model_args`` and ``state_dict``."""

    format = "asteroid"

    def recognises(self, files: WeightFiles) -> bool:
        return self._find(files) is not None

    def read(self, files: WeightFiles, config: Mapping[str, Any] | None) -> Converted:
        name = self._find(files)
        assert name is not None
        where, content = str(files.folder / name), files.torch_dict(name)
        if config is not None:
            raise CheckpointError(f"{where}: holds its configuration; leave config out.")
        arguments = content["model_args"]
        if not isinstance(arguments, Mapping):
            raise CheckpointError(f"{where}: model_args must be a mapping, got {type(arguments).__name__}.")
        convert = CONVERTERS.find(str(content["model_name"]), where)
        state: dict[str, Tensor] = state_of(content["state_dict"], where)
        with naming(where):
            converted = convert({**_versions(content), **arguments}, state)
        notes = {key: content[key] for key in _PROVENANCE if key in content}
        return Converted(converted.model, converted.state, notes)

    def near_miss(self, files: WeightFiles) -> str | None:
        for name in _names(files):
            if is_asteroid(files.torch_file(name)):
                model_name = str(files.torch_dict(name)["model_name"])
                return f"the class '{model_name}' is not known here." + suggest(
                    model_name, list(CONVERTERS), "Readable"
                )
        return None

    def _find(self, files: WeightFiles) -> str | None:
        for name in _names(files):
            content = files.torch_file(name)
            if is_asteroid(content) and content["model_name"] in CONVERTERS:
                return name
        return None


def _versions(content: Mapping[str, Any]) -> dict[str, Any]:
    """The version of torch that a file names, as an argument."""
    infos = content.get("infos")
    versions = infos.get("software_versions") if isinstance(infos, Mapping) else None
    version = versions.get(TORCH_VERSION) if isinstance(versions, Mapping) else None
    return {} if version is None else {TORCH_VERSION: str(version)}


def is_asteroid(content: Any) -> bool:
    """Whether an unpickled file has the layout that Asteroid (and Look2Hear) publish."""
    return isinstance(content, dict) and content.keys() >= _KEYS and isinstance(content["model_name"], str)


def _names(files: WeightFiles) -> list[str]:
    named = ("*.bin", "*.pth", "*.pt", "*.ckpt")
    return files.candidates(*(named if files.main else ("pytorch_model.bin", "model.pth", "best_model.pth")))


ACTIVATIONS = {
    **{name: name for name in ("linear", "relu", "leaky_relu", "prelu", "gelu", "sigmoid", "tanh")},
    "swish": "silu",
}
"""Our words for activations without further arguments."""
NORMS = {name: name for name in ("gLN", "cLN", "cgLN", "fgLN", "bN")}
NORM_TENSORS = {
    **{name: name for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")},
    "gamma": "weight",
    "beta": "bias",
}
"""Our names of the tensors of a norm; only a batch normalisation has the first five."""
TORCH_VERSION = "torch_version"
"""An argument that readers add where the file names the version."""


def norm_rules(foreign: str, native: str) -> list[Rule]:
    """Rules for every tensor of a norm under a pattern with groups."""
    return [(rf"{foreign}\.{theirs}", f"{native}.{ours}") for theirs, ours in NORM_TENSORS.items()]


GATED_RULES: list[Rule] = [
    (r"masker\.first_out\.0\.weight", "to_masks.activation.weight"),
    (r"masker\.first_out\.1\.(weight|bias)", r"to_masks.to_sources.\1"),
    (r"masker\.net_out\.0\.(weight|bias)", r"to_masks.output.\1"),
    (r"masker\.net_gate\.0\.(weight|bias)", r"to_masks.output_gate.\1"),
    (r"masker\.output_act\.weight", "to_masks.nonlinearity.weight"),
]
"""From processed chunks to gated frames; output and gate are still to be joined."""


def read_mask_activation(arguments: Arguments, default: str, *, softmax: str) -> str:
    """Our word for ``mask_act``.

    Args:
        arguments: The model's arguments, from which it is taken.
        default: The word where the file names no activation.
        softmax: The word for a softmax in this architecture: each ran over another dimension.

    Raises:
        CheckpointError: If the activation is not read.
    """
    return arguments.choose("mask_act", {**ACTIVATIONS, "softmax": softmax}, default=default)


def source_softmax(num_sources: Any) -> str:
    """Mask for a softmax over the sources; over a single source it is one for every input."""
    return "ones" if num_sources == 1 else "softmax"
