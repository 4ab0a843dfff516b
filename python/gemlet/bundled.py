"""The sample model that comes with gemlet."""

from pathlib import Path

from gemlet.errors import FileError

NANO = "nano"
_MODELS = Path(__file__).parent / "models"


def bundled_nano() -> Path:
    """The file of the sample model."""
    nano = _MODELS / f"{NANO}.gguf"
    if not nano.exists():
        raise FileError(f"{nano}: the sample model is not part of this installation; scripts/nano builds it")
    return nano
