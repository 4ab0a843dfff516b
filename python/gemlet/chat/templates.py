"""From a conversation to prompt tokens, by the model's own chat template.

What people type never becomes a control token. A template mixes trusted markup and untrusted contents in one text, so
before rendering, everything in the contents that looks like a control token is replaced by a placeholder between two
of Unicode's noncharacters (which are kept for a program's internal use); placeholders in the contents themselves are
replaced likewise, so that none can be forged. After rendering, the text between placeholders is tokenised with control
tokens and each placeholder as plain text. A content that ends in the beginning of a control token has that replaced
too, so that nothing which the template puts behind it, another content say, completes the token. All other contents
pass through the template as they are: it may trim or inspect them, and the tokens are those that the model was trained
on. A template that cuts pieces out of contents or builds markup around them, as in ``<{{ name }}>``, vouches for what
it joins.

The same placeholders carry the tokens of earlier replies, as they were sampled: tokenising a reply's text again may
give other tokens than the model chose, and then nothing that was computed for them could be used again.
"""

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from gemlet import _core
from gemlet.chat.sandbox import Renderer
from gemlet.text import to_bytes, to_text

Role = Literal["system", "user", "assistant", "tool"]

GEMMA_TEMPLATE = """\
{{ bos_token }}
{%- set ns = namespace(system='') -%}
{%- for message in messages -%}
  {%- if message.role == 'system' -%}
    {%- if not loop.first -%}{{ raise_exception('a system message has to come first') }}{%- endif -%}
    {%- set ns.system = message.content ~ '\\n\\n' -%}
  {%- else -%}
    {{- '<start_of_turn>' ~ ('model' if message.role == 'assistant' else message.role) ~ '\\n' -}}
    {{- (ns.system if message.role == 'user' else '') ~ (message.content | trim) ~ '<end_of_turn>\\n' -}}
    {%- if message.role == 'user' -%}{%- set ns.system = '' -%}{%- endif -%}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<start_of_turn>model\\n' -}}{%- endif -%}
"""
"""Gemma's turn format, for files without a template. A system message opens the first user turn."""

_OPEN, _CLOSE = "\ufdd0", "\ufdd1"
_PLACEHOLDER = re.compile(f"{_OPEN}([0-9]+){_CLOSE}")


@dataclass(frozen=True)
class Message:
    """One message of a conversation."""

    role: Role
    content: str
    tokens: tuple[int, ...] | None = None
    """Sampled tokens of a reply, if they stand for exactly ``content``."""


