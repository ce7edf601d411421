"""Dynamic batching: what waits while the model works goes through it together.

A lone item never waits for company: the moment the model is free, it gets what is there. Under
load the next batch gathers while the present one computes, so batches grow with the load and
shrink with it. Callers take turns, whatever the number of their connections.
"""

import asyncio
import math
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from loguru import logger

from app.exceptions import AppError
from app.inference.base import (
    InferenceModel,
    InferenceTimeoutError,
    ModelFailedError,
    ModelInfo,
    ModelLoadError,
    ModelState,
    ModelUnavailableError,
    QueueFullError,
)
from app.inference.fair_queue import FairQueue, WorkItem
from app.inference.service_rate import ServiceRate

PreparedT = TypeVar("PreparedT")
OutputT = TypeVar("OutputT")

# Who would wait for longer than this share of the time to its deadline is refused: what is let in
# shall be answered, also when the model slows down, or other callers come and take their turns.
_SHARE_TO_WAIT = 0.5


@dataclass(slots=True)
class BatcherStats:
    """Counters since the start; read by monitoring."""

    submitted: int = 0
    answered: int = 0
    failed: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    """By reason: `unavailable`, `queue_full`, `deadline` (it would be missed)."""
    cancelled: int = 0
    """Dropped before they cost compute, because their callers had gone."""
    expired: int = 0
    """Dropped before they cost compute, because their deadlines had passed."""
    batches: int = 0
    restarts: int = 0
    on_batch: list[Callable[[int, float, float], None]] = field(default_factory=list)
    """Called after each batch with its size, the longest queue wait and its time, in seconds."""


