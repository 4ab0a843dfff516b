"""What encoders have made of pictures and sounds."""

import weakref
from dataclasses import dataclass

from gemlet import _core


@dataclass(frozen=True, eq=False)
class EncodedMedia:
    """What stands for a picture or a sound in prompts: one medium for a picture, one for each clip of a sound."""

    media: tuple[_core.Medium, ...]

    @property
    def places(self) -> int:
        """Places that they take in a prompt."""
        return sum(medium.count for medium in self.media)


class Encodings:
    """What each model has made of one picture or sound, held as long as that and the model live. Copies and pickles of
    a picture or a sound begin without."""

    def __init__(self) -> None:
        self._by_encoder = weakref.WeakKeyDictionary[object, EncodedMedia]()

    def hold(self, encoder: object, encoded: EncodedMedia) -> None:
        """Keep what the encoders of a model have made."""
        self._by_encoder[encoder] = encoded

    def __reduce__(self) -> tuple[type["Encodings"], tuple[()]]:
        """For copies and pickles."""
        return Encodings, ()
