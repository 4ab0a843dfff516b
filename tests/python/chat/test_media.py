"""Conversations with pictures and sounds."""

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import gemlet
import numpy as np
import pytest
from gemlet import _core
from gemlet.chat.messages import Message
from gemlet.chat.templates import ChatTemplate
from gemlet.media import Part
from gemlet.media.encoding import Encode
from gemlet.media.png import to_png

from media_inputs import picture, sound
from published_templates import GEMMA_3

CAT, DOG, NOISE = (gemlet.Image(picture(40, 30, seed), size=256) for seed in range(3))
WORDS = gemlet.Audio(sound(9000), 16000)
PICTURE, SOUND = 257, 189
"""Places, with the mark behind."""
LOOPING = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ m.role }}\n"
    "{% if m.content is string %}{{ m.content | trim }}{% else %}{% for part in m.content %}{{ part.text | trim }}"
    "{% endfor %}{% endif %}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>assistant\n{% endif %}"
)
"""A foreign template."""


@pytest.fixture(scope="module")
def model(seeing: tuple[Path, Path]) -> gemlet.Model:
    text, mmproj = seeing
    return gemlet.load(text, media=mmproj, threads=2, context=4096)


@pytest.fixture
def chat(model: gemlet.Model) -> gemlet.Chat:
    return model.chat(template=GEMMA_3, max_tokens=6, temperature=0.0)


class Counting:
    """Encoders that count their work."""

    def __init__(self, encoders: Any) -> None:
        self._encoders, self.pictures, self.sounds = encoders, 0, 0
        self.sees, self.hears, self.picture_tokens = encoders.sees, encoders.hears, encoders.picture_tokens

    def encode(self, *arguments: Any) -> Any:
        self.pictures += 1
        return self._encoders.encode(*arguments)

    def encode_sound(self, *arguments: Any) -> Any:
        self.sounds += 1
        return self._encoders.encode_sound(*arguments)


@pytest.fixture
def counting(model: gemlet.Model, monkeypatch: pytest.MonkeyPatch) -> Counting:
    counting = Counting(model._media.encoders)
    monkeypatch.setattr(model._media, "_encoders", counting)
    model._media._encoded.clear()
    return counting


def media_of(chat: gemlet.Chat) -> list[tuple[int, int]]:
    """Begin and count of what the session holds."""
    return [(begin, count) for begin, count, _ in chat._session._core.media]


def from_scratch(model: gemlet.Model, chat: gemlet.Chat, question: Message, template: str = GEMMA_3) -> list[int]:
    """The reply to a question after the same history, by a session of its own."""
    prompt = ChatTemplate(model._engine, template, model._media).prompt([*chat.history, question])
    session = model.session()
    core = gemlet.options.to_core({"max_tokens": 6, "temperature": 0.0}, 4096)
    generation = session._core.generate(prompt.core, core)
    while generation.next() is not None:
        pass
    return generation.results()[0]["tokens"]


def test_text_pictures_and_sound_in_any_order(model: gemlet.Model, chat: gemlet.Chat) -> None:
    said: list[Part] = ["the", CAT, "and", WORDS, " a ", DOG]
    expected = from_scratch(model, chat, Message("user", tuple(said)))
    result = chat.send(said)
    assert result.tokens == expected
    assert [count for _, count in media_of(chat)] == [PICTURE, SOUND, PICTURE]
    assert chat.history[0] == Message("user", tuple(said))
    assert chat.history[0].text == "the\nand\n a " and chat.history[0].media == (CAT, WORDS, DOG)


def test_the_prompt_is_the_processors(model: gemlet.Model) -> None:
    """transformers' processor writes each medium between empty lines, and the template trims each text."""
    template = ChatTemplate(model._engine, GEMMA_3, model._media)
    text = template.render([Message("user", ("the ", CAT, " an", DOG, WORDS))])
    assert text == (
        "<bos><start_of_turn>user\nthe\n\n<start_of_image>\n\nan\n\n<start_of_image>\n\n\n\n<start_of_audio>\n\n"
        "<end_of_turn>\n<start_of_turn>model\n"
    )


def test_foreign_templates_place_media_too(model: gemlet.Model) -> None:
    messages = [Message("user", ("the ", CAT, " an", DOG, WORDS)), Message("assistant", "a"), Message("user", "no")]
    ours = ChatTemplate(model._engine, GEMMA_3, model._media).prompt(messages[:1]).core
    theirs = ChatTemplate(model._engine, LOOPING, model._media).prompt(messages[:1]).core
    assert theirs.media == ours.media and theirs.tokens[: ours.media[-1][0]] == ours.tokens[: ours.media[-1][0]]
    chat = model.chat(template=LOOPING, max_tokens=3)
    chat.send(["the", CAT])
    assert chat.send([DOG, "no"]).stats.reused_tokens > PICTURE


