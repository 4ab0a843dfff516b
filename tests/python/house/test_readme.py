"""What README.md shows is run; what cannot be run here is at least checked to exist and to parse."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"(?:<!-- not run: (?P<reason>.+?) -->\n)?```(?P<language>\w*)\n(?P<code>.*?)```\n", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block of the README, with the line it begins at and the reason why it is not run, if it is not."""

    language: str
    code: str
    line: int
    reason: str | None

    def commands(self) -> list[list[str]]:
        """Each command's words, without comments and variable settings."""
        lines = self.code.replace("\\\n", " ").splitlines()
        return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


BLOCKS = [
    Block(match["language"], match["code"], README.count("\n", 0, match.start("code")), match["reason"])
    for match in BLOCK.finditer(README)
]


def blocks(language: str, run: bool) -> list[Block]:
    return [block for block in BLOCKS if block.language == language and (block.reason is None) == run]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the README's commands run: like the repository's root, but what they write goes elsewhere. Its bin has
    `gemlet`, which is the package that the tests run on.
    """
    folder = tmp_path_factory.mktemp("readme")
    for entry in ("scripts", "docs", "tests"):
        (folder / entry).symlink_to(ROOT / entry)
    command = folder / "bin" / "gemlet"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m gemlet "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    return folder


def run(command: list[str] | str, folder: Path) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command] if isinstance(command, str) else command,
        cwd=folder,
        env=os.environ | {"PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}", "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, f"{command}: exit code {done.returncode}\n{done.stdout}"
    return done.stdout


def test_every_block_is_known() -> None:
    assert README.count("```") == 2 * len(BLOCKS)
    assert {block.language for block in BLOCKS} <= {"sh", "python", "text"}
    assert blocks("sh", run=True) and blocks("python", run=True)
    assert not blocks("python", run=False)


@pytest.mark.parametrize("block", blocks("sh", run=True), ids=lambda block: f"line {block.line}")
def test_shell_blocks_run(block: Block, workplace: Path) -> None:
    run(block.code, workplace)


def test_python_blocks_run_in_order(workplace: Path) -> None:
    run([sys.executable, "-c", "\n".join(block.code for block in blocks("python", run=True))], workplace)


@pytest.mark.parametrize("block", blocks("sh", run=False), ids=lambda block: f"line {block.line}")
def test_other_shell_blocks_parse(block: Block, workplace: Path) -> None:
    assert block.commands()
    for words in block.commands():
        options = [word.split("=")[0] for word in words if re.match(r"--?[a-zA-Z]", word)]
        if words[0] == "gemlet" or words[0] == ".venv/bin/gemlet":
            subcommand = [word for word in words[1:2] if not word.startswith("-")]
            text = run(["gemlet", *subcommand, "--help"], workplace)
        elif words[0] in ("pip", "git"):
            continue
        else:
            text = read_script(words[0])
        for option in options:
            assert re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", text), f"{words[0]} has no {option}"


def read_script(name: str) -> str:
    """The text of a script of this repository that can be started and whose syntax is right."""
    script = ROOT / name
    assert os.access(script, os.X_OK), f"{name} is missing or not executable"
    text = script.read_text(encoding="utf-8")
    if "python" in text.splitlines()[0]:
        compile(text, name, "exec")
    else:
        run(["bash", "-n", str(script)], ROOT)
    return text


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target
    for folder in re.findall(r"^\| `([\w./-]+/)` \|", README, re.MULTILINE):
        assert (ROOT / folder).is_dir(), folder


def test_figures_are_those_recorded() -> None:
    tables = runpy.run_path(str(ROOT / "scripts" / "readme_tables"))
    assert tables["filled"](README) == README, "run scripts/readme_tables"
