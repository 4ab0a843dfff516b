"""Exported models behind the core's engine."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from gemlet import _core
from gemlet.errors import ArgumentError
from gemlet.media.encoding import Encoders

from .manifest import TOKENIZER, Manifest
from .runner import Runner

_CHUNK: Final = 512
"""Tokens of a prompt that a runtime computes at a time: between two pieces a computation can be cancelled."""


def load(
    folder: Path, *, backend: str | None, threads: int | None, context: int | None
) -> tuple[_core.Engine, Callable[[], Encoders] | None]:
    """Load an exported folder in the runtime that it was written for; and what loads its encoders, if it has any.

    The runtime computes logits; sessions, sampling, scheduling and speculative decoding are the core's, as for any
    other model.

    Raises:
        FileError, FormatError, UnsupportedError: a damaged folder, or a runtime that is not installed.
        ArgumentError: another backend than the folder's, or a context that it does not hold.
    """
    manifest = Manifest.read(folder)
    if backend not in (None, manifest.format):
        raise ArgumentError(f"backend is {backend!r}, but {folder} holds a model for {manifest.format!r}")
    if context is not None and not 1 <= context <= manifest.context:
        raise ArgumentError(f"context is {context}, expected 1 to {manifest.context} (what {folder} was made for)")
    if threads is not None and not 1 <= threads <= 256:
        raise ArgumentError(f"threads is {threads}, expected 1 to 256")
    count = threads or _core.usable_cores()
    engine = engine_of(manifest, manifest.open(folder, context or manifest.context, count), folder)
    return engine, partial(manifest.open_encoders, folder, count) if manifest.media else None


def engine_of(manifest: Manifest, runner: Runner, folder: Path) -> _core.Engine:
    """The core's engine on a runner and the tokenizer of an exported folder."""
    info = manifest.model_info(runner.runtime, runner.threads, runner.context)
    return _core.engine_of_runner(folder / TOKENIZER, runner, info, context=runner.context, chunk=_CHUNK)
