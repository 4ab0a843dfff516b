"""Has a model write down clips of a recording, one after the other."""

import math
from collections.abc import Callable
from dataclasses import replace

from gemlet.chat.conversation import Chat, ChatModel
from gemlet.media.audio import Audio
from gemlet.media.clips import Clip, audible
from gemlet.media.sound import RATE
from gemlet.options import GenerateOptions
from gemlet.speech.joining import join, separator
from gemlet.speech.tasks import Task
from gemlet.speech.transcript import Segment

_TOKENS = 15
"""Tokens of a second at most: thrice what fast speakers need. A model that repeats itself ends there."""
_LEAST_TOKENS = 32


class Scribe:
    """The text so far. Each clip is a conversation of its own, so that no mistake is carried on."""

    def __init__(self, model: ChatModel, task: Task, on_text: Callable[[str], object] | None) -> None:
        """``on_text`` gets the text in pieces, none of which is taken back: as they are generated, but for clips that
        overlap others."""
        self._model = model
        self._task = task
        self._on_text = on_text
        self._pending: Segment | None = None  # overlaps the clip that follows, and is not in the text yet
        self.text = ""
        self.segments: list[Segment] = []

    def write(self, clip: Clip, on_media: Callable[[float], object] | None = None) -> None:
        """Write down the next clip, unless it is silent. ``on_media`` gets the share of it that is encoded."""
        span = audible(clip.samples)
        if span is None:
            self.finish()
            return
        begin, end = ((clip.begin + place) / RATE for place in span)
        overlapped = self._pending if clip.overlap else None
        if overlapped is None:
            self.finish()
        if overlapped is None and not clip.goes_on:
            said = _Said(self._add)
            text = self._ask(clip, on_media, said.add)
            self._append(Segment(begin, end, text))
            return
        text = self._ask(clip, on_media, None)
        if overlapped is not None:
            before, text = join(overlapped.text, text)
            begin = max(begin, overlapped.end)
        self._pending = Segment(begin, max(begin, end), text)
        if overlapped is not None:
            self._say(replace(overlapped, text=before))
        if not clip.goes_on:
            self.finish()

    def finish(self) -> None:
        """Nothing follows that could overlap what there is."""
        pending, self._pending = self._pending, None  # first: what ``on_text`` raises ends this
        if pending is not None:
            self._say(pending)

    def _say(self, segment: Segment) -> None:
        self._append(segment)
        _Said(self._add).add(segment.text)

    def _ask(
        self, clip: Clip, on_media: Callable[[float], object] | None, on_text: Callable[[str], object] | None
    ) -> str:
        budget = _LEAST_TOKENS + math.ceil(_TOKENS * len(clip.samples) / RATE)
        options: GenerateOptions = {"temperature": 0.0, "max_tokens": budget, **self._task.options}
        chat = Chat(self._model, **options)
        said = chat.send([self._task.prompt, Audio(clip.samples, RATE)], on_text=on_text, on_media=on_media)
        return said.text.strip()

    def _append(self, segment: Segment) -> None:
        if segment.text:
            self.segments.append(segment)

    def _add(self, piece: str, is_first: bool) -> None:
        piece = (separator(self.text, piece) if is_first else "") + piece
        self.text += piece
        if self._on_text is not None:
            self._on_text(piece)


class _Said:
    """Pieces of a text, handed on without the white space around it."""

    def __init__(self, add: Callable[[str, bool], None]) -> None:
        self._add = add
        self._held = ""
        self._is_first = True

    def add(self, piece: str) -> None:
        piece = self._held + piece
        if self._is_first:
            piece = piece.lstrip()
        kept = piece.rstrip()
        self._held = piece[len(kept) :]
        if kept:
            self._add(kept, self._is_first)
            self._is_first = False