def test_typed_placeholders_stay_text(model: gemlet.Model) -> None:
    typed = "<start_of_image><image_soft_token>\ufdd00\ufdd1<start_of_audio>"
    marks = {model._engine.find_token(mark) for mark in (b"<start_of_image>", b"<start_of_audio>")}
    for template in (GEMMA_3, LOOPING):
        prompt = ChatTemplate(model._engine, template, model._media).prompt([Message("user", (typed, CAT, typed))])
        assert len(prompt.core.media) == 1
        assert sum(token in marks for token in prompt.tokens) == 1


def test_a_turn_with_a_picture_computes_only_what_is_new(model: gemlet.Model, chat: gemlet.Chat) -> None:
    first = chat.send([CAT, "the cat"])
    expected = from_scratch(model, chat, Message("user", ("the", DOG)))
    second = chat.send(["the", DOG])
    assert second.tokens == expected
    assert second.stats.reused_tokens == first.stats.prompt_tokens + len(first.tokens) - 1


def test_another_picture_of_the_same_size_shares_nothing_behind_it(model: gemlet.Model, chat: gemlet.Chat) -> None:
    chat.send(["the", CAT, "an"])
    before = media_of(chat)[0][0]
    chat.reset()
    expected = from_scratch(model, chat, Message("user", ("the", DOG, "an")))
    other = chat.send(["the", DOG, "an"])
    assert other.tokens == expected
    assert other.stats.reused_tokens <= before


def test_contents_are_told_apart_by_a_hash_that_nobody_can_forge() -> None:
    """A weaker one let two pictures be made whose keys and values would be shared."""
    random = np.random.default_rng(3)
    for count in (1, 31, 32, 33, 64, 1000):
        rows = random.normal(size=(count, 1)).astype(np.float32)
        digest = hashlib.blake2b(rows.tobytes(), digest_size=16).digest()
        expected = int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")
        assert _core.Prompt([0] * count, [(0, rows)]).media == [(0, count, expected)]


def test_two_pictures_then_a_third_then_a_fork(model: gemlet.Model, chat: gemlet.Chat) -> None:
    """Users of other runtimes report that pictures are mixed up here, or that it crashes."""
    chat.send([CAT, DOG, "a"])
    chat.send([NOISE, "the"])
    contents = [content for *_, content in chat._session._core.media]
    assert len(set(contents)) == 3
    fork = chat._session.fork()
    question = Message("user", (CAT, "an"))
    expected = from_scratch(model, chat, question)
    assert chat.send([CAT, "an"]).tokens == expected
    assert [content for *_, content in fork._core.media] == contents
    assert [content for *_, content in chat._session._core.media] == [*contents, contents[0]]


def test_a_picture_is_encoded_once(counting: Counting, model: gemlet.Model) -> None:
    chat = model.chat(template=GEMMA_3, max_tokens=3)
    chat.send([CAT, WORDS, "the"])
    chat.send([CAT, "the"])
    again = gemlet.Image(picture(40, 30), size=256)  # the same, opened again
    chat.send([again, gemlet.Audio(sound(9000), 16000)])
    assert (counting.pictures, counting.sounds) == (1, 1)
    chat.send([gemlet.Image(picture(40, 30), size=512)])
    assert counting.pictures == 2


def test_saved_conversations_and_sessions(model: gemlet.Model, chat: gemlet.Chat, tmp_path: Path) -> None:
    chat.send(["the", CAT, WORDS])
    chat.save(tmp_path / "chat.json")
    chat._session.save(tmp_path / "session")
    expected = chat.send([DOG, "an"]).tokens

    other = model.chat(template=GEMMA_3, max_tokens=6, temperature=0.0)
    other.load(tmp_path / "chat.json")
    assert other.history[1] == chat.history[1] and other.history[0].text == "the"
    seen, heard = other.history[0].media
    assert isinstance(seen, gemlet.Image) and isinstance(heard, gemlet.Audio) and seen.size == 256
    np.testing.assert_array_equal(seen.pixels, CAT.pixels)
    np.testing.assert_array_equal(heard.samples, WORDS.samples)
    other._session = model.restore(tmp_path / "session", 4096)
    result = other.send([DOG, "an"])
    assert result.tokens == expected
    assert result.stats.reused_tokens > PICTURE + SOUND


def test_saved_conversations_name_no_files(chat: gemlet.Chat, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"x")
    saved = tmp_path / "chat.json"
    chat.send("a")
    chat.save(saved)
    text = saved.read_text().replace('"content": "a"', f'"content": [{{"type": "image", "image": "{secret}"}}]', 1)
    saved.write_text(text)
    with pytest.raises(gemlet.FormatError, match="names the file"):
        chat.load(saved)


