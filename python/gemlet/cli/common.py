"""Shared by the commands: options, progress, and ways to print."""

import functools
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, cast

import typer

from gemlet.errors import ArgumentError, FileError, FormatError
from gemlet.files import to_path
from gemlet.options import GenerateOptions
from gemlet.result import Stats

if TYPE_CHECKING:
    from gemlet.model import Model


def path(text: str) -> Path:
    """The path that an argument names, which a script may have left empty: Path("") is the folder here."""
    try:
        return to_path(text)
    except ArgumentError as error:
        raise typer.BadParameter(str(error)) from error


CacheType = Literal["f16", "f32", "int8"]
ModelArgument = Annotated[
    str,
    typer.Argument(
        help="A GGUF file, an exported folder, or a name: `nano`, which comes with gemlet; `gemma-3-270m`; "
        "`hf:OWNER/REPO:QUANT`, downloaded once; `ollama:NAME`; what `gemlet list` shows."
    ),
]
Threads = Annotated[int | None, typer.Option("--threads", "-t", help="Threads. Default: one for each physical core.")]
Context = Annotated[
    int | None,
    typer.Option(
        "--context", "-c", help="Context length in tokens. Default: 8192, or less if the model was trained for less."
    ),
]
Media = Annotated[
    str | None,
    typer.Option(
        "--media",
        metavar="FILE",
        help="The encoders of pictures and sound (an mmproj): a file or a name. Default: those in the model's file.",
    ),
]
Slice = Annotated[
    str | None,
    typer.Option(
        help="Use a part of the model: `e2b` in an E4B file, `0.5` for half of the feed-forward width, or "
        "`ffn=8192x25,16384x5:drop=20-24`."
    ),
]
Cache = Annotated[CacheType, typer.Option(help="Type of the KV cache; int8 takes half the memory of f16.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else.")]
Template = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", parser=path, help="A chat template in Jinja. Default: the model's own, or its turn format."
    ),
]
System = Annotated[str | None, typer.Option("--system", "-s", help="The system prompt, which holds for all turns.")]

_MOST_TEXT = 1 << 26
"""Bytes of a prompt. One that fills a context of 128 K tokens has some 500 KB."""

_TERMINAL_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x80-\x9f]")
_NOT_PLAIN = re.compile(rf"{_TERMINAL_CONTROL.pattern}|[\ud800-\udfff]")
"""Control characters, and the surrogates that stand for the undecodable bytes of a file's name."""


