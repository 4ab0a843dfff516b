"""``gemlet perplexity``: the perplexity of a text."""

import math
from pathlib import Path
from typing import Annotated

import typer

from gemlet.cli import common


def perplexity(
    model: common.ModelArgument,
    file: Annotated[Path, typer.Argument(parser=common.path, help="A text file; `-` reads stdin.")],
    window: Annotated[int | None, typer.Option(help="Tokens in a window. Default: 512.")] = None,
    stride: Annotated[int | None, typer.Option(help="Tokens between windows. Default: as the window.")] = None,
    threads: common.Threads = None,
    slice: common.Slice = None,
    cache: common.Cache = "f16",
    as_json: common.Json = False,
) -> None:
    """Measure the perplexity of a text, that is how well the model predicts it; lower is better.

    As llama-perplexity does: windows without overlap, each begun by the begin-of-sequence token; the second half of
    each is scored.

    Examples:

    `gemlet perplexity model.gguf wiki.test.raw`

    `gemlet perplexity model.gguf book.txt --window 1024 --stride 512 --json`
    """
    import numpy as np

    from gemlet.scoring import scores

    text = common.read_text(file)
    loaded = common.load(model, threads, max(window or 0, 512) if window else None, slice, cache)
    parts = []
    with common.progress("Scoring") as advance:
        for score in scores(loaded, text, window, stride):
            parts.append(score.nll)
            advance(score.window, score.windows)
    nll = np.concatenate(parts)
    value = float(np.exp(nll.mean()))
    error = value * float(nll.std(ddof=1)) / math.sqrt(len(nll)) if len(nll) > 1 else None
    if as_json:
        common.show_json({"perplexity": value, "error": error, "tokens": len(nll), "windows": len(parts)})
        return
    counted = f"{_count(len(nll), 'token')} in {_count(len(parts), 'window')}"
    common.show(f"perplexity {value:.4f}{'' if error is None else f' ± {error:.4f}'} ({counted})")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
