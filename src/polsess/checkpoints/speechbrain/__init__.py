"""SpeechBrain: ``hyperparams.yaml`` and one state dictionary each for encoder, masknet and decoder.

Each architecture is a module of this package.
"""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__, prefix=f"{__name__}."):
    importlib.import_module(_module.name)
