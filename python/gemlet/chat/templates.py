"""From a conversation to prompt tokens, by the model's own chat format.

The templates that Google publishes for the family are written by the core (cpp/text/turns), as is the format of files
without a template. Other templates are Jinja: gemlet.chat.jinja_template renders them.
"""

import asyncio
import reprlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, TypedDict, Unpack

from gemlet import _core
from gemlet.chat.jinja_template import JinjaTemplate
from gemlet.chat.messages import Message, MessageLike, to_messages
from gemlet.chat.published import takes_system_text
from gemlet.chat.request import PromptEnd, Request
from gemlet.errors import ArgumentError, TemplateError, UnsupportedError
from gemlet.forked import renew_in_children
from gemlet.media import Audio, Image
from gemlet.media.encoding import MediaEncoder
from gemlet.text import to_bytes, to_text


@dataclass(frozen=True)
class Prompt:
    """What a model is given to continue."""

    core: _core.Prompt
    prefill: str = ""
    """The beginning of the answer, as the template wrote it: some trim it."""
    prefill_tokens: tuple[int, ...] | None = None
    """The last of ``tokens``, if they stand for exactly ``prefill``."""

    @cached_property
    def tokens(self) -> list[int]:
        """The tokens, with one for each place of a picture or a sound."""
        return self.core.tokens


class PromptOptions(TypedDict, total=False):
    """Keyword arguments of ``ChatTemplate.prompt``, which says what they mean."""

    tools: Sequence[object] | None
    variables: Mapping[str, Any] | None
    add_generation_prompt: bool
    continue_final_message: bool
    encode: Callable[[Image | Audio], Sequence[_core.Medium]] | None


class ChatTemplate:
    """A model's chat template. Safe to use from several threads."""

    def __init__(self, engine: _core.Engine, source: str | None = None, media: MediaEncoder | None = None) -> None:
        """``source``: Jinja; None takes the file's, or the format of the model's turn markers if it has none.
        ``media``: the model's encoders of pictures and sounds.

        Raises TemplateError for a source that is empty or does not parse.
        """
        self._engine = engine
        self._media = media or MediaEncoder()
        if source is not None and not source.strip():
            raise TemplateError("the chat template is empty")
        self.source = source or engine.info()["chat_template"]
        takes_system = takes_system_text(self.source)
        self._writer: _Writer
        if not self.source:
            self._writer = _Turns(engine, takes_system=True)
        elif takes_system is not None and _has_gemma_turns(engine):
            self._writer = _Turns(engine, takes_system)
        else:
            self._writer = JinjaTemplate(engine, self.source)

    def check_variables(self, variables: Mapping[str, Any]) -> None:
        """Raises TemplateError for variables that the template does not use, and ArgumentError for names that are
        reserved.
        """
        for name in variables:
            if not isinstance(name, str) or name in _RESERVED or name.endswith("_token"):
                raise ArgumentError(
                    f"template_variables: {reprlib.repr(name)} is no name of one's own; messages, tools, "
                    "add_generation_prompt, continue_final_message and the special tokens are given by gemlet"
                )
        if variables:
            self._writer.check_variables(variables)

    def prompt(
        self,
        messages: Sequence[MessageLike],
        *,
        tools: Sequence[object] | None = None,
        variables: Mapping[str, Any] | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        encode: Callable[[Image | Audio], Sequence[_core.Medium]] | None = None,
    ) -> Prompt:
        """The prompt of a conversation.

        Args:
            messages: Message objects, or mappings in the form of OpenAI's API and of transformers.
            tools: handed to the template as they are, for templates that describe tools.
            variables: the template's own variables, such as ``enable_thinking``.
            add_generation_prompt: the prompt ends with the beginning of the model's turn, not with the last message.
            continue_final_message: the prompt ends inside the last message, the beginning of an answer that the model
                goes on with (a prefill). Takes the place of ``add_generation_prompt``.
            encode: gives what stands for a picture or a sound, by default encoding it now.

        Raises:
            TemplateError: the template refuses the conversation; leaves out what a user, the system or a tool said, the
                tools or their calls; does not use a variable; does not write the beginning of the answer as it is; or
                takes too much time or memory.
            ArgumentError: a message is malformed, a content is not Unicode, or a tool or variable is not what JSON
                holds.
        """
        said = to_messages(messages, "messages")
        if continue_final_message and not (said and said[-1].role == "assistant" and not said[-1].tool_calls):
            raise ArgumentError("the final message cannot be continued: expected a reply of the assistant in words")
        self.check_variables(variables or {})
        ends: PromptEnd = "generation_prompt" if add_generation_prompt else "complete"
        if continue_final_message:
            ends = "answer"
        request = Request(said, tools or None, variables or {}, ends, encode or self._media.encode)
        core, prefill = self._writer.write(request)
        return Prompt(core, prefill, self._end_of(core.tokens, prefill) if prefill else None)

    def encode(self, messages: Sequence[MessageLike], **options: Unpack[PromptOptions]) -> list[int]:
        """The tokens of ``prompt``."""
        return self.prompt(messages, **options).tokens

    def render(self, messages: Sequence[MessageLike], **options: Unpack[PromptOptions]) -> str:
        """The prompt as text: for reading, since markup and contents cannot be told apart in it. Pictures and sounds
        are their marks.
        """
        core = self.prompt(messages, **options).core
        tokens = core.tokens
        for begin, count, _ in reversed(core.media):
            del tokens[begin : begin + count]
        return to_text(self._engine.detokenize(tokens, special=True))

    def least_bytes(self, message: Message) -> int:
        """How many bytes of what a message says the prompt has at least: templates trim, and foreign ones may leave out
        parts of replies.
        """
        if message.role == "assistant" and not isinstance(self._writer, _Turns):
            return 0
        return len(message.text.strip().encode("utf-8", "replace"))

    async def encode_apart(self, encode: Callable[[], Prompt], *, slow: bool) -> Prompt:
        """Call what encodes by this template, for asyncio: the event loop goes on while a foreign template renders.
        ``slow``: pictures or sounds are encoded too.
        """
        if slow:
            return await _encoding.run(encode)
        return encode() if isinstance(self._writer, _Turns) else await _rendering.run(encode)

    def _end_of(self, tokens: Sequence[int], text: str) -> tuple[int, ...] | None:
        """The last tokens, if some of them stand for exactly this text."""
        data = to_bytes(text)
        length = 0
        for start in range(len(tokens) - 1, -1, -1):
            length += len(self._engine.detokenize(tokens[start : start + 1], special=True))
            if length >= len(data):
                end = tuple(tokens[start:])
                return end if self._engine.detokenize(end, special=True) == data else None
        return None


