"""Carry the weights of a trained activity detector over to a wider one, to go on with it.

    python scripts/widen_detector.py RUN wider --num-channels 48 --frame-size 128 --hidden-size 112
    polsess train -c crnn_osd_conversations_heard --init wider

New channels and units begin with random weights of what they hear and with zeros where they are heard: the
wider network says what the old one does until it is trained.

Shapes: N channels, F mel bands, H units.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from polsess.checkpoints import CheckpointError, load_model, save_model
from polsess.models import create_model
from polsess.models.speakers.crnn import CRNN, CRNNConfig
from polsess.schema import ConfigError

_GATES = 3
"""Of a GRU, whose weights lie below each other."""


def widen(network: CRNN, *, num_channels: int, frame_size: int, hidden_size: int) -> CRNN:
    """A wider network that says the same.

    Args:
        network: The trained one.
        num_channels: N of the wider one.
        frame_size: Its features of a frame.
        hidden_size: Its H.

    Raises:
        ValueError: If one of them is smaller than in the network.
    """
    sizes = {"num_channels": num_channels, "frame_size": frame_size, "hidden_size": hidden_size}
    for key, size in sizes.items():
        if size < getattr(network.config, key):
            raise ValueError(f"{key}: expected {getattr(network.config, key)} or more, got {size}.")
    wider = create_model(network.config.model_dump() | sizes, kind=CRNN)
    known = network.state_dict()
    for key, tensor in wider.state_dict().items():
        if tensor.shape == known[key].shape:
            tensor.copy_(known[key])
            continue
        rows, columns = _kept(key, known[key], network.config, wider.config)
        if columns is None:
            tensor[rows] = known[key]
        else:
            tensor[rows] = 0.0  # what is kept does not hear what is new
            tensor[rows[:, None], columns] = known[key]
    return wider


def _kept(key: str, old: Tensor, before: CRNNConfig, after: CRNNConfig) -> tuple[Tensor, Tensor | None]:
    """The rows of a wider tensor that hold an old one's, and the columns; None where it has no others."""
    first = torch.arange
    both_ways = torch.cat([first(before.hidden_size) + way * after.hidden_size for way in range(2)])
    part, *rest = key.split(".")
    if part == "to_frames":
        bands = -(-before.num_mels // 8)
        columns = (first(bands)[:, None] * after.num_channels + first(before.num_channels)).flatten()
        return first(before.frame_size), columns if old.ndim > 1 else None
    if part == "recurrent":
        rows = torch.cat([first(before.hidden_size) + gate * after.hidden_size for gate in range(_GATES)])
        if rest[0].startswith("bias"):
            return rows, None
        if rest[0].startswith("weight_ih") and "_l0" not in rest[0]:
            return rows, both_ways
        return rows, first(old.shape[1])
    if part == "to_classes":
        return first(old.shape[0]), both_ways
    return first(old.shape[0]), first(old.shape[1]) if old.ndim > 1 else None  # convolutions and their norms


def main() -> None:
    """Read the old network, write the new one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="The trained CRNN: activity-detector, a folder or a run.")
    parser.add_argument("folder", type=Path, help="Folder that receives the new one.")
    parser.add_argument("--num-channels", type=int, help="N of its convolutions; the old one's if left out.")
    parser.add_argument("--frame-size", type=int, help="Features of a frame; the old one's if left out.")
    parser.add_argument("--hidden-size", type=int, help="Units of each direction; the old one's if left out.")
    parser.add_argument("--seed", type=int, default=0, help="Of the new weights.")
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    try:
        network = load_model(options.model, kind=CRNN)
        with torch.no_grad():
            wider = widen(
                network,
                num_channels=options.num_channels or network.config.num_channels,
                frame_size=options.frame_size or network.config.frame_size,
                hidden_size=options.hidden_size or network.config.hidden_size,
            )
    except (CheckpointError, ConfigError, ValueError) as error:
        parser.error(str(error))
    save_model(wider, options.folder)


if __name__ == "__main__":
    main()
