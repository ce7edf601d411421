"""Every backend of the detector beside PyTorch in float32, and which one is taken."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from app.inference.base import ModelInfo, ModelLoadError
from app.inference.detector_backends.base import BackendUnavailableError, RawDetections
from app.inference.detector_backends.canary import (
    TOLERANCES,
    Deviation,
    canary_images,
    measure_deviation,
)
from app.inference.detector_backends.selection import (
    BackendDisagreesError,
    BackendFailedError,
    BackendWish,
    attempts,
)
from app.inference.detector_backends.torch_backend import TorchBackend
from app.inference.device import DevicePlan, plan_device
from app.inference.hub import CheckpointSource
from app.inference.images import ImageLimits
from app.inference.yolos import DetectionSettings, ImageInput, ObjectDetector
from app.inference.yolos_checkpoint import load_checkpoint
from app.inference.yolos_network import YolosNetwork
from tests.support.checkpoints import YOLOS_TINY, write_checkpoint
from tests.support.pictures import encode, photo

LIMITS = ImageLimits(2**24, 10**7)
OTHERS = ["openvino", "onnxruntime"]
SIZES = [(640, 480), (300, 1000), (96, 96)]


def load(folder: Path, **options: Any) -> tuple[ObjectDetector, ModelInfo]:
    options = dict[str, Any](device="cpu", threads=2) | options
    detector = ObjectDetector(CheckpointSource(folder.name, folder), limits=LIMITS, **options)
    return detector, detector.load()


def pixels(detector: ObjectDetector, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Two different pictures of one size, as a batch."""
    pictures = (photo(*size), photo(*size).rotate(180))
    wanted = DetectionSettings(threshold=0.0)
    prepared = [detector.preprocess(ImageInput(encode(one, "PNG"), wanted)) for one in pictures]
    return np.stack([one.pixels for one in prepared])


def deviation(one: RawDetections, other: RawDetections) -> float:
    """The largest difference between two answers."""
    return max(float(np.abs(a - b).max()) for a, b in zip(one, other, strict=True))


@pytest.fixture(
    scope="module",
    params=["digits", "random", "positions between layers", "no biases", "another activation"],
)
def folder(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, detection_model: Path
) -> Path:
    if request.param == "digits":
        return detection_model
    config: dict[str, dict[str, Any]] = {
        "random": {},
        "positions between layers": {"use_mid_position_embeddings": True},
        "no biases": {"qkv_bias": False},
        "another activation": {"hidden_act": "relu"},
    }
    folder = tmp_path_factory.mktemp("checkpoint")
    write_checkpoint(folder, **config[request.param])
    return folder


@pytest.fixture(scope="module")
def plain_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    write_checkpoint(folder)
    return folder


