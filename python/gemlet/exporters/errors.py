"""What an export raises."""

from gemlet.errors import GemletError


class ExportError(GemletError):
    """An export that cannot be made, or whose result failed its check; nothing was left under the final name."""
