"""Chat: a conversation in the model's chat format."""

import asyncio
import os
import threading
import weakref
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, Unpack, cast

from gemlet import _core
from gemlet.arguments import checked_methods
from gemlet.chat.messages import Message, MessageLike, to_messages, turn_starts
from gemlet.chat.overflow import Overflow, check_overflow, drop_oldest, reply_reserve
from gemlet.chat.saved import SavedChat
from gemlet.chat.templates import ChatTemplate, Prompt
from gemlet.errors import ArgumentError, CancelledError
from gemlet.files import to_path
from gemlet.info import ModelInfo
from gemlet.media import Audio, Image
from gemlet.media.encoding import Encode, EncodeApart, MediaEncoder
from gemlet.options import GenerateOptions, to_core
from gemlet.result import GenerateResult
from gemlet.scheduler import Scheduler
from gemlet.session import Session
from gemlet.stream import Source, Stream
from gemlet.text import require_room, to_bytes


class ChatModel(Protocol):
    """The part of a model that a conversation uses."""

    info: ModelInfo
    _engine: _core.Engine
    _media: MediaEncoder

    def _files(self) -> list[Path]:
        """The files that it is made of."""

    def detokenize(self, tokens: Sequence[int], *, special: bool = False) -> str:
        """Turn tokens into text."""

    def shared_scheduler(self) -> Scheduler:
        """The scheduler for what is awaited."""


Said = str | Image | Audio | MessageLike | Sequence[str | Image | Audio | MessageLike]
"""What begins a turn: what a user says, in words, pictures and sounds; or messages, such as the results of tools. A
mapping without a role is a part of what a user says."""
_BUSY = "the chat is busy: read the stream of the last turn to its end, or close it"


