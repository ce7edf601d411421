"""Requests for the open loop, and how their answers are checked."""

import json
import random
from collections.abc import Callable

from benchmarks.bench import Bench
from benchmarks.http_call import fetch, multipart
from benchmarks.load import Check, http_post, rotate
from benchmarks.texts import SLOT

_CHECK_ONE_IN = 50
_BOUNDARY = "lookout-benchmark"


def text_requests(bench: Bench, name: str) -> tuple[Callable[[int], bytes], Check]:
    """Predictions that never repeat, by all callers in turn; every 50th is one whose answer is
    known, and is checked."""
    known = [
        (json.dumps({"text": text}).encode(), category)
        for text, category in zip(bench.texts.samples, bench.texts.categories, strict=True)
    ]
    others = [line.encode() for line in bench.texts.distinct.read_text().splitlines()]
    # Not those that another run of this process has sent: they would come from the cache.
    base = random.SystemRandom().randrange(9000) * 10**10
    callers = [
        {**caller, "X-No-Store": "1", "Content-Type": "application/json"}
        for caller in bench.fleet.callers.get(name, [{}])
    ]
    # Nobody's first request is what is measured.
    for caller in callers:
        fetch(f"{bench.fleet[name].url}/prediction", body={"text": "warm"}, headers=caller)

    def make(index: int) -> bytes:
        headers = callers[index % len(callers)]
        if index % _CHECK_ONE_IN == 0:
            body = known[index // _CHECK_ONE_IN % len(known)][0]
        else:
            number = f"{base + index:014d}".encode()
            body = others[index % len(others)].replace(SLOT.encode(), number)
        return http_post("/prediction", headers, body)

    def check(index: int, body: bytes) -> bool:
        if index % _CHECK_ONE_IN:
            return b'"category"' in body
        category: str = known[index // _CHECK_ONE_IN % len(known)][1]
        return bool(json.loads(body)["category"] == category)

    return make, check


def image_requests(bench: Bench, name: str) -> Callable[[int], bytes]:
    """Uploads of the frames by all callers in turn."""
    callers = bench.fleet.callers.get(name, [{}])
    return rotate(
        [
            http_post(
                "/object-detection",
                {
                    **callers[index % len(callers)],
                    "X-No-Store": "1",
                    "Content-Type": f"multipart/form-data; boundary={_BOUNDARY}",
                },
                multipart(path.read_bytes(), _BOUNDARY),
            )
            for index, path in enumerate(bench.frames)
        ]
    )
