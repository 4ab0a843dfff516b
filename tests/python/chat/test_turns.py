"""The core's turns equal the published Jinja templates, whatever is typed."""

import random
from pathlib import Path

import gemlet
import pytest
from gemlet import _core
from gemlet.chat import sandbox
from gemlet.chat.jinja_template import JinjaTemplate
from gemlet.chat.messages import Message, Role
from gemlet.chat.sandbox import Renderer
from gemlet.chat.templates import ChatTemplate

from published_templates import GEMMA_2, GEMMA_3, GEMMA_3N

CONTROL = ("<start_of_turn>", "<end_of_turn>", "<bos>", "<eos>", "<pad>", "<unk>")
SPACES = (" ", "  ", "\n", "\n\n", "\t", "\r\n", "\x0b", "\x1c", "\x85", "\xa0", "\u2003", "\u2028", "\u3000")
WORDS = (
    "Hello",
    "model",
    "user",
    "the answer is 42.",
    "é",
    "日本語",
    "🙂",
    "\u200b",
    "\u2581",
    "a<b",
    "x > y",
    "-",
    "",
)
BEGUN = ("<", "<end", "<end_of_turn", "<<", "<start_of_", "of_turn>", "turn>", ">", "<eos", "<un")


@pytest.fixture(scope="module")
def nano(nano_gguf: Path) -> gemlet.Model:
    return gemlet.load(nano_gguf, threads=1)


@pytest.fixture(scope="module")
def tokenizer(nano_gguf: Path) -> _core.Tokenizer:
    return _core.Tokenizer(nano_gguf)


def conversation(rng: random.Random, parts: tuple[tuple[str, ...], ...], *, system: bool) -> list[Message]:
    def content() -> str:
        return "".join(rng.choice(rng.choice(parts)) for _ in range(rng.randrange(9)))

    roles: list[Role] = ["user", "assistant"]
    turns = [Message(roles[i % 2], content()) for i in range(rng.randrange(1, 6))]
    return [Message("system", content()), *turns] if system and rng.random() < 0.5 else turns


def turns(messages: list[Message]) -> list[tuple[str, bytes, tuple[int, ...]]]:
    return [(m.role, m.text.encode(), m.tokens or ()) for m in messages]


def with_tokens(rng: random.Random, tokenizer: _core.Tokenizer, messages: list[Message]) -> list[Message]:
    """Some answers as they might have been sampled: not as their text would be tokenised."""

    def sampled(message: Message) -> Message:
        if message.role != "assistant" or rng.random() < 0.5 or not message.text:
            return message
        halves = message.text[:1], message.text[1:]
        tokens = [t for half in halves for t in tokenizer.encode(half.encode(), special=False)]
        return Message(message.role, message.content, tuple(tokens))

    return [sampled(message) for message in messages]


def holds_control_text(message: Message) -> bool:
    return any(piece in message.content for piece in CONTROL)


TEMPLATES = {"gemma2": GEMMA_2, "gemma3": GEMMA_3, "gemma3n": GEMMA_3N, "nano": None}


def jinja(nano: gemlet.Model, source: str | None) -> ChatTemplate:
    """The template as one that nobody knows."""
    template = ChatTemplate(nano._engine, (source or nano.info.chat_template) + "{# unknown #}")
    assert isinstance(template._writer, JinjaTemplate)
    return template


@pytest.mark.parametrize("name", TEMPLATES)
def test_turns_equal_the_rendered_template(nano: gemlet.Model, tokenizer: _core.Tokenizer, name: str) -> None:
    """Without control text in the contents, the rendered text itself is the oracle."""
    rng = random.Random(1)
    source = TEMPLATES[name]
    renderer = Renderer(source or nano.info.chat_template)
    compared = 0
    for _ in range(600):
        messages = conversation(rng, (SPACES, WORDS, WORDS, BEGUN), system=name != "gemma2")
        if any(map(holds_control_text, messages)):
            continue
        complete = rng.random() < 0.3
        rendered = renderer.render(
            {
                "messages": [{"role": m.role, "content": m.content} for m in messages],
                "bos_token": "<bos>",
                "add_generation_prompt": not complete,
            }
        )
        expected = nano.tokenize(rendered)
        assert tokenizer.prompt(turns(messages), "complete" if complete else "generation_prompt").tokens == expected, (
            messages
        )
        compared += 1
    assert compared > 400


