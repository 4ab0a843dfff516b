"""Prompts are those of transformers, token for token: prefills, tool messages, variables, on Google's published
templates and on others. (transformers is enough of the [live] extra.)
"""

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gemlet
import pytest
from gemlet import _core
from gemlet.chat.templates import ChatTemplate
from gemlet.exporters.tokenizer_json import VocabularyFile, tokenizer_json
from tokenizers import Tokenizer

from foreign_templates import THINKING, TOOLS
from published_templates import GEMMA_2, GEMMA_3, GEMMA_3N

transformers = pytest.importorskip("transformers", reason="needs the [live] extra")

pytestmark = [pytest.mark.live, pytest.mark.filterwarnings("default")]

SOURCES = {"gemma2": GEMMA_2, "gemma3": GEMMA_3, "gemma3n": GEMMA_3N, "thinking": THINKING, "tools": TOOLS}
WORDS = (
    "Hello",
    "the answer is ",
    "42.",
    "\n",
    "  ",
    "é",
    "日本語",
    "🙂",
    "<",
    "x > y",
    "```json\n",
    "{",
    '"',
    "\u3000",
)
CALL = {"type": "function", "id": "c1", "function": {"name": "weather", "arguments": {"city": "Pécs", "days": 2}}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture(scope="module")
def nano(nano_gguf: Path) -> gemlet.Model:
    return gemlet.load(nano_gguf, threads=1)


@pytest.fixture(scope="module")
def oracle(nano_gguf: Path) -> Any:
    """nano's tokenizer in transformers."""
    vocabulary = VocabularyFile.read(nano_gguf, _core.Tokenizer(nano_gguf).vocabulary)
    tokenizer = Tokenizer.from_str(json.dumps(tokenizer_json(vocabulary)))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>")


def text(rng: random.Random, most: int = 6) -> str:
    return "x" + "".join(rng.choice(WORDS) for _ in range(rng.randrange(most)))


def conversation(rng: random.Random, source: str) -> list[dict[str, Any]]:
    roles = ["user", "assistant"] * rng.randrange(3) + ["user"]
    messages: list[dict[str, Any]] = [{"role": role, "content": text(rng)} for role in roles]
    system = source not in (GEMMA_2, TOOLS) and rng.random() < 0.5
    return [{"role": "system", "content": text(rng)}, *messages] if system else messages


def with_bos(nano: gemlet.Model, tokens: list[int]) -> list[int]:
    return tokens if tokens[0] == nano.bos else [nano.bos, *tokens]


def expected(oracle: Any, messages: list[Mapping[str, Any]], source: str, **settings: Any) -> list[int]:
    found: list[int] = oracle.apply_chat_template(
        messages, chat_template=source, tokenize=True, return_dict=False, **settings
    )
    return found


@pytest.mark.parametrize("by_jinja", [False, True])
@pytest.mark.parametrize("name", SOURCES)
def test_histories_and_prefills(nano: gemlet.Model, oracle: Any, name: str, by_jinja: bool) -> None:
    source = SOURCES[name] + ("{# by Jinja #}" if by_jinja else "")
    template = ChatTemplate(nano._engine, source)
    rng = random.Random(7)
    for _ in range(60):
        messages: list[Any] = conversation(rng, SOURCES[name])
        for generation in (True, False):
            found = template.encode(messages, add_generation_prompt=generation)
            assert found == with_bos(nano, expected(oracle, messages, source, add_generation_prompt=generation))
        messages.append({"role": "assistant", "content": text(rng)})
        found = template.encode(messages, continue_final_message=True)
        assert found == with_bos(nano, expected(oracle, messages, source, continue_final_message=True)), messages


def test_tool_messages(nano: gemlet.Model, oracle: Any) -> None:
    template = ChatTemplate(nano._engine, TOOLS)
    rng = random.Random(8)
    for i in range(40):
        result = {"role": "tool", "content": text(rng), "name": "weather", "tool_call_id": "c1"}
        messages: list[Any] = [
            *conversation(rng, TOOLS),
            {"role": "assistant", "content": "", "tool_calls": [CALL] * rng.randrange(1, 3)},
            *[result] * rng.randrange(1, 3),
        ]
        settings: dict[str, Any] = {"tools": [TOOL] if i % 2 else None, "add_generation_prompt": True}
        assert template.encode(messages, **settings) == expected(oracle, messages, TOOLS, **settings), messages


def test_variables(nano: gemlet.Model, oracle: Any) -> None:
    template = ChatTemplate(nano._engine, THINKING)
    messages: list[Any] = [{"role": "user", "content": "Hi"}]
    for variables in ({}, {"enable_thinking": False}, {"enable_thinking": True}, {"system_note": "é <b>"}):
        found = template.encode(messages, variables=variables)
        assert found == with_bos(nano, expected(oracle, messages, THINKING, add_generation_prompt=True, **variables)), (
            variables
        )


def test_thoughts_that_are_left_out(nano: gemlet.Model, oracle: Any) -> None:
    """The same prompt with the sampled tokens of a reply as with its text."""
    reply = "<think>\nhm\n</think>\n\nFine."
    messages: list[Any] = [
        {"role": "user", "content": "a"}, {"role": "assistant", "content": reply}, {"role": "user", "content": "b"},
    ]  # fmt: skip
    right = with_bos(nano, expected(oracle, messages, THINKING, add_generation_prompt=True))
    messages[1]["tokens"] = [token for letter in reply for token in nano.tokenize(letter)]
    assert ChatTemplate(nano._engine, THINKING).encode(messages) == right
