"""Saved conversations: JSON files."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gemlet.chat.templates import Message
from gemlet.errors import FileError, FormatError
from gemlet.files import read_file, replacing

_MOST_BYTES = 1 << 26
"""Of a saved conversation. One that fills a context of 128 K tokens has some 2 MB."""


@dataclass(frozen=True)
class SavedChat:
    """What the file of a conversation holds."""

    model: int
    """The fingerprint of the model; tokens are that model's."""
    system: str | None
    messages: Sequence[Message]

    def write(self, path: Path, sources: Sequence[Path]) -> None:
        """Write the file; one that is there stays until the new one is whole.

        Raises FileError if it cannot be written, is one of `sources`, or is no regular file.
        """
        messages = [{"role": m.role, "content": m.content, "tokens": m.tokens} for m in self.messages]
        saved = {"model": self.model, "system": self.system, "messages": messages}
        text = json.dumps(saved, ensure_ascii=False, indent=1) + "\n"
        with replacing(path, sources) as file:
            file.write(text.encode("utf-8", "backslashreplace"))  # half characters become JSON's escapes

    @classmethod
    def read(cls, path: Path) -> "SavedChat":
        """Read and check a file.

        Raises:
            FileError: it cannot be read, is no regular file, or is too large for a conversation.
            FormatError: it is not a saved conversation.
        """
        try:
            saved = json.loads(read_file(path, _MOST_BYTES))
            system, model = saved["system"], saved["model"]
            if type(model) is not int or not (system is None or isinstance(system, str)):
                raise ValueError(f"model is {model!r:.40} and system {system!r:.40}, expected a number and a text")
            return cls(model, system, [_message(entry) for entry in saved["messages"]])
        except RecursionError as error:
            raise FormatError(f"{path}: not a saved conversation: nested too deeply") from error
        except FileError:
            raise
        except (ValueError, LookupError, TypeError) as error:
            raise FormatError(f"{path}: not a saved conversation: {error}") from error


def _message(entry: dict[str, object]) -> Message:
    role, content, tokens = entry["role"], entry["content"], entry["tokens"]
    if role not in ("user", "assistant") or not isinstance(content, str):
        raise ValueError(f"a message of {role!r:.40} with {type(content).__name__} content")
    if tokens is not None and not (isinstance(tokens, list) and all(type(token) is int for token in tokens)):
        raise ValueError("tokens that are no numbers")
    return Message(role, content, tuple(tokens) if tokens is not None else None)
