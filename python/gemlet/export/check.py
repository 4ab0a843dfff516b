"""Whether an exported file answers as the core does on the same weights.

Fixed prompts are run in both: a prefill, then single tokens past the sliding window, always the core's most likely
ones, so that both see the same text whatever the file says.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

import gemlet

from .errors import ExportError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gemlet.backends.runner import Runner

_TEXTS: Final = (
    "The quick brown fox jumps over the lazy dog. What is the capital of France?",
    "def mean(values):\n    return sum(values) / len(values)\n",
)
_SHORT: Final = 8
"""Tokens decoded one by one after a prompt of a sentence."""


@dataclass(frozen=True)
class Tolerance:
    """What a file may differ by."""

    relative: float
    """Root mean square of the difference, beside the standard deviation of the logits."""
    agreement: float
    """Least share of places where both have the same most likely token."""


TOLERANCES: Final = {
    # Float32 sums in another order.
    "fp32": Tolerance(relative=1e-3, agreement=0.99),
    "fp16": Tolerance(relative=1e-3, agreement=0.99),
    # The same weights, but each runtime rounds activations to int8 in its own way; TFLite's int8 has a scale for each
    # row of weights where the source has one for each block.
    "int8": Tolerance(relative=0.1, agreement=0.8),
    "int4": Tolerance(relative=0.1, agreement=0.8),
}


@dataclass(frozen=True)
class Comparison:
    """How far the logits of two models are apart."""

    positions: int
    """Places compared."""
    decoded: int
    """Of those, computed one token at a time."""
    longest: int
    """Tokens of the longest text."""
    max_difference: float
    mean_difference: float
    relative_difference: float
    """Root mean square, beside the standard deviation of the core's logits."""
    greedy_agreement: float
    """Share of places with the same most likely token."""

    def passes(self, quant: str) -> bool:
        tolerance = TOLERANCES[quant]
        return self.relative_difference <= tolerance.relative and self.greedy_agreement >= tolerance.agreement

    def require(self, quant: str, name: str) -> None:
        """Raises ExportError saying what was expected and found."""
        if self.passes(quant):
            return
        tolerance = TOLERANCES[quant]
        raise ExportError(
            f"{name}: the exported file does not answer as the source does: its logits differ by "
            f"{self.relative_difference:.2g} of their spread (expected at most {tolerance.relative:g}) and agree on "
            f"{self.greedy_agreement:.0%} of the most likely tokens (expected at least {tolerance.agreement:.0%}); "
            "nothing was kept"
        )


def compare(core: gemlet.Model, runner: Runner) -> Comparison:
    """Runs the prompts in both. Timelines must hold twice the window, or what the model was trained for."""
    ours: list[NDArray[np.float32]] = []
    theirs: list[NDArray[np.float32]] = []
    decoded = longest = 0
    for prompt, steps in _prompts(core, runner.context):
        session, cache = core.session(), runner.empty()
        ours.append(session.prefill(prompt)[None])
        theirs.append(runner.run(cache, prompt, False))
        for _ in range(steps):
            token = int(ours[-1].argmax())
            ours.append(session.step(token)[None])
            theirs.append(runner.run(cache, [token], False))
        decoded += steps
        longest = max(longest, len(prompt) + steps)
    a, b = np.concatenate(ours), np.concatenate(theirs)
    if not np.isfinite(b).all():
        raise ExportError("the exported file answers with values that are not finite numbers; nothing was kept")
    difference = np.abs(a - b)
    return Comparison(
        positions=len(a),
        decoded=decoded,
        longest=longest,
        max_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
        relative_difference=float(np.sqrt(np.mean(np.square(difference))) / a.std()),
        greedy_agreement=float(np.mean(a.argmax(axis=1) == b.argmax(axis=1))),
    )


def load_core(path: Path, context: int, threads: int | None) -> gemlet.Model:
    """With keys and values in float32, as exported files have them."""
    return gemlet.load(path, context=context, cache="f32", threads=threads)


def length(window: int, trained: int) -> int:
    """Tokens that the check wants to see in a timeline."""
    return min(trained, 2 * window + _SHORT if window <= 64 else window + 2 * _SHORT)


def _prompts(core: gemlet.Model, context: int) -> list[tuple[list[int], int]]:
    """Tokens, and how many to decode after them."""
    window = core.info.sliding_window
    most = min(context, core.context)
    prompts = []
    for text in _TEXTS:
        tokens = core.tokenize(text, bos=True)[: max(1, most - _SHORT)]
        prompts.append((tokens, min(_SHORT, most - len(tokens))))
    # Ids from all over the vocabulary, the multimodal ones at its end included; then across the end of the window.
    total = min(most, length(window, most))
    begin = max(1, min(total - 2 * _SHORT, window - _SHORT))
    vocabulary = core.info.vocabulary
    prompts.append(([core.bos, *(vocabulary - 1 - (7919 * i) % vocabulary for i in range(begin - 1))], total - begin))
    return prompts
