"""``gemlet convert``: from a Hugging Face checkpoint to a GGUF file."""

from pathlib import Path
from typing import Annotated

import typer

from gemlet.cli import common
from gemlet.errors import ArgumentError, UnsupportedError


def convert(
    checkpoint: Annotated[
        Path, typer.Argument(parser=common.path, help="Folder of a Hugging Face checkpoint (safetensors).")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", parser=common.path, help="The GGUF file to write.")],
    quant: Annotated[
        str | None,
        typer.Option(
            "--quant",
            "-q",
            help="Quantisation: f32, bf16, f16, q8_0, q4_0; or performance (bf16), balanced (q8_0), "
            "maximum_efficiency (q4_0). Default: q4_0, and q8_0 for models of fewer than 500 million parameters.",
        ),
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(help="Another type for the token embedding and output head: q4_0 is the quickest; q6_k, q8_0."),
    ] = None,
    transpose_down: Annotated[
        bool,
        typer.Option(
            "--transpose-down",
            help="Store the sparse layers' down projection transposed: faster here, but llama.cpp cannot read it.",
        ),
    ] = False,
    slice: common.Slice = None,
    mmproj: Annotated[
        bool,
        typer.Option(
            "--mmproj",
            help="Write the vision and audio encoders of Gemma 3n, not the text model: an mmproj file with llama.cpp's "
            "names.",
        ),
    ] = False,
    media_quant: Annotated[
        str | None,
        typer.Option(
            help="Quantisation of the encoders, with --mmproj: f32, f16, bf16, q8_0, q4_0. Default: f16, which is not "
            "chosen by measurements yet."
        ),
    ] = None,
    threads: common.Threads = None,
    as_json: common.Json = False,
) -> None:
    """Convert a Hugging Face checkpoint of Gemma 3 or 3n to a GGUF file, which llama.cpp runs too.

    Of a multimodal checkpoint the text model is converted; --mmproj writes the encoders of Gemma 3n to a second file.

    The file is written under a temporary name and renamed, so an old one stays until the new one is complete.

    Examples:

    `gemlet convert gemma-3n-E2B-it -o gemma-3n-e2b-q4_0.gguf`

    `gemlet convert gemma-3-1b-it -o gemma-3-1b.gguf --quant balanced`

    `gemlet convert gemma-3n-E4B-it -o e2b.gguf --slice e2b`

    `gemlet convert gemma-3n-E2B-it -o mmproj.gguf --mmproj --media-quant q8_0`
    """
    _check_options(mmproj, media_quant, {"--quant": quant, "--head": head, "--slice": slice}, transpose_down)
    try:
        from gemlet import conversion
    except ModuleNotFoundError as error:
        raise UnsupportedError(f"converting needs {error.name}: pip install 'gemlet[convert]'") from error

    with common.progress("Converting") as advance:
        if mmproj:
            done = conversion.convert_mmproj(checkpoint, out, media_quant or "f16", advance, threads=threads)
        else:
            done = conversion.convert(
                checkpoint, out, quant, advance, head=head, threads=threads, slice=slice, transpose_down=transpose_down
            )
    if as_json:
        encoders = {"encoders": list(done.encoders)} if mmproj else {}
        common.show_json({"path": str(done.path), "bytes": done.bytes, "tensors": done.types, **encoders})
        return
    types = ", ".join(f"{count} {name}" for name, count in done.types.items())
    parts = f", encoders: {' and '.join(done.encoders)}" if mmproj else ""
    common.show(f"{done.path}: {common.size(done.bytes)}, {types}{parts}")
    if done.left_out:
        common.note(f"{len(done.left_out)} tensors of the vision and audio parts are left out")


def _check_options(mmproj: bool, media_quant: str | None, text: dict[str, str | None], transpose_down: bool) -> None:
    """Raises ArgumentError for an option of the part of the checkpoint that is not converted."""
    if not mmproj and media_quant is not None:
        raise ArgumentError("--media-quant is for the encoders, which --mmproj converts; the text model has --quant")
    given = [name for name, value in text.items() if value is not None]
    given += ["--transpose-down"] if transpose_down else []
    if mmproj and given:
        raise ArgumentError(f"{given[0]} is for the text model, and --mmproj converts the encoders")
