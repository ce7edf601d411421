"""Whatever is asked of the batcher, in whatever mixture: everybody gets their own, or an error."""

import asyncio
import time
from dataclasses import dataclass

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.inference.base import InferenceTimeoutError, ModelFailedError, QueueFullError
from app.inference.batching import DynamicBatcher
from app.inference.fair_queue import WorkItem
from tests.support.models import EchoModel, Item
from tests.support.waiting import PATIENCE_S, later, until

BUDGET = 12
QUEUE_SIZE = 40
EXPIRED_AFTER_S = 0.003


@dataclass(frozen=True)
class Request:
    """What one caller sends, and how it ends."""

    flow: str
    items: tuple[Item, ...]
    cancelled: frozenset[int]
    """Positions of the items whose callers leave while they wait."""
    expires: bool
    """Its deadline passes while it waits."""


@st.composite
def requests(draw: st.DrawFn) -> Request:
    count = draw(st.integers(1, 8))
    items = tuple(
        Item(
            value=draw(st.integers(0, 10**6)),
            cost=draw(st.integers(1, BUDGET + 4)),
            key=draw(st.sampled_from(["wide", "tall"])),
            fails=draw(st.integers(0, 9)) == 0,
        )
        for _ in range(count)
    )
    return Request(
        flow=draw(st.sampled_from("abc")),
        items=items,
        cancelled=draw(st.frozensets(st.integers(0, count - 1), max_size=2)),
        expires=draw(st.integers(0, 5)) == 0,
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(requests(), min_size=1, max_size=12))
async def test_everybody_gets_their_own_answer_or_an_error(script: list[Request]) -> None:
    model = EchoModel(budget=BUDGET)
    batcher: DynamicBatcher[Item, int] = DynamicBatcher(model, size=QUEUE_SIZE)
    await batcher.start()
    model.gate.shut()
    (first,) = batcher.submit([Item(-1)], flow="first", deadline=later())
    await model.gate.has_visitor()

    queued: list[tuple[Request, list[WorkItem[Item, int]]]] = []
    for request in script:
        deadline = time.monotonic() + EXPIRED_AFTER_S if request.expires else later()
        waiting = len(batcher)
        try:
            work = batcher.submit(request.items, flow=request.flow, deadline=deadline)
        except InferenceTimeoutError:
            # It took that long to get here.
            assert request.expires
            continue
        except QueueFullError:
            # Refused whole: nothing of it waits, and it would have been too much.
            assert len(batcher) <= waiting
            assert waiting + len(request.items) > QUEUE_SIZE or request.expires
            continue
        queued.append((request, work))
        for position in request.cancelled:
            work[position].future.cancel()
    last_deadline = time.monotonic() + EXPIRED_AFTER_S
    await until(lambda: time.monotonic() > last_deadline)
    model.gate.open()

    evicted: set[int] = set()
    async with asyncio.timeout(PATIENCE_S):
        assert await first.future == -10
        for request, work in queued:
            for position, (item, one) in enumerate(zip(request.items, work, strict=True)):
                (outcome,) = await asyncio.gather(one.future, return_exceptions=True)
                if position in request.cancelled:
                    assert isinstance(outcome, asyncio.CancelledError)
                elif isinstance(outcome, QueueFullError):
                    # It made room for somebody who had less waiting.
                    evicted.add(id(item))
                elif request.expires:
                    assert isinstance(outcome, InferenceTimeoutError)
                elif item.fails:
                    assert isinstance(outcome, ModelFailedError)
                else:
                    assert outcome == item.value * 10
    # The thread leaves out those that were cancelled when it gets there.
    await until(lambda: len(batcher) == 0)
    # Only a queue with several callers in it has anything to even out.
    assert not evicted or len({request.flow for request, _ in queued}) > 1
    await batcher.stop(PATIENCE_S)

    for batch in model.batches:
        assert len({item.key for item in batch}) == 1
        assert len(batch) == 1 or sum(item.cost for item in batch) <= BUDGET
    computed = {id(item) for batch in model.batches for item in batch}
    wanted = {
        id(item)
        for request, _ in queued
        for position, item in enumerate(request.items)
        if position not in request.cancelled and not request.expires
    } - evicted
    assert computed - {id(model.batches[0][0])} == wanted
