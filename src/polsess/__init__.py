"""Speech separation and enhancement: train, evaluate, compare and run every model through one interface.

>>> from polsess import Separator
>>> separation = Separator.from_pretrained().separate("mixture.wav")  # doctest: +SKIP
>>> separation.save("separated")  # doctest: +SKIP
"""

from typing import TYPE_CHECKING

from polsess.dependencies import lazy_names

if TYPE_CHECKING:
    from polsess.checkpoints import load_model as load_model
    from polsess.checkpoints import save_model as save_model
    from polsess.config import Config as Config
    from polsess.config import load_config as load_config
    from polsess.inference import Separation as Separation
    from polsess.inference import Separator as Separator
    from polsess.inference import StreamingSeparator as StreamingSeparator
    from polsess.models import SeparationModel as SeparationModel
    from polsess.models import create_model as create_model
    from polsess.models import list_models as list_models
    from polsess.models import list_presets as list_presets
    from polsess.models import register_model as register_model
    from polsess.tasks import Task as Task

__version__ = "0.1.0"

# Imported on first use, so that `import polsess` and `polsess --help` stay fast.
_HOMES = {
    "Config": "polsess.config",
    "SeparationModel": "polsess.models",
    "Separation": "polsess.inference",
    "Separator": "polsess.inference",
    "StreamingSeparator": "polsess.inference",
    "Task": "polsess.tasks",
    "create_model": "polsess.models",
    "list_models": "polsess.models",
    "list_presets": "polsess.models",
    "load_config": "polsess.config",
    "load_model": "polsess.checkpoints",
    "register_model": "polsess.models",
    "save_model": "polsess.checkpoints",
}

__all__ = ["__version__", *sorted(_HOMES)]
__getattr__, __dir__ = lazy_names(__name__, _HOMES)
