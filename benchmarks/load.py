"""Requests at a rate of their own, whatever the server answers: an open loop, as the world is.

wrk's connections wait for their answers, so it can never ask for more than the server gives. This
sends when a request is due, on a free connection, up to a bound of connections.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.stats import percentile

# What a client that is well behaved reads of a refusal.
_WHY_HEADER = b"retry-after:"
_WHY_BODY = b'"code":'


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
        }

    def take(self, status: int, head: bytes, body: bytes, milliseconds: float) -> None:
        """Count one answer."""
        self.statuses[status] += 1
        if status == 200:
            self.accepted_ms.append(milliseconds)
        elif status in (429, 503):
            self.refused_ms.append(milliseconds)
            if _WHY_HEADER not in head.lower() or _WHY_BODY not in body.replace(b" ", b""):
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

    def __init__(self, result: LoadResult, free: "deque[_Connection]", check: Check | None) -> None:
        self._result = result
        self._free = free
        self._check = check
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self._sent_at = 0.0
        self._index = 0
        self.is_waiting = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def send(self, index: int, data: bytes) -> bool:
        """Send a request; false when the connection has gone."""
        if self._transport is None:
            return False
        self.is_waiting, self._index, self._sent_at = True, index, time.monotonic()
        self._transport.write(data)
        return True

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end]
        marker = head.lower().find(b"content-length:")
        length = int(head[marker + 15 :].partition(b"\r\n")[0])
        body = self._buffer[end + 4 :]
        if len(body) < length:
            return
        self._buffer = b""
        self.is_waiting = False
        status = int(head[9:12])
        self._result.take(status, head, body, (time.monotonic() - self._sent_at) * 1000)
        if status == 200 and self._check and not self._check(self._index, body):
            self._result.wrong += 1
        if b"connection: close" not in head.lower():
            self._free.append(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._transport = None
        if self.is_waiting:
            self._result.unanswered += 1
            self.is_waiting = False

    def close(self) -> None:
        """Drop the connection."""
        if self._transport is not None:
            self._transport.abort()


async def drive(
    port: int,
    make_request: Callable[[int], bytes],
    *,
    per_s: float,
    seconds: float,
    max_connections: int,
    check: Check | None = None,
    patience_s: float = 90.0,
) -> LoadResult:
    """Send request 0, 1, 2… at `per_s` for `seconds`; then wait for every answer, `patience_s`."""
    loop = asyncio.get_running_loop()
    result = LoadResult()
    free: deque[_Connection] = deque()
    connections: list[_Connection] = []
    start = time.monotonic()
    while (now := time.monotonic()) < start + seconds:
        while result.due < (now - start) * per_s:
            index = result.due
            result.due += 1
            data = make_request(index)
            while free:
                if free.popleft().send(index, data):
                    break
            else:
                if sum(1 for c in connections if c.is_waiting) >= max_connections:
                    result.unsent += 1
                    continue
                connection = _Connection(result, free, check)
                await loop.create_connection(lambda made=connection: made, "127.0.0.1", port)  # type: ignore[misc]
                connections.append(connection)
                connection.send(index, data)
        await asyncio.sleep(0.002)
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline and any(c.is_waiting for c in connections):  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    result.unanswered += sum(1 for c in connections if c.is_waiting)
    for connection in connections:
        connection.is_waiting = False
        connection.close()
    return result


def rotate(requests: Sequence[bytes]) -> Callable[[int], bytes]:
    """Requests in turn."""
    return lambda index: requests[index % len(requests)]
