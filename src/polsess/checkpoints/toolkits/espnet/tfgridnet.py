"""ESPnet's ``TFGridNet`` and ``TFGridNetV2``, which hold their own transform.

SPMamba took over the blocks of version 1, which keep every attention head apart, with their names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from polsess.checkpoints.formats import Converted
from polsess.checkpoints.toolkits.espnet.reader import CONVERTERS
from polsess.checkpoints.translation import Arguments, Rule, rename, take
from polsess.checkpoints.unpickling import CheckpointError

WINDOWS = {"hann": "hann", "hamming": "hamming", None: "rectangular"}


@CONVERTERS.register("tfgridnet")
def convert_version_1(arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> Converted:
    """Convert version 1, whose heads are modules of their own.

    Raises:
        CheckpointError: If the tensors are of version 2, or do not fit the arguments.
    """
    if any("attn_norm_" in key for key in state):
        raise CheckpointError("the separator is named tfgridnet, but its tensors are those of tfgridnetv2.")
    return _convert(arguments, state, 1, "ESPnet tfgridnet")


@CONVERTERS.register("tfgridnetv2")
def convert_version_2(arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> Converted:
    """Convert version 2."""
    return _convert(arguments, state, 2, "ESPnet tfgridnetv2")


def _convert(
    arguments: Mapping[str, Any], state: Mapping[str, Tensor], version: int, where: str
) -> Converted:
    for part in ("encoder", "decoder"):
        Arguments(arguments, where).expect(part, "same")
    model = _read_arguments(Arguments(arguments["separator_conf"], where), version)
    steps_have_biases = version == 2 and model["kernel_size"] == model["stride"]
    sizes = None if steps_have_biases else (model["num_channels"], model["kernel_size"])
    try:
        rest, attention = _split_attention(state, where) if version == 1 else (state, {})
        renamed = rename(rest, rules(steps_have_biases), where)
        native = {key: _native_layout(key, value, sizes) for key, value in renamed.items()}
    except (RuntimeError, IndexError, TypeError) as error:
        raise CheckpointError(f"{where}: a tensor does not fit the sizes in the file ({error}).") from None
    return Converted(model, native | attention)


def _read_arguments(separator: Arguments, version: int) -> dict[str, Any]:
    separator.expect("n_imics", 1)
    separator.expect("activation", "prelu")
    separator.ignore("input_dim", "use_builtin_complex")
    model = {
        "model_type": "tfgridnet",
        "version": version,
        "num_sources": separator.take("n_srcs", default=2),
        "n_fft": separator.take("n_fft", default=128),
        "hop_length": separator.take("stride", default=64),
        "window": separator.choose("window", WINDOWS, default="hann"),
        "num_blocks": separator.take("n_layers", default=6),
        "num_channels": separator.take("emb_dim", default=48),
        "kernel_size": separator.take("emb_ks", default=4),
        "stride": separator.take("emb_hs", default=1),
        "hidden_size": separator.take("lstm_hidden_units", default=192),
        "num_heads": separator.take("attn_n_head", default=4),
        "approximate_qk_size": separator.take("attn_approx_qk_dim", default=512),
        "eps": separator.take("eps", default=1e-5),
    }
    separator.finish()
    return model


def _split_attention(state: Mapping[str, Tensor], where: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Version 1's tensors without those of the attention, and those of the attention under our names."""
    rest: dict[str, Tensor] = {}
    blocks: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        if match := re.fullmatch(r"(blocks\.\d+)\.(attn_.+)", key):
            blocks.setdefault(match[1], {})[match[2]] = value
        else:
            rest[key] = value
    attention: dict[str, Tensor] = {}
    for block, tensors in blocks.items():
        found = take_attention(tensors, f"{where}, {block}")
        if tensors:
            raise CheckpointError(f"{where}: the tensor '{block}.{min(tensors)}' is not part of it.")
        attention |= {f"{block}.attention.{key}": value for key, value in found.items()}
    return rest, attention


