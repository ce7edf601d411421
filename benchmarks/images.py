"""The detector's checkpoint, the camera's frames, and what is right for them."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

PARAMETERS = 6_488_736
THRESHOLD = 0.7
_SEED = 20
_ROOMS = 6
WIDTH, HEIGHT = 640, 480
# The preprocessor file as it is on the hub, in the form of 2022.
_PREPROCESSOR = {
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "YolosFeatureExtractor",
    "format": "coco_detection",
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "max_size": 1333,
    "size": 800,
}


def make_checkpoint(folder: Path) -> Path:
    """A yolos-tiny of full size with random weights, in the hub's layout; made once.

    Speed does not depend on the weights. They are spread wider than at the start of a training,
    so that some scores pass the threshold and answers can be compared.
    """
    if (folder / "complete").exists():
        return folder
    import torch
    from transformers import YolosConfig, YolosForObjectDetection

    torch.manual_seed(_SEED)
    make_config: Any = YolosConfig
    config = make_config(
        hidden_size=192,
        num_hidden_layers=12,
        num_attention_heads=3,
        intermediate_size=768,
        image_size=[800, 1333],
        patch_size=16,
        num_detection_tokens=100,
        use_mid_position_embeddings=False,
        num_labels=91,
    )
    model: Any = YolosForObjectDetection(config)
    count = sum(parameter.numel() for parameter in model.parameters())
    if count != PARAMETERS:
        raise AssertionError(f"yolos-tiny has {PARAMETERS:,} parameters, this has {count:,}")
    with torch.no_grad():
        model.vit.embeddings.detection_tokens.normal_(std=0.3)
        for name, weight in model.vit.encoder.named_parameters():
            # Else the queries hardly see the picture, and every frame has the same answer.
            if weight.ndim == 2 and "attention" in name:
                weight.normal_(std=0.05)
        for head, gain in ((model.class_labels_classifier, 0.25), (model.bbox_predictor, 0.15)):
            *hidden, last = head.layers
            for layer in hidden:
                layer.weight.normal_(std=(2 / 192) ** 0.5)
            last.weight.normal_(std=gain)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(_PREPROCESSOR))
    (folder / "complete").touch()
    return folder


def make_frames(folder: Path, count: int = 48) -> list[Path]:
    """JPEG frames of 640x480, about 50 KB each: three things move, and so does the camera."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(_SEED)
    rooms = [
        Image.fromarray(generator.integers(20, 235, (6, 8, 3), dtype=np.uint8)).resize(
            (WIDTH, HEIGHT), Image.Resampling.BICUBIC
        )
        for _ in range(_ROOMS)
    ]
    grain = generator.normal(0, 5, (HEIGHT, WIDTH, 1))
    paths = []
    for index in range(count):
        place, blend = divmod(index * _ROOMS / count, 1)
        frame = Image.blend(rooms[int(place)], rooms[(int(place) + 1) % _ROOMS], blend)
        pen = ImageDraw.Draw(frame)
        phase = 2 * np.pi * index / count
        for number, (color, radius) in enumerate((("navy", 70), ("gold", 45), ("firebrick", 30))):
            x = WIDTH / 2 + 220 * np.cos(phase + 2.1 * number)
            y = HEIGHT / 2 + 150 * np.sin(phase * (1 + number) + number)
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color)
            pen.rectangle((x - radius / 3, y, x + radius / 3, y + radius * 1.4), fill="ivory")
        frame = frame.filter(ImageFilter.SMOOTH)
        noisy = np.asarray(frame) + np.roll(grain, index * 13, axis=1)
        encoded = io.BytesIO()
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(encoded, "JPEG", quality=85)
        path = folder / f"{index:03d}.jpg"
        path.write_bytes(encoded.getvalue())
        paths.append(path)
    return paths


@dataclass(frozen=True)
class FoundObject:
    """One detected object; the box as x1, y1, x2, y2 in pixels."""

    box: tuple[float, ...]
    label: str
    score: float

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> "FoundObject":
        """Read the `objects` member of an answer."""
        return cls(tuple(found["box"]), found["label"], found["score"])


class Reference:
    """What transformers itself answers, at the input size of the server that is checked."""

    def __init__(self, checkpoint: Path) -> None:
        from transformers import YolosForObjectDetection

        self._checkpoint = checkpoint
        self._model: Any = YolosForObjectDetection.from_pretrained(checkpoint)
        self._answers: dict[tuple[str, int], list[FoundObject]] = {}

    def detect(self, frame: Path, shortest_edge: int) -> list[FoundObject]:
        """Objects above the threshold, the box clipped to the image."""
        key = (frame.name, shortest_edge)
        if key not in self._answers:
            self._answers[key] = self._detect(frame, shortest_edge)
        return self._answers[key]

    def _detect(self, frame: Path, shortest_edge: int) -> list[FoundObject]:
        import torch
        from transformers.models.yolos.image_processing_pil_yolos import YolosImageProcessorPil

        size = {"shortest_edge": shortest_edge, "longest_edge": shortest_edge * 1333 // 800}
        processor: Any = YolosImageProcessorPil.from_pretrained(self._checkpoint, size=size)
        image = Image.open(frame).convert("RGB")
        inputs = processor(images=image, return_tensors="pt")
        with torch.inference_mode():
            output = self._model(pixel_values=inputs["pixel_values"])
        (found,) = processor.post_process_object_detection(
            output, threshold=THRESHOLD, target_sizes=torch.tensor([image.size[::-1]])
        )
        limit = torch.tensor([image.width, image.height] * 2)
        return [
            FoundObject(
                tuple(torch.minimum(box.clamp(min=0), limit).tolist()),
                self._model.config.id2label[int(label)],
                float(score),
            )
            for box, label, score in zip(
                found["boxes"], found["labels"], found["scores"], strict=True
            )
        ]


# Room for bfloat16: it moves boxes by up to 15 pixels here, another frame moves them by 100.
_SCORE_TOLERANCE = 0.05
_BOX_TOLERANCE_PX = 20.0


def agreement(expected: Sequence[FoundObject], found: Sequence[FoundObject]) -> float:
    """The share of the clear objects of `expected` that stand in `found`, 0 to 1.

    Objects so near to the threshold that the tolerance decides whether they are answered do not
    count. 1 when there are none.
    """
    clear = [item for item in expected if item.score > THRESHOLD + _SCORE_TOLERANCE]
    if not clear:
        return 1.0
    return sum(any(_same(item, other) for other in found) for item in clear) / len(clear)


def _same(one: FoundObject, other: FoundObject) -> bool:
    return (
        one.label == other.label
        and abs(one.score - other.score) <= _SCORE_TOLERANCE
        and all(
            abs(a - min(max(b, 0), limit)) <= _BOX_TOLERANCE_PX
            for a, b, limit in zip(one.box, other.box, (WIDTH, HEIGHT) * 2, strict=True)
        )
    )
