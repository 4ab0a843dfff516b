"""``gemlet convert``: from a Hugging Face checkpoint to a GGUF file."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from gemlet.cli import common
from gemlet.errors import ArgumentError, UnsupportedError

if TYPE_CHECKING:
    from gemlet.conversion import Conversion

_ORGANS: Final = {"vision": "eyes", "audio": "ears"}


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
    media: Annotated[
        bool,
        typer.Option(
            "--media",
            help="Write the vision and audio encoders too, into the same file, which llama.cpp then cannot read.",
        ),
    ] = False,
    mmproj: Annotated[
        bool,
        typer.Option(
            "--mmproj",
            help="Write the vision and audio encoders, not the text model: an mmproj file with llama.cpp's names.",
        ),
    ] = False,
    media_quant: Annotated[
        str | None,
        typer.Option(
            help="Quantisation of the encoders, with --media or --mmproj: f32, f16, bf16, q8_0, q4_0. Default: f16."
        ),
    ] = None,
    threads: common.Threads = None,
    as_json: common.Json = False,
) -> None:
    """Convert a Hugging Face checkpoint of Gemma 3 or 3n to a GGUF file, which llama.cpp runs too.

    Of a multimodal checkpoint the text model is converted. --media adds its encoders of pictures and sound; --mmproj
    writes them to a second file.

    The file is written under a temporary name and renamed, so an old one stays until the new one is complete.

    Examples:

    `gemlet convert gemma-3n-E2B-it -o gemma-3n-e2b-q4_0.gguf`

    `gemlet convert gemma-3-1b-it -o gemma-3-1b.gguf --quant balanced`

    `gemlet convert gemma-3n-E4B-it -o e2b.gguf --slice e2b`

    `gemlet convert gemma-3-4b-it -o gemma-3-4b.gguf --media`

    `gemlet convert gemma-3n-E2B-it -o mmproj.gguf --mmproj --media-quant q8_0`
    """
    text_only = {"--quant": quant, "--head": head, "--slice": slice, "--transpose-down": transpose_down or None}
    _check_options(media, mmproj, media_quant, text_only)
    try:
        from gemlet import conversion
    except ModuleNotFoundError as error:
        raise UnsupportedError(f"converting needs {error.name}: pip install 'gemlet[convert]'") from error

    with common.progress("Converting") as advance:
        if mmproj:
            done = conversion.convert_mmproj(checkpoint, out, media_quant, advance, threads=threads)
        else:
            done = conversion.convert(
                checkpoint,
                out,
                quant,
                advance,
                head=head,
                threads=threads,
                slice=slice,
                transpose_down=transpose_down,
                media=media,
                media_quant=media_quant,
            )
    if as_json:
        encoders = {"encoders": list(done.encoders)} if done.encoders else {}
        common.show_json({"path": str(done.path), "bytes": done.bytes, "tensors": done.types, **encoders})
        return
    types = ", ".join(f"{count} {name}" for name, count in done.types.items())
    parts = f", encoders: {' and '.join(done.encoders)}" if done.encoders else ""
    common.show(f"{done.path}: {common.size(done.bytes)}, {types}{parts}")
    if done.left_out:
        common.note(_left_out(done))


def _left_out(done: "Conversion") -> str:
    """What a file of the text model alone lacks."""
    organs = " and ".join(f"no {_ORGANS[kind]}" for kind in done.encoders_left_out)
    if not organs:
        return f"{len(done.left_out)} tensors outside the text model are left out"
    return (
        f"the file has {organs}: {len(done.left_out)} tensors of the encoders are left out. "
        "--media writes them into the same file, --mmproj into a second one."
    )


def _check_options(media: bool, mmproj: bool, media_quant: str | None, text_only: Mapping[str, object]) -> None:
    """Raises ArgumentError for options that contradict each other."""
    if media and mmproj:
        raise ArgumentError("--media writes the encoders into the model's file, --mmproj into one of their own")
    if not (media or mmproj) and media_quant is not None:
        raise ArgumentError(
            "--media-quant is for the encoders, which --media and --mmproj convert; the text model has --quant"
        )
    given = [name for name, value in text_only.items() if value is not None]
    if mmproj and given:
        raise ArgumentError(f"{given[0]} is for the text model, and --mmproj converts the encoders")
