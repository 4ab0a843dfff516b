"""Conversations: reuse, and turns that are taken back."""

import asyncio
import gc
import os
import signal
import threading
from pathlib import Path

import gemlet
import pytest
from gemlet.chat import sandbox
from gemlet.chat.messages import Message
from gemlet.chat.templates import ChatTemplate

from hostile_templates import ENDLESS
from published_templates import GEMMA_3


@pytest.fixture
def chat(model: gemlet.Model) -> gemlet.Chat:
    return model.chat(template=GEMMA_3, max_tokens=12, seed=4)


def test_a_turn_computes_only_what_is_new(model: gemlet.Model, chat: gemlet.Chat) -> None:
    first = chat.send("the cat")
    assert first.stats.reused_tokens == 0
    second = chat.send("the hat")
    assert second.stats.reused_tokens == first.stats.prompt_tokens + len(first.tokens) - 1  # the last was not computed
    assert [(m.role, m.content) for m in chat.history] == [
        ("user", "the cat"),
        ("assistant", first.text),
        ("user", "the hat"),
        ("assistant", second.text),
    ]
    # The same answers as from scratch.
    prompt = ChatTemplate(model._engine, GEMMA_3).encode(chat.history[:3])
    assert model.generate(prompt, max_tokens=12, seed=4).tokens == second.tokens


def test_options_of_a_turn_go_before_those_of_the_chat(chat: gemlet.Chat) -> None:
    assert len(chat.send("a", max_tokens=3).tokens) == 3
    assert len(chat.send("a").tokens) == 12


def test_a_stop_string_leaves_the_text_in_the_history(model: gemlet.Model) -> None:
    bias = dict.fromkeys(range(264, 289), 100.0)
    chat = model.chat(template=GEMMA_3, seed=4, max_tokens=12, logit_bias=bias)
    whole = chat.send("a").text
    chat.reset()
    assert chat.history == []
    cut = chat.send("a", stop=whole[6:8])
    assert chat.history[1] == Message("assistant", cut.text, None)
    assert cut.text == whole[: whole.index(whole[6:8])]


def test_a_closed_stream_takes_the_turn_back(chat: gemlet.Chat) -> None:
    chat.send("the cat")
    before = chat.history
    with chat.stream("the hat") as stream:
        next(stream)
        for change in (lambda: chat.send("x"), chat.undo, chat.reset):
            with pytest.raises(gemlet.ArgumentError, match="busy"):
                change()
    assert chat.history == before
    dropped = chat.stream("the hat")
    next(dropped)
    del dropped
    gc.collect()
    assert chat.history == before
    expected = chat.send("a bath")
    chat.undo()
    assert chat.history == before
    assert chat.send("a bath").tokens == expected.tokens


def test_a_read_stream_keeps_the_turn(chat: gemlet.Chat) -> None:
    text = "".join(chat.stream("the cat"))
    assert [m.content for m in chat.history] == ["the cat", text]


def test_failed_turns_are_taken_back(chat: gemlet.Chat) -> None:
    with pytest.raises(gemlet.ContextError, match=r"\b512\b"):
        chat.send("a" * 600)
    with pytest.raises(LookupError):
        chat.send("a", on_text=dict[str, str]().__getitem__)
    assert chat.history == []
    assert chat.send("a").text


def test_undo_and_system(chat: gemlet.Chat) -> None:
    assert not chat.undo()
    plain = chat.send("a").stats.prompt_tokens
    assert chat.undo() and chat.history == []
    chat.system = "be an ant"
    assert chat.send("a").stats.prompt_tokens > plain