@dataclass
class _Turn:
    question: list[Message]
    prefill: str
    options: GenerateOptions
    encode: Encode
    first: int = 0
    """The first message of the history that is in the prompt."""
    dropped: int = 0
    """How many that were in the prompt of the turn before are not."""
    prompt: Prompt | None = None
    ended: bool = False


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
        history: Iterable[MessageLike] = (),
        template: str | None = None,
        template_variables: Mapping[str, Any] | None = None,
        tools: Sequence[object] | None = None,
        context: int | None = None,
        overflow: Overflow = "error",
        scheduler: Scheduler | None = None,
        **options: Unpack[GenerateOptions],
    ) -> None:
        """See ``Model.chat``."""
        self._model = model
        self._template = ChatTemplate(model._engine, template, model._media)
        self._variables = dict(template_variables or {})
        self._template.check_variables(self._variables)
        self._tools = tools
        self._session = Session(model._engine.session(context or 0))
        self._scheduler = scheduler
        self._options = options
        self._messages: list[Message] = []
        self._first = 0  # message that is in the prompt
        self._active: weakref.ref[Stream | _Turn] | None = None
        self._beginning = threading.Lock()
        self._source: Source | None = None
        self.system = system
        self.overflow = overflow
        if messages := to_messages(history, "history"):
            if system and messages[0].role == "system":
                raise ArgumentError("history[0] is a system message, and system is given too: expected one of them")
            self.history = messages

    @property
    def history(self) -> list[Message]:
        """The messages so far, without the system instruction, which is in ``system``. Can be set, to Message objects
        or mappings; a system message that begins them becomes ``system``. Setting raises ArgumentError for malformed
        messages, TemplateError for a conversation that the template refuses, UnsupportedError for pictures or sounds
        that the model does not take, and ContextError for a conversation that is too large for the context by its size
        alone, unless the oldest turns may be dropped. Pictures and sounds are encoded in the next turn.
        """
        return list(self._messages)

    @history.setter
    def history(self, messages: Iterable[MessageLike]) -> None:
        self._check_idle()
        checked = [self._restored(message) for message in to_messages(messages, "history")]
        system = self.system
        if checked and checked[0].role == "system":
            system = checked.pop(0).text
        for i, message in enumerate(checked):
            if message.role == "system":
                raise ArgumentError(f"history: the system message after {i} others, expected it to be the first")
        if checked:
            self._check_history(system, checked)
        self._messages, self._first, self.system = checked, 0, system

    @property
    def overflow(self) -> Overflow:
        """What happens when the context is full: "error" or "drop_oldest". See ``Model.chat``."""
        return self._overflow

    @overflow.setter
    def overflow(self, value: Overflow) -> None:
        self._overflow = check_overflow(value)

    @property
    def dropped_messages(self) -> int:
        """How many of the oldest messages of ``history`` are left out of the prompt, since the context was full."""
        return self._first

    def send(
        self,
        message: Said,
        *,
        prefill: str = "",
        on_text: Callable[[str], object] | None = None,
        on_media: Callable[[float], object] | None = None,
        **options: Unpack[GenerateOptions],
    ) -> GenerateResult:
        """Send a message and return the reply.

        Args:
            message: the text of a user, an Image, an Audio, or a list of these in any order; or a Message, a mapping,
                or several of them, such as the results of tools.
            prefill: the beginning of the reply, which the model goes on with. Control tokens in it are text, and white
                space at its ends goes where the template trims. The text of the result begins with it; stop strings are
                looked for in what follows.
            on_text: gets each piece as it comes, the prefill first.
            on_media: gets the share of the new pictures and sounds that is encoded, from 0 to 1.
            options: for this turn.

        Raises:
            ContextError: the conversation has grown beyond the context; the message gives both lengths.
            TemplateError: the template refuses the conversation.
        """
        return self.stream(message, prefill=prefill, on_media=on_media, **options).finish(on_text)

    def stream(
        self,
        message: Said,
        *,
        prefill: str = "",
        on_media: Callable[[float], object] | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Stream:
        """Send a message and stream the reply. Closing the iterator takes the turn back. See ``send``."""
        turn = self._begin(message, prefill, options, Encode(on_media))
        try:
            prompt = self._encode(turn)

            def keep(result: GenerateResult) -> None:
                self._keep(turn, result)

            if self._scheduler is None:
                core = to_core(turn.options, self._session.context)
                stream = Stream(self._session._core.generate(prompt.core, core), core.sampling.seed, keep)
            else:
                stream = self._scheduler.stream(prompt.core, session=self._session, on_end=keep, **turn.options)
            stream.prefill, stream.dropped_messages = prompt.prefill, turn.dropped
            self._source = stream.source
            self._active = weakref.ref(stream)
            return stream
        finally:
            turn.ended = True

    async def asend(
        self,
        message: Said,
        *,
        prefill: str = "",
        on_text: Callable[[str], object] | None = None,
        on_media: Callable[[float], object] | None = None,
        **options: Unpack[GenerateOptions],
    ) -> GenerateResult:
        """``send`` for asyncio: replies that are awaited at the same time are batched, by the chat's scheduler or the
        one of ``Model.agenerate``. ``on_text`` and ``on_media`` are called in the event loop. Cancelling the task takes
        the turn back.
        """
        turn = self._begin(message, prefill, options, EncodeApart(on_media))
        try:
            result = await self._answer(turn, on_text)
            self._keep(turn, result)
            return result
        finally:
            turn.ended = True

    async def astream(
        self,
        message: Said,
        *,
        prefill: str = "",
        on_media: Callable[[float], object] | None = None,
        **options: Unpack[GenerateOptions],
    ) -> AsyncIterator[str]:
        """Like ``asend``, piece by piece; leaving the loop early and closing, or cancelling, takes the turn back."""
        turn = self._begin(message, prefill, options, EncodeApart(on_media))
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

    def check_media(self, *media: Image | Audio) -> None:
        """Raise what a message with these pictures and sounds would raise for their sake: UnsupportedError where the
        model does not see or hear, and FormatError for one that is damaged.
        """
        self._model._media.check(media)

    def undo(self) -> bool:
        """Take the last turn back, with all replies and results of tools in it; False if there is none. The next turn
        decides anew which of the oldest messages are left out of the prompt.
        """
        self._check_idle()
        turns = turn_starts(self._messages)
        if turns:
            del self._messages[turns[-1] :]
            self._first = 0
        return bool(turns)

    def reset(self) -> None:
        """Forget everything but the system instruction."""
        self._check_idle()
        self._messages.clear()
        self._first = 0

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the conversation as JSON. A file that is there stays until the new one is whole.

        Raises:
            ArgumentError: what no file can be called.
            FileError: the file cannot be written, or is one of the model's, a symbolic link or no regular file; or the
                conversation, with its pictures and sounds, is larger than ``load`` takes.
        """
        saved = SavedChat(self._model.info.fingerprint, self.system, self._messages)
        saved.write(to_path(path), self._model._files())

    def load(self, path: str | os.PathLike[str]) -> None:
        """Go on with a conversation that ``save`` wrote, by this model or another.

        Raises:
            FileError: the file cannot be read, is no regular file, or is too large.
            FormatError: the file is not a saved conversation.
            UnsupportedError: it has pictures or sounds, and the model does not see or hear.
        """
        self._check_idle()
        saved = SavedChat.read(to_path(path))
        self._model._media.require(_media(saved.messages))
        same_model = saved.model == self._model.info.fingerprint
        self._messages = [self._restored(message, same_model) for message in saved.messages]
        self._first, self.system = 0, saved.system

    def _check_idle(self) -> None:
        active = self._active() if self._active is not None else None
        if active is not None and not active.ended:
            raise ArgumentError(_BUSY)

    def _begin(self, message: Said, prefill: str, options: GenerateOptions, encode: Encode) -> _Turn:
        """A turn, which the chat is busy with until it has ended."""
        self._check_idle()
        question = _question(message)
        if not question or question[-1].role not in ("user", "tool"):
            found = f"a message of the role {question[-1].role!r}" if question else "none"
            raise ArgumentError(f"message: expected a user's or the result of a tool, found {found} at the end")
        for said in (self.system or "", prefill, *(each.text for each in question)):
            require_room(self._model._engine, len(to_bytes(said)), self._session.context)
        merged = cast(GenerateOptions, {"max_tokens": None, **self._options, **options})
        turn = _Turn(question, prefill, merged, encode)
        # Another thread, or a signal handler that has interrupted this one, may begin a turn meanwhile.
        if not self._beginning.acquire(blocking=False):
            raise ArgumentError(_BUSY)
        try:
            self._check_idle()
            self._active = weakref.ref(turn)
        finally:
            self._beginning.release()
        turn.first = self._first
        if self._source is not None:
            self._source.close()  # of a stream that was dropped: it may still have the session
        return turn

    def _encode(self, turn: _Turn) -> Prompt:
        """The prompt of the turn, which leaves out the oldest turns if it has to."""
        messages = [*self._messages[turn.first :], *turn.question]
        starts = _cuts(messages) if self._overflow == "drop_oldest" else [0]

        def encode(dropped: int) -> Prompt:
            shown = messages[starts[dropped] :]
            encoded = self._model._media.encode_all(_media(shown), turn.encode)
            said = _with_system(self.system, shown)
            if turn.prefill:
                said = [*said, Message("assistant", turn.prefill)]
            return self._template.prompt(
                said,
                tools=self._tools,
                variables=self._variables,
                continue_final_message=bool(turn.prefill),
                encode=encoded.__getitem__,
            )

        context = self._session.context
        reserve = reply_reserve(turn.options.get("max_tokens"), context)
        least = self._least_dropped(self.system, messages, starts)
        dropped, turn.prompt = drop_oldest(encode, len(starts) - 1, context, reserve, least)
        turn.first += starts[dropped]
        turn.dropped = starts[dropped]
        return turn.prompt

    def _least_dropped(self, system: str | None, messages: Sequence[Message], starts: Sequence[int]) -> int:
        """The index of the first start from which on the messages may fit, as far as their size alone tells: tokenising
        them might take gigabytes. Raises ContextError if there is none.
        """
        engine, context = self._model._engine, self._session.context
        before, *sizes = map(self._template.least_bytes, [Message("system", system or ""), *messages])
        places = [self._model._media.least_places(message.media) for message in messages]

        def size(dropped: int) -> tuple[int, int]:
            return before + sum(sizes[starts[dropped] :]), sum(places[starts[dropped] :])

        def fits(dropped: int) -> bool:
            text, media = size(dropped)
            return engine.fewest_tokens(text) + media <= context

        least = bisect_left(range(len(starts) - 1), True, key=fits)
        text, media = size(least)
        require_room(engine, text, context, media)
        return least

    async def _answer(self, turn: _Turn, on_text: Callable[[str], object] | None) -> GenerateResult:
        scheduler = self._scheduler or self._model.shared_scheduler()
        shown = [*self._messages[turn.first :], *turn.question]
        slow = not self._model._media.is_encoded(_media(shown))
        try:
            prompt = await self._template.encode_apart(partial(self._encode, turn), slow=slow)
        except asyncio.CancelledError:
            turn.encode.cancel()
            raise
        except CancelledError as cancelled:
            raise turn.encode.failure or cancelled from None
        if turn.encode.failure is not None:
            raise turn.encode.failure
        if prompt.prefill and on_text is not None:
            on_text(prompt.prefill)
        result = await scheduler.agenerate(prompt.core, session=self._session, on_text=on_text, **turn.options)
        return replace(result, text=prompt.prefill + result.text, prefill=prompt.prefill, dropped_messages=turn.dropped)

    def _keep(self, turn: _Turn, result: GenerateResult) -> None:
        if result.finish_reason != "cancelled" and turn.prompt is not None:
            reply = self._as_message(turn.prompt, result)
            self._first = min(turn.first, len(self._messages))  # another thread may have shortened them meanwhile
            self._messages += [*turn.question, reply]

    def _check_history(self, system: str | None, messages: Sequence[Message]) -> None:
        """Raise what a prompt of the messages would raise, or of those that could be in one."""
        starts = [*_cuts(messages), len(messages)] if self._overflow == "drop_oldest" else [0]
        shown = messages[starts[self._least_dropped(system, messages, starts)] :]
        if shown:
            self._template.prompt(
                _with_system(system, shown),
                tools=self._tools,
                variables=self._variables,
                add_generation_prompt=shown[-1].role != "assistant",
                encode=lambda _: (),  # the first turn encodes them, and need not be on this thread
            )

    def _restored(self, message: Message, same_model: bool = True) -> Message:
        """The message, with its tokens if they are this model's and stand for its text."""
        tokens = message.tokens
        known = range(self._model.info.vocabulary)
        same = same_model and tokens is not None and all(token in known for token in tokens)
        if same and self._model.detokenize(tokens or ()) == message.text:
            return message
        return replace(message, tokens=None)

    def _as_message(self, prompt: Prompt, result: GenerateResult) -> Message:
        """The tokens of the prefill and the sampled ones are kept if they are the text: a stop string cuts the text but
        not the tokens.
        """
        tokens = (*(prompt.prefill_tokens or ()), *result.tokens)
        same = self._model.detokenize(tokens) == result.text
        return Message("assistant", result.text, tokens if same else None)


def _question(message: Said) -> list[Message]:
    if isinstance(message, (str, Image, Audio)):
        message = [message]
    if isinstance(message, (Message, Mapping)):
        return [Message.of(message)]
    message = list(message)
    if any(
        isinstance(part, (str, Image, Audio)) or (isinstance(part, Mapping) and "role" not in part) for part in message
    ):
        return [Message.of({"role": "user", "content": message})]
    return to_messages(message, "message")


def _media(messages: Sequence[Message]) -> list[Image | Audio]:
    return [medium for message in messages for medium in message.media]


def _cuts(messages: Sequence[Message]) -> list[int]:
    """Where a prompt may begin when the oldest turns are left out; what stands before the first turn goes with it."""
    return [0, *turn_starts(messages)[1:]]


def _with_system(system: str | None, messages: Sequence[Message]) -> list[Message]:
    return [Message("system", system), *messages] if system else list(messages)
