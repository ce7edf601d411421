"""Medians, percentiles and ratios of rounds."""

import math
from collections.abc import Sequence
from statistics import median


def percentile(values: Sequence[float], q: float) -> float:
    """The `q`-th percentile, 0 to 100, by nearest rank; NaN of nothing."""
    if not values:
        return math.nan
    rank = math.ceil(q / 100 * len(values))
    return sorted(values)[max(1, rank) - 1]


def paired_ratio(measured: Sequence[float], baseline: Sequence[float]) -> float:
    """The median over the rounds of measured / baseline of the same round.

    Paired, because what else the machine does differs more between rounds than within one. NaN
    when in some round neither did anything: then there is no saying.
    """
    pairs = list(zip(measured, baseline, strict=True))
    if not pairs or any(not (a or b) or math.isnan(a) or math.isnan(b) for a, b in pairs):
        return math.nan
    return median(a / b if b else math.inf for a, b in pairs)


def retained(throughputs: Sequence[float]) -> float:
    """How much of its best throughput so far is left at the worst point of a growing load.

    `throughputs` in the order of the load. 1 when it never falls, NaN when nothing was done.
    """
    if not any(throughputs):
        return math.nan
    best, worst = 0.0, 1.0
    for value in throughputs:
        best = max(best, value)
        if best:
            worst = min(worst, value / best)
    return worst


def spread(shares: Sequence[float]) -> float:
    """The most served by the least served; infinite when one got nothing, NaN when all did."""
    least, most = min(shares), max(shares)
    if not most:
        return math.nan
    return most / least if least else math.inf
