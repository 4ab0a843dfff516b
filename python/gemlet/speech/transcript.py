"""What is said in a recording, and when."""

from dataclasses import dataclass
from typing import Any

from gemlet.speech.subtitles import Cue, srt, vtt


@dataclass(frozen=True)
class Segment:
    """What is said in a part of a recording, in seconds from its beginning."""

    start: float
    end: float
    text: str


@dataclass(frozen=True)
class Transcript:
    """A transcription or a translation of a recording."""

    text: str
    segments: tuple[Segment, ...]
    """Their times are those between two pauses of the recording, in which nobody speaks: the model tells none."""
    seconds: float
    """The length of the recording."""
    language: str | None
    """The name of the language of the text, if it was given."""

    def to_srt(self) -> str:
        """As subtitles in SubRip's format."""
        return srt(self._cues())

    def to_vtt(self) -> str:
        """As subtitles in WebVTT's format."""
        return vtt(self._cues())

    def to_dict(self) -> dict[str, Any]:
        """As what JSON holds."""
        segments = [
            {"start": round(segment.start, 3), "end": round(segment.end, 3), "text": segment.text}
            for segment in self.segments
        ]
        return {"language": self.language, "seconds": round(self.seconds, 3), "text": self.text, "segments": segments}

    def _cues(self) -> list[Cue]:
        return [Cue(segment.start, segment.end, segment.text) for segment in self.segments]
