"""From a model's name to its file."""

import os
from pathlib import Path

from gemlet.bundled import NANO, bundled_nano
from gemlet.errors import ArgumentError, FileError
from gemlet.forked import importing
from gemlet.hub import hf_cache, ollama, package, reference
from gemlet.hub.files import Advance, mark_used

_PATH_STARTS = (os.sep, f".{os.sep}", f"..{os.sep}", "~")


def find_model(name: str | os.PathLike[str], advance: Advance | None = None) -> Path:
    """The file or folder of a model.

    Args:
        name: the path of a file or folder; `nano`; `gemma-3-270m`; `hf:OWNER/REPO`, `hf:OWNER/REPO:QUANT` or
            `hf:OWNER/REPO/FILE.gguf`, which are downloaded unless they are in the cache; the same without `hf:`, if
            they are in the cache; `ollama:NAME:TAG`. What exists as a path is taken as a path.
        advance: takes the bytes done and the bytes in all while a model is being downloaded or joined.

    Raises:
        FileError: there is no such model here; the message says where it was looked for and how to get it.
        ArgumentError, FormatError, UnsupportedError: what those who get the model say.
    """
    text = os.fspath(name)
    if not text:
        raise ArgumentError("the model's name is empty, expected a path or a name that gemlet list shows")
    path = Path(text)
    if _exists(path):
        return path
    if text == NANO:
        return bundled_nano()
    if text == package.NAME:
        return package.find_gemma_270m(advance)
    if text.startswith(ollama.PREFIX):
        return ollama.find_ollama(text.removeprefix(ollama.PREFIX))
    wanted = reference.parse_or_raise(text) if text.startswith(reference.PREFIX) else reference.parse(text)
    if wanted is not None and (cached := hf_cache.find_cached(wanted)):
        mark_used(cached[0])
        return cached[0]
    if wanted is not None and text.startswith(reference.PREFIX):
        with importing:
            from gemlet.hub.download import pull

        return pull(wanted, advance).path
    if text.startswith(_PATH_STARTS) or (text.endswith(".gguf") and (wanted is None or wanted.file is None)):
        return path
    raise FileError(_unknown(text, wanted))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long for a file
        return False


def _unknown(text: str, wanted: reference.Reference | None) -> str:
    cache = hf_cache.hf_cache_folder()
    tried = [
        "a file or folder of that name",
        f"the names {NANO} and {package.NAME}",
        f"the models in the Hugging Face cache ({cache or 'none: this user has no home'})",
    ]
    if wanted is not None and (here := hf_cache.labels(wanted.repo)):
        tried[-1] += f", where {wanted.repo} has {', '.join(here)}"
    how = f"gemlet pull {wanted}" if wanted else "gemlet pull OWNER/REPO:QUANT"
    shown = text if text.isprintable() else repr(text)
    return (
        f"{shown}: no such model. Tried: {'; '.join(tried)}. To get one: {how} downloads it from Hugging Face, "
        f"{ollama.PREFIX}NAME opens one of Ollama's, and gemlet list shows what is here"
    )
