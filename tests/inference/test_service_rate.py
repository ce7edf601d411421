"""The rate of a model, as it is measured from batch to batch."""

import pytest

from app.inference.service_rate import ServiceRate


def test_nothing_is_expected_before_the_first_batch() -> None:
    rate = ServiceRate()
    rate.begin(100.0, cost=8)
    assert (rate.seconds_per_cost, rate.seconds_per_item, rate.remaining_s(100.5)) == (0, 0, 0)


def test_a_batch_alone_takes_from_its_beginning_to_its_end() -> None:
    rate = ServiceRate()
    rate.begin(100.0, cost=8)
    rate.finish(102.0, items=4, cost=8)
    assert (rate.seconds_per_cost, rate.seconds_per_item) == (0.25, 0.5)


def test_what_lies_between_two_batches_is_counted() -> None:
    rate = ServiceRate()
    rate.begin(100.0, cost=1)
    rate.finish(101.0, items=1, cost=1)
    # The model got the next batch late, since the event loop was busy.
    rate.begin(101.9, cost=1)
    rate.finish(103.0, items=1, cost=1)
    assert rate.seconds_per_item == pytest.approx((1 + 2) / 2)


def test_idle_time_is_not_counted() -> None:
    rate = ServiceRate()
    rate.begin(100.0, cost=1)
    rate.finish(101.0, items=1, cost=1)
    rate.rest()
    rate.begin(150.0, cost=1)
    rate.finish(151.0, items=1, cost=1)
    assert rate.seconds_per_item == pytest.approx(1)


def test_that_it_is_slower_is_believed_sooner_than_that_it_is_faster() -> None:
    slower, faster = ServiceRate(), ServiceRate()
    for rate, seconds in ((slower, 3.0), (faster, 1.0)):
        rate.begin(0.0, cost=1)
        rate.finish(2.0, items=1, cost=1)
        rate.finish(2.0 + seconds, items=1, cost=1)
    assert slower.seconds_per_item - 2 > 2 - faster.seconds_per_item > 0


def test_what_remains_shrinks_while_the_model_works_and_is_never_negative() -> None:
    rate = ServiceRate()
    rate.begin(0.0, cost=1)
    rate.finish(2.0, items=1, cost=1)
    rate.begin(2.0, cost=3)
    assert rate.remaining_s(2.0) == 6
    assert rate.remaining_s(6.5) == 1.5
    assert rate.remaining_s(20.0) == 0
    rate.rest()
    assert rate.remaining_s(2.0) == 0
