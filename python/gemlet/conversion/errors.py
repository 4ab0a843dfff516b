"""Errors of the converter."""

from __future__ import annotations

from collections.abc import Sequence

from gemlet.errors import FormatError


class ConvertError(FormatError):
    """A checkpoint that cannot be converted; the message names the file, the field or the tensors at fault."""

    @classmethod
    def listing(cls, head: str, problems: Sequence[str]) -> ConvertError:
        """One error for all of `problems`, so that a user repairs a checkpoint once and not tensor by tensor."""
        return cls("\n  - ".join([f"{head}:", *problems]))
