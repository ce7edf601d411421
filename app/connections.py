"""How many connections there may be: of one process, and of one address.

A limit here is refused at the door, before anything is read. Limits on what comes through it
(bodies, requests, streams) are elsewhere.
"""

import asyncio
import ipaddress
import json
import resource
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from app.http_protocol import LookoutHttpProtocol
from app.schemas import ErrorResponse

# How long a refused client may take to read why. Closing while it still sends would make its
# system throw our answer away.
_READING_TIME_S = 1.0
# What a process has open beside its connections: database, models, logs.
_OTHER_FILES = 256

Reason = Literal["process", "address"]
_ANSWERS: dict[Reason, tuple[bytes, str]] = {
    "process": (
        b"503 Service Unavailable",
        "As many connections are open as this server carries. Try again later.",
    ),
    "address": (
        b"429 Too Many Requests",
        "As many connections are open from your address as one may have.",
    ),
}


@dataclass
class ConnectionLimits:
    """What a process counts. Connections of `proxies` have no limit by address: they are
    everybody's."""

    total: int
    per_address: int | None
    proxies: Iterable[str] = ()
    by_address: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    """Refused ones that still read why."""

    def __post_init__(self) -> None:
        self._trusts_all = "*" in self.proxies
        self._proxies = [ipaddress.ip_network(it) for it in self.proxies if it != "*"]

    def find_key(self, address: str | None) -> str | None:
        """What connections from `address` are counted by; None where they have no limit.

        An address of None is that of a Unix socket.
        """
        if self.per_address is None or address is None or self._trusts_all:
            return None
        parsed = ipaddress.ip_address(address.partition("%")[0])
        if any(parsed in network for network in self._proxies):
            return None
        # Here and below, since gunicorn's arbiter imports this module and needs no more of us.
        from app.auth.rate_limit import group_address

        return group_address(address)

    def find_refusal(self, key: str | None, open_now: int) -> Reason | None:
        """Why one more connection would be too many; None when it would not."""
        if open_now >= self.total:
            return "process"
        if key is not None and self.by_address[key] >= (self.per_address or 0):
            return "address"
        return None

    def count(self, key: str) -> None:
        """One more of `key`."""
        self.by_address[key] += 1

    def uncount(self, key: str) -> None:
        """One less of `key`; without any, it is forgotten."""
        self.by_address[key] -= 1
        if not self.by_address[key]:
            del self.by_address[key]


class LimitedProtocol(LookoutHttpProtocol):
    """Refuses connections over the limits: 503 for those of the process, 429 for an address's.

    A connection that becomes a stream counts for the process only: streams of one caller have a
    limit of their own.
    """

    def __init__(self, *args: Any, limits: ConnectionLimits, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._limits = limits
        self._key: str | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        peer = transport.get_extra_info("peername")
        key = self._limits.find_key(peer[0] if isinstance(peer, tuple) else None)
        reason = self._limits.find_refusal(key, len(self.connections))
        if reason is not None:
            refuse(transport, reason, self._limits)
            return
        if key is not None:
            self._key = key
            self._limits.count(key)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._uncount()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        self._uncount()
        super().handle_websocket_upgrade()

    def _uncount(self) -> None:
        key, self._key = self._key, None
        if key is not None:
            self._limits.uncount(key)


class _Refused(asyncio.Protocol):
    """Reads and forgets until the client has gone, for a moment at most."""

    def __init__(self, transport: asyncio.Transport, limits: ConnectionLimits) -> None:
        self._limits = limits
        limits.refused += 1
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(_READING_TIME_S, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._limits.refused -= 1
        self._timer.cancel()


def refuse(transport: asyncio.Transport, reason: Reason, limits: ConnectionLimits) -> None:
    """Say why, and close. Without a word where so many read that already."""
    from app.monitoring.metrics import CONNECTIONS_REFUSED

    CONNECTIONS_REFUSED.labels(reason).inc()
    if limits.refused >= limits.total:
        transport.set_protocol(asyncio.Protocol())
        transport.abort()
        return
    status, detail = _ANSWERS[reason]
    body = ErrorResponse(detail=detail, code="too_many_connections", request_id=None)
    payload = json.dumps(body.model_dump()).encode()
    transport.set_protocol(_Refused(transport, limits))
    transport.write(
        b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
        b"retry-after: 1\r\nconnection: close\r\n\r\n%b" % (status, len(payload), payload)
    )
    if transport.can_write_eof():
        transport.write_eof()


def needed_files(max_connections: int) -> int:
    """File descriptors that a process needs for so many connections."""
    return max_connections + _OTHER_FILES


def allow_files(max_connections: int) -> None:
    """Raise this process's limit on open files to what it needs, as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = needed_files(max_connections)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
