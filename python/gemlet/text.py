"""Between Python's text and the core's bytes."""

from gemlet import _core
from gemlet.errors import ArgumentError, ContextError


def to_bytes(text: str | bytes) -> bytes:
    """UTF-8. Bytes pass as they are; the surrogates by which Python carries undecodable bytes become those bytes.

    Raises ArgumentError for other surrogates, which stand for no character and no byte.
    """
    if isinstance(text, bytes):
        return text
    if not isinstance(text, str):
        raise TypeError(f"text: expected str or bytes, found {type(text).__name__}")
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise ArgumentError(
            f"text: character {error.start} is the lone surrogate U+{ord(text[error.start]):04X}"
        ) from None


def to_text(data: bytes) -> str:
    """Malformed bytes become U+FFFD."""
    return data.decode("utf-8", "replace")


def require_room(engine: _core.Engine, size: int, context: int, media: int = 0) -> None:
    """Raise ContextError for a text of so many bytes that cannot fit: tokenising it might take gigabytes.

    ``media``: the tokens of pictures and sounds beside it.
    """
    fewest = engine.fewest_tokens(size) + media
    if fewest > context:
        beside = ", and pictures or sounds" if media else ""
        raise ContextError(
            f"the prompt has {size:,} bytes{beside}, which are at least {fewest:,} tokens; the context holds "
            f"{context:,}"
        )
