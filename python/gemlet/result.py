"""Results of generation: text, tokens, statistics."""

from dataclasses import dataclass
from typing import Literal

from gemlet import _core
from gemlet.memory import peak_memory

FinishReason = Literal["stop", "length", "context", "cancelled"]
"""What ended the completion: an end token or stop string; ``max_tokens``; a full context; the caller."""


@dataclass(frozen=True)
class Stats:
    """Counts, times in seconds and memory of one completion."""

    prompt_tokens: int
    reused_tokens: int
    """Prompt tokens whose keys and values an earlier turn had computed."""
    generated_tokens: int
    drafted_tokens: int
    """Draft tokens that speculative decoding proposed."""
    accepted_tokens: int
    """Draft tokens that were accepted; each saved one pass over the weights."""
    prefill_seconds: float
    decode_seconds: float
    first_token_seconds: float
    """Time from the call to the first sampled token."""
    peak_memory: int
    """Peak resident bytes of the process so far."""

    @property
    def prefill_tokens_per_second(self) -> float:
        """Speed on the prompt tokens that were computed."""
        return _rate(self.prompt_tokens - self.reused_tokens, self.prefill_seconds)

    @property
    def decode_tokens_per_second(self) -> float:
        """Decoding speed. The first token comes out of the prefill and is not counted."""
        return _rate(self.generated_tokens - 1, self.decode_seconds)


@dataclass(frozen=True)
class TokenLogProb:
    """A sampled token with the natural logarithm of its probability, in the model's own distribution."""

    token: int
    logprob: float
    top: list[tuple[int, float]]
    """The most likely tokens at this position and their log-probabilities, most likely first."""


@dataclass(frozen=True)
class Piece:
    """One step of a completion under way."""

    text: str
    """Whole characters. What may yet turn out to be a part of a stop string comes with a later piece; may be empty."""
    tokens: list[int]
    """Sampled since the piece before; empty where only text was held back."""
    logprobs: list[TokenLogProb]
    """One for each token if ``top_logprobs`` asked for them."""


@dataclass(frozen=True)
class GenerateResult:
    """A completion."""

    text: str
    tokens: list[int]
    """The sampled tokens, without the end token."""
    finish_reason: FinishReason
    stats: Stats
    logprobs: list[TokenLogProb]
    """One for each token if ``top_logprobs`` asked for them."""
    seed: int
    """The seed, which gives the same completion again."""
    prefill: str = ""
    """The beginning of ``text`` that the caller gave, in a chat. It is a part of the prompt: ``tokens`` and
    ``logprobs`` are those of what follows, and ``stats`` counts it as prompt tokens."""
    dropped_messages: int = 0
    """The oldest messages of a chat that this turn began to leave out of the prompt, since the context was full."""

    @classmethod
    def of(cls, raw: "_core._Result", seed: int, *, prefill: str = "", dropped_messages: int = 0) -> "GenerateResult":
        """Make a result of what the core returned."""
        return cls(
            text=prefill + raw["text"],
            tokens=raw["tokens"],
            finish_reason=raw["finish_reason"],
            stats=Stats(**raw["stats"], peak_memory=peak_memory()),
            logprobs=[TokenLogProb(*entry) for entry in raw["logprobs"]],
            seed=seed,
            prefill=prefill,
            dropped_messages=dropped_messages,
        )


def _rate(count: int, seconds: float) -> float:
    return count / seconds if count > 0 and seconds > 0 else 0.0
