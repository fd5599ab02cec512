"""Give a BLSTM the frequencies of twice its sample rate, so that its training need not begin from nothing.

Frames twice as long at twice the rate are bins of the same width: what the network knows of the lower half
stays, the upper half is heard with weights of zero and gets the masks of the topmost bins.

    python scripts/widen_blstm.py default widened
    polsess train -c blstm_sb_speech_clips_16k --init widened

Shapes: F bins of the narrow network, C sources.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from polsess.checkpoints import load_model, save_model
from polsess.models import create_model
from polsess.models.blstm import BLSTM

_TOP_BINS = 16
"""The masks of the upper half begin as the mean of this many of the narrow network's topmost bins."""


def widen(narrow: BLSTM) -> BLSTM:
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


def main() -> None:
    """Read the narrow model, write the wide one."""
    if len(sys.argv) != 3:
        raise SystemExit("usage: python scripts/widen_blstm.py MODEL FOLDER")
    model = load_model(sys.argv[1])
    if not isinstance(model, BLSTM):
        raise SystemExit(f"{sys.argv[1]}: expected a blstm, got {model.config.model_type}.")
    with torch.no_grad():
        save_model(widen(model), Path(sys.argv[2]))


if __name__ == "__main__":
    main()
