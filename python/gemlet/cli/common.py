"""What the commands share: options, progress, and ways to print."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from gemlet.errors import FileError
from gemlet.options import GenerateOptions
from gemlet.result import Stats

if TYPE_CHECKING:
    from gemlet.model import Model

ModelArgument = Annotated[str, typer.Argument(help="A GGUF file, or `nano` for the model that comes with gemlet.")]
Threads = Annotated[int | None, typer.Option("--threads", "-t", help="Threads. Default: one for each physical core.")]
Context = Annotated[
    int | None, typer.Option("--context", "-c", help="Tokens to hold. Default: 8192, or less if the model has less.")
]
Slice = Annotated[
    str | None,
    typer.Option(
        help="Use a part of the model: `e2b` in an E4B file, `0.5` for half of the feed-forward width, or "
        "`ffn=8192x25,16384x5:drop=20-24`."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else.")]
MaxTokens = Annotated[int | None, typer.Option("--max-tokens", "-n", help="Stop after so many tokens.")]
Temperature = Annotated[float | None, typer.Option(help="0: always the most likely token. Default: 1.")]
TopK = Annotated[int | None, typer.Option(help="Only the so many most likely tokens; 0: off. Default: 64.")]
TopP = Annotated[
    float | None, typer.Option(help="Only the most likely tokens with so much probability; 1: off. Default: 0.95.")
]
MinP = Annotated[float | None, typer.Option(help="Only tokens this likely beside the likeliest; 0: off. Default: 0.")]
RepetitionPenalty = Annotated[float | None, typer.Option(help="Above 1: avoid what was said. Default: 1.")]
Seed = Annotated[int | None, typer.Option(help="The same seed gives the same answer. Default: drawn anew.")]
Stop = Annotated[list[str] | None, typer.Option(help="End the answer before this text. Can be given several times.")]
System = Annotated[str | None, typer.Option("--system", "-s", help="An instruction that holds for all turns.")]

_TERMINAL_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x80-\x9f]")


def generate_options(
    *,
    max_tokens: int | None,
    temperature: float | None,
    top_k: int | None,
    top_p: float | None,
    min_p: float | None,
    repetition_penalty: float | None,
    seed: int | None,
    stop: list[str] | None,
) -> GenerateOptions:
    """The options that were given."""
    options: GenerateOptions = {}
    if max_tokens is not None:
        options["max_tokens"] = max_tokens
    if temperature is not None:
        options["temperature"] = temperature
    if top_k is not None:
        options["top_k"] = top_k
    if top_p is not None:
        options["top_p"] = top_p
    if min_p is not None:
        options["min_p"] = min_p
    if repetition_penalty is not None:
        options["repetition_penalty"] = repetition_penalty
    if seed is not None:
        options["seed"] = seed
    if stop:
        options["stop"] = stop
    return options


def load(model: str, threads: int | None = None, context: int | None = None, slice: str | None = None) -> "Model":
    """Load lazily: `gemlet --help` needs no model."""
    from gemlet.model import load as load_model

    return load_model(model, threads=threads, context=context, slice=slice)


def read_text(file: Path) -> bytes:
    """The bytes of a file; `-` is stdin."""
    if str(file) == "-":
        return sys.stdin.buffer.read()
    try:
        return file.read_bytes()
    except OSError as error:
        raise FileError(f"{file}: {error.strerror}") from error


def write(text: str) -> None:
    """Print a piece of an answer at once. On a terminal, control characters are left out: a model's words should not
    move the cursor or set the title."""
    sys.stdout.write(_TERMINAL_CONTROL.sub("", text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def note(text: str) -> None:
    """Print a line that is not part of the answer."""
    print(text, file=sys.stderr, flush=True)


def describe(stats: Stats) -> str:
    """One line about an answer."""
    reused = f" ({stats.reused_tokens} reused)" if stats.reused_tokens else ""
    return (
        f"prompt {stats.prompt_tokens} tokens{reused}, {stats.prefill_tokens_per_second:.1f}/s; "
        f"answer {stats.generated_tokens} tokens, {stats.decode_tokens_per_second:.1f}/s; "
        f"first token after {stats.first_token_seconds:.2f} s; peak memory {size(stats.peak_memory)}"
    )


def stats_to_dict(stats: Stats) -> dict[str, float]:
    """For JSON."""
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
