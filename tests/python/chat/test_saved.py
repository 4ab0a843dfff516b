"""Saved conversations: written whole, and read from files that may be anything."""

import json
import os
import threading
from pathlib import Path
from typing import Any

import gemlet
import pytest


@pytest.fixture
def chat(model: gemlet.Model) -> gemlet.Chat:
    chat = model.chat("be", seed=1, max_tokens=4)
    chat.send("the cat")
    return chat


def test_saves_at_once_leave_one_whole_file(model: gemlet.Model, tmp_path: Path) -> None:
    """Each of several chats saves to one file, many times."""
    path = tmp_path / "chat.json"
    chats = [model.chat(letter * 20_000) for letter in "abcd"]
    failures: list[BaseException] = []

    def save(chat: gemlet.Chat) -> None:
        try:
            for _ in range(20):
                chat.save(path)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=save, args=(chat,)) for chat in chats]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == [] and [entry.name for entry in tmp_path.iterdir()] == ["chat.json"]
    assert json.loads(path.read_text())["system"] in [chat.system for chat in chats]


def test_text_that_is_none_is_kept(chat: gemlet.Chat, model: gemlet.Model, tmp_path: Path) -> None:
    chat.system = "half \udc80 of a character, and \ud83d\ude00"
    chat.save(tmp_path / "chat.json")
    again = model.chat()
    again.load(tmp_path / "chat.json")
    assert again.system is not None and again.system.startswith("half \udc80 of") and again.history == chat.history


def saved(chat: gemlet.Chat, tmp_path: Path) -> dict[str, Any]:
    chat.save(tmp_path / "chat.json")
    found: dict[str, Any] = json.loads((tmp_path / "chat.json").read_text())
    return found


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"model": ' + "[" * 100_000,
        "\0",
        "\ufeff{}",
        "null",
        '{"model": "x", "system": null, "messages": []}',
        '{"model": 1, "system": 3, "messages": []}',
        '{"model": 1, "system": null, "messages": {"a": 1}}',
        '{"model": 1, "system": null, "messages": [[]]}',
        '{"model": 1, "system": null, "messages": [{"role": [], "content": "", "tokens": null}]}',
    ],
)
def test_what_is_no_conversation(chat: gemlet.Chat, tmp_path: Path, text: str) -> None:
    before = chat.history, chat.system
    (tmp_path / "bad").write_text(text)
    with pytest.raises(gemlet.FormatError, match="bad: not a saved conversation"):
        chat.load(tmp_path / "bad")
    assert (chat.history, chat.system) == before


def test_files_that_cannot_be_read(chat: gemlet.Chat, tmp_path: Path) -> None:
    before = chat.history
    os.mkfifo(tmp_path / "fifo")
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(1 << 40)  # without taking room on the disk
    for path in (tmp_path / "fifo", tmp_path / "huge", tmp_path, Path("/dev/zero"), tmp_path / "none", Path("/")):
        with pytest.raises(gemlet.FileError, match=f"{path}: "):
            chat.load(path)
    assert chat.history == before


@pytest.mark.parametrize("tokens", [[10**40], [-1], [10**6], [5, 6, 7]])
def test_tokens_that_are_not_the_text_are_left_out(
    chat: gemlet.Chat, model: gemlet.Model, tmp_path: Path, tokens: list[int]
) -> None:
    found = saved(chat, tmp_path)
    assert chat.history[1].tokens is not None
    found["messages"][1]["tokens"] = tokens
    (tmp_path / "chat.json").write_text(json.dumps(found))
    again = model.chat(max_tokens=2)
    again.load(tmp_path / "chat.json")
    assert again.history[1].content == chat.history[1].content and again.history[1].tokens is None
    again.send("a")
