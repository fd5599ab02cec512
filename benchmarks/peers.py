"""Our models against SpeechBrain's and Asteroid's own code, on the same weights.

Each network is built in its toolkit as published, its random weights go through our converter, and nothing
is timed unless the outputs agree. Rounds of ours, peer, peer, ours; CPU seconds of one thread in one process,
hence the same allocator for both; the median ratio of the rounds counts, with its quartiles.

    python benchmarks/peers.py --speechbrain PATH --asteroid PATH [--models dprnn,dptnet] [--mode training]
    python benchmarks/peers.py --asteroid PATH --models dprnn --memory 30      (a fresh process each)

PATH is a source checkout or the ``site-packages`` that holds the toolkit; Asteroid's filterbanks
(``asteroid_filterbanks``) must be in the same folder or importable. Of the packages only the networks'
modules are imported, with what these import. A training step is a pass there and back, without an optimiser.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.machinery
import json
import os
import resource
import statistics
import subprocess
import sys
import time
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polsess.allocator import tune_allocator
from polsess.checkpoints.asteroid.reader import CONVERTERS as ASTEROID
from polsess.checkpoints.formats import Converted
from polsess.checkpoints.loading import build_model
from polsess.checkpoints.speechbrain.hyperparams import Instance
from polsess.checkpoints.speechbrain.reader import CONVERTERS as SPEECHBRAIN
from polsess.models import SeparationModel, create_model, parse_model_config

MAX_ERROR = 1e-4
WARM_UP = 4000  # samples
_UNUSED = ("hyperpyyaml", "requests", "torchaudio", "torchaudio.functional", "torchaudio.transforms")
_BARE = {
    "speechbrain": ("speechbrain",),
    "asteroid": ("asteroid", "asteroid.dsp", "asteroid.losses", "asteroid.models"),
}
_LOBES = "speechbrain.lobes.models"


class Placeholder(types.ModuleType):
    """A dependency that the networks name but never call."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Placeholder(f"{self.__name__}.{name}")


def prepare_imports(toolkit: str, folder: Path) -> None:
    """Make a toolkit's modules importable one by one, without what its packages load at once."""
    if not (folder / toolkit).is_dir():
        raise SystemExit(f"--{toolkit} {folder}: holds no folder '{toolkit}'.")
    sys.path.append(str(folder))
    for name in _UNUSED:
        try:
            importlib.import_module(name)
        except ImportError:
            stand_in = Placeholder(name)
            stand_in.__path__ = []
            stand_in.__spec__ = importlib.machinery.ModuleSpec(name, None)
            sys.modules[name] = stand_in
    for name in _BARE[toolkit]:
        package = types.ModuleType(name)
        package.__path__ = [str(folder.joinpath(*name.split(".")))]
        sys.modules[name] = package


def build(value: Any) -> Any:
    """An instance of the class that ``value`` names, with the instances among its arguments."""
    if not isinstance(value, Instance):
        return value
    module, _, name = value.class_path.rpartition(".")
    arguments = {key: build(argument) for key, argument in value.arguments.items()}
    return getattr(importlib.import_module(module), name)(**arguments)


class SpeechBrainNetwork(nn.Module):
    """Encoder, masks and decoder, put together as SpeechBrain's recipes and its inference class do."""

    def __init__(self, parts: Mapping[str, Instance]) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, build(part))

    def forward(self, mixture: Tensor) -> Tensor:
        """``[B, T]`` to ``[B, C, T]``."""
        features = self.encoder(mixture)
        masks = self.masknet(features)
        masked = torch.stack([features] * len(masks)) * masks
        sources = torch.stack([self.decoder(each).view(len(mixture), -1) for each in masked], dim=1)
        return F.pad(sources, (0, mixture.shape[-1] - sources.shape[-1]))


def transformer(block: str, width: int) -> Instance:
    """The inner model of both separation transformers."""
    arguments = {
        "num_layers": 8,
        "d_model": width,
        "nhead": 8,
        "d_ffn": 1024,
        "dropout": 0,
        "use_positional_encoding": True,
        "norm_before": True,
    }
    return Instance(f"{_LOBES}.{block}", arguments)


def sepformer() -> Instance:
    """The mask network of ``sepformer-wsj02mix``."""
    block = "dual_path.SBTransformerBlock"
    arguments = {
        "num_spks": 2,
        "in_channels": 256,
        "out_channels": 256,
        "num_layers": 2,
        "K": 250,
        "intra_model": transformer(block, 256),
        "inter_model": transformer(block, 256),
        "norm": "ln",
        "linear_layer_after_inter_intra": False,
        "skip_around_intra": True,
    }
    return Instance(f"{_LOBES}.dual_path.Dual_Path_Model", arguments)


