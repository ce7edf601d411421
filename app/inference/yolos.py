"""YOLOS object detection (Fang et al. 2021, https://arxiv.org/abs/2106.00666)."""

import hashlib
import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from app.inference.base import InferenceModel, ModelInfo, ModelLoadError
from app.inference.device import Precision, plan_device
from app.inference.hub import CHECKPOINT_FILES, PREFERRED_HUB_MODEL, CheckpointSource
from app.inference.images import ImageLimits, open_image
from app.inference.registry import VERSION_DIGITS, ModelRegistry

if TYPE_CHECKING:
    from app.inference.yolos_network import YolosNetwork

PATCH = 16
# A `YolosForObjectDetection`; the types that transformers ships do not describe what it returns.
Network = Any
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


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """The checkpoint's preprocessor file, as far as it decides the input."""

    shortest_edge: int
    longest_edge: int
    scale: tuple[float, float, float]
    """Factor for each channel of the 8-bit values …"""
    shift: tuple[float, float, float]
    """… and what is added: normalisation as one multiply-add."""

    @classmethod
    def from_config(cls, config: Mapping[str, Any], input_size: int | None) -> "Preprocessing":
        """Read a `preprocessor_config.json` in its old (`size`: 800) or present form.

        `input_size` replaces the shortest edge; the longest keeps its ratio to it, as the
        authors' evaluation does.
        """
        size = config.get("size", 800)
        if isinstance(size, Mapping):
            shortest = int(size["shortest_edge"])
            longest = int(size.get("longest_edge", shortest * 1333 // 800))
        else:
            shortest, longest = int(size), int(config.get("max_size", 1333))
        if input_size is not None:
            longest = input_size * longest // shortest
            shortest = input_size
        rescale = float(config.get("rescale_factor", 1 / 255))
        if not config.get("do_rescale", True):
            rescale = 1.0
        means, deviations = [0.0] * 3, [1.0] * 3
        if config.get("do_normalize", True):
            means = list(config.get("image_mean", (0.485, 0.456, 0.406)))
            deviations = list(config.get("image_std", (0.229, 0.224, 0.225)))
        if len(means) != 3 or len(deviations) != 3:
            raise ValueError("image_mean and image_std need a value for each of three channels")
        scale = tuple(rescale / deviation for deviation in deviations)
        shift = tuple(-mean / dev for mean, dev in zip(means, deviations, strict=True))
        return cls(shortest, longest, scale, shift)  # type: ignore[arg-type]

    def input_size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of the input for an image of this size, in pixels.

        transformers' `get_size_with_aspect_ratio_yolos`: the shortest edge is met unless the
        longest would pass its limit, then both are cut to multiples of the patch. Unlike there,
        an edge is never less than one patch, so that a very thin image has an input too.
        """
        short, long = min(width, height), max(width, height)
        edge: float = self.shortest_edge
        if long / short * edge > self.longest_edge:
            edge = self.longest_edge * short / long
        scaled_short, scaled_long = round(edge), int(edge * long / short)
        if width < height:
            across, down = scaled_short, scaled_long
        elif height == scaled_short:
            across, down = width, height
        else:
            across, down = scaled_long, scaled_short
        return max(PATCH, across - across % PATCH), max(PATCH, down - down % PATCH)


class ObjectDetector(InferenceModel[ImageInput, PreparedImage, Detections]):
    """A `YolosForObjectDetection` checkpoint in the hub's layout, safetensors only."""

    def __init__(
        self,
        source: CheckpointSource,
        *,
        limits: ImageLimits,
        device: str = "auto",
        precision: Precision = "auto",
        threads: int = 1,
        input_size: int | None = None,
        registry: ModelRegistry | None = None,
    ) -> None:
        self.name = source.name
        self.limits = limits
        self.preprocessing: Preprocessing
        self._source = source
        self._device = device
        self._precision = precision
        self._threads = threads
        self._wanted_input_size = input_size
        self._registry = registry
        self._network: YolosNetwork
        self._labels: tuple[str, ...] = ()

    # -- on the model's thread ---------------------------------------------------------------

    def load(self) -> ModelInfo:
        import torch
        import transformers

        from app.inference.yolos_network import YolosNetwork

        # For this thread and the kernels it starts.
        torch.set_num_threads(self._threads)
        plan = plan_device(self._device, self._precision)
        registered = self._is_registered()
        if registered and self._registry is not None:
            self._registry.read_verified(self.name)
        config = _read_json(self._source.folder / "config.json")
        if config.get("model_type") != "yolos":
            raise ModelLoadError(
                f"{self._source.folder} holds a {config.get('model_type')!r} model, not YOLOS"
            )
        model = _load_checkpoint(self._source.folder)
        wanted = self._wanted_input_size
        if wanted is None and model.config.hidden_size == _TINY_HIDDEN_SIZE:
            wanted = _TINY_INPUT_SIZE
        self.preprocessing = _read_preprocessing(self._source.folder, wanted)
        self._network = YolosNetwork(
            model, scale=self.preprocessing.scale, shift=self.preprocessing.shift, plan=plan
        )
        self._labels = tuple(model.config.id2label[i] for i in range(model.config.num_labels))
        # A forward pass on a GPU takes many images for the time of one; on a CPU, large images
        # gain nothing by company and would wait for each other.
        self.batch_budget = 32 * 512 * 672 if plan.device != "cpu" else 400_000
        details: dict[str, Any] = {
            "device": plan.device,
            "labels": tuple(label for label in self._labels if label != "N/A"),
            "notice": self._source.notice,
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
        version = self._source.revision or _digest(self._source.folder)
        return ModelInfo(
            name=self.name,
            task="object-detection",
            version=version[:VERSION_DIGITS],
            **(dict(_HUB_FACTS.get(self.name, {})) | details),
        )

    def warm_up(self) -> None:
        width, height = self.preprocessing.input_size(640, 480)
        blank = np.zeros((height, width, 3), np.uint8)
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
        import torch

        with torch.inference_mode():
            logits, boxes = self._network(torch.from_numpy(pixels))
            return logits.cpu().numpy(), boxes.cpu().numpy()

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


def _load_checkpoint(folder: Path) -> Network:
    import torch
    from transformers import YolosForObjectDetection
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    missing = [file for file in CHECKPOINT_FILES if not (folder / file).is_file()]
    if missing:
        raise ModelLoadError(
            f"{folder} has no {', '.join(missing)}; only safetensors checkpoints are loaded"
        )
    try:
        loaded: Any = YolosForObjectDetection.from_pretrained(
            folder,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            attn_implementation="sdpa",
            dtype=torch.float32,
            output_loading_info=True,
        )
    # A damaged file can raise anything from JSON's errors to safetensors' own.
    except Exception as error:
        raise ModelLoadError(f"{folder} cannot be loaded: {error}") from error
    model, report = loaded
    # transformers fills gaps with random numbers and a warning; that would be guessing.
    gaps = {key: report[key] for key in ("missing_keys", "mismatched_keys") if report.get(key)}
    if gaps:
        raise ModelLoadError(f"{folder} does not fit its config.json: {gaps}")
    return model


def _read_preprocessing(folder: Path, input_size: int | None) -> Preprocessing:
    path = folder / "preprocessor_config.json"
    try:
        return Preprocessing.from_config(_read_json(path), input_size)
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise ModelLoadError(f"{path} is not a YOLOS preprocessor's: {error!r}") from error


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


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in CHECKPOINT_FILES:
        digest.update(hashlib.sha256((folder / file).read_bytes()).digest())
    return digest.hexdigest()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ModelLoadError(f"{path} is no JSON object")
    return content
