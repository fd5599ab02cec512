"""Mamba-TasNet and DPMamba as their authors share them: SpeechBrain's three files without readable YAML."""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__, prefix=f"{__name__}."):
    importlib.import_module(_module.name)