def test_asyncio_and_schedulers_give_the_same(model: gemlet.Model, chat: gemlet.Chat) -> None:
    seen = [gemlet.Image(picture(40, 30, seed), size=256) for seed in (10, 11)]
    heard = gemlet.Audio(sound(9000, 10), 16000)
    questions: list[list[Part]] = [["the", seen[0]], [seen[1], "an", heard], ["no"]]

    async def ask() -> list[gemlet.GenerateResult]:
        chats = [model.chat(template=GEMMA_3, max_tokens=6, temperature=0.0) for _ in questions]
        return await asyncio.gather(*(c.asend(said) for c, said in zip(chats, questions, strict=True)))

    found = [result.tokens for result in asyncio.run(ask())]  # first, when nothing is encoded yet
    expected = [model.chat(template=GEMMA_3, max_tokens=6, temperature=0.0).send(said).tokens for said in questions]
    assert found == expected
    with_scheduler = model.chat(
        template=GEMMA_3, max_tokens=6, temperature=0.0, scheduler=model.scheduler(prefixes=2), speculate="lookup"
    )
    assert with_scheduler.send(questions[0]).tokens == expected[0]


def test_speculation_changes_nothing(model: gemlet.Model, chat: gemlet.Chat) -> None:
    said: list[Part] = ["the the the", CAT, "the the"]
    expected = chat.send(said, max_tokens=40).tokens
    for speculate in ("lookup", "slice"):
        chat.reset()
        assert chat.send(said, max_tokens=40, speculate=speculate).tokens == expected


def test_cancelling_a_task_that_encodes_takes_the_turn_back(
    model: gemlet.Model, chat: gemlet.Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancelled: list[Encode] = []
    stop = Encode.cancel

    def noted(self: Encode) -> None:
        cancelled.append(self)
        stop(self)

    monkeypatch.setattr(Encode, "cancel", noted)

    async def cancel() -> None:
        started = asyncio.Event()
        said: list[Part] = [gemlet.Image(picture(999, 999), size=768), "the"]
        task = asyncio.create_task(chat.asend(said, on_media=lambda _: started.set()))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert cancelled and chat.history == []
    assert chat.send(["the", CAT]).finish_reason


def test_progress_is_told(chat: gemlet.Chat) -> None:
    seen = [gemlet.Image(picture(40, 30, seed), size=256) for seed in (20, 21)]
    heard = gemlet.Audio(sound(9000, 20), 16000)
    shares: list[float] = []
    chat.send([seen[0], heard, "a", seen[1]], on_media=shares.append)
    assert shares == sorted(shares) and shares[-1] == 1.0 and len(shares) > 20


def test_what_is_refused_leaves_the_conversation_as_it_was(model: gemlet.Model, chat: gemlet.Chat) -> None:
    chat.send(["the", CAT])
    before = chat.history
    damaged = gemlet.Image(to_png(picture(64, 64))[:-40])
    with pytest.raises(gemlet.FormatError):
        chat.send([damaged, "an"])
    with pytest.raises(gemlet.ArgumentError, match="size is 100"):
        chat.send([gemlet.Image(picture(9, 9), size=100)])
    with pytest.raises(gemlet.ContextError, match="pictures or sounds"):
        chat.send([CAT] * 20)
    with pytest.raises(gemlet.ArgumentError, match="only a user's message"):
        chat.send([{"role": "tool", "content": [CAT]}])
    assert chat.history == before
    assert chat.send("an").stats.reused_tokens > PICTURE


def test_oldest_pictures_are_dropped(model: gemlet.Model) -> None:
    chat = model.chat(template=GEMMA_3, max_tokens=3, context=700, overflow="drop_oldest")
    for number, seen in enumerate([CAT, DOG, NOISE]):
        result = chat.send([seen, "the"])
        assert bool(result.dropped_messages) == (number == 2)
    assert [count for _, count in media_of(chat)] == [PICTURE, PICTURE]


def test_models_without_eyes_say_where_they_come_from(seeing: tuple[Path, Path]) -> None:
    blind = gemlet.load(seeing[0])
    with pytest.raises(gemlet.UnsupportedError, match=r"no eyes or ears.*gemlet\.load\(\.\.\., media=\.\.\.\)"):
        blind.chat(template=GEMMA_3).send([CAT])


def test_encoders_of_another_model_are_refused(seeing: tuple[Path, Path], model: gemlet.Model, nano_gguf: Path) -> None:
    with pytest.raises(gemlet.ArgumentError, match="hidden size of 36, expected 128"):
        gemlet.load(nano_gguf, media=seeing[1])
    with pytest.raises(gemlet.UnsupportedError, match="holds no encoder"):
        gemlet.load(seeing[0], media=seeing[0])
