"""Streaming: a completion that arrives in pieces."""

import weakref
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Protocol

from gemlet import _core
from gemlet.arguments import Large, checked_methods
from gemlet.result import GenerateResult


class Source(Protocol):
    """Where the pieces come from: _core.Generation, or a scheduler."""

    def next(self) -> tuple[int, str] | None:
        """Wait for the next piece; None after the last. Raises what the completion failed with."""

    def cancel(self) -> None:
        """Ask for the end."""

    def close(self) -> None:
        """Ask for the end and wait for it."""

    def results(self) -> "list[_core._Result]":
        """The completion, once it has ended."""


@checked_methods
class Stream(Iterator[str]):
    """Iterates over the pieces of a completion: whole characters, never part of a stop string.

    The completion is computed while it is read: between two pieces nothing is computed, except by a scheduler. Closing
    the iterator, or dropping it, stops the computation. Also a context manager that closes.
    """

    prefill = ""
    """The beginning of the answer that the caller gave, in a chat: the first piece, before anything is computed."""
    dropped_messages = 0
    """The oldest messages of a chat that this turn begins to leave out of the prompt, since the context is full."""

    def __init__(self, source: Source, seed: Large, on_end: Callable[[GenerateResult], None] | None = None) -> None:
        """``on_end`` is called once with a completion that was read to its end, not with one that was stopped."""
        self.source = source
        self._begun = False
        self._seed = seed
        self._on_end = on_end
        self._ended = False
        weakref.finalize(self, source.cancel).atexit = False

    @property
    def ended(self) -> bool:
        """True once there are no more pieces."""
        return self._ended

    @property
    def result(self) -> GenerateResult | None:
        """The completion once it has ended, or as far as it got if it was stopped; None before, or after an error."""
        results = self.source.results()
        if not results:
            return None
        return GenerateResult.of(results[0], self._seed, prefill=self.prefill, dropped_messages=self.dropped_messages)

    def __next__(self) -> str:
        """Compute the next piece. Raises what the core raises, and KeyboardInterrupt on Ctrl-C."""
        if self._ended:
            raise StopIteration
        if not self._begun:
            self._begun = True
            if self.prefill:
                return self.prefill
        try:
            piece = self.source.next()
        except BaseException:
            self._ended = True
            raise
        if piece is not None:
            return piece[1]
        self._ended = True
        result = self.result
        if self._on_end is not None and result is not None and result.finish_reason != "cancelled":
            self._on_end(result)
        raise StopIteration

    def finish(self, on_text: Callable[[str], object] | None = None) -> GenerateResult:
        """Read to the end. ``on_text`` gets every piece; what it raises stops the computation and is raised here."""
        with self:
            for piece in self:
                if on_text is not None:
                    on_text(piece)
            result = self.result
        if result is None:
            raise RuntimeError("the stream was read by someone else, who got its error")
        return result

    def cancel(self) -> None:
        """Ask the computation to stop, from any thread: the iterator ends early, with the text so far."""
        self.source.cancel()

    def close(self) -> None:
        """Stop the computation and wait until it has stopped."""
        self._ended = True
        self.source.close()

    def __enter__(self) -> "Stream":
        """Return the stream itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()
