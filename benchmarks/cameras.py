"""Webcams: streams that send frames at a rate, and a probe beside them. A process of its own.

    python -m benchmarks.cameras < plan.json > result.json

A camera does not wait for answers. Where the network is full it skips frames, as a camera does;
an answer's age counts from the moment its frame was to be sent.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import uvloop
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame as WebSocketFrame
from websockets.frames import Opcode

from benchmarks.errors import BenchmarkError
from benchmarks.stats import percentile

_PROBE_EVERY_S = 0.05
_PROBE_PATIENCE_S = 5.0
_START_STAGGER_S = 0.011


@dataclass(frozen=True)
class CameraPlan:
    """What to run. Camera i sends the headers `headers[i % len(headers)]`."""

    stream_url: str
    probe_host: str
    probe_port: int
    frames: Sequence[str]
    """Paths of encoded images, sent in turn."""
    headers: Sequence[Mapping[str, str]]
    streams: int = 1
    frames_per_s: float = 24.0
    warm_up_s: float = 2.0
    """Not counted."""
    seconds: float = 10.0
    sample_frames: Sequence[int] = ()
    """Indexes into `frames` whose answers are kept."""


@dataclass
class CameraResult:
    """What came back while it counted."""

    answers: list[int] = field(default_factory=list)
    """Of each stream."""
    sent: int = 0
    ages_ms: list[float] = field(default_factory=list)
    """From the sending of a frame to its answer."""
    inference_ms: list[float] = field(default_factory=list)
    """The forward times that the server tells, where it does."""
    probe_ms: list[float] = field(default_factory=list)
    """Time of GET /health/live, from when it was due: a probe that waits delays the next ones."""
    samples: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Objects by index of the frame, of the first answer to it."""
    errors: list[str] = field(default_factory=list)
    """Frames answered with an error, and streams that the server closed."""
    seconds: float = 0.0

    @property
    def answers_per_s(self) -> float:
        """Of all streams together."""
        return sum(self.answers) / self.seconds

    def age_ms(self, q: float) -> float:
        """The `q`-th percentile of the answers' ages."""
        return percentile(self.ages_ms, q)


def run_cameras(plan: CameraPlan) -> CameraResult:
    """Run `plan` in a process of its own. Raises `BenchmarkError` when that fails."""
    finished = subprocess.run(
        [sys.executable, "-m", "benchmarks.cameras"],
        cwd=Path(__file__).resolve().parent.parent,
        input=json.dumps(asdict(plan)),
        capture_output=True,
        text=True,
        timeout=plan.warm_up_s + plan.seconds + 120,
        check=False,
    )
    if finished.returncode:
        raise BenchmarkError(f"the cameras failed:\n{finished.stderr.strip()[-2000:]}")
    return CameraResult(**json.loads(finished.stdout))


async def film(plan: CameraPlan) -> CameraResult:
    """Run `plan` in this process."""
    # Made once: to copy and mask 60 kB for each frame that is sent would take from the server, on
    # the same cores, as much as receiving it.
    messages = [
        WebSocketFrame(Opcode.BINARY, await asyncio.to_thread(Path(path).read_bytes)).serialize(
            mask=True
        )
        for path in plan.frames
    ]
    result = CameraResult(answers=[0] * plan.streams, seconds=plan.seconds)
    now = time.monotonic()
    begin = now + plan.streams * _START_STAGGER_S + plan.warm_up_s
    window = _Window(begin, begin + plan.seconds)
    async with asyncio.TaskGroup() as group:
        group.create_task(_probe(plan, window, result))
        for index in range(plan.streams):
            # Cameras are not in step with each other.
            camera = _Camera(plan, messages, window, result, index)
            group.create_task(camera.run(now + index * _START_STAGGER_S))
    return result


@dataclass(frozen=True)
class _Window:
    begin: float
    end: float

    def __contains__(self, moment: float) -> bool:
        return self.begin <= moment < self.end


