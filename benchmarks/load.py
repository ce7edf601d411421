"""Requests at a rate of their own, whatever the server answers: an open loop, as the world is.

wrk's connections wait for their answers, so it can never ask for more than the server gives. This
sends when a request is due, on a free connection, up to a bound of connections.
"""

import asyncio
import gc
import time
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import uvloop

from benchmarks.stats import percentile

# What a client that is well behaved reads of a refusal.
_WHY_HEADER = b"retry-after:"
_WHY_BODY = b'"code":'
_OPEN_TOGETHER = 100
_TICK_S = 0.002
_ACCEPTING_S = 0.5

T = TypeVar("T")


@dataclass
class LoadResult:
    """What became of the requests."""

    due: int = 0
    unsent: int = 0
    """Due while every connection waited for an answer."""
    statuses: Counter[int] = field(default_factory=Counter)
    unanswered: int = 0
    """Sent, but the connection broke or nothing came until the very end."""
    unexplained: int = 0
    """Refusals (429, 503) without Retry-After or error code."""
    wrong: int = 0
    """Answers of status 200 that `check` refused."""
    accepted_ms: list[float] = field(default_factory=list)
    refused_ms: list[float] = field(default_factory=list)
    """Of what was sent after the first `settling_s`."""
    settling_refused_ms: list[float] = field(default_factory=list)
    """Of what was sent before: nobody has been refused yet, and the queue is empty."""

    @property
    def sent(self) -> int:
        """Requests that reached a connection."""
        return self.due - self.unsent

    @property
    def refused(self) -> int:
        """Answers 429 and 503."""
        return self.statuses[429] + self.statuses[503]

    def accepted_percentile(self, q: float) -> float:
        """Milliseconds of the answers of status 200."""
        return percentile(self.accepted_ms, q)

    def refused_percentile(self, q: float) -> float:
        """Milliseconds of the refusals."""
        return percentile(self.refused_ms, q)

    def summary(self) -> dict[str, object]:
        """The counts and the main percentiles, as JSON takes them."""
        return {
            "due": self.due,
            "unsent": self.unsent,
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "unanswered": self.unanswered,
            "unexplained": self.unexplained,
            "wrong": self.wrong,
            "accepted_p50_ms": self.accepted_percentile(50),
            "accepted_p99_ms": self.accepted_percentile(99),
            "refused_p50_ms": self.refused_percentile(50),
            "refused_p99_ms": self.refused_percentile(99),
            "settling_refused_p99_ms": percentile(self.settling_refused_ms, 99),
        }

    def take(
        self, status: int, head: bytes, body: bytes, milliseconds: float, *, is_settled: bool
    ) -> None:
        """Count one answer; `head` in lower case."""
        self.statuses[status] += 1
        if status == 200:
            if is_settled:
                self.accepted_ms.append(milliseconds)
        elif status in (429, 503):
            (self.refused_ms if is_settled else self.settling_refused_ms).append(milliseconds)
            if _WHY_HEADER not in head or _WHY_BODY not in body.replace(b" ", b""):
                self.unexplained += 1


Check = Callable[[int, bytes], bool]
"""Given the index of the request and a body of status 200: whether the answer is right."""


