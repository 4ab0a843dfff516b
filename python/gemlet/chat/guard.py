"""Keeps what people type from becoming control tokens in a prompt that a template renders.

A template mixes trusted markup and untrusted contents in one text. So before rendering, everything in the contents that
looks like a control token is replaced by a placeholder between two of Unicode's noncharacters (which are kept for a
program's internal use); placeholders in the contents themselves are replaced likewise, so that none can be forged.
After rendering, the text between placeholders is tokenised with control tokens and each placeholder as plain text. A
content that ends in the beginning of a control token has that replaced too, so that nothing which the template puts
behind it, another content say, completes the token. All other contents pass through the template as they are: it may
trim or inspect them, and the tokens are those that the model was trained on. A template that cuts pieces out of
contents or builds markup around them, as in ``<{{ name }}>``, vouches for what it joins.

The same placeholders carry the tokens of earlier replies, as they were sampled: tokenising a reply's text again may
give other tokens than the model chose, and then nothing that was computed for them could be used again.
"""

import itertools
import re
from collections.abc import Iterable, Iterator
from typing import Any

from gemlet import _core
from gemlet.text import to_bytes, to_text

_OPEN, _CLOSE = "\ufdd0", "\ufdd1"
_PLACEHOLDER = re.compile(f"{_OPEN}([0-9]+){_CLOSE}")
_SPACE = "\u2581"  # the tokenizer takes it and a space for the same


class ControlText:
    """Finds the text of control tokens, whole ones anywhere and begun ones at the end."""

    def __init__(self, pieces: Iterable[str]) -> None:
        """The pieces of the tokens."""
        known = {piece.replace(_SPACE, " ") for piece in pieces}
        known |= {piece.lstrip() for piece in known}  # a template may put the space before a content
        known.discard("")
        alternatives = sorted(map(re.escape, known), key=len, reverse=True)
        self._whole = re.compile("|".join([*alternatives, _OPEN, _CLOSE]))
        self._begun = {piece[:end] for piece in known for end in range(1, len(piece))}
        self._longest = max(map(len, self._begun), default=0)

    def split(self, text: str, begun: bool = True) -> Iterator[tuple[str, str]]:
        """Pairs of ordinary text and the control text behind it, which is empty at the end. ``begun``: what begins a
        control text at the end counts too.
        """
        start = 0
        for match in self._whole.finditer(text.replace(_SPACE, " ")):
            yield text[start : match.start()], text[match.start() : match.end()]
            start = match.end()
        rest = text[start:].replace(_SPACE, " ")
        end = len(rest.rstrip())  # a template may trim
        for begin in range(max(0, end - self._longest), end if begun else 0):
            if rest[begin:end] in self._begun:
                yield text[start : start + begin], text[start + begin : start + end]
                start += end
                break
        yield text[start:], ""


class Guard:
    """What the placeholders of one rendering stand for."""

    def __init__(self, engine: _core.Engine, control_text: ControlText) -> None:
        """The tokenizer, and what it must not find in contents."""
        self._engine = engine
        self._control_text = control_text
        self._values: list[str | tuple[int, ...] | _core.Medium] = []

    def protect(self, value: Any, begun: bool = True) -> Any:
        """A copy with placeholders for control text, in all the strings of a JSON-like value. ``begun``: also for what
        begins at the end of a string, which is needed unless nothing comes behind it.

        Strings are taken as the tokenizer will read them: undecodable bytes, which Python carries as surrogates, may
        join to characters, and become U+FFFD where they do not.
        """
        if isinstance(value, str):
            parts = self._control_text.split(to_text(to_bytes(value)), begun)
            return "".join(plain + (self.hold(control) if control else "") for plain, control in parts)
        if isinstance(value, dict):
            return {self.protect(key): self.protect(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.protect(item) for item in value]
        return value

    def hold(self, value: str | tuple[int, ...] | _core.Medium) -> str:
        """A placeholder for control text, for a reply as it was sampled, or for a picture or a sound."""
        self._values.append(value)
        return f"{_OPEN}{len(self._values) - 1}{_CLOSE}"

    def tokenize(self, text: str) -> _core.Prompt:
        """The prompt that a rendered text stands for."""
        prompt = _core.Prompt([])
        tokens: list[int] = []
        before = ""
        parts = _PLACEHOLDER.split(text)
        for markup, number in itertools.zip_longest(parts[::2], parts[1::2]):
            # A placeholder that the template itself made up stands for nothing.
            value = self._values[int(number)] if number and int(number) < len(self._values) else ()
            after = _core.AROUND_MEDIA if isinstance(value, _core.Medium) else ""
            tokens += self._engine.tokenize(to_bytes(before + markup + after), special=True)
            before = after
            if isinstance(value, _core.Medium):
                prompt = prompt + _core.Prompt(tokens) + self._engine.prompt_of_medium(value)
                tokens = []
            else:
                tokens += self._tokenize_typed(value) if isinstance(value, str) else value
        return prompt + _core.Prompt(tokens)

    def _tokenize_typed(self, text: str) -> list[int]:
        """Control text is cut after its first character, so that not even a user-defined piece is found, and so is
        what it holds besides.
        """
        tokens: list[int] = []
        rest = [text]
        while rest:
            plain, control = next(self._control_text.split(rest[-1]))
            rest[-1] = rest[-1][len(plain) + len(control) :]
            for piece in (plain, control[:1]):
                tokens += self._engine.tokenize(to_bytes(piece), special=False)
            rest = [part for part in (*rest, control[1:]) if part]
        return tokens