@dataclass(frozen=True)
class Answering:
    """The options of a command that generates text: prompt, template, sampling, speculative decoding, loading."""

    system: System = None
    template: Template = None
    template_variable: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=JSON",
            help="A variable for the chat template, such as `enable_thinking=false`. Can be given several times.",
        ),
    ] = None
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", "-n", help="Tokens to generate at most.")] = None
    temperature: Annotated[float | None, typer.Option(help="Sampling temperature; 0: greedy. Default: 1.")] = None
    top_k: Annotated[
        int | None, typer.Option(help="Sample from the so many most likely tokens; 0: off. Default: 64.")
    ] = None
    top_p: Annotated[
        float | None,
        typer.Option(
            help="Sample from the most likely tokens with this much probability together; 1: off. Default: 0.95."
        ),
    ] = None
    min_p: Annotated[
        float | None,
        typer.Option(help="Leave out tokens less likely than this share of the likeliest; 0: off. Default: 0."),
    ] = None
    repetition_penalty: Annotated[
        float | None, typer.Option(help="Above 1: repeat less of the prompt and completion. Default: 1.")
    ] = None
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same completion. Default: random.")] = None
    stop: Annotated[
        list[str] | None, typer.Option(help="Stop string: end the completion before it. Can be given several times.")
    ] = None
    speculate: Annotated[
        Literal["lookup", "slice", "none"] | None,
        typer.Option(
            help="Speculative decoding, with draft tokens from the text so far (lookup) or from a slice of the model: "
            "the same completion, sooner where draft tokens are accepted. Default: none."
        ),
    ] = None
    media: Media = None
    threads: Threads = None
    context: Context = None
    slice: Slice = None
    cache: Cache = "f16"

    def load(self, model: str) -> "Model":
        """Load the model with the encoders, threads, context, slice and KV cache type of the command line."""
        return load(model, self.threads, self.context, self.slice, self.cache, media=self.media)

    def template_source(self) -> str | None:
        """The text of the chat template that was given on the command line."""
        if self.template is None:
            return None
        from gemlet.chat.sandbox import MAX_SOURCE  # characters of at most four bytes

        try:
            return read_text(self.template, 4 * MAX_SOURCE).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise FormatError(f"{self.template}: not a text in UTF-8: {error}") from error

    def template_variables(self) -> dict[str, Any]:
        """The variables for the chat template that were given on the command line."""
        variables = {}
        for given in self.template_variable or ():
            name, equals, value = given.partition("=")
            try:
                if not equals:
                    raise ValueError("there is no =")
                variables[name] = json.loads(value)
            except (ValueError, RecursionError) as error:
                raise ArgumentError(
                    f"--template-variable {given!r:.60}: expected NAME=JSON, such as enable_thinking=false: {error}"
                ) from error
        return variables

    def generate_options(self) -> GenerateOptions:
        """The generation options that were given on the command line."""
        given = {name: getattr(self, name) for name in GenerateOptions.__annotations__ if hasattr(self, name)}
        return cast(GenerateOptions, {name: value for name, value in given.items() if value is not None})


def unfolds(command: Callable[..., None]) -> Callable[..., None]:
    """Turn each parameter of a command that is a dataclass, such as `answering: Answering`, into one option for each of
    its fields.
    """
    parameters: list[inspect.Parameter] = []
    groups: dict[str, tuple[Callable[..., Any], list[str]]] = {}
    for name, parameter in inspect.signature(command).parameters.items():
        if isinstance(parameter.annotation, type) and is_dataclass(parameter.annotation):
            fields = inspect.signature(parameter.annotation).parameters
            parameters += fields.values()
            groups[name] = (parameter.annotation, list(fields))
        else:
            parameters.append(parameter)

    @functools.wraps(command)
    def with_options(**arguments: Any) -> None:
        made = {
            name: group(**{field: arguments.pop(field) for field in fields}) for name, (group, fields) in groups.items()
        }
        command(**arguments, **made)

    options = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    with_options.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    with_options.__annotations__ = {option.name: option.annotation for option in options}
    return with_options


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]], left: int = 1) -> str:
    """A Markdown table; the first `left` columns are text, the others numbers."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]

    def line(texts: tuple[str, ...]) -> str:
        padded = [t.ljust(w) if i < left else t.rjust(w) for i, (t, w) in enumerate(zip(texts, widths, strict=True))]
        return f"| {' | '.join(padded)} |"

    rule = tuple("-" * width if i < left else "-" * (width - 1) + ":" for i, width in enumerate(widths))
    return "\n".join(line(texts) for texts in (head, rule, *rows))


def load(
    model: str,
    threads: int | None = None,
    context: int | None = None,
    slice: str | None = None,
    cache: CacheType = "f16",
    kernels: str | None = None,
    media: str | None = None,
) -> "Model":
    """Load lazily: `gemlet --help` needs no model."""
    from gemlet.model import load as load_model

    return load_model(
        find_model(model),
        media=find_model(media) if media is not None else None,
        threads=threads,
        context=context,
        slice=slice,
        cache=cache,
        kernels=kernels,
    )


def find_model(name: str | Path) -> Path:
    """The file of a model, with a progress bar if it has to be fetched first."""
    from gemlet.hub.names import find_model as find

    with ExitStack() as stack:
        bar: list[Advance] = []

        def advance(done: int, total: int) -> None:
            if not bar:
                bar.append(stack.enter_context(progress("Fetching the model")))
            bar[0](done, total)

        return find(name, advance)


def read_text(file: Path, most: int = _MOST_TEXT) -> bytes:
    """The bytes of a file, which may be a FIFO; `-` is stdin. Raises FileError if there are more than `most`."""
    is_stdin = str(file) == "-"
    name = "stdin" if is_stdin else str(file)
    try:
        with nullcontext(sys.stdin.buffer) if is_stdin else file.open("rb") as source:
            data = source.read(most + 1)
    except OSError as error:
        raise FileError(f"{name}: {error.strerror}") from error
    if len(data) > most:
        raise FileError(f"{name}: has more than {most:,} bytes, the most that is read of such a text")
    return data


@contextmanager
def output() -> Iterator[None]:
    """Name stdout in the errors of printing to it; a pipe that nobody reads any more is none of them."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise FileError(f"the output cannot be written: {error.strerror}") from error