class DynamicBatcher(Generic[PreparedT, OutputT]):
    """Feeds one model from a bounded queue, on a thread that only this model uses.

    Runs in one event loop; every method is to be called from it. `size` bounds the number of
    waiting items. The thread is supervised: should it die, everything that waits is answered
    with `ModelUnavailableError`, and a new thread loads the model again.
    """

    def __init__(
        self,
        model: InferenceModel[Any, PreparedT, OutputT],
        *,
        size: int,
        restart_pause_s: float = 1.0,
    ) -> None:
        self.model = model
        self.size = size
        self.restart_pause_s = restart_pause_s
        self.state = ModelState.STOPPED
        self.info: ModelInfo | None = None
        self.stats = BatcherStats()
        self._queue: FairQueue[PreparedT, OutputT] = FairQueue()
        self._in_flight: list[WorkItem[PreparedT, OutputT]] = []
        self._dispatch_scheduled = False
        self._jobs: queue.SimpleQueue[list[WorkItem[PreparedT, OutputT]] | None]
        self._thread: threading.Thread | None = None
        self._ready: asyncio.Future[ModelInfo]
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopping = False
        # Whether to look for items that nobody waits for: some were withdrawn, or the first
        # deadline of those that waited at the last look has passed.
        self._withdrawn = 0
        self._first_deadline = math.inf
        self._rate = ServiceRate(model.batch_budget)

    def __len__(self) -> int:
        return len(self._queue)

    async def start(self) -> ModelInfo:
        """Start the thread, load and warm up the model. Raises `ModelLoadError`."""
        self._loop = asyncio.get_running_loop()
        self._stopping = False
        self._start_thread()
        return await self._ready

    async def stop(self, timeout_s: float) -> None:
        """Refuse new items, finish what waits within `timeout_s`, fail the rest, end the thread."""
        self._stopping = True
        if self._queue or self._in_flight:
            self._idle.clear()
            try:
                await asyncio.wait_for(self._idle.wait(), timeout_s)
            except TimeoutError:
                logger.warning("{}: {} items cut off at shutdown", self.model.name, len(self))
        self._fail_all(lambda: ModelUnavailableError("The service is shutting down."))
        self.state = ModelState.STOPPED
        if self._thread is not None:
            self._jobs.put(None)
            # A forward pass cannot be interrupted; the thread is a daemon and ends with it.
            await asyncio.to_thread(self._thread.join, timeout_s)

    def submit(
        self, items: Sequence[PreparedT], *, flow: str, deadline: float, is_let_in: bool = False
    ) -> list[WorkItem[PreparedT, OutputT]]:
        """Queue `items`, all or none. Each one's `future` gets its output or an exception.

        `is_let_in`: they have passed `check_capacity` before, and are refused only if they cannot
        be done in time at all.

        Raises `QueueFullError` when the queue is full or too slow for `deadline`,
        `InferenceTimeoutError` when that has passed, and `ModelUnavailableError`
        when the model is not ready.
        """
        share = 1.0 if is_let_in else _SHARE_TO_WAIT
        self._make_room(len(items), flow, deadline, share)
        now = time.monotonic()
        work = [
            WorkItem(
                prepared=prepared,
                cost=self.model.cost(prepared),
                key=self.model.batch_key(prepared),
                flow=flow,
                deadline=deadline,
                future=self._loop.create_future(),
                queued_at=now,
            )
            for prepared in items
        ]
        for item in work:
            self._queue.push(item)
        self._first_deadline = min(self._first_deadline, deadline)
        self.stats.submitted += len(work)
        self._schedule_dispatch()
        return work

    def withdraw(self, work: Sequence[WorkItem[PreparedT, OutputT]]) -> None:
        """Nobody waits for `work` any more; what has not been done of it is not."""
        for item in work:
            if item.future.cancel():
                self._withdrawn += 1
            elif not item.future.cancelled():
                # What failed beside the first failure is told to nobody, and that is no mistake.
                item.future.exception()

    def check_capacity(
        self, count: int, *, flow: str, deadline: float, ahead: int = 0, ahead_s: float = 0.0
    ) -> None:
        """Raise what `submit` would raise for `count` items now; make room as it would.

        For callers whose items cost work before they can be submitted: a refusal that comes
        after the image has been decoded is late, and took time from those that are served. `ahead`
        is the number of items that have passed here, and will be submitted and served before;
        `ahead_s` what else passes before these can be submitted.
        """
        self._make_room(count, flow, deadline, _SHARE_TO_WAIT, ahead, ahead_s)

    def _make_room(
        self,
        count: int,
        flow: str,
        deadline: float,
        share: float,
        ahead: int = 0,
        ahead_s: float = 0.0,
    ) -> None:
        if self.state is not ModelState.READY or self._stopping:
            self.stats.refused["unavailable"] += count
            raise ModelUnavailableError(retry_after_s=self.restart_pause_s)
        now = time.monotonic()
        if now >= deadline:
            self.stats.expired += count
            raise InferenceTimeoutError
        if self._is_too_full(count) and (self._withdrawn or now >= self._first_deadline):
            self._discard_unwanted()
        places = len(self._queue) + count - self.size if self._is_too_full(count) else 0
        if places and not self._queue.can_evict_for(flow, count, places):
            self.stats.refused["queue_full"] += count
            raise QueueFullError(
                retry_after_s=self.expected_wait_s(),
                # Fewer inputs might find room.
                full=self.model.name if count == 1 else None,
            )
        wait_s = ahead_s + self._rate.remaining_s(now)
        wait_s += self._rate.expected_s(self._queue.cost_before(flow, count), items=ahead)
        if wait_s > (deadline - now) * share:
            self.stats.refused["deadline"] += count
            raise QueueFullError(retry_after_s=wait_s)
        # Last: nobody is turned out for one who is refused after all.
        if places:
            self._evict(places)

    def _evict(self, places: int) -> None:
        evicted = self._queue.evict(places)
        self.stats.refused["queue_full"] += len(evicted)
        for item in evicted:
            if not item.future.done():
                retry_after_s = self.expected_wait_s()
                item.future.set_exception(QueueFullError(retry_after_s=retry_after_s))

    def _discard_unwanted(self) -> None:
        """Take out who has left or come too late, and would hold a place until its turn comes.

        Not at each refusal: it costs more than a refusal otherwise does.
        """
        self._queue.discard(self._is_wanted)
        self._withdrawn = 0
        self._first_deadline = self._queue.first_deadline()

    def _is_too_full(self, count: int) -> bool:
        # A request larger than the queue itself passes when it comes alone.
        return len(self._queue) > 0 and len(self._queue) + count > self.size

    def expected_wait_s(self) -> float:
        """Seconds until what waits now is done, from the measured rate; 0 before a measurement."""
        return self._rate.expected_s(self._queue.cost)

    def _schedule_dispatch(self) -> None:
        # Not at once: requests that the loop reads in the same turn go into the same batch.
        if not self._dispatch_scheduled and not self._in_flight:
            self._dispatch_scheduled = True
            self._loop.call_soon(self._dispatch)

    def _dispatch(self) -> None:
        self._dispatch_scheduled = False
        if self._in_flight or self.state is not ModelState.READY:
            return
        batch = self._queue.take(self.model.batch_budget, self._is_wanted)
        if batch:
            self._in_flight = batch
            self._rate.begin(time.monotonic(), sum(item.cost for item in batch))
            self._jobs.put(batch)
        else:
            self._rate.rest()
            self._idle.set()

    def _is_wanted(self, item: WorkItem[PreparedT, OutputT]) -> bool:
        if item.future.done():
            self.stats.cancelled += 1
            return False
        if item.deadline <= time.monotonic():
            self.stats.expired += 1
            item.future.set_exception(InferenceTimeoutError())
            return False
        return True

    def _start_thread(self) -> None:
        self.state = ModelState.LOADING
        self._jobs = queue.SimpleQueue()
        self._ready = self._loop.create_future()
        self._thread = threading.Thread(
            target=self._run_thread,
            args=(self._jobs, self._ready),
            name=f"model-{self.model.name}",
            daemon=True,
        )
        self._thread.start()

    # -- on the model's thread ---------------------------------------------------------------

    def _run_thread(
        self,
        jobs: "queue.SimpleQueue[list[WorkItem[PreparedT, OutputT]] | None]",
        ready: "asyncio.Future[ModelInfo]",
    ) -> None:
        error: BaseException | None = None
        try:
            info = self.model.load()
            self.model.warm_up()
            self._call_in_loop(self._on_ready, ready, info)
            while (batch := jobs.get()) is not None:
                started = time.monotonic()
                results = self._run_batch(batch)
                self._call_in_loop(self._on_batch, batch, results, started, time.monotonic())
        # Whatever ends the thread must be told, or its callers would wait for ever.
        except BaseException as caught:
            error = caught
        if error is not None:
            self._call_in_loop(self._on_thread_death, ready, error)

    def _run_batch(self, batch: list[WorkItem[PreparedT, OutputT]]) -> "list[OutputT | Exception]":
        try:
            outputs = self.model.predict([item.prepared for item in batch])
            if len(outputs) != len(batch):
                raise ValueError(f"{len(outputs)} outputs for {len(batch)} inputs")
            return list(outputs)
        except Exception as error:
            if len(batch) == 1:
                return [self._as_item_error(error)]
            logger.warning("{}: a batch failed, retrying one by one: {!r}", self.model.name, error)
        results: list[OutputT | Exception] = []
        for item in batch:
            try:
                (output,) = self.model.predict([item.prepared])
                results.append(output)
            except Exception as error:
                results.append(self._as_item_error(error))
        return results

    def _as_item_error(self, error: Exception) -> Exception:
        if isinstance(error, AppError):
            return error
        logger.opt(exception=error).error("{}: the model failed on an input", self.model.name)
        return ModelFailedError()

    def _call_in_loop(self, callback: Callable[..., None], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:
            # The loop is closed: the process is ending and nobody waits any more.
            logger.debug("{}: the event loop has gone", self.model.name)

    # -- back in the event loop --------------------------------------------------------------

    def _on_ready(self, ready: "asyncio.Future[ModelInfo]", info: ModelInfo) -> None:
        if self._stopping:
            ready.cancel()
            return
        self.info = info
        # Loading may have changed the budget, and where the model computes.
        self._rate = ServiceRate(self.model.batch_budget)
        self.state = ModelState.READY
        if not ready.done():
            ready.set_result(info)
        self._schedule_dispatch()

    def _on_batch(
        self,
        batch: list[WorkItem[PreparedT, OutputT]],
        results: "list[OutputT | Exception]",
        started: float,
        finished: float,
    ) -> None:
        if batch is not self._in_flight:
            return
        self._in_flight = []
        cost = 0
        longest_wait = 0.0
        for item, result in zip(batch, results, strict=True):
            item.started_at = started
            item.finished_at = finished
            cost += item.cost
            longest_wait = max(longest_wait, started - item.queued_at)
            if item.future.done():
                continue
            if isinstance(result, Exception):
                self.stats.failed += 1
                item.future.set_exception(result)
            else:
                self.stats.answered += 1
                item.future.set_result(result)
        self.stats.batches += 1
        self._rate.finish(
            time.monotonic(), items=len(batch), cost=cost, computed_s=finished - started
        )
        if self._queue:
            # The callers just answered get the loop first: what they send next joins the batch.
            self._schedule_dispatch()
        else:
            self._rate.rest()
            self._idle.set()
        # Last, so that one that raises stops nothing.
        for observe in self.stats.on_batch:
            observe(len(batch), longest_wait, finished - started)

    def _on_thread_death(self, ready: "asyncio.Future[ModelInfo]", error: BaseException) -> None:
        self.state = ModelState.FAILED
        self._fail_all(lambda: ModelUnavailableError(retry_after_s=self.restart_pause_s))
        if not ready.done() and self.info is None:
            ready.set_exception(
                error
                if isinstance(error, ModelLoadError)
                else ModelLoadError(f"{self.model.name}: {error!r}")
            )
            return
        logger.opt(exception=error).error("{}: the model's thread died", self.model.name)
        if not self._stopping:
            self.stats.restarts += 1
            self._loop.call_later(self.restart_pause_s, self._restart)

    def _restart(self) -> None:
        if not self._stopping and self.state is ModelState.FAILED:
            logger.info("{}: loading again", self.model.name)
            self._start_thread()

    def _fail_all(self, make_error: Callable[[], AppError]) -> None:
        for item in (*self._in_flight, *self._queue.clear()):
            if not item.future.done():
                self.stats.failed += 1
                # One each: the traceback of a shared one would grow with every caller.
                item.future.set_exception(make_error())
        self._in_flight = []
        self._rate.rest()
        self._idle.set()
