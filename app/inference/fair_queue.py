"""The queue before a model, in which callers take turns."""

import asyncio
import math
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

PreparedT = TypeVar("PreparedT")
OutputT = TypeVar("OutputT")


@dataclass(slots=True)
class WorkItem(Generic[PreparedT, OutputT]):
    """One prepared input on its way to the model."""

    prepared: PreparedT
    cost: int
    key: object
    flow: str
    deadline: float
    """On the clock of `time.monotonic`, in seconds."""
    future: "asyncio.Future[OutputT]"
    queued_at: float
    started_at: float = 0.0
    finished_at: float = 0.0


class FairQueue(Generic[PreparedT, OutputT]):
    """First come, first served within a flow; between flows, one item each in turn."""

    def __init__(self) -> None:
        self._flows: OrderedDict[str, deque[WorkItem[PreparedT, OutputT]]] = OrderedDict()
        self._size = 0
        self.cost = 0
        """Summed cost of what waits."""

    def __len__(self) -> int:
        return self._size

    def push(self, item: WorkItem[PreparedT, OutputT]) -> None:
        """Append `item` to its flow."""
        flow = self._flows.get(item.flow)
        if flow is None:
            flow = self._flows[item.flow] = deque()
        flow.append(item)
        self._size += 1
        self.cost += item.cost

    def take(
        self, budget: int, is_wanted: Callable[[WorkItem[PreparedT, OutputT]], bool]
    ) -> list[WorkItem[PreparedT, OutputT]]:
        """Remove the next batch: equal keys, together within `budget`, at least one item.

        Items for which `is_wanted` is false are removed and not returned. A flow whose next
        item does not fit keeps its turn for the next batch.
        """
        batch: list[WorkItem[PreparedT, OutputT]] = []
        spent = 0
        waiting: deque[str] = deque(self._flows)
        while waiting:
            name = waiting.popleft()
            flow = self._flows[name]
            item: WorkItem[PreparedT, OutputT] | None = None
            while flow:
                item = flow[0]
                if is_wanted(item):
                    break
                self._drop_head(flow)
                item = None
            if item is None:
                del self._flows[name]
                continue
            if batch and (item.key != batch[0].key or spent + item.cost > budget):
                continue
            self._drop_head(flow)
            batch.append(item)
            spent += item.cost
            if flow:
                self._flows.move_to_end(name)
                waiting.append(name)
            else:
                del self._flows[name]
        return batch

    def discard(self, is_wanted: Callable[[WorkItem[PreparedT, OutputT]], bool]) -> None:
        """Remove every item for which `is_wanted` is false."""
        for item in self.clear():
            if is_wanted(item):
                self.push(item)

    def first_deadline(self) -> float:
        """The earliest deadline of what waits; infinite when nothing does."""
        return min(
            (item.deadline for flow in self._flows.values() for item in flow), default=math.inf
        )

    def cost_before(self, flow: str, count: int) -> float:
        """Cost of what is served before the last of `count` new items of `flow`.

        Taking the items for equally costly: a flow is served once in each of the turns that the
        new items wait for.
        """
        if not self._size:
            return 0.0
        if len(self._flows) == 1 and flow in self._flows:
            return float(self.cost)
        turns = self._length(flow) + count
        served = sum(min(len(items), turns) for items in self._flows.values())
        return self.cost / self._size * served

    def can_evict_for(self, flow: str, count: int, places: int) -> bool:
        """Whether flows longer than `flow` will be with `count` more have `places` items more."""
        fair_length = self._length(flow) + count
        surplus = sum(max(0, len(items) - fair_length) for items in self._flows.values())
        return surplus >= places

    def evict(self, places: int) -> list[WorkItem[PreparedT, OutputT]]:
        """Remove `places` items, where `can_evict_for` says that there are so many.

        The newest of the longest go first, so that nobody is refused for the sake of a caller
        who has more waiting.
        """
        evicted = []
        for _ in range(places):
            item = self._flows[max(self._flows, key=self._length)].pop()
            self._size -= 1
            self.cost -= item.cost
            evicted.append(item)
        return evicted

    def clear(self) -> list[WorkItem[PreparedT, OutputT]]:
        """Remove and return everything that waits."""
        items = [item for flow in self._flows.values() for item in flow]
        self._flows.clear()
        self._size = self.cost = 0
        return items

    def _length(self, flow: str) -> int:
        items = self._flows.get(flow)
        return len(items) if items else 0

    def _drop_head(self, flow: deque[WorkItem[PreparedT, OutputT]]) -> None:
        item = flow.popleft()
        self._size -= 1
        self.cost -= item.cost
