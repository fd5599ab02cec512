"""Computes tests/golden/toolkit_options: what toolkits make of options that few published files have.

It needs speechbrain 1.0.3, asteroid 0.7.0 and espnet 202511, which polsess itself never imports. Weights and
sounds come from a formula, so the files hold arguments, names and shapes of tensors, and results.

    python scripts/make_toolkit_goldens.py speechbrain asteroid espnet
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from polsess.checkpoints.toolkits.speechbrain.hyperparams import Hyperparams, Instance  # noqa: E402
from polsess.yaml_files import read_tagged_yaml  # noqa: E402
from tests.checkpoints.formula import formula_sound, formula_state  # noqa: E402

OUT = ROOT / "tests/golden/toolkit_options"
COMPUTED = (".pe", ".torch_window", ".window_", ".n_")
"""Ends of the names of tensors that a toolkit computes rather than trains."""

DUAL_PATH = "speechbrain.lobes.models.dual_path"
FILTERBANK = {"kernel_size": 6, "out_channels": 6}
TRANSFORMER = {"num_layers": 1, "d_model": 8, "nhead": 2, "d_ffn": 6, "dropout": 0, "activation": "gelu"}
CONFORMER = {"num_layers": 1, "d_model": 8, "nhead": 2, "d_ffn": 6, "dropout": 0, "kernel_size": 5}
TORCH = {"out_channels": 8, "num_layers": 1, "nhead": 4, "d_ffn": 6, "dropout": 0}
RECURRENT = {"input_size": 8, "hidden_channels": 4, "num_layers": 1}
AROUND = {"in_channels": 6, "out_channels": 8, "num_layers": 1, "K": 6, "num_spks": 2}
PLAIN = {"linear_layer_after_inter_intra": False}

Inner = tuple[str, dict[str, Any]]


def dual_path(intra: Inner, inter: Inner, **options: Any) -> str:
    """The YAML of a dual-path network with inner models of these classes and arguments."""
    inner = {"intra": intra, "inter": inter}
    modules = {name: (f"{DUAL_PATH}.{kind}", values) for name, (kind, values) in inner.items()}
    references = {f"{name}_model": f"!ref <{name}>" for name in inner}
    masknet = {**AROUND, **options, **references}
    return speechbrain_yaml({**modules, "MaskNet": (f"{DUAL_PATH}.Dual_Path_Model", masknet)})


def speechbrain_yaml(modules: Mapping[str, Inner]) -> str:
    """A ``hyperparams.yaml``; the last of the modules is the mask network."""
    decoder = {"in_channels": 6, "out_channels": 1, "kernel_size": 6, "stride": 3, "bias": False}
    filterbank: dict[str, Inner] = {
        "Encoder": (f"{DUAL_PATH}.Encoder", FILTERBANK),
        "Decoder": (f"{DUAL_PATH}.Decoder", decoder),
    }
    lines = ["sample_rate: 8000"]
    for name, (kind, values) in {**filterbank, **modules}.items():
        lines.append(f"{name}: !new:{kind}")
        for key, value in values.items():
            text = value if isinstance(value, str) and value.startswith("!") else json.dumps(value)
            lines.append(f"    {key}: {text}")
    lines += ["modules:", "    encoder: !ref <Encoder>", "    decoder: !ref <Decoder>"]
    return "\n".join([*lines, "    masknet: !ref <MaskNet>", ""])


SPEECHBRAIN: dict[str, str] = {
    "conformer_intra": dual_path(
        ("SBConformerEncoderBlock", {**CONFORMER, "num_layers": 2}),
        ("SBTransformerBlock", {**TRANSFORMER, "norm_before": True, "use_positional_encoding": True}),
        **PLAIN,
    ),
    "conformer_inter_options": dual_path(
        ("SBTransformerBlock", TRANSFORMER),
        (
            "SBConformerEncoderBlock",
            {**CONFORMER, "bias": False, "activation": "gelu", "attention_type": "regularMHA"},
        ),
    ),
    "conformers_without_positions": dual_path(
        (
            "SBConformerEncoderBlock",
            {**CONFORMER, "attention_type": "regularMHA", "use_positional_encoding": False},
        ),
        ("SBConformerEncoderBlock", {**CONFORMER, "activation": "relu", "kernel_size": 3}),
        norm="cln",
    ),
    "torch_transformers": dual_path(
        ("PytorchTransformerBlock", TORCH),
        (
            "PytorchTransformerBlock",
            {**TORCH, "activation": "gelu", "use_positional_encoding": False, "num_layers": 2},
        ),
        skip_around_intra=False,
        **PLAIN,
    ),
    "recurrent_intra": dual_path(
        ("SBRNNBlock", {**RECURRENT, "hidden_channels": 5}),
        ("SBTransformerBlock", {**TRANSFORMER, "num_layers": 2}),
    ),
    "recurrent_inter_without_norm": dual_path(
        ("SBTransformerBlock", TRANSFORMER),
        ("SBRNNBlock", {**RECURRENT, "hidden_channels": 8, "bidirectional": False, "rnn_type": "GRU"}),
        norm=None,
        **PLAIN,
    ),
    "unlike_recurrent": dual_path(
        ("SBRNNBlock", RECURRENT),
        ("SBRNNBlock", {**RECURRENT, "num_layers": 2, "rnn_type": "GRU", "dropout": 0.5}),
    ),
    "unlike_recurrent_forwards_without_norm": dual_path(
        ("SBRNNBlock", RECURRENT),
        ("SBRNNBlock", {**RECURRENT, "hidden_channels": 8, "rnn_type": "RNN", "bidirectional": False}),
        norm=None,
        **PLAIN,
    ),
}


RESOURCE = "speechbrain.lobes.models.resepformer"
SEGMENT = {"input_size": 6, "hidden_size": 4, "bidirectional": True}


def skim(segment: dict[str, Any], memory: dict[str, Any]) -> str:
    """The YAML of a SkiM."""
    inner = {
        "seg": (f"{RESOURCE}.SegLSTM", {**SEGMENT, **segment}),
        "mem": (f"{RESOURCE}.MemLSTM", {"hidden_size": 4, "bidirectional": True, "mem_type": "hc", **memory}),
    }
    masknet = {"input_dim": 6, "layer": 2, "segment_size": 5, "num_spk": 2, "mem_type": "hc"}
    references = {"seg_model": "!ref <seg>", "mem_model": "!ref <mem>"}
    return speechbrain_yaml(
        {**inner, "MaskNet": (f"{RESOURCE}.ResourceEfficientSeparator", {**masknet, **references})}
    )


def resepformer(segment: dict[str, Any], memory: dict[str, Any]) -> str:
    """The YAML of an RE-SepFormer."""
    sizes = {"num_layers": 1, "d_model": 6, "nhead": 2, "d_ffn": 5, "dropout": 0}
    kind = f"{RESOURCE}.SBTransformerBlock_wnormandskip"
    inner = {"seg": (kind, {**sizes, **segment}), "mem": (kind, {**sizes, **memory})}
    masknet = {"input_dim": 6, "layer": 2, "segment_size": 5, "num_spk": 2, "mem_type": "av"}
    references = {"seg_model": "!ref <seg>", "mem_model": "!ref <mem>"}
    return speechbrain_yaml(
        {**inner, "MaskNet": (f"{RESOURCE}.ResourceEfficientSeparator", {**masknet, **references})}
    )


TASNET = {"N": 6, "B": 5, "H": 4, "X": 2, "R": 1, "C": 2}
SPEECHBRAIN |= {
    "skim_batch_norm": skim({}, {"norm_type": "gln"}),  # the default of SegLSTM is the word for another norm
    "skim_memory_norm": skim({"norm_type": "ln"}, {}),
    "unlike_memory": resepformer(
        {"norm_before": True, "use_positional_encoding": True, "norm_type": "cln", "causal": True},
        {"nhead": 3, "d_ffn": 4, "activation": "gelu", "use_norm": False, "use_skip": False, "num_layers": 2},
    ),
    "convtasnet_pointwise": speechbrain_yaml(
        {"MaskNet": ("speechbrain.lobes.models.conv_tasnet.MaskNet", {**TASNET, "P": 1})}
    ),
}


def build(instance: Any) -> Any:
    """The object that an entry of a YAML file names."""
    if not isinstance(instance, Instance):
        return instance
    module, _, name = instance.class_path.rpartition(".")
    arguments = {key: build(value) for key, value in instance.arguments.items()}
    return getattr(importlib.import_module(module), name)(**arguments)


def speechbrain(text: str) -> tuple[dict[str, nn.Module], Callable[[Tensor], Tensor]]:
    """The three modules of a YAML text and what they make of a mixture."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "hyperparams.yaml"
        path.write_text(text)
        modules = {
            key: build(value) for key, value in Hyperparams(read_tagged_yaml(path), "")["modules"].items()
        }

    def separate(mixture: Tensor) -> Tensor:
        features = modules["encoder"](mixture)
        masked = modules["masknet"](features) * features
        return torch.stack([modules["decoder"](each).reshape(len(mixture), -1) for each in masked], dim=1)

    return modules, separate


