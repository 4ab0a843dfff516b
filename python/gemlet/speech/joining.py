"""Joins the texts of clips: with a space where writing has some, and at the words that clips have in common."""

import re

_WITHOUT_SPACES = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f\u1780-\u17ff"  # Burmese, Khmer
    "\u3040-\u30ff"  # Japanese
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # Chinese
)
_LETTER = rf"(?:(?![{_WITHOUT_SPACES}])[\w\u0300-\u036f\u0900-\u0963\u0966-\u0dff])"  # Python's \w has no vowel signs
_WORD = re.compile(rf"[{_WITHOUT_SPACES}]|{_LETTER}+(?:['\u2019-]{_LETTER}+)*")
_CLOSED_UP = re.compile(rf"[{_WITHOUT_SPACES}\u3000-\u303f\uff00-\uffef]")
_REACH = 24
"""Words at the end of one text and the beginning of the next that are compared, some more than clips share."""
_NEAR = 2
"""Words between a short run and the seam: those that were cut in two."""


def separator(before: str, after: str) -> str:
    """What stands between two texts."""
    if not before or not after:
        return ""
    return "" if _CLOSED_UP.match(before[-1]) and _CLOSED_UP.match(after[0]) else " "


def join(before: str, after: str) -> tuple[str, str]:
    """Two texts, of clips that overlap, without what both say.

    The longest run of words that is at the end of the one and at the beginning of the other is left to the first; what
    stands behind it there and before it here are words that were cut in two, or heard differently. Three words are the
    least that counts, or two near the seam, or one at it.
    """
    left = list(_WORD.finditer(before))[-_REACH:]
    right = list(_WORD.finditer(after))[:_REACH]
    end, begin, length = _longest_run([w[0].casefold() for w in left], [w[0].casefold() for w in right])
    away = max(len(left) - end, begin)
    if length < 3 and not (length == 2 and away <= _NEAR) and not (length == 1 and away == 0):
        return before, after
    rest = after[right[begin + length - 1].end() :]
    mark = re.match(r"[^\w\s]*", rest)
    closing = mark[0] if mark else ""
    return before[: left[end - 1].end()] + closing, rest[len(closing) :].strip()


def _longest_run(left: list[str], right: list[str]) -> tuple[int, int, int]:
    """Where it ends on the left and begins on the right, and its length; of equals the one nearest to the seam."""
    best = (0, 0, 0)
    lengths = [0] * (len(right) + 1)  # of the run that ends at each word of the right, and the current one of the left
    for i, word in enumerate(left):
        for j in range(len(right), 0, -1):
            lengths[j] = lengths[j - 1] + 1 if right[j - 1] == word else 0
            run = (i + 1, j - lengths[j], lengths[j])
            if (run[2], run[0] - run[1]) > (best[2], best[0] - best[1]) and run[2]:
                best = run
    return best
