"""Pictures: whatever holds them, their pixels are those that Pillow shows."""

from __future__ import annotations

import base64
import io
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gemlet
import numpy as np
import pytest
from gemlet import _core
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageOps

from media_files import claimed_png, picture_file, png
from media_inputs import picture

Pixels = NDArray[np.uint8]
LOSSLESS = {"PNG": {}, "WEBP": {"lossless": True}, "BMP": {}}


def shown(image: Pillow.Image) -> Pixels:
    """What Pillow shows of a picture: the oracle."""
    upright = ImageOps.exif_transpose(image)
    if upright.has_transparency_data:
        rgba = upright.convert("RGBA")
        upright = Pillow.alpha_composite(Pillow.new("RGBA", rgba.size, "white"), rgba)
    return np.asarray(upright.convert("RGB"))


def turned(orientation: int) -> bytes:
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


@pytest.mark.parametrize("format", LOSSLESS)
def test_files_without_loss_give_the_pixels(format: str) -> None:
    pixels = picture(37, 21)
    data = picture_file(Pillow.fromarray(pixels), format, **LOSSLESS[format])
    np.testing.assert_array_equal(gemlet.Image(data).pixels, pixels)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_a_jpeg_is_what_pillow_makes_of_it(options: dict[str, Any]) -> None:
    data = picture_file(Pillow.fromarray(picture(111, 73)), "JPEG", **options)
    np.testing.assert_array_equal(gemlet.Image(data).pixels, shown(Pillow.open(io.BytesIO(data))))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(10))
def test_exif_orientation(format: str, orientation: int) -> None:
    """0 and 9 mean nothing."""
    data = picture_file(Pillow.fromarray(picture(40, 24)), format, exif=turned(orientation))
    image = gemlet.Image(data)
    expected = shown(Pillow.open(io.BytesIO(data)))
    np.testing.assert_array_equal(image.pixels, expected)
    np.testing.assert_array_equal(gemlet.Image(Pillow.open(io.BytesIO(data))).pixels, expected)
    assert (image.height, image.width) == expected.shape[:2]
    assert (image.width > image.height) == (orientation not in (5, 6, 7, 8))


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0", b"Exif\0\0MM\0*\0\0\0\x08\0\x01", b"Exif\0\0II*\0\xff\xff\xff\xff", b"x" * 99]
)
def test_damaged_exif_turns_nothing(exif: bytes) -> None:
    pixels = picture(20, 10)
    data = picture_file(Pillow.fromarray(pixels), "PNG", exif=exif)
    np.testing.assert_array_equal(gemlet.Image(data).pixels, pixels)


