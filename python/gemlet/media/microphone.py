"""Recording, with a program of the system that knows its microphone."""

import os
import shutil
import subprocess
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Final

from gemlet.errors import FileError, UnsupportedError
from gemlet.forked import importing
from gemlet.media.audio import Audio
from gemlet.media.limits import LONGEST_SOUND
from gemlet.media.sound import RATE

if TYPE_CHECKING:
    from typing import Self

_PROGRAMS: Final = (
    ("arecord", "-q", "-t", "raw", "-f", "S16_LE", "-c", "1", "-r", str(RATE)),  # ALSA
    ("parec", "--raw", "--format=s16le", "--channels=1", f"--rate={RATE}"),  # PulseAudio and PipeWire
    ("rec", "-q", "-t", "raw", "-e", "signed-integer", "-b", "16", "-c", "1", "-r", str(RATE), "-"),  # SoX, also macOS
)
"""Each writes samples of 16 bits, least byte first, to its standard output."""


class Microphone:
    """The microphone, which is recorded as long as the ``with`` block runs."""

    def __enter__(self) -> "Self":
        """Begin. Raises UnsupportedError where no program records, and FileError where it does not start."""
        command = next((command for command in _PROGRAMS if shutil.which(command[0])), None)
        if command is None:
            names = ", ".join(program for program, *_ in _PROGRAMS)
            raise UnsupportedError(f"nothing here records sound: expected one of the programs {names}")
        self._name = command[0]
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        except OSError as error:
            raise FileError(f"{self._name}: {error.strerror}") from error
        self._samples = bytearray()
        self._errors = b""
        self._readers = [threading.Thread(target=read, daemon=True) for read in (self._read, self._read_errors)]
        for reader in self._readers:
            reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""
        self._process.terminate()
        for reader in self._readers:
            reader.join()
        self._process.wait()

    def sound(self) -> Audio:
        """What was recorded. Raises FileError, with what the program said, where nothing was."""
        with importing:
            import numpy as np

        data = bytes(self._samples[: len(self._samples) // 2 * 2])
        if not data:
            said = self._errors.decode("utf-8", "replace").strip() or "there was no sound"
            raise FileError(f"{self._name} has recorded nothing: {said:.200}")
        return Audio(np.frombuffer(data, "<i2").astype(np.int16), RATE)

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            while (block := os.read(output.fileno(), 1 << 14)) and len(self._samples) < 2 * RATE * LONGEST_SOUND:
                self._samples += block

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as errors:
            self._errors = errors.read(1 << 14)
