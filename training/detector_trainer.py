"""One training run of the digit detector: its recipe, its state and a step of it."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from training.detector_loss import Targets, pad_targets, pair, patch_loss, set_loss
from training.detector_module import (
    IMAGE_MEAN,
    IMAGE_STD,
    Network,
    Predictions,
    TrainedDetector,
    View,
    normalise,
)
from training.scenes import SceneBatch
from training.yolos_init import (
    anchor_points,
    build_detector,
    detector_config,
    grid_points,
    whiten_patches,
)

# On windows the patches learn to read; the detection tokens follow, and learn most from scenes.
WINDOW_WEIGHTS = {"class": 0.3, "box": 0.2, "early": 0.2, "patch_class": 3.0, "patch_box": 0.4}
WHOLE_WEIGHTS = {"class": 1.0, "box": 1.0, "early": 1.0, "patch_class": 2.0, "patch_box": 0.5}
CLIP_NORM = 2.0
EMA_DECAY = 0.999


@dataclass(frozen=True)
class Recipe:
    """What a run depends on.

    ``minutes`` above 0 ends the run by the clock instead of by ``steps``. ``whole_from`` is the
    share of the run after which scenes come whole and no more as windows, ``decay_share`` the share
    at its end in which the rates fall.
    """

    short_edge: int
    patch_size: int
    steps: int
    minutes: float
    batch: int
    rate: float
    muon_rate: float
    warm_up: int
    decay_share: float
    whole_from: float
    seed: int

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Scene shapes, in multiples of 16 pixels: 4:3 most often, upright, square, 16:9."""
        edge = self.short_edge
        wide, wider = edge * 4 // 3 // 16 * 16, edge * 16 // 9 // 16 * 16
        return [(edge, wide)] * 5 + [(wide, edge), (edge, edge), (edge, wider)]


