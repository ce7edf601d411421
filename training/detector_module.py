"""The digit detector with what only training needs: windows, and answers of layers and patches."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from training.digits import DIGIT_CLASSES

IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)
SUPERVISED_LAYERS = 3
# A `YolosForObjectDetection`; the types that transformers ships do not describe what it returns.
Network = Any


@dataclass(frozen=True)
class View:
    """A window of the whole picture: its first patch, and the detection tokens that start in it."""

    row: int
    column: int
    tokens: torch.Tensor


@dataclass(frozen=True)
class Predictions:
    """What the layers say, the last layer last.

    ``logits`` (batch, tokens, classes + 1) and ``boxes`` (batch, tokens, 4), before the sigmoid,
    of the detection tokens; ``patches`` (batch, patches, classes + 1 + 4) of the patch tokens.
    """

    logits: list[torch.Tensor]
    boxes: list[torch.Tensor]
    patches: list[torch.Tensor]


class TrainedDetector(nn.Module):
    """The detector with the outputs that help it learn and that a served one does not have.

    The last layers all answer through the detector's own heads. One layer before the last the
    patches do so too: what a detection token takes over from a patch can then be read at once. A
    layer earlier they have a linear head, which is thrown away.
    """

    def __init__(self, model: Network) -> None:
        super().__init__()
        self.model = model
        self.patch_head = nn.Linear(model.config.hidden_size, DIGIT_CLASSES + 1 + 4)

    def forward(self, pixels: torch.Tensor, view: View | None) -> Predictions:
        """Predict for normalised ``pixels`` (batch, 3, height, width), whole scenes or windows."""
        vit = self.model.vit
        layers = len(vit.encoder.layer)
        if view is None:
            tokens = int(self.model.config.num_detection_tokens)
            hidden = vit.embeddings(pixels)
        else:
            tokens = len(view.tokens)
            hidden = self._embed_window(pixels, view)
        found = Predictions([], [], [])
        for number, layer in enumerate(vit.encoder.layer, start=1):
            hidden = layer(hidden)
            if number <= layers - SUPERVISED_LAYERS:
                continue
            normed = vit.layernorm(hidden)
            seen = normed[:, 1:] if number == layers - 1 else normed[:, -tokens:]
            classes = self.model.class_labels_classifier(seen)
            places = self.model.bbox_predictor(seen)
            found.logits.append(classes[:, -tokens:])
            found.boxes.append(places[:, -tokens:])
            if number == layers - 1:
                both = torch.cat([classes[:, :-tokens], places[:, :-tokens]], dim=2)
                found.patches.append(both)
            elif number == layers - 2:
                found.patches.append(self.patch_head(normed[:, 1:-tokens]))
        return found

    def _embed_window(self, pixels: torch.Tensor, view: View) -> torch.Tensor:
        """Embed a window at its own place in the scene, with the tokens that start there."""
        embeddings = self.model.vit.embeddings
        config = self.model.config
        size, tokens = int(config.patch_size), int(config.num_detection_tokens)
        rows, columns = (edge // size for edge in config.image_size)
        place = embeddings.position_embeddings
        grid = place[:, 1:-tokens].view(1, rows, columns, -1)
        height, width = pixels.shape[2] // size, pixels.shape[3] // size
        grid = grid[:, view.row : view.row + height, view.column : view.column + width]
        patches = embeddings.patch_embeddings(pixels) + grid.flatten(1, 2)
        first = (embeddings.cls_token + place[:, :1]).expand(len(pixels), -1, -1)
        queries = (embeddings.detection_tokens + place[:, -tokens:])[:, view.tokens]
        return torch.cat([first, patches, queries.expand(len(pixels), -1, -1)], dim=1)


def normalise(images: torch.Tensor) -> torch.Tensor:
    """Turn bytes (batch, height, width, 3) into normalised pixels (batch, 3, height, width)."""
    mean = torch.tensor(IMAGE_MEAN) * 255
    std = torch.tensor(IMAGE_STD) * 255
    return ((images.float() - mean) / std).permute(0, 3, 1, 2).contiguous()
