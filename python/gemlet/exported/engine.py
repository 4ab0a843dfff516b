"""An exported model, with the face of the core's engine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from gemlet import _core
from gemlet.errors import ArgumentError, FormatError, UnsupportedError

from .generation import ExportedGeneration
from .manifest import NAME, TOKENIZER, Manifest
from .runner import Runner
from .scheduler import ExportedScheduler
from .session import ExportedSession


class ExportedEngine:
    """Counterpart of gemlet._core.Engine for a folder that gemlet.export wrote."""

    def __init__(self, manifest: Manifest, runner: Runner, tokenizer: _core.Tokenizer) -> None:
        """Raises FormatError for a manifest that does not fit the tokenizer."""
        self._runner = runner
        self._tokenizer = tokenizer
        self._info = manifest.model_info(runner.runtime, runner.threads, runner.context)
        if self._info["vocabulary"] != tokenizer.vocabulary:
            raise FormatError(f"{TOKENIZER} has {tokenizer.vocabulary} tokens, {NAME} says {self._info['vocabulary']}")

    def info(self) -> _core._Info:
        """Configuration and how it was loaded."""
        return self._info

    def work(self) -> _core._Work:
        """Zeros: other runtimes do not count their work."""
        return {"weight_bytes": 0, "multiply_adds": 0, "barriers": 0}

    def tokenize(self, text: bytes, *, bos: bool = False, special: bool = True) -> list[int]:
        """Text to tokens."""
        return self._tokenizer.encode(text, bos=bos, special=special)

    def detokenize(self, tokens: Sequence[int], *, special: bool = False) -> bytes:
        """Tokens to text."""
        return self._tokenizer.decode(tokens, special=special)

    def piece(self, token: int) -> bytes:
        """One token as the file stores it."""
        return self._tokenizer.piece(token)

    def find_token(self, piece: bytes) -> int | None:
        """The token of a piece."""
        return self._tokenizer.find(piece)

    def is_end(self, token: int) -> bool:
        """Whether the token ends the text or a turn."""
        return self._tokenizer.is_end(token)

    @property
    def bos(self) -> int:
        """The token that begins every prompt."""
        return self._tokenizer.bos

    def special_tokens(self) -> list[int]:
        """Control tokens."""
        return self._tokenizer.special_tokens()

    def session(self, context: int = 0) -> ExportedSession:
        """A new timeline."""
        return ExportedSession(self._runner, self._tokenizer, context)

    def restore(self, path: str | os.PathLike[str], context: int = 0) -> ExportedSession:
        """Not for exported models."""
        raise UnsupportedError(f"{path}: timelines of exported models are not restored; load the GGUF file for that")

    def generate_batch(
        self, prompts: Sequence[Sequence[int]], options: Sequence[_core.GenerateOptions]
    ) -> ExportedGeneration:
        """One answer after the other."""
        return ExportedGeneration([self.session] * len(prompts), prompts, options)

    def scheduler(self, *, sequences: int = 16, prompt_rows: int = 32) -> ExportedScheduler:
        """Answers one request after the other, whatever the numbers say."""
        return ExportedScheduler(self.session)


def load(folder: Path, *, backend: str | None, threads: int | None, context: int | None) -> ExportedEngine:
    """An exported folder, in the runtime that it was written for.

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
    tokenizer = _core.Tokenizer(folder / TOKENIZER)
    runner = manifest.open(folder, context or manifest.context, threads or _core.usable_cores())
    return ExportedEngine(manifest, runner, tokenizer)
