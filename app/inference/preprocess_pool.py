"""Threads that decode images ahead of the models, for callers in turns."""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

ResultT = TypeVar("ResultT")


class TurnLimiter:
    """So many at once, like a semaphore; but one flow's many do not keep another's one waiting."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def place(self, flow: str) -> AsyncIterator[None]:
        """Wait for a place, and hold it."""
        if self._free:
            self._free -= 1
        else:
            await self._wait(flow)
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, flow: str) -> None:
        place = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(flow, deque()).append(place)
        try:
            await place
        except asyncio.CancelledError:
            # It was given in the same turn of the loop in which the waiting was given up.
            if not place.cancelled():
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        while self._waiting:
            flow, places = next(iter(self._waiting.items()))
            place = places.popleft()
            if places:
                self._waiting.move_to_end(flow)
            else:
                del self._waiting[flow]
            # Else who waited for it has left.
            if not place.done():
                place.set_result(None)
                return
        self._free += 1


class PreprocessPool:
    """A few threads for all models of a process."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="preprocess")
        # Twice as many, so that a thread that is done need not wait for the event loop.
        self._turns = TurnLimiter(2 * threads)

    async def run(self, flow: str, function: Callable[[], ResultT]) -> tuple[ResultT, float]:
        """What `function` returns, and the seconds that it took on its thread."""

        def timed() -> tuple[ResultT, float]:
            began = time.monotonic()
            return function(), time.monotonic() - began

        async with self._turns.place(flow):
            return await asyncio.get_running_loop().run_in_executor(self._executor, timed)

    def shut_down(self) -> None:
        """Begin nothing more; what runs ends by itself."""
        self._executor.shutdown(wait=False, cancel_futures=True)
