"""Many answers at a time, as a server wants them."""

import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Unpack

from gemlet import _core
from gemlet.options import GenerateOptions, to_core
from gemlet.result import GenerateResult
from gemlet.session import Session


class Scheduler:
    """Answers requests from any thread together, on a thread of its own: each pass over the weights computes a token of
    every answer that is being written. Requests join and leave between passes; each gets what it would get alone. Get
    one from ``Model.scheduler()``.
    """

    def __init__(self, core: _core.Scheduler, context: int) -> None:
        """Start the thread, which ends with this object. ``context``: of a session."""
        thread = threading.Thread(target=core.run, name="gemlet-scheduler", daemon=True)
        self._core = core
        self._context = context
        self._close = weakref.finalize(self, _stop, core, thread)
        thread.start()

    def submit(
        self,
        prompt: Sequence[int],
        *,
        session: Session | None = None,
        on_text: Callable[[str], object] | None = None,
        **options: Unpack[GenerateOptions],
    ) -> "Future[GenerateResult]":
        """Ask for an answer to a prompt of tokens. Cancelling the future ends the computation.

        Args:
            prompt: as it is.
            session: what it holds of the prompt is not computed again; it is left as it is.
            on_text: gets each piece as it comes, on the scheduler's thread; what it raises ends the answer.
            options: see GenerateOptions.

        Raises:
            ContextError: the prompt is longer than the context.
            ArgumentError: an empty prompt, or an option out of range.
        """
        core = to_core(options, self._context)
        future: Future[GenerateResult] = Future()

        def end(raw: "_core._Result | None", error: BaseException | None) -> None:
            with suppress(InvalidStateError):  # it was cancelled
                if error is not None:
                    future.set_exception(error)
                elif raw is not None:
                    future.set_result(GenerateResult.of(raw, core.sampling.seed))

        number = self._core.submit(prompt, core, on_text, end, session._core if session is not None else None)
        future.add_done_callback(lambda done: self._core.cancel(number) if done.cancelled() else None)
        return future

    def close(self) -> None:
        """Stop; what is not finished ends as it is, with ``finish_reason`` "cancelled"."""
        self._close()


def _stop(core: _core.Scheduler, thread: threading.Thread) -> None:
    core.stop()
    if thread is not threading.current_thread():  # a callback may let go of the last reference
        thread.join()
