"""How conversations encode pictures and sounds: when, on which thread, and what is refused before."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gemlet
import numpy as np
import pytest
from gemlet import _core
from gemlet.chat import saved
from gemlet.media.encoding import Encode, MediaEncoder

from foreign_templates import THINKING
from media_inputs import picture, sound
from published_templates import GEMMA_3


class Scripted:
    """An encoding that calls what the test gives, and then is one row."""

    def __init__(self, script: Callable[[], object]) -> None:
        self._script, self._shares, self.cancelled = script, [0.25, 0.75], threading.Event()

    def next(self) -> float | None:
        if self.cancelled.is_set():
            raise gemlet.CancelledError("cancelled")
        if len(self._shares) == 2:
            self._script()
        return self._shares.pop(0) if self._shares else None

    def cancel(self) -> None:
        self.cancelled.set()

    def finish(self) -> _core.Medium:
        return _core.Medium("<start_of_image>", np.ones((1, 36), np.float32))


class Eyes:
    """Encoders that count, and run a script for each picture or sound."""

    def __init__(self, sees: bool = True, hears: bool = True) -> None:
        self.sees, self.hears, self.picture_tokens = sees, hears, 1
        self.count = 0
        self.on_picture: Callable[[], object] = lambda: None
        self.on_sound: Callable[[], object] = lambda: None

    def encode(self, pixels: Any, size: int = 0) -> Scripted:
        self.count += 1
        return Scripted(self.on_picture)

    def encode_sound(self, samples: Any) -> Scripted:
        self.count += 1
        return Scripted(self.on_sound)


@pytest.fixture(scope="module")
def text_model(seeing: tuple[Path, Path]) -> gemlet.Model:
    return gemlet.load(seeing[0], threads=2, context=1024)


@pytest.fixture
def eyes() -> Eyes:
    return Eyes()


@pytest.fixture
def model(text_model: gemlet.Model, eyes: Eyes) -> gemlet.Model:
    return with_encoders(text_model, eyes)


@pytest.fixture
def chat(model: gemlet.Model) -> gemlet.Chat:
    return model.chat(template=GEMMA_3, max_tokens=2, temperature=0.0)


def with_encoders(model: gemlet.Model, eyes: Eyes) -> gemlet.Model:
    return gemlet.Model(model._engine, model.path, MediaEncoder(lambda: eyes))


def seen(seed: int = 0) -> gemlet.Image:
    return gemlet.Image(picture(9, 9, seed))


# --- the files of a model ---


def test_saving_replaces_no_file_of_the_model(seeing: tuple[Path, Path], tmp_path: Path) -> None:
    model = gemlet.load(seeing[0], media=seeing[1])
    assert set(model._files()) == set(seeing)
    (tmp_path / "link.gguf").hardlink_to(seeing[1])
    for path in (*seeing, tmp_path / "link.gguf"):
        before = path.read_bytes()
        with pytest.raises(gemlet.FileError, match=path.name):
            model.chat().save(path)
        assert path.read_bytes() == before


# --- one turn at a time ---


def test_a_chat_is_busy_while_it_encodes(eyes: Eyes, chat: gemlet.Chat) -> None:
    """Another thread, and what is told of the progress, begin no turn meanwhile."""
    refused: list[str] = []

    def meddle(_: object = None) -> None:
        for act in (lambda: chat.send("a"), chat.reset, chat.undo):
            with pytest.raises(gemlet.ArgumentError, match="the chat is busy"):
                act()
            refused.append("busy")

    def in_another_thread() -> None:
        thread = threading.Thread(target=meddle)
        thread.start()
        thread.join()

    eyes.on_picture = in_another_thread
    assert chat.send([seen(), "the"], on_media=meddle).finish_reason
    assert len(refused) == 3 * (1 + 3) and len(chat.history) == 2


def test_a_turn_that_fails_while_it_encodes_leaves_the_chat_idle(eyes: Eyes, chat: gemlet.Chat) -> None:
    def fail(_: object = None) -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError) as kept:  # which keeps the frames of the turn alive
        chat.send([seen(), "the"], on_media=fail)
    assert chat.send("a").finish_reason and kept.value
    assert [message.text for message in chat.history[::2]] == ["a"]


# --- what is encoded once ---


def test_equal_pictures_that_come_and_go_are_encoded_once(eyes: Eyes, model: gemlet.Model) -> None:
    """As of a server, whose requests bring the whole history each time."""
    first = seen()
    for _ in range(4):
        again = seen()
        found = model._media.encode_all([first, again], Encode())
        assert len(found) == 1 and found[again] is found[first]
        del found
        first = again
        gc.collect()
    assert eyes.count == 1
    del first, again
    gc.collect()
    assert len(model._media._encoded) == 0


def test_two_threads_encode_a_picture_once(eyes: Eyes, model: gemlet.Model) -> None:
    """The second one begins while the first encodes."""
    found: list[tuple[_core.Medium, ...]] = []
    same = seen()
    threads = [threading.Thread(target=lambda: found.append(model._media.encode(seen())))]

    def begin() -> None:
        threads[0].start()

    eyes.on_picture = begin
    found.append(model._media.encode(same))
    threads[0].join()
    assert eyes.count == 1 and found[0] is found[1]


def test_copies_and_pickles_do_without(model: gemlet.Model) -> None:
    for medium in (seen(), gemlet.Audio(sound(900), 16000)):
        model._media.encode(medium)
        for other in (copy.copy(medium), copy.deepcopy(medium), pickle.loads(pickle.dumps(medium))):
            assert other == medium


# --- before anything is encoded ---


def test_a_sound_that_is_too_long_is_refused_before_it_is_encoded(eyes: Eyes, chat: gemlet.Chat) -> None:
    with pytest.raises(gemlet.ContextError):
        chat.send([gemlet.Audio(np.zeros(600 * 16000, np.float32), 16000), "the"])
    assert eyes.count == 0


@pytest.mark.parametrize("template", [GEMMA_3, THINKING])
def test_setting_the_history_encodes_nothing(eyes: Eyes, model: gemlet.Model, template: str) -> None:
    said = {"role": "user", "content": [seen(), "the", seen(1)]}
    chat = model.chat(template=template, history=[said, {"role": "assistant", "content": "a"}], max_tokens=2)
    chat.history = [{"role": "user", "content": [seen(2)]}, {"role": "assistant", "content": "a"}]
    assert eyes.count == 0
    chat.send("the")
    assert eyes.count == 1
    with pytest.raises(gemlet.ContextError):
        chat.history = [{"role": "user", "content": [gemlet.Audio(np.zeros(600 * 16000, np.float32), 16000)]}]


def test_models_that_do_not_take_the_media_of_a_conversation(
    text_model: gemlet.Model, chat: gemlet.Chat, tmp_path: Path
) -> None:
    chat.send([seen(), gemlet.Audio(sound(900), 16000), "the"])
    chat.save(tmp_path / "chat.json")
    for other, missing in (
        (text_model, "no eyes or ears"),
        (with_encoders(text_model, Eyes(sees=False)), "no eyes"),
        (with_encoders(text_model, Eyes(hears=False)), "no ears"),
    ):
        blind = other.chat("be", template=GEMMA_3, max_tokens=2)
        blind.send("a")
        before = blind.history
        with pytest.raises(gemlet.UnsupportedError, match=missing):
            blind.load(tmp_path / "chat.json")
        with pytest.raises(gemlet.UnsupportedError, match=missing):
            blind.history = chat.history
        assert (blind.history, blind.system) == (before, "be")


def test_no_conversation_is_saved_that_could_not_be_loaded(
    chat: gemlet.Chat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat.send([seen(), "the"])
    path = tmp_path / "chat.json"
    chat.save(path)
    size = path.stat().st_size
    monkeypatch.setattr(saved, "_MOST_BYTES", size)
    chat.save(path)
    chat.load(path)
    monkeypatch.setattr(saved, "_MOST_BYTES", size - 1)
    before = path.read_bytes()
    with pytest.raises(gemlet.FileError, match=f"chat.json: the conversation.* more than {size - 1:,} bytes"):
        chat.save(path)
    assert path.read_bytes() == before


def test_parts_in_the_form_of_other_programs(chat: gemlet.Chat) -> None:
    url = seen().to_dict()["data"]
    chat.send([{"type": "text", "text": "the"}, {"type": "image_url", "image_url": {"url": url}}])
    assert chat.history[0].content == ("the", gemlet.Image(url))
    chat.send([{"type": "text", "text": "an"}])
    assert chat.history[2].content == "an"


# --- asyncio ---


def test_progress_is_told_in_the_event_loop(chat: gemlet.Chat) -> None:
    told: list[tuple[float, int]] = []

    def note(share: float) -> None:
        told.append((share, threading.get_ident()))

    async def ask() -> None:
        await chat.asend([seen(), "the"], on_media=note)
        assert [piece async for piece in chat.astream([seen(1), "an"], on_media=note)]

    asyncio.run(ask())
    assert [share for share, _ in told] == [0.25, 0.75, 1] * 2
    assert {thread for _, thread in told} == {threading.get_ident()}


def test_what_is_raised_by_it_goes_on_to_the_caller(chat: gemlet.Chat) -> None:
    def fail(_: float) -> None:
        raise RuntimeError("no more")

    async def ask() -> None:
        with pytest.raises(RuntimeError, match="no more"):
            await chat.asend([seen(), "the"], on_media=fail)
        with pytest.raises(RuntimeError, match="no more"):
            async for _ in chat.astream([seen(1), "the"], on_media=fail):
                pass
        assert chat.history == []
        await chat.asend("a")

    asyncio.run(ask())


def test_a_picture_does_not_wait_for_a_long_sound(eyes: Eyes, model: gemlet.Model) -> None:
    answered = threading.Event()
    waited: list[bool] = []
    eyes.on_sound = lambda: waited.append(answered.wait(30))

    async def ask() -> None:
        chats = [model.chat(template=GEMMA_3, max_tokens=2) for _ in range(2)]
        long = asyncio.create_task(chats[0].asend([gemlet.Audio(sound(900), 16000), "the"]))
        await asyncio.sleep(0)  # its encoding is begun
        await chats[1].asend([seen(), "the"])
        answered.set()
        await long

    asyncio.run(ask())
    assert waited == [True]
