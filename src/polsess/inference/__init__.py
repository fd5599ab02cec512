"""Running models on recordings: any rate, any length, any number of channels."""

from typing import TYPE_CHECKING

from polsess.dependencies import lazy_names

if TYPE_CHECKING:
    from polsess.devices import pick_device as pick_device
    from polsess.diarization.settings import GateConfig as GateConfig
    from polsess.diarization.settings import NumSpeakers as NumSpeakers
    from polsess.inference.enrolment import EnrolmentError as EnrolmentError
    from polsess.inference.extraction import Extractor as Extractor
    from polsess.inference.long_form import Gate as Gate
    from polsess.inference.network import SeparationError as SeparationError
    from polsess.inference.outputs import SeparatedFile as SeparatedFile
    from polsess.inference.outputs import Separation as Separation
    from polsess.inference.outputs import output_paths as output_paths
    from polsess.inference.outputs import source_names as source_names
    from polsess.inference.separator import Separator as Separator
    from polsess.inference.streaming import StreamingSeparator as StreamingSeparator

# Imported on first use, so that the parts that need no torch can be used without it.
_HOMES = {
    "EnrolmentError": "polsess.inference.enrolment",
    "Extractor": "polsess.inference.extraction",
    "Gate": "polsess.inference.long_form",
    "GateConfig": "polsess.diarization.settings",
    "NumSpeakers": "polsess.diarization.settings",
    "SeparatedFile": "polsess.inference.outputs",
    "Separation": "polsess.inference.outputs",
    "SeparationError": "polsess.inference.network",
    "Separator": "polsess.inference.separator",
    "StreamingSeparator": "polsess.inference.streaming",
    "output_paths": "polsess.inference.outputs",
    "pick_device": "polsess.devices",
    "source_names": "polsess.inference.outputs",
}

__all__ = sorted(_HOMES)
__getattr__, __dir__ = lazy_names(__name__, _HOMES)
