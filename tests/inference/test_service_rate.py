"""The rate of a model, as it is measured batch by batch."""

import pytest

from app.inference.service_rate import MovingAverage, ServiceRate


def measured(*batches: tuple[int, float, float], budget: int = 10) -> ServiceRate:
    """After batches of (cost, computed seconds, seconds beside), each item of cost 2."""
    rate = ServiceRate(budget)
    now = 100.0
    for cost, computed_s, beside_s in batches:
        rate.begin(now, cost)
        now += computed_s + beside_s
        rate.finish(now, items=cost // 2, cost=cost, computed_s=computed_s)
    rate.rest()
    return rate


def test_nothing_is_expected_before_the_first_batch() -> None:
    rate = ServiceRate(10)
    rate.begin(100.0, 8)
    assert (rate.expected_s(50, items=3), rate.remaining_s(100.5)) == (0, 0)


def test_the_models_time_counts_by_cost_and_what_is_beside_it_by_batch() -> None:
    rate = measured((4, 1.0, 0.5))
    assert rate.expected_s(4) == pytest.approx(1.0 + 0.5)
    # Three batches of a budget of 10.
    assert rate.expected_s(24) == pytest.approx(6.0 + 3 * 0.5)


def test_a_lone_item_beside_a_busy_loop_does_not_make_a_full_batch_look_slow() -> None:
    rate = measured((2, 0.001, 0.03), budget=64)
    assert rate.expected_s(64) < 0.1


def test_items_whose_cost_is_not_known_yet_are_taken_for_average_ones() -> None:
    rate = measured((8, 4.0, 0.0))
    assert rate.expected_s(0, items=3) == pytest.approx(6 * 0.5)


def test_idle_time_is_not_counted() -> None:
    rate = measured((2, 1.0, 0.0))
    rate.begin(500.0, 2)
    rate.finish(501.0, items=1, cost=2, computed_s=1.0)
    assert rate.expected_s(2) == pytest.approx(1.0)


def test_what_lies_between_two_batches_is_counted() -> None:
    rate = ServiceRate(10)
    rate.begin(100.0, 2)
    rate.finish(101.0, items=1, cost=2, computed_s=1.0)
    # Given to the model late, since the event loop was busy: 0.8 s in which it stood still.
    rate.begin(101.8, 2)
    rate.finish(102.8, items=1, cost=2, computed_s=1.0)
    assert rate.expected_s(2) == pytest.approx(1.0 + 0.8 / 2)


def test_what_remains_shrinks_while_the_model_works_and_is_never_negative() -> None:
    rate = measured((2, 2.0, 0.0))
    rate.begin(200.0, 6)
    assert rate.remaining_s(200.0) == pytest.approx(6)
    assert rate.remaining_s(204.5) == pytest.approx(1.5)
    assert rate.remaining_s(220.0) == 0
    rate.rest()
    assert rate.remaining_s(200.0) == 0


def test_that_it_is_slower_is_believed_sooner_than_that_it_is_faster() -> None:
    slower, faster = MovingAverage(), MovingAverage()
    for average, new in ((slower, 3.0), (faster, 1.0)):
        average.add(2.0)
        average.add(new)
    assert slower.value - 2 > 2 - faster.value > 0
