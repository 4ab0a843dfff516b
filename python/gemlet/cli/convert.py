"""``gemlet convert``: from a Hugging Face checkpoint to a GGUF file."""

from pathlib import Path
from typing import Annotated

import typer

from gemlet.cli import common
from gemlet.errors import UnsupportedError


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
    threads: common.Threads = None,
    as_json: common.Json = False,
) -> None:
    """Convert a Hugging Face checkpoint of Gemma 3 or 3n to a GGUF file, which llama.cpp runs too.

    The file is written under a temporary name and renamed, so an old one stays until the new one is complete.

    Examples:

    `gemlet convert gemma-3n-E2B-it -o gemma-3n-e2b-q4_0.gguf`

    `gemlet convert gemma-3-1b-it -o gemma-3-1b.gguf --quant balanced`

    `gemlet convert gemma-3n-E4B-it -o e2b.gguf --slice e2b`
    """
    try:
        from gemlet.conversion import convert as convert_checkpoint
    except ModuleNotFoundError as error:
        raise UnsupportedError(f"converting needs {error.name}: pip install 'gemlet[convert]'") from error

    with common.progress("Converting") as advance:
        done = convert_checkpoint(
            checkpoint, out, quant, advance, head=head, threads=threads, slice=slice, transpose_down=transpose_down
        )
    if as_json:
        common.show_json({"path": str(done.path), "bytes": done.bytes, "tensors": done.types})
        return
    types = ", ".join(f"{count} {name}" for name, count in done.types.items())
    common.show(f"{done.path}: {common.size(done.bytes)}, {types}")
    if done.left_out:
        common.note(f"{len(done.left_out)} tensors of the vision and audio parts are left out")
