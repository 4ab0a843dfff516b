"""What a forked child does with objects that have threads or locks: the child has none of its parent's other threads,
and finds locks as they held them."""

import concurrent.futures.thread  # these three have hooks at a fork: see the end
import ctypes
import logging
import os
import random
import threading
import weakref
from typing import Protocol


class Renewable(Protocol):
    """Something that a forked child renews."""

    def renew_after_fork(self) -> None:
        """Make it usable in the child, whose only thread calls this."""


_living: "weakref.WeakSet[Renewable]" = weakref.WeakSet()


def renew_in_children(what: Renewable) -> None:
    """Call its ``renew_after_fork`` in every child that is forked while it lives."""
    _living.add(what)


def abandon(what: object) -> None:
    """Never end an object whose end would wait for a thread of the parent, not even when Python ends."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(what))


def _renew_all() -> None:
    for what in list(_living):
        what.renew_after_fork()


importing = threading.RLock()
"""Held while a function imports a module on first use: a fork waits for that, since Python's own lock of a module that
another thread is importing stays held in the child for ever."""

# A fork that waits has called the hooks before it, and calls those after it when the wait is over: a module that was
# imported meanwhile, and registers a pair of them, would release a lock that was never acquired. (filelock, of the
# hub's client, does so too: that is imported without this lock.)
_HOOKED = (concurrent.futures.thread, logging, random)

os.register_at_fork(before=importing.acquire, after_in_parent=importing.release, after_in_child=importing.release)
os.register_at_fork(after_in_child=_renew_all)
