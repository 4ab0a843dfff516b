"""One model, many threads."""

import threading
from concurrent.futures import ThreadPoolExecutor

import gemlet
import pytest


def test_threads_get_what_one_gets(model: gemlet.Model) -> None:
    jobs = [(prompt, seed) for prompt in ("the cat", "a hat in the bath", "nine") for seed in range(4)]

    def answer(job: tuple[str, int]) -> list[int]:
        return model.generate(job[0], max_tokens=60, seed=job[1]).tokens

    alone = [answer(job) for job in jobs]
    assert len({tuple(tokens) for tokens in alone}) == len(jobs)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(answer, jobs)) == alone


def test_other_threads_run_while_the_core_computes(long_model: gemlet.Model) -> None:
    stream = long_model.stream([270] * 8000, max_tokens=1)
    computing = threading.Thread(target=stream.finish)
    computing.start()
    turns = 0
    while computing.is_alive():
        turns += 1
        if turns == 10_000:
            stream.cancel()
    computing.join()
    assert turns >= 10_000


def test_a_stream_that_is_cancelled_before_it_is_read_ends_at_once(long_model: gemlet.Model) -> None:
    session = long_model.session()
    stream = session.stream([270] * 8000, max_tokens=1)
    stream.cancel()
    result = stream.finish()
    assert (result.finish_reason, result.tokens, session.position) == ("cancelled", [], 0)
    closed = session.stream([2, 9], max_tokens=1)
    closed.close()
    assert list(closed) == [] and closed.result is None
    assert len(session.generate([2, 9], max_tokens=1).tokens) <= 1


def test_a_session_refuses_a_second_call(long_model: gemlet.Model) -> None:
    session = long_model.session()
    stream = session.stream([270] * 16000, max_tokens=1)
    computing = threading.Thread(target=stream.finish)
    computing.start()
    refused = 0
    while computing.is_alive() and not refused:
        try:
            session.position  # noqa: B018
        except gemlet.ArgumentError as error:
            assert "busy" in str(error)
            refused += 1
    stream.cancel()
    computing.join()
    assert refused == 1
    session.rewind(0)


def test_closing_from_another_thread_ends_the_reader(long_model: gemlet.Model) -> None:
    stream = long_model.stream([270] * 32000, max_tokens=1)
    pieces: list[str] = []
    reader = threading.Thread(target=lambda: pieces.extend(stream))
    reader.start()
    stream.cancel()
    reader.join(timeout=5)
    assert not reader.is_alive() and pieces == []


@pytest.mark.slow
def test_many_threads_for_long(model: gemlet.Model) -> None:
    expected = model.generate("the cat", max_tokens=200, seed=1).tokens

    def work(i: int) -> bool:
        with model.stream("the cat", max_tokens=200, seed=1) as stream:
            if i % 3 == 0:
                next(stream)
                return True
            return stream.finish().tokens == expected

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(work, range(600)))
