"""Carry the weights of a trained network over to another sample rate or size; training goes on from there.

    python scripts/resize_network.py default resized --rate 16000 --band-edges 5500
    python scripts/resize_network.py enhance-one resized --rate 16000 --units 256
    polsess train -c bsrnn_sb_speech_clips_16k --init resized

Frames twice as long at twice the rate have bins of the same width: what the network knows of the frequencies
that both rates have stays.

- BLSTM, to twice its rate: the upper half is heard with weights of zero, its masks are those of the topmost
  bins.
- BLSTM, more units: they begin with random weights of their own, and nothing hears them yet.
- BSRNN, to any rate: bands that both rates have are copied; those above begin as copies of the topmost one,
  stretched.

Shapes: F bins, H units of the old network, C sources, M bands, W bins of a band.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from polsess.checkpoints import CheckpointError, load_model, save_model
from polsess.models import SeparationModel, create_model
from polsess.models.blstm import BLSTM
from polsess.models.bsrnn import BSRNN
from polsess.schema import ConfigError

_TOP_BINS = 16
"""The masks of a BLSTM's upper half begin as the mean of this many of the old network's topmost bins."""
_GATES = 4


def change_rate(network: SeparationModel, rate: int, band_edges_hz: Sequence[float] = ()) -> SeparationModel:
    """The same network at another sample rate; frequencies that are new have yet to be trained.

    Args:
        network: A BLSTM or a BSRNN.
        rate: Hz; twice as high for a BLSTM.
        band_edges_hz: Of a BSRNN, where the bands above its old topmost frequency end.

    Raises:
        ValueError: If the network cannot be carried over to the rate.
    """
    own = network.config.sample_rate
    if isinstance(network, BSRNN):
        return _change_rate_of_bands(network, rate, band_edges_hz)
    if band_edges_hz:
        raise ValueError("--band-edges: only a bsrnn has bands.")
    if not isinstance(network, BLSTM):
        raise ValueError(f"expected a blstm or a bsrnn, got {network.config.model_type}.")
    if rate != 2 * own:
        raise ValueError(f"--rate: expected {2 * own} Hz, twice that of the network, got {rate}.")
    return _double_rate(network)


def _frames_at(network: BLSTM | BSRNN, rate: int) -> dict[str, int]:
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


def _double_rate(narrow: BLSTM) -> BLSTM:
    frames = _frames_at(narrow, 2 * narrow.config.sample_rate)
    wide = create_model(narrow.config.model_dump() | frames, kind=BLSTM)
    bins = narrow.config.n_fft // 2 + 1  # F
    state = narrow.state_dict()
    for key, tensor in wide.state_dict().items():
        known = state[key]
        if key.startswith("norm."):
            tensor[:bins], tensor[bins:] = known, known[-1]
        elif key.startswith("rnn.weight_ih_l0"):
            tensor.zero_()[:, :bins] = known
        elif key.startswith("to_masks."):
            rows = tensor.unflatten(0, (wide.output_sources, -1))  # [C, 2F - 1, ...], a view
            masks = known.unflatten(0, (wide.output_sources, -1))
            rows[:, :bins], rows[:, bins:] = masks, masks[:, -_TOP_BINS:].mean(1, keepdim=True)
        else:
            tensor.copy_(known)
    return wide


def _change_rate_of_bands(network: BSRNN, rate: int, band_edges_hz: Sequence[float]) -> BSRNN:
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


def add_units(narrow: BLSTM, hidden_size: int) -> BLSTM:
    """A network of more units in each direction that estimates the same.

    Raises:
        ValueError: If it has as many already.
    """
    units = narrow.config.hidden_size  # H
    if hidden_size <= units:
        raise ValueError(f"--units: expected more than the {units} that the network has, got {hidden_size}.")
    wider = narrow.config.model_dump() | {"hidden_size": hidden_size, "num_shifts": 1}
    wide = create_model(wider, kind=BLSTM)
    state = narrow.state_dict()
    for key, tensor in wide.state_dict().items():
        known = state[key]
        if key.startswith("rnn."):
            gates, old = (each.unflatten(0, (_GATES, -1))[:, :units] for each in (tensor, known))  # views
            if "weight_hh" in key:
                gates.zero_()[..., :units] = old
            elif "weight_ih" in key and not key.removesuffix("_reverse").endswith("_l0"):
                _hear_known(gates, old, hidden_size, units)
            else:
                gates.copy_(old)
        elif key == "to_masks.weight":
            _hear_known(tensor, known, hidden_size, units)
        else:
            tensor.copy_(known)
    return wide


def _hear_known(weight: Tensor, known: Tensor, hidden_size: int, units: int) -> None:
    """Weights ``[..., 2 * hidden_size]`` of both directions, which hear the old units alone."""
    weight.zero_().unflatten(-1, (2, hidden_size))[..., :units] = known.unflatten(-1, (2, units))


def main() -> None:
    """Read the old network, write the new one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="The trained BLSTM or BSRNN, as polsess separate takes it.")
    parser.add_argument("folder", type=Path, help="Folder that receives the new one.")
    parser.add_argument("--rate", type=int, help="Its sample rate in Hz; the old one's if left out.")
    parser.add_argument(
        "--band-edges",
        type=float,
        nargs="+",
        default=[],
        help="Where new bands of a BSRNN end, in Hz; one new band if left out.",
    )
    parser.add_argument(
        "--units", type=int, help="Units of a BLSTM in each direction; the old ones if left out."
    )
    options = parser.parse_args()
    if options.rate is None and options.units is None:
        parser.error("without --rate and --units there is nothing to do.")
    try:
        network = load_model(options.model)
        with torch.no_grad():
            if options.rate is not None:
                network = change_rate(network, options.rate, options.band_edges)
            if options.units is not None:
                if not isinstance(network, BLSTM):
                    raise ValueError(f"--units: expected a blstm, got {network.config.model_type}.")
                network = add_units(network, options.units)
    except (CheckpointError, ConfigError, ValueError) as error:
        parser.error(str(error))
    save_model(network, options.folder)


if __name__ == "__main__":
    main()