def resepformer() -> Instance:
    """The mask network of ``resepformer-wsj02mix``."""
    block = "resepformer.SBTransformerBlock_wnormandskip"
    arguments = {
        "input_dim": 128,
        "num_spk": 2,
        "causal": False,
        "unit": 256,
        "segment_size": 150,
        "layer": 2,
        "mem_type": "av",
        "seg_model": transformer(block, 128),
        "mem_model": transformer(block, 128),
    }
    return Instance(f"{_LOBES}.resepformer.ResourceEfficientSeparator", arguments)


def convtasnet() -> Instance:
    """The mask network of the recipes for WSJ0-2Mix and WHAMR!, not causal."""
    arguments = {"N": 256, "B": 256, "H": 512, "P": 3, "X": 6, "R": 4, "C": 2}
    arguments |= {"norm_type": "gLN", "causal": False, "mask_nonlinear": "relu"}
    return Instance(f"{_LOBES}.conv_tasnet.MaskNet", arguments)


@dataclass(frozen=True)
class Peer:
    """A published network: how to build it and how its weights are converted."""

    toolkit: str
    build: Callable[[], nn.Module]
    convert: Callable[[dict[str, Tensor]], Converted]


def speechbrain_peer(name: str, masknet: Instance, width: int) -> Peer:
    """A mask network between a filterbank of ``width`` filters of 2 ms."""
    parts = {
        "encoder": {"kernel_size": 16, "out_channels": width},
        "decoder": {"in_channels": width, "out_channels": 1, "kernel_size": 16, "stride": 8, "bias": False},
    }
    classes = {"encoder": "Encoder", "decoder": "Decoder"}
    instances = {part: Instance(f"{_LOBES}.dual_path.{classes[part]}", parts[part]) for part in parts}
    arguments = {**parts, "masknet": masknet.arguments, "sample_rate": 8000}
    return Peer(
        "speechbrain",
        lambda: SpeechBrainNetwork({**instances, "masknet": masknet}),
        lambda state: SPEECHBRAIN[name](arguments, state),
    )


def asteroid_peer(module: str, name: str, **arguments: Any) -> Peer:
    """A class with its own defaults, which are those of the recipes unless given here."""
    arguments = {"n_src": 2, **arguments}
    path = f"asteroid.models.{module}.{name}"
    return Peer(
        "asteroid",
        lambda: build(Instance(path, arguments)),
        lambda state: ASTEROID[name](arguments, state),
    )


PEERS = {
    "sepformer": speechbrain_peer("Dual_Path_Model[SBTransformerBlock]", sepformer(), 256),
    "resepformer": speechbrain_peer(
        "ResourceEfficientSeparator[SBTransformerBlock_wnormandskip]", resepformer(), 128
    ),
    "convtasnet-speechbrain": speechbrain_peer("MaskNet", convtasnet(), 256),
    "convtasnet-asteroid": asteroid_peer("conv_tasnet", "ConvTasNet", mask_act="relu"),
    "dprnn": asteroid_peer("dprnn_tasnet", "DPRNNTasNet", mask_act="sigmoid"),
    "dptnet": asteroid_peer("dptnet", "DPTNet"),
    "sudormrf": asteroid_peer("sudormrf", "SuDORMRFNet"),
    "sudormrf-improved": asteroid_peer("sudormrf", "SuDORMRFImprovedNet"),
}


def pair(name: str) -> tuple[nn.Module, SeparationModel]:
    """The peer and ours with its weights."""
    torch.manual_seed(0)
    peer = PEERS[name].build()
    converted = PEERS[name].convert({key: value.clone() for key, value in peer.state_dict().items()})
    return peer, build_model(parse_model_config(converted.model), converted.state, name)


def one_of(name: str, side: str) -> nn.Module:
    """The peer or ours alone; where memory is measured the other must never have been there."""
    if side == "peer":
        return PEERS[name].build()
    return create_model(parse_model_config(json.loads(printed("--side", "config"))))


def printed(*options: str) -> str:
    """What this script prints in a process of its own with further options."""
    command = [sys.executable, *sys.argv, *options]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def run(model: nn.Module, mixture: Tensor, mode: str) -> Tensor:
    """A pass, or a pass there and back without the optimiser's step."""
    if mode == "inference":
        with torch.inference_mode():
            return model(mixture)
    model.zero_grad(set_to_none=True)
    estimate = model(mixture)
    estimate.square().mean().backward()
    return estimate.detach()


