"""An answer that arrives in pieces."""

from collections.abc import Callable, Iterator
from types import TracebackType

from gemlet import _core
from gemlet.result import GenerateResult


class Stream(Iterator[str]):
    """Iterates over the pieces of an answer: whole characters, never part of a stop string.

    The answer is computed while it is read: between two pieces the model rests. Closing the iterator, or dropping it,
    stops the computation. Also a context manager that closes.
    """

    def __init__(
        self, generation: _core.Generation, seed: int, on_end: Callable[[GenerateResult], None] | None = None
    ) -> None:
        """``on_end`` is called once with an answer that was read to its end, not with one that was stopped."""
        self._generation = generation
        self._seed = seed
        self._on_end = on_end
        self._ended = False

    @property
    def ended(self) -> bool:
        """True once there are no more pieces."""
        return self._ended

    @property
    def result(self) -> GenerateResult | None:
        """The whole answer once it has ended; what there was if it was stopped; None before, or after an error."""
        results = self._generation.results()
        return GenerateResult.of(results[0], self._seed) if results else None

    def __next__(self) -> str:
        """Compute the next piece. Raises what the core raises, and KeyboardInterrupt on Ctrl-C."""
        if self._ended:
            raise StopIteration
        try:
            piece = self._generation.next()
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
        """Read to the end. ``on_text`` gets every piece; what it raises stops the answer and goes on to the caller."""
        with self:
            for piece in self:
                if on_text is not None:
                    on_text(piece)
            result = self.result
        if result is None:
            raise RuntimeError("the stream was read by someone else, who got its error")
        return result

    def cancel(self) -> None:
        """Ask the computation to stop, from any thread: the iterator ends early with what there is."""
        self._generation.cancel()

    def close(self) -> None:
        """Stop the computation and wait for that."""
        self._ended = True
        self._generation.close()

    def __enter__(self) -> "Stream":
        """Return the stream itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()
