"""A timeline of an exported model."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gemlet import _core
from gemlet.errors import ArgumentError, CancelledError, ContextError, FormatError, UnsupportedError

from .generation import ExportedGeneration
from .runner import Runner, Want

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PIECE: Final = 512
"""Tokens of a prompt that are computed at a time: between pieces a computation can be cancelled."""

_never = threading.Event()


class ExportedSession:
    """Counterpart of gemlet._core.Session. The cache may hold fewer positions than tokens; the rest is computed when
    it is needed."""

    def __init__(self, runner: Runner, tokenizer: _core.Tokenizer, context: int, cache: Any = None) -> None:
        """Holds `context` tokens; 0 for as many as the model can. Without a cache it begins empty."""
        if not 0 <= context <= runner.context:
            raise ArgumentError(f"context is {context}, expected 1 to {runner.context}, or 0 for the engine's")
        self._runner = runner
        self._tokenizer = tokenizer
        self._context = context or runner.context
        self._cache = runner.empty() if cache is None else cache
        self._tokens: list[int] = []
        self._logits: NDArray[np.float32] | None = None
        self._busy = threading.Lock()

    @property
    def context(self) -> int:
        """Tokens that it can hold."""
        return self._context

    @property
    def position(self) -> int:
        """Tokens that it holds."""
        with self.use():
            return len(self._tokens)

    @property
    def tokens(self) -> list[int]:
        """The tokens that it holds."""
        with self.use():
            return list(self._tokens)

    def prefill(self, tokens: Sequence[int], all: bool = False) -> NDArray[np.float32]:
        """Append tokens; the logits after the last, shape (vocabulary,), or after all of them."""
        with self.use():
            logits = self._append(tokens, all, _never)
            return logits if all else logits[-1]

    def logits(self) -> NDArray[np.float32]:
        """The logits after the last token."""
        with self.use():
            if self._logits is None:
                raise ArgumentError("there are no logits: nothing was computed since the session began or rewound")
            return self._logits.copy()

    def rewind(self, position: int) -> None:
        """Forget all but the first `position` tokens."""
        with self.use():
            if not 0 <= position <= len(self._tokens):
                raise ArgumentError(f"rewind to {position}, expected 0 to {len(self._tokens)}")
            self._rewind(position)

    def advance_to(self, tokens: Sequence[int]) -> int:
        """Keep the longest common prefix with `tokens`, compute the rest; how many were reused."""
        with self.use():
            return self.advance(tokens, _never)

    def fork(self) -> ExportedSession:
        """A copy that goes its own way."""
        with self.use():
            copy = ExportedSession(self._runner, self._tokenizer, self._context, self._cache.copy())
            copy._tokens = list(self._tokens)
            copy._logits = self._logits
            return copy

    def save(self, path: str | os.PathLike[str]) -> None:
        """Not for exported models."""
        raise UnsupportedError(f"{path}: timelines of exported models are not saved; load the GGUF file for that")

    def generate(self, prompt: Sequence[int], options: _core.GenerateOptions) -> ExportedGeneration:
        """Bring the timeline to `prompt` and answer."""
        return ExportedGeneration([lambda: self], [prompt], [options])

    @staticmethod
    def step_all(sessions: Sequence[ExportedSession], tokens: Sequence[int]) -> None:
        """Append one token to each of several sessions, one after the other."""
        if not sessions or len(sessions) != len(tokens):
            raise ArgumentError(
                f"step takes one token a session, got {len(sessions)} sessions and {len(tokens)} tokens"
            )
        if len({id(session) for session in sessions}) < len(sessions):
            raise ArgumentError("step takes each session once")
        for session, token in zip(sessions, tokens, strict=True):
            session._check([token])
        for session, token in zip(sessions, tokens, strict=True):
            session.prefill([token])

    # For an answer that holds the session.

    @contextmanager
    def use(self) -> Iterator[None]:
        """Refuses a second call while one runs."""
        if not self._busy.acquire(blocking=False):
            raise ArgumentError("the session is busy: another call on it has not finished, or it was given twice")
        try:
            yield
        finally:
            self._busy.release()

    def advance(self, tokens: Sequence[int], cancelled: threading.Event) -> int:
        """`advance_to`, for the holder of the session. A cancelled call leaves the old tokens."""
        if not tokens:
            raise ArgumentError("the prompt is empty: expected at least one token")
        if len(tokens) > self._context:
            raise ContextError(f"the prompt has {len(tokens)} tokens, the context holds {self._context}")
        self._check_ids(tokens)
        common = 0
        while common < min(len(self._tokens), len(tokens) - 1) and self._tokens[common] == tokens[common]:
            common += 1
        before, logits = list(self._tokens), self._logits
        self._rewind(common)
        reused: int = self._cache.length
        try:
            self._append(tokens[common:], False, cancelled)
        except BaseException:
            self._tokens, self._logits = before, logits
            raise
        return reused

    def next_logits(self, token: int) -> NDArray[np.float32]:
        """Append a token and return the logits after it, for the holder of the session."""
        logits: NDArray[np.float32] = self._append([token], False, _never)[-1]
        return logits

    def last_logits(self) -> NDArray[np.float32]:
        """The logits after the last token, for the holder of the session."""
        assert self._logits is not None
        return self._logits

    def answer(self, prompt: Sequence[int], options: _core.GenerateOptions) -> _core.Answer:
        """An answer to come."""
        if options.speculate != "none":
            raise ArgumentError("speculate: exported models do not guess tokens ahead; load the GGUF file for that")
        return _core.Answer(self._tokenizer, self._context, prompt, options)

    def _append(self, tokens: Sequence[int], all: bool, cancelled: threading.Event) -> NDArray[np.float32]:
        self._check(tokens)
        length = len(self._tokens)
        missing = self._tokens[self._cache.length :]
        try:
            for piece in _pieces(missing):
                self._run(piece, "none", cancelled)
            *most, last = _pieces(tokens)
            found = [self._run(piece, "all" if all else "none", cancelled) for piece in most]
            found.append(self._run(last, "all" if all else "last", cancelled))
        except BaseException:
            self._cache.truncate(min(length, self._cache.length))
            raise
        self._tokens += tokens
        logits = np.concatenate(found) if all else found[-1]
        self._logits = logits[-1]
        return logits

    def _run(self, tokens: Sequence[int], want: Want, cancelled: threading.Event) -> NDArray[np.float32]:
        if cancelled.is_set():
            raise CancelledError("the computation was cancelled")
        logits = self._runner.run(self._cache, tokens, want)
        if want != "none" and np.isnan(logits).any():
            raise FormatError("the model computes values that are not numbers; its weights are damaged")
        return logits

    def _rewind(self, position: int) -> None:
        if position == len(self._tokens):
            return
        del self._tokens[position:]
        self._cache.truncate(min(position, self._cache.length))
        self._logits = None

    def _check(self, tokens: Sequence[int]) -> None:
        if not tokens:
            raise ArgumentError("there are no tokens: expected at least one")
        self._check_ids(tokens)
        if len(tokens) > self._context - len(self._tokens):
            raise ContextError(
                f"the context holds {self._context} tokens, {len(self._tokens)} are taken: "
                f"{len(tokens)} more do not fit"
            )

    def _check_ids(self, tokens: Sequence[int]) -> None:
        vocabulary = self._tokenizer.vocabulary
        for token in tokens:
            if not 0 <= token < vocabulary:
                raise ArgumentError(f"token {token} lies outside the vocabulary of {vocabulary}")


def _pieces(tokens: Sequence[int]) -> list[Sequence[int]]:
    return [tokens[start : start + _PIECE] for start in range(0, len(tokens), _PIECE)]
