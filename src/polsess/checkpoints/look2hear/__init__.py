"""Look2Hear: SPMamba's ``best_model.pth`` or Lightning checkpoint, with ``conf.yml`` where it was kept."""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__, prefix=f"{__name__}."):
    importlib.import_module(_module.name)