def test_saved_conversations(model: gemlet.Model, other_gguf: Path, chat: gemlet.Chat, tmp_path: Path) -> None:
    chat.system = "été"
    chat.send("the cat")
    chat.save(tmp_path / "chat.json")
    assert [path.name for path in tmp_path.iterdir()] == ["chat.json"]
    again = model.chat(template=GEMMA_3)
    again.load(tmp_path / "chat.json")
    assert (again.history, again.system) == (chat.history, "été")
    other = gemlet.load(other_gguf).chat()
    other.load(tmp_path / "chat.json")
    assert [(m.content, m.tokens) for m in other.history] == [(m.content, None) for m in chat.history]

    for bad in (
        "",
        "[]",
        "{}",
        '{"model": 1, "system": null, "messages": [{"role": "root"}]}',
        '{"model": 1, "messages": 3}',
    ):
        (tmp_path / "bad.json").write_text(bad)
        with pytest.raises(gemlet.FormatError, match=r"bad\.json: not a saved conversation"):
            again.load(tmp_path / "bad.json")
    with pytest.raises(gemlet.FileError, match="No such file"):
        again.load(tmp_path / "none.json")
    with pytest.raises(gemlet.FileError, match="there is no directory"):
        chat.save(tmp_path / "none" / "chat.json")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(gemlet.FileError, match="pipe: is a FIFO, expected a file name"):
        chat.save(tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()
    assert again.history == chat.history


def test_asend_and_astream(chat: gemlet.Chat) -> None:
    async def talk() -> tuple[str, str]:
        first = await chat.asend("the cat")
        pieces = [piece async for piece in chat.astream("the hat")]
        return first.text, "".join(pieces)

    first, second = asyncio.run(talk())
    assert [m.content for m in chat.history] == ["the cat", first, "the hat", second]


def test_the_event_loop_runs_while_the_core_computes(long_model: gemlet.Model) -> None:
    chat = long_model.chat(template=GEMMA_3, max_tokens=1)

    async def talk() -> int:
        sending = asyncio.ensure_future(chat.asend("a" * 6000))
        beats = 0
        while not sending.done():
            await asyncio.sleep(0.001)
            beats += 1
        await sending
        return beats

    assert asyncio.run(talk()) > 20


def test_the_event_loop_runs_while_a_template_hangs(model: gemlet.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gemlet.chat.jinja_template.Budget", lambda: sandbox.Budget(1e6))  # only the signal ends it
    chat = model.chat(template=ENDLESS["loops"])

    async def talk() -> None:
        sending = asyncio.ensure_future(chat.asend("a"))
        while not sandbox._shared.is_waiting:
            await asyncio.sleep(0)
        with pytest.raises(gemlet.ArgumentError, match="busy"):
            await chat.asend("b")
        assert sandbox._shared.pid is not None and not sending.done()
        os.kill(sandbox._shared.pid, signal.SIGKILL)
        with pytest.raises(gemlet.TemplateError, match="ended with status -9"):
            await sending

    asyncio.run(talk())
    assert chat.history == []


def test_cancelling_the_task_takes_the_turn_back(long_model: gemlet.Model) -> None:
    chat = long_model.chat(template=GEMMA_3, max_tokens=3)

    async def send() -> None:
        await asyncio.wait_for(chat.asend("a" * 30000), timeout=0.3)

    async def stream() -> None:
        async with asyncio.timeout(0.3):
            async for _ in chat.astream("a" * 30000):
                pass

    for call in (send, stream):
        threads = threading.active_count()
        with pytest.raises(TimeoutError):
            asyncio.run(call())
        assert chat.history == []
        assert threading.active_count() <= threads + 1
    assert chat.send("a").stats.prompt_tokens < 100


def test_a_chat_through_a_scheduler(model: gemlet.Model, chat: gemlet.Chat) -> None:
    scheduler = model.scheduler()
    scheduled = model.chat(template=GEMMA_3, max_tokens=12, seed=4, scheduler=scheduler)

    async def talk(to: gemlet.Chat) -> list[str]:
        return [(await to.asend("a bath")).text, "".join([piece async for piece in to.astream("a bat")])]

    for text in ("the cat", "the hat"):
        ours, theirs = scheduled.send(text), chat.send(text)
        assert (ours.text, ours.tokens, ours.stats.reused_tokens) == (
            theirs.text,
            theirs.tokens,
            theirs.stats.reused_tokens,
        )
    assert "".join(scheduled.stream("then")) == "".join(chat.stream("then"))
    assert asyncio.run(talk(scheduled)) == asyncio.run(talk(chat))
    assert scheduled.history == chat.history and len(chat.history) == 10
    assert scheduled._session.tokens == chat._session.tokens
    scheduler.close()
    with pytest.raises(gemlet.ArgumentError, match="the scheduler was stopped"):
        scheduled.send("x")
    assert scheduled.history == chat.history


def test_many_chats_share_a_scheduler(model: gemlet.Model) -> None:
    scheduler = model.scheduler(sequences=3)
    chats = [model.chat(template=GEMMA_3, max_tokens=8, seed=i, scheduler=scheduler) for i in range(5)]

    async def talk() -> None:
        for text in ("the cat", "the hat"):
            results = await asyncio.gather(*(chat.asend(text) for chat in chats))
        assert all(result.stats.reused_tokens > 0 for result in results)

    asyncio.run(talk())
    for i, chat in enumerate(chats):
        alone = model.chat(template=GEMMA_3, max_tokens=8, seed=i)
        for text in ("the cat", "the hat"):
            alone.send(text)
        assert chat.history == alone.history


def test_a_turn_that_a_scheduler_computes_is_taken_back(long_model: gemlet.Model) -> None:
    endless: gemlet.GenerateOptions = {"max_tokens": None, "logit_bias": {1: -100.0, 5: -100.0}}
    chat = long_model.chat(template=GEMMA_3, max_tokens=5, seed=4, scheduler=long_model.scheduler())
    expected = long_model.chat(template=GEMMA_3, max_tokens=5, seed=4).send("a bath").text

    async def cancel() -> None:
        begun = asyncio.Event()
        turn = asyncio.create_task(chat.asend("the hat", on_text=lambda text: begun.set(), **endless))
        await begun.wait()
        with pytest.raises(gemlet.ArgumentError, match="busy"):
            await chat.asend("x")
        for change in (chat.undo, chat.reset):
            with pytest.raises(gemlet.ArgumentError, match="busy"):
                change()
        turn.cancel()
        with pytest.raises(asyncio.CancelledError):
            await turn
        async for _ in (pieces := chat.astream("the hat", **endless)):
            break
        await pieces.aclose()  # type: ignore[attr-defined]

    asyncio.run(cancel())
    with chat.stream("the hat", **endless) as stream:
        next(stream)
        with pytest.raises(gemlet.ArgumentError, match="busy"):
            chat.send("x")
    dropped = chat.stream("the hat", **endless)
    next(dropped)
    del dropped
    gc.collect()
    assert chat.history == []
    assert chat.send("a bath").text == expected