class ChatTemplate:
    """A model's chat template. Safe to use from several threads."""

    def __init__(self, engine: _core.Engine, source: str | None = None) -> None:
        """``source``: Jinja; None takes the file's, or Gemma's format if it has none.

        Raises TemplateError for a source that does not parse.
        """
        self._engine = engine
        self.source = source or engine.info()["chat_template"] or GEMMA_TEMPLATE
        self._renderer = Renderer(self.source)

    def render(
        self, messages: Sequence[Message], *, tools: Sequence[object] | None = None, add_generation_prompt: bool = True
    ) -> str:
        """The prompt as text: for reading, since markup and contents cannot be told apart in it."""
        return self._render([_as_dict(message) for message in messages], tools, add_generation_prompt)

    def encode(
        self, messages: Sequence[Message], *, tools: Sequence[object] | None = None, add_generation_prompt: bool = True
    ) -> list[int]:
        """The prompt as tokens. ``tools`` goes to the template as it is, for templates that describe tools.

        Raises:
            TemplateError: the template refuses the conversation.
        """
        held = _Held(self._control_text)
        safe_tools = held.protect(tools)
        safe = [_as_dict(message, held.protect(message.content)) for message in messages]
        verbatim = {i: held.tokens(m.tokens) for i, m in enumerate(messages) if m.tokens is not None}
        sampled = [{**m, "content": verbatim[i]} if i in verbatim else m for i, m in enumerate(safe)]
        text = self._render(sampled, safe_tools, add_generation_prompt)
        if any(text.count(placeholder) != 1 for placeholder in verbatim.values()):
            # A template that rewrites earlier replies, such as to leave out the model's thoughts: it gets them as text.
            text = self._render(safe, safe_tools, add_generation_prompt)
        tokens = self._tokenize(text, held)
        bos = self._engine.bos
        return tokens if tokens[:1] == [bos] else [bos, *tokens]

    def _render(self, messages: Sequence[dict[str, object]], tools: object, add_generation_prompt: bool) -> str:
        return self._renderer.render(
            {
                "messages": messages,
                "tools": tools,
                "add_generation_prompt": add_generation_prompt,
                "bos_token": self._piece(self._engine.bos),
                "eos_token": self._eos_piece,
            }
        )

    def _tokenize(self, text: str, held: "_Held") -> list[int]:
        tokens: list[int] = []
        parts = _PLACEHOLDER.split(text)
        for markup, number in itertools.zip_longest(parts[::2], parts[1::2]):
            tokens += self._engine.tokenize(to_bytes(markup), special=True)
            if number is None:
                continue
            value = held.value(int(number))
            if isinstance(value, str):
                # Cut after the first character, so that not even a user-defined piece is found.
                for plain in (value[:1], value[1:]):
                    tokens += self._engine.tokenize(to_bytes(plain), special=False)
            else:
                tokens += value
        return tokens

    def _piece(self, token: int) -> str:
        return to_text(self._engine.piece(token))

    @cached_property
    def _eos_piece(self) -> str:
        ends = (self._piece(token) for token in self._engine.special_tokens() if self._engine.is_end(token))
        return next(ends, "")

    @cached_property
    def _control_text(self) -> "_ControlText":
        """Whatever may become a control token or, for files that do not mark them as control, a turn's markup."""
        pieces = {self._piece(token) for token in self._engine.special_tokens()}
        pieces |= {found for found in re.findall(r"<[^<>\s]+>", self.source) if self._is_token(found)}
        return _ControlText(pieces)

    def _is_token(self, text: str) -> bool:
        return self._engine.find_token(text.encode()) is not None


class _ControlText:
    """Finds control tokens, whole ones anywhere and begun ones at the end."""

    def __init__(self, pieces: set[str]) -> None:
        alternatives = sorted((re.escape(piece) for piece in pieces if piece), key=len, reverse=True)
        self._whole = re.compile("|".join([*alternatives, _OPEN, _CLOSE]))
        self._begun = {piece[:end] for piece in pieces for end in range(1, len(piece))}
        self._longest = max(map(len, self._begun), default=0)

    def replace(self, text: str, replacement: Callable[[str], str]) -> str:
        text = self._whole.sub(lambda match: replacement(match[0]), text)
        end = len(text.rstrip())  # a template may trim
        for start in range(max(0, end - self._longest), end):
            if text[start:end] in self._begun:
                return text[:start] + replacement(text[start:end]) + text[end:]
        return text


class _Held:
    """What the placeholders of one rendering stand for."""

    def __init__(self, control_text: _ControlText) -> None:
        self._control_text = control_text
        self._values: list[str | tuple[int, ...]] = []

    def protect(self, value: Any) -> Any:
        """A copy with placeholders for control text, in all the strings of a JSON-like value."""
        if isinstance(value, str):
            return self._control_text.replace(value, self._hold)
        if isinstance(value, dict):
            return {self.protect(key): self.protect(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.protect(item) for item in value]
        return value

    def tokens(self, tokens: tuple[int, ...]) -> str:
        """A placeholder for a reply as it was sampled."""
        return self._hold(tokens)

    def value(self, number: int) -> str | tuple[int, ...]:
        """What a placeholder stands for; one that the template itself made up stands for nothing."""
        return self._values[number] if number < len(self._values) else ""

    def _hold(self, value: str | tuple[int, ...]) -> str:
        self._values.append(value)
        return f"{_OPEN}{len(self._values) - 1}{_CLOSE}"


def _as_dict(message: Message, content: str | None = None) -> dict[str, object]:
    return {"role": message.role, "content": message.content if content is None else content}
