"""``gemlet pull``: download a model."""

from typing import Annotated

import typer

from gemlet.cli import common


def pull(
    name: Annotated[
        str,
        typer.Argument(metavar="OWNER/REPO[:QUANT]", help="A repository of the Hugging Face hub, or `gemma-3-270m`."),
    ],
    as_json: common.Json = False,
) -> None:
    """Download a model from the Hugging Face hub, or bring the one that is here up to date.

    Of a repository with several GGUF files Q4_K_M is taken, else Q4_0, unless one is named. A download that was
    interrupted goes on where it ended. The files go into the Hugging Face cache (HF_HOME), which its other programs
    share; HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE are heeded.

    Examples:

    `gemlet pull unsloth/gemma-3-1b-it-GGUF`

    `gemlet pull unsloth/gemma-3n-E2B-it-GGUF:Q8_0`

    `gemlet pull google/gemma-3-1b-it-qat-q4_0-gguf/gemma-3-1b-it-q4_0.gguf`
    """
    from gemlet.hub import package
    from gemlet.hub.reference import parse_or_raise

    if name == package.NAME:
        with common.progress("Joining the parts") as advance:
            path = package.find_gemma_270m(advance)
        size, downloaded, is_current = path.stat().st_size, 0, True
        common.note(package.TERMS)
    else:
        wanted = parse_or_raise(name)
        from gemlet.hub.download import pull as pull_model

        with common.progress(f"Pulling {wanted.repo}") as advance:
            pulled = pull_model(wanted, advance)
        path, size, downloaded, is_current = pulled.path, pulled.bytes, pulled.downloaded, pulled.is_current
    if as_json:
        common.show_json({"path": str(path), "bytes": size, "downloaded": downloaded, "current": is_current})
    else:
        common.show(f"{path}: {common.size(size)}")
    if not is_current:
        common.note("the hub cannot be asked now whether there is a newer version; this one was pulled before")