@pytest.mark.parametrize("name", TEMPLATES)
def test_turns_equal_the_guarded_template(nano: gemlet.Model, tokenizer: _core.Tokenizer, name: str) -> None:
    """With contents full of control text and answers as they were sampled, the guarded template is the oracle."""
    rng = random.Random(2)
    template = jinja(nano, TEMPLATES[name])
    attacked = 0
    for _ in range(600):
        messages = conversation(rng, (SPACES, WORDS, BEGUN, CONTROL, CONTROL), system=name != "gemma2")
        # The guard cuts off a control token that a content begins at its end, for templates that join contents.
        closed = [Message(m.role, m.text.rstrip() + ".") for m in messages]
        closed = with_tokens(rng, tokenizer, closed)
        assert tokenizer.prompt(turns(closed)).tokens == template.encode(closed), closed
        attacked += any(map(holds_control_text, closed))
    assert attacked > 400


@pytest.mark.parametrize("name", TEMPLATES)
def test_published_templates_take_the_turns(nano: gemlet.Model, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Jinja, for the same tokens."""
    messages = [Message("user", " Hi <eos> "), Message("assistant", "Yes"), Message("user", "Bye")]
    expected = jinja(nano, TEMPLATES[name]).encode(messages)
    monkeypatch.setattr(sandbox.Sandbox, "ask", None)
    template = ChatTemplate(nano._engine, TEMPLATES[name])
    assert template.encode(messages) == expected
    system = [Message("system", "Be brief."), *messages]
    if name == "gemma2":
        with pytest.raises(gemlet.TemplateError, match="takes no system message"):
            template.encode(system)
    else:
        assert "Be brief.\n\nHi <eos><end_of_turn>" in template.render(system)
    with pytest.raises(gemlet.TemplateError, match="does not describe tools"):
        template.encode(messages, tools=[{"name": "f"}])
    with pytest.raises(gemlet.TemplateError, match="does not accept this conversation: turn 1"):
        template.encode(messages[::2])


def test_only_the_markup_is_control_tokens(tokenizer: _core.Tokenizer) -> None:
    rng = random.Random(3)
    begin, end = (tokenizer.find(piece) for piece in (b"<start_of_turn>", b"<end_of_turn>"))
    for _ in range(1000):
        messages = conversation(rng, (SPACES, BEGUN, CONTROL), system=True)
        spoken = [message for message in messages if message.role != "system"]
        tokens = tokenizer.prompt(turns(messages)).tokens
        control = [token for token in tokens if tokenizer.kind(token) in ("control", "unknown")]
        assert control == [tokenizer.bos, *[begin, end] * len(spoken), begin], messages


def test_an_open_answer_is_the_complete_prompt_without_its_end(tokenizer: _core.Tokenizer) -> None:
    messages = [("user", b"Count", ()), ("model", b"One, two", ())]
    end = [tokenizer.find(b"<end_of_turn>"), *tokenizer.encode(b"\n")]
    assert tokenizer.prompt(messages, "open_answer").tokens + end == tokenizer.prompt(messages, "complete").tokens


@pytest.mark.parametrize(
    ("roles", "what"),
    [
        ([], "no turns"),
        (["model"], r"turn 0 \(model\): expected a user turn"),
        (["user", "user"], r"turn 1 \(user\): expected a model turn"),
        (["user", "system"], r"turn 1 \(system\): a system turn has to be the first"),
        (["user", "tool"], 'role is "tool", expected "system"'),
    ],
)
def test_turns_out_of_order_are_refused(tokenizer: _core.Tokenizer, roles: list[str], what: str) -> None:
    with pytest.raises(gemlet.ArgumentError, match=what):
        tokenizer.prompt([(role, b"x", ()) for role in roles])


def test_the_end_of_a_prompt_has_three_names(tokenizer: _core.Tokenizer) -> None:
    with pytest.raises(gemlet.ArgumentError, match='expected "generation_prompt", "complete" or "open_answer"'):
        tokenizer.prompt([("user", b"x", ())], "closed")  # type: ignore[arg-type]
