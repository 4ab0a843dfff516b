"""Exported models behind the core's engine."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from gemlet import _core
from gemlet.errors import ArgumentError

from .manifest import TOKENIZER, Manifest
from .runner import Runner

_CHUNK: Final = 512
"""Tokens of a prompt that a runtime computes at a time: between two pieces a computation can be cancelled."""


def load(folder: Path, *, backend: str | None, threads: int | None, context: int | None) -> _core.Engine:
    """Load an exported folder in the runtime that it was written for.

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
    return engine_of(
        manifest, manifest.open(folder, context or manifest.context, threads or _core.usable_cores()), folder
    )


def engine_of(manifest: Manifest, runner: Runner, folder: Path) -> _core.Engine:
    """The core's engine on a runner and the tokenizer of an exported folder."""
    info = manifest.model_info(runner.runtime, runner.threads, runner.context)
    return _core.engine_of_runner(folder / TOKENIZER, runner, info, context=runner.context, chunk=_CHUNK)
