"""Scenes of handwritten digits, composed in batches for training and testing the digit detector.

A scene is a background (a photograph's crop, paper, a gradient, a texture) with zero to eight
handwritten digits on it: from a fifth to three fifths of the short edge, slanted, rotated, thick or
thin, dark on light or light on dark, some on cards of their own.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.backgrounds import BackgroundBank
from training.digits import Digits, FloatArray, IntArray
from training.glyphs import Glyph, SizePlan, draw_glyphs

MAX_DIGITS = 8
DIGIT_COUNTS = [0.02, 0.1, 0.13, 0.15, 0.15, 0.14, 0.12, 0.1, 0.09]
WINDOW_COUNTS = [0.04, 0.36, 0.36, 0.24]
_CROWD = 1.75
_PLACEMENT_TRIES = 16
_NOISE_VALUES = 1 << 20


@dataclass(frozen=True)
class SceneBatch:
    """Scenes of one shape: images (batch, height, width, 3) and, per scene, boxes and labels.

    Boxes are float32 (n, 4), x0 y0 x1 y1 in pixels, tight around the ink; labels are int64 (n,).
    """

    images: npt.NDArray[np.uint8]
    boxes: list[FloatArray]
    labels: list[IntArray]


class SceneMaker:
    """Composes batches of scenes; the same digits, backgrounds and seed give the same scenes.

    ``ease`` is 0 for the scenes that the module describes; towards 1 grounds are even, ink is
    strong and digits stand upright, which is where learning starts.
    """

    def __init__(self, digits: Digits, backgrounds: BackgroundBank, seed: int) -> None:
        self.digits = digits
        self.backgrounds = backgrounds
        self.rng = np.random.default_rng(seed)
        self.ease = 0.0
        self._noise = self.rng.standard_normal(_NOISE_VALUES).astype(np.float32)

    def compose(
        self, count: int, height: int, width: int, short_edge: int | None = None
    ) -> SceneBatch:
        """Compose ``count`` scenes of ``height`` x ``width`` pixels.

        With ``short_edge`` they are windows of larger scenes of that short edge: at most three
        digits each, as large as they would be in the whole scene.
        """
        if short_edge is None:
            chances, plan = DIGIT_COUNTS, SizePlan(min(height, width), 0.62, _CROWD)
        else:
            crowd = _CROWD * float(np.sqrt(height * width * 0.75)) / short_edge
            largest = 0.8 * min(height, width) / short_edge
            chances, plan = WINDOW_COUNTS, SizePlan(short_edge, largest, crowd)
        per_scene = self.rng.choice(len(chances), count, p=chances)
        glyphs = draw_glyphs(self.rng, self.digits, per_scene, plan, self.ease)
        corners = self._place(glyphs, count, height, width)
        canvas = self.backgrounds.crops(self.rng, count, height, width)
        if self.ease > 0:
            canvas += (canvas.mean((1, 2), keepdims=True) - canvas) * np.float32(self.ease)
        boxes: list[list[IntArray]] = [[] for _ in range(count)]
        labels: list[list[int]] = [[] for _ in range(count)]
        for glyph, corner in zip(glyphs, corners, strict=True):
            if corner is None:
                continue
            left, top = corner
            self._paste(canvas[glyph.scene], glyph, left, top)
            boxes[glyph.scene].append(glyph.box + np.array([left, top, left, top]))
            labels[glyph.scene].append(glyph.label)
        return SceneBatch(
            self._photograph(canvas),
            [np.array(found, dtype=np.float32).reshape(-1, 4) for found in boxes],
            [np.array(found, dtype=np.int64) for found in labels],
        )

    def _place(
        self, glyphs: list[Glyph], count: int, height: int, width: int
    ) -> list[tuple[int, int] | None]:
        """Find a canvas corner for each glyph so that none covers another; None where none fits."""
        corners: list[tuple[int, int] | None] = [None] * len(glyphs)
        rank = np.zeros(len(glyphs), np.int64)
        seen = np.zeros(count, np.int64)
        for i, glyph in enumerate(glyphs):
            rank[i] = seen[glyph.scene]
            seen[glyph.scene] += 1
        # Occupied rectangles of every scene; the unused ones lie outside the picture.
        taken = np.full((count, MAX_DIGITS, 4), -1e6, np.float32)
        for slot in range(int(rank.max(initial=-1)) + 1):
            members = np.flatnonzero(rank == slot)
            scene = np.array([glyphs[i].scene for i in members])
            box = np.stack([glyphs[i].box for i in members]).astype(np.float32)
            reach = np.array([glyphs[i].reach for i in members], np.float32)
            low = (box[:, 2:] - box[:, :2]) / 2 + 1
            high = np.array([width, height], np.float32) - low
            spread = self.rng.random((len(members), _PLACEMENT_TRIES, 2)).astype(np.float32)
            centre = low[:, None] + spread * np.maximum(high - low, 0)[:, None]
            tried = np.concatenate([centre - reach[:, None], centre + reach[:, None]], axis=2)
            others = taken[scene][:, None]
            overlap = np.minimum(tried[:, :, None, 2:], others[..., 2:])
            overlap = overlap - np.maximum(tried[:, :, None, :2], others[..., :2])
            clear = ~(overlap > 0).all(3).any(2)
            fits = clear.any(1) & (high >= low).all(1)
            first = clear.argmax(1)
            for row in np.flatnonzero(fits):
                middle = (box[row, :2] + box[row, 2:]) / 2
                left, top = np.rint(centre[row, first[row]] - middle).astype(int).tolist()
                corners[members[row]] = (left, top)
                taken[scene[row], slot] = tried[row, first[row]]
        return corners

    def _paste(self, scene: FloatArray, glyph: Glyph, left: int, top: int) -> None:
        """Draw the card, if there is one, and the glyph in a colour that stands off its ground."""
        x0, y0, x1, y1 = glyph.box.tolist()
        if glyph.card is not None:
            self._paste_card(scene, glyph.card, left + (x0 + x1) / 2, top + (y0 + y1) / 2)
        # One pixel around the ink rectangle keeps the soft edge of the stroke.
        height, width = scene.shape[:2]
        ya, yb = max(y0 - 1, -top, 0), min(y1 + 1, len(glyph.alpha), height - top)
        xa, xb = max(x0 - 1, -left, 0), min(x1 + 1, len(glyph.alpha), width - left)
        ground = scene[top + ya : top + yb, left + xa : left + xb]
        opacity = np.float32(self.rng.uniform(0.82, 1.0))
        ground += (self._ink(ground) - ground) * glyph.alpha[ya:yb, xa:xb, None] * opacity

    def _ink(self, ground: FloatArray) -> FloatArray:
        """Choose a colour clearly darker or lighter than ``ground``, the more so if it is busy."""
        grey = ground[::2, ::2].mean(2)
        mean = float(grey.mean())
        step = 70 + 60 * self.ease + 1.3 * float(grey.std())
        dark_fits, light_fits = mean > step, mean + step < 255
        dark = mean > 127 if dark_fits == light_fits else dark_fits
        if dark_fits and light_fits:
            dark = self.rng.random() < 0.5
        bounds = (0.0, max(mean - step, 1.0)) if dark else (min(mean + step, 254.0), 255.0)
        level = self.rng.uniform(*bounds)
        tint = self.rng.normal(0, 26, 3) if self.rng.random() < 0.6 else np.zeros(3)
        colour: FloatArray = np.clip(level + tint - tint.mean(), 0, 255).astype(np.float32)
        return colour

    def _paste_card(
        self, scene: FloatArray, card: tuple[float, float, float], x: float, y: float
    ) -> None:
        """Lay a card of one colour around the point (x, y)."""
        a, b, tilt = card
        height, width = scene.shape[:2]
        reach = float(np.hypot(a, b)) + 1
        xa, xb = max(int(x - reach), 0), min(int(x + reach) + 1, width)
        ya, yb = max(int(y - reach), 0), min(int(y + reach) + 1, height)
        dx = np.arange(xa, xb, dtype=np.float32)[None] + 0.5 - x
        dy = np.arange(ya, yb, dtype=np.float32)[:, None] + 0.5 - y
        cos, sin = float(np.cos(tilt)), float(np.sin(tilt))
        inside = np.minimum(a - np.abs(cos * dx + sin * dy), b - np.abs(cos * dy - sin * dx))
        mask = np.clip(inside + 0.5, 0, 1)[:, :, None].astype(np.float32)
        level = self.rng.uniform(190, 255) if self.rng.random() < 0.6 else self.rng.uniform(0, 255)
        colour = np.clip(level + self.rng.normal(0, 18, 3), 0, 255).astype(np.float32)
        ground = scene[ya:yb, xa:xb]
        ground += (colour - ground) * mask

    def _photograph(self, canvas: FloatArray) -> npt.NDArray[np.uint8]:
        """Add what a camera adds: blur, light, contrast and noise; return bytes."""
        rng = self.rng
        count = len(canvas)
        for i in np.flatnonzero(rng.random(count) < 0.2).tolist():
            scene = canvas[i]
            scene[1:-1] = scene[1:-1] * 0.5 + (scene[:-2] + scene[2:]) * 0.25
            scene[:, 1:-1] = scene[:, 1:-1] * 0.5 + (scene[:, :-2] + scene[:, 2:]) * 0.25
        gain = rng.uniform(0.7, 1.15, (count, 1, 1, 1)) * rng.uniform(0.94, 1.06, (count, 1, 1, 3))
        bias = rng.uniform(-18, 22, (count, 1, 1, 1))
        canvas *= gain.astype(np.float32)
        canvas += bias.astype(np.float32)
        size = canvas[0].size
        for i in range(count):
            sigma = rng.uniform(0, 9) * (1 - self.ease) if rng.random() < 0.6 else 0.0
            start = int(rng.integers(0, len(self._noise) - size))
            if sigma > 0.5:
                noise = self._noise[start : start + size].reshape(canvas[i].shape)
                canvas[i] += noise * np.float32(sigma)
        np.clip(canvas, 0, 255, out=canvas)
        return canvas.astype(np.uint8)
