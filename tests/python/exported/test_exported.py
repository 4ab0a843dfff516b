"""Exported models behave as the core's own: here with a runner that is the core itself."""

import asyncio
import dataclasses
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gemlet
import numpy as np
import pytest
from gemlet.exported.engine import engine_of
from gemlet.exported.manifest import NAME, REQUIRES, TOKENIZER, Manifest
from gemlet.exported.runner import Want

from conftest import Cli, write_export


def _nothing() -> None:
    pass


class CoreCache:
    def __init__(self, session: Any) -> None:
        self.session = session

    @property
    def length(self) -> int:
        return int(self.session.position)

    @property
    def nbytes(self) -> int:
        return 1000 * self.length

    def truncate(self, length: int) -> None:
        self.session.rewind(length)

    def copy(self) -> "CoreCache":
        return CoreCache(self.session.fork())


class CoreRunner:
    """Counts the tokens that it computes."""

    runtime = "the core"
    threads = 1

    def __init__(self, model: gemlet.Model, context: int) -> None:
        self.model = model
        self.context = context
        self.computed = 0
        self.before_run: Callable[[], None] = _nothing

    def empty(self) -> CoreCache:
        return CoreCache(self.model._engine.session())

    def run(self, cache: CoreCache, tokens: Sequence[int], want: Want) -> Any:
        self.before_run()
        self.computed += len(tokens)
        logits = cache.session.prefill(tokens, all=want == "all")
        return logits if want == "all" else logits[None]


@pytest.fixture
def folder(model: gemlet.Model, tmp_path: Path) -> Path:
    return write_export(tmp_path, model)


@pytest.fixture
def runner(model: gemlet.Model) -> CoreRunner:
    return CoreRunner(model, model.context)


@pytest.fixture
def exported(folder: Path, runner: CoreRunner) -> gemlet.Model:
    return gemlet.Model(engine_of(Manifest.read(folder), runner, folder), folder)


PROMPTS = ("then the abc", "a", "nothing at all <start_of_turn>")


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.0, "max_tokens": 12},
        {"seed": 5, "max_tokens": 20},
        {"seed": 7, "max_tokens": 30, "stop": ["a", "th"], "temperature": 1.5},
        {"seed": 9, "max_tokens": 5, "top_logprobs": 3, "repetition_penalty": 1.3, "logit_bias": {7: 2.0}},
        {"max_tokens": 0},
        {"seed": 1, "max_tokens": None},
    ],
)
def test_answers_are_the_cores(model: gemlet.Model, exported: gemlet.Model, options: Any) -> None:
    for prompt in PROMPTS:
        pieces: list[str] = []
        ours = exported.generate(prompt, on_text=pieces.append, **options)
        theirs = model.generate(prompt, **options)
        if "seed" in options:
            assert ours.seed == theirs.seed
        if "seed" in options or options.get("temperature") == 0.0 or options["max_tokens"] == 0:
            assert (ours.text, ours.tokens, ours.finish_reason) == (theirs.text, theirs.tokens, theirs.finish_reason)
            assert ours.logprobs == theirs.logprobs
        assert "".join(pieces) == ours.text
        assert ours.stats.prompt_tokens == theirs.stats.prompt_tokens
        assert ours.stats.first_token_seconds >= ours.stats.prefill_seconds > 0


def test_batch_and_perplexity(model: gemlet.Model, exported: gemlet.Model) -> None:
    pieces: dict[int, str] = {0: "", 1: "", 2: ""}

    def add(index: int, text: str) -> None:
        pieces[index] += text

    ours = exported.generate_batch(PROMPTS, on_text=add, seed=3, max_tokens=9)
    theirs = model.generate_batch(PROMPTS, seed=3, max_tokens=9)
    assert [result.text for result in ours] == [result.text for result in theirs] == list(pieces.values())
    text = "then the abc nothing at all " * 4
    assert gemlet.perplexity(exported, text) == pytest.approx(gemlet.perplexity(model, text))
    with pytest.raises(gemlet.ArgumentError, match=r"prompt 1: a token of the prompt is 99999, expected 0 to 298"):
        exported.generate_batch([[2], [99999]], max_tokens=2)


def test_logits_and_tokens(model: gemlet.Model, exported: gemlet.Model) -> None:
    ids = exported.tokenize(PROMPTS[0], bos=True)
    assert ids == model.tokenize(PROMPTS[0], bos=True)
    assert exported.detokenize(ids, special=True) == model.detokenize(ids, special=True)
    assert exported.special_tokens() == model.special_tokens()
    assert exported.bos == model.bos and exported.piece(2) == model.piece(2)
    assert np.array_equal(exported.logits(ids), model.logits(ids))
    assert dataclasses.replace(exported.info, kernels="", threads=0, context=0, file_bytes=0) == dataclasses.replace(
        model.info, kernels="", threads=0, context=0, file_bytes=0
    )
    assert exported.info.kernels == "the core"


