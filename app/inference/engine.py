"""The inference engine: owns the models, and is the one way in for every door.

A call goes through preprocessing (in a thread pool, so that decoding the next image overlaps
the forward pass of this one), the model's batcher, and back with its timing.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from loguru import logger

from app.exceptions import AppError
from app.inference.base import (
    CallerGoneError,
    InferenceModel,
    InferenceTimeoutError,
    ModelInfo,
    ModelNotFoundError,
    ModelState,
    QueueFullError,
)
from app.inference.batching import DynamicBatcher
from app.inference.preprocess_pool import PreprocessPool
from app.inference.service_rate import MovingAverage
from app.presence import Presence

InputT = TypeVar("InputT")
OutputT = TypeVar("OutputT")


@dataclass(frozen=True, slots=True)
class Call:
    """Who asks, and until when an answer is of use."""

    flow: str
    """Calls of one flow are served in order; flows take turns."""
    deadline: float
    """On the clock of `time.monotonic`, in seconds."""
    presence: Presence | None = None
    """Of the caller; None when that cannot be known."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Where the time of one call went, in milliseconds."""

    decode_ms: float = 0.0
    queue_ms: float = 0.0
    inference_ms: float = 0.0
    total_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Answer(Generic[OutputT]):
    """One output of a model with its timing."""

    output: OutputT
    timing: Timing


class ModelHandle(Generic[InputT, OutputT]):
    """One model as the doors see it."""

    def __init__(
        self,
        model: InferenceModel[InputT, Any, OutputT],
        pool: PreprocessPool,
        *,
        queue_size: int,
    ) -> None:
        self.model = model
        self.batcher: DynamicBatcher[Any, OutputT] = DynamicBatcher(model, size=queue_size)
        self._pool = pool
        self._queue_size = queue_size
        self._preprocessing: Counter[str] = Counter()
        self._preprocess_s = MovingAverage()

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model.name

    @property
    def state(self) -> ModelState:
        """Where the model is in its life."""
        return self.batcher.state

    @property
    def info(self) -> ModelInfo:
        """What is known of the model; complete once it has been loaded."""
        if self.batcher.info is None:
            raise RuntimeError(f"{self.name} has not been loaded")
        return self.batcher.info

    @property
    def is_saturated(self) -> bool:
        """Whether the queue is so full that a new caller would be refused."""
        return len(self.batcher) >= self.batcher.size

    async def predict(self, item: InputT, call: Call) -> Answer[OutputT]:
        """Answer one input. Raises what `predict_many` raises."""
        (answer,) = await self.predict_many([item], call)
        return answer

    async def predict_many(self, items: Sequence[InputT], call: Call) -> list[Answer[OutputT]]:
        """Answer inputs in order, all or none.

        Raises `AppError` of the model's preprocessing on bad input, `QueueFullError` over
        capacity, `ModelUnavailableError` while the model is not ready, `ModelFailedError` when
        it fails on an input, `InferenceTimeoutError` past the deadline, and `CallerGoneError`
        when nobody waits for the answer any more.
        """
        guard = _Guard(call)
        try:
            return await self._predict_many(items, call)
        except asyncio.CancelledError:
            guard.raise_reason()
            raise
        finally:
            guard.stop()

    async def _predict_many(self, items: Sequence[InputT], call: Call) -> list[Answer[OutputT]]:
        arrived = time.monotonic()
        if self.model.preprocess_computes:
            self._check_capacity(len(items), call)
            prepared = [await self._preprocess(item, call) for item in items]
        else:
            prepared = [self.model.preprocess(item) for item in items]
        decoded = time.monotonic()
        work = self.batcher.submit(
            prepared,
            flow=call.flow,
            deadline=call.deadline,
            is_let_in=self.model.preprocess_computes,
        )
        try:
            outputs = [await item.future for item in work]
        finally:
            self.batcher.withdraw(work)
        done = time.monotonic()
        return [
            Answer(
                output,
                Timing(
                    decode_ms=(decoded - arrived) * 1000,
                    queue_ms=(item.started_at - item.queued_at) * 1000,
                    inference_ms=(item.finished_at - item.started_at) * 1000,
                    total_ms=(done - arrived) * 1000,
                ),
            )
            for item, output in zip(work, outputs, strict=True)
        ]

    def _check_capacity(self, count: int, call: Call) -> None:
        # Images that wait for decoding are held in memory.
        if self._preprocessing.total() >= self._queue_size:
            self.batcher.stats.refused["queue_full"] += count
            raise QueueFullError(retry_after_s=max(1.0, self.batcher.expected_wait_s()))
        # Flows take turns, here as in the queue.
        turns = self._preprocessing[call.flow] + count
        ahead = sum(min(waiting, turns) for waiting in self._preprocessing.values())
        self.batcher.check_capacity(
            count,
            flow=call.flow,
            deadline=call.deadline,
            ahead=ahead,
            ahead_s=ahead * self._preprocess_s.value / self._pool.threads,
        )

    async def _preprocess(self, item: InputT, call: Call) -> Any:
        def preprocess() -> Any:
            if time.monotonic() >= call.deadline:
                raise InferenceTimeoutError
            return self.model.preprocess(item)

        self._preprocessing[call.flow] += 1
        try:
            prepared, seconds = await self._pool.run(call.flow, preprocess)
        finally:
            self._preprocessing[call.flow] -= 1
            if not self._preprocessing[call.flow]:
                del self._preprocessing[call.flow]
        self._preprocess_s.add(seconds)
        return prepared


