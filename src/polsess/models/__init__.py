"""Architectures, one file each: separators here, networks of who speaks when in ``speakers``.

Importing this package registers every one of them.
"""

import importlib
import pkgutil

from polsess.models import speakers
from polsess.models.base import ModelConfig, SeparationModel, SpeakerCounts
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
from polsess.models.speakers.base import ActivityDetector, SpeakerEmbedder

for _package in (__name__, speakers.__name__):
    for _module in pkgutil.iter_modules(importlib.import_module(_package).__path__, prefix=f"{_package}."):
        if not _module.ispkg:
            importlib.import_module(_module.name)

__all__ = [
    "MODEL_REGISTRY",
    "ActivityDetector",
    "ModelConfig",
    "Network",
    "NetworkConfig",
    "SeparationModel",
    "SpeakerCounts",
    "SpeakerEmbedder",
    "create_model",
    "get_model_class",
    "list_models",
    "list_presets",
    "parse_model_config",
    "register_model",
]
