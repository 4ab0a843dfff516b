"""Requests to an exported model, answered one after the other."""

from __future__ import annotations

import itertools
import queue
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gemlet import _core

from .generation import ExportedGeneration
from .session import ExportedSession


@dataclass
class _Request:
    generation: ExportedGeneration
    on_text: Callable[[str], object] | None
    on_end: Callable[[_core._Result | None, BaseException | None], object]


class ExportedScheduler:
    """Counterpart of gemlet._core.Scheduler."""

    def __init__(self, new_session: Callable[[], ExportedSession]) -> None:
        """`new_session` gives an empty session for each request that brings none."""
        self._new_session = new_session
        self._requests: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._pending: dict[int, _Request] = {}
        self._ids = itertools.count()

    def submit(
        self,
        prompt: Sequence[int],
        options: _core.GenerateOptions,
        on_text: Callable[[str], object] | None,
        on_end: Callable[[_core._Result | None, BaseException | None], object],
        session: ExportedSession | None = None,
    ) -> int:
        """Ask for an answer; raises what its prompt or options are wrong about."""
        timeline = self._new_session() if session is None else session.fork()
        timeline.answer(prompt, options)
        number = next(self._ids)
        self._pending[number] = _Request(timeline.generate(prompt, options), on_text, on_end)
        self._requests.put(number)
        return number

    def cancel(self, id: int) -> None:
        """End an answer with what there is."""
        request = self._pending.get(id)
        if request is not None:
            request.generation.cancel()

    def run(self) -> None:
        """Answer until `stop`."""
        while (number := self._requests.get()) is not None:
            self._serve(self._pending[number])
            del self._pending[number]

    def stop(self) -> None:
        """End all answers with what there is, and `run`."""
        for request in list(self._pending.values()):
            request.generation.cancel()
        self._requests.put(None)

    def _serve(self, request: _Request) -> None:
        error: BaseException | None = None
        try:
            while (piece := request.generation.next()) is not None:
                if request.on_text is not None:
                    request.on_text(piece[1])
        except BaseException as raised:
            request.generation.close()
            error = raised
        request.on_end(next(iter(request.generation.results()), None), error)