def test_chat_computes_only_what_is_new(model: gemlet.Model, exported: gemlet.Model, runner: CoreRunner) -> None:
    ours, theirs = exported.chat("be nice", seed=1, max_tokens=6), model.chat("be nice", seed=1, max_tokens=6)
    for text in ("then", "the abc", "at"):
        a, b = ours.send(text), theirs.send(text)
        assert (a.text, a.stats.reused_tokens) == (b.text, b.stats.reused_tokens)
    assert runner.computed < 1.5 * ours._session.position
    ours.undo()
    theirs.undo()
    assert ours.send("in").text == theirs.send("in").text


def test_sessions(model: gemlet.Model, exported: gemlet.Model) -> None:
    session, core = exported.session(), model.session()
    ids = [2, *range(20, 50)]
    assert np.array_equal(session.prefill(ids), core.prefill(ids))
    fork = session.fork()
    assert np.array_equal(session.step(7), core.step(7))
    assert fork.position == len(ids)
    fork.rewind(10)
    with pytest.raises(gemlet.ArgumentError, match="there are no logits"):
        fork.logits()
    core.rewind(10)
    assert fork.advance_to(ids[:20]) == core.advance_to(ids[:20]) == 10
    assert np.allclose(fork.logits(), core.logits(), atol=1e-5)
    gemlet.step_batch([session, fork], [5, 6])
    assert session.tokens == [*ids, 7, 5]
    for wrong, message in (
        (lambda: session.prefill([]), "there are no tokens"),
        (lambda: session.prefill([10**6]), "token 1000000 lies outside the vocabulary of 299"),
        (lambda: session.rewind(99), "rewind to 99, expected 0 to 33"),
        (lambda: gemlet.step_batch([session, session], [1, 2]), "given twice"),
        (lambda: exported.session(10**6), "context is 1000000, expected 1 to 512"),
        (lambda: exported.generate("a", speculate="slice"), "slice: this model has none"),
    ):
        with pytest.raises(gemlet.ArgumentError, match=message):
            wrong()
    small = exported.session(4)
    small.prefill([2, 3])
    with pytest.raises(gemlet.ContextError, match="holds 4 tokens, 2 are taken: 3 more do not fit"):
        small.prefill([1, 1, 1])
    assert small.tokens == [2, 3]
    with pytest.raises(gemlet.UnsupportedError):
        small.save("x")
    with pytest.raises(gemlet.UnsupportedError):
        exported.restore("x")


def test_context_ends_an_answer(model: gemlet.Model, exported: gemlet.Model) -> None:
    ids = [2] * 6
    options: Any = {"seed": 3, "max_tokens": None, "logit_bias": {1: -100.0, 5: -100.0}}
    ours, theirs = exported.session(10).generate(ids, **options), model.session(10).generate(ids, **options)
    assert (ours.tokens, ours.finish_reason) == (theirs.tokens, theirs.finish_reason) == (theirs.tokens, "context")


def test_closing_and_cancelling(exported: gemlet.Model, runner: CoreRunner) -> None:
    session = exported.session()
    ids = exported.tokenize("then the abc", bos=True)
    stream = session.stream(ids, seed=1, max_tokens=400, logit_bias={1: -100.0, 5: -100.0})
    next(stream)
    with pytest.raises(gemlet.ArgumentError, match="the session is busy"):
        session.prefill([3])
    computed = runner.computed
    stream.close()
    assert runner.computed == computed, "closing computes nothing more"
    assert stream.result is not None and stream.result.finish_reason == "cancelled"
    session.prefill([3])
    unread = session.stream(ids, seed=1, max_tokens=5)
    unread.close()
    assert unread.result is None

    stream = session.stream(ids, seed=1, max_tokens=400, logit_bias={1: -100.0, 5: -100.0})
    next(stream)
    stream.cancel()
    result = stream.finish()
    assert result.finish_reason == "cancelled" and 0 < len(result.tokens) < 400


def test_failures_leave_the_timeline(exported: gemlet.Model, runner: CoreRunner) -> None:
    session = exported.session()
    session.prefill([2, 20, 21])

    def fail() -> None:
        raise KeyboardInterrupt

    runner.before_run = fail
    stream = session.stream([2, 20, 30, 31], max_tokens=4)
    with pytest.raises(KeyboardInterrupt):
        next(stream)
    assert stream.result is None
    runner.before_run = _nothing
    assert session.tokens == [2, 20, 21]
    assert np.allclose(session.step(22), exported.logits([2, 20, 21, 22])[-1], atol=1e-5)


