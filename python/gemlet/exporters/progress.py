"""How far an export is."""

from __future__ import annotations

from collections.abc import Callable


class Progress:
    """Counts bytes over all steps of an export; the total grows as steps become known."""

    def __init__(self, show: Callable[[int, int], None] | None = None) -> None:
        """`show` gets the bytes done so far, and in all."""
        self._show = show
        self._done = 0
        self._total = 0

    def expect(self, count: int) -> None:
        """Announce work."""
        self._total += count

    def add(self, count: int) -> None:
        """Report work done."""
        self._done += count
        if self._show is not None:
            self._show(self._done, max(self._done, self._total))