def test_transparency_is_shown_on_white() -> None:
    """Each colour with each alpha, as Pillow composites them, to the bit."""
    colour, alpha = np.mgrid[0:256, 0:256].astype(np.uint8)
    rgba = np.stack([colour, 255 - colour, colour // 2, alpha], -1)
    image = Pillow.fromarray(rgba)
    expected = shown(image)
    for source in (rgba, image, picture_file(image, "PNG"), picture_file(image, "WEBP", lossless=True, exact=True)):
        np.testing.assert_array_equal(gemlet.Image(source).pixels, expected)
    assert (gemlet.Image(rgba).pixels[:, 0] == 255).all() and (gemlet.Image(rgba).pixels[0, 255] == (0, 255, 0)).all()


def grey_alpha() -> Pillow.Image:
    return Pillow.fromarray(picture(30, 20)).convert("L").convert("LA")


def palette(transparency: object = None) -> Pillow.Image:
    image = Pillow.fromarray(picture(30, 20)).quantize(16)
    if transparency is not None:
        image.info["transparency"] = transparency
    return image


MODES: dict[str, Callable[[], Pillow.Image]] = {
    "grey": lambda: Pillow.fromarray(picture(30, 20)).convert("L"),
    "black and white": lambda: Pillow.fromarray(picture(30, 20)).convert("1"),
    "grey with alpha": grey_alpha,
    "palette": palette,
    "palette with a transparent colour": lambda: palette(3),
    "palette with an alpha each": lambda: palette(bytes(range(0, 256, 16))),
    "colour with a transparent colour": lambda: Pillow.fromarray(np.full((9, 9, 3), (1, 2, 3), np.uint8)),
}


@pytest.mark.parametrize("mode", MODES)
def test_pictures_of_all_modes_in_png(mode: str) -> None:
    image = MODES[mode]()
    if mode == "colour with a transparent colour":
        image.info["transparency"] = (1, 2, 3)
    options = {"transparency": image.info["transparency"]} if "transparency" in image.info else {}
    data = picture_file(image, "PNG", **options)
    read = Pillow.open(io.BytesIO(data))
    assert ("transparent" in mode) == ("transparency" in read.info) or "alpha" in mode
    np.testing.assert_array_equal(gemlet.Image(data).pixels, shown(read))
    np.testing.assert_array_equal(gemlet.Image(image).pixels, shown(image))


def test_grey_of_16_bits_is_scaled_as_colours_of_16_bits_are() -> None:
    grey = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    file = png(grey, 0, 16)
    assert Pillow.open(io.BytesIO(file)).mode.startswith("I;16")
    pixels = gemlet.Image(file).pixels
    np.testing.assert_array_equal(pixels, gemlet.Image(png(np.stack([grey] * 3, -1), 2, 16)).pixels)
    np.testing.assert_array_equal(pixels[..., 0], np.arange(256)[:, None] + np.zeros(256, int))
    np.testing.assert_array_equal(gemlet.Image(Pillow.fromarray(grey)).pixels, pixels)


def test_a_transparent_grey_of_16_bits() -> None:
    grey = np.array([[0, 300, 65535]], np.uint16)
    pixels = gemlet.Image(png(grey, 0, 16, (b"tRNS", b"\x01\x2c"))).pixels
    assert pixels[0].tolist() == [[0] * 3, [255] * 3, [255] * 3]


def test_cmyk() -> None:
    data = picture_file(Pillow.fromarray(picture(30, 20)).convert("CMYK"), "JPEG", quality=95)
    read = Pillow.open(io.BytesIO(data))
    assert read.mode == "CMYK"
    np.testing.assert_array_equal(gemlet.Image(data).pixels, np.asarray(read.convert("RGB")))
    assert np.abs(gemlet.Image(data).pixels.astype(int) - picture(30, 20)).mean() < 30


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_an_animation_is_its_first_frame(format: str) -> None:
    frames = [Pillow.new("RGB", (20, 10), colour) for colour in ("red", "green", "blue")]
    data = picture_file(frames[0], format, save_all=True, append_images=frames[1:], lossless=True)
    assert getattr(Pillow.open(io.BytesIO(data)), "n_frames", 1) == 3
    np.testing.assert_array_equal(gemlet.Image(data).pixels, np.full((10, 20, 3), (255, 0, 0)))


def test_a_picture_of_many_strips_is_whole() -> None:
    pixels = picture(1700, 1900)
    for orientation in (1, 6):
        data = picture_file(Pillow.fromarray(pixels), "PNG", exif=turned(orientation), compress_level=1)
        np.testing.assert_array_equal(gemlet.Image(data).pixels, shown(Pillow.open(io.BytesIO(data))))


def test_what_the_encoder_gets_is_what_pillow_resizes() -> None:
    data = picture_file(Pillow.fromarray(picture(90, 50)), "PNG", exif=turned(8))
    upright = ImageOps.exif_transpose(Pillow.open(io.BytesIO(data)))
    expected = np.asarray(upright.resize((64, 64), Pillow.Resampling.BILINEAR))
    np.testing.assert_array_equal(_core.resize(gemlet.Image(data).pixels, 64, 64), expected)


def test_every_source_gives_the_same(tmp_path: Path) -> None:
    pixels = picture(33, 44)
    data = picture_file(Pillow.fromarray(pixels), "PNG")
    path = tmp_path / "a picture.png"
    path.write_bytes(data)
    url = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    escaped = "DATA:," + "".join(f"%{byte:02x}" for byte in data)
    for source in (path, str(path), os.fspath(path), data, bytearray(data), memoryview(data), url, escaped, pixels):
        np.testing.assert_array_equal(gemlet.Image(source).pixels, pixels)
    assert repr(gemlet.Image(path)) == f"<gemlet.Image 33x44 from {path}>"


@pytest.mark.parametrize(("shape", "channels"), [((5, 7), 1), ((5, 7, 1), 1), ((5, 7, 3), 3), ((5, 7, 4), 4)])
def test_arrays(shape: tuple[int, ...], channels: int) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    given = array.copy()
    image = gemlet.Image(given[::-1][::-1])
    given[:] = 0  # the picture is a copy
    assert image.pixels.shape == (5, 7, 3) and image.pixels.dtype == np.uint8 and not image.pixels.flags.writeable
    if channels < 4:
        np.testing.assert_array_equal(image.pixels, np.broadcast_to(array.reshape(5, 7, channels), (5, 7, 3)))
    else:
        np.testing.assert_array_equal(image.pixels, shown(Pillow.fromarray(array)))


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        (np.zeros((4, 4, 3)), gemlet.ArgumentTypeError, "array of float64, expected uint8"),
        (np.zeros((4, 4, 3), np.int64), TypeError, "array of int64"),
        (np.zeros(4, np.uint8), gemlet.ArgumentError, r"shape \(4,\), expected \(height, width\)"),
        (np.zeros((3, 4, 5), np.uint8), gemlet.ArgumentError, "the channels come last"),
        (np.zeros((1, 2, 3, 4), np.uint8), gemlet.ArgumentError, "shape"),
        (np.zeros((0, 4, 3), np.uint8), gemlet.ArgumentError, "4 x 0 pixels"),
        (np.zeros((1, 65537), np.uint8), gemlet.ArgumentError, "sides of 1 to 65536"),
        (np.broadcast_to(np.uint8(0), (8000, 8000)), gemlet.ArgumentError, "at most 50,000,000 in all"),
        (Pillow.new("F", (3, 3)), gemlet.UnsupportedError, "mode F"),
        (Pillow.new("La", (3, 3)), gemlet.UnsupportedError, "mode La, which Pillow does not show"),
        (Pillow.new("I", (3, 3)), gemlet.UnsupportedError, "mode I"),
        (b"", gemlet.FormatError, "is empty"),
        (b"MZ" * 50, gemlet.FormatError, "not a picture that can be decoded, expected JPEG, PNG"),
        ("https://example.org/cat.jpg", gemlet.ArgumentError, "nothing is downloaded"),
        ("data:image/png;base64", gemlet.FormatError, "without a comma"),
        ("data:image/png;base64,???", gemlet.FormatError, "not base64"),
        ("data:image/png;base64,\u1234", gemlet.FormatError, "not base64"),
        ("/nowhere/cat.jpg", gemlet.FileError, "No such file"),
        ("/", gemlet.FileError, "directory"),
        ("", gemlet.ArgumentError, "expected the name of a file"),
        (None, gemlet.ArgumentTypeError, "found NoneType"),
        (3, gemlet.ArgumentTypeError, "found int"),
        (claimed_png(60000, 60000), gemlet.UnsupportedError, "pixels"),
        (claimed_png(7100, 7100), gemlet.UnsupportedError, "7100 x 7100 pixels, expected at most 50,000,000"),
        (claimed_png(70000, 2), gemlet.UnsupportedError, "70000 x 2"),
        (claimed_png(70, 2), None, ""),
    ],
)
def test_what_is_no_picture(source: Any, error: type[Exception] | None, message: str) -> None:
    if error is None:
        gemlet.Image(source)  # decoding it is another matter
        return
    with pytest.raises(error, match=message):
        gemlet.Image(source)