def test_scheduler_and_asyncio(model: gemlet.Model, exported: gemlet.Model) -> None:
    async def ask(of: gemlet.Model) -> list[str]:
        answers = [of.agenerate(prompt, seed=2, max_tokens=6) for prompt in PROMPTS]
        return [result.text for result in await asyncio.gather(*answers)]

    assert asyncio.run(ask(exported)) == asyncio.run(ask(model))
    scheduler = exported.scheduler()
    with pytest.raises(gemlet.ArgumentError, match="top_p"):
        scheduler.submit([2], top_p=3.0)
    scheduler.close()
    with pytest.raises(gemlet.ArgumentError, match="stopped"):
        scheduler.submit([2])


def test_scheduled_chats_and_prefixes(model: gemlet.Model, exported: gemlet.Model, runner: CoreRunner) -> None:
    scheduler = exported.scheduler(prefixes=3, prefix_bytes=1 << 30)
    chat, expected = exported.chat(seed=1, max_tokens=6, scheduler=scheduler), model.chat(seed=1, max_tokens=6)
    for text in ("then", "the abc"):
        ours, theirs = chat.send(text), expected.send(text)
        assert (ours.text, ours.stats.reused_tokens) == (theirs.text, theirs.stats.reused_tokens)
    ids = [2, *range(20, 50)]
    first, again = (scheduler.submit(ids, seed=1, max_tokens=4).result(60) for _ in range(2))
    assert first.tokens == again.tokens == model.generate(ids, seed=1, max_tokens=4).tokens
    assert (first.stats.reused_tokens, again.stats.reused_tokens) == (1, 30)  # 1: <bos>, which the chat has too


def test_a_runner_that_fails_fails_its_requests_alone(exported: gemlet.Model, runner: CoreRunner) -> None:
    scheduler = exported.scheduler()

    def fail() -> None:
        runner.before_run = _nothing
        raise MemoryError("too large")

    runner.before_run = fail
    with pytest.raises(MemoryError, match="too large"):
        scheduler.submit([2], max_tokens=1).result(60)
    assert (
        scheduler.submit([2], max_tokens=1, seed=1).result(60).tokens
        == exported.generate([2], max_tokens=1, seed=1).tokens
    )


def test_a_scheduler_calls_its_runner_without_a_lock(exported: gemlet.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = exported.scheduler()
    seen: list[int] = []
    truncate = CoreCache.truncate

    def asking(cache: CoreCache, length: int) -> None:
        seen.append(scheduler.active)
        truncate(cache, length)

    session = exported.session()
    session.prefill([2, 20, 21, 22])
    monkeypatch.setattr(CoreCache, "truncate", asking)
    assert scheduler.submit([2, 20, 9], session=session, max_tokens=1).result(60).stats.reused_tokens == 2
    assert seen


def test_damaged_manifests(folder: Path) -> None:
    good = json.loads((folder / NAME).read_text())
    wrong: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"version": 1}, gemlet.UnsupportedError, "version is 1, this gemlet reads 2"),
        ({"format": "exe"}, gemlet.UnsupportedError, "format is 'exe'"),
        ({"context": "many"}, gemlet.FormatError, "context is 'many', expected int"),
        ({"context": 0}, gemlet.FormatError, "context is 0"),
        ({"files": good["files"] | {"../x": 1}}, gemlet.FormatError, "files: expected names and sizes"),
        ({"files": {}}, gemlet.FormatError, r"files: model\.onnx is missing"),
        ({"files": good["files"] | {"absent": 1}}, gemlet.FileError, "absent"),
        ({"files": good["files"] | {"model.onnx": 3}}, gemlet.FormatError, "has 7 bytes, expected 3"),
        ({"digests": {}}, gemlet.FormatError, "is not what was exported"),
        ({"digests": []}, gemlet.FormatError, r"digests is \[\], expected dict"),
        ({"info": {}}, gemlet.FormatError, "is missing"),
        ({"info": good["info"] | {"layers": "x"}}, gemlet.FormatError, "layers is 'x', expected int"),
        ({"info": good["info"] | {"tensors": [3]}}, gemlet.FormatError, "is not a TensorInfo"),
        ({"info": good["info"] | {"layer_info": [{}]}}, gemlet.FormatError, "is not a LayerInfo"),
    ]
    for change, error, message in wrong:
        (folder / NAME).write_text(json.dumps(good | change))
        with pytest.raises(error, match=message):
            gemlet.load(folder)
    for text in ("", "[]", "{" * 10000):
        (folder / NAME).write_text(text)
        with pytest.raises((gemlet.FormatError, gemlet.UnsupportedError)):
            gemlet.load(folder)


