"""Transcribes and translates recordings of any length."""

from collections.abc import Callable
from typing import Any

from gemlet.chat.conversation import ChatModel
from gemlet.media.audio import open_recording
from gemlet.media.clips import Clip, Cutter, clips_of
from gemlet.media.sound import RATE
from gemlet.speech.scribe import Scribe
from gemlet.speech.tasks import Task
from gemlet.speech.transcript import Transcript

Progress = Callable[[float, float], object]
"""Gets the seconds of a recording that are done, and all of it: what its file claims, which may be too few."""


def write_down(
    model: ChatModel,
    audio: Any,
    task: Task,
    *,
    timestamps: bool = False,
    on_text: Callable[[str], object] | None = None,
    progress: Progress | None = None,
) -> Transcript:
    """Do a task with a recording. See ``Model.transcribe``."""
    model._media.require_ears()
    scribe = Scribe(model, task, on_text)
    cutter = Cutter(longest=10, shortest=3, overlap=2) if timestamps else Cutter()
    end = 0.0
    with open_recording(audio) as recording:
        for clip in clips_of(recording.blocks, cutter):
            end = clip.end / RATE
            if progress is None:
                scribe.write(clip)
                continue
            total = max(recording.seconds, end)
            scribe.write(clip, _encoding(clip, total, progress))
            progress(end, total)
    scribe.finish()
    return Transcript(scribe.text, tuple(scribe.segments), end, task.language)


def _encoding(clip: Clip, total: float, progress: Progress) -> Callable[[float], object]:
    """Encoding a clip is half of the work for it."""
    begin = (clip.begin + clip.overlap) / RATE
    half = (clip.end / RATE - begin) / 2
    return lambda share: progress(begin + share * half, total)
