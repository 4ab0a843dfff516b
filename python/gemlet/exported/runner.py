"""The interface of a runtime: what lets an exported model be used like any other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


Want = Literal["all", "last", "none"]
Media = Sequence[tuple[int, "NDArray[np.float32]"]]
"""Pictures and sounds among tokens, or parts of them: the index of the first token that each stands in for, and its
embeddings as they enter the first layer, [tokens][hidden]."""


class Cache(Protocol):
    """The KV cache of one sequence."""

    @property
    def length(self) -> int:
        """Number of positions held."""

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""

    def truncate(self, length: int) -> None:
        """Forget all but the first `length` positions."""

    def copy(self) -> Cache:
        """An independent copy."""


class Runner(Protocol):
    """An exported model in its runtime."""

    @property
    def runtime(self) -> str:
        """Name and version of the runtime."""

    @property
    def threads(self) -> int:
        """Number of worker threads."""

    @property
    def context(self) -> int:
        """Largest number of positions of a sequence."""

    def empty(self) -> Any:
        """An empty cache."""

    def run(self, cache: Any, tokens: Sequence[int], want: Want) -> NDArray[np.float32]:
        """Append tokens to a cache that `empty` made.

        Args:
            cache: has room for them.
            tokens: at least one, all in the vocabulary.
            want: the logits after all of them, shape (len(tokens), vocabulary); after the last, shape (1, vocabulary);
                or none, and then what is returned is of no use to anyone.
        """


class MediaRunner(Runner, Protocol):
    """One whose sequences may hold pictures and sounds."""

    @property
    def takes_media(self) -> bool:
        """Whether they may; a runner that does not tell takes tokens alone."""

    def run(self, cache: Any, tokens: Sequence[int], want: Want, media: Media = ()) -> NDArray[np.float32]:
        """Append tokens to a cache that `empty` made.

        media: what stands in for some of the tokens, which are 0 then.
        """
