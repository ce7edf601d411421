"""YOLOS object detection (Fang et al. 2021, https://arxiv.org/abs/2106.00666)."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from app.inference.base import InferenceModel, ModelInfo
from app.inference.detector_backends.base import BackendChoice, DetectorBackend
from app.inference.device import WantedPrecision
from app.inference.hub import PREFERRED_HUB_MODEL, CheckpointSource
from app.inference.images import ImageLimits, open_image
from app.inference.registry import VERSION_DIGITS, ModelRegistry
from app.inference.yolos_checkpoint import (
    Checkpoint,
    checkpoint_digest,
    load_checkpoint,
    read_preprocessing,
)
from app.inference.yolos_preprocessing import Preprocessing

if TYPE_CHECKING:
    from app.inference.detector_backends.selection import SelectedBackend

# What a hub checkpoint's own files do not say.
_HUB_FACTS: Mapping[str, Mapping[str, Any]] = {
    PREFERRED_HUB_MODEL: {
        "description": "YOLOS-Ti: finds the everyday objects of COCO.",
        "license": "apache-2.0",
        "training_data": "ImageNet-1k, then COCO 2017 object detection",
        # https://github.com/hustvl/YOLOS#results-models-and-logs, at the size used here.
        "quality": {"metric": "AP", "value": 0.287, "dataset": "COCO 2017 val", "input_size": 512},
    }
}
# The authors evaluate the tiny model at 512, not at the 800 of the hub's preprocessor file, which
# is four times the work.
_TINY_HIDDEN_SIZE = 192
_TINY_INPUT_SIZE = 512


@dataclass(frozen=True, slots=True)
class DetectionSettings:
    """What one caller wants to be told."""

    threshold: float
    """Scores must be above it, as in transformers' own post-processing."""
    labels: frozenset[str] | None = None
    """Only these; None for all."""
    max_objects: int = 100


@dataclass(frozen=True, slots=True)
class ImageInput:
    """An encoded image with the settings of its call."""

    data: bytes
    settings: DetectionSettings


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """What the forward pass takes."""

    pixels: npt.NDArray[np.uint8]
    """Shape (height, width, 3), RGB, both edges multiples of the patch size."""
    width: int
    """Of the original image in pixels, orientation applied."""
    height: int
    settings: DetectionSettings


@dataclass(frozen=True, slots=True)
class DetectedObject:
    """One object that was found."""

    box: tuple[float, float, float, float]
    """x1, y1, x2, y2 in pixels of the original image, within it."""
    label: str
    score: float


@dataclass(frozen=True, slots=True)
class Detections:
    """All objects of one image, best first, and the image's size in pixels."""

    objects: tuple[DetectedObject, ...]
    width: int
    height: int


