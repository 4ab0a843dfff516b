"""A full context: an error, or the oldest turns are left out of the prompt, visibly."""

import asyncio
from pathlib import Path
from typing import Any

import gemlet
import pytest
from gemlet import _core
from gemlet.chat.messages import Message
from gemlet.chat.overflow import drop_oldest, reply_reserve
from gemlet.chat.templates import ChatTemplate, Prompt

from foreign_templates import THINKING, TOOLS
from published_templates import GEMMA_3

CONTEXT = 256
QUESTION = "the cat and the hat and the bat and the rat {}"


def talk_until_dropped(chat: gemlet.Chat) -> tuple[int, gemlet.GenerateResult]:
    for i in range(50):
        result = chat.send(QUESTION.format(i))
        if result.dropped_messages:
            return i, result
    raise AssertionError("the context was never full")


@pytest.fixture
def chat(model: gemlet.Model) -> gemlet.Chat:
    return model.chat(
        "be an ant", template=GEMMA_3, context=CONTEXT, overflow="drop_oldest", max_tokens=20, seed=1,
        logit_bias={1: -99},
    )  # fmt: skip


def test_a_full_context_is_an_error_unless_told_otherwise(model: gemlet.Model) -> None:
    chat = model.chat(template=GEMMA_3, context=CONTEXT, max_tokens=20, seed=1)
    assert chat.overflow == "error"
    with pytest.raises(gemlet.ContextError, match=f"the context holds {CONTEXT}"):
        for i in range(50):
            assert chat.send(QUESTION.format(i)).dropped_messages == 0
    before = chat.history
    chat.overflow = "drop_oldest"
    assert chat.send("a").dropped_messages > 0
    assert chat.history[: len(before)] == before


def test_the_oldest_turns_are_left_out(model: gemlet.Model, chat: gemlet.Chat) -> None:
    turn, result = talk_until_dropped(chat)
    history = chat.history
    assert len(history) == 2 * (turn + 1)  # nothing is forgotten, it is only left out of the prompt
    assert chat.dropped_messages == result.dropped_messages and result.dropped_messages % 2 == 0
    kept = [Message("system", "be an ant"), *history[chat.dropped_messages : -1]]
    prompt = ChatTemplate(model._engine, GEMMA_3).encode(kept)
    assert result.stats.prompt_tokens == len(prompt) <= CONTEXT - 20
    expected = model.session(CONTEXT).generate(prompt, max_tokens=20, seed=1, logit_bias={1: -99})
    assert result.tokens == expected.tokens
    # The turns that stay leave room, so that the next turn goes on from what is computed.
    following = chat.send("a")
    assert following.dropped_messages == 0
    assert following.stats.reused_tokens == len(prompt) + len(result.tokens) - 1


def test_a_conversation_goes_on_for_ever(chat: gemlet.Chat) -> None:
    drops = [chat.send(QUESTION.format(i)).dropped_messages for i in range(30)]
    assert chat.dropped_messages == sum(drops) and len(chat.history) == 60
    assert 3 <= sum(map(bool, drops)) <= 15


def test_streams_say_it_before_the_reply(model: gemlet.Model, chat: gemlet.Chat) -> None:
    turn, _ = talk_until_dropped(chat)
    other = model.chat(
        "be an ant", template=GEMMA_3, context=CONTEXT, overflow="drop_oldest", history=chat.history[: 2 * turn],
        max_tokens=20, seed=1, logit_bias={1: -99}, scheduler=model.scheduler(),
    )  # fmt: skip
    with other.stream(QUESTION.format(turn)) as stream:
        assert stream.dropped_messages == chat.dropped_messages
        next(stream)
    assert other.dropped_messages == 0 and len(other.history) == 2 * turn  # as before the turn
    result = asyncio.run(other.asend(QUESTION.format(turn)))
    assert result.dropped_messages == other.dropped_messages == chat.dropped_messages
    assert other.history[-1].content == chat.history[-1].content


def test_what_brings_dropped_messages_back(model: gemlet.Model, chat: gemlet.Chat) -> None:
    talk_until_dropped(chat)
    chat.history = chat.history[:2]
    assert chat.dropped_messages == 0
    talk_until_dropped(chat)
    chat.reset()
    assert chat.dropped_messages == 0 and chat.history == []


