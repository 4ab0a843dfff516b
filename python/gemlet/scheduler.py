"""Continuous batching: many completions at a time, as a server needs them."""

import asyncio
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Unpack

from gemlet import _core
from gemlet.arguments import checked_methods
from gemlet.errors import OutOfMemoryError
from gemlet.forked import renew_in_children
from gemlet.options import GenerateOptions, to_core
from gemlet.result import GenerateResult, Piece, TokenLogProb
from gemlet.session import Session
from gemlet.stream import Stream


@checked_methods
class Scheduler:
    """Continuous batching, on a thread of its own, of requests from any thread: each pass over the weights computes a
    token of every completion under way. Requests join and leave between passes; each gets what it would get alone. Get
    a scheduler from ``Model.scheduler()``.

    A request may bring a session to go on with. Until the completion has ended, that session is busy for all others;
    then it holds the prompt and the completion, ready for the next turn. Give a fork to keep the original.

    A forked child of the process has a fresh scheduler. Requests that had not ended before the fork fail there with
    ArgumentError, and their sessions are empty.
    """

    def __init__(self, make_core: Callable[[], _core.Scheduler], context: int) -> None:
        """Start the thread, which ends with this object. ``context``: of a session.

        Raises OutOfMemoryError if the system refuses the thread.
        """
        self._make_core = make_core
        self._context = context
        self._requests = weakref.WeakSet[Future[GenerateResult]]()
        self._start()
        renew_in_children(self)

    @property
    def active(self) -> int:
        """Number of requests that are being computed."""
        return self._core.load()[0]

    @property
    def waiting(self) -> int:
        """Number of requests that wait for their turn."""
        return self._core.load()[1]

    def submit(
        self,
        prompt: Sequence[int] | _core.Prompt,
        *,
        session: Session | None = None,
        on_text: Callable[[str], object] | None = None,
        on_piece: Callable[[Piece], object] | None = None,
        prefix_scope: str = "",
        **options: Unpack[GenerateOptions],
    ) -> "Future[GenerateResult]":
        """Request the completion of a prompt. Cancelling the future ends the computation.

        Args:
            prompt: its tokens.
            session: to go on with; what it holds of the prompt is not computed again.
            on_text: gets each piece of text as it comes, on the scheduler's thread; what it raises ends the request.
            on_piece: gets every token that is sampled, with its text and log-probabilities, likewise.
            prefix_scope: cached prefixes are shared with requests of the same scope only, such as an API key. A session
                that requests of several scopes go on with is not cached; nor is one that was saved under a scope and
                restored, because the file does not tell the scope.
            options: see GenerateOptions.

        Raises:
            ContextError: the prompt is longer than the context.
            ArgumentError: an empty prompt, an option out of range, a busy session, or a scheduler that was closed.
            OverloadError: as many requests wait as may.
        """
        future = self._new_future()
        core = self._options(options, session)
        cancel = self._submit(prompt, core, session, _both(on_text, on_piece), _resolve(future, core), prefix_scope)
        future.add_done_callback(lambda done: cancel() if done.cancelled() else None)
        return future

    async def agenerate(
        self,
        prompt: Sequence[int] | _core.Prompt,
        *,
        session: Session | None = None,
        on_text: Callable[[str], object] | None = None,
        on_piece: Callable[[Piece], object] | None = None,
        prefix_scope: str = "",
        **options: Unpack[GenerateOptions],
    ) -> GenerateResult:
        """``submit`` for asyncio. ``on_text`` and ``on_piece`` are called in the event loop.

        Cancelling the task ends the computation and waits for that, so that the session is back.
        """
        loop = asyncio.get_running_loop()
        future = self._new_future()
        failures: list[BaseException] = []
        both = _both(on_text, on_piece)

        def show(piece: Piece) -> None:
            try:
                if both is not None and not failures:
                    both(piece)
            except BaseException as failure:
                failures.append(failure)
                cancel()

        core = self._options(options, session)
        on_thread = None if both is None else lambda piece: loop.call_soon_threadsafe(show, piece)
        cancel = self._submit(prompt, core, session, on_thread, _resolve(future, core), prefix_scope)
        answer = asyncio.wrap_future(future)
        try:
            result = await asyncio.shield(answer)
        except asyncio.CancelledError:
            cancel()
            await asyncio.wait([answer])
            raise
        except GeneratorExit:  # the event loop was closed with this left unfinished
            cancel()
            raise
        if failures:
            raise failures[0]
        return result

    def stream(
        self,
        prompt: Sequence[int] | _core.Prompt,
        *,
        session: Session | None = None,
        prefix_scope: str = "",
        on_end: Callable[[GenerateResult], None] | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Stream:
        """Like ``submit``, to be read piece by piece. The completion is computed whether it is read or not;
        closing the iterator, or dropping it, stops that. ``on_end`` is called once with a completion that was read to
        its end.
        """
        core = self._options(options, session)
        return Stream(_Pieces(self, prompt, core, session, prefix_scope), core.sampling.seed, on_end)

    def close(self) -> None:
        """Stop; what is not finished ends as it is, with ``finish_reason`` "cancelled"."""
        self._close()

    def renew_after_fork(self) -> None:
        """In a forked child: fail what the parent computes, and begin with a thread of this process."""
        for future in list(self._requests):
            _renew_future(future)
        self._core.stop()  # tells those who wait for a request
        if self._close.detach() is not None:  # it was not closed before
            self._start()

    def _start(self) -> None:
        self._core = core = self._make_core()
        thread = threading.Thread(target=core.run, name="gemlet-scheduler", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            core.stop()  # what is submitted all the same is refused
            raise OutOfMemoryError(f"cannot start the scheduler's thread: {error}") from None
        self._close = weakref.finalize(self, _stop, core, thread)

    def _new_future(self) -> "Future[GenerateResult]":
        future: Future[GenerateResult] = Future()
        self._requests.add(future)
        return future

    def _options(self, options: GenerateOptions, session: Session | None) -> _core.GenerateOptions:
        return to_core(options, self._context if session is None else session.context)

    def _submit(
        self,
        prompt: Sequence[int] | _core.Prompt,
        options: _core.GenerateOptions,
        session: Session | None,
        on_piece: Callable[[Piece], object] | None,
        on_end: "Callable[[_core._Result | None, BaseException | None], object]",
        prefix_scope: str,
    ) -> Callable[[], None]:
        """Return what cancels the request. ``on_end`` is called once, whatever happens."""

        def show(text: str, tokens: list[int], logprobs: "list[_core._SampledToken]") -> None:
            if on_piece is not None:
                on_piece(Piece(text, tokens, [TokenLogProb(*entry) for entry in logprobs]))

        core = self._core
        held = None if session is None else session._core
        number = core.submit(prompt, options, None if on_piece is None else show, on_end, held, prefix_scope)
        return lambda: core.cancel(number)


class _Pieces:
    """The pieces of one completion, for a Stream."""

    def __init__(
        self,
        scheduler: Scheduler,
        prompt: Sequence[int] | _core.Prompt,
        options: _core.GenerateOptions,
        session: Session | None,
        prefix_scope: str,
    ) -> None:
        self._scheduler = scheduler  # which would end if it were dropped
        # Queues, which signal handlers may use again while they are being used, and which no thread holds at a fork.
        self._pieces = pieces = SimpleQueue[str | None]()
        self._ended = ended = SimpleQueue[None]()
        self._results = results = list["_core._Result"]()
        self._errors = errors = list[BaseException]()

        def show(piece: Piece) -> None:
            if piece.text:
                pieces.put(piece.text)

        def end(raw: "_core._Result | None", error: BaseException | None) -> None:
            if error is not None:
                errors.append(error)
            elif raw is not None:
                results.append(raw)
            ended.put(None)
            pieces.put(None)

        self.cancel = scheduler._submit(prompt, options, session, show, end, prefix_scope)

    def next(self) -> tuple[int, str] | None:
        try:
            piece = self._pieces.get()
        except BaseException:  # Ctrl-C
            self.close()
            raise
        if piece is not None:
            return 0, piece
        self._pieces.put(None)  # for whoever else reads
        if self._errors:
            raise self._errors[0]
        return None

    def close(self) -> None:
        self.cancel()
        self._ended.put(self._ended.get())

    def results(self) -> "list[_core._Result]":
        return self._results


def _both(
    on_text: Callable[[str], object] | None, on_piece: Callable[[Piece], object] | None
) -> Callable[[Piece], object] | None:
    if on_text is None:
        return on_piece

    def show(piece: Piece) -> None:
        if piece.text:
            on_text(piece.text)
        if on_piece is not None:
            on_piece(piece)

    return show


def _resolve(
    future: "Future[GenerateResult]", options: _core.GenerateOptions
) -> "Callable[[_core._Result | None, BaseException | None], None]":
    """Return an ``on_end`` that sets the future."""

    def end(raw: "_core._Result | None", error: BaseException | None) -> None:
        with suppress(InvalidStateError):  # it was cancelled
            if error is not None or raw is None:
                future.set_exception(error)
                return
            try:
                result = GenerateResult.of(raw, options.sampling.seed)
            except BaseException as failure:  # no memory, perhaps
                future.set_exception(failure)
            else:
                future.set_result(result)

    return end


def _renew_future(future: "Future[GenerateResult]") -> None:
    """In a forked child: replace the lock of a future, which another thread may have held, and forget who waited."""
    inner: Any = future
    inner._condition = threading.Condition()
    inner._waiters = []


def _stop(core: _core.Scheduler, thread: threading.Thread) -> None:
    core.stop()
    if thread is not threading.current_thread():  # a callback may let go of the last reference
        thread.join()
