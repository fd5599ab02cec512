"""Recognising and reading SPMamba's files: by their tensors, since the class name in them is not reliable."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from torch import Tensor

from polsess.checkpoints.formats import CheckpointError, Converted, Reader, register_reader
from polsess.checkpoints.look2hear.spmamba import convert_spmamba, is_spmamba
from polsess.checkpoints.weight_files import WeightFiles, state_of, unwrapped, without_prefix

CONF = "conf.yml"
_NAMES = ("best_model.pth", "*.ckpt")
"""The trainer's files: the best model, and those of epochs."""
MAX_MEMBER_BYTES = 1 << 30
MAX_MEMBERS = 1000
_UNTOLD = {"hop_length", "stride", "sample_rate", "eps"}
"""Fields that no tensor shows."""


@register_reader
class Look2HearReader(Reader):
    """``best_model.pth`` or a Lightning checkpoint, alone, beside ``conf.yml``, or with it in a zip."""

    format = "look2hear"

    def recognises(self, files: WeightFiles) -> bool:
        """See the base class."""
        if _is_release(files):
            return bool(_members(files.path, *_NAMES))
        return bool(_find(files))

    def read(self, files: WeightFiles, config: Mapping[str, Any] | None) -> Converted:
        """See the base class; ``config`` may say only what no tensor shows."""
        if not _is_release(files):
            return _read(files, config)
        with tempfile.TemporaryDirectory() as folder:
            converted = _read(WeightFiles(_extract(files.path, Path(folder))), config)
            state = {key: value.clone() for key, value in converted.state.items()}
        return Converted(converted.model, state, converted.provenance)


def _read(files: WeightFiles, config: Mapping[str, Any] | None) -> Converted:
    names = _find(files)
    if not names:
        raise CheckpointError(f"{files.path}: the archive holds no tensors of SPMamba.")
    name = _only(names, files.folder)
    where, content = str(files.folder / name), files.torch_dict(name)
    conf = _conf(files, content)
    given = dict(config or {})
    untold = _UNTOLD if conf is None else set()
    if not given.keys() <= untold | {"model_type"}:
        told = ", ".join(sorted(given.keys() - untold - {"model_type"}))
        raise CheckpointError(f"{where}: tells {told} itself; leave it out of config.")
    state = state_of(_tensors(content), where)
    try:
        converted = convert_spmamba(_arguments(conf, where), state)
    except CheckpointError as error:
        raise CheckpointError(f"{where}: {error}") from None
    notes: dict[str, Any] = {
        key: content[key] for key in ("model_name", "epoch", "global_step") if key in content
    }
    return Converted({**converted.model, **given, "model_type": "spmamba"}, converted.state, notes)


def _conf(files: WeightFiles, content: Mapping[str, Any]) -> Any:
    """The run's configuration, from the checkpoint itself or from beside it."""
    if "training_config" in content:
        return content["training_config"]
    return files.yaml(CONF) if files.has(CONF) else None


def _arguments(conf: Any, where: str) -> dict[str, Any]:
    if conf is None:
        return {}
    try:
        found = {"audionet_config": dict(conf["audionet"]["audionet_config"])}
        return {**found, "sample_rate": conf["datamodule"]["data_config"]["sample_rate"]}
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{where}: {CONF}: expected Look2Hear's sections, missing {error}.") from None


def _find(files: WeightFiles) -> list[str]:
    """The files with SPMamba's tensors; of a folder its best model alone, if it is there."""
    patterns = ("*.pth", "*.ckpt", "*.pt", "*.bin") if files.main else _NAMES
    names = [name for name in files.candidates(*patterns) if is_spmamba(_tensors(files.torch_file(name)))]
    return [name for name in names if name == _NAMES[0]] or names


def _only(names: Sequence[str], where: Path) -> str:
    """The one name; which of several epochs is meant, nothing tells."""
    if len(names) > 1:
        raise CheckpointError(f"{where}: {', '.join(names)}: name the file that you mean.")
    return names[0]


def _tensors(content: Any) -> dict[str, Tensor]:
    """The network's entries, without the prefixes of the trainer and of wrappers."""
    inner = content.get("state_dict", content) if isinstance(content, dict) else {}
    if not isinstance(inner, Mapping):
        return {}
    named = unwrapped({key: value for key, value in inner.items() if isinstance(key, str)})
    if any(key.startswith("audio_model.") for key in named):
        named = unwrapped(without_prefix(named, "audio_model."))
    return named


def _is_release(files: WeightFiles) -> bool:
    return files.main is not None and files.main.endswith(".zip")


def _members(path: Path, *patterns: str) -> list[zipfile.ZipInfo]:
    """The files of the archive whose own names match the first of these patterns that any matches."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [each for each in archive.infolist() if not each.is_dir()]
    except (zipfile.BadZipFile, OSError) as error:
        raise CheckpointError(f"{path}: not a whole zip archive ({error}).") from None
    if len(members) > MAX_MEMBERS:
        raise CheckpointError(f"{path}: {len(members)} files; at most {MAX_MEMBERS} are read.")
    shown = [each for each in members if not PurePosixPath(each.filename).name.startswith(".")]
    for pattern in patterns:
        if matching := [each for each in shown if PurePosixPath(each.filename).match(pattern)]:
            return matching
    return []


def _extract(path: Path, folder: Path) -> Path:
    """Unpack the weights and their configuration under fixed names; no name of the archive is used."""
    weights = {each.filename: each for each in _members(path, *_NAMES)}
    name = _only(list(weights), path)
    target = folder / ("best_model.pth" if name.endswith(".pth") else "last.ckpt")
    wanted = [(weights[name], target), *((conf, folder / CONF) for conf in _members(path, CONF)[:1])]
    for member, destination in wanted:
        if member.file_size > MAX_MEMBER_BYTES:
            raise CheckpointError(f"{path}: {member.filename} is larger than {MAX_MEMBER_BYTES} bytes.")
        try:
            with zipfile.ZipFile(path) as archive, archive.open(member) as source:
                destination.write_bytes(source.read(MAX_MEMBER_BYTES))
        except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError) as error:
            raise CheckpointError(f"{path}: {member.filename} cannot be unpacked ({error}).") from None
    return target
