"""``gemlet transcribe`` and ``gemlet translate``: recordings of speech."""

import json
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from gemlet.cli import common
from gemlet.errors import ArgumentError
from gemlet.files import check_target, replacing
from gemlet.media.limits import MOST_BYTES

if TYPE_CHECKING:
    from gemlet.model import Model
    from gemlet.speech import Transcript

File = Annotated[
    Path,
    typer.Argument(
        parser=common.path,
        help="A recording of any length: WAV, FLAC, Ogg, Opus, MP3; with `pip install 'gemlet[av]'` M4A, videos and "
        "others. `-` reads stdin.",
    ),
]
_FORMATS: "dict[str, Callable[[Transcript], str]]" = {
    "srt": lambda transcript: transcript.to_srt(),
    "vtt": lambda transcript: transcript.to_vtt(),
    "json": lambda transcript: json.dumps(transcript.to_dict(), ensure_ascii=False) + "\n",
    "txt": lambda transcript: transcript.text + "\n",
}


class Work(Protocol):
    """Transcribes or translates."""

    def __call__(
        self,
        loaded: "Model",
        audio: Path | bytes,
        *,
        timestamps: bool,
        on_text: Callable[[str], object] | None,
        progress: Callable[[float, float], object] | None,
    ) -> "Transcript": ...


@dataclass(frozen=True)
class Output:
    """What is written, and where."""

    srt: Annotated[bool, typer.Option("--srt", help="Write subtitles in SubRip's format. Implies --timestamps.")] = (
        False
    )
    vtt: Annotated[bool, typer.Option("--vtt", help="Write subtitles in WebVTT's format. Implies --timestamps.")] = (
        False
    )
    json: Annotated[bool, typer.Option("--json", help="Write JSON: the text and its segments with their times.")] = (
        False
    )
    timestamps: Annotated[
        bool, typer.Option(help="Cut into segments of 3 to 10 seconds, between pauses. Less context, more mistakes.")
    ] = False
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            parser=common.path,
            help="Write a file instead of stdout; its name may say the format: .srt, .vtt or .json.",
        ),
    ] = None

    def format(self) -> str:
        """The format that was asked for, by an option or by the file's name."""
        asked = [name for name in ("srt", "vtt", "json") if getattr(self, name)]
        if len(asked) > 1:
            raise ArgumentError(f"--{asked[0]} and --{asked[1]}: expected one of them")
        named = self.out.suffix.lower().removeprefix(".") if self.out is not None else ""
        return asked[0] if asked else named if named in _FORMATS else "txt"


@dataclass(frozen=True)
class Loading:
    """How the model is loaded."""

    media: common.Media = None
    threads: common.Threads = None
    slice: common.Slice = None
    cache: common.Cache = "f16"

    def load(self, model: str) -> "Model":
        """Load the model with the encoders, threads, slice and KV cache type of the command line."""
        return common.load(model, self.threads, None, self.slice, self.cache, media=self.media)


@common.unfolds
def transcribe(
    *,
    model: common.ModelArgument,
    file: File,
    language: Annotated[
        str | None,
        typer.Option("--language", "-l", help="The language that is spoken: `hu`, `Hungarian`. Default: any."),
    ] = None,
    output: Output,
    loading: Loading,
) -> None:
    """Write down what is said in a recording.

    It is cut in the pauses of speech into clips of at most 30 seconds.

    Examples:

    `gemlet transcribe e2b.gguf --media mmproj.gguf talk.mp3`

    `gemlet transcribe e2b.gguf interview.m4a --language es --srt -o interview.srt`

    `gemlet transcribe e2b.gguf talk.flac --json | jq -r .text`
    """

    def work(loaded: "Model", audio: Any, **how: Any) -> "Transcript":
        return loaded.transcribe(audio, language=language, **how)

    _write_down(partial(loading.load, model), work, "Transcribing", file, output)


@common.unfolds
def translate(
    *,
    model: common.ModelArgument,
    file: File,
    to: Annotated[str, typer.Option("--to", help="The language to translate into: `en`, `English`.")],
    source: Annotated[
        str | None, typer.Option("--from", help="The language that is spoken: `es`, `Spanish`. Default: any.")
    ] = None,
    output: Output,
    loading: Loading,
) -> None:
    """Translate what is said in a recording.

    Examples:

    `gemlet translate e2b.gguf --media mmproj.gguf entrevista.mp3 --to English`

    `gemlet translate e2b.gguf film.mp4 --from hu --to en --vtt -o film.vtt`
    """

    def work(loaded: "Model", audio: Any, **how: Any) -> "Transcript":
        return loaded.translate(audio, to=to, source=source, **how)

    _write_down(partial(loading.load, model), work, "Translating", file, output)


def _write_down(load: "Callable[[], Model]", work: Work, what: str, file: Path, output: Output) -> None:
    format = output.format()
    sources = [file] if file.exists() else []
    if output.out is not None:
        check_target(output.out, sources)
    model = load()
    sources += model._files()
    if output.out is not None:
        check_target(output.out, sources)
    audio: Any = common.read_text(file, MOST_BYTES) if str(file) == "-" else file
    is_streamed = output.out is None and format == "txt"
    with ExitStack() as stack:
        advance = None
        if not (is_streamed and sys.stdout.isatty()):  # a bar would stand in the text
            advance = stack.enter_context(common.progress(what))
        transcript = work(
            model,
            audio,
            timestamps=output.timestamps or format in ("srt", "vtt"),
            on_text=common.write if is_streamed else None,
            progress=None if advance is None else lambda done, of: advance(round(1000 * done), round(1000 * of)),
        )
    if output.out is not None:
        with replacing(output.out, sources) as target:
            target.write(_FORMATS[format](transcript).encode("utf-8", "replace"))
    else:
        common.write("\n" if is_streamed else _FORMATS[format](transcript))
