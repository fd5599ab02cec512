"""Recognising and reading Asteroid's files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from polsess.checkpoints.formats import (
    CheckpointError,
    Converted,
    Converters,
    Reader,
    register_reader,
)
from polsess.checkpoints.weight_files import WeightFiles, state_of
from polsess.schema import suggest

CONVERTERS = Converters("Asteroid")
"""By ``model_name``; each module of this package registers ``convert_<arch>(arguments, state)``.

``arguments`` are the file's ``model_args``, ``state`` its tensors under Asteroid's names.
"""

_KEYS = {"model_name", "model_args", "state_dict"}
_PROVENANCE = ("dataset", "task", "licenses", "infos")


@register_reader
class AsteroidReader(Reader):
    """Pickled dictionaries of ``model_name``, ``model_args`` and ``state_dict``."""

    format = "asteroid"

    def recognises(self, files: WeightFiles) -> bool:
        """See the base class."""
        return self._find(files) is not None

    def read(self, files: WeightFiles, config: Mapping[str, Any] | None) -> Converted:
        """See the base class."""
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
        try:
            converted = convert(arguments, state)
        except KeyError as error:
            raise CheckpointError(f"{where}: {error.args[0]} is missing.") from None
        except CheckpointError:
            raise
        except (TypeError, ValueError, ArithmeticError) as error:
            raise CheckpointError(
                f"{where}: an argument in model_args is of a wrong kind: {error}."
            ) from None
        notes = {key: content[key] for key in _PROVENANCE if key in content}
        return Converted(converted.model, converted.state, notes)

    def near_miss(self, files: WeightFiles) -> str | None:
        """See the base class."""
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


def is_asteroid(content: Any) -> bool:
    """Whether an unpickled file has the layout that Asteroid (and Look2Hear) publish."""
    return isinstance(content, dict) and content.keys() >= _KEYS and isinstance(content["model_name"], str)


def _names(files: WeightFiles) -> list[str]:
    named = ("*.bin", "*.pth", "*.pt", "*.ckpt")
    return files.candidates(*(named if files.main else ("pytorch_model.bin", "model.pth", "best_model.pth")))
