"""Whoever waits for a completion hears of its end, whatever happens to what computes it or to who waits."""

import asyncio
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from pathlib import Path

import gemlet
import pytest

from scripts import FORK, run_script

ENDLESS: gemlet.GenerateOptions = {"max_tokens": None, "logit_bias": {1: -100.0, 5: -100.0}}
TEMPLATE = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"


def test_a_scheduler_without_a_thread_is_refused(long_model: gemlet.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(gemlet.OutOfMemoryError, match=r"cannot start the scheduler's thread: can't start"):
            long_model.scheduler()
    assert long_model.scheduler().submit([2, 9], max_tokens=1).result(60)


def test_without_a_thread_to_compute_on_a_call_fails_and_the_next_one_works(tiny_gguf: Path) -> None:
    ended = run_script(
        FORK
        + """
import resource, threading
import numpy  # while there is memory for it
import gemlet
model = gemlet.load(sys.argv[1], threads=1)
session, stream = model.session(), model.stream([2, 9], max_tokens=2)
soft, hard = resource.getrlimit(resource.RLIMIT_AS)
with open("/proc/self/statm") as file:
    mapped = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (mapped + (1 << 20), hard))
over = threading.Event()
try:
    while True:  # stacks of threads that have ended are kept for new ones
        threading.Thread(target=over.wait).start()
except RuntimeError:
    pass
for call in (lambda: session.prefill([2]), stream.source.next):
    raises(gemlet.OutOfMemoryError, "cannot start the thread that computes", call)
over.set()
resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
assert len(session.prefill([2]))
assert stream.finish()
""",
        tiny_gguf,
    )
    assert ended.status == 0 and ended.output == "", ended.output


def test_a_callback_that_runs_out_of_memory_ends_its_request(long_model: gemlet.Model) -> None:
    def fail(text: str) -> None:
        raise MemoryError

    scheduler = long_model.scheduler()
    future = scheduler.submit([2, 9], on_text=fail, **ENDLESS)
    with pytest.raises(MemoryError):
        future.result(60)
    assert scheduler.submit([2, 9], max_tokens=1).result(60)


def test_two_event_loops_share_a_scheduler(model: gemlet.Model) -> None:
    def ask(seed: int) -> list[int]:
        return asyncio.run(model.agenerate([2, 9], max_tokens=9, seed=seed)).tokens

    with ThreadPoolExecutor(4) as pool:
        for seed, tokens in enumerate(pool.map(ask, range(8))):
            assert tokens == model.generate([2, 9], max_tokens=9, seed=seed).tokens


def test_what_is_awaited_in_a_loop_that_is_closed_is_not_computed_any_more(long_model: gemlet.Model) -> None:
    scheduler, session = long_model.scheduler(), long_model.session()
    loop = asyncio.new_event_loop()
    begun = asyncio.Event()

    async def ask() -> None:
        await scheduler.agenerate([2, 9], session=session, on_text=lambda text: begun.set(), **ENDLESS)

    asking = ask()
    task = loop.create_task(asking)
    loop.run_until_complete(begun.wait())
    loop.close()
    asking.close()  # as at the end of a program
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    assert scheduler.submit([2, 9], max_tokens=3).result(60)
    while scheduler.active:
        assert scheduler.submit([2, 9], max_tokens=1).result(60)  # a pass later
    assert session.tokens[:2] == [2, 9]


def test_cancelling_what_wraps_a_future_ends_the_request(long_model: gemlet.Model) -> None:
    scheduler, session = long_model.scheduler(), long_model.session()

    async def ask() -> None:
        task = asyncio.ensure_future(asyncio.wrap_future(scheduler.submit([2, 9], session=session, **ENDLESS)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(ask())
    while scheduler.active or scheduler.waiting:
        assert scheduler.submit([2, 9], max_tokens=1).result(60)
    assert session.position >= 0


def test_closing_while_threads_wait(long_model: gemlet.Model) -> None:
    scheduler = long_model.scheduler(sequences=1)
    begun = threading.Event()
    futures = [scheduler.submit([2, 9], on_text=lambda text: begun.set(), **ENDLESS) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        results = [pool.submit(future.result, 60) for future in futures]
        assert begun.wait(60)
        scheduler.close()
        assert {result.result().finish_reason for result in results} == {"cancelled"}
    assert not wait_for(futures, 60).not_done


def test_a_chat_in_two_threads(long_model: gemlet.Model) -> None:
    """One speaks, and the other is refused."""
    for scheduler in (None, long_model.scheduler()):
        chat = long_model.chat(scheduler=scheduler, max_tokens=3, logit_bias=ENDLESS["logit_bias"])

        def send(i: int, chat: gemlet.Chat = chat) -> str:
            try:
                return chat.send(f"{i}").text
            except gemlet.ArgumentError as error:
                assert "busy" in str(error)
                return ""

        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(send, range(40)))
        assert any(answers)
        assert len(chat.history) == 2 * sum(bool(answer) for answer in answers)


@pytest.mark.parametrize("template", [None, TEMPLATE])
def test_a_chat_needs_no_thread_of_the_event_loop(model: gemlet.Model, template: str | None) -> None:
    """They are all taken by callers that wait for its answer."""
    chat = model.chat(template=template, max_tokens=3, seed=1)

    async def talk() -> str:
        loop = asyncio.get_running_loop()
        answer: Future[str] = Future()
        with ThreadPoolExecutor(1) as pool:
            loop.set_default_executor(pool)
            waiting = loop.run_in_executor(None, answer.result)
            try:
                text = (await asyncio.wait_for(chat.asend("a"), 60)).text
            finally:
                answer.set_result("")
            await waiting
        return text

    assert asyncio.run(talk()) == model.chat(template=template, max_tokens=3, seed=1).send("a").text
