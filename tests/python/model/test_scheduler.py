"""Many answers at a time, from many threads and from asyncio."""

import asyncio
import threading
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor

import gemlet
import pytest

PROMPTS = ["the cat in", "a dog", "it was late", "once", "the cat", "and so"]
ENDLESS: gemlet.GenerateOptions = {
    "max_tokens": None,
    "logit_bias": dict.fromkeys((1, 5), -100.0),
}  # <eos>, <end_of_turn>


def test_awaited_answers_are_those_of_generate(model: gemlet.Model) -> None:
    async def answer_all() -> list[gemlet.GenerateResult]:
        return await asyncio.gather(*(model.agenerate(p, max_tokens=9, seed=i) for i, p in enumerate(PROMPTS)))

    for i, result in enumerate(asyncio.run(answer_all())):
        expected = model.generate(PROMPTS[i], max_tokens=9, seed=i)
        assert (result.text, result.tokens, result.seed) == (expected.text, expected.tokens, i)


def test_pieces_reach_the_event_loop(model: gemlet.Model) -> None:
    pieces: list[str] = []
    threads: set[int] = set()

    def show(text: str) -> None:
        pieces.append(text)
        threads.add(threading.get_ident())

    async def answer() -> gemlet.GenerateResult:
        result = await model.agenerate(PROMPTS[0], max_tokens=12, seed=3, on_text=show)
        await asyncio.sleep(0)
        return result

    assert asyncio.run(answer()).text == "".join(pieces) and threads == {threading.get_ident()}


def test_a_cancelled_task_leaves_the_others_alone(long_model: gemlet.Model) -> None:
    async def answer() -> gemlet.GenerateResult:
        begun = asyncio.Event()
        endless = asyncio.create_task(long_model.agenerate(PROMPTS[0], on_text=lambda text: begun.set(), **ENDLESS))
        other = asyncio.create_task(long_model.agenerate(PROMPTS[1], max_tokens=20, seed=1))
        await begun.wait()
        endless.cancel()
        with pytest.raises(asyncio.CancelledError):
            await endless
        return await other

    assert asyncio.run(answer()).tokens == long_model.generate(PROMPTS[1], max_tokens=20, seed=1).tokens


def test_many_threads_submit(model: gemlet.Model) -> None:
    scheduler = model.scheduler(sequences=3, prompt_rows=2)

    def ask(i: int) -> list[int]:
        return scheduler.submit(model.tokenize(PROMPTS[i % 6], bos=True), max_tokens=7, seed=i).result(60).tokens

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(24)))
    for i, tokens in enumerate(answers):
        assert tokens == model.generate(PROMPTS[i % 6], max_tokens=7, seed=i).tokens


def test_requests_go_on_from_what_a_session_holds(model: gemlet.Model) -> None:
    session = model.session()
    session.prefill(list(range(5, 90)))
    scheduler = model.scheduler()
    prompts = [[*range(5, 90), i] for i in range(3)]
    futures = [scheduler.submit(p, session=session, max_tokens=5, seed=2) for p in prompts]
    for prompt, future in zip(prompts, futures, strict=True):
        result = future.result(60)
        assert result.stats.reused_tokens == 85
        assert result.tokens == model.generate(prompt, max_tokens=5, seed=2).tokens
    assert session.position == 85


def test_an_error_is_its_requests_own(model: gemlet.Model) -> None:
    scheduler = model.scheduler()

    def refuse(text: str) -> None:
        raise LookupError(text)

    good = scheduler.submit([2, 9], max_tokens=5, seed=1)
    bad = scheduler.submit([2, 9], max_tokens=50, seed=1, on_text=refuse)
    with pytest.raises(LookupError):
        bad.result(60)
    assert len(good.result(60).tokens) == 5
    with pytest.raises(gemlet.ContextError, match="512"):
        scheduler.submit([2] * 600)
    with pytest.raises(gemlet.ArgumentError, match="empty"):
        scheduler.submit([])
    with pytest.raises(gemlet.ArgumentError, match="sequences is 0"):
        model.scheduler(sequences=0)


def test_closing_ends_what_is_running(long_model: gemlet.Model) -> None:
    scheduler = long_model.scheduler(sequences=1)
    shown = threading.Event()
    running: Future[gemlet.GenerateResult] = scheduler.submit([2, 9], on_text=lambda text: shown.set(), **ENDLESS)
    waiting = scheduler.submit([2, 9], max_tokens=3)
    dropped = scheduler.submit([2, 9], max_tokens=3)
    assert dropped.cancel()
    assert shown.wait(60)
    scheduler.close()
    assert running.result(60).finish_reason == "cancelled" and running.result().tokens
    assert waiting.result(60).finish_reason == "cancelled" and not waiting.result().tokens
    with pytest.raises(CancelledError):
        dropped.result(1)
    with pytest.raises(gemlet.ArgumentError, match="stopped"):
        scheduler.submit([2, 9])


def test_a_scheduler_that_is_dropped_takes_its_thread_along(model: gemlet.Model) -> None:
    before = set(threading.enumerate())
    scheduler = model.scheduler()
    assert scheduler.submit([2, 9], max_tokens=2).result(60)
    [thread] = set(threading.enumerate()) - before
    del scheduler
    thread.join(60)
    assert not thread.is_alive()
