"""The sample model's data are reproducible and its split is clean; its lean forward equals transformers'."""

from __future__ import annotations

import json
import re
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2] / "scripts" / "nano"
sys.path.insert(0, str(ROOT))

import data  # noqa: E402
import facts  # noqa: E402
import names  # noqa: E402
import phrases  # noqa: E402
import tasks  # noqa: E402

UNSEEN = set(names.UNSEEN)


def test_held_out_file_is_reproduced_byte_for_byte() -> None:
    made = "".join(example.line() for example in data.held_out_examples())
    assert made.encode() == data.HELD_OUT_FILE.read_bytes()


def test_held_out_examples_are_distinct_and_cover_every_task() -> None:
    examples = data.read_examples()
    assert len({example.id for example in examples}) == len(examples) >= 600
    assert len({data.chat_text(example.messages) for example in examples}) == len(examples)
    assert {example.task for example in examples} == set(tasks.TASKS)


def test_training_never_holds_a_held_out_prompt() -> None:
    held_out = {data.chat_text(example.messages) for example in data.read_examples()}
    last = {
        example.messages[-1]["content"]
        for example in data.read_examples()
        if example.task in ("arithmetic", "facts", "phrases", "lists", "chat")
    }
    for dialogue in islice(data.training_dialogues(5, pieces=("bob", "ob", "al")), 20_000):
        text = data.chat_text(dialogue.messages())
        assert text not in held_out
        assert not last & {turn.user for turn in dialogue.turns}
        assert not UNSEEN & set(re.findall(r"[^\W\d_]+", text + dialogue.answer))


def test_dialogues_follow_the_seed() -> None:
    one, two = (list(islice(data.training_dialogues(9), 50)) for _ in range(2))
    assert one == two


def test_no_text_stands_for_two_phrases() -> None:
    meaning: dict[str, int] = {}
    for number, row in enumerate(phrases.PHRASES):
        assert len(row) == len(phrases.LANGUAGES)
        for text in row:
            assert meaning.setdefault(text, number) == number, text


def test_capitals_are_unique() -> None:
    assert len({capital for _, capital, _ in facts.COUNTRIES}) == len(facts.COUNTRIES)


def test_tool_calls_are_json_of_an_offered_tool() -> None:
    for dialogue in islice((d for d in data.training_dialogues(3) if d.task == "tools"), 300):
        assert json.loads(dialogue.turns[0].answer)["name"] + "(" in dialogue.system


def test_chat_template_writes_the_training_text() -> None:
    jinja2 = pytest.importorskip("jinja2")
    pytest.importorskip("sentencepiece")
    from tokenizer import CHAT_TEMPLATE

    def refuse(message: str) -> None:
        raise ValueError(message)

    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = refuse
    template = environment.from_string(CHAT_TEMPLATE)

    def render(messages: list[dict[str, str]]) -> Any:
        return template.render(messages=messages, bos_token="<bos>", add_generation_prompt=True)

    for example in data.read_examples():
        assert render(example.messages) == "<bos>" + data.chat_text(example.messages)
    with pytest.raises(ValueError, match="alternate"):
        render([{"role": "assistant", "content": "Hello!"}])


def test_exported_int4_says_what_the_core_says(tmp_path: Path) -> None:
    """On the same codes. One answer in 630 turns out another way: two pieces of a name are as likely to within the
    rounding of activations."""
    import gemlet
    from gemlet.exporters import export
    from gemlet.exporters.progress import Progress
    from gemlet.exporters.quants import find_quant
    from gemlet.exporters.requantise import requantise
    from gemlet.exporters.source import Source

    nano = Path(gemlet.__file__).parent / "models" / "nano.gguf"
    requantise(Source(nano), find_quant("int4").recipe, tmp_path / "q4_0.gguf", Progress())
    exported = gemlet.load(export(tmp_path / "q4_0.gguf", tmp_path / "out", "onnx", "int4").path)
    core = gemlet.load(tmp_path / "q4_0.gguf", cache="f32")
    prompts = [data.chat_text(example.messages) for example in data.read_examples()[::9]]
    texts = [
        [result.text for result in model.generate_batch(prompts, max_tokens=64, temperature=0.0)]
        for model in (core, exported)
    ]
    same = sum(ours == theirs for ours, theirs in zip(*texts, strict=True))
    assert same >= len(prompts) - 1 > 60
