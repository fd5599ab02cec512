"""Look2Hear's SPMamba: ``best_model.pth`` or a Lightning checkpoint, with ``conf.yml`` where it was kept.

The files are recognised by their tensors, since the class name in them is not reliable.
"""

from __future__ import annotations

import re
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from torch import Tensor

from polsess.checkpoints.formats import Converted, Reader, given_fields, naming, register_reader
from polsess.checkpoints.toolkits.espnet.tfgridnet import count_heads, take_attention
from polsess.checkpoints.translation import Arguments, rename, take
from polsess.checkpoints.unpickling import CheckpointError
from polsess.checkpoints.weight_files import WeightFiles, state_of, unwrapped, without_prefix

_WHERE = "SPMamba"
_PATHS = {"intra": "frequency_path", "inter": "time_path"}
_SIDES = {"forward_blocks": "from_start", "backward_blocks": "from_end"}
_KEY = re.compile(r"blocks\.0\.intra_mamba\.forward_blocks\.0\.mixer\.A_log")


def is_spmamba(state: Mapping[str, Any]) -> bool:
    """Whether these are SPMamba's tensors, whatever class name is beside them."""
    return any(_KEY.fullmatch(key) for key in state)


def convert_spmamba(arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> Converted:
    """Convert SPMamba.

    Args:
        arguments: ``audionet_config`` and ``sample_rate`` of ``conf.yml``; without them all is read from the
            shapes of the tensors.
        state: The tensors.

    Raises:
        CheckpointError: If an argument has a value that is not offered here or a tensor is not SPMamba's.
    """
    try:
        model = _sizes(state)
    except (KeyError, IndexError) as error:
        raise CheckpointError(f"{_WHERE}: the tensors are incomplete ({error}).") from None
    model = {**model, **_configured(arguments.get("audionet_config") or {})}
    model["sample_rate"] = arguments.get("sample_rate", 8000 if model["n_fft"] < 512 else 16000)
    return Converted(model, _convert_state(state, model["num_channels"], model["kernel_size"]))


def _configured(values: Mapping[str, Any]) -> dict[str, Any]:
    """Our fields from ``audionet_config``; nothing where it is absent."""
    if not values:
        return {}
    arguments = Arguments(values, _WHERE)
    names = {
        "num_sources": ("n_srcs", 2), "n_fft": ("n_fft", 128), "hop_length": ("stride", 64),
        "num_blocks": ("n_layers", 6), "num_heads": ("attn_n_head", 4),
        "approximate_qk_size": ("attn_approx_qk_dim", 512), "num_channels": ("emb_dim", 48),
        "kernel_size": ("emb_ks", 4), "stride": ("emb_hs", 1), "eps": ("eps", 1e-5),
    }  # fmt: skip
    fields = {ours: arguments.take(theirs, default=default) for ours, (theirs, default) in names.items()}
    for name, value in (("window", "hann"), ("n_imics", 1), ("activation", "prelu")):
        arguments.expect(name, value)
    # The class takes the first two and uses neither; the third chooses between equal computations.
    arguments.ignore("input_dim", "lstm_hidden_units", "use_builtin_complex", "sample_rate")
    arguments.finish()
    return fields


def _sizes(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Every size that a tensor shows; windows are taken to overlap as published."""
    block = _block(state, 0)
    scan = {key.removeprefix("intra_mamba.forward_blocks.0.mixer."): value for key, value in block.items()}
    bins = block["attn_concat_proj.2.gamma"].shape[3]
    channels, kernel_size = state["conv.0.weight"].shape[0], block["intra_linear.weight"].shape[2]
    return {
        "model_type": "spmamba",
        "num_sources": state["deconv.weight"].shape[1] // 2,
        "n_fft": 2 * (bins - 1),
        "hop_length": (bins - 1) // 2,
        "num_blocks": len({key.split(".")[1] for key in state if key.startswith("blocks.")}),
        "num_channels": channels,
        "kernel_size": kernel_size,
        "stride": 1,
        "num_heads": count_heads(block),
        "approximate_qk_size": block["attn_conv_Q_0.0.weight"].shape[0] * bins,
        "num_states": scan["A_log"].shape[1],
        "conv_kernel_size": scan["conv1d.weight"].shape[2],
        "expansion": scan["A_log"].shape[0] // max(1, channels * kernel_size),
    }


def _block(state: Mapping[str, Tensor], index: int) -> dict[str, Tensor]:
    prefix = f"blocks.{index}."
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def _convert_state(state: Mapping[str, Tensor], channels: int, kernel_size: int) -> dict[str, Tensor]:
    frame = [(r"conv\.0\.(weight|bias)", r"conv.\1"), (r"conv\.1\.(weight|bias)", r"norm.\1")]
    rest = {key: value for key, value in state.items() if not key.startswith("blocks.")}
    converted = rename(rest, [*frame, (r"deconv\.(weight|bias)", r"deconv.\1")], _WHERE)
    for index in sorted({key.split(".")[1] for key in state if key.startswith("blocks.")}):
        block, where = {}, f"{_WHERE}: blocks.{index}"
        left = {k.split(".", 2)[2]: v for k, v in state.items() if k.startswith(f"blocks.{index}.")}
        block = {f"attention.{key}": value for key, value in take_attention(left, where).items()}
        for theirs, ours in _PATHS.items():
            path = _take_path(left, theirs, channels, kernel_size, where)
            block |= {f"{ours}.{key}": value for key, value in path.items()}
        rename(left, [], where)  # refuses what is left over
        converted |= {f"blocks.{index}.{key}": value for key, value in block.items()}
    return converted


def _take_path(
    state: dict[str, Tensor], name: str, channels: int, kernel_size: int, where: str
) -> dict[str, Tensor]:
    """One path; within a window the channels are the minor order here, the major order there."""

    def window_minor(tensor: Tensor, dimension: int) -> Tensor:
        windows = tensor.unflatten(dimension, (-1, channels, kernel_size))
        return windows.transpose(dimension + 1, dimension + 2).flatten(dimension, dimension + 2)

    try:
        linear = take(state, f"{name}_linear.weight", where)  # [2 * D * I, D, I]
        path = {
            "norm.weight": take(state, f"{name}_norm.gamma", where).flatten(),
            "norm.bias": take(state, f"{name}_norm.beta", where).flatten(),
            "projection.weight": window_minor(linear.permute(2, 1, 0).flatten(0, 1), 1),
            "bias": take(state, f"{name}_linear.bias", where),
        }
        pattern = re.compile(rf"{name}_mamba\.(\w+_blocks)\.(\d+)\.(norm|mixer)\.(.+)")
        for key in [key for key in state if pattern.fullmatch(key)]:
            side, layer, part, tensor = pattern.fullmatch(key).groups()  # type: ignore[union-attr]
            value = state.pop(key)
            if part == "norm" or tensor == "out_proj.weight":
                value = window_minor(value, 0)
            elif tensor == "in_proj.weight":
                value = window_minor(value, 1)
            path[f"sequence.{_SIDES.get(side, side)}.{part}s.{layer}.{tensor}"] = value
    except (RuntimeError, IndexError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(
            f"{where}: {name}: the shapes do not fit {channels} channels: {error}."
        ) from None
    return path


CONF = "conf.yml"
_NAMES = ("best_model.pth", "*.ckpt")
"""The trainer's files: the best model, and those of epochs."""
MAX_MEMBER_BYTES = 1 << 30
MAX_MEMBERS = 1000
_NOT_IN_TENSORS = {"hop_length", "stride", "sample_rate", "eps"}
"""Fields that no tensor shows."""


@register_reader
class Look2HearReader(Reader):
    """``best_model.pth`` or a Lightning checkpoint, alone, beside ``conf.yml``, or with it in a zip."""

    format = "look2hear"

    def recognises(self, files: WeightFiles) -> bool:
        if _is_release(files):
            return bool(_members(files.path, *_NAMES))
        return bool(_find(files))

    def read(self, files: WeightFiles, config: Mapping[str, Any] | None) -> Converted:
        """Read and convert; ``config`` may give only what no tensor shows."""
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
    given = given_fields(config, _NOT_IN_TENSORS if conf is None else (), where)
    state = state_of(_tensors(content), where)
    with naming(where):
        converted = convert_spmamba(_arguments(conf, where), state)
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
    """The one name; of several epochs, the user must name one."""
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
