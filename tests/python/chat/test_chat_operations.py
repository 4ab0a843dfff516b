"""Conversations after random operations, and messages that may be anything."""

import random
from typing import Any

import gemlet
import pytest
from gemlet.chat.messages import Message
from gemlet.chat.templates import ChatTemplate

from foreign_templates import THINKING, TOOLS
from published_templates import GEMMA_3

CONTEXT = 200
WORDS = ("the cat", "a hat", "x > y", "</think>", "\n", " ", "<end_of_turn>", "é", "Sure: ")


@pytest.mark.parametrize("source", [GEMMA_3, THINKING, TOOLS])
@pytest.mark.parametrize("overflow", ["error", "drop_oldest"])
def test_replies_are_those_of_a_fresh_prompt(model: gemlet.Model, source: str, overflow: Any) -> None:
    """Whatever was sent, begun for the model, taken back, set, or left out before: what was computed for earlier turns
    and used again gives the same tokens as a prompt that is computed anew.
    """
    rng = random.Random(9)
    chat = model.chat("be brief" if source == GEMMA_3 else None, template=source, context=CONTEXT, overflow=overflow)
    template = ChatTemplate(model._engine, source)
    sent = dropped = refused = 0
    for seed in range(60):
        text = "".join(rng.choice(WORDS) for _ in range(rng.randrange(1, 8)))
        prefill = "".join(rng.choice(WORDS) for _ in range(rng.randrange(4))) if rng.random() < 0.4 else ""
        options: gemlet.GenerateOptions = {"max_tokens": rng.randrange(1, 12), "seed": seed}
        match rng.randrange(10):
            case 0:
                chat.undo()
            case 1:
                chat.history = [Message(m.role, m.content) for m in chat.history[: 2 * rng.randrange(4)]]
            case 2:
                with chat.stream(text, prefill=prefill, max_tokens=5, seed=seed) as stream:
                    next(stream, None)
            case _:
                try:
                    result = chat.send(text, prefill=prefill, **options)
                except gemlet.ContextError:
                    refused += 1
                    chat.reset()
                    continue
                except gemlet.TemplateError:  # a prefill that ends the thoughts
                    assert prefill and source == THINKING
                    continue
                said = chat.history[chat.dropped_messages : -1]
                if chat.system:
                    said.insert(0, Message("system", chat.system))
                if prefill:
                    said.append(Message("assistant", prefill))
                prompt = template.prompt(said, continue_final_message=bool(prefill))
                fresh = model.session(CONTEXT).generate(prompt.tokens, **options)
                assert result.tokens == fresh.tokens and result.text == prompt.prefill + fresh.text
                sent += 1
                dropped += result.dropped_messages
    assert sent > 30 and (dropped > 0) == (overflow == "drop_oldest") and (refused > 0) == (overflow == "error")


def test_messages_that_may_be_anything() -> None:
    """Each becomes a message or an ArgumentError."""
    rng = random.Random(10)
    call = {"type": "function", "id": "c", "function": {"name": "f", "arguments": '{"a": [1]}'}}
    odd: list[Any] = [None, True, 3, -(10**400), 0.5, float("nan"), "", "x", "\ud800", b"x", object(), set(), "tool"]
    odd += ["[" * 100_000, "x" * 10_000, [], [[]], (), [call], {}, {1: 2}, {"a": {}}, {"type": "text", "text": "a"}]
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    odd.append(deep)
    taken = refused = 0

    def changed(value: Any) -> Any:
        if rng.random() < 0.15:
            return rng.choice(odd)
        if isinstance(value, dict):
            fields = {key: changed(item) for key, item in value.items() if rng.random() < 0.9}
            extra = {rng.choice(["role", "extra", "tokens", "name"]): rng.choice(odd)}
            return fields | extra if rng.random() < 0.1 else fields
        return [changed(item) for item in value] if isinstance(value, list) else value

    for _ in range(4000):
        message = {
            "role": rng.choice(["user", "assistant", "tool", "system"]),
            "content": rng.choice(["x", [{"type": "text", "text": "x"}]]),
            **({"tool_calls": [call], "tokens": [1, 2]} if rng.random() < 0.3 else {}),
            **({"name": "n", "tool_call_id": "c"} if rng.random() < 0.3 else {}),
        }
        try:
            found = Message.of(changed(message))
        except gemlet.ArgumentError as error:
            refused += 1
            assert len(str(error)) < 400
        else:
            taken += 1
            assert Message.of(found) == Message.of(found.to_dict()) == found
    assert taken > 500 and refused > 500
