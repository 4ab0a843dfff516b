"""``gemlet chat``: a conversation on the terminal."""

import contextlib
import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gemlet.cache import expand
from gemlet.cli import common
from gemlet.errors import ArgumentError, ContextError, GemletError
from gemlet.files import to_path
from gemlet.media import Audio, Image
from gemlet.media.microphone import Microphone
from gemlet.text import to_bytes, to_text

if TYPE_CHECKING:
    from gemlet.chat.conversation import Chat
    from gemlet.chat.messages import Message
    from gemlet.result import GenerateResult

HELP = """\
/help           this list
/reset          forget the conversation, keep the system prompt
/undo           take back the last turn
/system [TEXT]  show or change the system prompt
/overflow [error | drop_oldest]
                show or change what happens when the context is full
/history        show the conversation
/image FILE     show a picture with the next message
/audio FILE     play a sound with the next message
/record         record what is said, until the next return, for the next message
/detach         forget what /image, /audio and /record have added
/save FILE      save the conversation
/load FILE      go on with a saved conversation
/stats          speed and memory of the last reply
/exit           leave; so does Ctrl-D
A line that ends in \\ goes on in the next; \"\"\" begins and ends a text of several lines.
Ctrl-C stops the reply and takes the turn back."""

_FULL = "/overflow drop_oldest leaves out the oldest turns, /reset begins anew"


@common.unfolds
def chat(
    *,
    model: Annotated[
        str, typer.Argument(help="A GGUF file, an exported folder or a name. Default: `nano`, the sample model.")
    ] = "nano",
    load: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Go on with a conversation that /save wrote. --system takes the place of the system prompt in it.",
        ),
    ] = None,
    overflow: Annotated[
        Literal["error", "drop_oldest"],
        typer.Option(help="When the context is full: refuse to go on, or leave the oldest turns out of the prompt."),
    ] = "error",
    answering: common.Answering,
) -> None:
    """Chat with a model. Each turn reuses the KV cache of the turns before and computes only what is new.

    Ctrl-C stops the reply and not the program, Ctrl-D leaves, /help lists the commands. When the lines come from a pipe
    or a file, a reply or a command that fails does not keep the next line from being read, and the exit code is 1 in
    the end.

    Examples:

    `gemlet chat`

    `gemlet chat model.gguf -s "Answer like a pirate." --temperature 0.7`
    """
    options = answering.generate_options()
    loaded = answering.load(model)
    conversation = loaded.chat(
        answering.system,
        template=answering.template_source(),
        template_variables=answering.template_variables(),
        overflow=overflow,
        **options,
    )
    if load is not None:
        conversation.load(load)
        if answering.system is not None:
            conversation.system = answering.system
    if sys.stdin.isatty():
        import readline  # noqa: F401  gives input() its editing and its history

        common.note(f"{loaded.info.name or loaded.path.name}; /help lists the commands, Ctrl-D leaves.")
    terminal = _Terminal(conversation)
    terminal.talk()
    if terminal.failures and not sys.stdin.isatty():
        raise typer.Exit(1)


