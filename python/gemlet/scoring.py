"""Perplexity: how well a model predicts a text."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gemlet.arguments import checked
from gemlet.errors import ArgumentError
from gemlet.forked import importing
from gemlet.model import Model

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DEFAULT_WINDOW = 512
_ROWS = 64  # rows of logits held at a time
_FEWEST = 4


@dataclass(frozen=True)
class Window:
    """Tokens that are computed together; those from ``first`` on are scored, each given all before it."""

    number: int
    count: int
    tokens: list[int]
    first: int


@dataclass(frozen=True)
class Score:
    """Negative log-likelihoods in nats, one for each scored token of one window."""

    window: int
    windows: int
    nll: "NDArray[np.float64]"


@checked
def perplexity(model: Model, text: str | bytes, window: int | None = None, stride: int | None = None) -> float:
    """The exponential of the mean negative log-likelihood of a text's tokens; lower is better.

    The definition is llama-perplexity's, so that figures can be compared. The text is tokenised with the
    begin-of-sequence token in front and without control tokens, and cut into windows of ``window`` tokens (default: 512
    or the context, if that is smaller) that begin every ``stride`` tokens (default: ``window``, no overlap). What does
    not fill a window at the end is left out, unless it is the only one. The first token of each window is replaced by
    the begin-of-sequence token. Each window scores the tokens behind its middle, that is, those at ``window // 2 + 1``
    and after, given everything before them in the window; a token that an earlier window scored is left out.

    Raises:
        ArgumentError: a text of fewer than 4 tokens, or a window or stride out of range.
    """
    total = 0.0
    count = 0
    for score in scores(model, text, window, stride):
        total += float(score.nll.sum())
        count += len(score.nll)
    return math.exp(total / count)


def scores(model: Model, text: str | bytes, window: int | None = None, stride: int | None = None) -> Iterator[Score]:
    """Window by window, what ``perplexity`` averages."""
    for part in windows(model, text, window, stride):
        yield Score(part.number, part.count, _nll(model, part))


def windows(model: Model, text: str | bytes, window: int | None = None, stride: int | None = None) -> Iterator[Window]:
    """The windows that ``perplexity`` scores."""
    tokens = model.tokenize(text, bos=True, special=False)
    size = min(DEFAULT_WINDOW, model.context) if window is None else window
    if not _FEWEST <= size <= model.context:
        raise ArgumentError(f"window: expected {_FEWEST} to {model.context} (the context), found {size}")
    if len(tokens) < _FEWEST:
        raise ArgumentError(f"the text has {len(tokens)} tokens; perplexity needs at least {_FEWEST}")
    step = size if stride is None else stride
    if not 1 <= step <= size:
        raise ArgumentError(f"stride: expected 1 to {size} (the window), found {step}")
    size = min(size, len(tokens))
    starts = range(0, len(tokens) - size + 1, step)
    scored = 0
    for number, start in enumerate(starts):
        part = [model.bos, *tokens[start + 1 : start + size]]
        first = max(size // 2 + 1, scored - start)
        scored = start + size
        yield Window(number + 1, len(starts), part, first)


def logits_and_targets(model: Model, window: Window) -> "Iterator[tuple[NDArray[np.float32], list[int]]]":
    """For some scored tokens at a time: the logits (tokens, vocabulary) in their places, and the tokens."""
    tokens, first = window.tokens, window.first
    session = model.session(len(tokens))
    if first > 1:
        session.prefill(tokens[: first - 1])
    for start in range(first - 1, len(tokens) - 1, _ROWS):
        end = min(start + _ROWS, len(tokens) - 1)
        yield session.prefill_all(tokens[start:end]), tokens[start + 1 : end + 1]


def nll(logits: "NDArray[np.float32]", targets: list[int]) -> "NDArray[np.float64]":
    """Negative log-likelihoods of the targets, one for each row of logits."""
    with importing:
        import numpy as np

    top = logits.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(logits - top).sum(axis=1, dtype=np.float64))
    chosen = logits[np.arange(len(targets)), targets]
    return log_sum - (chosen - top[:, 0])  # type: ignore[no-any-return]


def _nll(model: Model, window: Window) -> "NDArray[np.float64]":
    with importing:
        import numpy as np

    return np.concatenate([nll(logits, targets) for logits, targets in logits_and_targets(model, window)])
