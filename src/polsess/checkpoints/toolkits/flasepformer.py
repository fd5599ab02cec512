"""FLASepformer's networks as ModelScope publishes them: ``configuration.json`` and ``pytorch_model.pt``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from polsess.checkpoints.formats import Converted, Converters, Reader, naming, register_reader
from polsess.checkpoints.toolkits.sepreformer import convert_sepreformer
from polsess.checkpoints.translation import Arguments, Rule, rename, with_rates
from polsess.checkpoints.unpickling import CheckpointError
from polsess.checkpoints.weight_files import WeightFiles, state_of

CONVERTERS = Converters("FLASepformer")
"""Converters by the first words of the published type; ``arguments`` are the ``model`` section without the
type, and ``sample_rate``."""
_CONFIG, _WEIGHTS = "configuration.json", "pytorch_model.pt"
_TYPE = re.compile(r"(speech_flat\w+?)_separation_\w*?_(\d+)k(_|$)")
"""Network and rate in a published type."""
_AXES = {"f": "frequency", "t": "time"}
_ATTENTIONS = {"LocoformerMHSA": "softmax", "LocoformerLinearAttnMHSA": "focused"}


@CONVERTERS.register("speech_flatflocoformer")
def convert_flatflocoformer(arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> Converted:
    """Convert a TF-Locoformer with focused linear attention."""
    where = "FLA TF-Locoformer"
    outer = Arguments(arguments, where)
    separator = outer.take_section("separator_conf")
    axes = [_axis_of(axis, where) for axis in _list(separator, "layers_type", where)]
    attentions = _attentions(separator, where)
    norm_type = separator.choose("norm_type", {name: name for name in ("rmsgroupnorm", "layernorm")})
    num_groups = separator.take("num_groups", default=4)
    types = _list(separator, "ffn_type", where)
    if set(types) != {"swiglu_conv1d_layerchange"}:
        raise CheckpointError(f"{where}: ffn_type={types!r} is not read, only swiglu_conv1d_layerchange.")
    separator.expect("n_layers", len(axes))
    separator.expect("use_rope", True)
    model = {
        "model_type": "tflocoformer",
        "num_sources": separator.take("num_spk"),
        "num_blocks": 1,
        "axes": axes,
        "attentions": [attentions[index % len(attentions)] for index in range(len(axes))],
        "num_channels": separator.take("emb_dim"),
        "norm_type": norm_type,
        "num_groups": num_groups if norm_type == "rmsgroupnorm" else 1,
        "num_heads": separator.take("n_heads"),
        "attention_size": separator.take("attention_dim"),
        "ffn_hidden_sizes": separator.take("ffn_hidden_dim"),
        "kernel_size": separator.take("conv1d_kernel"),
        "stride": separator.take("conv1d_shift"),
        "dropout": separator.take("dropout", default=0.0),
        "eps": separator.take("eps", default=1e-5),
        "n_fft": outer.take("n_fft"),
        "hop_length": outer.take("hop_length"),
        "normalize_variance": outer.take("normalize_variance", default=False),
        "sample_rate": outer.take("sample_rate"),
        **_focused(separator.take_section("attn_addition_conf"), where),
    }
    separator.finish()
    outer.finish()
    kept = {key: value for key, value in state.items() if not key.endswith("rope.freqs")}
    native = rename(kept, _rules(axes, len(types)), where)
    native = {key: value.flatten() if key.endswith("scale") else value for key, value in native.items()}
    return Converted(model, with_rates(native, model))


@CONVERTERS.register("speech_flatsepreformer")
def convert_flatsepreformer(arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> Converted:
    """Convert a SepReformer with focused linear attention; its other tensors have its authors' names."""
    where = "FLA SepReformer"
    outer = Arguments(arguments, where)
    outer.expect("normalize_variance", False)
    for name in ("n_fft", "hop_length"):  # of a transform that this network does not have
        outer.ignore(name)
    conf = outer.take_section("separator_conf")
    network = conf.take_section("module_separator")
    encoder = conf.take_section("module_audio_enc")
    stages = [network.take_section(name) for name in ("enc_stage", "dec_stage")]
    blocks = [stage.take_section("global_blocks") for stage in stages]
    options = [_focused(stage.take_section("addition_conf"), where) for stage in stages]
    if options[0] != options[1]:
        raise CheckpointError(f"{where}: the addition_conf of enc_stage and dec_stage differ.")
    network.expect("first_layer_static", False)
    network.expect("use_rope_pos", False)
    if set(_list(network, "linear_layers_flag", where)) != {1}:
        raise CheckpointError(f"{where}: linear_layers_flag is read only with 1 for every stage.")
    stated = {
        "model_type": "sepreformer",
        "stride": encoder.take("stride"),
        "sample_rate": outer.take("sample_rate"),
        "attention": "focused",
        "dropout": blocks[0].take("dropout_rate", default=0.05),
        **options[0],
    }
    converted = convert_sepreformer(stated, dict(_sepreformer_names(state, where)))
    for name, ours, value in (
        ("num_spks", "num_sources", conf.take("num_spks")),
        ("num_stages", "num_stages", conf.take("num_stages")),
        ("num_mha_heads", "num_heads", blocks[0].take("num_mha_heads")),
        ("kernel_size", "kernel_size", encoder.take("kernel_size")),
    ):
        if value != converted.model[ours]:
            raise CheckpointError(f"{where}: {name}={value!r}, but the tensors have {converted.model[ours]}.")
    return converted


