"""SR-CorrNet as its authors publish it: ``model.pt``, bare or wrapped, with ``config.yaml``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from polsess.checkpoints.formats import Converted, Reader, naming, register_reader
from polsess.checkpoints.translation import Arguments, rename
from polsess.checkpoints.unpickling import CheckpointError
from polsess.checkpoints.weight_files import WeightFiles, state_of, unwrapped

_CONFIG = "config.yaml"
_WHERE = "SR-CorrNet"
_EARLIER_NAMES = (
    (r"^input_layer\.", "encoder."),
    (r"^mask_estim", "filter_estim"),
    (r"\.frame_wise_block\.", ".freq_block."),
    (r"\.freq_wise_block\.", ".time_block."),
    (r"\.cs\.", ".ca."),
    (r"\.block\.ega\.", ".block.sa."),
)
_ATTENTION = (
    (r"layernorm\.weight", "norm.weight"),
    (r"block\.rope\.freqs", "rotation.rates"),
    (r"block\.qkv\.weight", "to_rest.weight"),
    (r"block\.kv\.weight", "to_rest.weight"),
    (r"block\.q\.weight", "to_query.weight"),
    (r"block\.aggregate_heads\.0\.weight", "to_output.weight"),
)
_FEED_FORWARD = (
    (r"layernorm\.weight", "norm.weight"),
    (r"net\.0\.(weight|bias)", r"expand.\g<kind>"),
    (r"net\.2\.(weight|bias)", r"reduce.\g<kind>"),
)
_PARTS = (
    *(
        (
            rf"{theirs}_block\.(\d+)\.{axis}_block\.block\.{part}\.",
            rf"{ours}_blocks.\1.{name}.{ours_part}.",
            rules,
        )
        for theirs, ours in (("enc", "encoder"), ("dec", "decoder"))
        for axis, name in (("freq", "frequency"), ("time", "time"))
        for part, ours_part, rules in (
            ("ffn_1", "ffn_before", _FEED_FORWARD),
            ("sa", "attention", _ATTENTION),
            ("ffn_2", "ffn_after", _FEED_FORWARD),
        )
    ),
    (r"dec_cs\.(\d+)\.block\.block\.sa\.", r"speaker_blocks.\1.attention.", _ATTENTION),
    (r"dec_cs\.(\d+)\.block\.block\.ffn\.", r"speaker_blocks.\1.ffn.", _FEED_FORWARD),
    *(
        (rf"spk_split\.dec\.net{number}\.{part}\.", f"split.layers.{number - 1}.{name}.", rules)
        for number in (1, 2)
        for part, name, rules in (
            ("ca", "cross_attention", _ATTENTION),
            ("sa", "self_attention", _ATTENTION),
            ("ffn", "ffn", _FEED_FORWARD),
        )
    ),
)
_RULES = [
    (r"encoder\.embed\.0\.(weight|bias)", r"encoder.expand.\1"),
    (r"encoder\.embed\.2\.(weight|bias)", r"encoder.reduce.\1"),
    (r"encoder\.layer_norm\.weight", "encoder.norm.weight"),
    (r"layernorm\.(weight|bias)", r"norm.\1"),
    (r"filter_estim\.mask\.net\.(weight|bias)", r"filters.\1"),
    (r"filter_estim_aux\.(\d+)\.mask\.net\.(weight|bias)", r"auxiliary_filters.\1.\2"),
    (r"spk_split\.(?:spk_split|split\.fusion)\.0\.(weight|bias)", r"split.expand.\1"),
    (r"spk_split\.(?:spk_split|split\.fusion)\.2\.(weight|bias)", r"split.reduce.\1"),
    (r"spk_split\.spk_query", "split.queries"),
    (r"spk_split\.layernorm\.(weight|bias)", r"split.norm.\1"),
    (r"spk_split\.pres_linear\.(weight|bias)", r"split.presence.\1"),
    *(
        (prefix + pattern.replace("(weight|bias)", "(?P<kind>weight|bias)"), ours + name)
        for prefix, ours, rules in _PARTS
        for pattern, name in rules
    ),
]


def convert_sr_corrnet(arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> Converted:
    """Convert SR-CorrNet.

    Args:
        arguments: ``model`` and ``stft`` of the published YAML, and ``sample_rate``.
        state: The tensors, under their present or their earlier names.

    Raises:
        CheckpointError: If an argument is missing, unknown or at odds with another, or a tensor is left over.
    """
    outer = Arguments(arguments, _WHERE)
    stft = outer.take_section("stft")
    model: dict[str, Any] = {
        "model_type": "srcorrnet",
        "n_fft": stft.take("frame_length"),
        "hop_length": stft.take("frame_shift"),
        "sample_rate": outer.take("sample_rate"),
        **_network(outer.take_section("model")),
    }
    stft.finish()
    outer.finish()
    native = rename({_present_name(key): value for key, value in state.items()}, _RULES, _WHERE)
    if "split.queries" in native:
        native["split.queries"] = native["split.queries"].squeeze(0)
    return Converted(model, native)


def _network(taken: Arguments) -> dict[str, Any]:
    variable = taken.take("is_var_spks")
    width = taken.take("d_model")
    taps = {"taps_freq": taken.take("taps_freq"), "taps_frame": taken.take("taps_frame")}
    shared = {"d_model": width, **taps}
    embedding = _part(taken, "input_embedding", **shared, num_mics=1)
    heads = _part(taken, "RoPE", d_model=width).take("n_head")
    block = taken.take_section("multi_path_block")
    paths = [
        _part(block, name, d_model=width, n_head=heads) for name in ("channel_module", "spectral_module")
    ]
    hidden, kernel, dropout = (
        _same([path.take(name) for path in paths], f"multi_path_block, {name}")
        for name in ("d_hidden", "kernel_size", "dropout_rate")
    )
    across = _part(taken, "cross_spk", d_model=width, n_head=heads)
    split = taken.take_section("spk_split")
    most = _part(split, "varying" if variable else "fixed", d_model=width).take("max_n_spks")
    filters = _part(taken, "mask_estimator", **shared, num_mics=1, MIMO=False)
    network = {
        "variable_sources": variable,
        "num_sources": most,
        "num_channels": width,
        "num_heads": heads,
        "hidden_size": hidden,
        "kernel_size": kernel,
        "dropout": dropout,
        "speaker_hidden_size": across.take("d_hidden"),
        "encoder_kernel": embedding.take("kernel_sizes"),
        "num_encoder_blocks": taken.take("N_Enc"),
        "num_decoder_blocks": taken.take("N_Dec"),
        "frequency_positions": taken.take("apply_pos_enc", default=True),
        "frequency_taps": taps["taps_freq"],
        "frame_taps": taps["taps_frame"],
    }
    across.ignore("dropout_rate")
    taken.expect("ref_ch", 0)
    for part in (taken, embedding, block, *paths, across, filters):
        part.finish()
    return network


def _part(arguments: Arguments, name: str, **expected: Any) -> Arguments:
    """The arguments of a part, whose values in common with the whole must be these."""
    part = arguments.take_section(name)
    for key, value in expected.items():
        found = part.take(key, default=value)
        if found != value:
            raise CheckpointError(f"{_WHERE}, {name}: {key}={found!r} is not read, only {value!r}.")
    return part


def _same(values: list[Any], where: str) -> Any:
    if values[0] != values[1]:
        raise CheckpointError(
            f"{_WHERE}, {where}: {values[0]!r} and {values[1]!r}; only equal ones are read."
        )
    return values[0]


def _present_name(key: str) -> str:
    for pattern, replacement in _EARLIER_NAMES:
        key = re.sub(pattern, replacement, key)
    return key


@register_reader
class SRCorrNetReader(Reader):
    """The hub's folder."""

    format = "sr_corrnet"
    tensors: ClassVar = {
        r"^(encoder|input_layer)\.embed\.0\.": "SR-CorrNet, which is read from model.pt beside config.yaml"
    }

    def recognises(self, files: WeightFiles) -> bool:
        return _weights(files) is not None

    def read(self, files: WeightFiles, config: Mapping[str, Any] | None) -> Converted:
        name = _weights(files)
        assert name is not None
        where = str(files.folder / name)
        if not files.has(_CONFIG):
            raise CheckpointError(f"{where}: {_CONFIG} is missing, which holds the sizes; put it beside.")
        if config is not None:
            raise CheckpointError(f"{where}: {_CONFIG} holds the configuration; leave config out.")
        content = files.torch_dict(name)
        state = state_of(content.get("model_state_dict", content), where)
        with naming(str(files.folder / _CONFIG)):
            return convert_sr_corrnet(_arguments(files.yaml(_CONFIG)), state)


def _arguments(content: Any) -> dict[str, Any]:
    config = content["config"]
    return {
        "model": config["model"],
        "stft": config["stft"],
        "sample_rate": config["dataset"]["synthesis_config"]["sampling_rate"],
    }


def _weights(files: WeightFiles) -> str | None:
    """The file with the weights: the named one, or the only one of a folder."""
    for name in files.candidates("*.pt", "*.pth"):
        content = files.torch_file(name)
        state = content.get("model_state_dict", content) if isinstance(content, dict) else None
        if isinstance(state, Mapping):
            names = {_present_name(key) for key in unwrapped({str(key): None for key in state})}
            if {"encoder.embed.0.weight", "filter_estim.mask.net.weight"} <= names:
                return name
    return None