SINC = {"fb_name": "param_sinc", "norm_type": "bN"}
ANALYTIC = {"fb_name": "analytic_free"}
SMALL = {"n_src": 2, "n_filters": 8, "kernel_size": 6, "stride": 3}
CONVTASNET = {**SMALL, "n_blocks": 2, "n_repeats": 1, "bn_chan": 5, "hid_chan": 6, "skip_chan": 4}
DPRNN = {**SMALL, "bn_chan": 5, "hid_size": 4, "chunk_size": 6, "n_repeats": 1}
DPTNET = {**SMALL, "n_heads": 2, "ff_hid": 4, "chunk_size": 6, "n_repeats": 1}
LSTM = {**SMALL, "hid_size": 4, "n_layers": 1, "dropout": 0}
SUDORMRF = {**SMALL, "bn_chan": 5, "num_blocks": 1, "upsampling_depth": 2}
ASTEROID: dict[str, tuple[str, dict[str, Any]]] = {
    "batch_norm": (
        "ConvTasNet",
        {**CONVTASNET, "norm_type": "bN", "encoder_activation": "sigmoid", "mask_act": "gelu"},
    ),
    "feature_norm": (
        "ConvTasNet",
        {**CONVTASNET, "norm_type": "fgLN", "encoder_activation": "prelu", "mask_act": "swish"},
    ),
    "analytic": (
        "ConvTasNet",
        {**CONVTASNET, **ANALYTIC, "mask_act": "leaky_relu", "encoder_activation": "tanh"},
    ),
    "stft": ("ConvTasNet", {**CONVTASNET, "fb_name": "stft", "mask_act": "prelu", "conv_kernel_size": 1}),
    "sinc": (
        "ConvTasNet",
        {**CONVTASNET, **SINC, "sample_rate": 16000, "causal": True},
    ),
    "dprnn_batch_norm_sinc": (
        "DPRNNTasNet",
        {**DPRNN, **SINC, "mask_act": "prelu"},
    ),
    "dprnn_feature_norm_analytic": (
        "DPRNNTasNet",
        {
            **DPRNN,
            "norm_type": "fgLN",
            "fb_name": "analytic_free",
            "n_filters": 9,
            "encoder_activation": "gelu",
        },
    ),
    "dptnet_batch_norm_stft": ("DPTNet", {**DPTNET, "norm_type": "bN", "fb_name": "stft"}),
    "dptnet_feature_norm": ("DPTNet", {**DPTNET, "norm_type": "fgLN", "encoder_activation": "leaky_relu"}),
    "lstm_prelu": ("LSTMTasNet", {**LSTM, "mask_act": "prelu"}),
    "lstm_sinc": (
        "LSTMTasNet",
        {**LSTM, "fb_name": "param_sinc"},
    ),
    "lstm_stft": ("LSTMTasNet", {**LSTM, "fb_name": "stft"}),
    "sudormrf_sinc": (
        "SuDORMRFNet",
        {**SUDORMRF, "fb_name": "param_sinc"},
    ),
    "sudormrf_analytic": (
        "SuDORMRFImprovedNet",
        {**SUDORMRF, **ANALYTIC},
    ),
    "sudormrf_prelu": (
        "SuDORMRFImprovedNet",
        {**SUDORMRF, "mask_act": "prelu"},
    ),
}


