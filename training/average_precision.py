"""Average precision at a fixed IoU, in plain numpy.

All-point interpolation, as PASCAL VOC has counted since 2010: within a class, detections are taken
by falling score, each claims the unclaimed truth of its picture that it overlaps most, and the area
under the monotone precision-recall curve is the class's average precision.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.integer]


@dataclass(frozen=True)
class Found:
    """One picture's detections: boxes (n, 4) x0 y0 x1 y1, labels (n,), scores (n,)."""

    boxes: FloatArray
    labels: IntArray
    scores: FloatArray


@dataclass(frozen=True)
class Truth:
    """One picture's true boxes (n, 4) x0 y0 x1 y1 and labels (n,)."""

    boxes: FloatArray
    labels: IntArray


def box_iou(a: FloatArray, b: FloatArray) -> FloatArray:
    """Return the IoU (n, m) of corner boxes ``a`` (n, 4) and ``b`` (m, 4)."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(2)
    area_a, area_b = (a[:, 2:] - a[:, :2]).prod(1), (b[:, 2:] - b[:, :2]).prod(1)
    union = area_a[:, None] + area_b[None] - shared
    iou: FloatArray = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return iou


def claims(found: Found, truth: Truth, label: int, iou: float) -> tuple[FloatArray, IntArray]:
    """Return the scores of one class's detections, falling, and 1 where one claims a truth."""
    chosen = np.flatnonzero(found.labels == label)
    chosen = chosen[np.argsort(-found.scores[chosen], kind="stable")]
    overlap = box_iou(found.boxes[chosen], truth.boxes[truth.labels == label])
    hits = np.zeros(len(chosen), np.int64)
    for i in range(len(chosen)):
        if overlap.shape[1] == 0:
            break
        best = int(overlap[i].argmax())
        if overlap[i, best] >= iou:
            hits[i] = 1
            overlap[:, best] = -1
    return found.scores[chosen], hits


def average_precision(scores: FloatArray, hits: IntArray, truths: int) -> float:
    """Return the area under the interpolated precision-recall curve.

    ``hits`` is 1 where the detection with that score is right; ``truths`` counts what was to find.
    Returns nan where there was nothing to find.
    """
    if truths == 0:
        return float("nan")
    if len(scores) == 0:
        return 0.0
    ordered = hits[np.argsort(-scores, kind="stable")]
    right = np.cumsum(ordered)
    precision = right / np.arange(1, len(ordered) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float((envelope * ordered).sum() / truths)


def mean_average_precision(
    found: list[Found], truth: list[Truth], classes: int, iou: float = 0.5
) -> tuple[float, list[float]]:
    """Return the mean over the classes that occur, and every class's average precision (or nan)."""
    each: list[float] = []
    for label in range(classes):
        pairs = [claims(f, t, label, iou) for f, t in zip(found, truth, strict=True)]
        scores = np.concatenate([p[0] for p in pairs])
        hits = np.concatenate([p[1] for p in pairs])
        each.append(
            average_precision(scores, hits, sum(int((t.labels == label).sum()) for t in truth))
        )
    return float(np.nanmean(each)), each


def precision_recall(
    found: list[Found], truth: list[Truth], threshold: float, classes: int, iou: float = 0.5
) -> tuple[float, float]:
    """Return precision and recall over all classes of the detections scored ``threshold`` or more.

    Precision is nan where nothing was found, recall where there was nothing to find.
    """
    right = claimed = 0
    for f, t in zip(found, truth, strict=True):
        keep = f.scores >= threshold
        kept = Found(f.boxes[keep], f.labels[keep], f.scores[keep])
        claimed += int(keep.sum())
        right += sum(int(claims(kept, t, label, iou)[1].sum()) for label in range(classes))
    wanted = sum(len(t.labels) for t in truth)
    return (
        right / claimed if claimed else float("nan"),
        right / wanted if wanted else float("nan"),
    )
