"""``gemlet list`` and ``gemlet rm``: the models on this machine."""

import sys
from datetime import UTC, datetime
from typing import Annotated

import typer

from gemlet.cli import common
from gemlet.errors import ArgumentError


def list_models(as_json: common.Json = False) -> None:
    """List the models on this machine that have a name: what comes with gemlet, what was pulled, what Ollama has.

    Examples:

    `gemlet list`

    `gemlet list --json | jq -r '.[].name'`
    """
    from gemlet.hub.installed import list_models as find_models
    from gemlet.hub.installed import unfinished_downloads

    models = find_models()
    if as_json:
        entries = [
            {
                "name": model.name,
                "bytes": model.bytes,
                "path": str(model.path),
                "origin": model.origin,
                "last_used": datetime.fromtimestamp(model.used, UTC).isoformat(timespec="seconds"),
            }
            for model in models
        ]
        common.show_json(entries)
        return
    rows = [
        (
            model.name,
            common.size(model.bytes),
            model.origin,
            datetime.fromtimestamp(model.used).strftime("%Y-%m-%d"),
            str(model.path),
        )
        for model in models
    ]
    common.show(common.table(("name", "size", "from", "last used", "where"), rows, left=5))
    for repo, size in unfinished_downloads().items():
        common.note(
            f"{repo}: {common.size(size)} of an interrupted download: gemlet pull goes on with it, "
            f"gemlet rm {repo} deletes it"
        )


def remove(
    name: Annotated[str, typer.Argument(help="A name that `gemlet list` shows; OWNER/REPO for all of it.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: common.Json = False,
) -> None:
    """Delete a model that was pulled; nothing else is deleted, and no symbolic link is followed out of the cache.

    Examples:

    `gemlet rm unsloth/gemma-3-1b-it-GGUF:Q4_K_M`

    `gemlet rm gemma-3-270m --yes`
    """
    from gemlet.hub.installed import plan_removal

    removal = plan_removal(name)
    if not yes:
        if not sys.stdin.isatty():
            raise ArgumentError(f"{removal.name}: deleting {common.size(removal.bytes)} needs --yes without a terminal")
        for file in removal.files:
            common.note(str(file))
        typer.confirm(common.plain(f"Delete {removal.name}, {common.size(removal.bytes)}?"), abort=True, err=True)
    removal.run()
    if as_json:
        common.show_json({"name": removal.name, "bytes": removal.bytes, "files": [str(f) for f in removal.files]})
    else:
        common.show(f"{removal.name}: deleted, {common.size(removal.bytes)} freed")
