"""``gemlet chat``: a conversation on the terminal."""

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gemlet.cli import common
from gemlet.errors import GemletError

if TYPE_CHECKING:
    from gemlet.chat.conversation import Chat
    from gemlet.result import GenerateResult

HELP = """\
/help           this list
/reset          forget the conversation, keep the system prompt
/undo           take back the last turn
/system [TEXT]  show or change the system prompt
/history        show the conversation
/save FILE      save the conversation
/load FILE      go on with a saved conversation
/stats          speed and memory of the last reply
/exit           leave; so does Ctrl-D
A line that ends in \\ goes on in the next; \"\"\" begins and ends a text of several lines.
Ctrl-C stops the reply and takes the turn back."""


@common.answers
def chat(
    *,
    model: Annotated[
        str, typer.Argument(help="A GGUF file, an exported folder or a name. Default: `nano`, the sample model.")
    ] = "nano",
    load: Annotated[str | None, typer.Option(help="Go on with a conversation that /save wrote.")] = None,
    answering: common.Answering,
) -> None:
    """Chat with a model. Each turn reuses the KV cache of the turns before and computes only what is new.

    Ctrl-C stops the reply and not the program, Ctrl-D leaves, /help lists the commands.

    Examples:

    `gemlet chat`

    `gemlet chat model.gguf -s "Answer like a pirate." --temperature 0.7`
    """
    options = answering.generate_options()
    loaded = answering.load(model)
    conversation = loaded.chat(answering.system, template=answering.template_source(), **options)
    if load is not None:
        conversation.load(load)
    if sys.stdin.isatty():
        import readline  # noqa: F401  gives input() its editing and its history

        common.note(f"{loaded.info.name or loaded.path.name}; /help lists the commands, Ctrl-D leaves.")
    _Terminal(conversation).talk()


class _Terminal:
    def __init__(self, chat: "Chat") -> None:
        self._chat = chat
        self._last: GenerateResult | None = None

    def talk(self) -> None:
        """Read and reply until the input ends."""
        while True:
            try:
                text = _read()
            except KeyboardInterrupt:  # drops the line, as in a shell
                common.note("")
                continue
            except EOFError:
                if sys.stdin.isatty():
                    common.note("")
                return
            if text in ("/exit", "/quit"):
                return
            if not text.strip():
                continue
            try:
                self._command(text) if text.startswith("/") else self._ask(text)
            except KeyboardInterrupt:
                common.write("\n")
                common.note("(stopped; this turn is forgotten)")
            except BrokenPipeError:
                raise
            except GemletError as error:
                common.note(f"gemlet: {error}")
            except Exception as error:  # no mistake of ours may cost the conversation
                common.note(f"gemlet: {type(error).__name__}: {error}")

    def _ask(self, text: str) -> None:
        self._last = self._chat.send(text, on_text=common.write)
        common.write("\n")
        if self._last.finish_reason == "context":
            common.note("(the context is full; /reset begins anew)")

    def _command(self, line: str) -> None:
        name, _, argument = line.partition(" ")
        argument = argument.strip()
        if name == "/help":
            common.note(HELP)
        elif name == "/reset":
            self._chat.reset()
        elif name == "/undo":
            common.note("(taken back)" if self._chat.undo() else "(there is no turn to take back)")
        elif name == "/system":
            if argument:
                self._chat.system = argument
            common.note(self._chat.system or "(no system prompt)")
        elif name == "/history":
            for message in self._chat.history:
                common.write(f"{message.role}: {message.content}\n")
        elif name in ("/save", "/load") and argument:
            path = Path(argument).expanduser()
            self._chat.save(path) if name == "/save" else self._chat.load(path)
        elif name == "/stats":
            common.note(common.describe(self._last.stats) if self._last else "(no reply yet)")
        else:
            common.note(f"gemlet: {line.strip()}: no such command, or something is missing; /help lists them")


def _read() -> str:
    """One message, of several lines perhaps. Raises EOFError at the end of the input."""
    first = _line("> ")
    if first.lstrip().startswith('"""'):
        lines = [first.lstrip()[3:]]
        with contextlib.suppress(EOFError):  # the end of the input ends the text too
            while not lines[-1].rstrip().endswith('"""'):
                lines.append(_line(". "))
        return "\n".join(lines).rstrip().removesuffix('"""').strip("\n")
    lines = [first]
    with contextlib.suppress(EOFError):
        while lines[-1].endswith("\\"):
            lines[-1] = lines[-1][:-1]
            lines.append(_line(". "))
    return "\n".join(lines)


def _line(prompt: str) -> str:
    return input(prompt if sys.stdin.isatty() else "")
