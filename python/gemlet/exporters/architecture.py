"""What the exporters have to know of an architecture. architectures/ has one file for each, which fills this in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from .attention import Positions
from .graph import Builder, Value
from .source import Config

Embedded = tuple[Value, Value | None]


@dataclass(frozen=True)
class State:
    """What goes from layer to layer, for T tokens of one sequence."""

    hidden: Value
    """The hidden states, [T, ...]."""
    inputs: Value | None
    """What each layer reads besides, [T, ...], if the architecture has such a thing."""
    queries: Value
    """The tokens' positions, float32 [T]."""


class Forward(ABC):
    """The parts of an architecture's forward pass, written in a builder's operations."""

    def __init__(self, b: Builder) -> None:
        self.b = b

    @abstractmethod
    def embed(self, tokens: Value) -> Embedded:
        """What the model's tables have of tokens: their embeddings, [T, hidden], and rows of a table that layers read
        besides, if the architecture has one. A picture or a sound has embeddings of its own."""

    def begin(self, embedded: Embedded) -> Embedded:
        """The hidden states that the first layer reads, and what layers read besides, made of what the tables have."""
        return embedded

    @abstractmethod
    def layer(self, index: int, state: State, positions: Positions) -> Value:
        """The hidden states after one layer. A layer that owns keys and values remembers them."""

    @abstractmethod
    def keys_and_values(self, index: int, state: State, positions: Positions) -> None:
        """Only the part of a layer that remembers its keys and values."""

    @abstractmethod
    def logits(self, hidden: Value) -> Value:
        """[T, vocabulary] from the hidden states after the last layer."""


def compute_logits(
    forward: Forward, embedded: Embedded, queries: Value, keys: Value, last: Callable[[Value], Value] | None = None
) -> Value:
    """The whole forward pass.

    Args:
        forward: the architecture's parts.
        embedded: T tokens, as `Forward.embed` gives them.
        queries: the tokens' positions, float32 [T].
        keys: the positions of all keys, float32 [S].
        last: leaves those rows of a value, [T, ...], whose tokens need logits; None if all do. The layers that read
            another's keys and values are computed for these alone.
    """
    b = forward.b
    owners = len(b.source.config.kv_layers)
    state, positions = _begin(forward, embedded, queries, keys)
    for index in range(len(b.source.config.layers)):
        if index == owners and last is not None:
            state = _cut(state, last)
            positions = Positions.of(b, state.queries, keys)
        state = replace(state, hidden=forward.layer(index, state, positions))
    if owners == len(b.source.config.layers) and last is not None:
        state = _cut(state, last)
    return forward.logits(state.hidden)


def compute_cache(forward: Forward, embedded: Embedded, queries: Value, keys: Value) -> None:
    """The part of the forward pass that remembers keys and values: what a prompt needs whose logits nobody wants."""
    last_owner = forward.b.source.config.kv_layers[-1]
    state, positions = _begin(forward, embedded, queries, keys)
    for index in range(last_owner):
        state = replace(state, hidden=forward.layer(index, state, positions))
    forward.keys_and_values(last_owner, state, positions)


def _begin(forward: Forward, embedded: Embedded, queries: Value, keys: Value) -> tuple[State, Positions]:
    hidden, inputs = forward.begin(embedded)
    return State(hidden, inputs, queries), Positions.of(forward.b, queries, keys)


def _cut(state: State, last: Callable[[Value], Value]) -> State:
    """The state of the last tokens."""
    return State(last(state.hidden), None if state.inputs is None else last(state.inputs), last(state.queries))


@dataclass(frozen=True)
class Turns:
    """Markup of a chat, for runtimes that do not read the chat template."""

    user: tuple[str, str] = ("<start_of_turn>user\n", "<end_of_turn>\n")
    """Text before and after what a user says."""
    model: tuple[str, str] = ("<start_of_turn>model\n", "<end_of_turn>\n")
    """Text before and after what the model says."""


@dataclass(frozen=True)
class Sampling:
    """Sampling that the model's authors recommend."""

    temperature: float = 1.0
    top_k: int = 64
    top_p: float = 0.95


@dataclass(frozen=True)
class Architecture:
    """One architecture of text models, as it is exported."""

    name: str
    """GGUF's name, general.architecture."""
    forward: Callable[[Builder], Forward]
    litert_lm_type: str
    """LiteRT-LM's name: the field of its LlmModelType."""
    transformers_config: Callable[[Config], dict[str, Any]] | None = None
    """The fields of the architecture's configuration in transformers, as config.json has them; token ids and
    tie_word_embeddings are added to them. None if transformers does not have the architecture."""
    turns: Turns = Turns()
    sampling: Sampling = Sampling()
