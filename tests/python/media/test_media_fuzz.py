"""A picture or sound is whatever somebody sent: each of many mutations gives pixels or samples, or an error of the
package's, within bounds of memory, and ends no process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import hostile_media
from mutations import cases, seed

MOST_MEMORY = 800 << 20
"""Above what the good files took: a progressive JPEG of the most pixels that are decoded takes 13 bytes for each."""


def test_every_mutation_is_decoded_or_refused() -> None:
    tried = cases(300)
    command = [sys.executable, hostile_media.__file__, str(seed(9)), str(tried)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(hostile_media.__file__).parent, check=False)
    said = done.stdout.splitlines()
    assert done.returncode == 0, f"{said[-1:]}: exit code {done.returncode}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    taken, memory = map(int, said[-1].split())
    assert memory < MOST_MEMORY
    assert tried < 100 or tried / 20 < taken < tried
