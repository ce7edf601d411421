"""Waiting for what other tasks, threads and processes bring about."""

import asyncio
import threading
import time
from collections.abc import Callable

# No test depends on how long something takes: this only ends a test that hangs.
PATIENCE_S = 30.0


async def until(condition: Callable[[], bool]) -> None:
    """Return once `condition` holds. Raises TimeoutError when it never does."""
    async with asyncio.timeout(PATIENCE_S):
        # The state belongs to code that knows no event of ours.
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


def later() -> float:
    """A deadline that no test reaches."""
    return time.monotonic() + PATIENCE_S


class Gate:
    """A place in a thread that can be held shut by a test: open until `shut`."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self._open.set()
        self._lock = threading.Lock()
        self._waiting = 0

    def shut(self) -> None:
        """Whoever comes now waits."""
        self._open.clear()

    def open(self) -> None:
        """Everybody passes, those who wait and those who come."""
        self._open.set()

    def go_through(self) -> None:
        """Wait here, on a thread, until the gate is open."""
        with self._lock:
            self._waiting += 1
        passed = self._open.wait(PATIENCE_S)
        with self._lock:
            self._waiting -= 1
        if not passed:
            raise TimeoutError("nobody opened the gate")

    async def has_visitor(self) -> None:
        """Return once a thread stands at the shut gate."""
        await until(lambda: self._waiting > 0)
