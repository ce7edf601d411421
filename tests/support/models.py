"""Small models whose behaviour a test decides: real to the engine, which cannot tell."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from app.inference.base import InferenceModel, ModelInfo, ModelLoadError
from app.inference.images import ImageLimits, open_image
from app.inference.joblib_pipeline import Classification
from app.inference.yolos import DetectedObject, Detections, ImageInput
from tests.support.waiting import Gate


@dataclass(frozen=True, slots=True)
class Item:
    """An input of `EchoModel`, which decides what becomes of it."""

    value: int
    cost: int = 1
    key: Hashable = None
    fails: bool = False
    """The model raises on every batch with this item."""
    kills: bool = False
    """The model's thread dies of it."""


class EchoModel(InferenceModel[Item, Item, int]):
    """Answers each item with ten times its value, and remembers its batches.

    Whoever comes to `predict` goes through `gate` first.
    """

    name = "echo"
    preprocess_computes = False

    def __init__(self, *, budget: int = 64) -> None:
        self.batch_budget = budget
        self.gate = Gate()
        self.batches: list[list[Item]] = []
        self.loads = 0
        self.load_error: Exception | None = None

    def load(self) -> ModelInfo:
        self.loads += 1
        if self.load_error is not None:
            raise self.load_error
        return ModelInfo(self.name, "echo", f"v{self.loads}", labels=())

    def warm_up(self) -> None:
        pass

    def preprocess(self, item: Item) -> Item:
        return item

    def predict(self, batch: Sequence[Item]) -> list[int]:
        self.batches.append(list(batch))
        self.gate.go_through()
        if any(item.kills for item in batch):
            raise SystemExit(1)
        if any(item.fails for item in batch):
            raise ValueError("an item that fails")
        return [item.value * 10 for item in batch]

    def cost(self, prepared: Item) -> int:
        return prepared.cost

    def batch_key(self, prepared: Item) -> Hashable:
        return prepared.key

    @property
    def values(self) -> list[list[int]]:
        """The values of each batch so far."""
        return [[item.value for item in batch] for batch in self.batches]


class ForgetfulModel(EchoModel):
    """Loses the last answer of every batch, also of a batch of one."""

    def predict(self, batch: Sequence[Item]) -> list[int]:
        return super().predict(batch)[:-1]


class UnloadableModel(EchoModel):
    """Cannot be loaded."""

    def load(self) -> ModelInfo:
        raise ModelLoadError("there is no such artifact")


class GatedDetector(InferenceModel[ImageInput, ImageInput, Detections]):
    """Finds one object, as large as the image, that says how wide the image is.

    Decodes for real. The width lets a test tell which of its images was answered.
    """

    name = "gated"

    def __init__(self) -> None:
        self.gate = Gate()
        self.batches: list[list[ImageInput]] = []
        self.error: Exception | None = None
        self.preprocess_error: Exception | None = None

    def load(self) -> ModelInfo:
        return ModelInfo(self.name, "object-detection", "v1", labels=("thing",))

    def warm_up(self) -> None:
        pass

    def preprocess(self, item: ImageInput) -> ImageInput:
        if self.preprocess_error is not None:
            raise self.preprocess_error
        open_image(item.data, ImageLimits(2**24, 2**24)).decode()
        return item

    def predict(self, batch: Sequence[ImageInput]) -> list[Detections]:
        self.batches.append(list(batch))
        self.gate.go_through()
        if self.error is not None:
            raise self.error
        return [self._detect(item) for item in batch]

    def _detect(self, item: ImageInput) -> Detections:
        opened = open_image(item.data, ImageLimits(2**24, 2**24))
        width, height = opened.width, opened.height
        found = DetectedObject((0.0, 0.0, float(width), float(height)), "thing", 0.9)
        wanted = item.settings.labels is None or "thing" in item.settings.labels
        objects = (found,) if wanted and found.score > item.settings.threshold else ()
        return Detections(objects, width, height)


class GatedClassifier(InferenceModel[str, str, Classification]):
    """Takes every text for the label `yes`; fails on the text `bad`."""

    name = "gated-text"
    preprocess_computes = False

    def __init__(self) -> None:
        self.gate = Gate()
        self.batches: list[list[str]] = []
        self.loads = 0

    def load(self) -> ModelInfo:
        self.loads += 1
        return ModelInfo(self.name, "text-classification", f"v{self.loads}", labels=("yes", "no"))

    def warm_up(self) -> None:
        pass

    def preprocess(self, item: str) -> str:
        return item

    def predict(self, batch: Sequence[str]) -> list[Classification]:
        self.batches.append(list(batch))
        self.gate.go_through()
        if "bad" in batch:
            raise ValueError("a text that fails")
        return [Classification("yes", {"yes": 0.75, "no": 0.25}) for _ in batch]
