"""The original polsess_separation trainer: one ``.pt`` file with ``model_state_dict`` and ``config``.

Its networks are SpeechBrain's modules under the names of a wrapper, always at 8 kHz.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from polsess.checkpoints.formats import Converted, Converters, Reader, naming, register_reader
from polsess.checkpoints.toolkits import clearervoice
from polsess.checkpoints.toolkits.speechbrain import convtasnet, dual_path, resource_efficient
from polsess.checkpoints.toolkits.speechbrain.hyperparams import Instance
from polsess.checkpoints.translation import BLOCK, Arguments, number_paths, rename
from polsess.checkpoints.unpickling import CheckpointError
from polsess.checkpoints.weight_files import WeightFiles, state_of

CONVERTERS = Converters("original polsess")
"""Converters by ``model_type``; ``arguments`` are the model's block of the old configuration (letters N, B,
H ...), ``state`` the tensors."""


@register_reader
class OriginalReader(Reader):
    """``model_state_dict`` with a ``config`` of that time: flat or nested, with or without ``model_type``."""

    format = "original"
    tensors: ClassVar = {
        r"^separator\.blocks\.0\.freq_path\.attn\.local_attn\.": (
            "TF-MossFormer, which is read from the trainer's .pt or a bundle with separator.json"
        )
    }

    def recognises(self, files: WeightFiles) -> bool:
        return len(_names(files)) > 0

    def read(self, files: WeightFiles, config: Mapping[str, Any] | None) -> Converted:
        where, content = files.only_torch_dict(_names(files))
        model_type, arguments = model_arguments(_config_of(content, config, where), where)
        state = state_of(content["model_state_dict"], where)
        convert = CONVERTERS.find(model_type, where)
        with naming(where):
            converted = convert(arguments, state)
        model = {**converted.model, **_sample_rate(content)}
        return Converted(model, converted.state, _notes(content), _task(content))


def model_arguments(model: Mapping[str, Any], where: str) -> tuple[str, dict[str, Any]]:
    """The architecture and its own block from the ``model`` section of an old configuration.

    The oldest files hold ConvTasNet's letters directly and no ``model_type``.

    Raises:
        CheckpointError: If the block of the named architecture is missing.
    """
    model_type = str(model.get("model_type") or "convtasnet")
    block = model.get(model_type)
    if block is None:
        nested = [key for key, value in model.items() if isinstance(value, Mapping)]
        if nested:
            raise CheckpointError(
                f"{where}: config.model has no '{model_type}' block, only {', '.join(nested)}."
            )
        block = {key: value for key, value in model.items() if key != "model_type" and value is not None}
    if not isinstance(block, Mapping):
        raise CheckpointError(f"{where}: config.model.{model_type} must be a mapping.")
    return model_type, dict(block)


def _config_of(content: dict[str, Any], config: Mapping[str, Any] | None, where: str) -> Mapping[str, Any]:
    stored = content.get("config")
    model = stored.get("model") if isinstance(stored, Mapping) else None
    if isinstance(model, Mapping):
        if config is not None:
            raise CheckpointError(f"{where}: holds its configuration; leave config out.")
        return model
    if config is None:
        raise CheckpointError(
            f"{where}: holds no configuration; pass the model section of the old YAML, e.g. "
            "config={'model_type': 'convtasnet', 'convtasnet': {'N': 256, 'B': 256, 'C': 2}}."
        )
    return config


def _notes(content: dict[str, Any]) -> dict[str, Any]:
    notes = {key: content[key] for key in ("epoch", "val_sisdr") if isinstance(content.get(key), int | float)}
    if isinstance(content.get("config"), Mapping):
        notes["config"] = content["config"]
    return notes


def _task(content: dict[str, Any]) -> str | None:
    task = _data(content).get("task")
    return task if task in ("ES", "EB", "SB") else None


def _sample_rate(content: dict[str, Any]) -> dict[str, int]:
    """The rate of the corpus, where the file is new enough to name it; older ones are of 8 kHz."""
    rate = _data(content).get("sample_rate")
    return {"sample_rate": rate} if isinstance(rate, int) else {}


def _data(content: dict[str, Any]) -> Mapping[str, Any]:
    config = content.get("config")
    data = config.get("data") if isinstance(config, Mapping) else None
    return data if isinstance(data, Mapping) else {}


def _names(files: WeightFiles) -> list[str]:
    return [name for name in files.candidates("*.pt") if _is_original(files.torch_file(name))]


def _is_original(content: Any) -> bool:
    keys = {"model_state_dict", "optimizer_state_dict"}
    # SepReformer's trainer uses these two keys as well, but records its losses.
    return isinstance(content, dict) and content.keys() >= keys and "train_loss" not in content


SAMPLE_RATE = 8000


def wrapped(
    masknet: Mapping[str, Any],
    state: Mapping[str, Tensor],
    prefix: str,
    num_filters: int,
    kernel_size: int,
    stride: int,
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Arguments and tensors as the converters of SpeechBrain take them.

    Args:
        masknet: The mask network's arguments.
        state: The wrapper's tensors.
        prefix: Its name of the mask network.
        num_filters: Filters of the encoder.
        kernel_size: Samples of a filter.
        stride: Samples between the decoder's frames; the encoder always took half a filter.
    """
    decoder = {"in_channels": num_filters, "out_channels": 1, "kernel_size": kernel_size, "stride": stride}
    arguments = {
        "encoder": {"kernel_size": kernel_size, "out_channels": num_filters},
        "masknet": dict(masknet),
        "decoder": decoder,
        "sample_rate": SAMPLE_RATE,
    }
    renamed = {
        key.replace(f"{prefix}.", "masknet.", 1) if key.startswith(f"{prefix}.") else key: value
        for key, value in state.items()
    }
    return arguments, renamed