class ObjectDetector(InferenceModel[ImageInput, PreparedImage, Detections]):
    """A `YolosForObjectDetection` checkpoint in the hub's layout, safetensors only."""

    def __init__(
        self,
        source: CheckpointSource,
        *,
        limits: ImageLimits,
        device: str = "auto",
        backend: BackendChoice = "auto",
        precision: WantedPrecision = "auto",
        threads: int = 1,
        input_size: int | None = None,
        cuda_graphs: bool = False,
        registry: ModelRegistry | None = None,
    ) -> None:
        self.name = source.name
        self.limits = limits
        self.preprocessing: Preprocessing
        self._source = source
        self._device = device
        self._wanted_backend = backend
        self._precision = precision
        self._threads = threads
        self._wanted_input_size = input_size
        self._cuda_graphs = cuda_graphs
        self._registry = registry
        self._backend: DetectorBackend
        self._labels: tuple[str, ...] = ()

    # -- on the model's thread ---------------------------------------------------------------

    def load(self) -> ModelInfo:
        import torch
        import transformers

        # For this thread and the kernels it starts.
        torch.set_num_threads(self._threads)
        registered = self._is_registered()
        if registered and self._registry is not None:
            self._registry.read_verified(self.name)
        checkpoint = load_checkpoint(self._source.folder)
        config = checkpoint.config
        wanted = self._wanted_input_size
        if wanted is None and config.hidden_size == _TINY_HIDDEN_SIZE:
            wanted = _TINY_INPUT_SIZE
        self.preprocessing = read_preprocessing(self._source.folder, wanted)
        self._labels = checkpoint.labels
        selected = self._select_backend(checkpoint)
        self._backend = backend = selected.backend
        # A forward pass on a GPU takes many images for the time of one; on a CPU, large images
        # gain nothing by company and would wait for each other.
        self.batch_budget = 32 * 512 * 672 if backend.device != "cpu" else 400_000
        notices = [notice for notice in (self._source.notice, selected.notice) if notice]
        details: dict[str, Any] = {
            "device": backend.device,
            "backend": f"{backend.name} {backend.version}, {backend.precision}",
            "labels": tuple(label for label in self._labels if label != "N/A"),
            "notice": " ".join(notices) or None,
            "libraries": {
                "torch": torch.__version__,
                "transformers": transformers.__version__,
            },
            "input_schema": {
                "type": "image",
                "formats": ["image/jpeg", "image/png", "image/webp"],
                "shortest_edge": self.preprocessing.shortest_edge,
                "longest_edge": self.preprocessing.longest_edge,
                "max_bytes": self.limits.max_bytes,
                "max_pixels": self.limits.max_pixels,
            },
        }
        if registered and self._registry is not None:
            details["libraries"] |= dict(self._registry.entry(self.name).libraries)
            return self._registry.info(self.name, **details)
        version = self._source.revision or checkpoint_digest(self._source.folder)
        return ModelInfo(
            name=self.name,
            task="object-detection",
            version=version[:VERSION_DIGITS],
            **(dict(_HUB_FACTS.get(self.name, {})) | details),
        )

    def _select_backend(self, checkpoint: Checkpoint) -> "SelectedBackend":
        from app.inference.detector_backends.selection import BackendWish, select_backend
        from app.inference.yolos_network import YolosNetwork

        wish = BackendWish(
            self._wanted_backend,
            self._device,
            self._precision,
            self._threads,
            cuda_graphs=self._cuda_graphs,
        )
        return select_backend(
            wish,
            lambda plan: YolosNetwork(
                checkpoint,
                scale=self.preprocessing.scale,
                shift=self.preprocessing.shift,
                plan=plan,
            ),
        )

    def warm_up(self) -> None:
        width, height = self.preprocessing.input_size(640, 480)
        blank = np.zeros((height, width, 3), np.uint8)
        # The second time a pass may be recorded, which takes longer than the first.
        for _ in range(2 if self._cuda_graphs else 1):
            self.predict([PreparedImage(blank, 640, 480, DetectionSettings(threshold=0.5))])

    def predict(self, batch: Sequence[PreparedImage]) -> list[Detections]:
        logits, boxes = self.forward(np.stack([image.pixels for image in batch]))
        return [self.postprocess(logits[i], boxes[i], image) for i, image in enumerate(batch)]

    def forward(
        self, pixels: npt.NDArray[np.uint8]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """The network alone.

        `pixels`: (N, height, width, 3), RGB. Returns the logits (N, queries, labels + 1), the
        last being "no object", and the boxes (N, queries, 4) as centre x, centre y, width and
        height, relative to the image.
        """
        return self._backend.forward(pixels)

    def postprocess(
        self,
        logits: npt.NDArray[np.float32],
        boxes: npt.NDArray[np.float32],
        image: PreparedImage,
    ) -> Detections:
        """Objects of one image, from its part of what `forward` returns.

        As transformers' `post_process_object_detection`, and beyond it: clipped to the image,
        filtered by label, best first.
        """
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = (exponentials / exponentials.sum(axis=1, keepdims=True))[:, :-1]
        best = probabilities.argmax(axis=1)
        scores = probabilities[np.arange(len(best)), best]
        wanted = image.settings.labels
        objects: list[DetectedObject] = []
        for query in np.argsort(-scores, kind="stable"):
            if scores[query] <= image.settings.threshold:
                break
            if len(objects) >= image.settings.max_objects:
                break
            label = self._labels[best[query]]
            if wanted is not None and label not in wanted:
                continue
            box = _to_corners(boxes[query], image.width, image.height)
            objects.append(DetectedObject(box, label, round(float(scores[query]), 4)))
        return Detections(tuple(objects), image.width, image.height)

    # -- on any thread -----------------------------------------------------------------------

    def preprocess(self, item: ImageInput) -> PreparedImage:
        opened = open_image(item.data, self.limits)
        size = self.preprocessing.input_size(opened.width, opened.height)
        pixels = np.asarray(opened.decode(size))
        return PreparedImage(pixels, opened.width, opened.height, item.settings)

    def cost(self, prepared: PreparedImage) -> int:
        return prepared.pixels.size // 3

    def batch_key(self, prepared: PreparedImage) -> Hashable:
        return prepared.pixels.shape

    def _is_registered(self) -> bool:
        """Whether the folder is one of our own artifacts, whose digests are known."""
        return (
            self._registry is not None
            and self.name in self._registry.names
            and self._source.folder.resolve() == (self._registry.models_dir / self.name).resolve()
        )


def _to_corners(
    box: npt.NDArray[np.float32], width: int, height: int
) -> tuple[float, float, float, float]:
    across, down, box_width, box_height = (float(value) for value in box)
    return (
        round(min(max((across - box_width / 2) * width, 0.0), width), 2),
        round(min(max((down - box_height / 2) * height, 0.0), height), 2),
        round(min(max((across + box_width / 2) * width, 0.0), width), 2),
        round(min(max((down + box_height / 2) * height, 0.0), height), 2),
    )
