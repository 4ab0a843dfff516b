"""Many answers at a time, from many threads and from asyncio."""

import asyncio
import threading
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor

import gemlet
import pytest

PROMPTS = ["the cat in", "a dog", "it was late", "once", "the cat", "and so"]
NO_END = dict.fromkeys((1, 5), -100.0)  # <eos>, <end_of_turn>
ENDLESS: gemlet.GenerateOptions = {
    "max_tokens": None,
    "logit_bias": NO_END,
}


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
    futures = [scheduler.submit(p, session=session.fork(), max_tokens=5, seed=2) for p in prompts]
    for prompt, future in zip(prompts, futures, strict=True):
        result = future.result(60)
        assert result.stats.reused_tokens == 85
        assert result.tokens == model.generate(prompt, max_tokens=5, seed=2).tokens
    assert session.position == 85


def test_a_session_comes_back_with_the_answer(model: gemlet.Model) -> None:
    scheduler, session, prompt = model.scheduler(), model.session(), [2]
    held = 0
    for turn in range(4):
        prompt += range(20 + turn, 40 + turn)
        expected = model.generate(prompt, max_tokens=6, seed=turn, logit_bias=NO_END)
        result = scheduler.submit(prompt, session=session, max_tokens=6, seed=turn, logit_bias=NO_END).result(60)
        assert (result.tokens, result.stats.reused_tokens) == (expected.tokens, held)
        prompt += result.tokens
        held = len(prompt) - 1  # the last one was not computed
        assert session.tokens == prompt[:-1]


def test_a_session_is_busy_while_the_scheduler_has_it(long_model: gemlet.Model) -> None:
    scheduler, session = long_model.scheduler(), long_model.session()
    session.prefill([2, 9])
    begun = threading.Event()
    future = scheduler.submit([2, 9, 8], session=session, on_text=lambda text: begun.set(), **ENDLESS)
    assert begun.wait(60)
    for use in (lambda: session.prefill([3]), lambda: session.position, lambda: scheduler.submit([2], session=session)):
        with pytest.raises(gemlet.ArgumentError, match="the session is busy"):
            use()
    assert session.context == long_model.context
    scheduler.close()
    assert future.result(60).finish_reason == "cancelled"
    assert session.tokens[:3] == [2, 9, 8]
    with pytest.raises(gemlet.ArgumentError, match="stopped"):
        scheduler.submit([2], session=session)
    assert len(session.prefill([3]))  # and what was refused is not lost


def test_pieces_carry_tokens_and_log_probabilities(model: gemlet.Model) -> None:
    pieces: list[gemlet.Piece] = []
    texts: list[str] = []
    options: gemlet.GenerateOptions = {"max_tokens": 20, "seed": 3, "top_logprobs": 2, "logit_bias": NO_END}
    scheduler = model.scheduler()
    result = scheduler.submit([2, 9], on_piece=pieces.append, on_text=texts.append, **options).result(60)
    assert len(result.logprobs) == len(result.tokens) == 20
    assert "".join(piece.text for piece in pieces) == "".join(texts) == result.text
    assert [token for piece in pieces for token in piece.tokens] == result.tokens
    assert [entry for piece in pieces for entry in piece.logprobs] == result.logprobs


def test_the_waiting_list_is_bounded(long_model: gemlet.Model) -> None:
    scheduler = long_model.scheduler(sequences=1, max_waiting=1)
    assert (scheduler.active, scheduler.waiting) == (0, 0)
    begun = threading.Event()
    running = scheduler.submit([2, 9], on_text=lambda text: begun.set(), **ENDLESS)
    assert begun.wait(60)
    waiting = scheduler.submit([2, 9], max_tokens=3, seed=1)
    assert (scheduler.active, scheduler.waiting) == (1, 1)
    session = long_model.session()
    with pytest.raises(gemlet.OverloadError, match="1 requests are computed and 1 wait"):
        scheduler.submit([2, 9], session=session, max_tokens=3)
    assert session.position == 0
    running.cancel()
    assert waiting.result(60).tokens == long_model.generate([2, 9], max_tokens=3, seed=1).tokens


def test_prefixes_are_reused(model: gemlet.Model) -> None:
    scheduler = model.scheduler(prefixes=4, prefix_bytes=1 << 30)
    prompt = [2, *range(20, 60)]
    reused = []
    for scope in ("a", "a", "b"):
        result = scheduler.submit(prompt, prefix_scope=scope, max_tokens=6, seed=1).result(60)
        assert result.tokens == model.generate(prompt, max_tokens=6, seed=1).tokens
        reused.append(result.stats.reused_tokens)
    assert reused == [0, 40, 0]
    session = model.session()
    for scope in ("a", "c"):  # the second request goes on with the first one's session
        scheduler.submit(prompt, session=session, prefix_scope=scope, max_tokens=6, seed=1).result(60)
    assert scheduler.submit(prompt, prefix_scope="c", max_tokens=6).result(60).stats.reused_tokens == 0
    with pytest.raises(gemlet.ArgumentError, match="prefixes is -1"):
        model.scheduler(prefixes=-1)


def test_a_callback_that_raises_in_the_event_loop_ends_the_answer(long_model: gemlet.Model) -> None:
    def refuse(text: str) -> None:
        raise LookupError(text)

    with pytest.raises(LookupError):
        asyncio.run(long_model.agenerate([2, 9], on_text=refuse, **ENDLESS))


def test_streams_of_a_scheduler(long_model: gemlet.Model) -> None:
    scheduler = long_model.scheduler()
    ended: list[gemlet.GenerateResult] = []
    stream = scheduler.stream([2, 9], max_tokens=9, seed=1, on_end=ended.append)
    text = "".join(stream)
    assert text == long_model.generate([2, 9], max_tokens=9, seed=1).text
    assert ended == [stream.result]
    session = long_model.session()
    with scheduler.stream([2, 9], session=session, **ENDLESS) as endless:
        assert next(endless)
    assert session.tokens[:2] == [2, 9]  # closing has brought it back
    assert endless.result is not None and endless.result.finish_reason == "cancelled"
    stopped = scheduler.stream([2, 9], **ENDLESS)
    next(stopped)
    scheduler.close()
    result = stopped.finish()
    assert result.finish_reason == "cancelled" and result.tokens


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