def test_what_load_refuses(folder: Path, tiny_gguf: Path, tmp_path: Path) -> None:
    with pytest.raises(gemlet.ArgumentError, match="holds a model for 'onnx'"):
        gemlet.load(folder, backend="tflite")
    with pytest.raises(gemlet.ArgumentError, match=r"cache, kernels: only for GGUF files"):
        gemlet.load(folder, cache="int8", kernels="scalar")
    with pytest.raises(gemlet.ArgumentError, match="context is 513, expected 1 to 512"):
        gemlet.load(folder, context=513)
    with pytest.raises(gemlet.ArgumentError, match="threads is 0"):
        gemlet.load(folder, threads=0)
    with pytest.raises(gemlet.ArgumentError, match="export it first"):
        gemlet.load(tiny_gguf, backend="onnx")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(gemlet.FileError, match=r"a directory without gemlet\.json"):
        gemlet.load(empty)
    (empty / "config.json").write_text("{}")
    with pytest.raises(gemlet.ArgumentError, match="is a checkpoint"):
        gemlet.load(empty)
    with pytest.raises(gemlet.FormatError, match="ONNX Runtime does not load it"):
        gemlet.load(folder)


def test_missing_runtimes_are_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata

    def absent(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    with pytest.raises(
        gemlet.UnsupportedError, match=r"needs onnxruntime from 1\.22 to below 2\.0: pip install 'gemlet\[onnx\]'"
    ):
        gemlet.load(folder)
    for version in ("1.21.1", "2.0.0"):
        monkeypatch.setattr(importlib.metadata, "version", lambda name, version=version: version)
        with pytest.raises(gemlet.UnsupportedError, match=rf"found {re.escape(version)}: pip install 'gemlet\[onnx\]'"):
            gemlet.load(folder)


def test_versions_are_those_of_the_extras() -> None:
    extras = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    for format, (package, oldest, beyond) in REQUIRES.items():
        numbers = [".".join(map(str, version)) for version in (oldest, beyond)]
        assert extras[format] == [f"{package}>={numbers[0]},<{numbers[1].removesuffix('.0')}"]


def test_the_core_imports_no_runtime(tiny_gguf: Path) -> None:
    code = (
        "import sys, gemlet; gemlet.load(sys.argv[1]).generate('a', max_tokens=1); "
        "heavy = ('onnx', 'onnxruntime', 'ai_edge_litert', 'flatbuffers', 'gemlet.exported'); "
        "print([name for name in heavy if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code, str(tiny_gguf)], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_a_tokenizer_of_another_model(folder: Path, nano_gguf: Path, tmp_path: Path) -> None:
    nano = gemlet.load(nano_gguf)
    other = tmp_path / "nano"
    other.mkdir()
    for name in (TOKENIZER, "model.onnx", "model.onnx.data"):
        (other / name).write_bytes((folder / name).read_bytes())
    Manifest.of_folder(other, "onnx", "fp32", nano.context, nano.info).write(other)
    with pytest.raises(gemlet.FormatError, match=r"tokenizer\.gguf: has 299 tokens, the model 2048"):
        engine_of(Manifest.read(other), CoreRunner(nano, 9), other)


def test_speculation_is_the_cores(model: gemlet.Model, exported: gemlet.Model) -> None:
    prompt = [2, *[20, 21, 22, 23] * 4]
    ours = exported.generate(
        prompt,
        seed=4,
        max_tokens=40,
        speculate="lookup",
        draft_tokens=3,
        logit_bias=dict.fromkeys([20, 21, 22, 23], 50.0),
    )
    theirs = model.generate(prompt, seed=4, max_tokens=40, logit_bias=dict.fromkeys([20, 21, 22, 23], 50.0))
    assert (ours.text, ours.tokens) == (theirs.text, theirs.tokens)
    assert ours.stats.drafted_tokens > 0


def test_requests_after_the_scheduler_has_closed_fail_at_once(exported: gemlet.Model) -> None:
    scheduler = exported.scheduler()
    scheduler.close()
    with pytest.raises(gemlet.ArgumentError, match=r"stopped|closed"):
        scheduler.submit([2], max_tokens=1)


def test_command_line(folder: Path, cli: Cli) -> None:
    done = cli("run", folder, "-p", "a")
    assert done.returncode == 1 and "ONNX Runtime does not load it" in done.stderr
    assert "not both" in cli("run", folder, "a", "-p", "a").stderr