@pytest.mark.parametrize("format", ["TIFF", "ICO", "PPM"])
def test_formats_that_are_not_decoded(format: str) -> None:
    with pytest.raises(gemlet.FormatError, match="expected JPEG, PNG, WebP, GIF or BMP"):
        gemlet.Image(picture_file(Pillow.new("RGB", (16, 16)), format))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_truncated_files_are_errors_that_name_the_file(format: str, tmp_path: Path) -> None:
    path = tmp_path / "half.img"
    data = picture_file(Pillow.fromarray(picture(200, 200)), format)
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(gemlet.FormatError, match=r"half\.img: .*"):
        gemlet.Image(path).pixels  # noqa: B018


@pytest.mark.parametrize("size", [0, -1, 65537])
def test_sizes_that_no_encoder_has(size: int) -> None:
    with pytest.raises(gemlet.ArgumentError, match="expected 1 to 65536 pixels"):
        gemlet.Image(picture(3, 3), size=size)


def test_a_size_of_another_type() -> None:
    with pytest.raises(gemlet.ArgumentTypeError, match="size: expected a whole number or None"):
        gemlet.Image(picture(3, 3), size="large")  # type: ignore[arg-type]


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    path.touch()
    os.truncate(path, (1 << 28) + 1)
    with pytest.raises(gemlet.FileError, match="larger than 268,435,456 bytes"):
        gemlet.Image(path)
    with pytest.raises(gemlet.ArgumentError, match="expected at most 268,435,456"):
        gemlet.Image(bytes((1 << 28) + 1))


