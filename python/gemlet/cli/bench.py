"""``gemlet bench``: how fast a model runs here."""

import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gemlet import ceiling as ceilings
from gemlet import compare, roofline
from gemlet.ceiling import Machine, Product
from gemlet.cli import common
from gemlet.errors import ArgumentError
from gemlet.info import Work
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
    """As llama-bench names them: pp512 is a prompt of 512 tokens, tg128 is 128 tokens one by one, @ d512 after 512;
    tg128 x 4 is 128 tokens for each of 4 sequences."""
    samples: list[float]
    """Tokens per second."""
    mean: float
    deviation: float
    peak_memory: int
    """Of the process so far, in bytes."""
    weight_bytes: float
    """Streamed from memory for each token."""
    multiply_adds: float
    """Of weights with activations, for each token."""
    barriers: float
    """Times that the threads waited for one another, for each token."""
    read_share: float | None = None
    """Of the machine's read bandwidth; with --ceiling."""
    multiply_add_share: float | None = None
    """Of the machine's multiply-adds for the model's weight type; with --ceiling."""


def bench(
    model: Annotated[str | None, typer.Argument(help="A GGUF file, or `nano`; not needed with --ceiling.")] = None,
    prompt: Annotated[int, typer.Option("--prompt", "-p", help="Tokens of the prompt; 0: leave out.")] = 512,
    generate: Annotated[int, typer.Option("--generate", "-n", help="Tokens to generate; 0: leave out.")] = 128,
    depth: Annotated[int, typer.Option("--depth", "-d", help="Tokens before the measurement.")] = 0,
    sequences: Annotated[
        str, typer.Option(help="Generate for so many sequences together, as in 1,2,4,8,16; tokens of all a second.")
    ] = "",
    repetitions: Annotated[int, typer.Option("--repetitions", "-r", min=1, help="Times to measure.")] = 5,
    threads: Annotated[
        str, typer.Option("--threads", "-t", help="Threads, or several numbers: 1,2,4. Default: each physical core.")
    ] = "0",
    slice: common.Slice = None,
    cache: common.Cache = "f16",
    ceiling: Annotated[
        bool, typer.Option("--ceiling", help="Also measure what the machine can do, and products of each weight type.")
    ] = False,
    kernels: Annotated[str, typer.Option(help="A kernel table: scalar, avx2, ... Default: the best one.")] = "",
    other: Annotated[
        str | None,
        typer.Option(
            "--compare",
            help="Another runtime to measure in turn: llama.cpp or litert-lm; `exported`: folders of gemlet export.",
        ),
    ] = None,
    other_file: Annotated[
        list[Path] | None,
        typer.Option(help="A file or folder for the other runtime; several times: several. Default: the same."),
    ] = None,
    other_bin: Annotated[Path | None, typer.Option(help="Folder of its programs. Default: those on the PATH.")] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="A PNG file: of the medians with --compare; of the roofline with a model and --ceiling."),
    ] = None,
    as_json: common.Json = False,
) -> None:
    """Measure speed and memory, as llama-bench does: random tokens, one run to warm up, then mean ± deviation.

    GB/s are weights streamed from memory, GMAC/s thousand millions of multiply-adds. The peak memory is the process's
    own: weights that it has read, but no per-layer embeddings, which stay on flash. The table beside the machine's own
    ceilings comes with --ceiling.

    Examples:

    `gemlet bench model.gguf`

    `gemlet bench model.gguf -p 0 -n 64 --depth 4096 -t 4 -r 3 --json`

    `gemlet bench model.gguf -p 0 -n 32 --sequences 1,2,4,8,16`

    `gemlet bench model.gguf --ceiling -t 1,2 --plot roofline.png`

    `gemlet bench --ceiling --kernels avx2`

    `gemlet bench model.gguf --compare llama.cpp --other-bin llama.cpp/build/bin --depth 4096`

    `gemlet bench model.gguf -t 2 --compare exported --other-file model-onnx --other-file model-tflite`
    """
    if min(prompt, generate, depth) < 0 or prompt + generate == 0:
        raise ArgumentError("--prompt, --generate and --depth count tokens, and one of the first two is above 0")
    if model is None and not ceiling:
        raise ArgumentError("expected a model, or --ceiling")
    counts = [count or None for count in _numbers("--threads", threads, 0)]
    if other is not None:
        count, *more = counts
        if model is None or count is None or more or not (prompt and generate):
            raise ArgumentError("--compare: expected a model, --threads N, a prompt and tokens to generate")
        settings = compare.Settings(prompt, generate, depth, count)
        contenders = compare.contenders(common.find_model(model), other, other_file or [], other_bin)
        _compare(contenders, settings, repetitions, plot, as_json)
        return
    rows: list[Row] = []
    machines: list[Machine] = []
    products: list[Product] = []
    together = _numbers("--sequences", sequences, 1) if sequences else []
    if model is not None:
        for count in counts:
            loaded = common.load(model, count, max(prompt, generate) + depth + 1, slice, cache, kernels or None)
            rows += _measure(loaded, prompt, generate, depth, together, repetitions)
            del loaded
    if ceiling:  # afterwards: its memory does not belong to the model
        for count in counts:
            with common.progress("Measuring the machine") as advance:
                machine, found = ceilings.measure(count or 0, kernels, advance=advance)
            machines.append(machine)
            products += found
        rows = [_beside(row, machine) for row in rows for machine in machines if machine.threads == row.threads]
        if plot is not None and rows:
            _plot_roofline(machines[-1], rows, plot)
    if as_json:
        record = {"machine": machines, "products": products, "rows": rows} if ceiling else rows
        print(json.dumps(record, default=asdict))
        return
    if ceiling:
        _print_ceiling(machines, products)
    if rows:
        print("\n" if ceiling else "", end="")
        _print(rows)


