"""Cuts recordings into clips that are short enough for an encoder, in the pauses of speech where there are any."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gemlet.forked import importing
from gemlet.media.sound import RATE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LONGEST = 30.0
"""Seconds of a clip, as the encoders were trained with."""
FRAME = RATE // 50
"""Samples whose power is measured together: 20 ms."""
PAUSE = 15
"""Frames of a pause: 0.3 s, more than the closure of a plosive takes."""
_QUIET = 0.1
"""The power of a pause at most, as a share of the clip's."""
_SILENT = 1e-7
"""The power of silence at most, -70 dB: no microphone is so quiet."""
_FAINT = 1e-3
"""The power of a frame in which somebody speaks at least, as a share of the loudest."""


@dataclass(frozen=True)
class Clip:
    """A piece of a recording."""

    begin: int
    """Its first sample in the recording."""
    samples: "NDArray[np.float32]"
    overlap: int = 0
    """Samples at its beginning that the clip before it has too, since there was no pause to cut in."""
    goes_on: bool = False
    """Whether its end is the next clip's beginning, for want of a pause."""

    @property
    def end(self) -> int:
        """The sample after its last one."""
        return self.begin + len(self.samples)


class Cutter:
    """Cuts a recording that comes in blocks, of which it holds no more than one clip.

    Each clip but the last ends in the quietest place of its last seconds, if that is a pause. Otherwise it has its
    greatest length, and the next one begins with its end, so that no word is in neither. How the recording comes in
    blocks changes nothing.
    """

    def __init__(self, longest: float = LONGEST, shortest: float = 20.0, overlap: float = 4.0) -> None:
        """All in seconds. ``shortest`` is of clips that end in a pause, ``overlap`` what the others have in common."""
        self._longest = round(longest * RATE)
        self._shortest = round(shortest * RATE)
        self._overlap = round(overlap * RATE)
        self._pieces: list[NDArray[np.float32]] = []
        self._held = 0
        self._begin = 0
        self._shared = 0  # samples held that the last clip had

    def feed(self, samples: "NDArray[np.float32]") -> list[Clip]:
        """Take the next samples, and give the clips that are complete: more has come than a clip may have."""
        clips = []
        for first in range(0, len(samples), self._longest):
            piece = samples[first : first + self._longest].copy()
            self._pieces.append(piece)
            self._held += len(piece)
            while self._held > self._longest:
                clips.append(self._cut())
        return clips

    def finish(self) -> list[Clip]:
        """The last clip; none if there were no samples."""
        return [Clip(self._begin, self._joined(), self._shared)] if self._held else []

    def _cut(self) -> Clip:
        held = self._joined()
        pause = pause_in(held[: self._longest], self._shortest)
        end = self._longest if pause is None else pause
        next_begin = end - self._overlap if pause is None else end
        clip = Clip(self._begin, held[:end].copy(), self._shared, next_begin < end)
        self._pieces = [held[next_begin:]]
        self._held -= next_begin
        self._begin += next_begin
        self._shared = end - next_begin
        return clip

    def _joined(self) -> "NDArray[np.float32]":
        with importing:
            import numpy as np

        return np.concatenate(self._pieces)


def clips_of(blocks: "Iterable[NDArray[np.float32]]", cutter: Cutter) -> Iterator[Clip]:
    """The clips of a recording, each as soon as it is known."""
    for block in blocks:
        yield from cutter.feed(block)
    yield from cutter.finish()


def powers(samples: "NDArray[np.float32]") -> "NDArray[np.float64]":
    """The mean square of each whole frame."""
    with importing:
        import numpy as np

    frames = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)
    mean: NDArray[np.float64] = np.square(frames, dtype=np.float64).mean(axis=1)
    return mean


def is_pause(power: float, mean_power: float) -> bool:
    """Whether nobody speaks while there is so little power, in a clip with that mean power."""
    return power <= max(_QUIET * mean_power, _SILENT)


def pause_in(samples: "NDArray[np.float32]", begin: int) -> int | None:
    """The middle of the quietest 0.3 seconds behind ``begin``, the last of equals; None if that is no pause."""
    with importing:
        import numpy as np

    frames = powers(samples)
    first = -(-begin // FRAME)
    if len(frames) - first < PAUSE:
        return None
    windows = np.lib.stride_tricks.sliding_window_view(frames[first:], PAUSE).mean(axis=1)
    quietest = len(windows) - 1 - int(np.argmin(windows[::-1]))
    if not is_pause(windows[quietest], frames.mean()):
        return None
    return (first + quietest) * FRAME + PAUSE * FRAME // 2


def audible(samples: "NDArray[np.float32]") -> tuple[int, int] | None:
    """Where the sound begins and ends that stands out of the silence around it; None if there is silence only."""
    with importing:
        import numpy as np

    padded = np.pad(samples, (0, -len(samples) % FRAME))
    frames = powers(padded)
    loud = np.flatnonzero(frames > max(_FAINT * frames.max(), _SILENT))
    return (int(loud[0]) * FRAME, min((int(loud[-1]) + 1) * FRAME, len(samples))) if len(loud) else None