def cpu_seconds(model: nn.Module, mixture: Tensor, mode: str) -> float:
    """What one run costs."""
    start = time.process_time()
    run(model, mixture, mode)
    return time.process_time() - start


def compare(name: str, options: argparse.Namespace) -> str:
    """A row of the table, after checking that both give the same."""
    peer, ours = (model.train(options.mode == "training") for model in pair(name))
    mixture = 0.1 * torch.randn(options.batch, round(8000 * options.seconds))
    expected, found = (run(model, mixture, options.mode) for model in (peer, ours))
    error = float((found - expected).norm() / expected.norm())
    if not error <= MAX_ERROR:
        raise SystemExit(f"{name}: the outputs differ by {error:.1e}; nothing was timed.")
    ratios, best = [], [float("inf")] * 2
    for index in range(options.rounds):
        times = [cpu_seconds(model, mixture, options.mode) for model in (ours, peer, peer, ours)]
        ratios.append((times[1] + times[2]) / (times[0] + times[3]))
        best = [min(best[0], times[1], times[2]), min(best[1], times[0], times[3])]
        print(
            f"{name}: round {index + 1} of {options.rounds}: {ratios[-1]:.2f}x", file=sys.stderr, flush=True
        )
    low, middle, high = quartiles(ratios)
    return (
        f"| {name} | {middle:.2f} | {low:.2f}-{high:.2f} | {best[0]:.2f} | {best[1]:.2f} | {error:.0e} "
        f"| {options.rounds} | {os.getloadavg()[0]:.1f} |"
    )


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def measure_memory(name: str, side: str, options: argparse.Namespace) -> None:
    """Print by how many MB a run lifts the peak above that of the built and warmed-up model."""
    model = one_of(name, side).train(options.mode == "training")
    run(model, torch.randn(1, WARM_UP), options.mode)
    built = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run(model, 0.1 * torch.randn(options.batch, round(8000 * options.memory)), options.mode)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - built) / 1024)


def compare_memory(name: str) -> str:
    """A row of the table of memory."""
    found = {}
    for side in ("peer", "ours"):
        print(f"{name}: memory of {side}", file=sys.stderr, flush=True)
        found[side] = float(printed("--models", name, "--side", side))
    ratio = found["peer"] / found["ours"] if found["ours"] else float("nan")
    return f"| {name} | {found['peer']:.0f} | {found['ours']:.0f} | {ratio:.2f} |"


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for toolkit in _BARE:
        parser.add_argument(f"--{toolkit}", type=Path, metavar="PATH", help="where its package lies")
    parser.add_argument("--models", default=",".join(PEERS), help="separated by commas; all by default")
    parser.add_argument("--mode", choices=["inference", "training"], default="inference")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--allocator", choices=["tuned", "default"], default="tuned")
    parser.add_argument("--memory", type=float, metavar="SECONDS", help="measure peak memory instead of time")
    parser.add_argument(
        "--side", choices=["peer", "ours", "config"], help="memory of one alone; or our config"
    )
    options = parser.parse_args()
    options.models = options.models.split(",")
    for name in options.models:
        if name not in PEERS:
            parser.error(f"'{name}' is not among {', '.join(PEERS)}")
        if getattr(options, PEERS[name].toolkit) is None:
            parser.error(f"{name} needs --{PEERS[name].toolkit} PATH")
    if options.rounds < 1 or options.batch < 1:
        parser.error("--rounds and --batch must be at least 1")
    return options


def main() -> None:
    """Compare what the command line asks for."""
    options = read_options()
    torch.set_num_threads(1)
    tuned = options.allocator == "tuned" and tune_allocator()
    for toolkit in {PEERS[name].toolkit for name in options.models}:
        prepare_imports(toolkit, getattr(options, toolkit).resolve())
    if options.side == "config":
        print(json.dumps(pair(options.models[0])[1].config.model_dump(mode="json")))
        return
    if options.side:
        measure_memory(options.models[0], options.side, options)
        return
    length = options.seconds if options.memory is None else options.memory
    allocator = "tuned" if tuned else "default"
    print(
        f"{options.mode}, {options.batch} x {length:g} s at 8 kHz, allocator {allocator}, {torch.__version__}"
    )
    if options.memory is None:
        print("| model | times as fast | quartiles | peer s | ours s | error | rounds | load |")
    else:
        print("| model | peer MB | ours MB | ratio |")
    print("|---|---|---|---|" + ("---|" * 4 if options.memory is None else ""))
    for name in options.models:
        print(compare(name, options) if options.memory is None else compare_memory(name), flush=True)


if __name__ == "__main__":
    main()
