"""From a conversation to prompt tokens, by the model's own chat format.

The templates that Google publishes for the family are written by the core (cpp/text/turns), as is the format of files
without a template. Other templates are Jinja: gemlet.chat.sandbox renders them, and gemlet.chat.guard keeps what people
type from becoming control tokens.
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from gemlet import _core
from gemlet.chat.guard import ControlText, Guard
from gemlet.chat.published import takes_system_text
from gemlet.chat.sandbox import Budget, LimitError, Renderer
from gemlet.chat.words import first_missing
from gemlet.errors import ArgumentError, TemplateError, UnsupportedError
from gemlet.forked import renew_in_children
from gemlet.text import to_bytes, to_text

Role = Literal["system", "user", "assistant", "tool"]


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
        """``source``: Jinja; None takes the file's, or the format of the model's turn markers if it has none.

        Raises TemplateError for a source that does not parse.
        """
        self._engine = engine
        self.source = source or engine.info()["chat_template"]
        takes_system = takes_system_text(self.source)
        self._writer: _Turns | _Jinja
        if not self.source:
            self._writer = _Turns(engine, takes_system=True)
        elif takes_system is not None and _has_gemma_turns(engine):
            self._writer = _Turns(engine, takes_system)
        else:
            self._writer = _Jinja(engine, self.source)

    def render(
        self, messages: Sequence[Message], *, tools: Sequence[object] | None = None, add_generation_prompt: bool = True
    ) -> str:
        """The prompt as text: for reading, since markup and contents cannot be told apart in it."""
        return to_text(
            self._engine.detokenize(
                self.encode(messages, tools=tools, add_generation_prompt=add_generation_prompt), special=True
            )
        )

    def encode(
        self, messages: Sequence[Message], *, tools: Sequence[object] | None = None, add_generation_prompt: bool = True
    ) -> list[int]:
        """The prompt as tokens. ``tools`` goes to the template as it is, for templates that describe tools.

        Raises:
            TemplateError: the template refuses the conversation, leaves out what a user or the system said or the
                tools, or takes too much time or memory.
            ArgumentError: a content is not Unicode, or a tool is not what JSON holds.
        """
        return self._writer.encode(messages, tools or None, add_generation_prompt)

    async def encode_apart(self, encode: Callable[[], list[int]]) -> list[int]:
        """Call what encodes by this template, for asyncio: the event loop goes on while a foreign template renders."""
        return encode() if isinstance(self._writer, _Turns) else await _rendering.run(encode)


class _Rendering:
    """A thread for templates that asyncio waits for. The default one of an event loop may be full of others that wait
    for the same chat; more than one would only take turns at the process that renders."""

    def __init__(self) -> None:
        self.renew_after_fork()
        renew_in_children(self)

    def renew_after_fork(self) -> None:
        self._thread = ThreadPoolExecutor(1, "gemlet-template")  # starts it at the first use

    async def run(self, encode: Callable[[], list[int]]) -> list[int]:
        return await asyncio.get_running_loop().run_in_executor(self._thread, encode)


_rendering = _Rendering()


class _Turns:
    """The format of the model's turn markers, which the core writes."""

    def __init__(self, engine: _core.Engine, takes_system: bool) -> None:
        self._engine = engine
        self._takes_system = takes_system

    def encode(
        self, messages: Sequence[Message], tools: Sequence[object] | None, add_generation_prompt: bool
    ) -> list[int]:
        if tools:
            raise TemplateError("the chat template does not describe tools: the model would not see them")
        if not self._takes_system and any(message.role == "system" for message in messages):
            raise TemplateError("the chat template does not accept this conversation: it takes no system message")
        turns = [(message.role, to_bytes(message.content), message.tokens or ()) for message in messages]
        try:
            return self._engine.prompt(turns, "generation_prompt" if add_generation_prompt else "complete")
        except ArgumentError as error:
            raise TemplateError(f"the chat template does not accept this conversation: {error}") from error


_Form = Literal["text", "parts"]
"""How a template wants contents: as a string, or as a list of parts, such as [{"type": "text", "text": "Hi"}]."""
_FORMS: tuple[_Form, ...] = ("text", "parts")
_WRITTEN_PARTS = "{'type': 'text', 'text': "
"""What a template writes that takes a list of parts for a string."""