def test_what_is_taken_back_makes_room_for_what_was_dropped(model: gemlet.Model, chat: gemlet.Chat) -> None:
    talk_until_dropped(chat)
    while len(chat.history) > 4:
        assert chat.undo()
    assert chat.dropped_messages == 0
    prompt = ChatTemplate(model._engine, GEMMA_3).encode(
        [Message("system", "be an ant"), *chat.history, Message("user", "a")]
    )
    result = chat.send("a")
    assert (result.stats.prompt_tokens, result.dropped_messages, chat.dropped_messages) == (len(prompt), 0, 0)
    talk_until_dropped(chat)
    dropped = chat.dropped_messages
    assert chat.undo()
    again = chat.send(QUESTION.format(0))  # the conversation is still too long: the turn says what it leaves out
    assert again.dropped_messages == chat.dropped_messages > 0
    assert chat.dropped_messages <= dropped
    while chat.undo():
        pass
    assert chat.history == [] and chat.dropped_messages == 0


def test_no_more_is_left_out_than_there_is(chat: gemlet.Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread may forget the conversation in the moment when a reply is complete and not yet kept."""
    talk_until_dropped(chat)
    as_message = chat._as_message

    def forget(prompt: Prompt, result: gemlet.GenerateResult) -> Message:
        chat.reset()
        return as_message(prompt, result)

    monkeypatch.setattr(chat, "_as_message", forget)
    chat.send("the cat")
    assert [message.content for message in chat.history][:1] == ["the cat"] and chat.dropped_messages == 0


def test_the_newest_question_is_never_left_out(chat: gemlet.Chat) -> None:
    chat.send("the cat")
    before = chat.history
    with pytest.raises(gemlet.ContextError, match=f"the context holds {CONTEXT}"):
        chat.send("a " * CONTEXT)
    assert chat.history == before and chat.dropped_messages == 0
    template = ChatTemplate(chat._model._engine, GEMMA_3)
    system = Message("system", "be an ant")
    question = next(
        text
        for text in ("the cat " * count for count in range(CONTEXT))
        if CONTEXT - 15 < len(template.encode([system, Message("user", text)])) < CONTEXT - 5
    )
    long = chat.send(question)  # it leaves no room for the reserve, nor for anything else
    assert long.dropped_messages == 2 and long.finish_reason == "context"


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The size of each conversation that is made a prompt of."""
    sizes: list[int] = []
    prompt = ChatTemplate.prompt

    def measure(self: ChatTemplate, messages: Any, **options: Any) -> Prompt:
        sizes.append(sum(len(message.content) for message in messages))
        return prompt(self, messages, **options)

    monkeypatch.setattr(ChatTemplate, "prompt", measure)
    return sizes


HUGE: list[Any] = [
    {"role": "user", "content": "the cat " * 100_000},
    {"role": "assistant", "content": "ok"},
    {"role": "user", "content": "the hat"},
    {"role": "assistant", "content": "no"},
]


@pytest.mark.parametrize("template", [GEMMA_3, GEMMA_3 + "{# by Jinja #}"])
def test_what_is_too_large_is_not_tokenised(
    model: gemlet.Model, encoded: list[int], template: str, tmp_path: Path
) -> None:
    """Its size alone tells that it cannot fit."""
    too_large = f"the prompt has 800,0.. bytes, which are at least .* tokens; the context holds {CONTEXT}"
    chat = model.chat(template=template, context=CONTEXT, max_tokens=4, seed=1)
    with pytest.raises(gemlet.ContextError, match=too_large):
        chat.history = HUGE
    with pytest.raises(gemlet.ContextError, match=too_large):
        model.chat(template=template, context=CONTEXT, history=HUGE)
    assert chat.history == []
    dropping = model.chat(
        template=template, context=CONTEXT, history=HUGE, overflow="drop_oldest", max_tokens=4, seed=1
    )
    dropping.save(tmp_path / "chat.json")
    chat.load(tmp_path / "chat.json")
    with pytest.raises(gemlet.ContextError, match=too_large):
        chat.send("a bat")
    with pytest.raises(gemlet.ContextError, match=too_large):
        asyncio.run(chat.asend("a bat"))
    result = dropping.send("a bat")
    assert result.dropped_messages == 2 and len(dropping.history) == 6
    assert encoded and max(encoded) < 100
    expected = model.chat(template=template, context=CONTEXT, history=HUGE[2:], max_tokens=4, seed=1).send("a bat")
    assert result.tokens == expected.tokens
    dropping.history = HUGE[:2]  # there is nothing left that could be in a prompt
    assert dropping.send("a bat").dropped_messages == 2


def test_what_a_template_leaves_out_takes_no_room(model: gemlet.Model) -> None:
    """The thoughts of an earlier reply, and white space that is trimmed."""
    thought = {"role": "assistant", "content": f"<think>{'the cat ' * 1000}</think>no"}
    chat = model.chat(template=THINKING, context=CONTEXT, history=[HUGE[2], thought], max_tokens=2, seed=1)
    assert chat.send("a bat").stats.prompt_tokens < CONTEXT
    spaces = [{"role": "user", "content": "the cat" + "\n" * 9000}, HUGE[1]]
    assert model.chat(template=GEMMA_3, context=CONTEXT, history=spaces, max_tokens=2).send("a bat").tokens


def test_the_results_of_tools_go_with_their_turn(model: gemlet.Model) -> None:
    call = {"function": {"name": "f", "arguments": {}}}
    history: list[Any] = []
    for i in range(4):
        history += [
            {"role": "user", "content": QUESTION.format(i)},
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "content": "18", "name": "f", "tool_call_id": "c"},
            {"role": "assistant", "content": "warm"},
        ]
    # The last question waits for the result of its tool: it is the newest turn.
    history += [{"role": "user", "content": "and now?"}, {"role": "assistant", "tool_calls": [call]}]
    chat = model.chat(template=TOOLS, history=history, context=CONTEXT, overflow="drop_oldest", max_tokens=9, seed=1)
    result = chat.send({"role": "tool", "content": "19", "name": "f", "tool_call_id": "c"})
    assert result.dropped_messages > 0 and result.dropped_messages % 4 == 0
    assert chat.history[chat.dropped_messages].role == "user"


