"""``gemlet bench``: how fast a model runs here."""

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from gemlet.cli import common
from gemlet.errors import ArgumentError
from gemlet.memory import peak_memory

if TYPE_CHECKING:
    from gemlet.model import Model
    from gemlet.session import Session


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    model: str
    type: str
    bytes: int
    parameters: int
    kernels: str
    threads: int
    test: str
    """As llama-bench names them: pp512 is a prompt of 512 tokens, tg128 is 128 tokens one by one, @ d512 after 512."""
    samples: list[float]
    """Tokens per second."""
    mean: float
    deviation: float
    peak_memory: int
    """Of the process so far, in bytes."""


def bench(
    model: common.ModelArgument,
    prompt: Annotated[int, typer.Option("--prompt", "-p", help="Tokens of the prompt; 0: leave out.")] = 512,
    generate: Annotated[int, typer.Option("--generate", "-n", help="Tokens to generate; 0: leave out.")] = 128,
    depth: Annotated[int, typer.Option("--depth", "-d", help="Tokens before the measurement.")] = 0,
    repetitions: Annotated[int, typer.Option("--repetitions", "-r", min=1, help="Times to measure.")] = 5,
    threads: common.Threads = None,
    slice: common.Slice = None,
    cache: common.Cache = "f16",
    as_json: common.Json = False,
) -> None:
    """Measure speed and memory, as llama-bench does: random tokens, one run to warm up, then mean ± deviation.

    Examples:

    `gemlet bench model.gguf`

    `gemlet bench model.gguf -p 0 -n 64 --depth 4096 -t 4 -r 3 --json`
    """
    if min(prompt, generate, depth) < 0 or prompt + generate == 0:
        raise ArgumentError("--prompt, --generate and --depth count tokens, and one of the first two is above 0")
    loaded = common.load(model, threads, max(prompt, generate) + depth + 1, slice, cache)
    tests: list[tuple[str, int, Callable[[Session, list[int]], object]]] = []
    if prompt:
        tests.append((f"pp{prompt}", prompt, lambda session, tokens: session.prefill(tokens)))
    if generate:
        tests.append((f"tg{generate}", generate, _one_by_one))
    rows: list[Row] = []
    with common.progress("Measuring") as advance:
        total = len(tests) * (repetitions + 1)
        for name, count, measure in tests:
            samples = []
            for i in range(repetitions + 1):
                speed = _speed(loaded, count, depth, measure)
                samples += [speed] if i > 0 else []
                advance(len(rows) * (repetitions + 1) + i + 1, total)
            rows.append(_row(loaded, f"{name} @ d{depth}" if depth else name, samples))
    if as_json:
        print(json.dumps([asdict(row) for row in rows]))
    else:
        _print(rows)


def _one_by_one(session: "Session", tokens: list[int]) -> None:
    for token in tokens:
        session.step(token)


def _speed(model: "Model", count: int, depth: int, measure: "Callable[[Session, list[int]], object]") -> float:
    """Tokens per second of one run in an empty session, or one with `depth` tokens."""
    session = model.session()
    if depth:
        session.prefill(_tokens(model, depth))
    tokens = _tokens(model, count)
    start = time.perf_counter()
    measure(session, tokens)
    return count / (time.perf_counter() - start)


def _tokens(model: "Model", count: int) -> list[int]:
    """The same made-up text each time: speed does not depend on what it says."""
    return [(7919 * i + 13) % model.info.vocabulary for i in range(count)]


def _row(model: "Model", test: str, samples: list[float]) -> Row:
    info = model.info
    return Row(
        model=info.name or model.path.name,
        type=info.tensor_type,
        bytes=info.bytes,
        parameters=info.parameters,
        kernels=info.kernels,
        threads=info.threads,
        test=test,
        samples=samples,
        mean=statistics.mean(samples),
        deviation=statistics.stdev(samples) if len(samples) > 1 else 0.0,
        peak_memory=peak_memory(),
    )


def _print(rows: list[Row]) -> None:
    """A Markdown table, as llama-bench prints it."""
    head = ("model", "size", "params", "kernels", "threads", "test", "t/s", "peak memory")
    cells = [
        (
            f"{row.model} {row.type}",
            common.size(row.bytes),
            common.amount(row.parameters),
            row.kernels,
            str(row.threads),
            row.test,
            f"{row.mean:.2f} ± {row.deviation:.2f}",
            common.size(row.peak_memory),
        )
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]

    def line(texts: tuple[str, ...]) -> str:
        padded = [texts[0].ljust(widths[0]), *(t.rjust(w) for t, w in zip(texts[1:], widths[1:], strict=True))]
        return f"| {' | '.join(padded)} |"

    print(line(head))
    print(f"| {'-' * widths[0]} | {' | '.join('-' * (width - 1) + ':' for width in widths[1:])} |")
    for texts in cells:
        print(line(texts))