class _Camera:
    def __init__(
        self,
        plan: CameraPlan,
        messages: list[bytes],
        window: _Window,
        result: CameraResult,
        index: int,
    ) -> None:
        self._plan = plan
        self._messages = messages
        self._window = window
        self._result = result
        self._index = index
        self._sent_at: list[float] = []
        self._sent_frame: list[int] = []

    async def run(self, start: float) -> None:
        await asyncio.sleep(max(0.0, start - time.monotonic()))
        headers = self._plan.headers[self._index % len(self._plan.headers)]
        async with connect(
            self._plan.stream_url,
            additional_headers=headers,
            compression=None,
            max_size=None,
            open_timeout=60,
            # The textbook's loop stands still for longer than any usual patience.
            ping_interval=None,
            close_timeout=2,
            proxy=None,
        ) as socket:
            sender = asyncio.create_task(self._send(socket, time.monotonic()))
            try:
                async with asyncio.timeout_at(self._window.end):
                    await self._receive(socket)
            except TimeoutError:
                pass
            except ConnectionClosed as error:
                self._result.errors.append(f"stream {self._index} was closed: {error}")
            finally:
                sender.cancel()
                await asyncio.gather(sender, return_exceptions=True)
                # Frames may stand in the buffers for seconds: there is no use in a polite end.
                socket.transport.abort()

    async def _send(self, socket: ClientConnection, start: float) -> None:
        interval = 1 / self._plan.frames_per_s
        tick = 0
        while True:
            due = start + tick * interval
            now = time.monotonic()
            if due > now:
                await asyncio.sleep(due - now)
            # Else the frame before is still on its way.
            if not socket.transport.get_write_buffer_size():
                frame = tick % len(self._messages)
                self._sent_at.append(time.monotonic())
                self._sent_frame.append(frame)
                if self._sent_at[-1] in self._window:
                    self._result.sent += 1
                socket.transport.write(self._messages[frame])
            tick = max(tick + 1, int((time.monotonic() - start) / interval))

    async def _receive(self, socket: ClientConnection) -> None:
        while True:
            answer = json.loads(await socket.recv())
            arrived = time.monotonic()
            if arrived not in self._window:
                continue
            if "error" in answer:
                self._result.errors.append(f"frame {answer['frame']}: {answer['error']}")
                continue
            number = answer["frame"] - 1
            self._result.answers[self._index] += 1
            self._result.ages_ms.append((arrived - self._sent_at[number]) * 1000)
            if "timing" in answer:
                self._result.inference_ms.append(answer["timing"]["inference_ms"])
            frame = self._sent_frame[number]
            if frame in self._plan.sample_frames:
                self._result.samples.setdefault(str(frame), answer["objects"])


async def _probe(plan: CameraPlan, window: _Window, result: CameraResult) -> None:
    """GET /health/live on one connection, at a fixed rate."""
    request = (
        f"GET /health/live HTTP/1.1\r\nHost: {plan.probe_host}:{plan.probe_port}\r\n\r\n"
    ).encode()
    reader, writer = await asyncio.open_connection(plan.probe_host, plan.probe_port)
    due = window.begin
    try:
        while due < window.end:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            writer.write(request)
            try:
                async with asyncio.timeout_at(window.end + _PROBE_PATIENCE_S):
                    head = (await reader.readuntil(b"\r\n\r\n")).lower()
                    length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
                    await reader.readexactly(length)
            except TimeoutError:
                # What it has waited so far; it may be much more.
                result.probe_ms.append((time.monotonic() - due) * 1000)
                return
            if not head.startswith(b"http/1.1 200"):
                result.errors.append(f"the probe was answered {head[:40]!r}")
            result.probe_ms.append((time.monotonic() - due) * 1000)
            due += _PROBE_EVERY_S
    finally:
        writer.close()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(asdict(runner.run(film(CameraPlan(**json.load(sys.stdin)))))))
