"""The settings of one completion."""

import functools
import secrets
from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict, cast, get_type_hints

from gemlet import _core
from gemlet.arguments import Large, check, show_whole
from gemlet.errors import ArgumentError, ArgumentTypeError
from gemlet.slicing import SliceLike
from gemlet.slicing import to_core as slice_to_core


class GenerateOptions(TypedDict, total=False):
    """Keyword arguments of everything that generates text. Sampling is applied in this order: logit bias, penalties,
    temperature, top-k, top-p, min-p. The defaults are Gemma's.
    """

    max_tokens: int | None
    """Default 256 (in a chat: None). None: as many as the context holds."""
    stop: str | Sequence[str]
    """The text ends before the first of these."""
    temperature: float
    """Default 1. 0: greedy, ties to the lowest id."""
    top_k: int
    """Default 64. 0: off."""
    top_p: float
    """Default 0.95. 1: off."""
    min_p: float
    """Default 0: off."""
    repetition_penalty: float
    """CTRL (arXiv:1909.05858), over prompt and completion. Default 1: off."""
    presence_penalty: float
    """OpenAI's, over the completion. Default 0."""
    frequency_penalty: float
    """OpenAI's, over the completion. Default 0."""
    logit_bias: Mapping[int, float]
    """Added to the logits of these tokens."""
    seed: Large | None
    """The same seed gives the same text on any number of threads. Default None: drawn at random; the result has it."""
    top_logprobs: int
    """Alternatives reported with each token, 0 (the default) to 20."""
    speculate: Literal["lookup", "slice", "none"] | None
    """Speculative decoding: several draft tokens are verified in one pass over the weights. The completion is the same
    for every seed; only the time differs. "lookup" (prompt lookup decoding): the draft tokens are those that
    followed the last tokens where they occurred before, for completions that quote or edit their prompt. "slice": a
    slice of the model is the draft model. Drafting pauses while too few draft tokens are accepted, and in a batch.
    Default None: off."""
    draft: SliceLike
    """The slice that is the draft model. Default: the published one of E4B, half the feed-forward width of others."""
    draft_tokens: int
    """Draft tokens a step, at most 15. Default 0: adaptive, by the share that was accepted so far."""


def to_core(options: GenerateOptions, context: int) -> _core.GenerateOptions:
    """Check names and types; the core checks the ranges. ``context`` stands in for ``max_tokens=None``.

    Raises:
        ArgumentTypeError: an unknown name or a value of the wrong type.
        ArgumentError: a seed outside 64 bits, or another number outside 32.
    """
    values = dict(options)
    known = _annotations()
    for name, value in values.items():
        if name not in known:
            raise ArgumentTypeError(f"unknown option {name!r}; expected one of {', '.join(known)}")
        check(name, value, known[name])
    core = _core.GenerateOptions()
    if "max_tokens" in values:
        max_tokens = values.pop("max_tokens")
        _set(core, "max_tokens", context if max_tokens is None else max_tokens)
    if "stop" in values:
        stop = values.pop("stop")
        _set(core, "stop", [stop] if isinstance(stop, str) else stop)
    _set(core, "speculate", values.pop("speculate", None) or "none")
    if "draft" in values:
        core.draft = slice_to_core(cast(SliceLike, values.pop("draft")))
    if "draft_tokens" in values:
        _set(core, "draft_tokens", values.pop("draft_tokens"))
    seed = values.pop("seed", None)
    if seed is None:
        seed = secrets.randbits(32)
    elif isinstance(seed, int) and not 0 <= seed < 2**64:
        raise ArgumentError(f"seed: expected 0 to 2**64 - 1, found {show_whole(seed)}")
    _set(core.sampling, "seed", seed)
    for name, value in values.items():
        _set(core.sampling, name, value)
    return core


@functools.cache
def _annotations() -> dict[str, object]:
    return get_type_hints(GenerateOptions, include_extras=True)


def _set(target: _core.GenerateOptions | _core.Sampling, name: str, value: object) -> None:
    try:
        setattr(target, name, value)
    except TypeError:  # an item of the value
        raise ArgumentTypeError(f"{name}: {value!r} is of the wrong type") from None
