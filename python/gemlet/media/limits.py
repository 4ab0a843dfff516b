"""What of a picture or sound is refused, whatever its file claims."""

MOST_PIXELS = 50_000_000
"""Of a picture, as the largest phone cameras take them. Decoding takes some 7 bytes a pixel, a progressive JPEG 13."""
LONGEST_SIDE = 65536
"""Of a picture, in pixels: the core resizes no longer ones."""
MOST_SCANS = 100
"""Of a progressive JPEG, each of which goes over the whole picture; encoders write about ten."""
MOST_BYTES = 1 << 28
"""Of a file that is held in memory: 256 MiB, more than the longest sound and the largest picture have uncompressed."""
MOST_CHANNELS = 32
"""Of a sound."""
LOWEST_RATE = 4000
HIGHEST_RATE = 768_000
"""Samples a second of a sound, in each channel."""
LOUDEST = 16.0
"""The magnitude of a sample, which is nominally at most 1: the core takes no louder ones."""
LONGEST_SOUND = 3600
"""Seconds of a sound that is held as samples: 230 MB an hour."""
LONGEST_RECORDING = 24 * 3600
"""Seconds of a sound that is decoded block by block."""
