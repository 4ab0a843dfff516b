"""What gemlet raises. Every message names the file, tensor, field or argument, what was expected and what was found.

Each class is also the built-in exception that a caller would expect, so that ``except OSError`` catches a missing file.
"""


class GemletError(Exception):
    """Base of everything that gemlet raises on purpose."""


class FileError(GemletError, OSError):
    """A file that cannot be opened, read, mapped or written."""


class FormatError(GemletError, ValueError):
    """A file whose contents are malformed or damaged."""


class UnsupportedError(GemletError):
    """A well-formed file, but of an architecture, type or version that gemlet does not run."""


class ArgumentError(GemletError, ValueError):
    """A value passed by the caller."""


class ArgumentTypeError(ArgumentError, TypeError):
    """A value of another type than expected."""


class ContextError(GemletError, ValueError):
    """More tokens than the context holds; the message gives both lengths."""


class CancelledError(GemletError):
    """The caller asked to stop."""


class OutOfMemoryError(GemletError, MemoryError):
    """An allocation that the system refused."""


class OverloadError(GemletError):
    """More requests at once than a scheduler takes: ask again later."""


class TemplateError(GemletError, ValueError):
    """A chat template that does not parse, refuses the messages, or does too much work."""
