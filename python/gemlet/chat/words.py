"""Whether a prompt holds what was said: a template must not lose it."""

import json
import re
from collections.abc import Sequence

_SWITCH = re.compile(r"(?<!\S)/\w+(?!\S)")  # such as /no_think, which templates take as an instruction to themselves


def first_missing(prompt: str, contents: Sequence[str]) -> int | None:
    """The index of the first content that the prompt lacks, or that stands in it only before an earlier one.

    White space may differ, since templates trim and indent; a content may be a string of JSON; and switches such as
    ``/no_think`` may be missing.
    """
    written = _words(prompt)
    start = 0
    for i, content in enumerate(contents):
        forms = (content, json.dumps(content, ensure_ascii=False)[1:-1])
        ends = [_end_of(_words(form), written, start) for form in forms]
        if (end := next((end for end in ends if end is not None), None)) is None:
            return i
        start = end
    return None


def _words(text: str) -> str:
    return " ".join(_SWITCH.sub("", text).split())


def _end_of(words: str, written: str, start: int) -> int | None:
    found = written.find(words, start)
    return None if found < 0 else found + len(words)