def test_a_jpeg_of_countless_scans() -> None:
    """Each scan of a small file goes over all pixels."""
    data = picture_file(Pillow.fromarray(picture(64, 64)), "JPEG", progressive=True)
    begin = data.rindex(b"\xff\xda")
    scan = data[begin:-2]
    gemlet.Image(data[:begin] + 50 * scan + data[-2:])
    with pytest.raises(gemlet.UnsupportedError, match=r"a JPEG with \d+ scans, expected at most 100"):
        gemlet.Image(data[:begin] + 5000 * scan + data[-2:])


def test_what_looks_like_scans_in_metadata_counts_nothing() -> None:
    data = picture_file(Pillow.fromarray(picture(64, 64)), "JPEG", comment=b"\xff\xda" * 2000)
    assert gemlet.Image(data).pixels.shape == (64, 64, 3)
    assert gemlet.Image(data + b"\xff\xda" * 2000).pixels.shape == (64, 64, 3)  # behind its end


def test_pictures_are_equal_by_their_bytes_and_size() -> None:
    pixels = picture(8, 6)
    data = picture_file(Pillow.fromarray(pixels), "PNG")
    assert gemlet.Image(data) == gemlet.Image(bytearray(data)) and gemlet.Image(pixels) == gemlet.Image(pixels)
    assert hash(gemlet.Image(data)) == hash(gemlet.Image(data))
    others = [gemlet.Image(data, size=256), gemlet.Image(pixels), gemlet.Image(pixels.reshape(8, 6, 3)), "text"]
    assert all(gemlet.Image(data) != other for other in others) and gemlet.Image(pixels) != others[2]


def test_a_saved_picture_has_the_bytes_of_its_file() -> None:
    data = picture_file(Pillow.fromarray(picture(30, 20)), "JPEG")
    saved = gemlet.Image(data, size=512).to_dict()
    assert saved == {"type": "image", "data": f"data:image/jpeg;base64,{base64.b64encode(data).decode()}", "size": 512}
    assert gemlet.Image.of_dict(saved) == gemlet.Image(data, size=512)


