"""``gemlet demo``: the sample model replies to a few prompts."""

from typing import TYPE_CHECKING

from gemlet.cli import common

if TYPE_CHECKING:
    from gemlet.chat.conversation import Chat
    from gemlet.result import GenerateResult

CONVERSATION = (
    "My name is Clara.",
    "What is 27 + 15?",
    "What is the capital of Portugal?",
    'How do you say "good morning" in Italian?',
    "Sort these words: yellow, island, queen, table",
    "What is my name?",
)


TOOLS = "Tools: set_alarm(time), play_music(artist)"
REQUEST = "Play music by Clara."


def demo(threads: common.Threads = None) -> None:
    """Let the sample model that comes with gemlet reply to a few prompts.

    It is a small test model that was trained for such questions; it knows little else. `gemlet chat` chats with it.
    """
    model = common.load("nano", threads)
    chat = model.chat(temperature=0.0)
    for text in CONVERSATION:
        _show(chat, text)
    common.write(f"({TOOLS})\n")
    result = _show(model.chat(TOOLS, temperature=0.0), REQUEST)
    common.note(common.describe(result.stats))


def _show(chat: "Chat", text: str) -> "GenerateResult":
    common.write(f"> {text}\n")
    result = chat.send(text, on_text=common.write)
    common.write("\n\n")
    return result
