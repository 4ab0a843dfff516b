"""``gemlet tokenize``: text to tokens."""

from pathlib import Path
from typing import Annotated

import typer

from gemlet.cli import common


def tokenize(
    model: common.ModelArgument,
    text: Annotated[str, typer.Argument(help="The text; `-` reads stdin.")] = "-",
    bos: Annotated[bool, typer.Option(help="Put the begin-of-sequence token first.")] = False,
    special: Annotated[bool, typer.Option(help="Text like <start_of_turn> becomes its control token.")] = True,
    ids: Annotated[bool, typer.Option("--ids", help="Only the token ids, on one line.")] = False,
    as_json: common.Json = False,
) -> None:
    """Show the tokens of a text, each with its piece as the file stores it.

    Examples:

    `gemlet tokenize nano "Hello there"`

    `gemlet tokenize model.gguf --ids < book.txt | wc -w`
    """
    data = common.read_text(Path("-")) if text == "-" else text.encode("utf-8", "surrogateescape")
    loaded = common.load(model)
    tokens = loaded.tokenize(data, bos=bos, special=special)
    if as_json:
        common.show_json([{"id": token, "piece": loaded.piece(token)} for token in tokens])
    elif ids:
        common.show(" ".join(map(str, tokens)))
    else:
        for token in tokens:
            common.show(f"{token:>8}  {loaded.piece(token)!r}")