def split_parameters(module: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return the encoder's matrices, which Muon moves, and all other parameters."""
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        inside = "encoder.layer" in name and parameter.ndim == 2
        (matrices if inside else rest).append(parameter)
    return matrices, rest


class Trainer:
    """Holds the weights, their moving average and the optimisers, and takes one step at a time."""

    def __init__(self, recipe: Recipe) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe = recipe
        height, width = recipe.shapes[0]
        config = detector_config(height, width, recipe.patch_size)
        self.module = TrainedDetector(build_detector(config))
        self.average = build_detector(config)
        self.anchors = anchor_points()
        matrices, rest = split_parameters(self.module)
        self.optimisers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(
                matrices,
                lr=recipe.muon_rate,
                weight_decay=0.01,
                momentum=0.95,
                adjust_lr_fn="match_rms_adamw",
            ),
            torch.optim.AdamW(
                rest, lr=recipe.rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True
            ),
        ]
        self.step_number = 0
        self.seconds = 0.0

    @property
    def done(self) -> float:
        """The share of the run that is behind, of its minutes if it has any, else of its steps."""
        if self.recipe.minutes > 0:
            return min(self.seconds / (60 * self.recipe.minutes), 1.0)
        return min(self.step_number / self.recipe.steps, 1.0)

    def start(self, batches: list[SceneBatch]) -> None:
        """Fit the first layer to the look of ``batches``; the average starts from there."""
        edge = self.recipe.short_edge
        squares = [normalise(torch.from_numpy(b.images[:, :edge, :edge])) for b in batches]
        whiten_patches(self.module.model, torch.cat(squares))
        self.average.load_state_dict(self.module.model.state_dict())

    def step(self, batch: SceneBatch) -> dict[str, float]:
        """Learn from one batch; return the parts of the loss."""
        height, width = batch.images.shape[1:3]
        size = self.recipe.patch_size
        whole = self.recipe.shapes[0]
        centres = grid_points(height // size, width // size)
        if (height, width) in self.recipe.shapes:
            view, anchors, weights = None, self.anchors, WHOLE_WEIGHTS
            targets = pad_targets(batch.boxes, batch.labels, height, width)
        else:
            view = self._random_view(height, width)
            anchors, weights = self.anchors[view.tokens], WINDOW_WEIGHTS
            corner = torch.tensor([view.column, view.row]) * size
            centres = (centres * torch.tensor([width, height]) + corner) / torch.tensor(whole[::-1])
            shift = np.tile(corner.numpy(), 2).astype(np.float32)
            targets = pad_targets([box + shift for box in batch.boxes], batch.labels, *whole)
        pixels = normalise(torch.from_numpy(batch.images))
        with torch.autocast("cpu", torch.bfloat16):
            found = self.module(pixels, view)
        parts = losses(found, targets, anchors, centres)
        self._descend(torch.stack([weights[name] * part for name, part in parts.items()]).sum())
        return {name: float(part.detach()) for name, part in parts.items()}

    def _random_view(self, height: int, width: int) -> View:
        """Choose where in the whole picture a window lies, and the tokens that start near it."""
        size = self.recipe.patch_size
        rows, columns = self.recipe.shapes[0]
        row = int(torch.randint((rows - height) // size + 1, ()))
        column = int(torch.randint((columns - width) // size + 1, ()))
        x, y = self.anchors[:, 0] * columns, self.anchors[:, 1] * rows
        margin = size / 2
        near = (x > column * size - margin) & (x < column * size + width + margin)
        near &= (y > row * size - margin) & (y < row * size + height + margin)
        return View(row, column, near.nonzero()[:, 0])

    def _rate_factor(self) -> float:
        """The share of the peak rates: warm-up, a long plateau, a straight fall to a hundredth."""
        warm = min((self.step_number + 1) / self.recipe.warm_up, 1.0)
        return min(warm, max((1 - self.done) / self.recipe.decay_share, 0.01))

    def _descend(self, loss: torch.Tensor) -> None:
        for optimiser in self.optimisers:
            optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.module.parameters(), CLIP_NORM)
        factor = self._rate_factor()
        peaks = (self.recipe.muon_rate, self.recipe.rate)
        for optimiser, peak in zip(self.optimisers, peaks, strict=True):
            optimiser.param_groups[0]["lr"] = peak * factor
            optimiser.step()
        self.step_number += 1
        # A short memory at first, or the average would hold the starting weights for long.
        decay = min(EMA_DECAY, self.step_number / (self.step_number + 20))
        with torch.no_grad():
            learned: list[torch.Tensor] = list(self.module.model.parameters())
            torch._foreach_lerp_(list(self.average.parameters()), learned, 1 - decay)

    def save(self, folder: Path) -> None:
        """Write everything needed to continue, and the averaged model in the hub's layout."""
        state = {
            "module": self.module.state_dict(),
            "average": self.average.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "step": self.step_number,
            "seconds": self.seconds,
        }
        torch.save(state, folder / "state.pt.new")
        (folder / "state.pt.new").replace(folder / "state.pt")
        export(self.average, folder / "model", self.recipe.short_edge)

    def load(self, folder: Path) -> None:
        """Continue from what ``save`` wrote to ``folder``."""
        state = torch.load(folder / "state.pt", weights_only=True)
        self.module.load_state_dict(state["module"])
        self.average.load_state_dict(state["average"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.step_number = int(state["step"])
        self.seconds = float(state["seconds"])


def losses(
    found: Predictions, targets: Targets, anchors: torch.Tensor, centres: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Return the parts of the loss; the last layer's pairing serves the earlier layers too."""
    scores = [layer.float() for layer in found.logits]
    places = [layer.float().sigmoid() for layer in found.boxes]
    pairing = pair(scores[-1].detach(), places[-1].detach(), targets, anchors)
    each = [set_loss(s, p, targets, pairing) for s, p in zip(scores, places, strict=True)]
    dense = [patch_loss(patches.float(), centres, targets) for patches in found.patches]
    return {
        "class": each[-1][0],
        "box": each[-1][1],
        "early": torch.stack([classes + box for classes, box in each[:-1]]).mean(),
        "patch_class": torch.stack([classes for classes, _ in dense]).mean(),
        "patch_box": torch.stack([box for _, box in dense]).mean(),
    }


def export(model: Network, folder: Path, short_edge: int) -> None:
    """Write config.json, model.safetensors and preprocessor_config.json to ``folder``."""
    model.save_pretrained(folder)
    # Like the configuration; save_pretrained keeps the weights to their owner.
    (folder / "model.safetensors").chmod(0o644)
    processor = {
        "image_processor_type": "YolosImageProcessor",
        "format": "coco_detection",
        "do_resize": True,
        "size": {"shortest_edge": short_edge, "longest_edge": short_edge * 2},
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(IMAGE_MEAN),
        "image_std": list(IMAGE_STD),
        "do_pad": True,
    }
    text = json.dumps(processor, indent=2) + "\n"
    (folder / "preprocessor_config.json").write_text(text, encoding="utf-8")
