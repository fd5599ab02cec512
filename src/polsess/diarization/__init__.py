"""Who speaks when: regions from the scores of an activity detector, voices from embeddings, timelines."""

from polsess.diarization.speaker_timeline import Span, SpeakerTimeline

__all__ = ["Span", "SpeakerTimeline"]
