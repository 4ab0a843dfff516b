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

from gemlet import _core
from gemlet.exported.runner import Media
from gemlet.model import Model, load

from .errors import ExportError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gemlet.exported.runner import MediaRunner

_TEXTS: Final = (
    "The quick brown fox jumps over the lazy dog. What is the capital of France?",
    "def mean(values):\n    return sum(values) / len(values)\n",
)
_SOFT: Final = 40
"""Soft tokens of a prompt that has some. As an encoder's, they have a mean square of 1."""
_SHORT: Final = 8
"""Tokens decoded one by one after a prompt of a sentence."""

Append = Callable[[Sequence[int], Media], "NDArray[np.float32]"]
"""Adds tokens to a timeline, with what stands in for some of them; the logits after the last."""
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


@dataclass(frozen=True)
class _Prompt:
    tokens: list[int]
    media: Media = ()


@dataclass(frozen=True)
class _Text:
    prompt: _Prompt
    decoded: list[int]
    """The tokens behind it."""


class Reference:
    """The core's answers to the prompts."""

    def __init__(self, core: Model, context: int, *, media: bool = False) -> None:
        """Timelines hold at most `context` tokens, which the core's must hold too. `media`: soft tokens are compared
        too, which a model with encoders takes."""
        self.window = core.info.sliding_window
        self._texts: list[_Text] = []
        rows: list[NDArray[np.float32]] = []
        for prompt, steps in _prompts(core, context, media):
            append = begin_core(core)()
            rows.append(append(prompt.tokens, prompt.media))
            tokens: list[int] = []
            for _ in range(steps):
                tokens.append(int(rows[-1].argmax()))
                rows.append(append(tokens[-1:], ()))
            self._texts.append(_Text(prompt, tokens))
        self._logits = np.stack(rows)

    def compare(self, begin: Begin) -> Comparison:
        """Raises ExportError for logits that are not finite numbers."""
        rows: list[NDArray[np.float32]] = []
        for text in self._texts:
            append = begin()
            rows += [append(text.prompt.tokens, text.prompt.media), *(append([token], ()) for token in text.decoded)]
        logits = np.stack(rows)
        if not np.isfinite(logits).all():
            raise ExportError("the exported file answers with values that are not finite numbers; nothing was kept")
        difference = np.abs(logits - self._logits)
        return Comparison(
            positions=len(rows),
            decoded=sum(len(text.decoded) for text in self._texts),
            longest=max(len(text.prompt.tokens) + len(text.decoded) for text in self._texts),
            max_difference=float(difference.max()),
            mean_difference=float(difference.mean()),
            relative_difference=float(np.sqrt(np.mean(np.square(difference))) / self._logits.std()),
            greedy_agreement=float(np.mean(logits.argmax(axis=1) == self._logits.argmax(axis=1))),
        )


def begin_core(model: Model) -> Begin:
    """Timelines of the core."""

    def begin() -> Append:
        session = model._engine.session()
        return lambda tokens, media: session.prefill(_core.Prompt(tokens, media), all=False)

    return begin


def begin_exported(runner: MediaRunner) -> Begin:
    """Timelines of an exported file."""

    def begin() -> Append:
        cache: Any = runner.empty()

        def append(tokens: Sequence[int], media: Media) -> NDArray[np.float32]:
            logits: NDArray[np.float32] = runner.run(cache, tokens, "last", media)[-1]
            return logits

        return append

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


def _prompts(core: Model, context: int, media: bool) -> list[tuple[_Prompt, int]]:
    """Prompts, and how many tokens to decode after them."""
    window = core.info.sliding_window
    prompts: list[tuple[_Prompt, int]] = []
    for text in _TEXTS:
        tokens = core.tokenize(text, bos=True)[: max(1, context - _SHORT)]
        prompts.append((_Prompt(tokens), min(_SHORT, context - len(tokens))))
    if media and context > 1:
        soft = max(1, min(_SOFT, context - 2 * _SHORT))
        rows = np.random.default_rng(soft).normal(size=(soft, core.info.hidden_size)).astype(np.float32)
        tokens = [core.bos, *[0] * soft, *core.tokenize(_TEXTS[0])][: max(1 + soft, context - _SHORT)]
        prompts.append((_Prompt(tokens, [(1, rows)]), min(_SHORT, context - len(tokens))))
    # Ids from all over the vocabulary, the multimodal ones at its end included; then across the end of the window.
    total = min(context, length(window, context))
    begin = max(1, min(total - 2 * _SHORT, window - _SHORT))
    vocabulary = core.info.vocabulary
    everywhere = [core.bos, *(vocabulary - 1 - (7919 * i) % vocabulary for i in range(begin - 1))]
    prompts.append((_Prompt(everywhere), total - begin))
    return prompts
