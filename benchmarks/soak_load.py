"""The load of the soak with kills: a bounded one, with a ledger of what became of each request."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from benchmarks.http_call import multipart

# Longer than the service takes for anything: what has no answer by then never gets one.
PATIENCE_S = 60.0
_RECONNECT_AFTER_S = 0.2
_BOUNDARY = "soak"

Outcome = Literal["answered", "refused", "broken", "wrong", "unanswered"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One request. Times are of `time.time`, as Prometheus has them."""

    name: str
    """Unique; the text that was sent, or the name of the file."""
    sent_at: float
    ended_at: float
    outcome: Outcome
    """answered 200; refused 503 with Retry-After; broken: the connection; wrong: any other
    answer; unanswered: none within the patience."""
    detail: str = ""


@dataclass(slots=True)
class Ledger:
    """All requests, and how the streams went."""

    entries: list[Entry] = field(default_factory=list)
    frames_answered: int = 0
    stream_ends: list[tuple[float, str]] = field(default_factory=list)
    """When a stream ended, and its close code, or the error."""

    def count(self, outcome: Outcome) -> int:
        """Requests with this outcome."""
        return sum(entry.outcome == outcome for entry in self.entries)

    @property
    def acknowledged(self) -> set[str]:
        """Names of the requests that were answered."""
        return {entry.name for entry in self.entries if entry.outcome == "answered"}


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """What is sent, to a port of loopback and nowhere else."""

    port: int
    headers: Mapping[str, str]
    texts_per_s: float
    images_per_s: float
    frames_per_s: float
    picture: Path
    clients: int = 8


async def drive(plan: LoadPlan, seconds: float, ledger: Ledger) -> None:
    """Send at the planned rates for `seconds`, then wait for what is under way."""
    end = time.monotonic() + seconds
    picture = plan.picture.read_bytes()
    async with asyncio.TaskGroup() as group:
        for number in range(plan.clients):
            pause = plan.clients / plan.texts_per_s
            # Half of them keep their connection, the others open one for each request.
            client = _Client(plan, keeps=number % 2 == 0)
            group.create_task(_ask_texts(client, number, pause, end, ledger))
        group.create_task(_send_images(_Client(plan, keeps=True), plan, picture, end, ledger))
        group.create_task(_film(plan, picture, end, ledger))


async def _ask_texts(
    client: "_Client", number: int, pause: float, end: float, ledger: Ledger
) -> None:
    count = 0
    while time.monotonic() < end:
        due = time.monotonic() + pause
        count += 1
        name = f"client {number} asks for the {count}th time about computers and memory"
        body = json.dumps({"text": name}).encode()
        entry = await client.send(name, "/prediction", "application/json", body)
        ledger.entries.append(entry)
        await asyncio.sleep(max(0.0, due - time.monotonic()))


async def _send_images(
    client: "_Client", plan: LoadPlan, picture: bytes, end: float, ledger: Ledger
) -> None:
    count = 0
    while time.monotonic() < end:
        due = time.monotonic() + 1 / plan.images_per_s
        count += 1
        name = f"picture-{count}.jpg"
        body = multipart(picture, _BOUNDARY).replace(b"frame.jpg", name.encode())
        kind = f"multipart/form-data; boundary={_BOUNDARY}"
        ledger.entries.append(await client.send(name, "/object-detection", kind, body))
        await asyncio.sleep(max(0.0, due - time.monotonic()))


async def _film(plan: LoadPlan, picture: bytes, end: float, ledger: Ledger) -> None:
    """One camera that connects again whenever its stream ends."""
    url = f"ws://127.0.0.1:{plan.port}/object-detection"
    while time.monotonic() < end:
        try:
            async with connect(url, additional_headers=dict(plan.headers)) as stream:
                while time.monotonic() < end:
                    await stream.send(picture)
                    async with asyncio.timeout(PATIENCE_S):
                        if "objects" in json.loads(await stream.recv()):
                            ledger.frames_answered += 1
                    await asyncio.sleep(1 / plan.frames_per_s)
        except WebSocketException as error:
            received = getattr(error, "rcvd", None)
            end_of_it = str(received.code) if received else "broken"
            ledger.stream_ends.append((time.time(), end_of_it))
        except (OSError, TimeoutError) as error:
            ledger.stream_ends.append((time.time(), type(error).__name__))
        await asyncio.sleep(_RECONNECT_AFTER_S)


class _Client:
    """One request at a time."""

    def __init__(self, plan: LoadPlan, *, keeps: bool) -> None:
        self._plan = plan
        self._keeps = keeps
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def send(self, name: str, path: str, kind: str, body: bytes) -> Entry:
        """Send, and tell what became of it."""
        sent_at = time.time()
        try:
            async with asyncio.timeout(PATIENCE_S):
                status, head, answer = await self._exchange(path, kind, body)
        except TimeoutError:
            await self._close()
            return Entry(name, sent_at, time.time(), "unanswered")
        except (OSError, asyncio.IncompleteReadError) as error:
            await self._close()
            await asyncio.sleep(_RECONNECT_AFTER_S)
            return Entry(name, sent_at, time.time(), "broken", repr(error))
        outcome: Outcome = "wrong"
        if status == 200:
            outcome = "answered"
        elif status == 503 and b"retry-after:" in head:
            outcome = "refused"
        detail = "" if status == 200 else answer.decode(errors="replace")[:200]
        return Entry(name, sent_at, time.time(), outcome, detail)

    async def _exchange(self, path: str, kind: str, body: bytes) -> tuple[int, bytes, bytes]:
        if self._writer is not None and self._reader is not None and self._reader.at_eof():
            # Closed by the server while nothing was under way: no loss, as browsers see it too.
            await self._close()
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._plan.port)
        assert self._reader is not None
        lines = [
            f"POST {path} HTTP/1.1",
            "Host: 127.0.0.1",
            f"Content-Type: {kind}",
            f"Content-Length: {len(body)}",
            *(f"{key}: {value}" for key, value in self._plan.headers.items()),
        ]
        self._writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        size = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        answer = await self._reader.readexactly(size)
        if not self._keeps or b"connection: close" in head:
            await self._close()
        return int(head[9:12]), head, answer

    async def _close(self) -> None:
        writer, self._writer, self._reader = self._writer, None, None
        if writer is not None:
            writer.transport.abort()


def compare(acknowledged: set[str], kept: Counter[str]) -> tuple[list[str], list[str]]:
    """What was acknowledged and is not kept, and what is kept more than once."""
    missing = sorted(name for name in acknowledged if name not in kept)
    return missing, sorted(name for name, count in kept.items() if count > 1)
