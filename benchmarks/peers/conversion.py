"""Our models with the weights of a peer's network, by the converters of checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from benchmarks.peers.networks import PEERS, SAMPLE_RATE, Part
from polsess.checkpoints.building import build_model
from polsess.checkpoints.toolkits.asteroid.reader import CONVERTERS as ASTEROID
from polsess.checkpoints.toolkits.speechbrain.hyperparams import Instance
from polsess.checkpoints.toolkits.speechbrain.reader import CONVERTERS as SPEECHBRAIN
from polsess.models import SeparationModel, parse_model_config


def convert(name: str, state: Mapping[str, Tensor]) -> SeparationModel:
    """Return our model with a peer's weights.

    Args:
        name: A key of ``PEERS``.
        state: The peer's tensors under its own names.
    """
    peer = PEERS[name]
    if peer.toolkit == "asteroid":
        converted = ASTEROID[peer.converter](_plain(peer.parts["network"].arguments), dict(state))
    else:
        parts = {key: _plain(part.arguments) for key, part in peer.parts.items()}
        converted = SPEECHBRAIN[peer.converter]({**parts, "sample_rate": SAMPLE_RATE}, dict(state))
    return build_model(parse_model_config(converted.model), converted.state, name)


def _plain(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments in the form that the readers of checkpoints find in files."""
    return {
        key: Instance(value.class_path, _plain(value.arguments)) if isinstance(value, Part) else value
        for key, value in arguments.items()
    }
