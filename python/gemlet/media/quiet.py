"""Keeps the warnings of a library to itself."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from gemlet.forked import renew_in_children


class Silence:
    """No Python warnings while a block runs.

    The filters belong to the whole process: threads that left such blocks in another order than they entered them would
    keep each other's filters, so one runs at a time.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._owner = 0
        self._caught: list[warnings.catch_warnings[None]] = []
        renew_in_children(self)

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Run one block."""
        with self._lock:
            self._owner = threading.get_ident()
            caught = warnings.catch_warnings()
            caught.__enter__()
            self._caught.append(caught)
            try:
                warnings.simplefilter("ignore")
                yield
            finally:
                self._caught.pop().__exit__(None, None, None)

    def renew_after_fork(self) -> None:
        """Leave the block of a thread that the child does not have."""
        if self._caught and self._owner != threading.get_ident():
            while self._caught:
                self._caught.pop().__exit__(None, None, None)
            self._lock = threading.RLock()
