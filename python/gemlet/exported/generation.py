"""Answers of exported models: another runtime computes the logits, the core does the rest."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from gemlet import _core
from gemlet.errors import CancelledError, GemletError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Timeline(Protocol):
    """The part of a session that an answer uses."""

    def use(self) -> AbstractContextManager[None]:
        """Refuses a second call while one runs."""

    def answer(self, prompt: Sequence[int], options: _core.GenerateOptions) -> _core.Answer:
        """The sampling and stopping of an answer that has not begun."""

    def advance(self, tokens: Sequence[int], cancelled: threading.Event) -> int:
        """Bring the timeline to `tokens`; returns how many were there before."""

    def last_logits(self) -> NDArray[np.float32]:
        """The logits after the last token."""

    def next_logits(self, token: int) -> NDArray[np.float32]:
        """Append a token; returns the logits after it."""


class ExportedGeneration:
    """Counterpart of gemlet._core.Generation: one answer after the other, each computed while it is read."""

    def __init__(
        self,
        sessions: Sequence[Callable[[], Timeline]],
        prompts: Sequence[Sequence[int]],
        options: Sequence[_core.GenerateOptions],
    ) -> None:
        """`sessions` make or give the timeline of each answer when its turn comes."""
        self._sessions = sessions
        self._prompts = [list(prompt) for prompt in prompts]
        self._options = options
        self._cancelled = threading.Event()
        self._reader = threading.Lock()
        self._results: list[_core._Result] = []
        self._started = False
        self._done = False
        self._pieces = self._run()

    def next(self) -> tuple[int, str] | None:
        """The index of an answer and its next piece; None at the end."""
        with self._reader:
            self._started = True
            try:
                return next(self._pieces)
            except StopIteration:
                self._done = True
                return None

    def cancel(self) -> None:
        """Ask the computation to stop: it ends with what there is."""
        self._cancelled.set()

    def close(self) -> None:
        """Stop the computation and wait for that."""
        self.cancel()
        if not self._started:
            self._pieces.close()
            return
        while not self._done and self.next() is not None:
            pass

    def results(self) -> list[_core._Result]:
        """Empty until all answers have ended, and after a failure."""
        return list(self._results) if self._done and len(self._results) == len(self._prompts) else []

    def _run(self) -> Generator[tuple[int, str], None, None]:
        for index, (session, prompt, options) in enumerate(
            zip(self._sessions, self._prompts, self._options, strict=True)
        ):
            try:
                for text in self._answer(session(), prompt, options):
                    yield index, text
            except GemletError as error:
                if len(self._prompts) == 1:
                    raise
                raise type(error)(f"prompt {index}: {error}") from error

    def _answer(self, session: Timeline, prompt: Sequence[int], options: _core.GenerateOptions) -> Iterator[str]:
        called = time.perf_counter()
        with session.use():
            answer = session.answer(prompt, options)
            reused = 0
            prefill = decode = first = 0.0
            try:
                reused = session.advance(prompt, self._cancelled)
                prefill = time.perf_counter() - called
                text = answer.sample(session.last_logits())
                first = time.perf_counter() - called
                while True:
                    if text:
                        yield text
                    if not answer.running:
                        break
                    self._stop_if_cancelled()
                    start = time.perf_counter()
                    text = answer.sample(session.next_logits(answer.last_token))
                    decode += time.perf_counter() - start
            except CancelledError:
                answer.finish("cancelled")  # the rest of its text is nobody's to read
            self._results.append(
                answer.result(
                    reused_tokens=reused, prefill_seconds=prefill, decode_seconds=decode, first_token_seconds=first
                )
            )

    def _stop_if_cancelled(self) -> None:
        if self._cancelled.is_set():
            raise CancelledError("generation was cancelled")
