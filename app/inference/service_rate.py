"""How fast a model works through its queue, measured by what it has done."""

# A model that slows down, since others need the processor too, must not be promised at its old
# rate; that it is fast again may be believed more slowly.
_WEIGHT_OF_SLOWER = 0.5
_WEIGHT_OF_FASTER = 0.2


class ServiceRate:
    """Seconds per item and per unit of cost, as moving averages; 0 before the first batch.

    Counted from batch to batch while items wait, so that what lies between two batches, and all
    that computes beside the model, is in it. Times are of `time.monotonic`.
    """

    def __init__(self) -> None:
        self.seconds_per_cost = 0.0
        self.seconds_per_item = 0.0
        self._since: float | None = None
        self._cost_under_way = 0

    def begin(self, now: float, cost: int) -> None:
        """A batch has been given to the model."""
        if self._since is None:
            self._since = now
        self._cost_under_way = cost

    def finish(self, now: float, items: int, cost: int) -> None:
        """It is done; the next is given to the model now, or `rest` is called."""
        assert self._since is not None
        elapsed_s = now - self._since
        self.seconds_per_cost = _average(self.seconds_per_cost, elapsed_s / max(1, cost))
        self.seconds_per_item = _average(self.seconds_per_item, elapsed_s / max(1, items))
        self._since, self._cost_under_way = now, 0

    def rest(self) -> None:
        """Nothing is under way any more."""
        self._since, self._cost_under_way = None, 0

    def remaining_s(self, now: float) -> float:
        """Expected time until what is under way is done."""
        if self._since is None:
            return 0.0
        return max(0.0, self._cost_under_way * self.seconds_per_cost - (now - self._since))


def _average(known: float, new: float) -> float:
    if not known:
        return new
    weight = _WEIGHT_OF_SLOWER if new > known else _WEIGHT_OF_FASTER
    return (1 - weight) * known + weight * new
