"""Renders Jinja templates of untrusted files, in a process of its own (jinja_child.py) that can be ended.

A single operation of a template may compute for ever or fill the memory, even while the template is compiled, so no
counting inside the process that renders can bound it. Here the limits are enforced from outside. A request that takes
longer than ``SECONDS`` or whose reply is too long ends the process, and the next request starts another. On Linux the
system refuses it more memory than ``MEMORY`` and any writing to files. macOS does not enforce a limit of memory, so
that there only time and the length of the text are bounded. A limit of processor time ends the process if its parent
dies meanwhile. The first rendering starts it, and the next ones reuse it. The caller waits without the GIL, and Ctrl-C
interrupts it.

The process runs sys.executable, or the Python that the environment variable GEMLET_PYTHON names. Programs that are
frozen (PyInstaller) have no interpreter of their own and need the latter; it must have jinja2, and jinja_child.py must
be among the frozen program's files.
"""

import atexit
import importlib.util
import json
import os
import select
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gemlet.errors import ArgumentError, TemplateError

SECONDS = 2.0
"""For all renderings of a prompt; the published templates take milliseconds."""
MEMORY = 128 << 20
"""Bytes beyond the about 25 MB of an idle Python with jinja2."""
MAX_SOURCE = 1 << 18
"""Characters of a template; the published ones have a few thousand."""
MAX_REQUEST = 8 << 20
"""Bytes of a conversation as JSON."""
MAX_TEXT = 1 << 20
"""Bytes of a rendered text as JSON, beyond twice what the request holds."""

_START_SECONDS = 30.0
_NAMED = "GEMLET_PYTHON"
_PIECE = 1 << 16
_PROGRAM = Path(__file__).with_name("jinja_child.py")
_ENVIRONMENT = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LANG", "LC_ALL", "LC_CTYPE", "LC_TIME", "TZ")


class LimitError(TemplateError):
    """A template that takes too much time or memory, or writes too much, or whose process was ended from outside."""


class StartError(TemplateError):
    """The process does not start."""


@dataclass
class Budget:
    """Time that renderings may take together."""

    seconds: float = SECONDS
    too_slow: str = f"the chat template takes more than {SECONDS:g} seconds"


class Sandbox:
    """A process that renders, started when it is needed. Safe to use from several threads, which take turns."""

    def __init__(self, memory: int = MEMORY) -> None:
        """``memory``: bytes that the process may take beyond those of an idle one."""
        self._memory = memory
        self._process: _Process | None = None
        self._lock = threading.RLock()
        self._busy = False

    @property
    def pid(self) -> int | None:
        """The process that runs now; None if there is none."""
        return self._process.pid if self._process is not None else None

    @property
    def is_waiting(self) -> bool:
        """Whether a template has been sent to a process that has started, and the reply has not come."""
        return self._process is not None and self._process.is_ready and self._process.is_waiting

    def ask(self, source: str, variables: Mapping[str, Any] | None, budget: Budget) -> str:
        """Render a template; without variables only compile it, and return a JSON list of the variables that it uses.
        Raises TemplateError for whatever goes wrong.
        """
        request = _to_json({"source": source, "variables": variables, "seconds": budget.seconds})
        if len(request) > MAX_REQUEST:
            raise LimitError(
                f"the conversation takes {len(request)} bytes as JSON; chat templates are given at most {MAX_REQUEST}"
            )
        with self._lock:
            if self._busy:
                raise TemplateError("a signal handler renders a chat template while its thread is rendering another")
            self._busy = True
            try:
                kind, text = self._reply(request, budget)
            finally:
                self._busy = False
        if kind == "text":
            return text
        if kind == "memory":
            raise LimitError(f"the chat template takes more than {self._memory >> 20} MiB of memory")
        what = "does not parse" if kind == "parse" else "does not accept this conversation"
        raise TemplateError(f"the chat template {what}: {text}")

    def close(self) -> None:
        """End the process; a later rendering starts another."""
        process, self._process = self._process, None
        if process is not None:
            process.end()

    def kill(self) -> None:
        """At the exit of Python: end the process, also while another thread waits for its reply."""
        if self._process is not None:
            self._process.kill()

    def forget(self) -> None:
        """In a forked child: the process serves the parent, which alone may speak to it."""
        if self._process is not None:
            self._process.disown()
        self._process = None
        self._lock = threading.RLock()
        self._busy = False

    def _reply(self, request: bytes, budget: Budget) -> tuple[str, str]:
        if self._process is not None and self._process.has_ended():
            self.close()
        try:
            if self._process is None:
                self._process = _Process(self._memory)
                self._process.check()
            kind, text = self._process.ask(request, MAX_TEXT + 2 * len(request), budget)
        except BaseException:  # KeyboardInterrupt too: a late reply must not be taken for the next one's
            self.close()
            raise
        if kind == "memory":
            self.close()
        return kind, text


