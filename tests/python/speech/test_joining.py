"""The texts of clips are joined without doubled words."""

from __future__ import annotations

import pytest
from gemlet.speech.joining import join, separator


@pytest.mark.parametrize(
    ("before", "after", "joined"),
    [
        ("The cat sat on the mat", "on the mat and slept.", "The cat sat on the mat|and slept."),
        ("The cat sat on the mat", "sat on the mat. Then it slept.", "The cat sat on the mat.|Then it slept."),
        ("It was on The Mat yes", "the mat, yes! No.", "It was on The Mat yes!|No."),
        ("we all went to the mark", "went to the market today", "we all went to the|market today"),
        ("we all went to the market tod", "rket today we ate", "we all went to the market tod|rket today we ate"),
        ("we went to the market tod", "ent to the market today we ate", "we went to the market|today we ate"),
        ("one two three", "three four", "one two three|four"),
        ("one two three yes", "three four", "one two three yes|three four"),
        ("yes of the one two three four", "of the five", "yes of the one two three four|of the five"),
        ("a b c x e f", "a b c y e f g", "a b c|y e f g"),
        ("", "words", "|words"),
        ("words", "", "words|"),
        ("...", "!", "...|!"),
        ("the same words", "the same words", "the same words|"),
        ("I don't know it's late", "don't know it's late now", "I don't know it's late|now"),
        ("我们今天去市场买", "今天去市场买东西。", "我们今天去市场买|东西。"),
        ("हम सब बाज़ार गए थे", "बाज़ार गए थे। फिर", "हम सब बाज़ार गए थे।|फिर"),
        ("今日は市場へ行きました。", "へ行きました。そして", "今日は市場へ行きました。|そして"),
    ],
)
def test_the_longest_common_run_is_said_once(before: str, after: str, joined: str) -> None:
    assert "|".join(join(before, after)) == joined


def test_a_run_longer_than_clips_share_is_cut_at_its_reach() -> None:
    words = [f"w{i}" for i in range(100)]
    before, after = join(" ".join(words[:60]), " ".join(words[50:]))
    assert f"{before} {after}".split() == words


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [("a", "b", " "), ("", "b", ""), ("a", "", ""), ("買い。", "そして", ""), ("OK", "そして", " "), ("ไป", "มา", "")],
)
def test_a_space_stands_where_writing_has_some(before: str, after: str, expected: str) -> None:
    assert separator(before, after) == expected