def _compare(
    found: list[compare.Contender], settings: compare.Settings, rounds: int, plot: Path | None, as_json: bool
) -> None:
    compare.run(found, settings, rounds, lambda text: print(text, file=sys.stderr, flush=True))
    if plot is not None:
        compare.plot(found, f"{settings.threads} threads, median of {rounds}", plot)
    if as_json:
        print(json.dumps(compare.record(found, settings)))
        return
    rows = []
    for contender in found:
        medians, ratios = contender.medians(), compare.ratios(found[0], contender)
        cells = {
            metric: f"{value:.2f} ({ratios[metric]:.2f} x)" for metric, value in medians.items() if metric in ratios
        }
        rows.append((contender.name, *(cells.get(metric, "") for metric in compare.METRICS)))
    print(common.table(("in brackets: gemlet over it", *compare.METRICS.values()), rows))


def _numbers(option: str, text: str, least: int) -> list[int]:
    try:
        numbers = [int(word) for word in text.split(",")]
    except ValueError:
        numbers = [least - 1]
    if min(numbers) < least or len(set(numbers)) < len(numbers):
        raise ArgumentError(f"{option}: expected a number or several as in 1,2,4, found {text}")
    return numbers


def _measure(
    model: "Model", prompt: int, generate: int, depth: int, sequences: list[int], repetitions: int
) -> list[Row]:
    tests: list[tuple[str, int, Callable[[Session, list[int]], object]]] = []
    if prompt:
        tests.append((f"pp{prompt}", prompt, lambda session, tokens: session.prefill(tokens)))
    if generate and not sequences:
        tests.append((f"tg{generate}", generate, _one_by_one))
    tests += [(f"tg{generate} x {count}", generate * count, _together(count)) for count in sequences if generate]
    rows: list[Row] = []
    with common.progress("Measuring") as advance:
        total = len(tests) * (repetitions + 1)
        for name, count, measure in tests:
            samples = []
            for i in range(repetitions + 1):
                speed, work = _speed(model, count, depth, measure)
                samples += [speed] if i > 0 else []
                advance(len(rows) * (repetitions + 1) + i + 1, total)
            rows.append(_row(model, f"{name} @ d{depth}" if depth else name, samples, count, work))
    return rows


