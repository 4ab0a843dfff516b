"""The command line: ``gemlet``.

Exit codes: 0 success, 1 error, 2 usage error, 130 interrupted by Ctrl-C, 143 and 129 ended by SIGTERM and SIGHUP.
Errors are one line on stderr; stdout has the result and nothing else.
"""

import contextlib
import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from gemlet.cli import (
    bench,
    chat,
    common,
    convert,
    demo,
    export,
    inspect,
    models,
    perplexity,
    process,
    pull,
    run,
    speech,
    tokenize,
)
from gemlet.errors import ArgumentError, GemletError
from gemlet.version import __version__

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
_COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo.demo,
    "chat": chat.chat,
    "run": run.run,
    "transcribe": speech.transcribe,
    "translate": speech.translate,
    "pull": pull.pull,
    "list": models.list_models,
    "rm": models.remove,
    "convert": convert.convert,
    "inspect": inspect.inspect,
    "bench": bench.bench,
    "perplexity": perplexity.perplexity,
    "tokenize": tokenize.tokenize,
}
for _name, _command in _COMMANDS.items():
    app.command(_name)(_command)
app.add_typer(export.app, name="export")


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"gemlet {__version__}")
        raise typer.Exit


@app.callback()
def gemlet(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    """Google's Gemma models on small machines.

    `gemlet demo` shows the sample model that comes with gemlet, `gemlet chat` chats with it.

    Any public GGUF file of Gemma 3 or Gemma 3n runs as it is, in every quantisation: `gemlet chat model.gguf`.
    `gemlet pull OWNER/REPO` downloads one from the Hugging Face hub, and `gemlet list` shows those on this machine.
    `gemlet convert CHECKPOINT -o model.gguf` converts a Hugging Face checkpoint and quantises its weights.

    Exit codes: 0 success, 1 error, 2 usage error, 130 interrupted, 143 and 129 ended by SIGTERM and SIGHUP.
    """


def main() -> None:
    """Run the command line and exit."""
    process.fill_standard_streams()
    process.end_by_exception()
    process.print_warnings()
    code = 1
    try:
        code = _run()
        sys.stdout.flush()
    except OSError as error:
        if code == 0 and not isinstance(error, BrokenPipeError):  # it was not said yet, and somebody reads our output
            common.note(f"gemlet: the output cannot be written: {error.strerror}")
        code = code or 1
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(code)


def _run() -> int:
    try:
        app(prog_name="gemlet")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        raise
    except (GemletError, OSError) as error:
        with contextlib.suppress(BrokenPipeError):
            common.note(f"gemlet: {error}")
        return 2 if isinstance(error, ArgumentError) else 1
    except MemoryError:
        with contextlib.suppress(BrokenPipeError):
            common.note("gemlet: there is not enough memory")
        return 1
    return 0
