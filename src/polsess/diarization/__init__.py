"""Who speaks when, and whose voice it is: two small networks, and what follows from their outputs."""

from polsess.diarization.speaker_timeline import Span, SpeakerTimeline

__all__ = ["Span", "SpeakerTimeline"]
