"""Whether an exported file answers as the core does on the same weights.

Fixed prompts are run in both: a prefill, then single tokens past the sliding window, always the core's most likely
ones, so that both see the same text whatever the file says.

Quantised products round activations to int8, and two computations that differ by the least bit round some of them the
other way; a deep model makes more of that. How much more is measured: by what the core differs from itself when its
keys and values are kept in half precision. A file may differ by as much, and not by more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gemlet.model import Model, load

from .errors import ExportError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gemlet.exported.runner import Runner

_TEXTS: Final = (
    "The quick brown fox jumps over the lazy dog. What is the capital of France?",
    "def mean(values):\n    return sum(values) / len(values)\n",
)
_SHORT: Final = 8
"""Tokens decoded one by one after a prompt of a sentence."""

Append = Callable[[Sequence[int]], "NDArray[np.float32]"]
"""Adds tokens to a timeline; the logits after the last."""
Begin = Callable[[], Append]
"""A new timeline."""


@dataclass(frozen=True)
class Tolerance:
    """The difference that an exported file may show."""

    relative: float
    """Root mean square of the difference, beside the standard deviation of the logits."""
    of_rounding: float
    """Or this many times the difference of the core from itself."""


TOLERANCES: Final = {
    # Float32 sums in another order.
    ("onnx", "fp32"): Tolerance(1e-3, 0.0),
    ("onnx", "fp16"): Tolerance(1e-3, 0.0),
    ("tflite", "fp32"): Tolerance(1e-3, 0.0),
    ("tflite", "fp16"): Tolerance(1e-3, 0.0),
    # The same weights and the same rounding of activations, by blocks.
    ("onnx", "int8"): Tolerance(0.03, 2.0),
    ("onnx", "int4"): Tolerance(0.03, 2.0),
    # LiteRT rounds a whole row of activations with one scale. In int8 its weights have a scale for each row too, where
    # the core's have one for each block; in int4 it keeps the blocks' scales in bfloat16. Up to 3.3 times the core's
    # own rounding was seen, in a random network of seven layers.
    ("tflite", "int8"): Tolerance(0.15, 4.0),
    ("tflite", "int4"): Tolerance(0.15, 4.0),
}


@dataclass(frozen=True)
class Comparison:
    """How far the logits of two models are apart."""

    positions: int
    """Places compared."""
    decoded: int
    """The positions that were computed one token at a time."""
    longest: int
    """Tokens of the longest text."""
    max_difference: float
    mean_difference: float
    relative_difference: float
    """Root mean square, beside the standard deviation of the core's logits."""
    greedy_agreement: float
    """Share of places with the same most likely token."""


class Reference:
    """The core's answers to the prompts."""

    def __init__(self, core: Model, context: int) -> None:
        """Timelines hold at most `context` tokens, which the core's must hold too."""
        self.window = core.info.sliding_window
        self._texts: list[tuple[list[int], list[int]]] = []  # a prompt, and the tokens that are decoded after it
        rows: list[NDArray[np.float32]] = []
        for prompt, steps in _prompts(core, context):
            append = begin_core(core)()
            rows.append(append(prompt))
            tokens: list[int] = []
            for _ in range(steps):
                tokens.append(int(rows[-1].argmax()))
                rows.append(append(tokens[-1:]))
            self._texts.append((prompt, tokens))
        self._logits = np.stack(rows)

    def compare(self, begin: Begin) -> Comparison:
        """Raises ExportError for logits that are not finite numbers."""
        rows: list[NDArray[np.float32]] = []
        for prompt, tokens in self._texts:
            append = begin()
            rows += [append(prompt), *(append([token]) for token in tokens)]
        logits = np.stack(rows)
        if not np.isfinite(logits).all():
            raise ExportError("the exported file answers with values that are not finite numbers; nothing was kept")
        difference = np.abs(logits - self._logits)
        return Comparison(
            positions=len(rows),
            decoded=sum(len(tokens) for _, tokens in self._texts),
            longest=max(len(prompt) + len(tokens) for prompt, tokens in self._texts),
            max_difference=float(difference.max()),
            mean_difference=float(difference.mean()),
            relative_difference=float(np.sqrt(np.mean(np.square(difference))) / self._logits.std()),
            greedy_agreement=float(np.mean(logits.argmax(axis=1) == self._logits.argmax(axis=1))),
        )


def begin_core(model: Model) -> Begin:
    """Timelines of the core."""

    def begin() -> Append:
        return model.session().prefill

    return begin


def begin_exported(runner: Runner) -> Begin:
    """Timelines of an exported file."""

    def begin() -> Append:
        cache: Any = runner.empty()
        return lambda tokens: runner.run(cache, tokens, "last")[-1]

    return begin


def require(found: Comparison, rounding: Comparison, format: str, quant: str, name: str) -> None:
    """Raises ExportError saying what was expected and found."""
    tolerance = TOLERANCES[format, quant]
    most = max(tolerance.relative, tolerance.of_rounding * rounding.relative_difference)
    if found.relative_difference > most:
        raise ExportError(
            f"{name}: the exported file does not answer as the source does: its logits differ by "
            f"{found.relative_difference:.2g} of their spread, expected at most {most:.2g} (the core differs from "
            f"itself by {rounding.relative_difference:.2g} with keys and values in half precision); nothing was kept"
        )


def length(window: int, trained: int) -> int:
    """Tokens that the check wants to see in a timeline: past the window, and past twice a short one."""
    return min(trained, 2 * window + _SHORT if window <= 64 else window + 2 * _SHORT)


def load_core(path: Path, context: int, threads: int | None, *, exact_cache: bool = True) -> Model:
    """With keys and values in float32, as exported files have them, or in half precision."""
    return load(path, context=context, cache="f32" if exact_cache else "f16", threads=threads)


def _prompts(core: Model, context: int) -> list[tuple[list[int], int]]:
    """Tokens, and how many to decode after them."""
    window = core.info.sliding_window
    prompts = []
    for text in _TEXTS:
        tokens = core.tokenize(text, bos=True)[: max(1, context - _SHORT)]
        prompts.append((tokens, min(_SHORT, context - len(tokens))))
    # Ids from all over the vocabulary, the multimodal ones at its end included; then across the end of the window.
    total = min(context, length(window, context))
    begin = max(1, min(total - 2 * _SHORT, window - _SHORT))
    vocabulary = core.info.vocabulary
    prompts.append(([core.bos, *(vocabulary - 1 - (7919 * i) % vocabulary for i in range(begin - 1))], total - begin))
    return prompts
