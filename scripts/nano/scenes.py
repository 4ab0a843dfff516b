"""Pictures that nano learns to see: shapes, printed words and numbers, and bar charts, each with what is in every cell.

A picture has 256 x 256 pixels and the encoder gives one soft token for each 16 x 16 of them.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import words
from dialogue import Source
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

SIZE, CELLS = 256, 16
CELL = SIZE // CELLS
FINE = 2  # pictures are drawn at twice their size

SHAPES = ("circle", "square", "triangle", "star", "cross", "diamond", "ring")
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 39, 40),
    "blue": (31, 80, 210),
    "green": (40, 160, 60),
    "yellow": (245, 215, 40),
    "orange": (255, 130, 10),
    "purple": (130, 60, 180),
    "pink": (250, 140, 190),
    "brown": (125, 75, 35),
    "black": (15, 15, 15),
    "white": (250, 250, 250),
}
PLACES = (
    *("top left", "top middle", "top right"),
    *("middle left", "middle", "middle right"),
    *("bottom left", "bottom middle", "bottom right"),
)
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
#: What a cell shows: nothing, a shape, a bar, or a letter.
CLASSES = (None, *SHAPES, "bar", *LETTERS)
#: What a cell is the middle of: nothing, an object, or the top of a bar of this height.
MIDDLES = 11
HEIGHTS = range(1, 10)
FONT_FOLDERS = ("/usr/share/fonts/truetype/dejavu", "/usr/share/fonts/truetype/liberation")

Grid = NDArray[np.int64]


@dataclass(frozen=True)
class Thing:
    """A shape at one of nine places, or a bar with its height."""

    kind: str
    colour: str
    place: int
    height: int = 0

    @property
    def name(self) -> str:
        return f"{self.colour} {self.kind}"


@dataclass(frozen=True)
class Scene:
    """What a picture shows. `seed` gives all that does not matter: sizes, tints, fonts, noise."""

    kind: str
    things: tuple[Thing, ...]
    text: str
    seed: int

    @property
    def key(self) -> str:
        things = ",".join(f"{thing.name}@{thing.place}:{thing.height}" for thing in self.things)
        return f"{self.kind}:{self.text or things}"


@dataclass
class Drawn:
    """A picture and, of each cell, the class, the colour and what it is the middle of."""

    pixels: NDArray[np.uint8]
    classes: Grid
    colours: Grid
    middles: Grid


def shapes(source: Source) -> Scene:
    rng = source.rng
    while True:
        count = rng.choices((1, 2, 3, 4, 5), (3, 3, 3, 2, 2))[0]
        kinds, colours = rng.sample(SHAPES, rng.randint(1, 4)), rng.sample(sorted(COLOURS), rng.randint(1, 4))
        places = sorted(rng.sample(range(9), count))
        things = tuple(Thing(rng.choice(kinds), rng.choice(colours), place) for place in places)
        scene = Scene("shapes", things, "", rng.getrandbits(48))
        if source.allows(scene.key):
            return scene


def word(source: Source) -> Scene:
    rng = source.rng
    while True:
        chance = rng.random()
        if chance < 0.3:
            text = rng.choice((words.WORDS, words.SORT_WORDS, words.MATERIAL, words.FOODS)[rng.randrange(4)])
        elif chance < 0.5:
            text = rng.choice((words.NAMES, words.PETS, words.CITIES)[rng.randrange(3)])
        else:
            text = source.invented() if not source.held_out else source.unseen()
            text = text if rng.random() < 0.5 else text.lower()
        if rng.random() < 0.15:
            text = text.upper()
        if 2 <= len(text) <= 11 and all(letter in LETTERS for letter in text):
            scene = Scene("word", (Thing("word", rng.choice(sorted(COLOURS)), 4),), text, rng.getrandbits(48))
            if source.allows(scene.key):
                return scene


def number(source: Source) -> Scene:
    rng = source.rng
    digits = rng.randint(1, 5)
    while True:
        text = str(rng.randint(10 ** (digits - 1) if digits > 1 else 0, 10**digits - 1))
        scene = Scene("number", (Thing("number", rng.choice(sorted(COLOURS)), 4),), text, rng.getrandbits(48))
        if len(text) == 1 or source.allows(scene.key):
            return scene


def chart(source: Source) -> Scene:
    rng = source.rng
    while True:
        count = rng.randint(2, 5)
        heights = rng.sample(HEIGHTS, count)
        colours = rng.sample(sorted(COLOURS), count)
        bars = tuple(Thing("bar", colours[i], i, heights[i]) for i in range(count))
        scene = Scene("chart", bars, "", rng.getrandbits(48))
        if source.allows(scene.key):
            return scene


KINDS = {"shapes": shapes, "word": word, "number": number, "chart": chart}
SHARES = (0.5, 0.22, 0.1, 0.18)


def any_scene(source: Source) -> Scene:
    return KINDS[source.rng.choices(tuple(KINDS), SHARES)[0]](source)


# --- drawing ---


@functools.cache
def font_files() -> tuple[str, ...]:
    """Upright fonts of the usual free families, in a fixed order."""
    files = [path for folder in FONT_FOLDERS for path in sorted(Path(folder).glob("*.ttf"))]
    found = tuple(str(path) for path in files if "Italic" not in path.name and "Oblique" not in path.name)
    found = tuple(path for path in found if "ExtraLight" not in path and "TeX" not in path)
    if not found:
        raise FileNotFoundError(f"fonts: none in {' or '.join(FONT_FOLDERS)} (fonts-dejavu, fonts-liberation)")
    return found


@functools.lru_cache(maxsize=1024)
def font(file: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(file, size)


def tint(rng: Random, colour: str) -> tuple[int, int, int]:
    red, green, blue = (min(255, max(0, value + rng.randint(-18, 18))) for value in COLOURS[colour])
    return red, green, blue


def ground(rng: Random, colours: Sequence[str]) -> tuple[int, int, int]:
    """A pale or dark grey with a tint, far from all colours of what lies on it."""
    while True:
        level = rng.choices((rng.randint(205, 255), rng.randint(0, 50), rng.randint(90, 170)), (8, 3, 1))[0]
        red, green, blue = (min(255, max(0, level + rng.randint(-14, 14))) for _ in range(3))
        if all(math.dist((red, green, blue), COLOURS[colour]) > 100 for colour in colours):
            return red, green, blue


class Canvas:
    """Draws things and marks their cells."""

    def __init__(self, rng: Random, colours: Sequence[str]) -> None:
        self.rng = rng
        self.image = Image.new("RGB", (SIZE * FINE, SIZE * FINE), ground(rng, colours))
        self.draw = ImageDraw.Draw(self.image)
        self.classes, self.colours, self.middles = (np.zeros((CELLS, CELLS), np.int64) for _ in range(3))

    def polygon(self, points: Sequence[tuple[float, float]], fill: tuple[int, int, int]) -> None:
        self.draw.polygon([(x * FINE, y * FINE) for x, y in points], fill=fill)

    def rectangle(self, x0: float, y0: float, x1: float, y1: float, fill: tuple[int, int, int]) -> None:
        self.draw.rectangle((x0 * FINE, y0 * FINE, x1 * FINE - 1, y1 * FINE - 1), fill=fill)

    def mark(self, x: float, y: float, half_width: float, half_height: float, name: str, colour: str) -> None:
        """Cells whose middle is in the box show the object."""
        columns = np.abs((np.arange(CELLS) + 0.5) * CELL - x) <= max(half_width, CELL / 2)
        rows = np.abs((np.arange(CELLS) + 0.5) * CELL - y) <= max(half_height, CELL / 2)
        where = rows[:, None] & columns[None, :]
        self.classes[where] = CLASSES.index(name)
        self.colours[where] = 1 + list(COLOURS).index(colour)

    def middle(self, x: float, y: float, value: int = 1) -> None:
        self.middles[min(CELLS - 1, int(y // CELL)), min(CELLS - 1, int(x // CELL))] = value

    def finish(self) -> Drawn:
        rng = self.rng
        image = self.image.reduce(FINE)
        if rng.random() < 0.2:
            image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.9)))
        pixels = np.array(image)
        if rng.random() < 0.5:
            noise = np.random.default_rng(rng.getrandbits(32)).normal(0, rng.uniform(1, 9), pixels.shape)
            pixels = np.clip(pixels + noise, 0, 255).astype(np.uint8)
        return Drawn(pixels, self.classes, self.colours, self.middles)


def draw(scene: Scene) -> Drawn:
    rng = Random(scene.seed)
    canvas = Canvas(rng, [thing.colour for thing in scene.things])
    if scene.kind == "shapes":
        for thing in scene.things:
            draw_shape(canvas, thing)
    elif scene.kind == "chart":
        draw_chart(canvas, scene.things)
    else:
        draw_text(canvas, scene.text, scene.things[0].colour)
    return canvas.finish()


def draw_shape(canvas: Canvas, thing: Thing) -> None:
    rng, third = canvas.rng, SIZE / 3
    radius = rng.uniform(19, 38)
    play = third / 2 - radius - 2
    x = (thing.place % 3 + 0.5) * third + rng.uniform(-play, play)
    y = (thing.place // 3 + 0.5) * third + rng.uniform(-play, play)
    colour = tint(rng, thing.colour)
    turn = rng.uniform(-0.25, 0.25)
    if thing.kind in ("circle", "ring"):
        box = [(value * FINE) for value in (x - radius, y - radius, x + radius, y + radius)]
        if thing.kind == "circle":
            canvas.draw.ellipse(box, fill=colour)
        else:
            canvas.draw.ellipse(box, outline=colour, width=int(radius * FINE * rng.uniform(0.22, 0.4)))
    else:
        outline = corners(thing.kind, rng)
        canvas.polygon(
            [
                (
                    x + radius * (a * math.cos(turn) - b * math.sin(turn)),
                    y + radius * (a * math.sin(turn) + b * math.cos(turn)),
                )
                for a, b in outline
            ],
            colour,
        )
    canvas.mark(x, y, radius * 0.75, radius * 0.75, thing.kind, thing.colour)
    canvas.middle(x, y)


def corners(kind: str, rng: Random) -> list[tuple[float, float]]:
    """Of a shape in a circle of radius 1."""
    if kind == "square":
        return [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)]
    if kind == "triangle":
        return [(0, -1), (0.9, 0.75), (-0.9, 0.75)]
    if kind == "diamond":
        return [(0, -1), (0.68, 0), (0, 1), (-0.68, 0)]
    if kind == "star":
        inner = rng.uniform(0.38, 0.48)
        return [
            (r * math.sin(i * math.pi / 5), -r * math.cos(i * math.pi / 5))
            for i in range(10)
            for r in [(1, inner)[i % 2]]
        ]
    arm = rng.uniform(0.24, 0.34)
    quarter = [(-arm, -1), (arm, -1), (arm, -arm), (1, -arm), (1, arm), (arm, arm), (arm, 1), (-arm, 1)]
    return [*quarter, (-arm, arm), (-1, arm), (-1, -arm), (-arm, -arm)]


def draw_text(canvas: Canvas, text: str, colour: str) -> None:
    """Letters in one row. Their middles lie at least one cell apart, so that each has a cell of its own."""
    rng = canvas.rng
    file = rng.choice(font_files())
    room = SIZE - 12
    size = rng.randint(26, 72)
    while True:
        letters = font(file, size * FINE)
        widths = [letters.getlength(letter) / FINE for letter in text]
        steps = [max((a + b) / 2 + 1, CELL + 1) for a, b in itertools.pairwise(widths)]
        length = widths[0] / 2 + sum(steps) + widths[-1] / 2
        if length <= room or size <= 20:
            break
        size -= 2
    x = widths[0] / 2 + 6 + rng.uniform(0, max(0.0, room - length))
    y = rng.uniform(size * 0.7, SIZE - size * 0.7)
    fill = tint(rng, colour)
    for index, letter in enumerate(text):
        canvas.draw.text((x * FINE, y * FINE), letter, font=letters, fill=fill, anchor="mm")
        canvas.mark(x, y, 0, 0, letter, colour)
        canvas.middle(x, y)
        x += steps[index] if index < len(steps) else 0


def draw_chart(canvas: Canvas, bars: Sequence[Thing]) -> None:
    """Bars on a base line, with a thin line behind them for each unit of height."""
    rng = canvas.rng
    unit, base, left = 24, SIZE - 20, 18
    lines = 110 + rng.randint(-30, 30)
    for level in range(10):
        thick = 2 if level in (0, 5) else 1
        y = base - level * unit
        canvas.rectangle(left, y, SIZE - 6, y + thick, (lines, lines, lines))
    step = (SIZE - left - 10) / len(bars)
    half = step * rng.uniform(0.25, 0.4)
    for bar in bars:
        x, top = left + (bar.place + 0.5) * step, base - bar.height * unit
        canvas.rectangle(x - half, top, x + half, base, tint(rng, bar.colour))
        canvas.mark(x, (top + base) / 2, half * 0.8, (base - top) / 2, "bar", bar.colour)
        canvas.middle(x, top, 1 + bar.height)
