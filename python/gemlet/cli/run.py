"""``gemlet run``: one prompt, one completion."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from gemlet.cli import common
from gemlet.errors import ArgumentError
from gemlet.files import to_path
from gemlet.media import Audio, Image
from gemlet.text import to_text


@common.unfolds
def run(
    *,
    model: common.ModelArgument,
    prompt: Annotated[str | None, typer.Argument(help="The prompt. Without it, or with `-`, stdin is read.")] = None,
    given: Annotated[str | None, typer.Option("--prompt", "-p", help="The prompt, as an option.")] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", parser=common.path, help="Read the prompt from a file.")
    ] = None,
    image: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="A picture, in front of the prompt. Can be given several times."),
    ] = None,
    audio: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="A sound, in front of the prompt. Can be given several times."),
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(
            metavar="PIXELS", help="The square that pictures are resized to: smaller is faster. Default: the encoder's."
        ),
    ] = None,
    raw: Annotated[
        bool, typer.Option(help="Complete the prompt as it is, without the chat template: for base models.")
    ] = False,
    prefill: Annotated[
        str, typer.Option(metavar="TEXT", help="The beginning of the answer, which the model goes on with.")
    ] = "",
    answering: common.Answering,
    stats: Annotated[bool, typer.Option(help="Print speed and memory on stderr.")] = False,
    as_json: common.Json = False,
) -> None:
    """Generate a completion of a prompt and print it as it is generated.

    Examples:

    `gemlet run nano "What is the capital of France?"`

    `gemlet run model.gguf -f letter.txt -s "Summarise in one sentence." --temperature 0`

    `git diff | gemlet run model.gguf -s "Write a commit message for this change."`

    `gemlet run e4b.gguf "Why is the sky blue?" --slice e2b`

    `gemlet run e2b.gguf --media mmproj.gguf "What is in this picture?" --image cat.jpg --image-size 512`

    `gemlet run model.gguf "List three rivers as JSON." --prefill "["`

    `gemlet run model.gguf "Once upon a time" --raw -n 100 --seed 7 --json | jq .text`
    """
    if given is not None and prompt is not None:
        raise ArgumentError("give the prompt or --prompt, not both")
    text = _prompt(given if prompt is None else prompt, file)
    for option, value in (
        ("--system", answering.system),
        ("--template", answering.template),
        ("--template-variable", answering.template_variable),
        ("--prefill", prefill),
        ("--image", image),
        ("--audio", audio),
    ):
        if raw and value:
            raise ArgumentError(f"{option} needs the chat format, which --raw leaves out")
    if image_size is not None and not image:
        raise ArgumentError("--image-size is the size of pictures, and there is none: expected --image too")
    options = answering.generate_options()
    loaded = answering.load(model)
    if raw:
        stream = loaded.stream(text, **options)
    else:
        chat = loaded.chat(
            answering.system,
            template=answering.template_source(),
            template_variables=answering.template_variables(),
            **options,
        )
        seen = [Image(to_path(file), size=image_size) for file in image or ()]
        heard = [Audio(to_path(file)) for file in audio or ()]
        with common.media_progress() as on_media:
            stream = chat.stream([*seen, *heard, to_text(text)], prefill=prefill, on_media=on_media)
    with stream:
        result = stream.finish(None if as_json else common.write)
    if as_json:
        answer = {
            "text": result.text,
            "prefill": result.prefill,
            "tokens": result.tokens,
            "finish_reason": result.finish_reason,
            "seed": result.seed,
            "stats": common.stats_to_dict(result.stats),
        }
        common.show_json(answer)
    else:
        common.write("\n")
    if stats:
        common.note(common.describe(result.stats))


def _prompt(prompt: str | None, file: Path | None) -> bytes:
    if file is not None and prompt is not None:
        raise ArgumentError("give the prompt or --file, not both")
    if file is not None:
        data = common.read_text(file)
    elif prompt is None or prompt == "-":
        if sys.stdin.isatty():
            common.note("Type the prompt and end it with Ctrl-D.")
        data = common.read_text(Path("-"))
    else:
        data = prompt.encode("utf-8", "surrogateescape")
    if not data.strip():
        raise ArgumentError("the prompt is empty")
    return data
