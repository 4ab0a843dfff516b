"""Sampled tokens of earlier replies stand in a prompt where the template writes these replies as they are."""

import gemlet
import pytest
from gemlet.chat.jinja_template import JinjaTemplate
from gemlet.chat.messages import Message
from gemlet.chat.replies import keep_sampled
from gemlet.chat.templates import ChatTemplate

from foreign_templates import THINKING
from published_templates import GEMMA_3


def sampled(model: gemlet.Model, text: str) -> Message:
    return Message("assistant", text, tuple(token for letter in text for token in model.tokenize(letter)))


def holds(tokens: list[int], message: Message) -> bool:
    size = len(message.tokens or ())
    return any(tuple(tokens[i : i + size]) == message.tokens for i in range(len(tokens)))


def test_a_template_that_leaves_out_thoughts_sees_them(model: gemlet.Model) -> None:
    thinking = sampled(model, "<think>\nthe hat\n</think>\n\nFine.")
    brief = sampled(model, "the cat")
    messages = [Message("user", "a"), thinking, Message("user", "b"), brief, Message("user", "c")]
    template = ChatTemplate(model._engine, THINKING)
    assert isinstance(template._writer, JinjaTemplate)
    tokens = template.encode(messages)
    assert "think" not in model.detokenize(tokens) and "Fine." in model.detokenize(tokens)
    assert template.render(messages) == template.render([Message(m.role, m.content) for m in messages])
    assert holds(tokens, brief) and not holds(tokens, thinking)
    assert holds(template.encode(messages[:2], add_generation_prompt=False), thinking)  # the last reply keeps them


def test_white_space_that_a_template_trims_stays_as_sampled(model: gemlet.Model) -> None:
    reply = sampled(model, " the cat \n")
    tokens = ChatTemplate(model._engine, GEMMA_3 + "{# by Jinja #}").encode(
        [Message("user", "a"), reply, Message("user", "b")]
    )
    assert holds(tokens, reply)
    assert tokens == ChatTemplate(model._engine, GEMMA_3).encode([Message("user", "a"), reply, Message("user", "b")])


@pytest.mark.parametrize(
    ("written", "with_placeholders", "expected"),
    [
        ("[one][two]", "[A][B]", "[A][B]"),
        ("[two][one]", "[B][A]", "[B][A]"),
        ("[ne][two]", "[A][B]", "[ne][B]"),
        ("[one][wo]", "[A][B]", "[A][wo]"),
        ("[][]", "[A][B]", "[][]"),
        ("onetwo", "AB", "AB"),
        ("netwo", "AB", "netwo"),
        ("[one]{two}", "[A][B]", "[one]{two}"),
        ("[one][two]!", "[A][B]", "[one][two]!"),
        ("[one][two]", "[A][B][B]", "[one][two]"),
        ("[one]", "[A]", "[one]"),
        ("![one][two]", "[A][B]", "![one][two]"),
    ],
)
def test_keep_sampled(written: str, with_placeholders: str, expected: str) -> None:
    assert keep_sampled(written, with_placeholders, {"A": "one", "B": "two"}) == expected