class _Process:
    """The process and its pipes."""

    def __init__(self, memory: int) -> None:
        try:
            self._process = subprocess.Popen(
                _command(memory),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                cwd="/",
                env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
                process_group=0,  # Ctrl-C on the terminal is the caller's
            )
        except OSError as error:
            raise StartError(f"{_no_python()}: {error.strerror}{_needs()}") from error
        assert self._process.stdin is not None and self._process.stdout is not None
        self._pipes = self._process.stdin, self._process.stdout
        self.is_ready = False
        self.is_waiting = False
        for pipe in self._pipes:
            os.set_blocking(pipe.fileno(), False)

    @property
    def pid(self) -> int:
        return self._process.pid

    def check(self) -> None:
        """Wait until the process is ready."""
        budget = Budget(_START_SECONDS, f"it was not ready after {_START_SECONDS:g} seconds")
        try:
            self.ask(_to_json({"source": "", "variables": None, "seconds": SECONDS}), MAX_TEXT, budget)
        except TemplateError as error:
            raise StartError(f"{_no_python()}: {error}{_needs()}") from error
        self.is_ready = True

    def ask(self, request: bytes, most: int, budget: Budget) -> tuple[str, str]:
        """Send a request and wait for the reply, of ``most`` bytes at most. After an error the process is of no use."""
        start = time.monotonic()
        try:
            return self._exchange(request, most, start + budget.seconds, budget.too_slow)
        finally:
            budget.seconds -= time.monotonic() - start
            self.is_waiting = False

    def _exchange(self, request: bytes, most: int, deadline: float, too_slow: str) -> tuple[str, str]:
        to_child, from_child = (pipe.fileno() for pipe in self._pipes)
        rest = memoryview(struct.pack(">Q", len(request)) + request)
        reply = bytearray()
        poll = select.poll()
        poll.register(to_child, select.POLLOUT)
        poll.register(from_child, select.POLLIN)
        while True:
            ready = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
            if not ready:
                raise LimitError(too_slow)
            for descriptor, _ in ready:
                try:
                    if descriptor == to_child:
                        rest = rest[os.write(to_child, rest[:_PIECE]) :]
                    elif piece := os.read(from_child, _PIECE):
                        reply += piece
                    else:
                        raise BrokenPipeError
                except BrokenPipeError:
                    raise LimitError(
                        f"the process that renders chat templates ended with status {self._process.wait()}"
                    ) from None
            if not rest and not self.is_waiting:
                self.is_waiting = True
                poll.unregister(to_child)
            if len(reply) < 8:
                continue
            [length] = struct.unpack_from(">Q", reply)
            if length > most:
                raise LimitError(f"the chat template writes {length} bytes of text; the limit is {most}")
            if len(reply) - 8 >= length:
                kind, text = json.loads(reply[8:])
                return kind, text

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def end(self) -> None:
        self.kill()
        self._close_pipes()

    def disown(self) -> None:
        self._close_pipes()
        self._process.returncode = 0  # nothing to wait for: it is another process's child

    def _close_pipes(self) -> None:
        for pipe in self._pipes:
            pipe.close()


class Renderer:
    """One template. Safe to use from several threads."""

    def __init__(self, source: str, sandbox: Sandbox | None = None) -> None:
        """Compile. Raises TemplateError for a template that is too long or does not parse."""
        if len(source) > MAX_SOURCE:
            raise TemplateError(f"the chat template has {len(source)} characters; the limit is {MAX_SOURCE}")
        self._source = source
        self._sandbox = sandbox or _shared
        self.variables = frozenset[str](json.loads(self._sandbox.ask(source, None, Budget())))
        """What it uses and does not set itself."""

    def render(self, variables: Mapping[str, Any], budget: Budget | None = None) -> str:
        """Render. The template gets copies: it can change nothing. Raises TemplateError for whatever goes wrong, and
        ArgumentError for variables that are not JSON.
        """
        return self._sandbox.ask(self._source, variables, budget or Budget())


def _command(memory: int) -> list[str]:
    options = ["-B", str(_PROGRAM), str(memory)]
    if named := os.environ.get(_NAMED):
        return [named, "-I", *options]  # with its own jinja2
    if not sys.executable or getattr(sys, "frozen", False):
        raise StartError(f"{_no_python()}{_needs()}")
    folders = []
    for name in ("jinja2", "markupsafe"):
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise TemplateError(f"chat templates need the Python package {name}, which is not installed")
        folders.append(str(Path(spec.origin).parents[1]))
    return [sys.executable, "-I", "-S", *options, *dict.fromkeys(folders)]


def _no_python() -> str:
    named = os.environ.get(_NAMED)
    how = f"{_NAMED} names {named!r}" if named else f"sys.executable is {sys.executable!r}"
    what = f"a process of their own, which does not start with {named or sys.executable!r}"
    if not named and getattr(sys, "frozen", False):
        what, how = "a process of their own, which needs a Python interpreter", "this program is frozen and has none"
    return f"chat templates are rendered in {what} ({how})"


def _needs() -> str:
    return f"; let the environment variable {_NAMED} name a Python 3 interpreter that has the package jinja2"


def _to_json(value: object) -> bytes:
    try:
        return json.dumps(value).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ArgumentError(f"the chat template can be given only what JSON holds: {error}") from error


_shared = Sandbox()
atexit.register(_shared.kill)
os.register_at_fork(after_in_child=_shared.forget)