def rules(steps_have_biases: bool) -> list[Rule]:
    """Destinations of the tensors of version 2; version 1 differs in the attention alone.

    Args:
        steps_have_biases: Whether each step of a window has a bias of its own.
    """
    block, attention = r"(blocks\.\d+)\.", r"\1.attention."
    found: list[Rule] = [(r"conv\.0\.(weight|bias)", r"conv.\1"), (r"conv\.1\.(weight|bias)", r"norm.\1")]
    found += [(r"(deconv\.(?:weight|bias))", r"\1")]
    for theirs, ours in (("intra", r"\1.frequency_path."), ("inter", r"\1.time_path.")):
        found += [
            (rf"{block}{theirs}_norm\.(?:weight|gamma)", f"{ours}norm.weight"),
            (rf"{block}{theirs}_norm\.(?:bias|beta)", f"{ours}norm.bias"),
            (rf"{block}{theirs}_rnn\.(\w+)", rf"{ours}sequence.\2"),
            (rf"{block}{theirs}_linear\.weight", f"{ours}projection.weight"),
            (rf"{block}{theirs}_linear\.bias", f"{ours}{'projection.' if steps_have_biases else ''}bias"),
        ]
    for theirs, ours in (("Q", "query"), ("K", "key"), ("V", "value")):
        found += [
            (rf"{block}attn_conv_{theirs}\.(weight|bias)", rf"{attention}{ours}.linear.\2"),
            (rf"{block}attn_norm_{theirs}\.act\.weight", f"{attention}{ours}.slope"),
            (rf"{block}attn_norm_{theirs}\.gamma", f"{attention}{ours}.weight"),
            (rf"{block}attn_norm_{theirs}\.beta", f"{attention}{ours}.bias"),
        ]
    output = rf"{block}attn_concat_proj\."
    found += [(rf"{output}0\.(weight|bias)", rf"{attention}linear.\2")]
    found += [(rf"{output}1\.weight", f"{attention}activation.weight")]
    found += [
        (rf"{output}2\.gamma", f"{attention}norm.weight"),
        (rf"{output}2\.beta", f"{attention}norm.bias"),
    ]
    return found


def _native_layout(key: str, value: Tensor, sizes: tuple[int, int] | None) -> Tensor:
    """Channels last: within a window as on the grid.

    Args:
        key: Our name.
        value: Their tensor.
        sizes: D and I where windows are channel-major there; None where they are as here.
    """
    if sizes and re.search(r"sequence\.weight_ih", key):
        return value.unflatten(1, sizes).mT.flatten(1)
    if sizes and key.endswith("projection.weight"):
        return value.permute(2, 1, 0).flatten(0, 1)  # [2H, D, I] -> [I * D, 2H]
    if re.search(r"attention\.(\w+\.)?linear\.weight", key):
        return value.flatten(1)
    if re.search(r"attention\.norm\.", key):
        return value[0, :, 0].mT.contiguous()  # [1, D, 1, F] -> [F, D]
    if re.search(r"attention\.\w+\.(weight|bias)", key) and value.ndim == 5:
        return value[0, :, :, 0].mT.contiguous()  # [1, H, E, 1, F] -> [H, F, E]
    return value.flatten() if re.search(r"path\.norm\.", key) else value


_ROLES = {"Q": "query", "K": "key", "V": "value"}


def take_attention(state: dict[str, Tensor], where: str) -> dict[str, Tensor]:
    """Remove the tensors of one block's attention and return them as those of ``FrameAttention``.

    Args:
        state: Tensors of one block by their foreign names.
        where: The block, for messages.

    Raises:
        CheckpointError: If a tensor is missing or heads differ in shape.
    """
    attention: dict[str, Tensor] = {}
    for letter, role in _ROLES.items():
        heads = count_heads(state, letter)
        parts = [_take_head(state, f"attn_conv_{letter}_{head}", where) for head in range(heads)]
        if not parts or len({part["weight"].shape for part in parts}) != 1:
            raise CheckpointError(f"{where}: attn_conv_{letter}_*: expected heads of one shape.")
        joined = {name: [part[name] for part in parts] for name in parts[0]}
        for name in ("linear.weight", "linear.bias", "slope"):
            attention[f"{role}.{name}"] = torch.cat(joined[name])
        for name in ("weight", "bias"):
            attention[f"{role}.{name}"] = torch.stack(joined[name])
    output = _take_head(state, "attn_concat_proj", where)
    names = {"slope": "activation.weight", "weight": "norm.weight", "bias": "norm.bias"}
    return attention | {names.get(name, name): value for name, value in output.items()}


def count_heads(state: dict[str, Tensor], letter: str = "Q") -> int:
    """Number of heads in the tensors of one block."""
    found = (re.match(rf"attn_conv_{letter}_(\d+)\.", key) for key in state)
    return len({match[1] for match in found if match})


def _take_head(state: dict[str, Tensor], prefix: str, where: str) -> dict[str, Tensor]:
    """A 1 x 1 convolution ``[E, D, 1, 1]``, a slope and a norm ``[1, E, 1, F]``, in the layout here."""
    weight = take(state, f"{prefix}.0.weight", where)
    norm = [take(state, f"{prefix}.2.{kind}", where) for kind in ("gamma", "beta")]
    if weight.ndim != 4 or any(each.ndim != 4 for each in norm):
        raise CheckpointError(f"{where}: {prefix}: expected tensors of four dimensions.")
    return {
        "linear.weight": weight.flatten(1),
        "linear.bias": take(state, f"{prefix}.0.bias", where),
        "slope": take(state, f"{prefix}.1.weight", where),
        "weight": norm[0][0, :, 0].mT,  # [F, E]
        "bias": norm[1][0, :, 0].mT,
    }
