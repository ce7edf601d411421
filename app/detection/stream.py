"""One WebSocket's life: frames in, objects out, and never an answer about an old picture."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

from fastapi import WebSocket, WebSocketDisconnect
from loguru import logger
from pydantic import ValidationError

from app.auth.dependencies import Caller
from app.detection.schemas import StreamSettings, frame_message
from app.exceptions import AppError, RetryableError, ServiceUnavailableError
from app.history.recorder import HistoryRecorder
from app.history.records import StreamRecord
from app.inference.engine import Call, ModelHandle
from app.inference.yolos import Detections, DetectionSettings, ImageInput

# A revoked token must be dead within a second, a stream's too.
_IDENTITY_CHECK_EVERY_S = 1.0
# RFC 6455, 5.5: a control frame carries at most 125 bytes, two of them the code.
_MAX_REASON_BYTES = 123


class CloseCode(IntEnum):
    """Why a stream ended, as the API contract gives it."""

    NORMAL = 1000
    NOT_UNDERSTOOD = 1003
    NO_STATUS = 1005
    NOT_ALLOWED = 1008
    TOO_BIG = 1009
    OUR_FAULT = 1011
    RESTART = 1012
    TRY_LATER = 1013


class StreamState(StrEnum):
    """A stream closes once; nothing is sent after."""

    OPEN = "open"
    CLOSED = "closed"


class TooManyStreamsError(ServiceUnavailableError):
    code = "too_many_streams"
    detail = "As many streams are open as this server carries. Try again later."


@dataclass(slots=True)
class StreamCounts:
    """What happened in one stream so far."""

    received: int = 0
    processed: int = 0
    """Answered, be it with an error."""
    failed: int = 0
    """Answered with an error."""
    dropped: int = 0
    """Replaced in the mailbox by a newer frame."""
    latency_s: float = 0.0
    """Summed over the processed frames, from arrival to answer."""
    labels: Counter[str] = field(default_factory=Counter)

    def add(self, other: "StreamCounts") -> None:
        """Add the counts of another stream, without its labels."""
        self.received += other.received
        self.processed += other.processed
        self.failed += other.failed
        self.dropped += other.dropped
        self.latency_s += other.latency_s


@dataclass(frozen=True, slots=True)
class Frame:
    """One encoded image, as it arrived."""

    number: int
    data: bytes
    settings: DetectionSettings
    arrived_at: float


class DetectionStream:
    """A receiver that keeps only the newest frame, and a detector that takes and answers it.

    The mailbox has one place: while a frame is being processed, a newer one replaces the one
    that waits. `run` returns when the client has gone or the stream was closed; then one record
    is kept of it.
    """

    def __init__(
        self,
        websocket: WebSocket,
        detector: ModelHandle[ImageInput, Detections],
        caller: Caller,
        *,
        authenticate: Callable[[], Awaitable[Caller]],
        recorder: HistoryRecorder,
        settings: DetectionSettings,
        max_frame_bytes: int,
        frame_timeout_s: float,
        store: bool,
    ) -> None:
        self.caller = caller
        self.counts = StreamCounts()
        self.state = StreamState.OPEN
        self._websocket = websocket
        self._detector = detector
        self._authenticate = authenticate
        self._recorder = recorder
        self._settings = settings
        self._max_frame_bytes = max_frame_bytes
        self._frame_timeout_s = frame_timeout_s
        self._store = store
        self._mailbox: Frame | None = None
        self._mail = asyncio.Event()
        self._close_code: int = CloseCode.NO_STATUS
        # Streams of one person take turns with each other and with that person's uploads.
        self._flow = f"{caller.key}/stream/{id(self)}"
        self._started = time.monotonic()
        self._identity_checked_at = self._started

    async def run(self) -> None:
        """Serve the stream to its end."""
        tasks = [asyncio.create_task(self._receive()), asyncio.create_task(self._detect())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            for outcome in outcomes:
                if isinstance(outcome, Exception):
                    logger.opt(exception=outcome).error("a stream failed")
                    await self.close(CloseCode.OUR_FAULT, "Something went wrong on our side.")
            self.state = StreamState.CLOSED
            await self._record()

    async def close(self, code: CloseCode, reason: str) -> None:
        """Close the connection, if it is open still."""
        if self.state is StreamState.CLOSED:
            return
        self.state = StreamState.CLOSED
        self._close_code = code
        short = reason.encode()[:_MAX_REASON_BYTES].decode(errors="ignore")
        # The client may have gone in the meantime: then there is nothing to close.
        with suppress(RuntimeError, WebSocketDisconnect):
            await self._websocket.close(code, short)
        # Not for the client to answer the close: it may never do so, and would hold its place.
        self._mail.set()

    async def _receive(self) -> None:
        while self.state is StreamState.OPEN:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                if self.state is StreamState.OPEN:
                    self._close_code = message.get("code") or CloseCode.NO_STATUS
                    self.state = StreamState.CLOSED
                return
            data, text = message.get("bytes"), message.get("text")
            if data is not None:
                await self._take_frame(data)
            elif text is not None:
                await self._change_settings(text)

    async def _take_frame(self, data: bytes) -> None:
        self.counts.received += 1
        if len(data) > self._max_frame_bytes:
            await self.close(
                CloseCode.TOO_BIG, f"A frame may have at most {self._max_frame_bytes:,} bytes."
            )
            return
        if self._mailbox is not None:
            self.counts.dropped += 1
        self._mailbox = Frame(self.counts.received, data, self._settings, time.monotonic())
        self._mail.set()

    async def _change_settings(self, text: str) -> None:
        try:
            self._settings = StreamSettings.model_validate_json(text).apply_to(self._settings)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in first["loc"]) or "message"
            await self.close(CloseCode.NOT_UNDERSTOOD, f"{place}: {first['msg']}")

    async def _detect(self) -> None:
        while self.state is StreamState.OPEN:
            await self._mail.wait()
            self._mail.clear()
            frame, self._mailbox = self._mailbox, None
            if frame is None or not await self._is_still_allowed():
                continue
            answer = await self._answer(frame)
            if self.state is not StreamState.OPEN:
                return
            try:
                await self._websocket.send_text(json.dumps(answer, separators=(",", ":")))
            except (RuntimeError, WebSocketDisconnect):
                # Gone in mid-frame; the receiver is told the code.
                return
            self.counts.processed += 1
            self.counts.latency_s += time.monotonic() - frame.arrived_at

    async def _answer(self, frame: Frame) -> dict[str, object]:
        try:
            answer = await self._detector.predict(
                ImageInput(frame.data, frame.settings),
                Call(flow=self._flow, deadline=frame.arrived_at + self._frame_timeout_s),
            )
        except AppError as error:
            self.counts.failed += 1
            return {
                "objects": [],
                "frame": frame.number,
                "dropped": self.counts.dropped,
                "error": {"code": error.code, "detail": error.detail},
            }
        self.counts.labels.update(found.label for found in answer.output.objects)
        return frame_message(
            answer.output, answer.timing, frame=frame.number, dropped=self.counts.dropped
        )

    async def _is_still_allowed(self) -> bool:
        now = time.monotonic()
        if self.caller.is_anonymous or now - self._identity_checked_at < _IDENTITY_CHECK_EVERY_S:
            return True
        self._identity_checked_at = now
        try:
            await self._authenticate()
        except RetryableError as error:
            await self.close(CloseCode.TRY_LATER, error.detail)
            return False
        except AppError as error:
            await self.close(CloseCode.NOT_ALLOWED, error.detail)
            return False
        return True

    async def _record(self) -> None:
        counts, user_id = self.counts, self.caller.user_id
        if user_id is None or not self._store or counts.received == 0:
            return
        record = StreamRecord(
            user_id=user_id,
            model=self._detector.info.name,
            model_version=self._detector.info.version,
            duration_s=round(time.monotonic() - self._started, 3),
            frames_received=counts.received,
            frames_processed=counts.processed,
            # Frames that the end of the stream left unanswered were dropped as well.
            frames_dropped=counts.received - counts.processed,
            frames_failed=counts.failed,
            latency_ms=(
                round(counts.latency_s / counts.processed * 1000, 2) if counts.processed else None
            ),
            label_counts=dict(counts.labels),
            close_code=self._close_code,
        )
        try:
            await self._recorder.record(record)
        except AppError as error:
            # The client has gone: the log is the only one left to tell.
            logger.warning("a stream's record was not kept: {}", error.detail)


class StreamRegistry:
    """The open streams of this process, and how many there may be."""

    def __init__(self, *, max_streams: int, max_per_caller: int) -> None:
        self.max_streams = max_streams
        self.max_per_caller = max_per_caller
        self._streams: set[DetectionStream] = set()
        self._per_caller: Counter[str] = Counter()
        self.refused = 0
        """Streams that were over a limit, since the start."""
        self._ended = StreamCounts()
        self._closing = False
        self._empty = asyncio.Event()

    def __len__(self) -> int:
        return len(self._streams)

    def total_counts(self) -> StreamCounts:
        """The frames of all streams since the start, ended and open."""
        total = StreamCounts()
        for counts in (self._ended, *(stream.counts for stream in self._streams)):
            total.add(counts)
        return total

    @contextmanager
    def admit(self, stream: DetectionStream) -> Iterator[None]:
        """Count `stream` while it is open. Raises `TooManyStreamsError`."""
        key = stream.caller.key
        if self._closing or len(self._streams) >= self.max_streams:
            self.refused += 1
            raise TooManyStreamsError
        if self._per_caller[key] >= self.max_per_caller:
            self.refused += 1
            raise TooManyStreamsError(
                f"You have {self.max_per_caller} streams open, which is as many as one may have."
            )
        self._streams.add(stream)
        self._per_caller[key] += 1
        try:
            yield
        finally:
            self._streams.discard(stream)
            self._ended.add(stream.counts)
            self._per_caller[key] -= 1
            if not self._per_caller[key]:
                del self._per_caller[key]
            if not self._streams and self._closing:
                self._empty.set()

    async def close_all(self, timeout_s: float) -> None:
        """Close every stream with 1012 and wait until their records are kept, or `timeout_s`."""
        self._closing = True
        for stream in list(self._streams):
            await stream.close(CloseCode.RESTART, "The server restarts. Connect again.")
        if self._streams:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), timeout_s)