class _Terminal:
    def __init__(self, chat: "Chat") -> None:
        self._chat = chat
        self._last: GenerateResult | None = None
        self._attached: list[Image | Audio] = []
        self.failures = 0
        """Replies and commands that failed."""

    def talk(self) -> None:
        """Read and reply until the input ends."""
        lines = _Input()
        while True:
            try:
                text = lines.read()
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
            is_command = text.startswith("/")
            try:
                self._command(text) if is_command else self._ask(_as_said(text))
                continue
            except KeyboardInterrupt:
                common.write("\n")
                common.note("(stopped)" if is_command else "(stopped; this turn is forgotten)")
                continue
            except BrokenPipeError:
                raise
            except ContextError as error:
                common.note(f"gemlet: {error}" if self._drops else f"gemlet: {error}; {_FULL}")
            except GemletError as error:
                common.note(f"gemlet: {error}")
            except Exception as error:  # no mistake of ours may cost the conversation
                common.note(f"gemlet: {type(error).__name__}: {error}")
            self.failures += 1

    @property
    def _drops(self) -> bool:
        return self._chat.overflow == "drop_oldest"

    def _ask(self, text: str) -> None:
        with common.media_progress() as on_media:
            stream = self._chat.stream([*self._attached, text] if self._attached else text, on_media=on_media)
        with stream:
            if stream.dropped_messages:
                count = self._chat.dropped_messages + stream.dropped_messages
                common.note(f"(the context is full: the oldest {count} messages are left out from here on)")
            self._last = stream.finish(common.write)
        self._attached.clear()
        common.write("\n")
        if self._last.finish_reason == "context":
            common.note("(the reply was cut off: the context is full" + ("" if self._drops else f"; {_FULL}") + ")")

    def _command(self, line: str) -> None:
        name, _, argument = line.partition(" ")
        argument = argument.strip()
        if name == "/help":
            common.note(HELP)
        elif name == "/reset":
            self._chat.reset()
            self._attached.clear()
        elif name == "/detach":
            self._attached.clear()
        elif name == "/image" and argument:
            self._attach(Image(expand(str(to_path(argument)))))
        elif name == "/audio" and argument:
            self._attach(Audio(expand(str(to_path(argument)))))
        elif name == "/record":
            self._attach(_recorded())
        elif name == "/undo":
            common.note("(taken back)" if self._chat.undo() else "(there is no turn to take back)")
        elif name == "/system":
            if argument:
                self._chat.system = _as_said(argument)
            common.note(self._chat.system or "(no system prompt)")
        elif name == "/overflow":
            if argument:
                self._chat.overflow = argument  # type: ignore[assignment]  # the chat checks it
            common.note(self._chat.overflow)
        elif name == "/history":
            for i, message in enumerate(self._chat.history):
                if i == self._chat.dropped_messages > 0:
                    common.note("(the model no longer sees what is above)")
                common.write(f"{message.role}: {_shown(message)}\n")
        elif name in ("/save", "/load") and argument:
            path = expand(str(to_path(argument)))
            self._chat.save(path) if name == "/save" else self._chat.load(path)
        elif name == "/stats":
            common.note(common.describe(self._last.stats) if self._last else "(no reply yet)")
        else:
            raise ArgumentError(f"{line.strip()}: no such command, or something is missing; /help lists them")

    def _attach(self, medium: Image | Audio) -> None:
        """Add it to the next message, if it is whole and the model takes such."""
        self._chat.check_media(medium)
        self._attached.append(medium)
        common.note(f"({_described(medium)}: goes with the next message)")


def _recorded() -> Audio:
    common.note("(recording; press return to end)")
    with Microphone() as microphone:
        sys.stdin.readline()
    return microphone.sound()


def _described(medium: Image | Audio) -> str:
    if isinstance(medium, Image):
        return f"picture, {medium.width} x {medium.height} pixels"
    return f"sound, {medium.seconds:.1f} s"


def _shown(message: "Message") -> str:
    """What was said, with pictures and sounds in brackets."""
    if isinstance(message.content, str):
        return message.content
    return " ".join(part if isinstance(part, str) else f"[{_described(part)}]" for part in message.content)


def _as_said(text: str) -> str:
    """What was typed, in Unicode also where the locale does not have the characters."""
    return to_text(to_bytes(text))


class _Input:
    """The messages on stdin: lines that are typed, or those of a file in a pipe."""

    def __init__(self) -> None:
        self._is_typed = sys.stdin.isatty()
        self._begun = False

    def read(self) -> str:
        """One message, of several lines perhaps. Raises EOFError at the end of the input."""
        first = self._line("> ")
        if first.lstrip().startswith('"""'):
            lines = [first.lstrip()[3:]]
            with contextlib.suppress(EOFError):  # the end of the input ends the text too
                while not lines[-1].rstrip().endswith('"""'):
                    lines.append(self._line(". "))
            return "\n".join(lines).rstrip().removesuffix('"""').strip("\n")
        lines = [first]
        with contextlib.suppress(EOFError):
            while lines[-1].endswith("\\"):
                lines[-1] = lines[-1][:-1]
                lines.append(self._line(". "))
        return "\n".join(lines)

    def _line(self, prompt: str) -> str:
        if self._is_typed:
            return input(prompt)
        line = input().removesuffix("\r")
        if not self._begun:
            self._begun = True
            for mark in _BYTE_ORDER_MARKS:
                line = line.removeprefix(mark)
        return line


_BYTE_ORDER_MARKS = ("\ufeff", "\ufeff".encode().decode("ascii", "surrogateescape"))
"""As UTF-8 and as ASCII read it."""