def asteroid(source: Any) -> tuple[dict[str, nn.Module], Callable[[Tensor], Tensor]]:
    """A model of a class with arguments."""
    class_name, arguments = source
    model = getattr(importlib.import_module("asteroid.models"), class_name)(**arguments)
    return {"model": model}, model


CONV = {"channel": 6, "kernel_size": 8, "stride": 3}


def experiment(**separator: Any) -> dict[str, Any]:
    """The ``config.yaml`` of a SkiM with these arguments."""
    sizes = {"num_spk": 2, "layer": 3, "unit": 4, "segment_size": 5}
    filterbank = {"encoder": "conv", "encoder_conf": CONV, "decoder": "conv", "decoder_conf": CONV}
    return {"separator": "skim", "separator_conf": {**sizes, **separator}, **filterbank}


ESPNET: dict[str, dict[str, Any]] = {
    "causal": experiment(causal=True, nonlinear="sigmoid"),
    "not_causal": experiment(causal=False, mem_type="h", dropout=0.1),
    "causal_identity_overlap": experiment(causal=True, mem_type="id", seg_overlap=True),
    "overlap": experiment(causal=False, seg_overlap=True, mem_type="c", nonlinear="tanh"),
    "no_memory": experiment(causal=False, mem_type=None, num_spk=3),
}


