"""Saved conversations: JSON files."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gemlet.chat.messages import Message, to_messages
from gemlet.errors import FileError, FormatError
from gemlet.files import check_target, read_file, replacing

_MOST_BYTES = 1 << 30
"""Of a saved conversation. A context of 128 K tokens holds some 2 MB of text, and the longest sound has 310 MB."""


@dataclass(frozen=True)
class SavedChat:
    """What the file of a conversation holds."""

    model: int
    """The fingerprint of the model; tokens are that model's."""
    system: str | None
    messages: Sequence[Message]

    def write(self, path: Path, sources: Sequence[Path]) -> None:
        """Write the file; one that is there stays until the new one is whole.

        Raises FileError if it cannot be written, is one of `sources`, or is no regular file; and for a conversation
        that is larger than `read` takes.
        """
        check_target(path, sources)
        lines: list[bytes] = []
        size = 0
        for line in self._lines():
            lines.append(line.encode("utf-8", "backslashreplace"))  # half characters become JSON's escapes
            size += len(lines[-1])
            if size > _MOST_BYTES:
                raise FileError(
                    f"{path}: the conversation, with its pictures and sounds, has more than {_MOST_BYTES:,} bytes, the "
                    "most that is read of a saved one"
                )
        with replacing(path, sources) as file:
            file.writelines(lines)

    def _lines(self) -> Iterator[str]:
        """JSON with a line for each message."""
        head = json.dumps({"model": self.model, "system": self.system}, ensure_ascii=False)
        yield f'{head.removesuffix("}")}, "messages": ['
        for i, message in enumerate(self.messages):
            yield ("," if i else "") + "\n" + json.dumps(message.to_dict(), ensure_ascii=False)
        yield "\n]}\n"

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
