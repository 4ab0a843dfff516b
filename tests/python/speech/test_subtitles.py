"""Subtitles: times, escapes and lines."""

from __future__ import annotations

import html
import itertools
import json
import re

import pytest
from gemlet.speech import Segment, Transcript
from gemlet.speech.subtitles import LINE, width, wrapped

LONG = " ".join(f"word{i}" for i in range(60))


def transcript(*segments: tuple[float, float, str]) -> Transcript:
    return Transcript(
        " ".join(text for *_, text in segments), tuple(Segment(*each) for each in segments), 100.0, "English"
    )


def milliseconds(time: str) -> int:
    hours, minutes, seconds = time.replace(",", ".").split(":")
    return round(((int(hours) * 60 + int(minutes)) * 60 + float(seconds)) * 1000)


def read(subtitles: str) -> list[tuple[int, int, list[str]]]:
    """What a player reads: begin and end in milliseconds, and the lines."""
    out = []
    for block in re.split(r"\n{2,}", subtitles.removeprefix("WEBVTT\n").strip()):
        lines = block.split("\n")
        at = next(i for i, line in enumerate(lines) if "-->" in line)
        begin, end = lines[at].split(" --> ")
        out.append((milliseconds(begin), milliseconds(end), lines[at + 1 :]))
    return out


def test_srt_to_the_letter() -> None:
    assert transcript((0, 1.5, "Hello."), (3661.0015, 3662.9996, "Bye <b> & --> so.")).to_srt() == (
        "1\n00:00:00,000 --> 00:00:01,500\nHello.\n\n2\n01:01:01,002 --> 01:01:03,000\nBye <b> & -> so.\n"
    )


def test_vtt_to_the_letter() -> None:
    assert transcript((0, 1.5, "Hello."), (3661, 3663, "Bye <b> & --> so.")).to_vtt() == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nHello.\n\n"
        "01:01:01.000 --> 01:01:03.000\nBye &lt;b&gt; &amp; --&gt; so.\n"
    )


def test_nothing_said() -> None:
    assert transcript().to_srt() == "" and transcript().to_vtt() == "WEBVTT\n"
    assert transcript((0, 1, " \n ")).to_srt() == ""


@pytest.mark.parametrize("form", ["to_srt", "to_vtt"])
def test_long_segments_are_several_subtitles(form: str) -> None:
    cues = read(getattr(transcript((10, 40, LONG), (40, 41, "End")), form)())
    assert len(cues) > 3
    assert " ".join(line for *_, lines in cues for line in lines) == f"{LONG} End"
    assert all(1 <= len(lines) <= 2 and all(len(line) <= LINE for line in lines) for *_, lines in cues)
    assert cues[0][0] == 10000 and cues[-2][1] == 40000 == cues[-1][0]
    assert all(a[1] == b[0] for a, b in itertools.pairwise(cues))
    shares = [(end - begin) / sum(map(len, lines)) for begin, end, lines in cues[:-1]]
    assert max(shares) < 1.05 * min(shares)  # each is shown for its share of the time


@pytest.mark.parametrize("form", ["to_srt", "to_vtt"])
def test_times_only_grow(form: str) -> None:
    segments = [(0.0, 0.0, LONG), (0.0, 2.0, "a"), (1.0, 1.0004, "b"), (0.5, 0.1, "c"), (1.0, 1.0, "d")]
    times = [time for begin, end, _ in read(getattr(transcript(*segments), form)()) for time in (begin, end)]
    assert times == sorted(times) and all(a < b for a, b in zip(times[::2], times[1::2], strict=True))


def test_no_text_ends_a_subtitle_or_begins_one() -> None:
    text = "a\n\n2\n00:00:00,000 --> 00:00:01,000\nb\r\n\x1b[31mred\u2028line\0\ud800"
    for form in ("to_srt", "to_vtt"):
        [(begin, end, lines)] = read(getattr(transcript((0, 1, text)), form)())
        assert (begin, end) == (0, 1000)
        said = html.unescape(" ".join(lines)).replace("-->", "->")
        assert said == "a 2 00:00:00,000 -> 00:00:01,000 b [31mred line"


def test_lines_of_wide_characters_and_of_long_words() -> None:
    lines = wrapped("漢字" * 50 + " " + "x" * 100)
    assert "".join(lines) == "漢字" * 50 + "x" * 100
    assert all(width(line) <= LINE for line in lines) and width(lines[0]) == 42 and len(lines[0]) == 21
    assert wrapped("e\u0301" * 42) == ["e\u0301" * 42] and wrapped("") == []
    assert wrapped("a" * 43) == ["a" * 42, "a"]
    assert wrapped("a" * 20 + " " + "b" * 21) == ["a" * 20 + " " + "b" * 21]


def test_json() -> None:
    said = json.loads(json.dumps(transcript((0.12345, 1, 'Say "hi"')).to_dict()))
    assert said == {
        "language": "English",
        "seconds": 100.0,
        "text": 'Say "hi"',
        "segments": [{"start": 0.123, "end": 1, "text": 'Say "hi"'}],
    }
