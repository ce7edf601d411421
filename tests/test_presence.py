"""Who is told that a client has left, and when."""

import asyncio
from typing import Any

from app.presence import ConnectionPresence, ReceivedPresence


async def test_all_are_told_once() -> None:
    presence = ConnectionPresence()
    told: list[str] = []
    presence.add(lambda: told.append("first"))
    presence.add(lambda: told.append("second"))
    presence.leave()
    presence.leave()
    assert sorted(told) == ["first", "second"]


async def test_who_no_longer_listens_is_not_told() -> None:
    presence = ConnectionPresence()
    told: list[str] = []

    def listen() -> None:
        told.append("told")

    presence.add(listen)
    presence.discard(listen)
    presence.leave()
    assert told == []


async def test_who_asks_late_is_told_soon() -> None:
    presence = ConnectionPresence()
    presence.leave()
    told = asyncio.Event()
    presence.add(told.set)
    async with asyncio.timeout(10):
        await told.wait()


async def test_a_server_without_our_protocol_is_asked() -> None:
    messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    presence = ReceivedPresence(messages.get)
    told = asyncio.Event()
    presence.add(told.set)
    # Such as what is left of a body.
    messages.put_nowait({"type": "http.request", "body": b"", "more_body": False})
    await asyncio.sleep(0)
    assert not told.is_set()
    messages.put_nowait({"type": "http.disconnect"})
    async with asyncio.timeout(10):
        await told.wait()


async def test_it_is_asked_no_longer_than_somebody_listens() -> None:
    messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    presence = ReceivedPresence(messages.get)
    told = asyncio.Event()
    presence.add(told.set)
    await asyncio.sleep(0)
    presence.discard(told.set)
    await asyncio.sleep(0)
    messages.put_nowait({"type": "http.disconnect"})
    await asyncio.sleep(0)
    # Whoever reads next gets it.
    assert messages.qsize() == 1
    assert not told.is_set()
