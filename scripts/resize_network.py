"""Carry the weights of a trained BSRNN over to another rate, fewer sources or more blocks, to go on with it.

    python scripts/resize_network.py default resized --rate 16000 --band-edges 5500
    polsess train -c bsrnn_sb_conversations_16k --init resized
    python scripts/resize_network.py default-16k enhancer --sources 1
    polsess train -c bsrnn_eb_polsess --init enhancer
    python scripts/resize_network.py default-16k deeper --blocks 7

Frames twice as long at twice the rate have bins of the same width: what the network knows of the frequencies
that both rates have stays. Bands that both rates have are copied; those above begin as copies of the topmost
one, stretched. Of fewer sources, the masks of the first ones stay. New blocks change nothing until they are
trained.

Shapes: C sources, M bands, W bins of a band.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from polsess.checkpoints import CheckpointError, load_model, save_model
from polsess.models import create_model
from polsess.models.bsrnn import BSRNN
from polsess.schema import ConfigError


def _frames_at(network: BSRNN, rate: int) -> dict[str, int]:
    """Settings of frames that are as long at another rate."""
    config = network.config
    lengths = {"n_fft": config.n_fft, "hop_length": config.hop_length}
    for key, length in lengths.items():
        if length * rate % config.sample_rate:
            raise ValueError(
                f"--rate: {key} {length} at {config.sample_rate} Hz is no whole number at {rate} Hz."
            )
        lengths[key] = length * rate // config.sample_rate
    return {"sample_rate": rate, "num_shifts": 1} | lengths


def change_rate(network: BSRNN, rate: int, band_edges_hz: Sequence[float] = ()) -> BSRNN:
    """The same network at another sample rate; frequencies that are new have yet to be trained.

    Args:
        network: The trained one.
        rate: Hz.
        band_edges_hz: Where the bands above its old topmost frequency end.

    Raises:
        ValueError: If it cannot be carried over to the rate.
    """
    config, frames = network.config, _frames_at(network, rate)
    top = min(config.sample_rate, rate) / 2  # Hz, of the frequencies that both rates have
    edges = [edge for edge in config.band_edges_hz if edge < top]
    if rate > config.sample_rate:
        edges += [top, *band_edges_hz]
    elif band_edges_hz:
        raise ValueError(f"--band-edges: at {rate} Hz there are no bands above those of the network.")
    resized = create_model(config.model_dump() | frames | {"band_edges_hz": edges}, kind=BSRNN)
    state = network.state_dict()
    shared = len([edge for edge in [*edges, rate / 2] if edge <= top])  # bands that both have
    for key, tensor in resized.state_dict().items():
        part, *rest = key.split(".")
        if part not in {"split", "masks"}:
            tensor.copy_(state[key])
            continue
        band = int(rest[0])
        old = min(band, len(config.band_widths) - 1)
        width, old_width = resized.config.band_widths[band], config.band_widths[old]
        bins = torch.arange(width)  # the old bin that each new one begins as
        bins = bins.clamp(max=old_width - 1) if band < shared else bins * old_width // width
        known = state[".".join([part, str(old), *rest[1:]])]
        if key.startswith("split.") and rest[1] == "0":
            tensor.copy_(known.unflatten(0, (old_width, -1))[bins].flatten(0, 1))
        elif key.startswith("split.") and rest[2] == "weight":
            scale = 1.0 if band < shared else old_width / width  # as many features from more bins
            tensor.copy_(known.unflatten(1, (old_width, -1))[:, bins].flatten(1, 2) * scale)
        elif key.startswith("masks.") and rest[1] == "3":
            rows = known.unflatten(
                0, (2, network.output_sources, old_width, 2)
            )  # GLU, C, W, real and imaginary
            tensor.copy_(rows[:, :, bins].flatten(0, 3))
        else:
            tensor.copy_(known)
    return resized


def keep_sources(network: BSRNN, num_sources: int) -> BSRNN:
    """The same network without the masks of its last sources.

    Raises:
        ValueError: If it has no more than ``num_sources``.
    """
    if not 1 <= num_sources < network.output_sources:
        raise ValueError(
            f"--sources: expected 1 to {network.output_sources - 1}, fewer than the network has, got "
            f"{num_sources}."
        )
    config = network.config.model_dump() | {"num_sources": num_sources, "num_shifts": 1}
    fewer = create_model(config, kind=BSRNN)
    state = network.state_dict()
    for key, tensor in fewer.state_dict().items():
        part, *rest = key.split(".")
        known = state[key]
        if part == "masks" and rest[1] == "3":
            known = known.unflatten(0, (2, network.output_sources, -1))[:, :num_sources].flatten(0, 2)
        tensor.copy_(known)
    return fewer


def add_blocks(network: BSRNN, num_blocks: int) -> BSRNN:
    """The same network with more blocks: copies of the last ones, each behind its original.

    A copy projects to zero, so that its sequence stays as it is; its gradient is not zero: it learns at once.

    Raises:
        ValueError: If the network has as many, or fewer than half as many.
    """
    old = network.config.num_blocks
    if not old < num_blocks <= 2 * old:
        raise ValueError(
            f"--blocks: expected {old + 1} to {2 * old}, more than it has and at most twice as many, "
            f"got {num_blocks}."
        )
    deeper = create_model(network.config.model_dump() | {"num_blocks": num_blocks}, kind=BSRNN)
    single = 2 * old - num_blocks  # the first blocks, which have no copy
    originals = [min(block, single + (block - single) // 2) for block in range(num_blocks)]
    state = network.state_dict()
    for key, tensor in deeper.state_dict().items():
        part, *rest = key.split(".")
        if part not in {"along_time", "along_bands"}:
            tensor.copy_(state[key])
            continue
        block = int(rest[0])
        tensor.copy_(state[".".join([part, str(originals[block]), *rest[1:]])])
        if block and originals[block] == originals[block - 1] and rest[1] == "project":
            tensor.zero_()
    return deeper


def main() -> None:
    """Read the old network, write the new one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="The trained BSRNN, as polsess separate takes it.")
    parser.add_argument("folder", type=Path, help="Folder that receives the new one.")
    parser.add_argument("--rate", type=int, help="Its sample rate in Hz; the old one's if left out.")
    parser.add_argument(
        "--band-edges",
        type=float,
        nargs="+",
        default=[],
        help="Where new bands end, in Hz; one new band if left out.",
    )
    parser.add_argument("--sources", type=int, help="Number of its outputs; the old one's if left out.")
    parser.add_argument("--blocks", type=int, help="Number of its blocks; the old one's if left out.")
    options = parser.parse_args()
    if options.rate is None and options.sources is None and options.blocks is None:
        parser.error("without --rate, --sources and --blocks there is nothing to do.")
    if options.band_edges and options.rate is None:
        parser.error("--band-edges: bands are new at another --rate only.")
    try:
        network = load_model(options.model, kind=BSRNN)
        with torch.no_grad():
            if options.rate is not None:
                network = change_rate(network, options.rate, options.band_edges)
            if options.sources is not None:
                network = keep_sources(network, options.sources)
            if options.blocks is not None:
                network = add_blocks(network, options.blocks)
    except (CheckpointError, ConfigError, ValueError) as error:
        parser.error(str(error))
    save_model(network, options.folder)


if __name__ == "__main__":
    main()
