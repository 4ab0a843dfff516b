"""Answers: whole, in pieces, in batches, and stopped."""

import _thread
import gc
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import gemlet
import numpy as np
import pytest

PROMPT = "the cat in"
READABLE = dict.fromkeys(range(264, 289), 100.0)  # a bias towards the pieces that are letters


def test_greedy_is_the_most_likely_token(model: gemlet.Model) -> None:
    out = model.generate(PROMPT, max_tokens=20, temperature=0.0)
    tokens = model.tokenize(PROMPT, bos=True)
    for token in out.tokens:
        assert token == int(np.argmax(model.logits(tokens)[-1]))
        tokens.append(token)
    assert out.finish_reason == "length" and len(out.tokens) == 20
    assert out.text == model.detokenize(out.tokens)


def test_a_seed_gives_the_same_text_whatever_the_threads(tiny_gguf: Path) -> None:
    texts = {gemlet.load(tiny_gguf, threads=n).generate(PROMPT, max_tokens=40, seed=7).text for n in (1, 2, 3)}
    assert len(texts) == 1


def test_the_seed_that_was_drawn_is_told(model: gemlet.Model) -> None:
    out = model.generate(PROMPT, max_tokens=30)
    again = model.generate(PROMPT, max_tokens=30)
    assert out.seed != again.seed and out.tokens != again.tokens
    assert model.generate(PROMPT, max_tokens=30, seed=out.seed).tokens == out.tokens


def test_stats(model: gemlet.Model) -> None:
    stats = model.generate(PROMPT, max_tokens=10, seed=0).stats
    assert (stats.prompt_tokens, stats.generated_tokens) == (len(model.tokenize(PROMPT, bos=True)), 10)
    assert 0 < stats.prefill_seconds <= stats.first_token_seconds
    assert stats.prefill_tokens_per_second == pytest.approx(stats.prompt_tokens / stats.prefill_seconds)
    assert stats.decode_tokens_per_second == pytest.approx(9 / stats.decode_seconds)
    assert 5_000_000 < stats.peak_memory < 4_000_000_000


def test_logprobs(model: gemlet.Model) -> None:
    out = model.generate(PROMPT, max_tokens=5, seed=0, top_logprobs=3)
    tokens = model.tokenize(PROMPT, bos=True)
    assert [entry.token for entry in out.logprobs] == out.tokens
    for entry in out.logprobs:
        logits = model.logits(tokens)[-1].astype(np.float64)
        logprobs = logits - np.log(np.exp(logits).sum())
        assert entry.logprob == pytest.approx(logprobs[entry.token], abs=1e-4)
        assert [token for token, _ in entry.top] == np.argsort(-logprobs)[:3].tolist()
        tokens.append(entry.token)
    assert model.generate(PROMPT, max_tokens=2).logprobs == []


def test_stop_string(model: gemlet.Model) -> None:
    whole = model.generate(PROMPT, max_tokens=40, seed=5, logit_bias=READABLE).text
    cut = whole[15:18]
    out = model.generate(PROMPT, max_tokens=40, seed=5, logit_bias=READABLE, stop=cut)
    assert (out.text, out.finish_reason) == (whole[: whole.index(cut)], "stop")
    stream = model.stream(PROMPT, max_tokens=40, seed=5, logit_bias=READABLE, stop=["zz", cut])
    assert "".join(stream) == out.text


def test_the_context_ends_an_answer(model: gemlet.Model) -> None:
    out = model.session(context=30).generate(model.tokenize(PROMPT, bos=True), max_tokens=None, seed=5)
    assert out.finish_reason == "context"
    assert out.stats.prompt_tokens + len(out.tokens) in (30, 31)