@pytest.fixture(scope="module")
def jumpy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve layers of large random weights: what bfloat16 rounds away changes every answer."""
    folder = tmp_path_factory.mktemp("jumpy")
    write_checkpoint(folder, **YOLOS_TINY)
    return folder


@pytest.fixture(params=OTHERS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class TestBesidePyTorch:
    def test_float32_is_the_same(self, folder: Path, backend: str) -> None:
        reference, _ = load(folder, backend="torch", precision="float32")
        other, info = load(folder, backend=backend, precision="float32")
        assert info.backend.startswith(backend)
        assert info.backend.endswith("float32")
        # Shapes take turns, so that what was made for one is not used for another.
        for size in [*SIZES, *SIZES]:
            batch = pixels(reference, size)
            assert deviation(reference.forward(batch), other.forward(batch)) < 2e-4

    @pytest.mark.parametrize("precision", ["auto", "int8"])
    def test_less_precision_is_near(self, folder: Path, backend: str, precision: str) -> None:
        reference, _ = load(folder, backend="torch", precision="float32")
        other, info = load(folder, backend=backend, precision=precision)
        tolerance = TOLERANCES[info.backend.rpartition(" ")[2]]
        for size in SIZES:
            batch = pixels(reference, size)
            found = measure_deviation(reference.forward(batch), other.forward(batch))
            assert found.within(tolerance), found
            assert precision == "auto" or found.scores + found.boxes > 1e-5

    def test_int8_is_asked_for(self, plain_folder: Path) -> None:
        _, info = load(plain_folder, precision="int8")
        assert info.backend.endswith("int8")
        assert info.notice is None

    def test_batched_equals_single(self, plain_folder: Path, backend: str) -> None:
        detector, _ = load(plain_folder, backend=backend, precision="float32")
        batch = pixels(detector, (640, 480))
        logits, boxes = detector.forward(batch)
        for i in range(len(batch)):
            alone = detector.forward(batch[i : i + 1])
            assert deviation((logits[i : i + 1], boxes[i : i + 1]), alone) < 1e-4

    def test_answers_stay_when_the_next_is_computed(self, plain_folder: Path, backend: str) -> None:
        detector, _ = load(plain_folder, backend=backend, precision="float32")
        batch = pixels(detector, (640, 480))
        first = detector.forward(batch)
        kept = [array.copy() for array in first]
        detector.forward(batch[:, :, ::-1].copy())
        assert all(np.array_equal(a, b) for a, b in zip(first, kept, strict=True))

    def test_it_can_be_loaded_again(self, plain_folder: Path, backend: str) -> None:
        detector, _ = load(plain_folder, backend=backend)
        batch = pixels(detector, (640, 480))
        before = detector.forward(batch)
        detector.load()
        detector.warm_up()
        assert deviation(before, detector.forward(batch)) == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_all_in_half_precision_as_on_a_gpu(folder: Path, dtype: torch.dtype) -> None:
    """The plan that a GPU gets, computed on the CPU."""
    detector, _ = load(folder, backend="torch", precision="float32")
    checkpoint = load_checkpoint(folder)
    preprocessing = detector.preprocessing
    network = YolosNetwork(
        checkpoint,
        scale=preprocessing.scale,
        shift=preprocessing.shift,
        plan=DevicePlan("cpu", dtype, dtype, dtype),
    )
    backend = TorchBackend(network)
    for size in SIZES:
        batch = pixels(detector, size)
        found = measure_deviation(detector.forward(batch), backend.forward(batch))
        assert found.within(TOLERANCES[backend.precision]), found


class TestTheCheck:
    def test_a_named_precision_that_changes_the_answers_is_refused(
        self, jumpy_folder: Path
    ) -> None:
        with pytest.raises(
            BackendDisagreesError, match=r"torch in bfloat16 does not agree"
        ) as told:
            load(jumpy_folder, backend="torch", precision="bfloat16")
        assert "DETECTION_PRECISION=float32" in str(told.value)

    def test_auto_goes_on_in_float32_and_says_so(self, jumpy_folder: Path) -> None:
        reference, _ = load(jumpy_folder, backend="torch", precision="float32")
        detector, info = load(jumpy_folder)
        assert info.backend.endswith("float32")
        if plan_device("cpu").product_dtype is torch.bfloat16:
            assert info.notice is not None
            assert "in bfloat16 does not agree" in info.notice
        batch = pixels(reference, (96, 96))
        found = measure_deviation(reference.forward(batch), detector.forward(batch))
        assert found.within(TOLERANCES["float32"])

    def test_so_does_a_named_backend(self, jumpy_folder: Path) -> None:
        _, info = load(jumpy_folder, backend="torch")
        assert info.backend.startswith("torch ")
        assert info.backend.endswith("float32")
        has_bfloat16 = plan_device("cpu").product_dtype is torch.bfloat16
        assert (info.notice is not None) == has_bfloat16

    def test_int8_that_changes_the_answers_is_refused(
        self, jumpy_folder: Path, backend: str
    ) -> None:
        with pytest.raises(BackendDisagreesError, match=f"{backend} in int8"):
            load(jumpy_folder, backend=backend, precision="int8")
        with pytest.raises(BackendDisagreesError, match="in int8"):
            load(jumpy_folder, precision="int8")

    def test_deviation(self) -> None:
        logits = np.zeros((1, 2, 3), np.float32)
        boxes = np.full((1, 2, 4), 0.5, np.float32)
        assert measure_deviation((logits, boxes), (logits + 7, boxes)) == Deviation(0, 0)
        moved = boxes + np.array([[0.2], [0]], np.float32)
        assert measure_deviation((logits, boxes), (logits, moved)).boxes == pytest.approx(0.1)
        certain = logits.copy()
        certain[0, 1, 2] = 100
        found = measure_deviation((logits, boxes), (certain, boxes))
        assert found.scores == pytest.approx(2 / 3)
        assert not found.within(Deviation(0.6, 1))

    def test_what_is_not_a_number_or_of_another_shape_never_agrees(self) -> None:
        logits, boxes = np.zeros((1, 2, 3), np.float32), np.zeros((1, 2, 4), np.float32)
        generous = Deviation(1e9, 1e9)
        for broken in ((logits + np.nan, boxes), (logits, boxes * np.nan), (logits[:, :1], boxes)):
            assert not measure_deviation((logits, boxes), broken).within(generous)

    def test_canary_images_do_not_change(self) -> None:
        images = canary_images()
        assert images.shape == (2, 96, 128, 3)
        assert np.array_equal(images, canary_images())
        assert images.std() > 30
        assert not np.array_equal(images[0], images[1])


class TestWhichIsTaken:
    def test_auto_takes_the_fastest_that_is_installed(self, plain_folder: Path) -> None:
        _, info = load(plain_folder)
        assert info.backend.startswith("openvino ")
        assert info.notice is None

    @pytest.mark.parametrize(
        ("precision", "order"),
        [
            ("float32", ["openvino", "onnxruntime", "torch"]),
            ("bfloat16", ["openvino", "torch", "onnxruntime"]),
        ],
    )
    def test_the_order(self, precision: Any, order: list[str]) -> None:
        wish = BackendWish(device="cpu", precision=precision)
        assert [attempt.backend for attempt in attempts(wish)] == order

    def test_auto_ends_in_float32(self) -> None:
        last = attempts(BackendWish(device="cpu"))[-3:]
        assert {attempt.backend for attempt in last} == {"openvino", "torch", "onnxruntime"}
        assert {attempt.precision for attempt in last} == {"float32"}

    @pytest.mark.parametrize("missing", [["openvino"], ["onnxruntime"], ["onnx"]])
    def test_a_missing_package(
        self, missing: list[str], plain_folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for package in missing:
            monkeypatch.setitem(sys.modules, package, None)
        for name in OTHERS if missing == ["onnx"] else missing:
            with pytest.raises(BackendUnavailableError, match=f"requirements-{name}.txt"):
                load(plain_folder, backend=name)
        _, info = load(plain_folder)
        assert info.backend.split()[0] not in missing
        assert info.notice is None

    def test_int8_without_a_library_for_it(
        self, plain_folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "onnx", None)
        for name in ("auto", "torch"):
            with pytest.raises(BackendUnavailableError, match="int8 needs OpenVINO or ONNX"):
                load(plain_folder, backend=name, precision="int8")

    def test_a_damaged_installation(
        self, backend: str, plain_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        package = tmp_path / backend
        package.mkdir()
        (package / "__init__.py").write_text("raise ImportError('libsomething.so is missing')\n")
        monkeypatch.syspath_prepend(tmp_path)
        loaded = [name for name in sys.modules if name.split(".")[0] == backend]
        for name in (*loaded, f"app.inference.detector_backends.{backend}_backend"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        with pytest.raises(BackendFailedError, match=f"(?s){backend}.*libsomething"):
            load(plain_folder, backend=backend)
        _, info = load(plain_folder, precision="float32")
        assert not info.backend.startswith(backend)
        # ONNX Runtime is the second choice: nobody misses it.
        assert (info.notice is None) == (backend == "onnxruntime")

    def test_an_activation_that_only_pytorch_knows(self, backend: str, tmp_path: Path) -> None:
        write_checkpoint(tmp_path, hidden_act="silu")
        with pytest.raises(BackendUnavailableError, match=r"'silu'.*DETECTION_BACKEND=torch"):
            load(tmp_path, backend=backend)
        _, info = load(tmp_path)
        assert info.backend.startswith("torch ")
        assert info.notice is None

    @pytest.mark.parametrize(
        ("name", "precision"), [("onnxruntime", "bfloat16"), ("openvino", "float16")]
    )
    def test_a_precision_that_it_has_not(
        self, name: str, precision: str, plain_folder: Path
    ) -> None:
        with pytest.raises(BackendUnavailableError, match="set DETECTION_PRECISION"):
            load(plain_folder, backend=name, precision=precision)

    def test_a_precision_that_only_pytorch_has(self, plain_folder: Path) -> None:
        _, info = load(plain_folder, precision="float16")
        assert info.backend.startswith("torch ")
        assert info.backend.endswith("float16")
        assert info.notice is None

    def test_a_device_that_is_not_there(self, plain_folder: Path, backend: str) -> None:
        with pytest.raises(ModelLoadError, match="DEVICE=cuda:99"):
            load(plain_folder, backend=backend, device="cuda:99")


def test_pictures_of_many_shapes_do_not_fill_the_memory(plain_folder: Path, backend: str) -> None:
    """Of a process of its own, since memory that others gave back would hide it."""
    grown = json.loads(_run(_MANY_SHAPES, str(plain_folder), backend))
    # In MB, over three more rounds of sixty shapes.
    assert grown < 15


_MANY_SHAPES = """
import json, sys
from pathlib import Path
import numpy as np
from app.inference.hub import CheckpointSource
from app.inference.images import ImageLimits
from app.inference.yolos import ObjectDetector

detector = ObjectDetector(
    CheckpointSource("small", Path(sys.argv[1])), limits=ImageLimits(1, 1), device="cpu",
    backend=sys.argv[2])
detector.load()

def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6

def see(widths):
    for width in widths:
        detector.forward(np.zeros((1, 64, 16 * width, 3), np.uint8))

see(range(60, 0, -1))
before = resident_mb()
for _ in range(3):
    see(range(1, 60))
print(json.dumps(resident_mb() - before))
"""


def _run(code: str, *arguments: str) -> str:
    finished = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout
