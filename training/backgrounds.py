"""A bank of backgrounds for digit scenes: photographs, paper, gradients and textures.

Photographs come from a folder, and always from the two pictures that scikit-learn ships. The left
part of each picture serves training and the rest testing, so that no test scene shows a patch of
photograph that training has seen.
"""

from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_sample_images

FloatArray = npt.NDArray[np.float32]
ByteArray = npt.NDArray[np.uint8]

TRAINING_SHARE = 0.7
PHOTO_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
# Letters that nobody takes for a digit: the detector must not fire on every stroke.
_LETTERS = "AEFHKMNRTWXYVadefhkmnrtuvwxyÄÜ&%#@?!"


def load_photos(folder: Path | None, part: Literal["train", "test"]) -> list[Image.Image]:
    """Return the training (left) or testing (right) part of every photograph.

    ``folder`` may be None; then only scikit-learn's two sample pictures are used.
    Raises FileNotFoundError where ``folder`` is given and does not exist.
    """
    photos = [Image.fromarray(picture) for picture in load_sample_images().images]
    if folder is not None:
        if not folder.is_dir():
            raise FileNotFoundError(f"no folder of photographs at {folder}")
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() in PHOTO_SUFFIXES:
                with Image.open(path) as picture:
                    photos.append(picture.convert("RGB"))
    parts: list[Image.Image] = []
    for photo in photos:
        photo.thumbnail((1600, 1600))
        border = int(photo.width * TRAINING_SHARE)
        box = (0, 0, border, photo.height) if part == "train" else (border, 0, *photo.size)
        parts.append(photo.crop(box))
    return parts


class BackgroundBank:
    """``count`` square RGB tiles of ``side`` pixels, made once; scenes take crops of them."""

    def __init__(self, count: int, side: int, seed: int, photos: list[Image.Image]) -> None:
        rng = np.random.default_rng(seed)
        self.side = side
        self.tiles = np.empty((count, side, side, 3), np.uint8)
        for i in range(count):
            self.tiles[i] = _tile(rng, side, photos)

    def crops(self, rng: np.random.Generator, count: int, height: int, width: int) -> FloatArray:
        """Return ``count`` crops (count, height, width, 3) in 0..255, flipped and recoloured.

        Raises ValueError where a crop is larger than the tiles.
        """
        if max(height, width) > self.side:
            raise ValueError(f"a {height}x{width} crop does not fit a tile of {self.side} pixels")
        out = np.empty((count, height, width, 3), np.float32)
        for i in range(count):
            tile = self.tiles[rng.integers(len(self.tiles))]
            top = int(rng.integers(0, self.side - height + 1))
            left = int(rng.integers(0, self.side - width + 1))
            crop = tile[top : top + height, left : left + width]
            if rng.random() < 0.5:
                crop = crop[:, ::-1]
            if rng.random() < 0.25:
                crop = crop[::-1]
            out[i] = crop[:, :, rng.permutation(3)] if rng.random() < 0.5 else crop
        gain = rng.uniform(0.55, 1.1, (count, 1, 1, 1)) * rng.uniform(0.9, 1.1, (count, 1, 1, 3))
        out *= gain.astype(np.float32)
        return out


def _tile(rng: np.random.Generator, side: int, photos: list[Image.Image]) -> ByteArray:
    kind = rng.choice(
        ["photo", "gradient", "paper", "texture", "sheet"], p=[0.42, 0.13, 0.2, 0.1, 0.15]
    )
    if kind == "gradient":
        image = _gradient(rng, side)
    elif kind == "paper":
        image = _paper(rng, side)
    elif kind == "texture":
        image = _texture(rng, side)
    elif kind == "sheet" or not photos:
        under = _photo(rng, side, photos) if photos else _texture(rng, side)
        image = _sheet_on(rng, side, under)
    else:
        image = _photo(rng, side, photos)
    if rng.random() < 0.3:
        _scribble(rng, side, image)
    return np.asarray(image, dtype=np.uint8)


def _photo(rng: np.random.Generator, side: int, photos: list[Image.Image]) -> Image.Image:
    photo = photos[int(rng.integers(len(photos)))]
    largest = min(photo.size)
    crop = min(int(largest * np.exp(rng.uniform(np.log(0.2), 0))), largest)
    left = int(rng.integers(0, photo.width - crop + 1))
    top = int(rng.integers(0, photo.height - crop + 1))
    return photo.resize(
        (side, side),
        Image.Resampling.BILINEAR,
        box=(left, top, left + crop, top + crop),
        reducing_gap=2.0,
    )


def _colour(rng: np.random.Generator, low: float = 0, high: float = 255) -> FloatArray:
    level = rng.uniform(low, high)
    return np.clip(level + rng.normal(0, 25, 3), 0, 255).astype(np.float32)


def _gradient(rng: np.random.Generator, side: int) -> Image.Image:
    angle = rng.uniform(0, 2 * np.pi)
    axis = np.linspace(-1, 1, side, dtype=np.float32)
    ramp = np.cos(angle) * axis[None] + np.sin(angle) * axis[:, None]
    ramp = np.clip(ramp * rng.uniform(0.2, 1) + 0.5, 0, 1)[:, :, None]
    pixels = _colour(rng) * (1 - ramp) + _colour(rng) * ramp
    return Image.fromarray(pixels.astype(np.uint8))


def _texture(rng: np.random.Generator, side: int) -> Image.Image:
    """Noise of several octaves, as cloth, walls and wood have it."""
    pixels = np.broadcast_to(_colour(rng), (side, side, 3)).copy()
    for cells in (3, 7, 16, 40):
        rows = max(2, int(cells * np.exp(rng.normal(0, 0.7))))
        noise = rng.normal(0, 1, (rows, cells)).astype(np.float32)
        layer = np.asarray(Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC))
        pixels += layer[:, :, None] * rng.uniform(0, 22) * rng.uniform(0.6, 1.2, 3)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _paper(rng: np.random.Generator, side: int) -> Image.Image:
    light = rng.random() < 0.75
    pixels = np.broadcast_to(_colour(rng, *((190, 255) if light else (0, 80))), (side, side, 3))
    noise = rng.normal(0, rng.uniform(0, 6), (side, side, 1))
    shade = np.asarray(
        Image.fromarray(rng.normal(0, 1, (3, 3)).astype(np.float32)).resize(
            (side, side), Image.Resampling.BICUBIC
        )
    )
    shaded = pixels + noise + shade[:, :, None] * rng.uniform(0, 14)
    image = Image.fromarray(np.clip(shaded, 0, 255).astype(np.uint8))
    if rng.random() < 0.4:
        _rule(rng, side, image, squared=rng.random() < 0.5)
    return image


def _rule(rng: np.random.Generator, side: int, image: Image.Image, *, squared: bool) -> None:
    draw = ImageDraw.Draw(image)
    step = int(rng.integers(max(side // 18, 6), max(side // 5, 12)))
    fill = tuple(int(v) for v in _colour(rng, 90, 200))
    for at in range(int(rng.integers(step)), side, step):
        draw.line((0, at, side, at), fill=fill)
        if squared:
            draw.line((at, 0, at, side), fill=fill)


def _sheet_on(rng: np.random.Generator, side: int, under: Image.Image) -> Image.Image:
    """Lay a sheet of paper, larger than most digits, on another background."""
    sheet = _paper(rng, side)
    mask = Image.new("L", (side, side), 0)
    centre = rng.uniform(0.3, 0.7, 2) * side
    a, b = rng.uniform(0.25, 0.55, 2) * side
    angle = rng.normal(0, 0.3)
    cos, sin = np.cos(angle), np.sin(angle)
    corners = [
        (float(centre[0] + cos * x - sin * y), float(centre[1] + sin * x + cos * y))
        for x, y in ((-a, -b), (a, -b), (a, b), (-a, b))
    ]
    ImageDraw.Draw(mask).polygon(corners, fill=255)
    return Image.composite(sheet, under, mask)


def _scribble(rng: np.random.Generator, side: int, image: Image.Image) -> None:
    """Draw lines, rectangles, arcs and letters: strokes that are no digits."""
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(1, 6))):
        fill = tuple(int(v) for v in _colour(rng))
        x, y = (int(v) for v in rng.integers(0, side, 2))
        w, h = (int(v) for v in rng.integers(side // 12, side // 2, 2))
        pen = int(rng.integers(1, max(side // 40, 2) + 1))
        kind = rng.choice(["line", "rectangle", "filled", "letter"])
        if kind == "line":
            draw.line((x, y, x + w, y + int(rng.integers(-h, h + 1))), fill=fill, width=pen)
        elif kind == "rectangle":
            draw.rectangle((x, y, x + w, y + h), outline=fill, width=pen)
        elif kind == "filled":
            draw.rectangle((x, y, x + w, y + h), fill=fill)
        else:
            font = ImageFont.load_default(int(rng.integers(side // 10, side // 3)))
            letter = _LETTERS[int(rng.integers(len(_LETTERS)))]
            draw.text((x, y), letter, fill=fill, font=font)
