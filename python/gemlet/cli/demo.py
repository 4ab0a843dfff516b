"""``gemlet demo``: the model that comes with gemlet answers a few prompts."""

from gemlet.cli import common

TURNS = (
    "My name is Clara.",
    "What is 27 + 15?",
    "What is the capital of Portugal?",
    'How do you say "good morning" in Italian?',
    "Sort these numbers: 42, 7, 19, 3",
    "What is my name?",
)


def demo(threads: common.Threads = None) -> None:
    """Let the model that comes with gemlet answer a few prompts.

    It is a small test model that was trained for such questions; it knows little else. `gemlet chat` talks to it.
    """
    model = common.load("nano", threads)
    chat = model.chat(temperature=0.0)
    for text in TURNS:
        common.write(f"> {text}\n")
        result = chat.send(text, on_text=common.write)
        common.write("\n\n")
    common.note(common.describe(result.stats))