def test_the_policy_is_checked(model: gemlet.Model) -> None:
    with pytest.raises(gemlet.ArgumentError, match="overflow is 'drop', expected one of 'error', 'drop_oldest'"):
        model.chat(overflow="drop")  # type: ignore[arg-type]
    chat = model.chat()
    with pytest.raises(gemlet.ArgumentError, match="overflow is None"):
        chat.overflow = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("max_tokens", "reserve"), [(None, 25), (10, 10), (49, 49), (1000, 50), (0, 25), ("x", 25)]
)  # fmt: skip
def test_the_reserve_for_a_reply(max_tokens: object, reserve: int) -> None:
    assert reply_reserve(max_tokens, 100) == reserve


@pytest.mark.parametrize(
    ("turns", "question", "reserve", "expected"),
    [
        ([10, 10, 10], 10, 60, 0),  # all fit
        ([10, 10, 10], 10, 61, 2),  # at most half of 29 stay
        ([10] * 9, 10, 20, 6),  # at most half of 70 stay
        ([10, 10, 60], 10, 20, 2),  # the newest one stays if it fits at all
        ([10, 10, 80], 10, 20, 3),
        ([10, 10, 10], 90, 20, 3),  # the reserve cannot be had
        ([10, 10, 10], 200, 20, 3),
        ([], 200, 20, 0),
    ],
)
def test_drop_oldest(turns: list[int], question: int, reserve: int, expected: int) -> None:
    def encode(dropped: int) -> Prompt:
        asked.append(dropped)
        return Prompt(_core.Prompt([0] * (sum(turns[dropped:]) + question)))

    certain = [least for least in range(len(turns) + 1) if least == 0 or sum(turns[least - 1 :]) + question > 100]
    for least in certain:
        asked: list[int] = []
        dropped, prompt = drop_oldest(encode, len(turns), 100, reserve, least)
        assert (dropped, len(prompt.tokens)) == (expected, sum(turns[expected:]) + question)
        assert min(asked) >= least
