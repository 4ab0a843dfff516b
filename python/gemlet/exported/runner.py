"""What a runtime has to offer, so that an exported model can answer like any other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


Want = Literal["all", "last", "none"]


class Cache(Protocol):
    """The keys and values of one timeline."""

    @property
    def length(self) -> int:
        """Positions held."""

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""

    def truncate(self, length: int) -> None:
        """Forget all but the first `length` positions."""

    def copy(self) -> Cache:
        """One that goes its own way."""


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
        """Largest number of positions of a timeline."""

    def empty(self) -> Any:
        """A cache of this runner without positions."""

    def run(self, cache: Any, tokens: Sequence[int], want: Want) -> NDArray[np.float32]:
        """Append tokens to a cache that `empty` made.

        Args:
            cache: has room for them.
            tokens: at least one, all in the vocabulary.
            want: the logits after all of them, shape (len(tokens), vocabulary); after the last, shape (1, vocabulary);
                or none, and then what is returned is of no use to anyone.
        """
