"""The published networks of other toolkits: their classes and arguments.

Needs torch and the standard library only. The classes are imported one by one: the packages' own
``__init__`` load torchaudio and more that no network needs, and that often does not load beside a CPU torch.

Shapes: B batch, C sources, T samples.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SAMPLE_RATE = 8000
_NEVER_CALLED = ("hyperpyyaml", "requests", "torchaudio", "torchaudio.functional", "torchaudio.transforms")
_PACKAGES = {
    "speechbrain": ("speechbrain",),
    "asteroid": ("asteroid", "asteroid.dsp", "asteroid.losses", "asteroid.models"),
}
_LOBES = "speechbrain.lobes.models"


@dataclass(frozen=True)
class Part:
    """A class of a toolkit and its arguments, among which may be further parts."""

    class_path: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Peer:
    """A published network.

    Attributes:
        toolkit: Name of the toolkit.
        model_type: Name of the architecture in this library.
        converter: Name of the converter of its weights.
        parts: One class, or an encoder, a mask network and a decoder.
        about: Which published configuration it is.
    """

    toolkit: str
    model_type: str
    converter: str
    parts: Mapping[str, Part]
    about: str


def _transformer(block: str, width: int) -> Part:
    """The inner model of both separation transformers; no dropout, so that training steps are equal."""
    sizes = {"num_layers": 8, "d_model": width, "nhead": 8, "d_ffn": 1024, "dropout": 0}
    return Part(f"{_LOBES}.{block}", {**sizes, "use_positional_encoding": True, "norm_before": True})


def _dual_path(block: Part, **arguments: Any) -> Part:
    common = {"num_spks": 2, "in_channels": 256, "out_channels": 256, "K": 250, "norm": "ln"}
    inner = {"intra_model": block, "inter_model": block, "skip_around_intra": True}
    return Part(f"{_LOBES}.dual_path.Dual_Path_Model", {**common, **inner, **arguments})


def _segments(**arguments: Any) -> Part:
    common = {"num_spk": 2, "causal": False, "unit": 256, "segment_size": 150}
    return Part(f"{_LOBES}.resepformer.ResourceEfficientSeparator", {**common, **arguments})


def _skim() -> Part:
    sizes = {"hidden_size": 256, "dropout": 0, "bidirectional": True}
    segment = Part(f"{_LOBES}.resepformer.SegLSTM", {**sizes, "input_size": 128, "norm_type": "gln"})
    memory = Part(f"{_LOBES}.resepformer.MemLSTM", {**sizes, "mem_type": "hc", "norm_type": "gln"})
    return _segments(input_dim=128, layer=4, mem_type="hc", seg_model=segment, mem_model=memory)


def _resepformer() -> Part:
    block = _transformer("resepformer.SBTransformerBlock_wnormandskip", 128)
    return _segments(input_dim=128, layer=2, mem_type="av", seg_model=block, mem_model=block)


def _convtasnet() -> Part:
    sizes = {"N": 256, "B": 256, "H": 512, "P": 3, "X": 6, "R": 4, "C": 2}
    kinds = {"norm_type": "gLN", "causal": False, "mask_nonlinear": "relu"}
    return Part(f"{_LOBES}.conv_tasnet.MaskNet", {**sizes, **kinds})


def _dprnn() -> Part:
    sizes = {"input_size": 256, "hidden_channels": 256, "num_layers": 1}
    block = Part(f"{_LOBES}.dual_path.SBRNNBlock", {**sizes, "dropout": 0, "bidirectional": True})
    return _dual_path(block, num_layers=6, linear_layer_after_inter_intra=True)


def _sepformer() -> Part:
    block = _transformer("dual_path.SBTransformerBlock", 256)
    return _dual_path(block, num_layers=2, linear_layer_after_inter_intra=False)


def _speechbrain(model_type: str, converter: str, masknet: Part, about: str) -> Peer:
    """A mask network between a filterbank of 2 ms."""
    width = next(
        masknet.arguments[key] for key in ("in_channels", "input_dim", "N") if key in masknet.arguments
    )
    decoder = {"in_channels": width, "out_channels": 1, "kernel_size": 16, "stride": 8, "bias": False}
    parts = {
        "encoder": Part(f"{_LOBES}.dual_path.Encoder", {"kernel_size": 16, "out_channels": width}),
        "masknet": masknet,
        "decoder": Part(f"{_LOBES}.dual_path.Decoder", decoder),
    }
    return Peer("speechbrain", model_type, converter, parts, about)


def _asteroid(model_type: str, path: str, about: str, **arguments: Any) -> Peer:
    """A class with its own defaults, which are those of the recipes unless given here."""
    name = path.rpartition(".")[2]
    part = Part(f"asteroid.models.{path}", {"n_src": 2, **arguments})
    return Peer("asteroid", model_type, name, {"network": part}, about)


_SEGMENT_BLOCK = "ResourceEfficientSeparator[SBTransformerBlock_wnormandskip]"
PEERS = {
    "sepformer/speechbrain": _speechbrain(
        "sepformer",
        "Dual_Path_Model[SBTransformerBlock]",
        _sepformer(),
        "`sepformer-wsj02mix`: 256 filters, chunks of 250, 2 blocks of 8 + 8 layers",
    ),
    "resepformer/speechbrain": _speechbrain(
        "resepformer",
        _SEGMENT_BLOCK,
        _resepformer(),
        "`resepformer-wsj02mix`: 128 filters, segments of 150, 2 blocks of 8 + 8 layers",
    ),
    "skim/speechbrain": _speechbrain(
        "skim",
        "ResourceEfficientSeparator[SegLSTM]",
        _skim(),
        "the recipe's 128 filters, segments of 150, 4 bidirectional LSTMs of 256, memory of both states",
    ),
    "convtasnet/speechbrain": _speechbrain(
        "convtasnet",
        "MaskNet",
        _convtasnet(),
        "the recipe's 256/256/512, 6 blocks, 4 repeats, no skip path, not causal",
    ),
    "dprnn/speechbrain": _speechbrain(
        "dprnn",
        "Dual_Path_Model[SBRNNBlock]",
        _dprnn(),
        "the recipe's 256 channels, kernel 16, chunks of 250, 6 blocks",
    ),
    "convtasnet/asteroid": _asteroid(
        "convtasnet",
        "conv_tasnet.ConvTasNet",
        "512/128/512, 8 blocks, 3 repeats, skip path of 128, as `ConvTasNet_Libri2Mix_sepclean_8k`",
        mask_act="relu",
    ),
    "dprnn/asteroid": _asteroid(
        "dprnn",
        "dprnn_tasnet.DPRNNTasNet",
        "defaults (kernel 16, chunks of 100, 6 blocks), masks with a sigmoid",
        mask_act="sigmoid",
    ),
    "dptnet/asteroid": _asteroid("dptnet", "dptnet.DPTNet", "defaults"),
    "lstmtasnet/asteroid": _asteroid("lstmtasnet", "lstm_tasnet.LSTMTasNet", "defaults", dropout=0.0),
    "sudormrf/asteroid": _asteroid("sudormrf", "sudormrf.SuDORMRFNet", "`SuDORMRFNet`, defaults"),
    "sudormrf-improved/asteroid": _asteroid(
        "sudormrf", "sudormrf.SuDORMRFImprovedNet", "`SuDORMRFImprovedNet`, defaults"
    ),
}
"""Networks by architecture and toolkit."""


def build_network(peer: Peer) -> nn.Module:
    """Create the toolkit's own network with fresh weights."""
    prepare_imports(peer.toolkit)
    torch.manual_seed(0)
    parts = {name: _build(part) for name, part in peer.parts.items()}
    return parts["network"] if "network" in parts else MaskingNetwork(parts)


