"""ESPnet: ``config.yaml`` and ``valid.*.pth`` of an experiment.

Each architecture is a module of this package.
"""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__, prefix=f"{__name__}."):
    importlib.import_module(_module.name)
