"""How fast a model runs here: tokens per second of prompts and of decoding, and the work behind them."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from gemlet.bench.ceiling import Machine
from gemlet.bench.roofline import Point
from gemlet.info import Work
from gemlet.memory import peak_memory
from gemlet.model import Model
from gemlet.session import Session, step_batch

_Run = Callable[[Session, list[int]], object]


@dataclass(frozen=True)
class Row:
    """Result of one test."""

    model: str
    type: str
    bytes: int
    parameters: int
    kernels: str
    threads: int
    test: str
    """llama-bench's names: pp512 is a prompt of 512 tokens, tg128 is 128 tokens one by one, @ d512 after 512;
    tg128 x 4 is 128 tokens for each of 4 sequences."""
    samples: list[float]
    """Tokens per second."""
    mean: float
    deviation: float
    peak_memory: int
    """Peak memory of the process so far, in bytes."""
    weight_bytes: float
    """Bytes of weights streamed from memory for each token."""
    multiply_adds: float
    """Multiply-adds of weights with activations for each token."""
    barriers: float
    """Times that the threads waited for one another, for each token."""
    read_share: float | None = None
    """Share of the machine's read bandwidth; with --ceiling."""
    multiply_add_share: float | None = None
    """Share of the machine's multiply-adds for the model's weight type; with --ceiling."""


def measure(
    model: Model,
    prompt: int,
    generate: int,
    depth: int,
    sequences: Sequence[int],
    repetitions: int,
    advance: Callable[[int, int], object] = lambda done, total: None,
) -> list[Row]:
    """Measure a prompt, then decoding, each `repetitions` times after one run to warm up.

    Args:
        model: the model, whose context holds what is measured.
        prompt: tokens of the prompt; 0 leaves that out.
        generate: tokens to decode; 0 leaves that out.
        depth: tokens that stand in the context before a measurement begins.
        sequences: numbers of sequences to decode together, in place of one alone.
        repetitions: measured runs of each test.
        advance: gets how many runs are done, of how many.
    """
    tests: list[tuple[str, int, _Run]] = []
    if prompt:
        tests.append((f"pp{prompt}", prompt, lambda session, tokens: session.prefill(tokens)))
    if generate and not sequences:
        tests.append((f"tg{generate}", generate, _one_by_one))
    tests += [(f"tg{generate} x {count}", generate * count, _together(count)) for count in sequences if generate]
    rows: list[Row] = []
    total = len(tests) * (repetitions + 1)
    for name, count, run in tests:
        samples = []
        for i in range(repetitions + 1):
            speed, work = _speed(model, count, depth, run)
            samples += [speed] if i > 0 else []
            advance(len(rows) * (repetitions + 1) + i + 1, total)
        rows.append(_row(model, f"{name} @ d{depth}" if depth else name, samples, count, work))
    return rows


def beside(row: Row, machine: Machine) -> Row:
    """The row with its shares of what the machine can do."""
    return replace(
        row,
        read_share=row.weight_bytes * row.mean / machine.read_bandwidth,
        multiply_add_share=row.multiply_adds * row.mean / machine.multiply_adds(row.type),
    )


def roofline_points(rows: Sequence[Row], machine: Machine) -> list[Point]:
    """The rows that were measured with the machine's number of threads, as points of a roofline."""
    return [
        Point(row.test, row.type, row.multiply_adds / row.weight_bytes, row.multiply_adds * row.mean)
        for row in rows
        if row.threads == machine.threads
    ]


def _one_by_one(session: Session, tokens: list[int]) -> None:
    for token in tokens:
        session.step(token)


def _together(sequences: int) -> _Run:
    def run(session: Session, tokens: list[int]) -> None:
        sessions = [session, *(session.fork() for _ in range(sequences - 1))]
        for i in range(0, len(tokens), sequences):
            step_batch(sessions, tokens[i : i + sequences])

    return run


def _speed(model: Model, count: int, depth: int, run: _Run) -> tuple[float, Work]:
    """Tokens per second of one run in an empty session, or one with `depth` tokens; and what was computed."""
    session = model.session()
    if depth:
        session.prefill(_tokens(model, depth))
    tokens = _tokens(model, count)
    before = model.work
    start = time.perf_counter()
    run(session, tokens)
    return count / (time.perf_counter() - start), model.work - before


def _tokens(model: Model, count: int) -> list[int]:
    """The same made-up text each time: speed does not depend on what it says."""
    return [(7919 * i + 13) % model.info.vocabulary for i in range(count)]


def _row(model: Model, test: str, samples: list[float], count: int, work: Work) -> Row:
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
        weight_bytes=work.weight_bytes / count,
        multiply_adds=work.multiply_adds / count,
        barriers=work.barriers / count,
    )