@pytest.mark.parametrize("shape", [(1, 1), (7, 300), (300, 7)])
def test_saved_pixels_are_a_png_file(shape: tuple[int, int]) -> None:
    pixels = picture(*shape)
    saved = gemlet.Image(pixels).to_dict()
    assert list(saved) == ["type", "data"] and saved["data"].startswith("data:image/png;base64,")
    np.testing.assert_array_equal(gemlet.Image.of_dict(saved).pixels, pixels)
    read = Pillow.open(io.BytesIO(base64.b64decode(saved["data"].partition(",")[2])))
    np.testing.assert_array_equal(np.asarray(read), pixels)


@pytest.mark.parametrize("data", [None, 3, "/etc/passwd", "cat.png", "http://example.org/x.png"])
def test_a_saved_picture_names_no_file(data: object) -> None:
    with pytest.raises(gemlet.ArgumentError, match="expected a data: URL"):
        gemlet.Image.of_dict({"type": "image", "data": data})


def test_warnings_of_pillow_do_not_leak() -> None:
    data = picture_file(Pillow.fromarray(picture(20, 10)), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x03\x01\x12")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Pillow.open(io.BytesIO(data)).getexif()
        assert caught  # so it does warn
        caught.clear()
        assert gemlet.Image(data).pixels.shape == (10, 20, 3)
        with pytest.raises(gemlet.UnsupportedError):
            gemlet.Image(claimed_png(10000, 10000))
        assert not caught


def test_a_thread_that_decodes_leaves_no_filter_behind() -> None:
    data = picture_file(Pillow.fromarray(picture(300, 200)), "PNG")
    before = list(warnings.filters)
    threads = [threading.Thread(target=lambda: [gemlet.Image(data).pixels for _ in range(5)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before


FORKED = """
import os, threading, warnings
from gemlet.media.quiet import Silence

before = list(warnings.filters)
silence, inside, leave = Silence(), threading.Event(), threading.Event()

def decode():
    with silence():
        inside.set()
        leave.wait()

thread = threading.Thread(target=decode)
thread.start()
inside.wait()
child = os.fork()
if child == 0:
    with silence():
        pass
    os._exit(0 if list(warnings.filters) == before else 1)
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
leave.set()
thread.join()
raise SystemExit(code if list(warnings.filters) == before else 2)
"""


def test_a_child_forked_while_a_thread_decodes() -> None:
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORKED], check=True, timeout=60)


MISSING = """
import sys
sys.modules["PIL"] = None
import numpy, gemlet
image = gemlet.Image(numpy.zeros((2, 2, 4), numpy.uint8))
assert image.pixels.shape == (2, 2, 3) and image.to_dict()
try:
    gemlet.Image(b"GIF89a")
except gemlet.UnsupportedError as error:
    assert "pip install 'gemlet[media]'" in str(error)
else:
    raise AssertionError
"""


def test_arrays_need_no_library() -> None:
    subprocess.run([sys.executable, "-c", MISSING], check=True, timeout=60)


IMPORTS = """
import sys
import gemlet
from gemlet.forked import importing

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("PIL.") and not importing._is_owned():
            print(name)

sys.meta_path.insert(0, Watch())
for path in sys.argv[1:]:
    gemlet.Image(path).pixels
"""


def test_pillow_is_imported_under_the_lock_that_a_fork_waits_for(tmp_path: Path) -> None:
    exif = {"exif": turned(6)}
    paths = []
    for format, options in {"JPEG": exif, "PNG": exif, "WEBP": exif, "GIF": {}, "BMP": {}}.items():
        paths.append(tmp_path / f"a.{format}")
        paths[-1].write_bytes(picture_file(Pillow.fromarray(picture(9, 9)), format, **options))
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS, *paths], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == ""


def test_text_imports_no_library_of_media() -> None:
    code = (
        "import sys, gemlet; gemlet.Model; print([m for m in ('PIL', 'soundfile', 'soxr', 'av') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"


def test_pixels_cannot_be_made_writable() -> None:
    pixels = gemlet.Image(picture(9, 9)).pixels
    with pytest.raises(ValueError, match="WRITEABLE"):
        pixels.setflags(write=True)
