"""Digits warped as a hand would vary them, many at once on small canvases of their own."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from training.digits import Digits, FloatArray, IntArray, mask_boxes

SMALLEST = 0.19
INK_LEVEL = 0.35
_CANVAS_SIZES = np.array([24, 32, 40, 48, 64, 80, 96, 128, 176, 256, 384, 512])
# Up to this canvas the 28-pixel fields are sampled without gaps.
_COARSE_CANVAS = 40


@dataclass(frozen=True)
class Glyph:
    """One digit, ready to be put into a scene.

    ``alpha`` is its ink on a square canvas, ``box`` the ink's x0 y0 x1 y1 there; ``card`` holds
    half width, half height and tilt of a card under it; ``reach`` is the half width and half height
    that the scene must keep free around the ink's centre.
    """

    scene: int
    label: int
    alpha: FloatArray
    box: IntArray
    card: tuple[float, float, float] | None
    reach: tuple[float, float]


@dataclass(frozen=True)
class SizePlan:
    """How large digits may be: ``short_edge`` in pixels, the rest as shares of it.

    ``crowd`` shrinks the digits of a full scene: none is larger than ``crowd`` over the root of
    their number times its free size.
    """

    short_edge: int
    largest: float
    crowd: float


def draw_glyphs(
    rng: np.random.Generator, digits: Digits, per_scene: IntArray, plan: SizePlan, ease: float
) -> list[Glyph]:
    """Draw ``per_scene[i]`` digits for each scene i, the largest of a scene first.

    ``ease`` from 0 to 1 takes away rotation, cards and extremes of size.
    """
    scene = np.repeat(np.arange(len(per_scene)), per_scene)
    extent = _extents(rng, per_scene, plan, ease)
    order = np.lexsort((-extent, scene))
    scene, extent = scene[order], extent[order]
    n = len(scene)
    which = rng.integers(0, len(digits), n)
    matrix, angle = _warps(rng, digits.ink[which], extent, scene, ease)
    alphas, boxes = _render(rng, digits, which, matrix)
    carded = rng.random(n) < 0.18 * (1 - ease)
    margin = rng.uniform(1.15, 1.7, n)
    tilt = np.where(rng.random(n) < 0.5, angle, rng.normal(0, 0.12, n))
    glyphs: list[Glyph] = []
    for i in range(n):
        width, height = boxes[i, 2] - boxes[i, 0], boxes[i, 3] - boxes[i, 1]
        if width < 2 or height < 2:
            continue
        reach = (0.5 * float(width) + 1, 0.5 * float(height) + 1)
        card = None
        if carded[i]:
            a, b = reach[0] * margin[i] + 2, reach[1] * margin[i] + 2
            cos, sin = abs(np.cos(tilt[i])), abs(np.sin(tilt[i]))
            card = (float(a), float(b), float(tilt[i]))
            reach = (float(a * cos + b * sin), float(a * sin + b * cos))
        label = int(digits.labels[which[i]])
        glyphs.append(Glyph(int(scene[i]), label, alphas[i], boxes[i], card, reach))
    return glyphs


def _extents(
    rng: np.random.Generator, per_scene: IntArray, plan: SizePlan, ease: float
) -> npt.NDArray[np.float64]:
    """Return the longer side of every digit's ink in pixels.

    In half of the scenes all are alike, as they are on one sheet of paper.
    """
    count, n = len(per_scene), int(per_scene.sum())
    low, high = np.log(0.2), np.log(0.6)
    alike = np.repeat(np.exp(rng.uniform(low, high, count)), per_scene)
    free = np.exp(rng.uniform(low, high, n))
    mixed = np.repeat(rng.random(count) < 0.5, per_scene)
    number = np.repeat(per_scene, per_scene)
    share = np.where(mixed, free, alike) * np.minimum(1.0, plan.crowd / np.sqrt(number))
    share = np.clip(share, SMALLEST, plan.largest)
    return np.asarray(share ** (1 - ease) * 0.3**ease * plan.short_edge)


def _warps(
    rng: np.random.Generator,
    ink: FloatArray,
    extent: npt.NDArray[np.float64],
    scene: npt.NDArray[np.int64],
    ease: float,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the maps (n, 2, 2) from shares of the field to pixels, and the angles in radians."""
    n = len(extent)
    scenes = int(scene.max(initial=-1)) + 1
    turned = rng.random(scenes)[scene] < 0.25
    degrees = np.where(turned, rng.uniform(-30, 30, n), rng.normal(0, 5, n))
    angle = np.radians(degrees) * (1 - ease)
    shear = rng.normal(0, 0.12, n)
    aspect = np.exp(rng.normal(0, 0.08, n))
    scale = extent / (ink[:, 2:] - ink[:, :2]).max(1)
    cos, sin = np.cos(angle), np.sin(angle)
    across, down = scale * aspect, scale / aspect
    matrix = np.empty((n, 2, 2))
    matrix[:, 0, 0], matrix[:, 0, 1] = cos * across, (cos * shear - sin) * down
    matrix[:, 1, 0], matrix[:, 1, 1] = sin * across, (sin * shear + cos) * down
    return matrix, angle


def _render(
    rng: np.random.Generator, digits: Digits, which: IntArray, matrix: npt.NDArray[np.float64]
) -> tuple[list[FloatArray], IntArray]:
    """Warp the digits ``which``, canvases of one size together; return ink and ink boxes.

    Cutting the smooth field at a random level thickens or thins the stroke, and the width of the
    cut makes its edge sharp or soft.
    """
    n = len(which)
    ink = digits.ink[which]
    centre, half = (ink[:, :2] + ink[:, 2:]) / 2, (ink[:, 2:] - ink[:, :2]) / 2
    reach = np.einsum("nij,nj->ni", np.abs(matrix), half) + 2.0
    inverse = np.linalg.inv(matrix)
    fitting = np.searchsorted(_CANVAS_SIZES, 2 * reach.max(1, initial=0.0))
    sides = _CANVAS_SIZES[np.minimum(fitting, len(_CANVAS_SIZES) - 1)]
    level = rng.uniform(0.3, 0.55, n).astype(np.float32)
    softness = np.exp(rng.uniform(np.log(0.3), np.log(0.9), n)).astype(np.float32)
    alphas: list[FloatArray] = [np.empty((0, 0), np.float32)] * n
    boxes = np.zeros((n, 4), np.int64)
    for side in np.unique(sides).tolist():
        members = np.flatnonzero(sides == side)
        theta = np.empty((len(members), 2, 3), np.float32)
        theta[:, :, :2] = inverse[members] * side
        theta[:, :, 2] = 2 * centre[members] - 1
        source = digits.coarse if side <= _COARSE_CANVAS else digits.fine
        grid = F.affine_grid(torch.from_numpy(theta), [len(members), 1, side, side], False)
        field = F.grid_sample(source[which[members]], grid, align_corners=False)[:, 0].numpy()
        alpha = (field - level[members, None, None]) / softness[members, None, None]
        np.clip(alpha + 0.5, 0, 1, out=alpha)
        # A soft pen over an empty field would leave a grey square.
        alpha *= field > 0.02
        boxes[members] = mask_boxes(alpha > INK_LEVEL)
        for row, member in enumerate(members):
            alphas[member] = alpha[row]
    return alphas, boxes
