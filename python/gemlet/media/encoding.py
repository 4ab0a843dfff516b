"""What stands for pictures and sounds in prompts: the encoders of a model, and what they have encoded."""

import asyncio
import threading
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from gemlet import _core
from gemlet.errors import CancelledError, UnsupportedError
from gemlet.forked import renew_in_children
from gemlet.media.audio import Audio
from gemlet.media.clips import Cutter, clips_of
from gemlet.media.encodings import EncodedMedia
from gemlet.media.image import Image

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Medium = Image | Audio
_Key = tuple[type, str, int | None]
_TOKENS_OF_A_SECOND = 6.25
"""Of sound, with the mark at its end, at least: a soft token has 16 frames of 10 ms."""


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
        self.failure: BaseException | None = None
        """What ``on_progress`` has raised in another thread than the run's."""

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


class EncodeApart(Encode):
    """A run of the encoders in another thread than the event loop's, in which its progress is told."""

    def __init__(self, on_progress: Callable[[float], object] | None = None) -> None:
        """Made in the event loop. What ``on_progress`` raises ends the run: see ``failure``."""
        super().__init__(on_progress)
        self._loop = asyncio.get_running_loop()

    def report(self, done: float, of: int) -> None:
        """Have the event loop tell the progress."""
        if self._on_progress is not None:
            self._loop.call_soon_threadsafe(self._tell, done, of)

    def _tell(self, done: float, of: int) -> None:
        try:
            if not self._cancelled:
                super().report(done, of)
        except BaseException as failure:
            self.failure = failure
            self.cancel()


class _Turn:
    """A picture or a sound that a thread encodes, for which others wait."""

    def __init__(self) -> None:
        self.lock = threading.RLock()


class MediaEncoder:
    """The encoders of a model, and what they have encoded: as long as a picture or a sound is in use, once.

    What was encoded is found by the bytes of the picture or sound and held by the objects that have these bytes, so
    that each of them may come and go.
    """

    def __init__(self, load: Callable[[], Encoders] | None = None, files: Sequence[Path] = ()) -> None:
        """``load`` is called when the first picture or sound comes; without it there are no encoders. ``files``: those
        that the encoders are in.
        """
        self._load = load
        self.files = files
        self._encoders: Encoders | None = None
        self._encoded = weakref.WeakValueDictionary[_Key, EncodedMedia]()
        self.renew_after_fork()
        renew_in_children(self)

    def renew_after_fork(self) -> None:
        """In a forked child: forget what its parent's other threads were encoding."""
        self._turns = weakref.WeakValueDictionary[_Key, _Turn]()

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
        return self.encode_all([medium], Encode())[medium]

    def encode_all(self, media: Sequence[Medium], encode: Encode) -> dict[Medium, tuple[_core.Medium, ...]]:
        """What ``encode`` gives for each of them. Only those are encoded that are not yet.

        Raises CancelledError after ``encode.cancel()``, and what ``encode`` raises.
        """
        found = {medium: self._encoded.get(_key(medium)) for medium in media}
        new = [medium for medium, encoded in found.items() if encoded is None]
        for done, medium in enumerate(new):
            found[medium] = self._encode_once(medium, encode, done, len(new))
        out = {}
        for medium in media:
            encoded = found[medium]
            assert encoded is not None
            medium._encodings.hold(self, encoded)  # each of equal ones
            out[medium] = encoded.media
        return out

    def check(self, media: Sequence[Medium]) -> None:
        """Raise what ``encode`` would raise, without encoding: decode them, and see whether the model takes such."""
        self.require(media)
        for medium in media:
            if isinstance(medium, Image):
                medium.pixels  # noqa: B018  decodes it
            else:
                medium.seconds  # noqa: B018

    def require(self, media: Sequence[Medium]) -> None:
        """Raise UnsupportedError if the model does not see, or hear, what is among them."""
        for medium in media:
            self._encoders_for(medium)

    def least_places(self, media: Sequence[Medium]) -> int:
        """The fewest places that they take in a prompt.

        Raises UnsupportedError where the model does not see or hear, and what decoding a sound raises.
        """
        return sum(map(self._least_places, media))

    def is_encoded(self, media: Sequence[Medium]) -> bool:
        """Whether nothing is left to do for ``encode``."""
        return all(_key(medium) in self._encoded for medium in media)

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

    def _encoders_for(self, medium: Medium) -> Encoders:
        return self.require_eyes() if isinstance(medium, Image) else self.require_ears()

    def _least_places(self, medium: Medium) -> int:
        encoders = self._encoders_for(medium)
        if (encoded := self._encoded.get(_key(medium))) is not None:
            return encoded.places
        if isinstance(medium, Image):
            return encoders.picture_tokens
        return max(int(medium.seconds * _TOKENS_OF_A_SECOND), 1)

    def _encode_once(self, medium: Medium, encode: Encode, done: int, of: int) -> EncodedMedia:
        """Encode it, unless another thread does: then wait for what that makes of it."""
        key = _key(medium)
        turn = self._turns.setdefault(key, _Turn())
        with turn.lock:
            encoded = self._encoded.get(key)
            if encoded is None:
                encoded = self._encoded[key] = EncodedMedia(self._run(medium, encode, done, of))
            medium._encodings.hold(self, encoded)
        return encoded

    def _run(self, medium: Medium, encode: Encode, done: int, of: int) -> tuple[_core.Medium, ...]:
        encoders = self._encoders_for(medium)
        if isinstance(medium, Image):
            return (encode.run(encoders.encode(medium.pixels, medium.size or 0), done, of),)
        clips = list(clips_of(medium.blocks(), Cutter(overlap=0)))
        parts = len(clips)
        return tuple(
            encode.run(encoders.encode_sound(clip.samples), done * parts + i, of * parts)
            for i, clip in enumerate(clips)
        )


def _key(medium: Medium) -> _Key:
    """What pictures or sounds have in common that are encoded alike."""
    return type(medium), medium.digest, medium.size if isinstance(medium, Image) else None
