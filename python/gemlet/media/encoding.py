"""What stands for pictures and sounds in prompts: the encoders of a model, and what they have encoded."""

import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from gemlet import _core
from gemlet.errors import CancelledError, UnsupportedError
from gemlet.media.audio import Audio
from gemlet.media.clips import Cutter, clips_of
from gemlet.media.image import Image

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Medium = Image | Audio


class Encoding(Protocol):
    """A picture or a sound that is being encoded, while somebody waits for it."""

    def next(self) -> float | None:
        """Go on; the share that is done, or None at the end."""

    def cancel(self) -> None:
        """Let who waits get CancelledError; from any thread."""

    def finish(self) -> _core.Medium:
        """What has been encoded, at the end."""


class Encoders(Protocol):
    """The encoders of a model, in whatever runtime."""

    @property
    def sees(self) -> bool:
        """Whether they take pictures."""

    @property
    def hears(self) -> bool:
        """Whether they take sounds."""

    @property
    def picture_tokens(self) -> int:
        """Places that a picture takes in a prompt."""

    def encode(self, pixels: "NDArray[np.uint8]", size: int = 0) -> Encoding:
        """Begin to encode a picture, uint8[height][width][3]."""

    def encode_sound(self, samples: "NDArray[np.float32]") -> Encoding:
        """Begin to encode a sound of at most 30 seconds, float32 at 16 kHz."""


class Encode:
    """One run of the encoders, which another thread may watch and cancel."""

    def __init__(self, on_progress: Callable[[float], object] | None = None) -> None:
        """``on_progress`` gets the share of the pictures and sounds that is encoded, from 0 to 1."""
        self._on_progress = on_progress
        self._current: Encoding | None = None
        self._cancelled = False

    def cancel(self) -> None:
        """Stop; what is being encoded raises CancelledError."""
        self._cancelled = True
        if (current := self._current) is not None:
            current.cancel()

    def run(self, encoding: Encoding, done: int, of: int) -> _core.Medium:
        """Wait for an encoding, which is number ``done`` of so many."""
        self._current = encoding
        if self._cancelled:
            raise CancelledError("the encoding of a picture or a sound was cancelled")
        while (share := encoding.next()) is not None:
            self.report(done + share, of)
        self.report(done + 1, of)
        return encoding.finish()

    def report(self, done: float, of: int) -> None:
        """Tell the progress."""
        if self._on_progress is not None:
            self._on_progress(done / of)


class MediaEncoder:
    """The encoders of a model, and what they have encoded: as long as a picture or a sound is in use, once."""

    def __init__(self, load: Callable[[], Encoders] | None = None) -> None:
        """``load`` is called when the first picture or sound comes; without it there are no encoders."""
        self._load = load
        self._encoders: Encoders | None = None
        self._encoded = weakref.WeakKeyDictionary[Medium, tuple[_core.Medium, ...]]()

    @property
    def encoders(self) -> Encoders:
        """The encoders, loaded now if they are not yet.

        Raises UnsupportedError for a model without any, and what loading them raises.
        """
        if self._load is None:
            raise UnsupportedError(
                "the model has no eyes or ears: it was loaded without encoders of pictures and sound. Give "
                "gemlet.load(..., media=...), or --media on the command line, the file that holds them (an mmproj, "
                "which gemlet convert --mmproj writes)"
            )
        if self._encoders is None:
            self._encoders = self._load()
        return self._encoders

    def encode(self, medium: Medium) -> tuple[_core.Medium, ...]:
        """What stands for a picture or a sound in a prompt: one for a picture, one for each clip of a sound.

        Raises:
            UnsupportedError: the model does not see or hear.
            GemletError: what decoding it raises.
        """
        self.encode_all([medium], Encode())
        return self._encoded[medium]

    def encode_all(self, media: Sequence[Medium], encode: Encode) -> None:
        """Encode what is not encoded yet, so that ``encode`` finds it.

        Raises CancelledError after ``encode.cancel()``, and what ``encode`` raises.
        """
        new = [medium for medium in dict.fromkeys(media) if medium not in self._encoded]
        for done, medium in enumerate(new):
            self._encoded[medium] = self._run(medium, encode, done, len(new))

    def check(self, media: Sequence[Medium]) -> None:
        """Raise what ``encode`` would raise, without encoding: decode them, and see whether the model takes such."""
        for medium in media:
            if isinstance(medium, Image):
                self.require_eyes()
                medium.pixels  # noqa: B018  decodes it
            else:
                self.require_ears()
                medium.seconds  # noqa: B018

    def least_places(self, media: Sequence[Medium]) -> int:
        """The fewest places that they take in a prompt. Raises UnsupportedError where the model does not see."""
        return sum(self.require_eyes().picture_tokens if isinstance(medium, Image) else 1 for medium in media)

    def is_encoded(self, media: Sequence[Medium]) -> bool:
        """Whether nothing is left to do for ``encode``."""
        return all(medium in self._encoded for medium in media)

    def require_eyes(self) -> Encoders:
        """The encoders. Raises UnsupportedError for a model that does not see, and what loading them raises."""
        if not (encoders := self.encoders).sees:
            raise UnsupportedError("the model has no eyes: its encoders take sound only")
        return encoders

    def require_ears(self) -> Encoders:
        """The encoders. Raises UnsupportedError for a model that does not hear, and what loading them raises."""
        if not (encoders := self.encoders).hears:
            raise UnsupportedError("the model has no ears: its encoders take pictures only")
        return encoders

    def _run(self, medium: Medium, encode: Encode, done: int, of: int) -> tuple[_core.Medium, ...]:
        if isinstance(medium, Image):
            return (encode.run(self.require_eyes().encode(medium.pixels, medium.size or 0), done, of),)
        encoders = self.require_ears()
        clips = list(clips_of(medium.blocks(), Cutter(overlap=0)))
        parts = len(clips)
        return tuple(
            encode.run(encoders.encode_sound(clip.samples), done * parts + i, of * parts)
            for i, clip in enumerate(clips)
        )
