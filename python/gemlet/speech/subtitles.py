"""Writes subtitles: SubRip (SRT) and WebVTT."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

LINE = 42
"""Columns of a line, as broadcasters have them; a Chinese character takes two."""
LINES = 2
"""Of one subtitle."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


@dataclass(frozen=True)
class Cue:
    """A text, and when it is shown, in seconds."""

    start: float
    end: float
    text: str


def srt(cues: Sequence[Cue]) -> str:
    """A file in SubRip's format. An arrow of its in a text becomes a shorter one, since nothing escapes it."""
    blocks = []
    for number, (start, end, lines) in enumerate(_laid_out(cues), 1):
        text = "\n".join(lines).replace("-->", "->")
        blocks.append(f"{number}\n{_time(start, ',')} --> {_time(end, ',')}\n{text}\n")
    return "\n".join(blocks)


def vtt(cues: Sequence[Cue]) -> str:
    """A file in WebVTT's format."""
    blocks = ["WEBVTT\n"]
    for start, end, lines in _laid_out(cues):
        text = "\n".join(lines).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        blocks.append(f"{_time(start, '.')} --> {_time(end, '.')}\n{text}\n")
    return "\n".join(blocks)


def _laid_out(cues: Sequence[Cue]) -> list[tuple[int, int, list[str]]]:
    """Begin and end in milliseconds, and at most two lines: what is longer becomes several subtitles, each shown for
    its share of the time."""
    out = []
    shown = 0
    for cue in cues:
        lines = wrapped(cue.text)
        pages = [lines[i : i + LINES] for i in range(0, len(lines), LINES)]
        columns = sum(map(width, lines))
        start = max(round(cue.start * 1000), shown)
        length = max(round(cue.end * 1000) - start, len(pages))
        done = 0
        for page in pages:
            begin = max(start + length * done // columns, shown)
            done += sum(map(width, page))
            shown = max(start + length * done // columns, begin + 1)
            out.append((begin, shown, page))
    return out


def wrapped(text: str) -> list[str]:
    """Lines of at most 42 columns, cut at spaces; a longer word is cut where it must be."""
    lines: list[str] = []
    line = ""
    for word in _CONTROL.sub(" ", text).split():
        if line and width(line) + 1 + width(word) <= LINE:
            line += f" {word}"
            continue
        lines += [line] if line else []
        *whole, line = _pieces(word)
        lines += whole
    return [*lines, line] if line else lines


def width(text: str) -> int:
    """The columns that a text takes."""
    return sum(map(_columns, text))


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _pieces(word: str) -> list[str]:
    pieces = [""]
    taken = 0
    for character in word:
        columns = _columns(character)
        if taken + columns > LINE:
            pieces.append("")
            taken = 0
        pieces[-1] += character
        taken += columns
    return pieces


def _time(milliseconds: int, point: str) -> str:
    seconds, thousandths = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{point}{thousandths:03}"
