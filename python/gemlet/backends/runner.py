"""What a runtime has to offer, so that an exported model can answer like any other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Cache(Protocol):
    """The keys and values of one timeline."""

    @property
    def length(self) -> int:
        """Positions held."""

    def truncate(self, length: int) -> None:
        """Forget all but the first `length` positions."""

    def copy(self) -> Cache:
        """One that goes its own way."""


class Runner(Protocol):
    """An exported model in its runtime."""

    @property
    def runtime(self) -> str:
        """Its name and version."""

    @property
    def threads(self) -> int:
        """That compute a product."""

    @property
    def context(self) -> int:
        """Most positions of a timeline."""

    def empty(self) -> Any:
        """A cache of this runner without positions."""

    def run(self, cache: Any, tokens: Sequence[int], all: bool) -> NDArray[np.float32]:
        """Append tokens to a cache that `empty` made.

        Args:
            cache: has room for them.
            tokens: at least one, all in the vocabulary.
            all: the logits after each of them, shape (len(tokens), vocabulary); otherwise after the last, (1, ...).
        """
