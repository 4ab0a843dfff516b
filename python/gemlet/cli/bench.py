"""``gemlet bench``: speed and memory of a model on this machine."""

import importlib.util
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from gemlet.bench import compare, picture, roofline, speed
from gemlet.bench.ceiling import Machine, Product
from gemlet.bench.ceiling import measure as measure_ceiling
from gemlet.bench.speed import Row
from gemlet.cli import bench_tables, common
from gemlet.errors import ArgumentError, UnsupportedError
from gemlet.files import check_target

_MOST_THREADS, _MOST_SEQUENCES = 256, 1024


def bench(
    model: Annotated[
        str | None, typer.Argument(help="A GGUF file, an exported folder or a name; not needed with --ceiling.")
    ] = None,
    prompt: Annotated[
        int, typer.Option("--prompt", "-p", help="Prompt tokens to prefill; 0: do not measure prefill.")
    ] = 512,
    generate: Annotated[
        int, typer.Option("--generate", "-n", help="Tokens to decode; 0: do not measure decoding.")
    ] = 128,
    depth: Annotated[int, typer.Option("--depth", "-d", help="Tokens in the context before the measurement.")] = 0,
    sequences: Annotated[
        str,
        typer.Option(help="Batch sizes to decode with, as in 1,2,4,8,16; the speed is that of all sequences together."),
    ] = "",
    repetitions: Annotated[
        int, typer.Option("--repetitions", "-r", min=1, help="Repetitions of each measurement.")
    ] = 5,
    threads: Annotated[
        str, typer.Option("--threads", "-t", help="Threads, or several numbers: 1,2,4. Default: each physical core.")
    ] = "0",
    slice: common.Slice = None,
    cache: common.Cache = "f16",
    ceiling: Annotated[
        bool,
        typer.Option(
            "--ceiling", help="Also measure the machine's ceilings (roofline), and products of each weight type."
        ),
    ] = False,
    kernels: Annotated[
        str, typer.Option(help="Instruction set of the kernels: scalar, avx2, ... Default: the best.")
    ] = "",
    other: Annotated[
        str | None,
        typer.Option(
            "--compare",
            help="Another runtime to measure in turn: llama.cpp or litert-lm; `exported`: folders of gemlet export.",
        ),
    ] = None,
    other_file: Annotated[
        list[Path] | None,
        typer.Option(
            parser=common.path,
            help="A file or folder for the other runtime; several times: several. Default: the same.",
        ),
    ] = None,
    other_bin: Annotated[
        Path | None, typer.Option(parser=common.path, help="Folder of its programs. Default: those on the PATH.")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            parser=common.path,
            help="A PNG file: of the medians with --compare; of the roofline with a model and --ceiling.",
        ),
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
    if plot is not None:
        _check_plot(plot, model)
    counts = [count or None for count in _numbers("--threads", threads, 0, _MOST_THREADS)]
    if other is not None:
        count, *more = counts
        if model is None or count is None or more or not (prompt and generate):
            raise ArgumentError(
                "--compare: expected a model, one number of --threads above 0, --prompt and --generate above 0"
            )
        settings = compare.Settings(prompt, generate, depth, count)
        contenders = compare.contenders(common.find_model(model), other, other_file or [], other_bin)
        _compare(contenders, settings, repetitions, plot, as_json)
        return
    if plot is not None and (model is None or not ceiling):
        raise ArgumentError("--plot: expected --compare, or a model and --ceiling")
    rows: list[Row] = []
    if model is not None:
        together = _numbers("--sequences", sequences, 1, _MOST_SEQUENCES) if sequences else []
        for count in counts:
            loaded = common.load(model, count, max(prompt, generate) + depth + 1, slice, cache, kernels or None)
            with common.progress("Measuring") as advance:
                rows += speed.measure(loaded, prompt, generate, depth, together, repetitions, advance)
            del loaded
    if not ceiling:
        common.show_json(rows, asdict) if as_json else common.show(bench_tables.speeds(rows))
        return
    # The machine comes last: the buffer that it is measured with does not belong to the model's memory.
    machines, products = _measure_machine(counts, kernels)
    rows = [speed.beside(row, machine) for row in rows for machine in machines if machine.threads == row.threads]
    if plot is not None and rows:
        roofline.plot(machines[-1], speed.roofline_points(rows, machines[-1]), plot)
    if as_json:
        common.show_json({"machine": machines, "products": products, "rows": rows}, asdict)
        return
    common.show(bench_tables.ceilings(machines, products))
    if rows:
        common.show("\n" + bench_tables.speeds(rows))


def _check_plot(plot: Path, model: str | None) -> None:
    """Refuse before minutes of measuring what would make the plot fail, or take the model's own place."""
    path = common.find_model(model) if model is not None else None
    check_target(plot, [] if path is None else list(path.iterdir()) if path.is_dir() else [path])
    if plot.suffix.lower() not in picture.ENDINGS:
        raise ArgumentError(f"--plot: expected a name that ends in {', '.join(picture.ENDINGS)}, found {plot}")
    if importlib.util.find_spec("matplotlib") is None:
        raise UnsupportedError("--plot needs matplotlib: pip install 'gemlet[bench]'")


def _measure_machine(counts: Sequence[int | None], kernels: str) -> tuple[list[Machine], list[Product]]:
    """The ceilings and the products of each weight type, for each number of threads."""
    machines: list[Machine] = []
    products: list[Product] = []
    for count in counts:
        with common.progress("Measuring the machine") as advance:
            machine, found = measure_ceiling(count or 0, kernels, advance=advance)
        machines.append(machine)
        products += found
    return machines, products


def _compare(
    found: list[compare.Contender], settings: compare.Settings, rounds: int, plot: Path | None, as_json: bool
) -> None:
    compare.run(found, settings, rounds, common.note)
    if plot is not None:
        compare.plot(found, f"{settings.threads} threads, median of {rounds}", plot)
    if as_json:
        common.show_json(compare.record(found, settings))
        return
    common.show(bench_tables.comparison(found))


def _numbers(option: str, text: str, least: int, most: int) -> list[int]:
    try:
        numbers = [int(word) for word in text.split(",")]
    except ValueError:
        numbers = [least - 1]
    if min(numbers) < least or max(numbers) > most or len(set(numbers)) < len(numbers):
        raise ArgumentError(f"{option}: expected a number from {least} to {most}, or several as in 1,2,4, found {text}")
    return numbers