def _sepreformer_names(state: Mapping[str, Tensor], where: str) -> Iterator[tuple[str, Tensor]]:
    """The tensors, those of the attention under our names behind the authors' name of their block."""
    for key, value in state.items():
        inner = key.removeprefix("separator.")
        if found := re.fullmatch(r"(.+)\.block\.ega\.(.+)", inner):
            (name,) = rename({found[2]: value}, focused_rules("", "attention."), where)
            inner = f"{found[1]}.{name}"
        yield inner, value


def _axis_of(name: Any, where: str) -> str:
    if name not in _AXES:
        raise CheckpointError(f"{where}: layers_type: expected f or t, got {name!r:.40}.")
    return _AXES[name]


def _attentions(separator: Arguments, where: str) -> list[str]:
    names = _list(separator, "attn_types", where)
    unknown = [name for name in names if name not in _ATTENTIONS]
    if unknown:
        raise CheckpointError(f"{where}: attn_types: {unknown[0]!r:.60} is not read.")
    return [_ATTENTIONS[name] for name in names]


def _list(arguments: Arguments, name: str, where: str) -> list[Any]:
    value = arguments.take(name)
    if not isinstance(value, list) or not 1 <= len(value) <= 256:
        raise CheckpointError(f"{where}: {name}: expected a list of 1 to 256 entries, got {value!r:.40}.")
    return value


def _focused(addition: Arguments, where: str) -> dict[str, Any]:
    """Options of the focused attention, with the defaults of its class."""
    conf = addition.take_section("ega_addition_conf")
    addition.finish()
    conf.expect("linear_attn_type", "FocusedLinearAttention")
    norm = str(conf.take("norm_type", default="layernorm"))
    found = re.fullmatch(r"(?:layernorm|RMSGroupNorm_(\d{1,5}))", norm)
    if found is None:
        raise CheckpointError(
            f"{where}: norm_type={norm!r:.40} is not read, only layernorm and RMSGroupNorm_<n>."
        )
    options = {
        "focused_gated": conf.take("gated", default=False),
        "focused_norm_groups": int(found[1] or 0),
        "focused_kernel_size": conf.take("kernel_size", default=5),
        "focused_power": conf.take("focusing_factor", default=3),
    }
    conf.finish()
    return options


