"""The ``TFLocoformerSeparator`` that its authors add to ESPnet, between an STFT encoder and decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from polsess.checkpoints.formats import Converted
from polsess.checkpoints.toolkits.espnet.reader import CONVERTERS
from polsess.checkpoints.toolkits.espnet.tfgridnet import WINDOWS
from polsess.checkpoints.translation import BLOCK, Arguments, Rule, number_paths, rename, with_rates
from polsess.checkpoints.unpickling import CheckpointError

_WHERE = "ESPnet tflocoformer"
_ORDERS = {"ft": "frequency_first", "tf": "time_first"}


@CONVERTERS.register("tflocoformer")
def convert_tflocoformer(arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> Converted:
    """Convert; the rotary frequencies in the file are constants that follow from the sizes."""
    transform = _read_transform(arguments)
    separator = Arguments(arguments["separator_conf"], _WHERE)
    model = {"model_type": "tflocoformer", **transform, **_read_arguments(separator)}
    separator.finish()
    normalize = arguments["model_conf"].get("normalize_variance", False)
    per_channel = arguments["model_conf"].get("normalize_variance_per_ch", False)  # one channel: the same
    model["normalize_variance"] = normalize or per_channel
    order = ("freq", "frame") if model["axis_order"] == "frequency_first" else ("frame", "freq")
    kept = {key: value for key, value in state.items() if not key.endswith("attn.rope.freqs")}
    native = number_paths(rename(kept, rules(order, len(model["ffn_hidden_sizes"])), _WHERE))
    return Converted(model, with_rates(native, model))


def _read_arguments(separator: Arguments) -> dict[str, Any]:
    separator.ignore("input_dim", "flash_attention")
    norm_type = separator.choose("norm_type", {"rmsgroupnorm": "rmsgroupnorm", "layernorm": "layernorm"})
    num_groups = separator.take("num_groups", default=4)
    types, sizes = separator.take("ffn_type"), separator.take("ffn_hidden_dim")
    if not isinstance(types, list) or not isinstance(sizes, list) or set(types) != {"swiglu_conv1d"}:
        raise CheckpointError(
            f"{_WHERE}: ffn_type={types!r}: expected a list of swiglu_conv1d and its sizes."
        )
    if len(types) != len(sizes):
        raise CheckpointError(f"{_WHERE}: ffn_type={types!r} and ffn_hidden_dim={sizes!r} differ in length.")
    return {
        "num_sources": separator.take("num_spk", default=2),
        "num_blocks": separator.take("n_layers", default=6),
        "num_channels": separator.take("emb_dim", default=128),
        "norm_type": norm_type,
        "num_groups": num_groups if norm_type == "rmsgroupnorm" else 1,
        "axis_order": separator.choose("tf_order", _ORDERS, default="ft"),
        "num_heads": separator.take("n_heads", default=4),
        "attention_size": separator.take("attention_dim", default=128),
        "ffn_hidden_sizes": sizes,
        "kernel_size": separator.take("conv1d_kernel", default=4),
        "stride": separator.take("conv1d_shift", default=1),
        "dropout": separator.take("dropout", default=0.0),
        "eps": separator.take("eps", default=1e-5),
    }


def _read_transform(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The STFT; encoder and decoder must be each other's inverse."""
    found = []
    for part in ("encoder", "decoder"):
        Arguments(arguments, _WHERE).expect(part, "stft")
        conf = Arguments(arguments[f"{part}_conf"], f"{_WHERE}, {part}")
        n_fft = conf.take("n_fft", default=512)
        if conf.take("win_length", default=None) not in (None, n_fft):
            raise CheckpointError(f"{_WHERE}, {part}: win_length is not read, only n_fft={n_fft}.")
        for name, value in (("center", True), ("normalized", False), ("onesided", True)):
            conf.expect(name, value)
        conf.choose("spec_transform_type", {None: None, "none": None}, default=None)
        conf.ignore("use_builtin_complex", "default_fs", "spec_factor", "spec_abs_exponent")
        hop_length = conf.take("hop_length", default=128)
        window = conf.choose("window", WINDOWS, default="hann")
        conf.finish()
        found.append({"n_fft": n_fft, "hop_length": hop_length, "window": window})
    if found[0] != found[1]:
        raise CheckpointError(
            f"{_WHERE}: the decoder's transform {found[1]} is not the encoder's {found[0]}."
        )
    return found[0]


def rules(order: tuple[str, str], num_feed_forwards: int) -> list[Rule]:
    """Destinations of the tensors, for ``number_paths``.

    Args:
        order: Their names of the first and the second path.
        num_feed_forwards: Two, or only the one after the attention. Theirs are counted from the last.
    """
    found: list[Rule] = [(r"conv\.0\.(weight|bias)", r"conv.\1"), (r"conv\.1\.(weight|bias)", r"norm.\1")]
    found += [(r"(deconv\.(?:weight|bias))", r"\1")]
    feed_forwards = ("ffn_after", "ffn_before")[:num_feed_forwards]
    for place, path in enumerate(order):
        theirs, ours = rf"{BLOCK}{path}_path\.", rf"blocks.\g<block>.{place}."
        for index, name in enumerate(feed_forwards):
            found += [(rf"{theirs}ffn_norm\.{index}\.(?:gamma|weight)", f"{ours}{name}.0.weight")]
            found += [(rf"{theirs}ffn_norm\.{index}\.bias", f"{ours}{name}.0.bias")]
            found += [(rf"{theirs}ffn\.{index}\.(conv|deconv)1d\.(\w+)", rf"{ours}{name}.1.\2.\3")]
        found += [
            (rf"{theirs}attn_norm\.(?:gamma|weight)", f"{ours}attention_norm.weight"),
            (rf"{theirs}attn_norm\.bias", f"{ours}attention_norm.bias"),
            (rf"{theirs}attn\.qkv\.weight", f"{ours}attention.to_qkv.weight"),
            (rf"{theirs}attn\.aggregate_heads\.0\.weight", f"{ours}attention.to_output.weight"),
        ]
    return found