def test_logit_bias(model: gemlet.Model) -> None:
    assert model.generate(PROMPT, max_tokens=4, logit_bias={270: 100.0}).tokens == [270] * 4


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"temprature": 1}, TypeError, "unknown option 'temprature'"),
        ({"temperature": "hot"}, TypeError, "temperature: expected a number, found 'hot'"),
        ({"max_tokens": 1.5}, TypeError, "max_tokens"),
        ({"top_k": 2**40}, gemlet.ArgumentError, f"top_k is {2**40}, expected a number below"),
        ({"stop": [1]}, TypeError, "stop"),
        ({"temperature": -1}, gemlet.ArgumentError, "temperature is -1"),
        ({"temperature": float("nan")}, gemlet.ArgumentError, "temperature"),
        ({"top_p": 2}, gemlet.ArgumentError, "top_p"),
        ({"seed": -1}, gemlet.ArgumentError, "seed: expected 0 to"),
        ({"top_logprobs": 21}, gemlet.ArgumentError, "top_logprobs"),
        ({"max_tokens": -1}, gemlet.ArgumentError, "max_tokens"),
        ({"logit_bias": {10**6: 1.0}}, gemlet.ArgumentError, "1000000"),
    ],
)
def test_wrong_options(model: gemlet.Model, options: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        model.generate(PROMPT, **options)  # type: ignore[arg-type]


def test_empty_prompts(model: gemlet.Model) -> None:
    empties: tuple[str | bytes | list[int], ...] = ("", b"", [])
    for empty in empties:
        with pytest.raises(gemlet.ArgumentError, match="the prompt is empty"):
            model.generate(empty)
    assert model.generate([model.bos], max_tokens=3).tokens
    with pytest.raises(gemlet.ArgumentError, match="the prompt is empty"):
        model.generate_batch(["a", ""])


def test_what_is_no_prompt_is_refused_by_name(model: gemlet.Model) -> None:
    with pytest.raises(TypeError, match=r"prompt: expected text .* whole numbers, found None"):
        model.generate(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"text: expected text \(str\) or bytes, found 3"):
        model.tokenize(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"prompts: expected a sequence, each item text .*, found 'abc'"):
        model.generate_batch("abc")


@pytest.mark.parametrize("name", ["threads", "context", "chunk"])
def test_a_huge_setting_is_refused_by_name(tiny_gguf: Path, name: str) -> None:
    with pytest.raises(gemlet.ArgumentError, match=f"{name} is {10**20}, expected a number below"):
        gemlet.load(tiny_gguf, **{name: 10**20})  # type: ignore[arg-type]


def test_a_prompt_that_brings_its_bos_gets_no_second(model: gemlet.Model) -> None:
    assert model.generate("<bos>a", max_tokens=1).stats.prompt_tokens == 2


def test_batch_equals_one_by_one(model: gemlet.Model) -> None:
    prompts = ["the cat", "a hat", "", "nine ants ate"]
    prompts[2] = "in"
    pieces: dict[int, str] = dict.fromkeys(range(4), "")

    def collect(index: int, text: str) -> None:
        pieces[index] += text

    batch = model.generate_batch(prompts, max_tokens=25, seed=11, on_text=collect)
    for i, prompt in enumerate(prompts):
        single = model.generate(prompt, max_tokens=25, seed=11)
        assert (batch[i].text, batch[i].tokens) == (single.text, single.tokens)
        assert pieces[i] == single.text
    assert model.generate_batch([]) == []


def test_stream_is_the_same_in_pieces(model: gemlet.Model) -> None:
    whole = model.generate(PROMPT, max_tokens=40, seed=3)
    stream = model.stream(PROMPT, max_tokens=40, seed=3)
    before = stream.result
    pieces = list(stream)
    assert len(pieces) > 5 and "".join(pieces) == whole.text
    after = stream.result
    assert before is None and after is not None and after.tokens == whole.tokens
    assert next(stream, "ended") == "ended"


def test_closing_the_iterator_stops_the_computation(model: gemlet.Model) -> None:
    session = model.session()
    with session.stream(model.tokenize(PROMPT, bos=True), max_tokens=None, seed=3) as stream:
        first = next(stream)
        with pytest.raises(gemlet.ArgumentError, match="busy"):
            session.prefill([270])
    assert first and next(stream, None) is None
    assert stream.result is not None and stream.result.finish_reason == "cancelled"
    assert session.position < 20
    session.step(270)


def test_dropping_the_iterator_stops_the_computation(model: gemlet.Model) -> None:
    session = model.session()
    stream = session.stream(model.tokenize(PROMPT, bos=True), max_tokens=None)
    next(stream)
    del stream
    gc.collect()
    session.step(270)


def test_a_stream_that_was_never_read_can_be_closed(model: gemlet.Model) -> None:
    stream = model.stream(PROMPT)
    stream.close()
    assert next(stream, None) is None and stream.result is None


def test_an_exception_in_the_callback_goes_on_to_the_caller(model: gemlet.Model) -> None:
    seen: list[str] = []

    def fail(text: str) -> None:
        seen.append(text)
        if len(seen) == 3:
            raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        model.generate(PROMPT, max_tokens=400, on_text=fail)
    assert len(seen) == 3


@contextmanager
def while_computing(act: Callable[[], object]) -> Iterator[None]:
    """Does something from another thread once this process has computed for a tenth of a second, which a prompt of
    32,000 tokens takes on any machine."""
    begun = time.process_time()

    def watch() -> None:
        pause = threading.Event()
        while time.process_time() - begun < 0.1:
            pause.wait(0.005)
        act()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        watcher.join()


def interrupt() -> None:
    _thread.interrupt_main(signal.SIGINT)


def test_cancel_from_another_thread_during_the_prompt(long_model: gemlet.Model) -> None:
    stream = long_model.stream([270] * 32000, max_tokens=5)
    with while_computing(stream.cancel):
        out = stream.finish()
    assert (out.finish_reason, out.tokens) == ("cancelled", [])


@pytest.mark.parametrize("call", ["generate", "prefill", "logits", "generate_batch"])
def test_ctrl_c_during_the_prompt(long_model: gemlet.Model, call: str) -> None:
    tokens = [270] * 32000
    calls: dict[str, Callable[[], object]] = {
        "generate": lambda: long_model.generate(tokens),
        "prefill": lambda: long_model.session().prefill(tokens),
        "logits": lambda: long_model.logits(tokens),
        "generate_batch": lambda: long_model.generate_batch([tokens, tokens]),
    }
    with pytest.raises(KeyboardInterrupt), while_computing(interrupt):
        calls[call]()


def test_ctrl_c_leaves_a_session_usable(long_model: gemlet.Model) -> None:
    session = long_model.session()
    session.prefill([2, 270, 271])
    with pytest.raises(KeyboardInterrupt), while_computing(interrupt):
        session.prefill([270] * 32000)
    assert session.tokens == [2, 270, 271]
    np.testing.assert_array_equal(session.prefill([272]), long_model.logits([2, 270, 271, 272])[-1])


@pytest.mark.parametrize(("limit", "reason"), [({"max_tokens": 1}, "length"), ({}, "context")])
def test_a_stop_string_that_an_unfinished_character_completes(
    tiny_gguf: Path, limit: dict[str, int], reason: str
) -> None:
    """The first byte of a character that no more tokens finish becomes U+FFFD."""
    context = None if limit else 1
    model = gemlet.load(tiny_gguf, threads=1, context=context)
    options = {"logit_bias": {8 + 0xE2: 1000.0}, **limit}
    out = model.generate([model.bos], **options)  # type: ignore[arg-type]
    assert (out.text, out.finish_reason) == ("\ufffd", reason)
    out = model.generate([model.bos], stop=["\ufffd"], **options)  # type: ignore[arg-type]
    assert (out.text, out.finish_reason) == ("", "stop")


class Unread:
    """A model's engine that would not read a text."""

    def __init__(self, engine: object) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> object:
        assert name not in ("tokenize", "prompt")
        return getattr(self._engine, name)


def test_a_text_that_cannot_fit_is_refused_unread(tiny_gguf: Path, model: gemlet.Model) -> None:
    """Tokenising a hundred megabytes takes gigabytes."""
    unread = gemlet.load(tiny_gguf, threads=1)
    unread._engine = Unread(unread._engine)  # type: ignore[assignment]
    message = r"the prompt has 1,000,000 bytes, which are at least [0-9,]+ tokens; the context holds 512"
    text = "a" * 1_000_000
    for prompt in (text, text.encode()):
        with pytest.raises(gemlet.ContextError, match=message):
            unread.generate(prompt)
    with pytest.raises(gemlet.ContextError, match=message):
        unread.generate_batch([text])
    with pytest.raises(gemlet.ContextError, match=message):
        unread.chat(text).send("Hello")
    with pytest.raises(gemlet.ContextError, match=message):
        unread.chat().send(text)
    longest = max(range(model.info.vocabulary), key=lambda token: len(model.piece(token).encode()))
    fits = model.piece(longest) * 500
    assert len(model.tokenize(fits)) == 500 and model.generate(fits, max_tokens=1).stats.prompt_tokens == 501
