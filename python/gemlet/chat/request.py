"""What a prompt is to be written of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from gemlet.chat.messages import Message

PromptEnd = Literal["generation_prompt", "complete", "answer"]
"""With the beginning of the model's turn; with the last message; inside of it, where the model goes on with it."""


@dataclass(frozen=True)
class Request:
    """A conversation, what goes to its template with it, and where the prompt ends."""

    messages: Sequence[Message]
    tools: Sequence[object] | None
    variables: Mapping[str, Any]
    ends: PromptEnd