class _Guard:
    """Cancels the task that makes it when its deadline has passed or its caller has left.

    One timer is all that a call costs: `asyncio.timeout` and a task that waits for the caller's
    leaving would cost more than some models.
    """

    __slots__ = ("_cancelled_before", "_has_ended", "_presence", "_reason", "_task", "_timer")

    def __init__(self, call: Call) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelled_before = task.cancelling()
        self._reason: AppError | None = None
        self._has_ended = False
        # The loop's clock is that of `time.monotonic`.
        self._timer = asyncio.get_running_loop().call_at(call.deadline, self._on_deadline)
        self._presence = call.presence
        if self._presence is not None:
            self._presence.add(self._on_leave)

    def raise_reason(self) -> None:
        """Raise why this guard cancelled the task; nothing when somebody else did."""
        if self._reason is not None and self._task.uncancel() <= self._cancelled_before:
            raise self._reason from None

    def stop(self) -> None:
        """Guard no longer."""
        self._has_ended = True
        self._timer.cancel()
        if self._presence is not None:
            self._presence.discard(self._on_leave)

    def _on_deadline(self) -> None:
        self._cancel(InferenceTimeoutError())

    def _on_leave(self) -> None:
        self._cancel(CallerGoneError())

    def _cancel(self, reason: AppError) -> None:
        if self._reason is None and not self._has_ended:
            self._reason = reason
            self._task.cancel()


class InferenceEngine:
    """All models of a process: starts, names and stops them."""

    def __init__(self, *, queue_size: int, preprocess_threads: int = 2) -> None:
        self._queue_size = queue_size
        self._pool = PreprocessPool(preprocess_threads)
        self._handles: dict[str, ModelHandle[Any, Any]] = {}

    def add(self, model: InferenceModel[InputT, Any, OutputT]) -> ModelHandle[InputT, OutputT]:
        """Put a model under the engine's care; `start` loads it."""
        handle = ModelHandle(model, self._pool, queue_size=self._queue_size)
        self._handles[model.name] = handle
        return handle

    def get(self, name: str) -> ModelHandle[Any, Any]:
        """The handle of a model. Raises `ModelNotFoundError`."""
        try:
            return self._handles[name]
        except KeyError:
            raise ModelNotFoundError(f"There is no model named {name!r}.") from None

    @property
    def handles(self) -> list[ModelHandle[Any, Any]]:
        """All models, in the order they were added."""
        return list(self._handles.values())

    async def start(self) -> None:
        """Load all models, side by side. Raises `ModelLoadError`, having stopped the others."""
        outcomes = await asyncio.gather(
            *(handle.batcher.start() for handle in self.handles), return_exceptions=True
        )
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                await self.stop(0)
                raise outcome
        for handle in self.handles:
            info = handle.info
            logger.info(
                "model {} ({}) version {} ready on {}",
                info.name,
                info.task,
                info.version,
                info.device,
            )

    async def stop(self, timeout_s: float) -> None:
        """Finish what waits within `timeout_s`, then end all threads."""
        await asyncio.gather(*(handle.batcher.stop(timeout_s) for handle in self.handles))
        self._pool.shut_down()

    def problems(self) -> dict[str, str]:
        """Why the engine is not ready, by part; empty when it is."""
        found: dict[str, str] = {}
        for handle in self.handles:
            if handle.state is not ModelState.READY:
                found[f"model:{handle.name}"] = f"is {handle.state}"
            elif handle.is_saturated:
                found[f"queue:{handle.name}"] = "is full"
        return found
