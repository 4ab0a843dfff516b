"""Runs Python programs that the tests write, with whatever they fork."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from conftest import cli_environment

FORK = """
import os, sys, traceback

def in_child(body):
    "Run it in a forked child, which must succeed."
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            body()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0

def raises(kind, words, body):
    try:
        body()
    except kind as error:
        assert words in str(error), error
    else:
        raise AssertionError("nothing was raised")
"""


@dataclass
class Ended:
    """How a program has ended."""

    status: int
    output: str


def run_script(code: str, *args: object) -> Ended:
    """Run a program; it and all its children are killed, and the test fails, should they hang."""
    with tempfile.TemporaryFile("w+") as output:  # a pipe would stay open as long as a forgotten child
        process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, args)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=cli_environment() | {"PYTHONPATH": f"{cli_environment()['PYTHONPATH']}:{Path(__file__).parent}"},
            start_new_session=True,
        )
        try:
            status = process.wait(60)
        except subprocess.TimeoutExpired:
            status = -signal.SIGALRM
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        output.seek(0)
        return Ended(status, output.read())