def write(text: str) -> None:
    """Print a piece of a completion at once. On a terminal, control characters are left out: a model's words should not
    move the cursor or set the title."""
    with output():
        sys.stdout.write(_TERMINAL_CONTROL.sub("", text) if sys.stdout.isatty() else text)
        sys.stdout.flush()


def plain(text: str) -> str:
    """A text with its control characters in the form \\u001b, so that no name in a file or of a file reaches a terminal
    as a command. In JSON this is the escape of the same character."""
    return _NOT_PLAIN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def show(text: str) -> None:
    """Print lines of a result on stdout, as plain text."""
    with output():
        print(plain(text))


def show_json(value: object, default: Callable[[Any], Any] | None = None) -> None:
    """Print a result as JSON on stdout."""
    show(json.dumps(value, ensure_ascii=False, default=default))


def note(text: str) -> None:
    """Print a line on stderr, apart from the result, as plain text."""
    print(plain(text), file=sys.stderr, flush=True)


def describe(stats: Stats) -> str:
    """The statistics of a completion in one line."""
    reused = f" ({stats.reused_tokens} reused)" if stats.reused_tokens else ""
    drafted = stats.drafted_tokens
    accepted = f" ({stats.accepted_tokens} of {drafted} draft tokens accepted)" if drafted else ""
    return (
        f"prompt {stats.prompt_tokens} tokens{reused}, {stats.prefill_tokens_per_second:.1f}/s; "
        f"completion {stats.generated_tokens} tokens, {stats.decode_tokens_per_second:.1f}/s{accepted}; "
        f"first token after {stats.first_token_seconds:.2f} s; peak memory {size(stats.peak_memory)}"
    )


def stats_to_dict(stats: Stats) -> dict[str, float]:
    """Statistics with the derived rates, for JSON."""
    return {
        **vars(stats),
        "prefill_tokens_per_second": stats.prefill_tokens_per_second,
        "decode_tokens_per_second": stats.decode_tokens_per_second,
    }


def size(count: float) -> str:
    """Bytes for people: 3.02 GiB."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.2f} {unit}"
        count /= 1024
    return f"{count:.2f} GiB"


def amount(count: float) -> str:
    """Numbers for people: 4.46 B."""
    for unit in ("", " K", " M"):
        if count < 1000:
            return f"{count:.0f}" if not unit else f"{count:.2f}{unit}"
        count /= 1000
    return f"{count:.2f} B"


@contextmanager
def media_progress() -> Iterator[Callable[[float], None]]:
    """A progress bar for what encodes pictures and sounds; it comes when the first share is told."""
    with ExitStack() as stack:
        bar: list[Advance] = []

        def show_share(share: float) -> None:
            if not bar:
                bar.append(stack.enter_context(progress("Looking and listening")))
            bar[0](int(1000 * share), 1000)
            if share >= 1:
                stack.close()
                bar.clear()

        yield show_share


class Advance(Protocol):
    """Tells a progress bar how much is done, of how much in all."""

    def __call__(self, done: int, total: int) -> None: ...


@contextmanager
def progress(what: str) -> Iterator[Advance]:
    """A progress bar on stderr; nothing where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
