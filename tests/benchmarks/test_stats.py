import math

import pytest

from benchmarks.stats import paired_ratio, percentile, retained, spread


@pytest.mark.parametrize(
    ("q", "expected"), [(0, 1), (50, 5), (90, 9), (95, 10), (99, 10), (100, 10)]
)
def test_a_percentile_is_a_value_that_occurred(q: float, expected: float) -> None:
    assert percentile([10, 9, 8, 7, 6, 5, 4, 3, 2, 1], q) == expected


def test_nothing_has_no_percentile() -> None:
    assert math.isnan(percentile([], 99))


def test_the_ratio_is_taken_within_rounds() -> None:
    # The machine was half as fast in the second round and a tenth in the third, for both.
    assert paired_ratio([400, 200, 40], [100, 50, 10]) == 4


def test_a_baseline_that_answers_nothing_is_beaten_by_any() -> None:
    assert paired_ratio([3], [0]) == math.inf


def test_no_ratio_where_nobody_did_anything() -> None:
    assert math.isnan(paired_ratio([0, 5], [0, 1]))
    assert math.isnan(paired_ratio([], []))
    assert math.isnan(paired_ratio([math.nan], [1]))


@pytest.mark.parametrize(
    ("throughputs", "expected"),
    [
        ([100, 200, 400, 400], 1),
        ([100, 400, 360, 380], 0.9),
        ([400, 100, 400], 0.25),
        ([7], 1),
    ],
)
def test_what_is_retained_of_the_best_so_far(throughputs: list[float], expected: float) -> None:
    assert retained(throughputs) == expected


def test_nothing_is_retained_of_nothing() -> None:
    assert math.isnan(retained([0, 0]))


def test_spread_between_streams() -> None:
    assert spread([10, 13, 12]) == 1.3
    assert spread([10, 0]) == math.inf
    assert math.isnan(spread([0, 0]))
