"""Sessions, for callers who drive the model themselves: prefill, decode, rewind, fork, save."""

import functools
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Unpack

from gemlet import _core
from gemlet.arguments import checked, checked_methods
from gemlet.errors import ArgumentError
from gemlet.files import to_path
from gemlet.forked import importing
from gemlet.options import GenerateOptions, to_core
from gemlet.result import GenerateResult
from gemlet.stream import Stream

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@checked_methods
class Session:
    """A timeline, that is one sequence of tokens, with its KV cache. Used by one thread at a time: a second call while
    one runs raises ArgumentError. Memory is allocated as the timeline grows. Get one from ``Model.session()``.
    """

    def __init__(self, core: _core.Session) -> None:
        """Wrap a core session."""
        self._core = core

    @property
    def context(self) -> int:
        """The largest number of tokens that fit."""
        return self._core.context

    @property
    def position(self) -> int:
        """The number of tokens held."""
        return self._core.position

    @property
    def tokens(self) -> list[int]:
        """The tokens held."""
        return self._core.tokens

    def prefill(self, tokens: Sequence[int]) -> "NDArray[np.float32]":
        """Append tokens; return the logits after the last one, shape (vocabulary,).

        Raises:
            ContextError: they do not fit; the message gives both lengths and nothing has changed.
            ArgumentError: no tokens, or an id outside the vocabulary.
        """
        _import_numpy()
        return self._core.prefill(tokens)

    def prefill_all(self, tokens: Sequence[int]) -> "NDArray[np.float32]":
        """Append tokens; return the logits after each of them, shape (len(tokens), vocabulary).

        That is a megabyte a token for a vocabulary of 262144.
        """
        _import_numpy()
        return self._core.prefill(tokens, all=True)

    def step(self, token: int) -> "NDArray[np.float32]":
        """Append one token; return the logits after it, shape (vocabulary,)."""
        _import_numpy()
        self._core.step_all([self._core], [token])
        return self._core.logits()

    def logits(self) -> "NDArray[np.float32]":
        """The logits after the last token, shape (vocabulary,)."""
        _import_numpy()
        return self._core.logits()

    def rewind(self, position: int) -> None:
        """Forget all but the first ``position`` tokens.

        Free within the slack of the sliding windows; further back the kept tokens are computed again, at the next
        prefill.
        """
        self._core.rewind(position)

    def advance_to(self, tokens: Sequence[int]) -> int:
        """Keep the longest common prefix with ``tokens`` and prefill the rest; return how many tokens were reused."""
        return self._core.advance_to(tokens)

    def fork(self) -> "Session":
        """An independent copy, which shares memory until either changes."""
        return Session(self._core.fork())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the timeline to a file that ``Model.restore`` reads; an old file stays until the new one is whole.

        Raises:
            ArgumentError: what no file can be called.
            FileError: the file cannot be written, or is the model, a symbolic link or no regular file.
        """
        self._core.save(to_path(path))

    def stream(self, prompt: Sequence[int], **options: Unpack[GenerateOptions]) -> Stream:
        """Bring the timeline to ``prompt``, computing only what is new, and generate a completion piece by piece."""
        core = to_core(options, self.context)
        return Stream(self._core.generate(prompt, core), core.sampling.seed)

    def generate(
        self,
        prompt: Sequence[int],
        *,
        on_text: Callable[[str], object] | None = None,
        **options: Unpack[GenerateOptions],
    ) -> GenerateResult:
        """Bring the timeline to ``prompt``, computing only what is new, and generate a completion."""
        return self.stream(prompt, **options).finish(on_text)


@functools.cache
def _import_numpy() -> None:
    """What the core would import for its first array, without the lock for that."""
    with importing:
        import numpy  # noqa: F401


@checked
def step_batch(sessions: Sequence[Session], tokens: Sequence[int]) -> None:
    """Append one token to each of several distinct sessions of one model, computed together."""
    if not sessions:
        raise ArgumentError("step_batch: expected at least one session, found none")
    sessions[0]._core.step_all([session._core for session in sessions], tokens)
