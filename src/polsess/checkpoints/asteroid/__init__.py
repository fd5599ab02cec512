"""Asteroid: one pickled dictionary with ``model_name``, ``model_args`` and ``state_dict``.

Published as ``pytorch_model.bin`` on the Hugging Face hub and ``model.pth`` on Zenodo. Each architecture is a
module of this package.
"""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__, prefix=f"{__name__}."):
    importlib.import_module(_module.name)