_RESERVED = ("messages", "tools", "add_generation_prompt", "continue_final_message")


class _Writer(Protocol):
    """What writes the prompts of a model."""

    def check_variables(self, variables: Mapping[str, Any]) -> None:
        """Raises TemplateError for variables that are of no use."""

    def write(self, request: Request) -> tuple[_core.Prompt, str]:
        """The prompt, and the beginning of the answer as it was written."""


class _Apart:
    """Threads that asyncio waits for. The default ones of an event loop may be full of others that wait for the same
    chat."""

    def __init__(self, name: str, threads: int) -> None:
        self._name = name
        self._threads = threads
        self.renew_after_fork()
        renew_in_children(self)

    def renew_after_fork(self) -> None:
        self._pool = ThreadPoolExecutor(self._threads, self._name)  # starts them when they are needed

    async def run(self, encode: Callable[[], Prompt]) -> Prompt:
        return await asyncio.get_running_loop().run_in_executor(self._pool, encode)


_rendering = _Apart("gemlet-template", 1)
"""More would take turns at the process that renders."""
_encoding = _Apart("gemlet-media", 4)
"""They share the cores, so that a small picture does not wait until a long sound is encoded."""


class _Turns:
    """The format of the model's turn markers, which the core writes."""

    def __init__(self, engine: _core.Engine, takes_system: bool) -> None:
        self._engine = engine
        self._takes_system = takes_system

    def check_variables(self, variables: Mapping[str, Any]) -> None:
        name = reprlib.repr(next(iter(variables)))
        raise TemplateError(f"template_variables: the chat template does not use {name}; it has no variables")

    def write(self, request: Request) -> tuple[_core.Prompt, str]:
        if request.tools:
            raise TemplateError("the chat template does not describe tools: the model would not see them")
        for i, message in enumerate(request.messages):
            if message.role == "tool" or message.tool_calls:
                what = "results of tools" if message.role == "tool" else "tool calls"
                raise TemplateError(
                    f"the chat template has no place for message {i} ({message.role}), since it does not write {what}: "
                    "say them in the text of a user's message or a reply, or give a template that does"
                )
        if not self._takes_system and any(message.role == "system" for message in request.messages):
            raise TemplateError("the chat template does not accept this conversation: it takes no system message")
        turns = [(message.role, _written(message, request), message.tokens or ()) for message in request.messages]
        end = "open_answer" if request.ends == "answer" else request.ends
        try:
            prompt = self._engine.prompt(turns, end)
        except ArgumentError as error:
            raise TemplateError(f"the chat template does not accept this conversation: {error}") from error
        if request.ends != "answer":
            return prompt, ""
        answer = request.messages[-1]
        text = to_text(to_bytes(answer.text))
        return prompt, text if answer.tokens else text.strip()


def _written(message: Message, request: Request) -> bytes | list[bytes | _core.Medium]:
    if isinstance(message.content, str):
        return to_bytes(message.content)
    written: list[bytes | _core.Medium] = []
    for part in message.content:
        written += [to_bytes(part)] if isinstance(part, str) else request.encode(part)
    return written


def _has_gemma_turns(engine: _core.Engine) -> bool:
    """Whether the core writes this model's turns as Gemma 1 to 3n do."""
    try:
        return engine.prompt([("user", b"", ())]).tokens[1] == engine.find_token(b"<start_of_turn>")
    except (ArgumentError, UnsupportedError):
        return False
