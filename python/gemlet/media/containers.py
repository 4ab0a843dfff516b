"""Tells a sound file's container by its first bytes: which library decodes it is decided here, not by the libraries,
which know many formats that nobody sends and that files from anywhere could attack."""

from dataclasses import dataclass

HEAD = 16
"""Bytes that tell it."""


@dataclass(frozen=True)
class Container:
    """A kind of file that has sound in it."""

    name: str
    mime: str
    demuxer: str = ""
    """FFmpeg's, by PyAV; libsndfile decodes the others."""


WAV = Container("WAV", "audio/wav")
FLAC = Container("FLAC", "audio/flac")
OGG = Container("Ogg", "audio/ogg")
MP3 = Container("MP3", "audio/mpeg")
AIFF = Container("AIFF", "audio/aiff")
MP4 = Container("MP4", "audio/mp4", "mp4")
MATROSKA = Container("Matroska or WebM", "audio/webm", "matroska")
AAC = Container("AAC", "audio/aac", "aac")
AMR = Container("AMR", "audio/amr", "amr")
ASF = Container("WMA", "audio/x-ms-wma", "asf")
AVI = Container("AVI", "video/x-msvideo", "avi")


def container_of(head: bytes) -> Container | None:
    """The container of a file that begins so; None for one that is not decoded."""
    match head[:4]:
        case b"RIFF" if head[8:12] == b"AVI ":
            return AVI
        case b"RIFF" | b"RIFX" | b"RF64":
            return WAV
        case b"FORM":
            return AIFF
        case b"fLaC":
            return FLAC
        case b"OggS":
            return OGG
        case b"\x1a\x45\xdf\xa3":
            return MATROSKA
        case b"\x30\x26\xb2\x75":
            return ASF
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide"):
        return MP4
    if head.startswith(b"#!AMR"):
        return AMR
    if head.startswith(b"ID3"):
        return MP3
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        return AAC if head[1] & 0x06 == 0 else MP3  # the layer, of which AAC has none
    return None