def _rules(axes: list[str], num_feed_forwards: int) -> list[Rule]:
    rules: list[Rule] = [
        (r"separator\.conv\.0\.(weight|bias)", r"conv.\1"),
        (r"separator\.conv\.1\.(weight|bias)", r"norm.\1"),
        (r"separator\.(deconv\.(?:weight|bias))", r"\1"),
    ]
    for index, axis in enumerate(axes):
        theirs = rf"separator\.{axis[0]}_blocks\.{axes[:index].count(axis)}\.block\."
        ours = f"paths.{index}."
        for number, name in enumerate(
            ("ffn_after", "ffn_before")[:num_feed_forwards]
        ):  # counted from the last
            rules += [
                (rf"{theirs}ffn_norm\.{number}\.(?:gamma|weight)", f"{ours}{name}.0.weight"),
                (rf"{theirs}ffn_norm\.{number}\.bias", f"{ours}{name}.0.bias"),
                (rf"{theirs}ffn\.{number}\.branchs\.0\.(conv|deconv)1d\.(\w+)", rf"{ours}{name}.1.\1.\2"),
            ]
        focused = rf"{theirs}attn\.ega\."
        rules += [
            (rf"{theirs}attn_norm\.(?:gamma|weight)", f"{ours}attention_norm.weight"),
            (rf"{theirs}attn_norm\.bias", f"{ours}attention_norm.bias"),
            (rf"{theirs}attn\.qkv\.weight", f"{ours}attention.to_qkv.weight"),
            (rf"{theirs}attn\.aggregate_heads\.0\.weight", f"{ours}attention.to_output.weight"),
            *focused_rules(focused, f"{ours}attention."),
        ]
    return rules


def focused_rules(theirs: str, ours: str) -> list[Rule]:
    """Destinations of the tensors of a focused attention with its norms and its gate."""
    return [
        (rf"{theirs}layer_norm\.(?:gamma|weight)", f"{ours}norm.weight"),
        (rf"{theirs}layer_norm\.bias", f"{ours}norm.bias"),
        (rf"{theirs}gate_layer\.0\.(?:gamma|weight)", f"{ours}gate.0.weight"),
        (rf"{theirs}gate_layer\.0\.bias", f"{ours}gate.0.bias"),
        (rf"{theirs}gate_layer\.1\.(weight|bias)", rf"{ours}gate.1.\1"),
        (rf"{theirs}attn\.scale", f"{ours}attention.scale"),
        (rf"{theirs}attn\.q\.(weight|bias)", rf"{ours}attention.to_query.\1"),
        (rf"{theirs}attn\.kv\.(weight|bias)", rf"{ours}attention.to_key_value.\1"),
        (rf"{theirs}attn\.proj\.(weight|bias)", rf"{ours}attention.to_output.\1"),
        (rf"{theirs}attn\.dwc\.(weight|bias)", rf"{ours}attention.local.\1"),
    ]


@register_reader
class FLASepformerReader(Reader):
    """The folder of ModelScope."""

    format = "flasepformer"

    def recognises(self, files: WeightFiles) -> bool:
        named = files.main in (None, _CONFIG, _WEIGHTS) and files.has(_CONFIG, _WEIGHTS)
        return named and _TYPE.match(_model_type(files.json(_CONFIG))) is not None

    def read(self, files: WeightFiles, config: Mapping[str, Any] | None) -> Converted:
        where, content = str(files.folder / _CONFIG), files.json(_CONFIG)
        if config is not None:
            raise CheckpointError(f"{where}: holds the configuration; leave config out.")
        name = _model_type(content)
        found = _TYPE.match(name)
        assert found is not None
        arguments = {key: value for key, value in content["model"].items() if key != "type"}
        convert = CONVERTERS.find(found[1], where)
        state = state_of(files.torch_dict(_WEIGHTS), str(files.folder / _WEIGHTS))
        with naming(where):
            return convert({**arguments, "sample_rate": 1000 * int(found[2])}, state)


def _model_type(content: Any) -> str:
    model = content.get("model") if isinstance(content, Mapping) else None
    return str(model.get("type", "")) if isinstance(model, Mapping) else ""
