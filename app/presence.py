"""Whether the client of a request is still there, told without asking.

ASGI tells it only to those who wait in `receive`: a task for each request that waits for a model,
a third of the cost of 256 requests at once (docs/adr/0050). Our own HTTP protocol knows
when a connection is lost, and calls those who want to know.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol

Listener = Callable[[], None]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
"""ASGI's, without Starlette: the inference room knows no web."""


class Presence(Protocol):
    """Of one client."""

    def add(self, listener: Listener, /) -> None:
        """Call `listener` once when the client leaves; soon, when it has left already."""

    def discard(self, listener: Listener, /) -> None:
        """Do not call `listener`."""


class ConnectionPresence:
    """The client of one connection, whose protocol calls `leave`."""

    __slots__ = ("_has_left", "_listeners")

    def __init__(self) -> None:
        self._has_left = False
        self._listeners: set[Listener] = set()

    def add(self, listener: Listener) -> None:
        """As `Presence.add`."""
        if self._has_left:
            asyncio.get_running_loop().call_soon(listener)
        else:
            self._listeners.add(listener)

    def discard(self, listener: Listener) -> None:
        """As `Presence.discard`."""
        self._listeners.discard(listener)

    def leave(self) -> None:
        """The connection is lost."""
        self._has_left = True
        listeners, self._listeners = self._listeners, set()
        for listener in listeners:
            listener()


class ReceivedPresence:
    """The client of one request, by what `receive` says: for servers without our protocol.

    Its body must have been read.
    """

    __slots__ = ("_receive", "_tasks")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._tasks: dict[Listener, asyncio.Task[None]] = {}

    def add(self, listener: Listener) -> None:
        """As `Presence.add`."""
        self._tasks[listener] = asyncio.create_task(self._wait(listener))

    def discard(self, listener: Listener) -> None:
        """As `Presence.discard`."""
        task = self._tasks.pop(listener, None)
        if task is not None:
            task.cancel()

    async def _wait(self, listener: Listener) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        listener()
