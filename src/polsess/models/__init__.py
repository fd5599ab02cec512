"""Architectures, one file each. Importing this package registers every one of them."""

import importlib
import pkgutil

from polsess.models.base import ModelConfig, SeparationModel
from polsess.models.network import Network, NetworkConfig
from polsess.models.registry import (
    MODEL_REGISTRY,
    create_model,
    get_model_class,
    list_models,
    list_presets,
    parse_model_config,
    register_model,
)
from polsess.models.speaker_networks import ActivityDetector, SpeakerEmbedder

for _module in pkgutil.iter_modules(__path__, prefix=f"{__name__}."):
    if not _module.ispkg:
        importlib.import_module(_module.name)

__all__ = [
    "MODEL_REGISTRY",
    "ActivityDetector",
    "ModelConfig",
    "Network",
    "NetworkConfig",
    "SeparationModel",
    "SpeakerEmbedder",
    "create_model",
    "get_model_class",
    "list_models",
    "list_presets",
    "parse_model_config",
    "register_model",
]
