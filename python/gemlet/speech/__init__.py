"""Recordings of speech: transcribed, translated, and listened to while they are made."""

from gemlet.speech.transcript import Segment, Transcript

__all__ = ["Segment", "Transcript"]
