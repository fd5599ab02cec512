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
from tests.checkpoints.formula import formula_sound, formula_weight  # noqa: E402

OUT = ROOT / "tests/golden/toolkit_options"
COMPUTED = (".pe",)
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


TOOLKITS: dict[str, tuple[Mapping[str, Any], Callable[..., Any]]] = {
    "speechbrain": (SPEECHBRAIN, speechbrain)
}


def compute(
    source: Any, create: Callable[..., Any], num_samples: int
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Facts of one network, and its results on two items, each alone."""
    torch.manual_seed(0)
    modules, separate = create(source)
    tensors: dict[str, dict[str, list[int]]] = {}
    for part, module in modules.items():
        module.eval()
        state = module.state_dict()
        tensors[part] = {key: list(value.shape) for key, value in state.items() if not key.endswith(COMPUTED)}
        module.load_state_dict(
            {**state, **{key: formula_weight(key, size) for key, size in tensors[part].items()}}
        )
    mixture = formula_sound(2, num_samples).requires_grad_()
    estimate = torch.cat([separate(item[None]) for item in mixture])
    probe = formula_sound(estimate.shape[0] * estimate.shape[1], estimate.shape[2]).view(estimate.shape)
    (gradient,) = torch.autograd.grad((estimate * probe).sum(), mixture)
    parameters = sum(each.numel() for module in modules.values() for each in module.parameters())
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
        facts, results = {}, {}
        for name, source in variants.items():
            facts[name], values = compute(source, create, 131)
            results |= {f"{name}.{key}": value.contiguous() for key, value in values.items()}
        OUT.mkdir(exist_ok=True)
        (OUT / f"{toolkit}.json").write_text(json.dumps(facts, separators=(",", ":")) + "\n")
        save_file(results, OUT / f"{toolkit}.safetensors")


if __name__ == "__main__":
    main()
