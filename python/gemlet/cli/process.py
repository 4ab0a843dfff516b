"""The process of the command line: its standard streams and the signals that end it."""

import io
import logging
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

from gemlet.cli import common


def fill_standard_streams() -> None:
    """Make the three standard streams usable: closed ones lead nowhere, and no text that a stream cannot encode or
    decode is an error. What stdin cannot decode keeps its bytes, as the names of files do.

    Without this, the next file that is opened would get the number of a closed stream, and what is printed would go
    into that file.
    """
    for name, number in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", encoding="utf-8"))
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "replace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)


def end_by_exception() -> None:
    """Let SIGTERM and SIGHUP end the program as Ctrl-C does, by an exception: what is unfinished is removed on the way.
    A signal that is ignored, as SIGHUP is under nohup, stays so."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _end)


class _Notes(logging.Handler):
    """Prints what the package warns of as errors are printed: a line on stderr, as plain text."""

    def emit(self, record: logging.LogRecord) -> None:
        common.note(f"gemlet: {record.getMessage()}")


def print_warnings() -> None:
    """Show the warnings of the package, which may quote a file."""
    logging.getLogger("gemlet").addHandler(_Notes(logging.WARNING))


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)
