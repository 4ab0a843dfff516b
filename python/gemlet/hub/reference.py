"""How a model of the Hugging Face hub is named: OWNER/REPO, OWNER/REPO:QUANT or OWNER/REPO/FILE.gguf."""

import re
from dataclasses import dataclass

from gemlet.errors import ArgumentError

PREFIX = "hf:"
_FORM = re.compile(
    r"(?P<repo>[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}/[A-Za-z0-9_][A-Za-z0-9_.-]{0,95})"
    r"(?::(?P<quant>[A-Za-z0-9_.-]{1,40})|/(?P<file>.{1,400}\.gguf))?"
)


@dataclass(frozen=True)
class Reference:
    """A repository, and a quantisation or a file of it if one was named."""

    repo: str
    quant: str | None = None
    file: str | None = None

    def __str__(self) -> str:
        if self.file is not None:
            return f"{self.repo}/{self.file}"
        return self.repo if self.quant is None else f"{self.repo}:{self.quant}"


def parse(text: str) -> Reference | None:
    """The reference, with or without `hf:` in front; None for a text of another form."""
    match = _FORM.fullmatch(text.removeprefix(PREFIX))
    if match is None or "--" in match["repo"] or ".." in match["repo"]:
        return None
    if match["file"] is not None and not is_safe(match["file"]):
        return None
    return Reference(match["repo"], match["quant"], match["file"])


def parse_or_raise(text: str) -> Reference:
    """Like `parse`; raises ArgumentError for a text of another form."""
    found = parse(text)
    if found is None:
        raise ArgumentError(f"{text!r}: expected OWNER/REPO, OWNER/REPO:QUANT or OWNER/REPO/FILE.gguf")
    return found


def is_safe(file: str) -> bool:
    """Whether a file's path inside its repository stays inside, and can be shown on a terminal."""
    parts = file.split("/")
    return file.isprintable() and "\\" not in file and not any(part in ("", ".", "..") for part in parts)
