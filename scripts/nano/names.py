"""Invented names of many shapes, and real ones that training never sees."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import words

#: Real names for the test set. Training makes none of them up either.
UNSEEN: tuple[str, ...] = words.listed("""
Bob Sue Ann Ed Al Jo Amy Ian Zac Tim Ron Kim Dan Ted Roy Pam Liz Guy Eve Fay Gus Hal Jen Ken Lea Meg Ned Pat Ray
Alan Barb Beth Bill Brad Burt Cody Dave Dean Doug Drew Earl Evan Fred Gail Glen Gwen Hope Hugh Jack Jean Jeff Jess Jill
John Judy June Kate Kurt Kyle Lily Luke Mark Mary Matt Mike Neil Nick Norm Opal Otis Owen Pete Phil Rick Rory Ross Ryan
Sean Seth Stan Troy Wade Walt Zane Zora Aaron Alvin Amber Ariel Barry Becky Betty Blake Brett Brian Bryce Carol
Chuck Cindy Clive Colin Craig Cyrus Darla Debby Derek Donna Doris Dylan Edgar Ellen Elmer Ethan Floyd Gavin Grace
Heath Holly Ingmar Janet Jason Jerry Jimmy Joyce Karen Keith Lance Larry Leroy Logan Lydia Lynne Mabel Marge
Micah Mitch Molly Moses Myron Nancy Nigel Norma Oprah Orson Penny Percy Perry Piper Randy Raven Rhoda Robin Rodney
Roger Rufus Sally Sandy Scott Sharon Shawn Sheila Shelby Stacy Steve Susan Tammy Tanya Terry Tracy Trent Tyler Vince
Wayne Wendy Wesley Wilbur Yvonne Abigail Bernard Brandon Candice Clayton Clifton Desmond Douglas Francis Gilbert Gregory
Harriet Herbert Jeffrey Kenneth Leonard Matthew Maurice Melissa Patrick Phillip Raymond Rebecca Russell Stanley Stephen
Timothy Vanessa Vernon Winston Zsofia Laszlo Katalin Ferenc Ildiko Zoltan Aoife Siobhan Niamh Mehmet Ayse Nguyen Chidi
""")

_VOWELS = "aeiou"
_CONSONANTS = "bcdfghjklmnprstvwz"
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_ACCENTED = "áéíóúàèçñöüäß"
_PATTERNS = (
    "CVC",
    "CVC",
    "CVCV",
    "VCV",
    "CVCC",
    "CVCCV",
    "VCCV",
    "CCVC",
    "VC",
    "CV",
    "CVVC",
    "CVCVC",
    "CVCCVC",
    "VCVCV",
)


def invent(rng: Random, pieces: Sequence[str] = ()) -> str:
    """A made-up name in small letters, at times of a tokenizer's pieces, so that each comes up."""
    if pieces and rng.random() < 0.3:
        return "".join(rng.choice(pieces) for _ in range(rng.randint(1, 3)))[:12].lower()
    shape = rng.choices((_joined, _syllables, _patterned, _scattered, _echoing), (25, 25, 25, 13, 12))[0]
    name = shape(rng)
    if rng.random() < 0.02:
        at = rng.randrange(len(name))
        name = name[:at] + rng.choice(_ACCENTED) + name[at + 1 :]
    return name


def plain(rng: Random) -> str:
    """A made-up name of the shapes that the test set has."""
    return (_joined if rng.random() < 0.6 else _syllables)(rng)


def written(rng: Random, first: str, second: str) -> str:
    """One name mostly, at times two, or two with a hyphen."""
    return rng.choices((first, f"{first}-{second}", f"{first} {second}"), (94, 3, 3))[0]


def _joined(rng: Random) -> str:
    """The start of one word with the end of another."""
    first, second = rng.choice(words.MATERIAL), rng.choice(words.MATERIAL)
    return first[: rng.randint(1, 4)] + second[-rng.randint(1, 5) :]


def _syllables(rng: Random) -> str:
    count = rng.choice((1, 2, 2, 3))
    return "".join(rng.choice(words.SYLLABLES) for _ in range(count)) + rng.choice(words.ENDINGS)


def _patterned(rng: Random) -> str:
    """Consonants and vowels by a pattern; a letter often comes twice, as in Bob, Anna and Otto."""
    name = ""
    for kind in rng.choice(_PATTERNS):
        letters = _CONSONANTS if kind == "C" else _VOWELS
        again = [letter for letter in name if letter in letters]
        name += rng.choice(again) if again and rng.random() < 0.3 else rng.choice(letters)
    return name + (name[-1] if rng.random() < 0.08 else "")


def _scattered(rng: Random) -> str:
    """Any letters."""
    return "".join(rng.choice(_LETTERS) for _ in range(rng.randint(2, 8)))


def _echoing(rng: Random) -> str:
    """A part that comes twice, or one and its mirror image."""
    part = rng.choice((_syllables, _patterned, _scattered))(rng)[: rng.randint(2, 4)]
    return (part + part[::-1])[: rng.randint(3, 8)] if rng.random() < 0.5 else part + part + rng.choice(("", "n", "a"))
