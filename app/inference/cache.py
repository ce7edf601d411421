"""Remembered predictions: a least-recently-used cache bounded in bytes, with single flight."""

import asyncio
import hashlib
import sys
import time
from collections import OrderedDict
from dataclasses import dataclass

from app.inference.base import InferenceTimeoutError
from app.inference.engine import Answer, Call, ModelHandle, Timing
from app.inference.joblib_pipeline import Classification
from app.inference.shared_cache import RedisPredictionCache

# What an entry takes beside its text and probabilities: key, links, dataclass.
_ENTRY_OVERHEAD_BYTES = 400


@dataclass(slots=True)
class CacheStats:
    """Counters since the start."""

    hits: int = 0
    misses: int = 0
    evictions: int = 0


class PredictionCache:
    """Classifications by model version and text, in memory, at most `max_bytes` of them."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self.stats = CacheStats()
        self._entries: OrderedDict[bytes, tuple[Classification, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    @staticmethod
    def key(version: str, text: str) -> bytes:
        """The key of a text under a model version: a digest, so that long texts cost nothing."""
        data = f"{version}\n{text}".encode("utf-8", "surrogatepass")
        return hashlib.blake2b(data, digest_size=16).digest()

    def get(self, key: bytes) -> Classification | None:
        """What is remembered for `key`, counted as a hit or a miss."""
        entry = self._entries.get(key)
        if entry is None:
            self.stats.misses += 1
            return None
        self._entries.move_to_end(key)
        self.stats.hits += 1
        return entry[0]

    def put(self, key: bytes, value: Classification) -> None:
        """Remember `value`, forgetting what was used longest ago where room is needed."""
        size = _ENTRY_OVERHEAD_BYTES + sys.getsizeof(value.probabilities)
        if size > self.max_bytes:
            return
        old = self._entries.pop(key, None)
        if old is not None:
            self.bytes -= old[1]
        self._entries[key] = (value, size)
        self.bytes += size
        while self.bytes > self.max_bytes:
            _, (_, freed) = self._entries.popitem(last=False)
            self.bytes -= freed
            self.stats.evictions += 1

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self.bytes = 0


class CachingClassifier:
    """A text classifier that answers what it has answered before from memory.

    Equal texts that arrive while their answer is being computed wait for that one computation.
    What the process does not remember is looked up in `shared`, where there is one.
    """

    def __init__(
        self,
        handle: ModelHandle[str, Classification],
        cache: PredictionCache,
        shared: RedisPredictionCache | None = None,
    ) -> None:
        self.handle = handle
        self.cache = cache
        self.shared = shared
        # Each flight's result is its answer, or None when its leader failed or left: the failure
        # may be the leader's own (its deadline), so the others try for themselves.
        self._flights: dict[bytes, asyncio.Future[Answer[Classification] | None]] = {}

    async def predict(self, text: str, call: Call) -> tuple[Answer[Classification], bool]:
        """The answer, and whether it came from the cache. Raises as `ModelHandle.predict`."""
        started = time.monotonic()
        key = self.cache.key(self.handle.info.version, text)
        remembered = self.cache.get(key)
        if remembered is not None:
            total_ms = (time.monotonic() - started) * 1000
            return Answer(remembered, Timing(total_ms=total_ms)), True
        while (flight := self._flights.get(key)) is not None:
            try:
                async with asyncio.timeout_at(call.deadline):
                    answer = await asyncio.shield(flight)
            except TimeoutError as error:
                raise InferenceTimeoutError from error
            if answer is not None:
                return answer, True
        return await self._lead(key, text, call, started)

    async def clear(self) -> None:
        """Forget everything, in this process and, with a shared tier, in all others."""
        self.cache.clear()
        if self.shared is not None:
            await self.shared.clear()

    async def _lead(
        self, key: bytes, text: str, call: Call, started: float
    ) -> tuple[Answer[Classification], bool]:
        flight: asyncio.Future[Answer[Classification] | None]
        flight = self._flights[key] = asyncio.get_running_loop().create_future()
        answer = None
        try:
            if self.shared is not None:
                (known,) = await self.shared.get_many([key])
                if known is not None:
                    self.cache.put(key, known)
                    answer = Answer(known, Timing(total_ms=(time.monotonic() - started) * 1000))
                    return answer, True
            answer = await self.handle.predict(text, call)
            self._remember({key: answer.output})
            return answer, False
        finally:
            del self._flights[key]
            flight.set_result(answer)

    def _remember(self, entries: dict[bytes, Classification]) -> None:
        for key, value in entries.items():
            self.cache.put(key, value)
        if self.shared is not None and self.cache.max_bytes:
            self.shared.put_many(entries)

    async def predict_many(
        self, texts: list[str], call: Call
    ) -> list[tuple[Answer[Classification], bool]]:
        """Answer texts in order; only those that are not remembered go to the model, together."""
        started = time.monotonic()
        version = self.handle.info.version
        keys = [self.cache.key(version, text) for text in texts]
        found = {key: self.cache.get(key) for key in dict.fromkeys(keys)}
        unknown = [key for key, value in found.items() if value is None]
        if unknown and self.shared is not None:
            found |= zip(unknown, await self.shared.get_many(unknown), strict=True)
        missing = {key: text for key, text in zip(keys, texts, strict=True) if found[key] is None}
        computed: dict[bytes, Answer[Classification]] = {}
        if missing:
            answers = await self.handle.predict_many(list(missing.values()), call)
            computed = dict(zip(missing, answers, strict=True))
            self._remember({key: answer.output for key, answer in computed.items()})
        total_ms = (time.monotonic() - started) * 1000
        results: list[tuple[Answer[Classification], bool]] = []
        for key in keys:
            remembered = found[key]
            if remembered is not None:
                results.append((Answer(remembered, Timing(total_ms=total_ms)), True))
            else:
                results.append((computed[key], False))
        return results