def http_post(path: str, headers: dict[str, str], body: bytes) -> bytes:
    """The bytes of a request."""
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class _Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request under way."""

    def __init__(self, clients: "_Clients") -> None:
        self._clients = clients
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self._sent_at = 0.0
        self._index = 0
        self.is_waiting = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    @property
    def is_open(self) -> bool:
        """Whether a request can be sent."""
        return self._transport is not None

    def send(self, index: int, data: bytes) -> None:
        """Send a request."""
        assert self._transport is not None
        self.is_waiting, self._index, self._sent_at = True, index, time.monotonic()
        self._transport.write(data)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].lower()
        marker = head.find(b"content-length:")
        length = int(head[marker + 15 :].partition(b"\r\n")[0])
        if len(self._buffer) < end + 4 + length:
            return
        body = self._buffer[end + 4 :]
        self._buffer = b""
        self.is_waiting = False
        status = int(head[9:12])
        self._clients.result.take(
            status,
            head,
            body,
            (time.monotonic() - self._sent_at) * 1000,
            is_settled=self._sent_at >= self._clients.settled_at,
        )
        self._clients.on_answer(self, self._index, status, body)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._transport = None
        self._clients.on_lost(self)

    def close(self) -> None:
        """Drop the connection, and what is under way."""
        self.is_waiting = False
        if self._transport is not None:
            self._transport.abort()


class _Clients:
    """The connections of one load."""

    def __init__(self, port: int, check: Check | None) -> None:
        self.result = LoadResult()
        self.waiting = 0
        """Requests under way."""
        self.settled_at = 0.0
        self._port = port
        self._check = check
        self._free: deque[_Connection] = deque()
        self._all: set[_Connection] = set()

    async def open(self) -> None:
        """One connection more."""
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            lambda: _Connection(self), "127.0.0.1", self._port
        )
        self._all.add(connection)
        self._free.append(connection)

    async def send(self, index: int, data: bytes) -> None:
        """Send a request on a free connection, opening one where those were broken."""
        while self._free and not self._free[0].is_open:
            self._free.popleft()
        if not self._free:
            await self.open()
        self.waiting += 1
        self._free.popleft().send(index, data)

    def on_answer(self, connection: _Connection, index: int, status: int, body: bytes) -> None:
        """Count an answer as right or wrong; the connection is free again."""
        self.waiting -= 1
        if status == 200 and self._check and not self._check(index, body):
            self.result.wrong += 1
        self._free.append(connection)

    def on_lost(self, connection: _Connection) -> None:
        """Count what was under way on it."""
        self._all.discard(connection)
        if connection.is_waiting:
            self.waiting -= 1
            self.result.unanswered += 1

    def close(self) -> None:
        """Drop all connections; what is under way is never answered."""
        self.result.unanswered += self.waiting
        for connection in tuple(self._all):
            connection.close()


async def drive(
    port: int,
    make_request: Callable[[int], bytes],
    *,
    per_s: float,
    seconds: float,
    max_connections: int,
    check: Check | None = None,
    settling_s: float = 0.0,
    patience_s: float = 90.0,
) -> LoadResult:
    """Send request 0, 1, 2… at `per_s` for `seconds`; then wait for every answer, `patience_s`.

    The times of what is sent in the first `settling_s` are kept apart.

    The connections are opened before the clock starts. What is due while `max_connections` wait
    for answers is not sent: that many callers there are.
    """
    clients = _Clients(port, check)
    result = clients.result
    for begin in range(0, max_connections, _OPEN_TOGETHER):
        count = min(_OPEN_TOGETHER, max_connections - begin)
        await asyncio.gather(*(clients.open() for _ in range(count)))
    # They are open when the server has accepted them, which nobody tells.
    await asyncio.sleep(_ACCEPTING_S)
    start = time.monotonic()
    clients.settled_at = start + settling_s
    while (now := time.monotonic()) < start + seconds:
        while result.due < (now - start) * per_s:
            index = result.due
            result.due += 1
            if clients.waiting >= max_connections:
                result.unsent += 1
            else:
                await clients.send(index, make_request(index))
        await asyncio.sleep(_TICK_S)
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline and clients.waiting:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    clients.close()
    return result


@contextmanager
def undisturbed() -> Iterator[None]:
    """Keep the garbage collector of this process, which has the baselines' libraries in memory,
    from standing still for longer than what is measured."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def run_load(load: Coroutine[Any, Any, T]) -> T:
    """Run a load that is nobody's bottleneck, as far as Python allows."""
    with undisturbed(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(load)


def rotate(requests: Sequence[bytes]) -> Callable[[int], bytes]:
    """Requests in turn."""
    return lambda index: requests[index % len(requests)]
