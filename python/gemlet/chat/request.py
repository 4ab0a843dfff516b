"""What a prompt is to be written of."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from gemlet import _core
from gemlet.chat.messages import Message
from gemlet.media import Audio, Image

PromptEnd = Literal["generation_prompt", "complete", "answer"]
"""With the beginning of the model's turn; with the last message; inside of it, where the model goes on with it."""


@dataclass(frozen=True)
class Request:
    """A conversation, what goes to its template with it, and where the prompt ends."""

    messages: Sequence[Message]
    tools: Sequence[object] | None
    variables: Mapping[str, Any]
    ends: PromptEnd
    encode: Callable[[Image | Audio], Sequence[_core.Medium]]
    """What stands for a picture or a sound in the prompt."""
