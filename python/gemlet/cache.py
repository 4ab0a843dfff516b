"""The folder where gemlet keeps what it can make again: `$GEMLET_CACHE`, else `gemlet` in the user's cache folder."""

import os
from pathlib import Path


def cache_location() -> Path | None:
    """Where the folder is or would be; None if `GEMLET_CACHE` is empty, or for a user without a home."""
    named = os.environ.get("GEMLET_CACHE")
    if named is not None:
        return Path(named) if named else None
    base = user_cache()
    return base / "gemlet" if base else None


def cache_folder() -> Path | None:
    """The folder, made if need be; None if there is none that can be written."""
    folder = cache_location()
    if folder is None:
        return None
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


def user_cache() -> Path | None:
    """The user's folder for caches: `$XDG_CACHE_HOME`, else `~/.cache`; None for a user without a home."""
    if named := os.environ.get("XDG_CACHE_HOME"):
        return Path(named)
    home = home_folder()
    return home / ".cache" if home else None


def home_folder() -> Path | None:
    """The user's home; None if neither `$HOME` nor the password database names one."""
    try:
        return Path.home()
    except RuntimeError:
        return None


def expand(path: str) -> Path:
    """A path whose `~` or `~user` stands for a home, as a shell reads it: unchanged where there is none."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)
