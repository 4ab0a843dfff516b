"""What happens to a conversation that no longer fits into the context."""

import reprlib
from bisect import bisect_left
from collections.abc import Callable
from typing import Literal, get_args

from gemlet.chat.templates import Prompt
from gemlet.errors import ArgumentError

Overflow = Literal["error", "drop_oldest"]
"""A ContextError; or the oldest turns are left out of the prompt, never the system prompt or the newest question."""


def check_overflow(value: object) -> Overflow:
    """Raises ArgumentError for what is no Overflow."""
    for known in get_args(Overflow):
        if value == known:
            return known  # type: ignore[no-any-return]
    raise ArgumentError(
        f"overflow is {reprlib.repr(value)}, expected one of {', '.join(map(repr, get_args(Overflow)))}"
    )


def reply_reserve(max_tokens: object, context: int) -> int:
    """Tokens that are kept free for a reply: as many as it may have, a quarter of the context if it may have any
    number, and never more than half of the context.
    """
    if isinstance(max_tokens, int) and max_tokens > 0:
        return min(max_tokens, context // 2)
    return context // 4


def drop_oldest(
    encode: Callable[[int], Prompt], turns: int, context: int, reserve: int, least: int = 0
) -> tuple[int, Prompt]:
    """The number of turns to leave out, and the prompt without them.

    Each time, the KV cache has to be filled anew from the first turn that stays. So that this does not happen at every
    turn from then on, the turns that stay take at most half of the room that turns have; the newest one stays if it
    fits at all.

    Args:
        encode: the prompt without so many of the oldest turns.
        turns: that may be left out.
        context: of the session.
        reserve: tokens that the prompt has to leave free, if leaving out turns can bring that about.
        least: turns that have to be left out, as their size alone tells.
    """
    prompts: dict[int, Prompt] = {}

    def length(dropped: int) -> int:
        if dropped not in prompts:
            prompts[dropped] = encode(dropped)
        return len(prompts[dropped].tokens)

    def fewest(most_tokens: int) -> int:
        return bisect_left(range(turns), True, lo=least, key=lambda dropped: length(dropped) <= most_tokens)

    if least == 0 and (length(0) + reserve <= context or turns == 0):
        return 0, prompts[0]
    room = context - reserve - length(turns)
    needed = fewest(context - reserve)
    dropped = max(needed, min(fewest(length(turns) + room // 2), turns - 1))
    length(dropped)
    return dropped, prompts[dropped]