def prepare_imports(toolkit: str) -> None:
    """Make a toolkit's modules importable one by one.

    Raises:
        ModuleNotFoundError: If this environment has no such toolkit.
    """
    found = importlib.util.find_spec(toolkit)
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(f"{toolkit} is not installed in the environment of {sys.executable}")
    folder = Path(found.submodule_search_locations[0]).parent
    for name in _NEVER_CALLED:
        try:
            importlib.import_module(name)
        except (ImportError, OSError):  # OSError: a library of another build
            sys.modules[name] = Placeholder(name)
    for name in _PACKAGES[toolkit]:
        package = types.ModuleType(name)
        package.__path__ = [str(folder.joinpath(*name.split(".")))]
        sys.modules[name] = package


class Placeholder(types.ModuleType):
    """A module that the networks' files name but never call."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__: list[str] = []
        self.__version__ = "0.0.0"  # a toolkit may look at it
        self.__spec__ = importlib.machinery.ModuleSpec(name, None)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Placeholder(f"{self.__name__}.{name}")


class MaskingNetwork(nn.Module):
    """Encoder, masks and decoder, put together as SpeechBrain's recipes and its inference class do."""

    def __init__(self, parts: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.encoder, self.masknet, self.decoder = (parts[name] for name in ("encoder", "masknet", "decoder"))

    def forward(self, mixture: Tensor) -> Tensor:
        """``[B, T]`` to ``[B, C, T]``."""
        features = self.encoder(mixture)
        masks = self.masknet(features)
        masked = torch.stack([features] * len(masks)) * masks
        sources = torch.stack([self.decoder(each).view(len(mixture), -1) for each in masked], dim=1)
        return F.pad(sources, (0, mixture.shape[-1] - sources.shape[-1]))


def _build(value: Any) -> Any:
    if not isinstance(value, Part):
        return value
    module, _, name = value.class_path.rpartition(".")
    arguments = {key: _build(argument) for key, argument in value.arguments.items()}
    return getattr(importlib.import_module(module), name)(**arguments)
