"""What every model is to the engine, and what can go wrong with it."""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Generic, TypeVar

from app.exceptions import (
    AppError,
    DeadlineExceededError,
    NotFoundError,
    ServiceUnavailableError,
    StartupError,
)

InputT = TypeVar("InputT")
PreparedT = TypeVar("PreparedT")
OutputT = TypeVar("OutputT")


class ModelLoadError(StartupError):
    """The artifact cannot be used; the message says why and what to do. Stops the start."""


class ModelNotFoundError(NotFoundError):
    code = "model_not_found"
    detail = "There is no model of this name."


class ModelUnavailableError(ServiceUnavailableError):
    code = "model_unavailable"
    detail = "The model is being loaded again after a failure. Try again shortly."


class QueueFullError(ServiceUnavailableError):
    code = "queue_full"
    detail = "More work is waiting than the model can do in time. Try again shortly."

    def __init__(self, *, retry_after_s: float = 1.0, full: str | None = None) -> None:
        super().__init__(retry_after_s=retry_after_s)
        self.full = full
        """The model whose queue has no place for a single input more of this caller, so that
        the next would be refused too until a batch is taken; None where that is not so."""


class InferenceTimeoutError(DeadlineExceededError):
    """The deadline passed before the model answered."""


class CallerGoneError(AppError):
    """The caller left before its answer was ready; there is nobody to tell but the log."""

    # As nginx writes it: no standard status says this, and no client sees it.
    status = 499
    code = "caller_gone"
    detail = "The caller left before the answer was ready."


class ModelFailedError(AppError):
    """The model raised on this very item, alone and not only in company."""

    code = "model_failed"
    detail = "The model failed on this input."


class ModelState(StrEnum):
    """Life of a loaded model. `FAILED` is left only by a new load."""

    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What is known of a model: its manifest entry and what loading it told."""

    name: str
    task: str
    version: str
    """First twelve hex digits of the artifact's SHA-256, or of its hub revision."""
    labels: tuple[str, ...]
    description: str = ""
    license: str = ""
    training_data: str = ""
    quality: Mapping[str, Any] = field(default_factory=dict)
    libraries: Mapping[str, str] = field(default_factory=dict)
    input_schema: Mapping[str, Any] = field(default_factory=dict)
    device: str = "cpu"
    backend: str = ""
    """What computes it where there is a choice: library, version and precision."""
    notice: str | None = None
    """What a person must know before trusting the answers, said loudly."""


class InferenceModel(ABC, Generic[InputT, PreparedT, OutputT]):
    """One model behind the engine.

    `load`, `warm_up` and `predict` are called on the model's own thread and nowhere else;
    `preprocess` on any thread of the pool, several at once. Nothing that belongs to one call
    may be kept on the model.
    """

    name: str

    @abstractmethod
    def load(self) -> ModelInfo:
        """Load the artifact, or load it again. Raises `ModelLoadError`."""

    @abstractmethod
    def warm_up(self) -> None:
        """Run the shapes that are to be expected, so that no caller pays for the first time."""

    @abstractmethod
    def preprocess(self, item: InputT) -> PreparedT:
        """Turn what a caller sent into what `predict` takes. Raises `AppError` on bad input."""

    @abstractmethod
    def predict(self, batch: Sequence[PreparedT]) -> list[OutputT]:
        """Answer a batch of one `batch_key`, in order, one output an item."""

    #: Whether `preprocess` computes, so that it must run in the pool and not on the event loop.
    preprocess_computes: bool = True

    #: Cost of the largest batch that still pays, in the unit of `cost`.
    batch_budget: int = 64

    def cost(self, prepared: PreparedT) -> int:  # noqa: ARG002
        """What one item takes of the batch budget: rows, or pixels."""
        return 1

    def batch_key(self, prepared: PreparedT) -> Hashable:  # noqa: ARG002
        """Items with equal keys can share a batch: the shape of an image."""
        return None