def _beside(row: Row, machine: Machine) -> Row:
    return replace(
        row,
        read_share=row.weight_bytes * row.mean / machine.read_bandwidth,
        multiply_add_share=row.multiply_adds * row.mean / machine.multiply_adds(row.type),
    )


def _plot_roofline(machine: Machine, rows: list[Row], plot: Path) -> None:
    points = [
        roofline.Point(row.test, row.type, row.multiply_adds / row.weight_bytes, row.multiply_adds * row.mean)
        for row in rows
        if row.threads == machine.threads
    ]
    roofline.plot(machine, points, plot)


def _one_by_one(session: "Session", tokens: list[int]) -> None:
    for token in tokens:
        session.step(token)


def _together(sequences: int) -> "Callable[[Session, list[int]], object]":
    from gemlet.session import step_batch

    def measure(session: "Session", tokens: list[int]) -> None:
        sessions = [session, *(session.fork() for _ in range(sequences - 1))]
        for i in range(0, len(tokens), sequences):
            step_batch(sessions, tokens[i : i + sequences])

    return measure


def _speed(
    model: "Model", count: int, depth: int, measure: "Callable[[Session, list[int]], object]"
) -> tuple[float, Work]:
    """Tokens per second of one run in an empty session, or one with `depth` tokens; and what was computed."""
    session = model.session()
    if depth:
        session.prefill(_tokens(model, depth))
    tokens = _tokens(model, count)
    before = model.work
    start = time.perf_counter()
    measure(session, tokens)
    return count / (time.perf_counter() - start), model.work - before


def _tokens(model: "Model", count: int) -> list[int]:
    """The same made-up text each time: speed does not depend on what it says."""
    return [(7919 * i + 13) % model.info.vocabulary for i in range(count)]


def _row(model: "Model", test: str, samples: list[float], count: int, work: Work) -> Row:
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


def _print(rows: list[Row]) -> None:
    """As llama-bench prints it."""
    head = (
        "model",
        "size",
        "params",
        "kernels",
        "threads",
        "test",
        "t/s",
        "GB/s",
        "GMAC/s",
        "peak memory",
    )
    cells = [
        (
            f"{row.model} {row.type}",
            common.size(row.bytes),
            common.amount(row.parameters),
            row.kernels,
            str(row.threads),
            row.test,
            f"{row.mean:.2f} ± {row.deviation:.2f}",
            _rate(row.weight_bytes * row.mean, row.read_share),
            _rate(row.multiply_adds * row.mean, row.multiply_add_share),
            common.size(row.peak_memory),
        )
        for row in rows
    ]
    print(common.table(head, cells))


def _print_ceiling(machines: list[Machine], products: list[Product]) -> None:
    head = ("kernels", "threads", "read GB/s", "8-bit GMAC/s", "4-bit GMAC/s", "float32 GMAC/s")
    rates = [(m, (m.read_bandwidth, m.bytes, m.half_bytes, m.floats)) for m in machines]
    print(common.table(head, [(m.kernels, str(m.threads), *map(_rate, figures)) for m, figures in rates]))
    cells = []
    for p in products:
        rates_of_type = (_rate(p.one_token, p.one_token_share), _rate(p.many_tokens, p.many_tokens_share))
        cells.append((p.kernels, p.type, str(p.threads), *rates_of_type))
    print()
    print(common.table(("kernels", "type", "threads", "1 token, GB/s", "128 tokens, GMAC/s"), cells, left=2))


def _rate(per_second: float, share: float | None = None) -> str:
    """In thousand millions, and its share of the ceiling where that is known."""
    if not per_second:  # another runtime, which does not tell
        return "-"
    return f"{per_second / 1e9:.1f}" + (f" ({share:.0%})" if share is not None else "")
