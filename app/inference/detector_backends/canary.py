"""Compares a backend's answers with float32's of PyTorch, on two made-up images."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from app.inference.detector_backends.base import RawDetections

_HEIGHT, _WIDTH = 96, 128


@dataclass(frozen=True, slots=True)
class Deviation:
    """How far answers are from each other."""

    scores: float
    """The largest difference of a label's probability (also of "no object") in any query."""
    boxes: float
    """The mean difference of a box's coordinates, as a share of the image's edge.

    Not the largest: queries that see nothing put their boxes anywhere.
    """

    def within(self, limit: "Deviation") -> bool:
        """Whether neither is above its limit; what is not a number never is within."""
        return self.scores <= limit.scores and self.boxes <= limit.boxes

    def __str__(self) -> str:
        return f"{self.scores:.2g} in scores and {self.boxes:.2g} in boxes"


_HALF = Deviation(scores=0.1, boxes=0.01)
TOLERANCES: Mapping[str, Deviation] = {
    "float32": Deviation(scores=0.002, boxes=0.0005),
    "bfloat16": _HALF,
    "float16": _HALF,
    "int8": Deviation(scores=0.3, boxes=0.03),
}


def canary_images() -> npt.NDArray[np.uint8]:
    """Two images, (2, 96, 128, 3): soft colours under edges, and the same mirrored, with grain."""
    across = np.linspace(0, 1, _WIDTH)
    down = np.linspace(0, 1, _HEIGHT)[:, np.newaxis]
    channels = [across + 0 * down, down + 0 * across, 1 - across * down]
    image = 40 + 170 * np.stack(channels, axis=-1)
    image[20:60, 15:45] = (250, 240, 60)
    image[50:90, 70:110] = (20, 20, 30)
    image[60:80, 85:95] = (240, 240, 240)
    image[10:30, 90:120:4] = (200, 30, 40)
    grain = np.random.default_rng(4).normal(0, 12, image.shape)
    pair = np.stack([image, image[:, ::-1] + grain])
    images: npt.NDArray[np.uint8] = np.rint(pair.clip(0, 255)).astype(np.uint8)
    return images


def measure_deviation(expected: RawDetections, found: RawDetections) -> Deviation:
    """How far `found` is from `expected`; infinite where their shapes differ."""
    if any(one.shape != other.shape for one, other in zip(expected, found, strict=True)):
        return Deviation(np.inf, np.inf)
    scores = np.abs(_probabilities(expected[0]) - _probabilities(found[0])).max()
    boxes = np.abs(expected[1].astype(np.float64) - found[1]).mean()
    return Deviation(float(scores), float(boxes))


def _probabilities(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    exponentials = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    probabilities: npt.NDArray[np.float64] = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return probabilities
