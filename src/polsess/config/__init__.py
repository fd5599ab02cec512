"""The configuration of an experiment: sections, files, overrides, and files of the original project."""

from polsess.config.experiment import (
    Config,
    explain_config,
    find_config,
    load_config,
    parse_config,
    read_settings,
)
from polsess.config.training import OptimizerConfig, TrainingConfig

__all__ = [
    "Config",
    "OptimizerConfig",
    "TrainingConfig",
    "explain_config",
    "find_config",
    "load_config",
    "parse_config",
    "read_settings",
]