class _Jinja:
    """A template in Jinja."""

    def __init__(self, engine: _core.Engine, source: str) -> None:
        self._engine = engine
        self._source = source
        self._renderer = Renderer(source)
        self._form: _Form | None = None

    def encode(
        self, messages: Sequence[Message], tools: Sequence[object] | None, add_generation_prompt: bool
    ) -> list[int]:
        guard = Guard(self._engine, self._control_text)
        prompt = _Prompt(messages, _protect(guard, tools), add_generation_prompt)
        safe = [guard.protect(message.content) for message in messages]
        sampled = {i: guard.hold(m.tokens) for i, m in enumerate(messages) if m.tokens is not None}
        text = self._complete(prompt, [sampled.get(i, content) for i, content in enumerate(safe)])
        if any(text.count(placeholder) != 1 for placeholder in sampled.values()):
            # A template that rewrites earlier replies, such as to leave out the model's thoughts: it gets them as text.
            text = self._complete(prompt, safe)
        tokens = guard.tokenize(text)
        bos = self._engine.bos
        return tokens if tokens[:1] == [bos] else [bos, *tokens]

    def _complete(self, prompt: "_Prompt", contents: Sequence[str]) -> str:
        """The rendered prompt, which holds what was said and the tools."""
        if self._form is None:
            self._form = self._find_form(prompt)
        refused: TemplateError | None = None
        for form in (self._form, *(form for form in _FORMS if form != self._form)):
            try:
                text = self._render(prompt, contents, form)
                prompt.check_contents(text, contents)
                if prompt.tools and text == self._render(prompt, contents, form, with_tools=False):
                    raise TemplateError("the chat template does not describe tools: the model would not see them")
                return text
            except LimitError:
                raise
            except TemplateError as error:
                refused = refused or error
        assert refused is not None
        raise refused

    def _find_form(self, prompt: "_Prompt") -> _Form:
        """The form in which words arrive that are in no template: a short content might stand in the markup."""
        contents = [f"quxly{i}zorp" for i in range(len(prompt.messages))]
        for form in _FORMS:
            try:
                prompt.check_contents(self._render(prompt, contents, form), contents)
                return form
            except LimitError:
                raise
            except TemplateError:
                continue
        return "text"  # perhaps it accepts only some contents

    def _render(self, prompt: "_Prompt", contents: Sequence[str], form: _Form, with_tools: bool = True) -> str:
        written = [content if form == "text" else [{"type": "text", "text": content}] for content in contents]
        variables = {
            "messages": [{"role": m.role, "content": c} for m, c in zip(prompt.messages, written, strict=True)],
            "tools": prompt.tools if with_tools else None,
            "documents": None,
            "add_generation_prompt": prompt.add_generation_prompt,
            **self._special_tokens,
        }
        text = self._renderer.render(variables, prompt.budget)
        if form == "parts" and text.count(_WRITTEN_PARTS) > sum(c.count(_WRITTEN_PARTS) for c in contents):
            raise TemplateError("the chat template writes contents that are lists of parts as they are")
        return text

    def _piece(self, token: int) -> str:
        return to_text(self._engine.piece(token))

    @cached_property
    def _special_tokens(self) -> dict[str, str]:
        ends = (self._piece(token) for token in self._engine.special_tokens() if self._engine.is_end(token))
        named = {"bos_token": self._piece(self._engine.bos), "eos_token": next(ends, "")}
        return named | {f"{name}_token": f"<{name}>" for name in ("pad", "unk") if self._is_token(f"<{name}>")}

    @cached_property
    def _control_text(self) -> ControlText:
        """Whatever may become a control token or, for files that do not mark them as control, a turn's markup."""
        pieces = {self._piece(token) for token in self._engine.guarded_tokens()}
        return ControlText(pieces | {found for found in re.findall(r"<[^<>]+>", self._source) if self._is_token(found)})

    def _is_token(self, text: str) -> bool:
        return self._engine.find_token(to_bytes(text)) is not None


class _Prompt:
    """What a template is to write a prompt of, and the time for it."""

    def __init__(self, messages: Sequence[Message], tools: Any, add_generation_prompt: bool) -> None:
        self.messages = messages
        self.tools = tools
        self.add_generation_prompt = add_generation_prompt
        self.budget = Budget()

    def check_contents(self, text: str, contents: Sequence[str]) -> None:
        """Raises TemplateError naming a message of the user or the system that the text lacks. Replies of the model may
        be missing: templates leave out its thoughts."""
        for role in ("system", "user"):
            said = [i for i, message in enumerate(self.messages) if message.role == role]
            missing = first_missing(text, [contents[i] for i in said])
            if missing is not None:
                raise TemplateError(
                    f"the chat template leaves out what message {said[missing]} ({role}) says, whether it gets "
                    "contents as text or as a list of parts"
                )


def _protect(guard: Guard, tools: Sequence[object] | None) -> Any:
    try:
        return guard.protect(tools)
    except RecursionError:
        raise ArgumentError("tools: nested too deeply for JSON") from None


def _has_gemma_turns(engine: _core.Engine) -> bool:
    """Whether the core writes this model's turns as Gemma 1 to 3n do."""
    try:
        return engine.prompt([("user", b"", ())])[1] == engine.find_token(b"<start_of_turn>")
    except (ArgumentError, UnsupportedError):
        return False
