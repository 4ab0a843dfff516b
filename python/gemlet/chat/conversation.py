"""Chat: a conversation in the model's chat format."""

import asyncio
import os
import weakref
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, Unpack, cast

from gemlet import _core
from gemlet.arguments import checked_methods
from gemlet.chat.saved import SavedChat
from gemlet.chat.templates import ChatTemplate, Message
from gemlet.errors import ArgumentError
from gemlet.files import to_path
from gemlet.info import ModelInfo
from gemlet.options import GenerateOptions, to_core
from gemlet.result import GenerateResult
from gemlet.scheduler import Scheduler
from gemlet.session import Session
from gemlet.stream import Source, Stream


class ChatModel(Protocol):
    """The part of a model that a conversation uses."""

    info: ModelInfo
    path: Path
    _engine: _core.Engine

    def detokenize(self, tokens: Sequence[int], *, special: bool = False) -> str:
        """Turn tokens into text."""

    def shared_scheduler(self) -> Scheduler:
        """The scheduler for what is awaited."""


@dataclass
class _Turn:
    messages: list[Message]
    options: GenerateOptions
    ended: bool = False

    @property
    def question(self) -> Message:
        return self.messages[-1]


@checked_methods
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
        scheduler: Scheduler | None = None,
        **options: Unpack[GenerateOptions],
    ) -> None:
        """See ``Model.chat``."""
        self._model = model
        self._template = ChatTemplate(model._engine, template)
        self._tools = tools
        self._session = Session(model._engine.session(context or 0))
        self._scheduler = scheduler
        self._options = options
        self._messages: list[Message] = []
        self._active: weakref.ref[Stream | _Turn] | None = None
        self._source: Source | None = None
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
        turn = self._begin(text, options)
        prompt = self._encode(turn)

        def keep(result: GenerateResult) -> None:
            self._keep(turn, result)

        if self._scheduler is None:
            core = to_core(turn.options, self._session.context)
            stream = Stream(self._session._core.generate(prompt, core), core.sampling.seed, keep)
        else:
            stream = self._scheduler.stream(prompt, session=self._session, on_end=keep, **turn.options)
        self._active, self._source = weakref.ref(stream), stream.source
        return stream

    async def asend(
        self, text: str, *, on_text: Callable[[str], object] | None = None, **options: Unpack[GenerateOptions]
    ) -> GenerateResult:
        """``send`` for asyncio: replies that are awaited at the same time are batched, by the chat's scheduler or the
        one of ``Model.agenerate``. ``on_text`` is called in the event loop. Cancelling the task takes the turn back.
        """
        turn = self._begin(text, options)
        self._active = weakref.ref(turn)
        try:
            result = await self._answer(turn, on_text)
            self._keep(turn, result)
            return result
        finally:
            turn.ended = True

    async def astream(self, text: str, **options: Unpack[GenerateOptions]) -> AsyncIterator[str]:
        """Like ``asend``, piece by piece; leaving the loop early and closing, or cancelling, takes the turn back."""
        turn = self._begin(text, options)
        self._active = weakref.ref(turn)
        pieces = asyncio.Queue[str | None]()
        answer = asyncio.ensure_future(self._answer(turn, pieces.put_nowait))
        answer.add_done_callback(lambda _: pieces.put_nowait(None))
        try:
            while (piece := await pieces.get()) is not None:
                yield piece
            self._keep(turn, await answer)
        finally:
            answer.cancel()
            await asyncio.gather(answer, return_exceptions=True)
            turn.ended = True

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
        """Write the conversation as JSON. A file that is there stays until the new one is whole.

        Raises:
            ArgumentError: what no file can be called.
            FileError: the file cannot be written, or is the model, a symbolic link or no regular file.
        """
        model = self._model
        files = [*model._engine.files(), *(model.path.iterdir() if model.path.is_dir() else ())]
        SavedChat(model.info.fingerprint, self.system, self._messages).write(to_path(path), files)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Go on with a conversation that ``save`` wrote, by this model or another.

        Raises:
            FileError: the file cannot be read, is no regular file, or is too large.
            FormatError: the file is not a saved conversation.
        """
        saved = SavedChat.read(to_path(path))
        same_model = saved.model == self._model.info.fingerprint
        self._messages = [self._restored(message, same_model) for message in saved.messages]
        self.system = saved.system

    def _begin(self, text: str, options: GenerateOptions) -> _Turn:
        active = self._active() if self._active is not None else None
        if active is not None and not active.ended:
            raise ArgumentError("the chat is busy: read the stream of the last turn to its end, or close it")
        if self._source is not None:
            self._source.close()  # of a stream that was dropped: it may still have the session
        merged = cast(GenerateOptions, {"max_tokens": None, **self._options, **options})
        return _Turn(self._with_system([*self._messages, Message("user", text)]), merged)

    def _encode(self, turn: _Turn) -> list[int]:
        return self._template.encode(turn.messages, tools=self._tools)

    async def _answer(self, turn: _Turn, on_text: Callable[[str], object] | None) -> GenerateResult:
        scheduler = self._scheduler or self._model.shared_scheduler()
        prompt = await self._template.encode_apart(partial(self._encode, turn))
        return await scheduler.agenerate(prompt, session=self._session, on_text=on_text, **turn.options)

    def _keep(self, turn: _Turn, result: GenerateResult) -> None:
        if result.finish_reason != "cancelled":
            self._messages += [turn.question, self._as_message(result)]

    def _with_system(self, messages: list[Message]) -> list[Message]:
        return [Message("system", self.system), *messages] if self.system else messages

    def _restored(self, message: Message, same_model: bool) -> Message:
        """The message, with its tokens if they are this model's and stand for its text."""
        tokens = message.tokens
        known = range(self._model.info.vocabulary)
        same = same_model and tokens is not None and all(token in known for token in tokens)
        if same and self._model.detokenize(tokens or ()) == message.content:
            return message
        return Message(message.role, message.content)

    def _as_message(self, result: GenerateResult) -> Message:
        """The sampled tokens are kept if they are the text: a stop string cuts the text but not the tokens."""
        same = self._model.detokenize(result.tokens) == result.text
        return Message("assistant", result.text, tuple(result.tokens) if same else None)
