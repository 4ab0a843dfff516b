"""Chat: a conversation in the model's chat format."""

import asyncio
import json
import os
import weakref
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar, Unpack, cast

from gemlet import _core
from gemlet.chat.templates import ChatTemplate, Message
from gemlet.errors import ArgumentError, FileError, FormatError
from gemlet.info import ModelInfo
from gemlet.options import GenerateOptions, to_core
from gemlet.result import GenerateResult
from gemlet.stream import Stream

T = TypeVar("T")


class ChatModel(Protocol):
    """The part of a model that a conversation uses."""

    info: ModelInfo
    _engine: _core.Engine

    def detokenize(self, tokens: Sequence[int], *, special: bool = False) -> str:
        """Turn tokens into text."""


class Chat:
    """A conversation with a model: each turn computes only what is new.

    A turn counts once its reply is complete. One that fails, is cancelled or is closed early leaves the conversation
    as it was before, ready for the next. One turn at a time.
    """

    def __init__(
        self,
        model: ChatModel,
        system: str | None = None,
        *,
        template: str | None = None,
        tools: Sequence[object] | None = None,
        context: int | None = None,
        **options: Unpack[GenerateOptions],
    ) -> None:
        """See ``Model.chat``."""
        self._model = model
        self._template = ChatTemplate(model._engine, template)
        self._tools = tools
        self._session = model._engine.session(context or 0)
        self._options = options
        self._messages: list[Message] = []
        self._active: weakref.ref[Stream] | None = None
        self.system = system

    @property
    def history(self) -> list[Message]:
        """The messages so far, without the system instruction."""
        return list(self._messages)

    def send(
        self, text: str, *, on_text: Callable[[str], object] | None = None, **options: Unpack[GenerateOptions]
    ) -> GenerateResult:
        """Send a user message and return the reply. ``on_text`` gets each piece as it comes.

        Raises:
            ContextError: the conversation has grown beyond the context; the message gives both lengths.
            TemplateError: the template refuses the conversation.
        """
        return self.stream(text, **options).finish(on_text)

    def stream(self, text: str, **options: Unpack[GenerateOptions]) -> Stream:
        """Send a user message and stream the reply. Closing the iterator takes the turn back."""
        active = self._active() if self._active is not None else None
        if active is not None and not active.ended:
            raise ArgumentError("the chat is busy: read the stream of the last turn to its end, or close it")
        question = Message("user", text)
        prompt = self._template.encode(self._with_system([*self._messages, question]), tools=self._tools)
        merged = cast(GenerateOptions, {"max_tokens": None, **self._options, **options})
        core = to_core(merged, self._session.context)

        def keep(result: GenerateResult) -> None:
            self._messages += [question, self._as_message(result)]

        stream = Stream(self._session.generate(prompt, core), core.sampling.seed, keep)
        self._active = weakref.ref(stream)
        return stream

    async def asend(self, text: str, **options: Unpack[GenerateOptions]) -> GenerateResult:
        """Like ``send``, in a thread; cancelling the task takes the turn back."""
        before = list(self._messages)
        stream = self.stream(text, **options)
        try:
            return await _in_thread(stream, stream.finish)
        except asyncio.CancelledError:
            self._messages = before
            raise

    async def astream(self, text: str, **options: Unpack[GenerateOptions]) -> AsyncIterator[str]:
        """Like ``stream``, in a thread; leaving the loop early and closing, or cancelling, takes the turn back."""
        stream = self.stream(text, **options)
        try:
            while (piece := await _in_thread(stream, lambda: next(stream, None))) is not None:
                yield piece
        finally:
            stream.close()

    def undo(self) -> bool:
        """Take the last turn back; False if there is none."""
        turns = [i for i, message in enumerate(self._messages) if message.role == "user"]
        if turns:
            del self._messages[turns[-1] :]
        return bool(turns)

    def reset(self) -> None:
        """Forget everything but the system instruction."""
        self._messages.clear()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the conversation as JSON."""
        messages = [{"role": m.role, "content": m.content, "tokens": m.tokens} for m in self._messages]
        saved = {"model": self._model.info.fingerprint, "system": self.system, "messages": messages}
        text = json.dumps(saved, ensure_ascii=False, indent=1) + "\n"
        target = Path(path)
        partial = target.with_name(target.name + ".part")
        try:
            partial.write_text(text, encoding="utf-8")
            partial.replace(target)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise FileError(f"{target}: {error.strerror}") from error

    def load(self, path: str | os.PathLike[str]) -> None:
        """Go on with a conversation that ``save`` wrote, by this model or another.

        Raises:
            FileError: the file cannot be read.
            FormatError: the file is not a saved conversation.
        """
        try:
            saved = json.loads(Path(path).read_text(encoding="utf-8"))
            same_model = saved["model"] == self._model.info.fingerprint
            messages = [_restored(entry, same_model) for entry in saved["messages"]]
            system = saved["system"]
        except OSError as error:
            raise FileError(f"{path}: {error.strerror}") from error
        except (ValueError, LookupError, TypeError) as error:
            raise FormatError(f"{path}: not a saved conversation: {error}") from error
        self._messages, self.system = messages, system

    def _with_system(self, messages: list[Message]) -> list[Message]:
        return [Message("system", self.system), *messages] if self.system else messages

    def _as_message(self, result: GenerateResult) -> Message:
        """The sampled tokens are kept if they are the text: a stop string cuts the text but not the tokens."""
        same = self._model.detokenize(result.tokens) == result.text
        return Message("assistant", result.text, tuple(result.tokens) if same else None)


def _restored(entry: dict[str, object], same_model: bool) -> Message:
    role, content, tokens = entry["role"], entry["content"], entry["tokens"]
    if role not in ("user", "assistant") or not isinstance(content, str):
        raise ValueError(f"a message of {role!r} with {type(content).__name__} content")
    if tokens is not None and not (isinstance(tokens, list) and all(type(token) is int for token in tokens)):
        raise ValueError("tokens that are no numbers")
    return Message(role, content, tuple(tokens) if tokens is not None and same_model else None)


async def _in_thread(stream: Stream, call: Callable[[], T]) -> T:
    """Run ``call``, which reads from ``stream``, in a thread. When the task is cancelled, so is the computation, and
    the thread is awaited."""
    thread = asyncio.ensure_future(asyncio.to_thread(call))
    try:
        return await asyncio.shield(thread)
    except asyncio.CancelledError:
        stream.cancel()
        await asyncio.wait([thread])
        raise
