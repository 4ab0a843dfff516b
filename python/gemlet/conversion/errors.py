"""Errors of the converter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gemlet.errors import FormatError

_MOST_LINES: Final = 300
_MOST_LETTERS: Final = 500


class ConvertError(FormatError):
    """A checkpoint that cannot be converted; the message names the file, the field or the tensors at fault."""

    @classmethod
    def listing(cls, head: str, problems: Sequence[str]) -> ConvertError:
        """One error for all of `problems`, so that a user repairs a checkpoint once and not tensor by tensor."""
        shown = [problem if len(problem) <= _MOST_LETTERS else f"{problem[:_MOST_LETTERS]} ..." for problem in problems]
        if len(shown) > _MOST_LINES:
            shown[_MOST_LINES:] = [f"and {len(shown) - _MOST_LINES} more"]
        return cls("\n  - ".join([f"{head}:", *shown]))
