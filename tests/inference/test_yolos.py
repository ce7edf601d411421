"""The detector beside transformers' own, and what it refuses to load."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import YolosForObjectDetection
from transformers.models.yolos.image_processing_pil_yolos import (
    YolosImageProcessorPil,
    get_size_with_aspect_ratio_yolos,
)

from app.inference.base import ModelLoadError
from app.inference.detector_backends.torch_backend import TorchBackend
from app.inference.hub import CheckpointSource
from app.inference.images import CorruptImageError, ImageLimits
from app.inference.registry import ModelRegistry
from app.inference.yolos import (
    Detections,
    DetectionSettings,
    ImageInput,
    ObjectDetector,
    PreparedImage,
)
from app.inference.yolos_preprocessing import Preprocessing
from tests.support.checkpoints import (
    LABELS,
    SMALL_PREPROCESSOR,
    YOLOS_TINY_PREPROCESSOR,
    write_checkpoint,
)
from tests.support.manifests import write_manifest
from tests.support.pictures import encode, photo

LIMITS = ImageLimits(2**24, 10**7)
ALL = DetectionSettings(threshold=0.0)
SIZES = [(640, 480), (96, 96), (300, 1000), (1000, 130), (97, 95)]


def make_detector(folder: Path, **options: Any) -> ObjectDetector:
    source = CheckpointSource(folder.name, folder)
    options = {"device": "cpu", "backend": "torch", "precision": "float32"} | options
    return ObjectDetector(source, limits=LIMITS, **options)


@pytest.fixture(scope="module", params=["plain", "with positions between layers"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    write_checkpoint(folder, use_mid_position_embeddings=request.param != "plain")
    return folder


@pytest.fixture(scope="module")
def plain_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    write_checkpoint(folder)
    return folder


@pytest.fixture(scope="module")
def detector(plain_folder: Path) -> ObjectDetector:
    detector = make_detector(plain_folder)
    detector.load()
    return detector


def prepare(
    detector: ObjectDetector, size: tuple[int, int], wanted: DetectionSettings = ALL
) -> PreparedImage:
    return detector.preprocess(ImageInput(encode(photo(*size), "PNG"), wanted))


def expected_size(
    preprocessing: Preprocessing, width: int, height: int, *, least: int = 16
) -> tuple[int, int]:
    rows, columns = get_size_with_aspect_ratio_yolos(
        (height, width), preprocessing.shortest_edge, preprocessing.longest_edge
    )
    return max(least, columns), max(least, rows)


class TestPreprocessing:
    @pytest.mark.parametrize("edges", [(800, 1333), (512, 853), (128, 213), (96, 160), (16, 26)])
    def test_the_input_size_is_that_of_transformers(self, edges: tuple[int, int]) -> None:
        preprocessing = Preprocessing(*edges, (1, 1, 1), (0, 0, 0))
        random = np.random.default_rng(3)
        sizes = np.exp(random.uniform(0, np.log(6000), (4000, 2))).astype(int).tolist()
        # Where rounding decides: thin pictures whose longer edge is a multiple of the patch.
        sizes += [(16 * i, short) for i in range(1, 120) for short in range(1, 12)]
        for width, height in [*sizes, *((height, width) for width, height in sizes)]:
            found = preprocessing.input_size(width, height)
            assert found == expected_size(preprocessing, width, height), (width, height)

    @pytest.mark.parametrize(
        ("size", "expected"),
        [((640, 480), (672, 512)), ((480, 640), (512, 672)), ((10_000, 1), (848, 16))],
    )
    def test_input_sizes_of_yolos_tiny(
        self, size: tuple[int, int], expected: tuple[int, int]
    ) -> None:
        preprocessing = Preprocessing.from_config(YOLOS_TINY_PREPROCESSOR, 512)
        assert preprocessing.input_size(*size) == expected

    def test_both_forms_of_the_file_say_the_same(self) -> None:
        present = {
            **SMALL_PREPROCESSOR,
            "size": {"shortest_edge": 800, "longest_edge": 1333},
        }
        for input_size in (None, 512):
            assert Preprocessing.from_config(
                YOLOS_TINY_PREPROCESSOR, input_size
            ) == Preprocessing.from_config(present, input_size)

    def test_an_input_size_of_ones_own_keeps_the_ratio_of_the_edges(self) -> None:
        preprocessing = Preprocessing.from_config(YOLOS_TINY_PREPROCESSOR, 512)
        assert (preprocessing.shortest_edge, preprocessing.longest_edge) == (512, 853)

    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"do_normalize": False},
            {"rescale_factor": 1 / 127},
            {"do_rescale": False},
            {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]},
        ],
    )
    def test_normalisation_is_that_of_transformers(self, changes: dict[str, Any]) -> None:
        config = {**SMALL_PREPROCESSOR, **changes}
        processor = YolosImageProcessorPil(**config)
        expected = processor(images=photo(96, 96), return_tensors="np")["pixel_values"][0]
        preprocessing = Preprocessing.from_config(config, None)
        values = np.asarray(photo(96, 96)).astype(np.float64)
        found = values * preprocessing.scale + preprocessing.shift
        assert np.abs(found.transpose(2, 0, 1) - expected).max() < 1e-4 * np.abs(expected).max()

    def test_pixels_are_those_of_transformers(self, detector: ObjectDetector) -> None:
        processor = YolosImageProcessorPil(
            **{**SMALL_PREPROCESSOR, "do_normalize": False, "do_rescale": False}
        )
        for size in SIZES:
            expected = processor(images=photo(*size), return_tensors="np")["pixel_values"][0]
            found = prepare(detector, size).pixels
            assert np.array_equal(found.transpose(2, 0, 1), expected)

    def test_a_bad_image_is_told(self, detector: ObjectDetector) -> None:
        with pytest.raises(CorruptImageError):
            detector.preprocess(ImageInput(encode(photo(), "PNG")[:100], ALL))


class TestBesideTransformers:
    @pytest.mark.parametrize("size", SIZES)
    def test_the_network_answers_the_same(self, folder: Path, size: tuple[int, int]) -> None:
        detector = make_detector(folder)
        detector.load()
        network = YolosForObjectDetection.from_pretrained(folder).eval()  # type: ignore[no-untyped-call]
        processor = YolosImageProcessorPil.from_pretrained(folder)
        # Twice: the second time from remembered position embeddings.
        for _ in range(2):
            logits, boxes = detector.forward(np.stack([prepare(detector, size).pixels]))
        with torch.no_grad():
            expected = network(**processor(images=photo(*size), return_tensors="pt"))
        assert np.abs(logits - expected.logits.numpy()).max() < 1e-4
        assert np.abs(boxes - expected.pred_boxes.numpy()).max() < 1e-5

    def test_pictures_of_many_shapes_do_not_fill_the_memory(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        detector = make_detector(folder)
        detector.load()
        detector.warm_up()
        assert isinstance(detector._backend, TorchBackend)
        positions = detector._backend.network.positions
        limit = 3 * positions.remembered_bytes
        monkeypatch.setattr("app.inference.yolos_positions.MAX_REMEMBERED_BYTES", limit)
        first = detector.predict([prepare(detector, (640, 480))])
        for width in range(100, 1000, 50):
            detector.predict([prepare(detector, (width, 500))])
            assert 0 < positions.remembered_bytes <= limit
        assert detector.predict([prepare(detector, (640, 480))]) == first

    def test_half_precision_is_near(self, folder: Path) -> None:
        answers = []
        for precision in ("float32", "bfloat16"):
            detector = make_detector(folder, precision=precision)
            detector.load()
            answers.append(detector.forward(np.stack([prepare(detector, (640, 480)).pixels])))
        (logits, boxes), (half_logits, half_boxes) = answers
        assert 0 < np.abs(logits - half_logits).max() < 0.1
        assert np.abs(boxes - half_boxes).max() < 0.02

    @pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.9])
    def test_objects_are_those_of_its_post_processing(
        self, detector: ObjectDetector, threshold: float
    ) -> None:
        random = np.random.default_rng(7)
        logits = random.normal(0, 2, (3, 12, len(LABELS) + 1)).astype(np.float32)
        # Some boxes reach beyond the picture.
        boxes = random.uniform(0, 1, (3, 12, 4)).astype(np.float32)
        sizes = [(640, 480), (31, 77), (5, 1000)]
        results = YolosImageProcessorPil().post_process_object_detection(
            SimpleNamespace(logits=torch.from_numpy(logits), pred_boxes=torch.from_numpy(boxes)),
            threshold=threshold,
            target_sizes=[(height, width) for width, height in sizes],
        )
        for i, ((width, height), expected) in enumerate(zip(sizes, results, strict=True)):
            image = PreparedImage(
                np.zeros((16, 16, 3), np.uint8), width, height, DetectionSettings(threshold)
            )
            found = detector.postprocess(logits[i], boxes[i], image)
            assert (found.width, found.height) == (width, height)
            order = expected["scores"].argsort(descending=True)
            assert len(found.objects) == len(order)
            for one, query in zip(found.objects, order, strict=True):
                assert one.score == pytest.approx(float(expected["scores"][query]), abs=1e-4)
                assert one.label == LABELS[int(expected["labels"][query])]
                clipped = expected["boxes"][query].numpy().clip(0, [width, height, width, height])
                assert one.box == pytest.approx(tuple(clipped), abs=0.01)


def objects_of(
    detector: ObjectDetector, scores: list[tuple[int, float]], wanted: DetectionSettings
) -> list[tuple[str, float]]:
    """What is found where each query sees a label with a score, and all else is background."""
    logits = np.full((len(scores), len(LABELS) + 1), -100.0, np.float32)
    for query, (label, score) in enumerate(scores):
        logits[query, label] = np.log(score)
        logits[query, -1] = np.log(1 - score)
    boxes = np.full((len(scores), 4), 0.5, np.float32)
    image = PreparedImage(np.zeros((16, 16, 3), np.uint8), 100, 100, wanted)
    found = detector.postprocess(logits, boxes, image).objects
    return [(one.label, round(one.score, 2)) for one in found]


class TestSettings:
    SCORES = [(0, 0.6), (1, 0.9), (0, 0.8), (3, 0.7)]  # noqa: RUF012

    def test_best_first(self, detector: ObjectDetector) -> None:
        assert objects_of(detector, self.SCORES, ALL) == [
            ("dog", 0.9),
            ("cat", 0.8),
            ("bird", 0.7),
            ("cat", 0.6),
        ]

    def test_scores_must_be_above_the_threshold(self, detector: ObjectDetector) -> None:
        half = DetectionSettings(threshold=0.5)
        assert objects_of(detector, [(0, 0.5)], half) == []
        assert objects_of(detector, [(0, 0.51)], half) == [("cat", 0.51)]
        assert objects_of(detector, self.SCORES, DetectionSettings(threshold=1.0)) == []

    def test_only_the_labels_that_are_asked_for(self, detector: ObjectDetector) -> None:
        wanted = DetectionSettings(threshold=0.0, labels=frozenset({"cat", "no such label"}))
        assert objects_of(detector, self.SCORES, wanted) == [("cat", 0.8), ("cat", 0.6)]

    def test_at_most_so_many_of_those_that_are_asked_for(self, detector: ObjectDetector) -> None:
        wanted = DetectionSettings(threshold=0.0, labels=frozenset({"cat", "bird"}), max_objects=2)
        assert objects_of(detector, self.SCORES, wanted) == [("cat", 0.8), ("bird", 0.7)]

    def test_boxes_never_leave_the_image(self, detector: ObjectDetector) -> None:
        for size in SIZES:
            (found,) = detector.predict([prepare(detector, size)])
            assert found.objects
            for one in found.objects:
                x1, y1, x2, y2 = one.box
                assert 0 <= x1 <= x2 <= size[0]
                assert 0 <= y1 <= y2 <= size[1]


def test_batched_equals_single(detector: ObjectDetector) -> None:
    images = [
        detector.preprocess(ImageInput(encode(photo(200, 150).rotate(angle), "PNG"), ALL))
        for angle in (0, 90, 180, 270)
    ]
    together = detector.predict(images)
    for image, found in zip(images, together, strict=True):
        (alone,) = detector.predict([image])
        assert [one.label for one in found.objects] == [one.label for one in alone.objects]
        for one, other in zip(found.objects, alone.objects, strict=True):
            assert one.score == pytest.approx(other.score, abs=1e-3)
            assert one.box == pytest.approx(other.box, abs=0.1)


def test_the_cost_is_in_pixels_and_shapes_are_told_apart(detector: ObjectDetector) -> None:
    wide, tall = prepare(detector, (640, 480)), prepare(detector, (480, 640))
    assert detector.cost(wide) == wide.pixels.shape[0] * wide.pixels.shape[1] == 96 * 128
    assert detector.batch_key(wide) != detector.batch_key(tall)
    assert detector.batch_key(wide) == detector.batch_key(prepare(detector, (320, 240)))


class TestWhatIsKnown:
    def test_what_loading_tells(self, plain_folder: Path) -> None:
        info = make_detector(plain_folder).load()
        assert info.task == "object-detection"
        assert info.labels == ("cat", "dog", "bird")
        assert info.device == "cpu"
        assert info.input_schema["shortest_edge"] == 96
        assert {"torch", "transformers"} <= info.libraries.keys()

    def test_the_version_of_a_folder_is_the_digest_of_its_files(
        self, plain_folder: Path, tmp_path: Path
    ) -> None:
        version = make_detector(plain_folder).load().version
        copy = tmp_path / "copy"
        shutil.copytree(plain_folder, copy)
        assert make_detector(copy).load().version == version
        other = {**SMALL_PREPROCESSOR, "image_mean": [0.5, 0.5, 0.5]}
        (copy / "preprocessor_config.json").write_text(json.dumps(other))
        assert make_detector(copy).load().version != version

    def test_an_input_size_of_ones_own(self, plain_folder: Path) -> None:
        detector = make_detector(plain_folder, input_size=64)
        assert detector.load().input_schema["shortest_edge"] == 64
        assert prepare(detector, (640, 480)).pixels.shape == (64, 80, 3)

    def test_it_can_be_loaded_again(self, plain_folder: Path) -> None:
        detector = make_detector(plain_folder)
        answers: list[Detections] = []
        for _ in range(2):
            detector.load()
            detector.warm_up()
            answers += detector.predict([prepare(detector, (64, 48))])
        assert answers[0] == answers[1]


def rewrite_json(file: str, **changes: Any) -> Callable[[Path], None]:
    def rewrite(folder: Path) -> None:
        content = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps(content | changes))

    return rewrite


def rewrite_weights(change: Callable[[dict[str, torch.Tensor]], None]) -> Callable[[Path], None]:
    def rewrite(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    return rewrite


def only_pickled(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def cut_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def drop_classifier(weights: dict[str, torch.Tensor]) -> None:
    del weights["class_labels_classifier.layers.2.weight"]


def shrink_classifier(weights: dict[str, torch.Tensor]) -> None:
    name = "class_labels_classifier.layers.2.weight"
    weights[name] = weights[name][:-1].contiguous()


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "weights only as a pickle": (only_pickled, r"no model\.safetensors.*only safetensors"),
    "no config": (lambda folder: (folder / "config.json").unlink(), r"config\.json"),
    "no preprocessor": (
        lambda folder: (folder / "preprocessor_config.json").unlink(),
        r"preprocessor_config\.json",
    ),
    "config is no JSON": (
        lambda folder: (folder / "config.json").write_text("{"),  # type: ignore[dict-item]
        r"config\.json",
    ),
    "config is no object": (
        lambda folder: (folder / "config.json").write_text("[]"),  # type: ignore[dict-item]
        r"config\.json",
    ),
    "preprocessor is no JSON": (
        lambda folder: (folder / "preprocessor_config.json").write_text(""),  # type: ignore[dict-item]
        r"preprocessor_config\.json",
    ),
    "preprocessor without its size": (
        rewrite_json("preprocessor_config.json", size={"height": 10, "width": 10}),
        r"preprocessor_config\.json",
    ),
    "preprocessor with two channels": (
        rewrite_json("preprocessor_config.json", image_mean=[0.5, 0.5], image_std=[0.5, 0.5]),
        r"preprocessor_config\.json",
    ),
    "another kind of model": (rewrite_json("config.json", model_type="detr"), "'detr'.*not YOLOS"),
    "config with a size that is none": (
        rewrite_json("config.json", hidden_size="wide"),
        r"config\.json is not a YOLOS model's.*hidden_size",
    ),
    "weights that do not fit": (rewrite_json("config.json", hidden_size=48), "does not fit"),
    "weights that are missing": (rewrite_weights(drop_classifier), "does not fit.*missing"),
    "weights of another shape": (rewrite_weights(shrink_classifier), "does not fit.*instead"),
    "weights cut off": (cut_weights, "cannot be loaded"),
}


class TestRefusals:
    @pytest.mark.parametrize("damage", DAMAGE)
    def test_a_damaged_checkpoint(self, damage: str, plain_folder: Path, tmp_path: Path) -> None:
        folder = tmp_path / "checkpoint"
        shutil.copytree(plain_folder, folder)
        change, message = DAMAGE[damage]
        change(folder)
        with pytest.raises(ModelLoadError, match=f"(?s){message}"):
            make_detector(folder).load()

    def test_code_that_comes_with_a_checkpoint_does_not_run(
        self, plain_folder: Path, tmp_path: Path
    ) -> None:
        folder = tmp_path / "checkpoint"
        shutil.copytree(plain_folder, folder)
        mark = tmp_path / "it-ran"
        (folder / "modeling_custom.py").write_text(f"open({str(mark)!r}, 'w')\n")
        classes = {"AutoModelForObjectDetection": "modeling_custom.YolosForObjectDetection"}
        rewrite_json("config.json", auto_map=classes)(folder)
        make_detector(folder).load()
        assert not mark.exists()

    def test_a_registered_checkpoint_that_was_changed(
        self, plain_folder: Path, tmp_path: Path
    ) -> None:
        folder = tmp_path / "small"
        shutil.copytree(plain_folder, folder)
        write_manifest(tmp_path, "small", format="safetensors", task="object-detection")
        registry = ModelRegistry(tmp_path)
        info = make_detector(folder, registry=registry).load()
        assert info.version == registry.version("small")
        assert info.description == "A test's own."
        rewrite_json("config.json", hidden_dropout_prob=0.1)(folder)
        with pytest.raises(ModelLoadError, match=r"config\.json is not the file of the manifest"):
            make_detector(folder, registry=registry).load()

    def test_a_device_that_is_not_there(self, plain_folder: Path) -> None:
        with pytest.raises(ModelLoadError, match="DEVICE=cuda:99"):
            make_detector(plain_folder, device="cuda:99").load()


def test_images_of_one_pixel_have_an_input(detector: ObjectDetector) -> None:
    data = encode(Image.new("RGB", (1, 1), "red"), "PNG")
    (found,) = detector.predict([detector.preprocess(ImageInput(data, ALL))])
    assert (found.width, found.height) == (1, 1)
