"""Arguments of a wrong type, or out of range: an ArgumentError that names the argument."""

import asyncio
import inspect
from collections.abc import Callable
from pathlib import Path

import gemlet
import numpy as np
import pytest
from gemlet.arguments import checked

Call = Callable[[gemlet.Model], object]
WRONG: dict[str, tuple[Call, str]] = {
    "tokenize": (lambda m: m.tokenize(3), "text: expected text .*, found 3"),  # type: ignore[arg-type]
    "tokenize bos": (lambda m: m.tokenize("a", bos="yes"), "bos: expected True or False"),  # type: ignore[arg-type]
    "detokenize": (lambda m: m.detokenize("abc"), "tokens: expected a sequence of whole"),  # type: ignore[arg-type]
    "detokenize none": (lambda m: m.detokenize(None), "tokens: expected a sequence"),  # type: ignore[arg-type]
    "detokenize large": (lambda m: m.detokenize([2, 10**10]), r"tokens\[1\] is 10000000000"),
    "bytes": (lambda m: m.detokenize_bytes([2.5]), r"tokens\[0\]: expected a whole number, found 2.5"),  # type: ignore[list-item]
    "piece": (lambda m: m.piece("a"), "token: expected a whole number, found 'a'"),  # type: ignore[arg-type]
    "piece large": (lambda m: m.piece(2**31), "token is 2147483648, expected a number below"),
    "is_end": (lambda m: m.is_end(None), "token: expected a whole number, found None"),  # type: ignore[arg-type]
    "logits": (lambda m: m.logits("abc"), "tokens: expected a sequence of whole numbers"),  # type: ignore[arg-type]
    "logits item": (lambda m: m.logits([2, "a"]), r"tokens\[1\]: expected a whole number"),  # type: ignore[list-item]
    "generate": (lambda m: m.generate(3), "prompt: expected text"),  # type: ignore[arg-type]
    "generate item": (lambda m: m.generate([None]), r"prompt\[0\]: expected a whole number"),  # type: ignore[list-item]
    "on_text": (lambda m: m.generate("a", on_text=3), "on_text: expected a function or None"),  # type: ignore[arg-type]
    "stream": (lambda m: m.stream({2: 3}), "prompt: expected"),  # type: ignore[arg-type]
    "batch": (lambda m: m.generate_batch(["a", 3]), r"prompts\[1\]: expected text"),  # type: ignore[list-item]
    "batch one": (lambda m: m.generate_batch("abc"), "prompts: expected a"),
    "max_tokens": (lambda m: m.generate("a", max_tokens="3"), "max_tokens: expected a whole"),  # type: ignore[arg-type]
    "max_tokens large": (lambda m: m.generate("a", max_tokens=10**10), "max_tokens is 10000000000"),
    "max_tokens huge": (
        lambda m: m.generate("a", max_tokens=10**5000),
        "max_tokens is a number of 16610 bits",
    ),
    "max_tokens negative": (
        lambda m: m.generate("a", max_tokens=-(2**40)),
        r"max_tokens is -10.*, .* at least -2",
    ),
    "max_tokens type": (lambda m: m.generate("a", max_tokens=int), "max_tokens: expected a whole number"),  # type: ignore[arg-type]
    "max_tokens array": (lambda m: m.generate("a", max_tokens=np.array([1, 2])), "max_tokens: expected a whole"),  # type: ignore[arg-type]
    "temperature array": (lambda m: m.generate("a", temperature=np.ones(2)), "temperature: expected a number"),  # type: ignore[arg-type]
    "temperature type": (lambda m: m.generate("a", temperature=float), "temperature: expected a number"),  # type: ignore[arg-type]
    "prompt bytearray": (lambda m: m.generate(bytearray(b"a")), "prompt: expected text"),
    "prompt memoryview": (lambda m: m.generate(memoryview(b"a")), "prompt: expected text"),
    "prompt 2-D": (lambda m: m.generate(np.array([[2, 9]])), r"prompt\[0\]: expected a whole number"),  # type: ignore[arg-type]
    "prefill 2-D": (lambda m: m.session().prefill(np.array([[2, 9]])), r"tokens\[0\]: expected a whole"),  # type: ignore[arg-type]
    "stop": (lambda m: m.generate("a", stop=[3]), r"stop\[0\]: expected text"),  # type: ignore[list-item]
    "seed": (lambda m: m.generate("a", seed=2**64), "seed: expected 0 to"),
    "seed huge": (lambda m: m.generate("a", seed=10**5000), "seed: expected 0 to .*, found a number of 16610 bits"),
    "logit_bias": (lambda m: m.generate("a", logit_bias=[1]), "logit_bias: expected a mapping"),  # type: ignore[arg-type]
    "logit_bias key": (lambda m: m.generate("a", logit_bias={"a": 1}), "logit_bias"),  # type: ignore[dict-item]
    "speculate": (lambda m: m.generate("a", speculate=3), "speculate: expected 'lookup'"),  # type: ignore[arg-type]
    "draft": (lambda m: m.generate("a", speculate="slice", draft=[1]), "draft: expected"),  # type: ignore[arg-type]
    "unknown": (lambda m: m.generate("a", temprature=1), "unknown option 'temprature'"),  # type: ignore[call-arg]
    "session": (lambda m: m.session("a"), "context: expected a whole number or None"),  # type: ignore[arg-type]
    "session large": (lambda m: m.session(2**40), "context is 1099511627776"),
    "restore": (lambda m: m.restore(3), "path: expected text .*path"),  # type: ignore[arg-type]
    "prefill": (lambda m: m.session().prefill(2), "tokens: expected a sequence"),  # type: ignore[arg-type]
    "prefill_all": (lambda m: m.session().prefill_all([2**31]), r"tokens\[0\] is 2147483648"),
    "step": (lambda m: m.session().step(10**10), "token is 10000000000"),
    "step text": (lambda m: m.session().step("a"), "token: expected a whole number"),  # type: ignore[arg-type]
    "rewind": (lambda m: m.session().rewind(2**31), "position is 2147483648"),
    "advance_to": (lambda m: m.session().advance_to(b"ab"), "tokens: expected a sequence"),
    "save": (lambda m: m.session().save(None), "path: expected"),  # type: ignore[arg-type]
    "session stream": (lambda m: m.session().stream("abc"), "prompt: expected a sequence"),  # type: ignore[arg-type]
    "session generate": (lambda m: m.session().generate(2), "prompt: expected a sequence"),  # type: ignore[arg-type]
    "step_batch": (lambda m: gemlet.step_batch([m], [2]), r"sessions\[0\]: expected Session"),  # type: ignore[list-item]
    "step_batch tokens": (lambda m: gemlet.step_batch([m.session()], "a"), "tokens: expected"),  # type: ignore[arg-type]
    "scheduler": (lambda m: m.scheduler(sequences="a"), "sequences: expected a whole"),  # type: ignore[arg-type]
    "scheduler large": (lambda m: m.scheduler(max_waiting=2**31), "max_waiting is 2147483648"),
    "prefix_bytes": (lambda m: m.scheduler(prefix_bytes=-1), "prefix_bytes: expected 0 to 2\\*\\*64 - 1, found -1"),
    "prefix_bytes huge": (lambda m: m.scheduler(prefix_bytes=2**70), "prefix_bytes: expected 0 to"),
    "submit": (lambda m: m.scheduler().submit("abc"), "prompt: expected a sequence"),  # type: ignore[arg-type]
    "submit session": (lambda m: m.scheduler().submit([2], session=3), "session: expected Session"),  # type: ignore[arg-type]
    "submit scope": (lambda m: m.scheduler().submit([2], prefix_scope=3), "prefix_scope: expected"),  # type: ignore[arg-type]
    "scheduler stream": (lambda m: m.scheduler().stream(3), "prompt: expected"),  # type: ignore[arg-type]
    "scheduler agenerate": (lambda m: asyncio.run(m.scheduler().agenerate("a")), "prompt: expected"),  # type: ignore[arg-type]
    "agenerate": (lambda m: asyncio.run(m.agenerate(3)), "prompt: expected text"),  # type: ignore[arg-type]
    "chat": (lambda m: m.chat(3), r"system: expected text \(str\) or None, found 3"),  # type: ignore[arg-type]
    "chat template": (lambda m: m.chat(template=3), "template: expected"),  # type: ignore[arg-type]
    "chat tools": (lambda m: m.chat(tools="a"), "tools: expected a sequence"),
    "chat scheduler": (lambda m: m.chat(scheduler=3), "scheduler: expected Scheduler"),  # type: ignore[arg-type]
    "chat itself": (lambda m: gemlet.Chat(m, 3), "system: expected"),  # type: ignore[arg-type]
    "send": (lambda m: m.chat().send(3), "message: expected text"),  # type: ignore[arg-type]
    "chat stream": (lambda m: m.chat().stream(b"a"), "message: expected text"),  # type: ignore[arg-type]
    "asend": (lambda m: asyncio.run(m.chat().asend(None)), "message: expected text"),  # type: ignore[arg-type]
    "chat save": (lambda m: m.chat().save(3), "path: expected"),  # type: ignore[arg-type]
    "chat load": (lambda m: m.chat().load(None), "path: expected"),  # type: ignore[arg-type]
    "finish": (lambda m: m.stream("a").finish("b"), "on_text: expected a function"),  # type: ignore[arg-type]
    "load": (lambda m: gemlet.load(3), "path: expected text .*, found 3"),  # type: ignore[arg-type]
    "load threads": (lambda m: gemlet.load(m.path, threads="a"), "threads: expected a whole"),  # type: ignore[arg-type]
    "load large": (lambda m: gemlet.load(m.path, context=10**10), "context is 10000000000"),
    "load slice": (lambda m: gemlet.load(m.path, slice=[1]), "slice: expected"),  # type: ignore[arg-type]
    "load kernels": (lambda m: gemlet.load(m.path, kernels=3), "kernels: expected text"),  # type: ignore[arg-type]
    "convert": (lambda m: gemlet.convert(3, "x"), "checkpoint: expected"),  # type: ignore[arg-type]
    "convert threads": (lambda m: gemlet.convert("x", "y", threads="a"), "threads: expected"),  # type: ignore[arg-type]
    "export": (lambda m: gemlet.export("x", None, "onnx"), "out: expected"),  # type: ignore[arg-type]
    "export format": (lambda m: gemlet.export("x", "y", 3), "format: expected text"),  # type: ignore[arg-type]
    "export prefill": (lambda m: gemlet.export("x", "y", "onnx", prefill=3), "prefill: expected a"),  # type: ignore[arg-type]
    "perplexity": (lambda m: gemlet.perplexity(m, 3), "text: expected"),  # type: ignore[arg-type]
    "perplexity model": (lambda m: gemlet.perplexity("nano", "a"), "model: expected Model, found 'nano'"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_arguments_are_named(model: gemlet.Model, what: str) -> None:
    call, message = WRONG[what]
    with pytest.raises(gemlet.ArgumentError, match=f"^{message}"):
        call(model)


def test_a_wrong_type_is_a_type_error_too(model: gemlet.Model) -> None:
    with pytest.raises(TypeError):
        model.piece("a")  # type: ignore[arg-type]
    assert issubclass(gemlet.ArgumentTypeError, gemlet.ArgumentError) and issubclass(
        gemlet.ArgumentTypeError, TypeError
    )


def test_what_is_like_a_whole_number_passes(model: gemlet.Model, tmp_path: Path) -> None:
    tokens = model.tokenize("the cat", bos=True)
    for like in (tuple(tokens), np.array(tokens), np.array(tokens, np.int32), [np.int64(token) for token in tokens]):
        options: gemlet.GenerateOptions = {"max_tokens": np.int64(3), "temperature": np.float32(0)}  # type: ignore[typeddict-item]
        assert model.generate(like, **options).tokens == model.generate(tokens, max_tokens=3, temperature=0).tokens  # type: ignore[arg-type]
    assert model.detokenize(range(270, 273)) == model.detokenize([270, 271, 272])
    session = model.session(np.int32(64))  # type: ignore[arg-type]
    session.step(np.int64(2))  # type: ignore[arg-type]
    session.save(str(tmp_path / "a"))
    assert model.restore(tmp_path / "a").tokens == [2]


def test_the_kinds_of_functions_stay(model: gemlet.Model) -> None:
    assert inspect.iscoroutinefunction(model.agenerate) and inspect.iscoroutinefunction(model.chat().asend)
    assert inspect.isasyncgenfunction(model.chat().astream)
    assert not inspect.iscoroutinefunction(model.generate)


def test_an_array_of_tokens_has_logits(model: gemlet.Model) -> None:
    np.testing.assert_array_equal(model.logits(np.array([2, 9])), model.logits([2, 9]))  # type: ignore[arg-type]


def test_errors_of_callers_pass_as_they_are(model: gemlet.Model) -> None:
    def refuse(text: str) -> None:
        raise TypeError("mine")

    with pytest.raises(TypeError, match=r"^mine$"):
        model.generate("a", max_tokens=3, logit_bias={1: -100.0, 5: -100.0}, on_text=refuse)
    with pytest.raises(TypeError, match="missing"):
        model.piece()  # type: ignore[call-arg]


def test_what_cannot_be_shown_is_refused_all_the_same() -> None:
    class Odd:
        def __repr__(self) -> str:
            raise LookupError

    @checked
    def take(number: int) -> None: ...

    with pytest.raises(gemlet.ArgumentTypeError, match=r"number: expected a whole number, found something \(Odd\)"):
        take(Odd())  # type: ignore[arg-type]
