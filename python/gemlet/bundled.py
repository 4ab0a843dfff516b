"""The sample model that comes with gemlet."""

import os
from pathlib import Path

from gemlet.errors import FileError

NANO = "nano"
_MODELS = Path(__file__).parent / "models"


def find_model(path: str | os.PathLike[str]) -> Path:
    """The file that ``path`` names; "nano", unless there is a file of that name, is the sample model."""
    file = Path(path)
    if str(path) != NANO or file.exists():
        return file
    nano = _MODELS / f"{NANO}.gguf"
    if not nano.exists():
        raise FileError(f"{nano}: the sample model is not part of this installation; scripts/nano builds it")
    return nano
