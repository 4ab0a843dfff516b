"""Pictures and sounds, as they are handed to a model: decoded here, encoded by the core."""

from gemlet.media.audio import Audio
from gemlet.media.image import Image
from gemlet.media.parts import Part, part_of

__all__ = ["Audio", "Image", "Part", "part_of"]