_DEFAULTS = {"N": 256, "kernel_size": 16, "stride": 8, "B": 256, "H": 512, "P": 3, "X": 8, "R": 4, "C": 1}


@CONVERTERS.register("convtasnet")
def convert_convtasnet(arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> Converted:
    """Convert; letters that a file leaves out had these defaults."""
    masknet = {**_DEFAULTS, **arguments}
    kernel, stride = masknet.pop("kernel_size"), masknet.pop("stride")
    return convtasnet.convert_convtasnet(*wrapped(masknet, state, "mask_net", masknet["N"], kernel, stride))


@CONVERTERS.register("dprnn")
def convert_dprnn(arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> Converted:
    """Convert; letters that a file leaves out had these defaults."""
    values = Arguments(arguments, "original DPRNN")
    values.ignore("hop_size")  # never reached the network: chunks overlap by half
    filters = values.take("N", default=64)
    block = Instance(
        "SBRNNBlock",
        {
            "hidden_channels": values.take("hidden_size", default=128),
            "num_layers": values.take("num_rnn_layers", default=1),
            "rnn_type": values.take("rnn_type", default="LSTM"),
            "dropout": values.take("dropout", default=0.0),
            "bidirectional": values.take("bidirectional", default=True),
        },
    )
    masknet = {
        "in_channels": filters,
        "out_channels": filters,
        "num_layers": values.take("num_layers", default=6),
        "K": values.take("chunk_size", default=100),
        "num_spks": values.take("C", default=1),
        "norm": values.take("norm_type", default="ln"),
        "intra_model": block,
        "inter_model": block,
    }
    kernel, stride = values.take("kernel_size", default=16), values.take("stride", default=8)
    values.finish()
    return dual_path.convert_dprnn(*wrapped(masknet, state, "separator", filters, kernel, stride))


@CONVERTERS.register("sepformer")
def convert_sepformer(arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> Converted:
    """Convert SepFormer of any year; a file without the flag of positions is of the time before them."""
    values = Arguments(arguments, "original SepFormer")
    values.ignore("hop_size")  # never reached the network: chunks overlap by half
    width = values.take("d_model", default=256)
    block = _block(values, "SBTransformerBlock", width, default_positions=False)
    masknet = {
        "in_channels": values.take("N", default=256),
        "out_channels": width,
        "num_layers": values.take("num_blocks", default=2),
        "K": values.take("chunk_size", default=250),
        "num_spks": values.take("C", default=2),
        "intra_model": block,
        "inter_model": block,
        "linear_layer_after_inter_intra": False,
    }
    renamed = {key.replace("_mdl.transformer.", "_mdl.mdl.", 1): value for key, value in state.items()}
    return dual_path.convert_sepformer(*_wrapped(values, masknet, renamed, masknet["in_channels"]))


@CONVERTERS.register("resepformer")
def convert_resepformer(arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> Converted:
    """Convert RE-SepFormer."""
    values = Arguments(arguments, "original RE-SepFormer")
    filters = values.take("N", default=128)
    block = _block(values, "SBTransformerBlock_wnormandskip", filters, default_positions=True)
    masknet = {
        "input_dim": filters,
        "num_spk": values.take("C", default=2),
        "layer": values.take("num_blocks", default=2),
        "segment_size": values.take("segment_size", default=150),
        "mem_type": "av",
        "seg_model": block,
        "mem_model": block,
    }
    return resource_efficient.convert_resepformer(*_wrapped(values, masknet, state, filters))


@CONVERTERS.register("mossformer2")
def convert_mossformer2(arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> Converted:
    """Convert MossFormer2, which is ClearerVoice's under the names of two wrappers."""
    values = Arguments(arguments, "original MossFormer2")
    stated = {
        "encoder_out_nchannels": values.take("N", default=512),
        "encoder_kernel_size": values.take("kernel_size", default=16),
        "intra_numlayers": values.take("num_blocks", default=24),
        "masknet_numspks": values.take("C", default=2),
    }
    dropout = values.take("attn_dropout", default=0.1)
    values.finish()
    unwrapped = {key.removeprefix("model.model."): value for key, value in state.items()}
    converted = clearervoice.convert_mossformer2({**stated, "sample_rate": SAMPLE_RATE}, unwrapped)
    return Converted({**converted.model, "dropout": dropout}, converted.state)


_TF_PATHS = {"freq": 0, "frame": 1}
_TF_PATH_RULES = [
    (r"ffn_norm\.0\.gamma", "ffn_after.0.weight"),  # the lists are built in reverse
    (r"ffn_norm\.1\.gamma", "ffn_before.0.weight"),
    (r"ffn\.0\.(conv|deconv)1d\.(weight|bias)", r"ffn_after.1.\2.\3"),
    (r"ffn\.1\.(conv|deconv)1d\.(weight|bias)", r"ffn_before.1.\2.\3"),
    (r"attn_norm\.gamma", "attention_norm.weight"),
    (r"attn\.(local|global)_attn\.rope\.freqs", r"attention.\2_attention.rotation.rates"),
    (r"attn\.(local|global)_attn\.qkv\.weight", r"attention.\2_attention.to_qkv.weight"),
    (r"attn\.(local|global)_attn\.aggregate_heads\.0\.weight", r"attention.\2_attention.to_output.weight"),
    (r"attn\.(local|global)_gate\.conv\.(weight|bias)", r"attention.\2_gate.conv.\3"),
]
_TF_RULES = [
    (r"separator\.conv\.0\.(weight|bias)", r"conv.\1"),
    (r"separator\.conv\.1\.(weight|bias)", r"norm.\1"),
    (r"separator\.deconv\.(weight|bias)", r"deconv.\1"),
    *(
        (rf"separator\.{BLOCK}{side}_path\.{pattern}", rf"blocks.\g<block>.{place}.{name}")
        for side, place in _TF_PATHS.items()
        for pattern, name in _TF_PATH_RULES
    ),
]


@CONVERTERS.register("tf_mossformer")
def convert_tf_mossformer(arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> Converted:
    """Convert TF-MossFormer."""
    values = Arguments(arguments, "original TF-MossFormer")
    channels, hidden = values.take("D"), values.take("ffn_hidden_dim")
    names = {
        "num_sources": "C", "num_blocks": "num_blocks", "kernel_size": "conv_kernel_size",
        "stride": "conv_stride", "num_heads": "n_heads", "num_groups": "num_groups",
        "window_time": "window_t", "window_frequency": "window_f", "gate_kernel_size": "gate_kernel_size",
        "n_fft": "n_fft", "hop_length": "hop_length",
    }  # fmt: skip
    sizes = {ours: values.take(theirs) for ours, theirs in names.items()}
    sizes |= {"num_channels": channels, "attention_size": channels, "ffn_hidden_sizes": [hidden, hidden]}
    sizes["dropout"] = values.take("attn_dropout", default=0.0)
    values.finish()
    model = {"model_type": "tfmossformer", "sample_rate": SAMPLE_RATE, **sizes}
    return Converted(model, number_paths(rename(state, _TF_RULES, "original TF-MossFormer")))


def _block(values: Arguments, class_name: str, d_model: Any, *, default_positions: bool) -> Instance:
    arguments = {
        "num_layers": values.take("num_layers", default=8),
        "d_model": d_model,
        "nhead": values.take("nhead", default=8),
        "d_ffn": values.take("d_ffn", default=1024),
        "dropout": values.take("dropout", default=0.0),
        "use_positional_encoding": values.take("use_positional_encoding", default=default_positions),
        "norm_before": True,
    }
    return Instance(class_name, arguments)


def _wrapped(
    values: Arguments, masknet: dict[str, Any], state: Mapping[str, Tensor], num_filters: Any
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    kernel, stride = values.take("kernel_size", default=16), values.take("stride", default=8)
    values.ignore("causal")  # never reached the network
    values.finish()
    return wrapped(masknet, state, "masknet", num_filters, kernel, stride)
