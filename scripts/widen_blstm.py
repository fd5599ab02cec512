"""Widen a trained BLSTM, so that the training of the wider one need not begin from nothing.

    python scripts/widen_blstm.py default widened                    # frequencies of twice its rate
    python scripts/widen_blstm.py enhance-one widened --units 256    # and more units
    python scripts/widen_blstm.py default widened --units 320 --same-rate
    polsess train -c blstm_sb_speech_clips_16k --init widened

Frames twice as long at twice the rate are bins of the same width: what the network knows of the lower half
stays, the upper half is heard with weights of zero and gets the masks of the topmost bins. New units begin
with random weights of their own, and nothing hears them yet: the estimates stay what they were.

Shapes: F bins and H units of the narrow network, C sources.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from polsess.checkpoints import CheckpointError, load_model, save_model
from polsess.models import create_model
from polsess.models.blstm import BLSTM
from polsess.schema import ConfigError

_TOP_BINS = 16
"""The masks of the upper half begin as the mean of this many of the narrow network's topmost bins."""
_GATES = 4


def double_rate(narrow: BLSTM) -> BLSTM:
    """The same network at twice the sample rate; its upper half has yet to be trained."""
    config = narrow.config
    wider = config.model_dump() | {
        "sample_rate": 2 * config.sample_rate,
        "n_fft": 2 * config.n_fft,
        "hop_length": 2 * config.hop_length,
        "num_shifts": 1,
    }
    wide = create_model(wider, kind=BLSTM)
    bins = config.n_fft // 2 + 1  # F
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
    """Read the narrow model, write the wide one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="The trained BLSTM, as polsess separate takes it.")
    parser.add_argument("folder", type=Path, help="Folder that receives the wider one.")
    parser.add_argument("--units", type=int, help="Units of each direction; as many as before if left out.")
    parser.add_argument("--same-rate", action="store_true", help="Keep the sample rate.")
    options = parser.parse_args()
    try:
        model = load_model(options.model)
    except (CheckpointError, ConfigError) as error:
        parser.error(str(error))
    if not isinstance(model, BLSTM):
        parser.error(f"{options.model}: expected a blstm, got {model.config.model_type}.")
    if options.same_rate and options.units is None:
        parser.error("--same-rate without --units leaves nothing to do.")
    with torch.no_grad():
        wide = model if options.same_rate else double_rate(model)
        try:
            wide = wide if options.units is None else add_units(wide, options.units)
        except ValueError as error:
            parser.error(str(error))
        save_model(wide, options.folder)


if __name__ == "__main__":
    main()
