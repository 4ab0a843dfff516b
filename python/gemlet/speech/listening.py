"""Listens to a recording while it is made."""

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from gemlet import _core
from gemlet.arguments import checked_methods
from gemlet.chat.conversation import ChatModel
from gemlet.errors import ArgumentError, ArgumentTypeError
from gemlet.forked import importing
from gemlet.media.clips import FRAME, LONGEST, PAUSE, Clip, is_pause, powers
from gemlet.media.sound import RATE, worst_sample
from gemlet.speech.scribe import Scribe
from gemlet.speech.tasks import Task
from gemlet.speech.transcript import Transcript

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_LONGEST = round(LONGEST * RATE)
_SHORTEST = 20 * RATE // FRAME
"""Frames after which a clip ends in the next pause."""
_OVERLAP = 4 * RATE


@checked_methods
class Listener:
    """Takes a recording in blocks, and encodes it as it comes.

    A clip ends in the first pause after 20 seconds. If there is none, it ends after 30, and the next one begins with
    its last 4 seconds. It is transcribed then, in ``feed``, so that no more than one clip is ever held.
    """

    def __init__(self, model: ChatModel, task: Task, on_text: Callable[[str], object] | None) -> None:
        """See ``Model.listen``."""
        with importing:
            import numpy as np

        self._encoders = model._media.require_ears()
        self._scribe = Scribe(model, task, on_text)
        self._language = task.language
        self._samples = np.empty(_LONGEST, np.float32)
        self._closed = False
        self._count = 0  # samples of the clip so far
        self._begin = 0  # the clip's first sample in the recording
        self._shared = 0  # samples of it that the clip before has
        self._powers: list[float] = []  # of its whole frames
        self._stream = self._new_stream()

    def feed(self, block: "NDArray[np.floating[Any]]") -> None:
        """Hear the next samples.

        Args:
            block: float32 in [-1, 1], one channel, 16 kHz, as many as there are.

        Raises:
            ArgumentTypeError: another type of numbers, or no array.
            ArgumentError: more channels, samples that are no numbers or far too loud, or the listener is closed.
        """
        samples = _checked(block)
        if self._closed:
            raise ArgumentError("the listener is closed: it hears no more")
        while len(samples):
            taken = self._take(samples)
            samples = samples[taken:]

    def text(self) -> str:
        """What was said so far, to the last sample. The clip ends here: ask in a pause, or when the recording is over;
        what is fed afterwards begins a new clip.
        """
        return self.transcript().text

    def transcript(self) -> Transcript:
        """Like ``text``, with the times of the clips."""
        if not self._closed:
            if self._count > self._shared:
                self._end(overlap=0)
            else:
                self._begin_next(overlap=0)
        self._scribe.finish()
        seconds = self._begin / RATE
        return Transcript(self._scribe.text, tuple(self._scribe.segments), seconds, self._language)

    def close(self) -> None:
        """Hear no more. What was not asked for is dropped."""
        self._closed = True
        self._stream = None

    def __enter__(self) -> "Listener":
        """Return the listener itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _new_stream(self) -> _core.SoundStream | None:
        """None for encoders in other runtimes, which take whole clips."""
        return self._encoders.sound() if isinstance(self._encoders, _core.Encoders) else None

    def _take(self, samples: "NDArray[np.float32]") -> int:
        """Hear samples up to the end of the clip, or all; says how many."""
        before = self._count
        room = samples[: _LONGEST - before]
        self._samples[before : before + len(room)] = room
        end = before + len(room)
        pause = self._find_pause(end)
        self._count = end if pause is None else pause
        if self._stream is not None:
            self._stream.feed(self._samples[before : self._count])
        if pause is not None:
            self._end(overlap=0)
        elif end == _LONGEST:
            self._end(overlap=_OVERLAP)
        return (end if pause is None else pause) - before

    def _find_pause(self, end: int) -> int | None:
        """The end of the first pause that the new samples complete, if the clip may end there."""
        done = len(self._powers)
        for power in powers(self._samples[done * FRAME : end]):
            self._powers.append(float(power))
            if len(self._powers) >= _SHORTEST:
                quiet = sum(self._powers[-PAUSE:]) / PAUSE
                if is_pause(quiet, sum(self._powers) / len(self._powers)):
                    return len(self._powers) * FRAME
        return None

    def _end(self, overlap: int) -> None:
        """Transcribe the clip, and begin the next one with its last samples."""
        clip = Clip(self._begin, self._samples[: self._count].copy(), self._shared, overlap > 0)
        encoded = None
        if self._stream is not None:
            self._stream.finish()
            encoded = self._stream.medium()
        self._begin_next(overlap)
        self._scribe.write(clip)
        del encoded  # as long as it is held, the encoders know the clip's samples by it

    def _begin_next(self, overlap: int) -> None:
        self._begin += self._count - overlap
        self._samples[:overlap] = self._samples[self._count - overlap : self._count].copy()
        self._count = self._shared = overlap
        self._powers = list(map(float, powers(self._samples[:overlap])))
        self._stream = self._new_stream()
        if self._stream is not None:
            self._stream.feed(self._samples[:overlap])


def _checked(block: Any) -> "NDArray[np.float32]":
    with importing:
        import numpy as np

    if not isinstance(block, np.ndarray) or block.dtype.kind != "f":
        found = f"an array of {block.dtype}" if isinstance(block, np.ndarray) else type(block).__name__
        raise ArgumentTypeError(f"the block: expected an array of float32 in [-1, 1], found {found}")
    if block.ndim != 1:
        raise ArgumentError(f"the block has the shape {block.shape}, expected (samples,): one channel at {RATE} Hz")
    with np.errstate(over="ignore"):
        samples = block.astype(np.float32)
    if (worst := worst_sample(samples)) is not None:
        raise ArgumentError(f"a sample of the block is {worst}, expected numbers in [-1, 1]")
    return samples
