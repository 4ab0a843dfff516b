"""Seeded mutations of JSON values and texts, for the fuzzers: test_*_fuzz.py.

Two variables of the environment, which scripts/fuzz sets, make a long run of the short one that every test run has:
``GEMLET_FUZZ_SEED`` gives other mutants, ``GEMLET_FUZZ_CASES`` another number of them.
"""

import copy
import os
import random
import re
from collections.abc import Iterator, Sequence
from typing import Any

ODD: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**32 - 1,
    2**63,
    2**64,
    10**40,
    0.5,
    float("inf"),
    float("nan"),
    "",
    "x",
    "a\0b",
    "\ud800",
    "..",
    "/dev/zero",
    "x" * 5000,
    [],
    {},
    [[]],
    [1, "x"],
    [None],
    {"a": {"b": []}},
    ["a", "b"],
    [2**70],
]
"""Values that stand where others are expected."""
_KEYS = ("", "..", "a\0b", "\ud800", "x", "files", "/dev/zero", "fifo")


def cases(usual: int) -> int:
    """How many mutants a fuzzer tries."""
    return int(os.environ.get("GEMLET_FUZZ_CASES", usual))


def seed(usual: int) -> int:
    """What its mutants are made from."""
    return int(os.environ.get("GEMLET_FUZZ_SEED", usual))


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every entry of the objects and lists in a value: what holds it, and where in that."""
    entries = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ())
    for key, inner in entries:
        yield value, key
        yield from places(inner)


def mutated_json(good: Any, rng: random.Random) -> Any:
    """A copy of an object or a list with entries left out, replaced or renamed."""
    value = copy.deepcopy(good)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        others = list(places(value))
        if not others:
            break
        holder, key = rng.choice(others)
        match rng.randrange(5):
            case 0:
                del holder[key]
            case 1:
                other, at = rng.choice(others)
                holder[key] = copy.deepcopy(other[at])
            case 2 if isinstance(holder, dict):
                holder[rng.choice(_KEYS)] = holder.pop(key)
            case _:
                holder[key] = copy.deepcopy(rng.choice(ODD))
    return value


def mutated_text(text: str, donors: Sequence[str], numbers: Sequence[str], rng: random.Random) -> str:
    """A text with words and what lies between them left out, doubled, or taken from other texts, and other numbers."""
    for _ in range(rng.randrange(1, 4)):
        pieces = re.split(r"(\W+)", text)
        i, j = sorted((rng.randrange(len(pieces)), rng.randrange(len(pieces))))
        change = rng.randrange(4)
        if change == 0:
            pieces[i] = rng.choice(re.split(r"(\W+)", rng.choice(donors)))
        elif change == 1:
            del pieces[i : i + 1]
        elif change == 2:
            pieces[j:j] = pieces[i:j][:40]
        else:
            pieces = [rng.choice(numbers) if p.isdigit() and rng.random() < 0.5 else p for p in pieces]
        text = "".join(pieces)
    return text
