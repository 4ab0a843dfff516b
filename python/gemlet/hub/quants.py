"""Choosing among a repository's GGUF files, by quantisation."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gemlet.errors import ArgumentError, FileError
from gemlet.hub.reference import Reference

DEFAULTS = ("Q4_K_M", "Q4_0")
"""What is taken, in this order, where no quantisation is named."""

_PART = re.compile(r"(?P<stem>.+)-(?P<part>\d{5})-of-(?P<parts>\d{5})")
_LABEL = re.compile(r"(?i)(?:^|[-._])((?:UD-)?[IT]?Q\d+(?:_[A-Z0-9]+)*|BF16|FP?16|FP?32|MXFP4(?:_MOE)?)(?=[-.]|$)")
_NO_TEXT_MODEL = re.compile(r"(?i)mmproj|imatrix")


@dataclass(frozen=True)
class Candidate:
    """One model of a repository: a file, or the parts of a split one in their order."""

    label: str
    """Its quantisation as its name says, as in Q4_K_M; the whole stem if it says none."""
    files: tuple[str, ...]
    missing: str | None = None
    """The first part that is not there."""


def candidates(files: Iterable[str]) -> list[Candidate]:
    """The text models among a repository's files; mmproj files hold encoders of pictures and sound."""
    groups: dict[tuple[str, int], set[str]] = {}
    for file in files:
        name = file.rpartition("/")[2]
        if not name.lower().endswith(".gguf") or _NO_TEXT_MODEL.search(name):
            continue
        stem = file[: -len(".gguf")]
        split = _PART.fullmatch(stem)
        key = (split["stem"], int(split["parts"])) if split else (stem, 0)
        groups.setdefault(key, set()).add(file)
    return [_candidate(stem, parts, files) for (stem, parts), files in sorted(groups.items())]


def choose(found: Sequence[Candidate], wanted: Reference) -> Candidate:
    """The candidate that is meant.

    Raises:
        ArgumentError: none of that name, or several; the message lists which there are.
        FileError: a split model without one of its parts.
    """
    fitting = _fitting(found, wanted)
    if len(fitting) == 1:
        [chosen] = fitting
        if chosen.missing is not None:
            raise FileError(f"{wanted.repo}: {chosen.missing} is missing, the other parts of that model are there")
        return chosen
    if len(fitting) > 1:
        names = ", ".join(candidate.files[0] for candidate in fitting)
        raise ArgumentError(f"{wanted}: fits several files; name one, as in hf:{wanted.repo}/FILE.gguf: {names}")
    labels = ", ".join(sorted({candidate.label for candidate in found})) or "none"
    if wanted.file is not None:
        raise ArgumentError(f"{wanted.repo}: has no text model {wanted.file}; there are {labels}")
    if wanted.quant is not None:
        raise ArgumentError(f"{wanted.repo}: has no {wanted.quant}; there are {labels}")
    raise ArgumentError(f"{wanted.repo}: name one of its quantisations, as in {wanted.repo}:QUANT: {labels}")


def _fitting(found: Sequence[Candidate], wanted: Reference) -> Sequence[Candidate]:
    if wanted.file is not None:
        return [candidate for candidate in found if wanted.file in candidate.files]
    if wanted.quant is not None:
        return _labelled(found, wanted.quant)
    for default in DEFAULTS:
        if fitting := _labelled(found, default):
            return fitting
    return found if len(found) == 1 else []


def _labelled(found: Sequence[Candidate], quant: str) -> list[Candidate]:
    """UD- marks a variant of a type, which serves where the type itself is not there."""
    name = quant.upper()
    exact = [candidate for candidate in found if candidate.label == name]
    return exact or [candidate for candidate in found if candidate.label == f"UD-{name}"]


def _candidate(stem: str, parts: int, files: set[str]) -> Candidate:
    name = stem.rpartition("/")[2]
    labels = _LABEL.findall(name)
    label = labels[-1].upper() if labels else name
    if parts == 0:
        return Candidate(label, tuple(files))
    expected = (f"{stem}-{part:05}-of-{parts:05}.gguf" for part in range(1, parts + 1))
    missing = next((file for file in expected if file not in files), None)
    return Candidate(label, tuple(sorted(files)), missing)
