"""Saved conversations: JSON files."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gemlet.chat.messages import Message, to_messages
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
        messages = [message.to_dict() for message in self.messages]
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
            messages = to_messages(saved["messages"], "messages", files=False)
            if any(message.role == "system" for message in messages):
                raise ValueError("a message is the system's, expected it in system")
            return cls(model, system, messages)
        except RecursionError as error:
            raise FormatError(f"{path}: not a saved conversation: nested too deeply") from error
        except FileError:
            raise
        except (ValueError, LookupError, TypeError) as error:
            raise FormatError(f"{path}: not a saved conversation: {error}") from error
