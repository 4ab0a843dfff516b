"""``gemlet export``: to files that other runtimes run."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from gemlet.cli import common
from gemlet.errors import ArgumentError, UnsupportedError

if TYPE_CHECKING:
    from gemlet.exporters import Export
    from gemlet.exporters.check import Comparison

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Write a model for other runtimes, and check the result by running it.",
)

_Source = Annotated[
    Path, typer.Argument(parser=common.path, help="A GGUF file, a model's name, or the folder of a checkpoint.")
]
_Out = Annotated[
    Path,
    typer.Option(
        "--out",
        "-o",
        parser=common.path,
        help="The folder to write; an earlier export there is replaced, but no files that it did not write.",
    ),
]
_Quant = Annotated[
    Literal["int4", "int8", "fp16", "fp32"], typer.Option("--quant", "-q", help="Quantisation of the weights.")
]
_Media = Annotated[
    Path | None,
    typer.Option(
        "--media",
        parser=common.path,
        help="An mmproj file, or the folder of a multimodal checkpoint, whose encoders of pictures and sound are "
        "exported too. A model file that holds its encoders needs no other.",
    ),
]


@app.command()
def onnx(
    source: _Source,
    out: _Out,
    quant: _Quant = "int4",
    context: common.Context = None,
    media: _Media = None,
    threads: common.Threads = None,
    as_json: common.Json = False,
) -> None:
    """Write a folder with model.onnx for ONNX Runtime.

    The folder appears once the file has been run beside the source and its logits agree; `gemlet run` runs it.

    Examples:

    `gemlet export onnx gemma-3n-E2B-it -o e2b-onnx`

    `gemlet export onnx model.gguf -o model-onnx --quant int8`
    """
    _export(source, out, "onnx", quant, as_json, context=context, media=media, threads=threads)


_Held = Annotated[
    int | None,
    typer.Option("--context", "-c", help="Context length in tokens; the KV cache takes memory for all. Default: 1024."),
]
_Prefill = Annotated[str, typer.Option(help="Lengths of the prompt signatures.")]


@app.command()
def tflite(
    source: _Source,
    out: _Out,
    quant: _Quant = "int4",
    context: _Held = None,
    prefill: _Prefill = "32,256",
    runtime: Annotated[
        Literal["litert", "tflite-runtime"],
        typer.Option(help="What will run it; tflite-runtime (2.14) runs fp32 only, and files of at most 2 GB."),
    ] = "litert",
    media: _Media = None,
    threads: common.Threads = None,
    as_json: common.Json = False,
) -> None:
    """Write a folder with model.tflite for LiteRT.

    The folder appears once the file has been run beside the source and its logits agree; `gemlet run` runs it.

    Examples:

    `gemlet export tflite gemma-3n-E2B-it -o e2b-tflite --context 2048`

    `gemlet export tflite model.gguf -o model-tflite --quant int8 --prefill 16,64,256`
    """
    lengths = _numbers("--prefill", prefill)
    settings = {"context": context, "prefill": lengths, "threads": threads, "runtime": runtime, "media": media}
    _export(source, out, "tflite", quant, as_json, **settings)


@app.command()
def litertlm(
    source: _Source,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", parser=common.path, help="The file to write, with a name that ends in .litertlm."),
    ],
    quant: _Quant = "int4",
    context: _Held = None,
    prefill: _Prefill = "32,256",
    media: _Media = None,
    threads: common.Threads = None,
    as_json: common.Json = False,
) -> None:
    """Write one file for LiteRT-LM, checked in LiteRT, and in LiteRT-LM if it is installed.

    Examples:

    `gemlet export litertlm gemma-3n-E2B-it -o e2b.litertlm`
    """
    lengths = _numbers("--prefill", prefill)
    _export(source, out, "litertlm", quant, as_json, context=context, prefill=lengths, media=media, threads=threads)


def _export(source: Path, out: Path, format: str, quant: str, as_json: bool, **settings: Any) -> None:
    try:
        from gemlet.exporters import export
    except ModuleNotFoundError as error:
        raise UnsupportedError(f"exporting needs {error.name}: pip install 'gemlet[export]'") from error
    with common.progress("Exporting") as advance:
        done = export(common.find_model(source), out, format, quant, advance, **settings)
    if as_json:
        common.show_json({**dataclasses.asdict(done), "path": str(done.path)})
    else:
        _print(done)


def _print(done: "Export") -> None:
    common.show(f"{done.path}: {common.size(done.bytes)}, {done.format} {done.quant}, checked in {done.runtime}")
    common.show(common.table(("file", "size"), [(name, common.size(size)) for name, size in done.files.items()]))
    compared = [("the same weights", done.same_weights), ("(core with itself, f16 cache)", done.rounding)]
    if done.source is not None:
        compared.append(("the source", done.source))
    _print_encoders(done)
    head = ("beside the core on", "places", "max", "mean", "of the spread", "same most likely token")
    common.show(common.table(head, [(name, *_cells(comparison)) for name, comparison in compared]))
    steps = (f"{step} {taken:.1f} s, {common.size(done.peak_memory[step])}" for step, taken in done.seconds.items())
    common.show(f"time and peak memory: {'; '.join(steps)}")


def _print_encoders(done: "Export") -> None:
    rows = []
    for beside, compared in (("the same weights", done.media), ("the source", done.media_source or {})):
        for medium, found in compared.items():
            differences = f"{found.max_difference:.2g}", f"{found.relative_difference:.2g}", f"{found.least_cosine:.5f}"
            rows.append((medium, beside, str(found.tokens), *differences))
    if rows:
        head = ("encoded", "beside the core on", "soft tokens", "max", "of the spread", "least cosine")
        common.show(common.table(head, rows))


def _cells(comparison: "Comparison") -> tuple[str, ...]:
    return (
        str(comparison.positions),
        f"{comparison.max_difference:.2g}",
        f"{comparison.mean_difference:.2g}",
        f"{comparison.relative_difference:.2g}",
        f"{comparison.greedy_agreement:.1%}",
    )


def _numbers(option: str, text: str) -> tuple[int, ...]:
    """Parse a list of numbers such as 32,256."""
    try:
        found = tuple(int(word) for word in text.split(","))
    except ValueError:
        found = ()
    if not found or min(found) < 1 or len(set(found)) < len(found):
        raise ArgumentError(f"{option}: expected a number or several as in 32,256, found {text}")
    return found