def espnet(source: Any) -> tuple[dict[str, nn.Module], Callable[[Tensor], Tensor]]:
    """A SkiM between a convolutional encoder and decoder."""
    encoder, decoder, separator = (
        importlib.import_module(f"espnet2.enh.{name}")
        for name in ("encoder.conv_encoder", "decoder.conv_decoder", "separator.skim_separator")
    )
    parts = {
        "encoder": encoder.ConvEncoder(**source["encoder_conf"]),
        "decoder": decoder.ConvDecoder(**source["decoder_conf"]),
        "separator": separator.SkiMSeparator(CONV["channel"], **source["separator_conf"]),
    }

    def separate(mixture: Tensor) -> Tensor:
        lengths = torch.tensor([mixture.shape[1]] * len(mixture))
        features, frames = parts["encoder"](mixture, lengths)
        masked, _, _ = parts["separator"](features, frames)
        return torch.stack([parts["decoder"](each, lengths)[0] for each in masked], dim=1)

    return parts, separate


TOOLKITS: dict[str, tuple[Mapping[str, Any], Callable[..., Any]]] = {
    "speechbrain": (SPEECHBRAIN, speechbrain),
    "asteroid": (ASTEROID, asteroid),
    "espnet": (ESPNET, espnet),
}


def compute(
    source: Any, create: Callable[..., Any], num_samples: int
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Facts of one network, and its results on two items, each alone."""
    torch.manual_seed(0)
    modules, separate = create(source)
    tensors: dict[str, dict[str, list[int] | str]] = {}
    for part, module in modules.items():
        module.eval()
        state = {key: value for key, value in module.state_dict().items() if not key.endswith(COMPUTED)}
        first = {value.data_ptr(): key for key, value in reversed(state.items())}
        tensors[part] = {
            key: list(value.shape) if first[value.data_ptr()] == key else first[value.data_ptr()]
            for key, value in state.items()
        }
        module.load_state_dict({**module.state_dict(), **formula_state(tensors[part])})
    mixture = formula_sound(2, num_samples).requires_grad_()
    estimate = torch.cat([separate(item[None]) for item in mixture])
    probe = formula_sound(estimate.shape[0] * estimate.shape[1], estimate.shape[2]).view(estimate.shape)
    (gradient,) = torch.autograd.grad((estimate * probe).sum(), mixture)
    parameters = sum(each.numel() for module in modules.values() for each in module.parameters())
    if "model" in modules:
        source = [source[0], modules["model"].get_model_args()]  # as its files hold them
    facts = {"source": source, "num_samples": num_samples, "num_params": parameters, "tensors": tensors}
    return facts, {"estimate": estimate.detach(), "grad_mixture": gradient}


def main() -> None:
    """Write the files of the toolkits named."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("toolkits", nargs="+", choices=sorted(TOOLKITS), help="the toolkits to run")
    for toolkit in parser.parse_args().toolkits:
        variants, create = TOOLKITS[toolkit]
        facts: dict[str, Any] = {}
        results: dict[str, Tensor] = {}
        for name, source in variants.items():
            facts[name], values = compute(source, create, 89)
            results |= {f"{name}.{key}": value.contiguous() for key, value in values.items()}
        if toolkit == "asteroid":
            filterbanks = importlib.import_module("asteroid_filterbanks")
            results["filters"] = filterbanks.STFTFB(10, 6, 2).filters().contiguous()
        OUT.mkdir(exist_ok=True)
        (OUT / f"{toolkit}.json").write_text(json.dumps(facts, separators=(",", ":")) + "\n")
        save_file(results, OUT / f"{toolkit}.safetensors")


if __name__ == "__main__":
    main()
