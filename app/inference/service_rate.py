"""How fast a model works through its queue, measured by what it has done."""

import math

# A model that slows down, since others need the processor too, must not be promised at its old
# rate; that it is fast again may be believed more slowly.
_WEIGHT_OF_SLOWER = 0.5
_WEIGHT_OF_FASTER = 0.2


class MovingAverage:
    """Of durations or sizes; 0 before the first. Larger ones count for more."""

    def __init__(self) -> None:
        self.value = 0.0
        self._is_known = False

    def add(self, new: float) -> None:
        """One more."""
        weight = _WEIGHT_OF_SLOWER if new > self.value else _WEIGHT_OF_FASTER
        self.value += (new - self.value) * (weight if self._is_known else 1)
        self._is_known = True


class ServiceRate:
    """What a batch takes: the model's time by cost, and what passes beside it, once a batch.

    The latter is the way of a batch to the model's thread and back to a busy event loop. Were it
    counted by cost, a lone input beside a busy loop would make a full batch look slow. Times are of
    `time.monotonic`.
    """

    def __init__(self, batch_budget: int) -> None:
        self.batch_budget = batch_budget
        """Cost of the largest batch."""
        self._seconds_per_cost = MovingAverage()
        self._seconds_beside = MovingAverage()
        self._cost_per_item = MovingAverage()
        self._since: float | None = None
        self._cost_under_way = 0

    def begin(self, now: float, cost: int) -> None:
        """A batch has been given to the model."""
        if self._since is None:
            self._since = now
        self._cost_under_way = cost

    def finish(self, now: float, *, items: int, cost: int, computed_s: float) -> None:
        """It is done; the next is given to the model now, or `rest` is called."""
        assert self._since is not None
        self._seconds_per_cost.add(computed_s / max(1, cost))
        self._seconds_beside.add(max(0.0, now - self._since - computed_s))
        self._cost_per_item.add(cost / max(1, items))
        self._since, self._cost_under_way = now, 0

    def rest(self) -> None:
        """Nothing is under way any more."""
        self._since, self._cost_under_way = None, 0

    def expected_s(self, cost: float, *, items: int = 0) -> float:
        """Time that so much cost takes, and besides so many items whose cost is not known yet."""
        cost += items * self._cost_per_item.value
        batches = math.ceil(cost / self.batch_budget)
        return cost * self._seconds_per_cost.value + batches * self._seconds_beside.value

    def remaining_s(self, now: float) -> float:
        """Expected time until what is under way is done."""
        if self._since is None:
            return 0.0
        return max(0.0, self.expected_s(self._cost_under_way) - (now - self._since))
