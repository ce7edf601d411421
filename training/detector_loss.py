"""The losses that train the digit detector: set prediction and a dense auxiliary on the patches."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import linear_sum_assignment
from torch.nn import functional as F

CLASS_COST = 2.0
BOX_COST = 5.0
GIOU_COST = 2.0
# A digit prefers the token that starts near it: the pairing is stable from the first step.
ANCHOR_COST = 8.0
NO_OBJECT_WEIGHT = 0.2
BOX_WEIGHT = 5.0
GIOU_WEIGHT = 2.0


@dataclass(frozen=True)
class Targets:
    """The digits of a batch, padded to the largest count.

    ``boxes`` (batch, most, 4) holds centre x, centre y, width, height in 0..1; ``labels``
    (batch, most) holds -1 where there is no digit.
    """

    boxes: torch.Tensor
    labels: torch.Tensor


@dataclass(frozen=True)
class Pairing:
    """Matched pairs: scene, token and digit number of each."""

    scene: torch.Tensor
    token: torch.Tensor
    digit: torch.Tensor


def pad_targets(
    boxes: list[npt.NDArray[np.float32]],
    labels: list[npt.NDArray[np.int64]],
    height: int,
    width: int,
) -> Targets:
    """Turn pixel corner boxes of scenes of ``height`` x ``width`` into padded targets."""
    most = max([1, *(len(found) for found in labels)])
    out_boxes = np.zeros((len(boxes), most, 4), np.float32)
    out_labels = np.full((len(boxes), most), -1, np.int64)
    scale = np.array([width, height, width, height], np.float32)
    for i, (box, label) in enumerate(zip(boxes, labels, strict=True)):
        unit = box / scale
        out_boxes[i, : len(box), :2] = (unit[:, :2] + unit[:, 2:]) / 2
        out_boxes[i, : len(box), 2:] = unit[:, 2:] - unit[:, :2]
        out_labels[i, : len(box)] = label
    return Targets(torch.from_numpy(out_boxes), torch.from_numpy(out_labels))


def corners(boxes: torch.Tensor) -> torch.Tensor:
    """Turn centre boxes (..., 4) into corner boxes (..., 4)."""
    half = boxes[..., 2:] / 2
    return torch.cat([boxes[..., :2] - half, boxes[..., :2] + half], dim=-1)


def generalised_iou(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return the generalised IoU of corner boxes, broadcast over the leading dimensions."""
    inner = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(0)
    outer = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).clamp(0)
    shared = inner.prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - shared
    hull = outer.prod(-1)
    return shared / (union + 1e-7) - (hull - union) / (hull + 1e-7)


@torch.no_grad()
def pair(
    logits: torch.Tensor, boxes: torch.Tensor, targets: Targets, anchors: torch.Tensor
) -> Pairing:
    """Pair each digit with one token by the Hungarian method.

    ``logits`` (batch, tokens, classes + 1), ``boxes`` (batch, tokens, 4), ``anchors`` (tokens, 2).
    """
    chance = logits.softmax(-1)
    index = targets.labels.clamp(0)[:, None].expand(-1, logits.shape[1], -1)
    cost = -CLASS_COST * chance.gather(2, index)
    cost += BOX_COST * torch.cdist(boxes, targets.boxes, p=1)
    cost -= GIOU_COST * generalised_iou(corners(boxes)[:, :, None], corners(targets.boxes)[:, None])
    cost += ANCHOR_COST * torch.cdist(anchors[None], targets.boxes[..., :2])
    table = cost.numpy()
    counts = (targets.labels >= 0).sum(1).tolist()
    scene: list[int] = []
    token: list[int] = []
    digit: list[int] = []
    for i, count in enumerate(counts):
        rows, columns = linear_sum_assignment(table[i, :, :count])
        scene += [i] * len(rows)
        token += rows.tolist()
        digit += columns.tolist()
    return Pairing(torch.tensor(scene), torch.tensor(token), torch.tensor(digit))


def set_loss(
    logits: torch.Tensor, boxes: torch.Tensor, targets: Targets, pairing: Pairing
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the classification loss and the weighted box loss of paired tokens."""
    no_object = logits.shape[-1] - 1
    wanted = torch.full(logits.shape[:2], no_object)
    wanted[pairing.scene, pairing.token] = targets.labels[pairing.scene, pairing.digit]
    weight = torch.ones(logits.shape[-1])
    weight[no_object] = NO_OBJECT_WEIGHT
    loss_class = F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), weight)
    found = boxes[pairing.scene, pairing.token]
    truth = targets.boxes[pairing.scene, pairing.digit]
    count = max(len(found), 1)
    loss_box = BOX_WEIGHT * (found - truth).abs().sum() / count
    loss_giou = GIOU_WEIGHT * (1 - generalised_iou(corners(found), corners(truth))).sum() / count
    return loss_class, loss_box + loss_giou


def patch_loss(
    predicted: torch.Tensor, centres: torch.Tensor, targets: Targets
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the dense losses: which digit covers a patch's centre, and where its box is.

    ``predicted`` (batch, patches, classes + 1 + 4) holds logits and, before the sigmoid, centre
    boxes; ``centres`` (patches, 2) in 0..1.
    """
    box = corners(targets.boxes)
    point = centres[None, :, None]
    inside = ((point > box[:, None, :, :2]) & (point < box[:, None, :, 2:])).all(-1)
    inside &= (targets.labels >= 0)[:, None]
    covered = inside.any(2)
    # Boxes may touch at the corners: the nearer centre wins.
    distance = torch.cdist(centres[None], targets.boxes[..., :2]).masked_fill(~inside, torch.inf)
    which = distance.argmin(2)
    no_object = predicted.shape[-1] - 5
    wanted = torch.where(covered, targets.labels.gather(1, which), no_object)
    weight = torch.ones(no_object + 1)
    weight[no_object] = NO_OBJECT_WEIGHT
    logits = predicted[..., : no_object + 1]
    loss_class = F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), weight)
    truth = targets.boxes.gather(1, which[..., None].expand(-1, -1, 4))[covered]
    found = predicted[..., no_object + 1 :][covered].sigmoid()
    error = BOX_WEIGHT * (found - truth).abs().sum(-1)
    error = error + GIOU_WEIGHT * (1 - generalised_iou(corners(found), corners(truth)))
    return loss_class, error.sum() / max(len(found), 1)
