"""Real texts in many languages, taken from Debian packages and from Python when they are wanted.

The packages are fetched with `apt-get download` and unpacked into a folder; nothing is installed. Versions differ
between distributions, so results name the SHA-256 of each text.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import llama_tools

# Debian's package of translated manual pages, and their folder below /usr/share/man.
LANGUAGES = {
    "German": ("manpages-de", "de"),
    "French": ("manpages-fr", "fr"),
    "Spanish": ("manpages-es", "es"),
    "Italian": ("manpages-it", "it"),
    "Polish": ("manpages-pl", "pl"),
    "Portuguese": ("manpages-pt-br", "pt_BR"),
    "Russian": ("manpages-ru", "ru"),
    "Ukrainian": ("manpages-uk", "uk"),
    "Japanese": ("manpages-ja", "ja"),
    "Chinese": ("manpages-zh", "zh_CN"),
    "Hungarian": ("manpages-hu", "hu"),
}


@dataclass(frozen=True)
class Text:
    """One text and where it is from."""

    name: str
    source: str
    data: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


def english(folder: Path, characters: int) -> Text:
    root = unpacked("debian-faq", folder)
    text = gzip.decompress((root / "usr/share/doc/debian/FAQ/debian-faq.en.txt.gz").read_bytes()).decode()
    return _text("English", root.name, text, characters)


def code(characters: int) -> Text:
    """Large modules of the standard library of the Python that runs this."""
    root = Path(sysconfig.get_path("stdlib"))
    files = [root / name for name in ("argparse.py", "ast.py", "inspect.py", "tarfile.py")]
    source = f"Python {sysconfig.get_python_version()}"
    return _text("code", source, "\n".join(file.read_text(encoding="utf-8") for file in files), characters)


def manual_pages(language: str, folder: Path, characters: int) -> Text:
    """The longest pages of a language, as plain text; bash's and perl's are left out, which are mostly code."""
    package, code = LANGUAGES[language]
    root = unpacked(package, folder)
    pages = sorted((root / "usr/share/man" / code).rglob("*.gz"), key=lambda page: (-page.stat().st_size, page.name))
    regular = (page for page in pages if not page.is_symlink() and not page.name.startswith(("bash", "perl")))
    return _text(language, root.name, "\n".join(_joined(regular, characters)), characters)


def unpacked(package: str, folder: Path) -> Path:
    """The folder PACKAGE_VERSION below `folder` with the package's files, fetched if it is not there."""
    found = sorted(folder.glob(f"{package}_*/"))
    if not found:
        folder.mkdir(parents=True, exist_ok=True)
        llama_tools.run(["apt-get", "download", "--quiet", package], folder)
        archive = next(folder.glob(f"{package}_*.deb"))
        found = [archive.with_suffix("")]
        llama_tools.run(["dpkg-deb", "--extract", archive, found[0]])
        archive.unlink()
    return found[0]


def _text(name: str, source: str, text: str, characters: int) -> Text:
    return Text(name, source, text[:characters].encode())


def _joined(pages: Iterable[Path], characters: int) -> Iterable[str]:
    length = 0
    for page in pages:
        if length >= characters:
            return
        text = plain(gzip.decompress(page.read_bytes()).decode("utf-8", errors="replace"))
        length += len(text)
        yield text


def plain(page: str) -> str:
    """A manual page from its first heading, without most of its markup: comments, macro names, fonts and escapes."""
    lines = []
    heading = re.search(r"^\.S[Hh] ", page, re.MULTILINE)
    for line in page[heading.start() if heading else 0 :].splitlines():
        if re.match(r"""['.]\s*(\\["#]|if|ie|el|\.)""", line):
            continue
        text = re.sub(r"^['.]\s*[A-Za-z]{1,2}\b ?", "", line)
        text = re.sub(r"\\f(\[\w*\]|\(\w\w|\w)|\\[,/&|]", "", text)
        lines.append(text.replace(r"\-", "-").replace(r"\(aq", "'").replace(r"\e", "\\").rstrip())
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"
