"""What a forked child does with objects that have threads or locks: the child has none of its parent's other threads,
and finds locks as they held them."""

import ctypes
import os
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


os.register_at_fork(after_in_child=_renew_all)
