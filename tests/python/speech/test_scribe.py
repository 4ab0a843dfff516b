"""The texts of clips become one, which is handed on without taking anything back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from gemlet.media.clips import Clip
from gemlet.media.sound import RATE
from gemlet.speech.scribe import Scribe
from gemlet.speech.tasks import transcription
from gemlet.speech.transcript import Segment

from media_inputs import sound


class Scripted(Scribe):
    """Hears what the test says."""

    def __init__(self, texts: list[str], on_text: Callable[[str], object]) -> None:
        nothing: Any = None
        super().__init__(nothing, transcription(None, {}), on_text)
        self._texts = texts

    def _ask(self, clip: Clip, on_media: object, on_text: Callable[[str], object] | None) -> str:
        text = self._texts.pop(0)
        for letter in text if on_text is not None else "":
            on_text(letter)  # type: ignore[misc]
        return text.strip()


def clip(begin: float, end: float, overlap: float = 0, goes_on: bool = False, silent: bool = False) -> Clip:
    samples = sound(round((end - begin) * RATE)) * (not silent)
    return Clip(round(begin * RATE), samples.astype(np.float32), round(overlap * RATE), goes_on)


def write(texts: list[str], clips: list[Clip]) -> tuple[Scripted, list[str]]:
    pieces: list[str] = []
    scribe = Scripted(texts, pieces.append)
    for each in clips:
        scribe.write(each)
        assert scribe.text == "".join(pieces)
    scribe.finish()
    assert scribe.text == "".join(pieces) and not scribe._texts
    return scribe, pieces


def test_clips_that_end_in_pauses_are_handed_on_letter_by_letter() -> None:
    scribe, pieces = write([" One two.\n", "", " \n", "Three."], [clip(0, 5), clip(5, 6), clip(6, 9), clip(9, 12)])
    assert scribe.text == "One two. Three." and len(pieces) > 10
    assert [segment.text for segment in scribe.segments] == ["One two.", "Three."]
    assert [(segment.start, segment.end) for segment in scribe.segments] == [(0, 5), (9, 12)]


def test_white_space_inside_of_a_text_stays() -> None:
    assert write(["One\n\n  two \n"], [clip(0, 5)])[0].text == "One\n\n  two"


def test_overlapping_clips_say_their_words_once() -> None:
    clips = [clip(0, 10, 0, True), clip(6, 16, 4, True), clip(12, 20, 4), clip(20, 22)]
    texts = ["one two three four five", "three four five six seven eight", "six seven eight. Nine.", "Ten."]
    scribe, _ = write(texts, clips)
    assert scribe.text == "one two three four five six seven eight. Nine. Ten."
    assert scribe.segments == [
        Segment(0, 10, "one two three four five"),
        Segment(10, 16, "six seven eight."),
        Segment(16, 20, "Nine."),
        Segment(20, 22, "Ten."),
    ]


def test_an_overlap_that_holds_nothing_new() -> None:
    scribe, _ = write(["one two three", "two three"], [clip(0, 10, 0, True), clip(6, 10, 4)])
    assert scribe.text == "one two three" and [segment.text for segment in scribe.segments] == ["one two three"]


def test_silent_clips_ask_nothing() -> None:
    clips = [clip(0, 1, silent=True), clip(1, 11, 0, True), clip(7, 12, 4, silent=True), clip(12, 14)]
    scribe, _ = write(["one two", "one two"], clips)
    assert scribe.text == "one two one two"


def test_what_was_being_said_when_on_text_raised_is_not_said_again() -> None:
    pieces: list[str] = []

    def say(piece: str) -> None:
        pieces.append(piece)
        if len(pieces) == 1:
            raise RuntimeError("no")

    scribe = Scripted(["one two three", "three four", "five"], say)
    scribe.write(clip(0, 10, 0, True))
    with pytest.raises(RuntimeError):
        scribe.write(clip(6, 10, 4))
    scribe.finish()
    assert scribe.text == "".join(pieces) == "one two three four"
    with pytest.raises(RuntimeError):
        pieces.clear()
        scribe.write(clip(10, 20, 0, True))
        scribe.finish()
    scribe.finish()
    assert pieces == [" five"]
    assert [segment.text for segment in scribe.segments] == ["one two three", "four", "five"]


@pytest.mark.parametrize("language", ["Japanese", "English"])
def test_what_stands_between_clips(language: str) -> None:
    texts = {"Japanese": ["買い。", "そして"], "English": ["Bought.", "And"]}[language]
    expected = {"Japanese": "買い。そして", "English": "Bought. And"}[language]
    assert write(texts, [clip(0, 5), clip(5, 9)])[0].text == expected
