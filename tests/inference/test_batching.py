"""The batcher: what shares a batch, whose turn it is, and that every item ends."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from app.inference.base import (
    InferenceTimeoutError,
    ModelFailedError,
    ModelLoadError,
    ModelState,
    ModelUnavailableError,
    QueueFullError,
)
from app.inference.batching import DynamicBatcher
from app.inference.fair_queue import WorkItem
from tests.support.models import EchoModel, ForgetfulModel, Item, UnloadableModel
from tests.support.waiting import PATIENCE_S, later, until

Batcher = DynamicBatcher[Item, int]


@asynccontextmanager
async def running(model: EchoModel, *, size: int = 256) -> AsyncIterator[Batcher]:
    batcher = Batcher(model, size=size, restart_pause_s=0)
    await batcher.start()
    try:
        yield batcher
    finally:
        model.gate.open()
        await batcher.stop(PATIENCE_S)


def submit(
    batcher: Batcher, items: Sequence[Item], *, flow: str = "somebody", deadline: float = 0
) -> list[WorkItem[Item, int]]:
    return batcher.submit(items, flow=flow, deadline=deadline or later())


def items(*values: int) -> list[Item]:
    return [Item(value) for value in values]


async def results(work: Sequence[WorkItem[Item, int]]) -> list[int | BaseException]:
    async with asyncio.timeout(PATIENCE_S):
        return await asyncio.gather(*(item.future for item in work), return_exceptions=True)


async def occupy(batcher: Batcher) -> WorkItem[Item, int]:
    """Keep the model busy with an item of value 0 until its gate is opened."""
    model = batcher.model
    assert isinstance(model, EchoModel)
    model.gate.shut()
    (first,) = submit(batcher, items(0), flow="first")
    await model.gate.has_visitor()
    return first


class TestWhatSharesABatch:
    async def test_a_lone_item_does_not_wait_for_company(self) -> None:
        async with running(EchoModel()) as batcher:
            (work,) = submit(batcher, items(1))
            assert await work.future == 10
            assert batcher.model.values == [[1]]  # type: ignore[attr-defined]

    async def test_what_arrives_in_one_turn_of_the_loop_goes_together(self) -> None:
        model = EchoModel()
        async with running(model) as batcher:
            work = submit(batcher, items(1)) + submit(batcher, items(2), flow="another")
            assert await results(work) == [10, 20]
        assert model.values == [[1, 2]]

    async def test_what_waits_while_the_model_works_goes_together(self) -> None:
        model = EchoModel()
        async with running(model) as batcher:
            first = await occupy(batcher)
            work = [one for value in range(1, 9) for one in submit(batcher, items(value))]
            model.gate.open()
            assert await results([first, *work]) == [0, 10, 20, 30, 40, 50, 60, 70, 80]
        assert model.values == [[0], [1, 2, 3, 4, 5, 6, 7, 8]]

    async def test_the_budget_splits_what_waits(self) -> None:
        model = EchoModel(budget=10)
        async with running(model) as batcher:
            work = submit(batcher, [Item(i, cost=4) for i in range(1, 6)])
            assert await results(work) == [10, 20, 30, 40, 50]
        assert model.values == [[1, 2], [3, 4], [5]]

    async def test_an_item_over_the_budget_goes_alone(self) -> None:
        model = EchoModel(budget=10)
        async with running(model) as batcher:
            work = submit(batcher, [Item(1), Item(2, cost=50), Item(3)])
            assert await results(work) == [10, 20, 30]
        assert model.values == [[1], [2], [3]]

    async def test_shapes_do_not_mix_and_none_is_passed_over_for_ever(self) -> None:
        model = EchoModel()
        async with running(model) as batcher:
            first = await occupy(batcher)
            work = [
                one
                for value in range(1, 9)
                for one in submit(
                    batcher, [Item(value, key="wide" if value % 2 else "tall")], flow=str(value)
                )
            ]
            model.gate.open()
            assert await results([first, *work]) == [0, 10, 20, 30, 40, 50, 60, 70, 80]
        assert model.values == [[0], [1, 3, 5, 7], [2, 4, 6, 8]]


class TestTurns:
    async def test_one_item_of_another_flow_is_in_the_next_batch(self) -> None:
        model = EchoModel(budget=8)
        async with running(model) as batcher:
            first = await occupy(batcher)
            many = submit(batcher, items(*range(1, 201)), flow="greedy")
            (one,) = submit(batcher, items(1000), flow="modest")
            model.gate.open()
            assert await results([first, *many, one]) == [0, *range(10, 2001, 10), 10_000]
        assert 1000 in model.values[1]

    async def test_flows_take_turns_however_much_each_has_waiting(self) -> None:
        model = EchoModel(budget=4)
        async with running(model) as batcher:
            first = await occupy(batcher)
            a = submit(batcher, items(*range(10, 16)), flow="a")
            b = submit(batcher, items(20, 21), flow="b")
            model.gate.open()
            await results([first, *a, *b])
        assert model.values == [[0], [10, 20, 11, 21], [12, 13, 14, 15]]

    async def test_within_a_flow_the_first_is_served_first(self) -> None:
        model = EchoModel(budget=1)
        async with running(model) as batcher:
            await results(submit(batcher, items(3, 1, 2)))
        assert model.values == [[3], [1], [2]]


class TestFailures:
    async def test_one_bad_item_of_32_harms_one(self) -> None:
        model = EchoModel()
        async with running(model) as batcher:
            batch = [Item(i, fails=i == 17) for i in range(32)]
            outcomes = await results(submit(batcher, batch))
            assert isinstance(outcomes[17], ModelFailedError)
            assert outcomes[:17] + outcomes[18:] == [i * 10 for i in range(32) if i != 17]
            assert (batcher.stats.answered, batcher.stats.failed) == (31, 1)
            assert await results(submit(batcher, items(5))) == [50]

    async def test_a_bad_item_alone_is_not_tried_again(self) -> None:
        model = EchoModel()
        async with running(model) as batcher:
            (outcome,) = await results(submit(batcher, [Item(1, fails=True)]))
        assert isinstance(outcome, ModelFailedError)
        assert len(model.batches) == 1

    async def test_a_wrong_number_of_outputs_is_nobodys_answer(self) -> None:
        async with running(ForgetfulModel()) as batcher:
            outcomes = await results(submit(batcher, items(1, 2, 3)))
            assert [type(outcome) for outcome in outcomes] == [ModelFailedError] * 3

    async def test_failures_are_told_apart_by_instance(self) -> None:
        async with running(EchoModel()) as batcher:
            one, other = await results(submit(batcher, [Item(1, fails=True), Item(2, fails=True)]))
            assert one is not other

    async def test_an_observer_that_raises_does_not_stop_the_queue(self) -> None:
        model = EchoModel(budget=1)

        def complain(_size: int, _wait_s: float, _duration_s: float) -> None:
            raise ValueError("an observer that fails")

        async with running(model) as batcher:
            batcher.stats.on_batch.append(complain)
            assert await results(submit(batcher, items(1, 2, 3))) == [10, 20, 30]


class TestDropping:
    async def test_a_cancelled_item_costs_no_compute(self) -> None:
        model = EchoModel()
        async with running(model) as batcher:
            first = await occupy(batcher)
            work = submit(batcher, items(1, 2, 3))
            work[1].future.cancel()
            model.gate.open()
            assert await results([first, work[0], work[2]]) == [0, 10, 30]
            assert batcher.stats.cancelled == 1
        assert model.values == [[0], [1, 3]]

    async def test_an_expired_item_costs_no_compute(self) -> None:
        model = EchoModel()
        async with running(model) as batcher:
            first = await occupy(batcher)
            deadline = time.monotonic() + 0.01
            expired = submit(batcher, items(1), deadline=deadline)
            alive = submit(batcher, items(2))
            await until(lambda: time.monotonic() > deadline)
            model.gate.open()
            outcomes = await results([first, *expired, *alive])
            assert isinstance(outcomes.pop(1), InferenceTimeoutError)
            assert outcomes == [0, 20]
            assert batcher.stats.expired == 1
        assert model.values == [[0], [2]]

    async def test_what_has_expired_before_it_is_queued_is_late_and_not_too_much(self) -> None:
        async with running(EchoModel()) as batcher:
            with pytest.raises(InferenceTimeoutError):
                submit(batcher, items(1), deadline=time.monotonic())
            assert len(batcher) == 0
            assert batcher.stats.expired == 1

    async def test_when_all_that_waits_is_cancelled_the_queue_drains(self) -> None:
        model = EchoModel()
        async with running(model) as batcher:
            first = await occupy(batcher)
            work = submit(batcher, items(1, 2))
            for item in work:
                item.future.cancel()
            model.gate.open()
            assert await results([first]) == [0]
            await until(lambda: len(batcher) == 0)
            assert await results(submit(batcher, items(7))) == [70]

    async def test_an_item_cancelled_in_mid_batch_harms_no_neighbour(self) -> None:
        model = EchoModel()
        async with running(model) as batcher:
            model.gate.shut()
            work = submit(batcher, items(1, 2))
            await model.gate.has_visitor()
            work[0].future.cancel()
            model.gate.open()
            assert await results(work[1:]) == [20]


class TestAdmission:
    async def test_a_full_queue_refuses_and_says_when_to_come_again(self) -> None:
        model = EchoModel()
        async with running(model, size=3) as batcher:
            first = await occupy(batcher)
            work = submit(batcher, items(1, 2, 3))
            with pytest.raises(QueueFullError) as caught:
                submit(batcher, items(4))
            assert int(caught.value.headers["Retry-After"]) >= 1
            assert batcher.stats.refused == {"queue_full": 1}
            model.gate.open()
            assert await results([first, *work]) == [0, 10, 20, 30]
            assert await results(submit(batcher, items(4))) == [40]

    async def test_a_request_is_queued_whole_or_not_at_all(self) -> None:
        model = EchoModel()
        async with running(model, size=3) as batcher:
            first = await occupy(batcher)
            work = submit(batcher, items(1, 2))
            with pytest.raises(QueueFullError):
                submit(batcher, items(3, 4))
            assert len(batcher) == 2
            model.gate.open()
            await results([first, *work])
        assert model.values == [[0], [1, 2]]

    async def test_a_request_larger_than_the_queue_passes_alone(self) -> None:
        async with running(EchoModel(), size=3) as batcher:
            assert await results(submit(batcher, items(*range(10)))) == list(range(0, 100, 10))

    async def test_callers_who_left_take_nobodys_place(self) -> None:
        model = EchoModel()
        async with running(model, size=3) as batcher:
            first = await occupy(batcher)
            batcher.withdraw(submit(batcher, items(1, 2, 3)))
            work = submit(batcher, items(4))
            model.gate.open()
            assert await results([first, *work]) == [0, 40]
        assert model.values == [[0], [4]]

    async def test_callers_who_are_too_late_take_nobodys_place(self) -> None:
        model = EchoModel()
        async with running(model, size=3) as batcher:
            first = await occupy(batcher)
            soon = time.monotonic() + 0.01
            submit(batcher, items(1, 2), deadline=soon)
            submit(batcher, items(3))
            await until(lambda: time.monotonic() > soon)
            work = submit(batcher, items(4, 5))
            with pytest.raises(QueueFullError):
                submit(batcher, items(6))
            model.gate.open()
            assert await results([first, *work]) == [0, 40, 50]
        assert model.values == [[0], [3, 4, 5]]

    async def test_who_fills_the_queue_makes_room_for_another(self) -> None:
        model = EchoModel()
        async with running(model, size=3) as batcher:
            first = await occupy(batcher)
            greedy = submit(batcher, items(1, 2, 3), flow="greedy")
            modest = submit(batcher, items(4), flow="modest")
            assert isinstance(greedy[2].future.exception(), QueueFullError)
            assert len(batcher) == 3
            with pytest.raises(QueueFullError):
                submit(batcher, items(5), flow="greedy")
            model.gate.open()
            assert await results([first, *greedy[:2], *modest]) == [0, 10, 20, 40]

    async def test_nobody_is_turned_out_for_one_who_has_as_much(self) -> None:
        model = EchoModel()
        async with running(model, size=2) as batcher:
            first = await occupy(batcher)
            work = submit(batcher, items(1), flow="a") + submit(batcher, items(2), flow="b")
            with pytest.raises(QueueFullError):
                submit(batcher, items(3), flow="c")
            model.gate.open()
            assert await results([first, *work]) == [0, 10, 20]

    async def test_another_callers_queue_is_not_counted_as_ones_own_wait(self) -> None:
        model = EchoModel()
        async with running(model) as batcher:
            first = await occupy(batcher)
            measured = time.monotonic()
            await until(lambda: time.monotonic() > measured + 0.02)
            model.gate.open()
            await results([first])
            first = await occupy(batcher)
            greedy = submit(batcher, [Item(i, cost=10) for i in range(200)], flow="greedy")
            # All of it takes 40 s and more; one turn of each flow, a fraction of a second.
            deadline = time.monotonic() + 20
            with pytest.raises(QueueFullError):
                submit(batcher, items(1), flow="greedy", deadline=deadline)
            modest = submit(batcher, items(2), flow="modest", deadline=deadline)
            model.gate.open()
            await results([first, *greedy])
            assert await results(modest) == [20]

    async def test_what_cannot_be_done_in_time_is_refused_at_once(self) -> None:
        model = EchoModel()
        async with running(model) as batcher:
            # One batch teaches it the rate: a cost of 1 takes as long as the gate was shut.
            first = await occupy(batcher)
            measured = time.monotonic()
            await until(lambda: time.monotonic() > measured + 0.02)
            model.gate.open()
            await results([first])
            first = await occupy(batcher)
            work = submit(batcher, [Item(1, cost=1000)])
            assert batcher.expected_wait_s() > 10
            with pytest.raises(QueueFullError) as caught:
                submit(batcher, items(2), deadline=time.monotonic() + 5)
            assert int(caught.value.headers["Retry-After"]) > 10
            model.gate.open()
            assert await results([first, *work]) == [0, 10]

    async def test_there_must_be_time_for_twice_the_expected_wait(self) -> None:
        model = EchoModel()
        async with running(model) as batcher:
            first = await occupy(batcher)
            measured = time.monotonic()
            await until(lambda: time.monotonic() > measured + 0.02)
            model.gate.open()
            await results([first])
            first = await occupy(batcher)
            work = submit(batcher, [Item(1, cost=1000)])
            wait_s = batcher.expected_wait_s()
            with pytest.raises(QueueFullError):
                submit(batcher, items(2), deadline=time.monotonic() + 1.8 * wait_s)
            # What is left of the batch under way counts too: at most a thousandth of it.
            last = submit(batcher, items(3), deadline=time.monotonic() + 2.2 * wait_s)
            model.gate.open()
            assert await results([first, *work, *last]) == [0, 10, 30]

    async def test_nobody_is_turned_out_for_one_who_is_refused_after_all(self) -> None:
        model = EchoModel()
        async with running(model, size=4) as batcher:
            first = await occupy(batcher)
            measured = time.monotonic()
            await until(lambda: time.monotonic() > measured + 0.02)
            model.gate.open()
            await results([first])
            first = await occupy(batcher)
            greedy = submit(batcher, [Item(i, cost=1000) for i in range(4)], flow="greedy")
            # One turn of the other takes 20 s and more.
            with pytest.raises(QueueFullError):
                submit(batcher, items(7), flow="modest", deadline=time.monotonic() + 5)
            assert len(batcher) == 4
            model.gate.open()
            assert await results([first, *greedy]) == [0, 0, 10, 20, 30]

    async def test_who_was_let_in_is_refused_only_when_there_is_no_time_at_all(self) -> None:
        model = EchoModel()
        async with running(model) as batcher:
            first = await occupy(batcher)
            measured = time.monotonic()
            await until(lambda: time.monotonic() > measured + 0.02)
            model.gate.open()
            await results([first])
            first = await occupy(batcher)
            work = submit(batcher, [Item(1, cost=1000)])
            deadline = time.monotonic() + 1.5 * batcher.expected_wait_s()
            with pytest.raises(QueueFullError):
                submit(batcher, items(2), deadline=deadline)
            let_in = batcher.submit(items(3), flow="somebody", deadline=deadline, is_let_in=True)
            model.gate.open()
            assert await results([first, *work, *let_in]) == [0, 10, 30]


class TestLife:
    async def test_it_knows_its_model_once_started(self) -> None:
        async with running(EchoModel()) as batcher:
            assert str(batcher.state) == ModelState.READY
            assert batcher.info is not None
            assert batcher.info.version == "v1"
        assert str(batcher.state) == ModelState.STOPPED

    async def test_a_model_that_cannot_be_loaded_stops_the_start(self) -> None:
        batcher = Batcher(UnloadableModel(), size=1)
        with pytest.raises(ModelLoadError, match="no such artifact"):
            await batcher.start()
        assert batcher.state is ModelState.FAILED
        await batcher.stop(PATIENCE_S)

    async def test_any_error_of_loading_becomes_one_that_names_the_model(self) -> None:
        model = EchoModel()
        model.load_error = KeyError("pipeline")
        batcher = Batcher(model, size=1)
        with pytest.raises(ModelLoadError, match=r"echo.*pipeline"):
            await batcher.start()
        await batcher.stop(PATIENCE_S)

    async def test_a_dead_thread_fails_what_waits_and_the_model_comes_back(self) -> None:
        model = EchoModel()
        async with running(model) as batcher:
            model.gate.shut()
            doomed = submit(batcher, [Item(1, kills=True)])
            await model.gate.has_visitor()
            waiting = submit(batcher, items(2, 3))
            model.gate.open()
            outcomes = await results([*doomed, *waiting])
            assert [type(outcome) for outcome in outcomes] == [ModelUnavailableError] * 3
            assert len({id(outcome) for outcome in outcomes}) == 3
            await until(lambda: batcher.state is ModelState.READY)
            assert (model.loads, batcher.stats.restarts) == (2, 1)
            assert batcher.info is not None
            assert batcher.info.version == "v2"
            assert await results(submit(batcher, items(4))) == [40]

    async def test_while_it_is_loaded_again_callers_are_told_to_come_later(self) -> None:
        model = EchoModel()
        async with running(model) as batcher:
            model.load_error = OSError("the disk is gone")
            await results(submit(batcher, [Item(1, kills=True)]))
            with pytest.raises(ModelUnavailableError):
                submit(batcher, items(2))
            # It tries until it can.
            await until(lambda: model.loads >= 3)
            model.load_error = None
            await until(lambda: batcher.state is ModelState.READY)
            assert await results(submit(batcher, items(2))) == [20]

    async def test_stopping_finishes_what_waits_and_refuses_what_comes(self) -> None:
        model = EchoModel()
        batcher = Batcher(model, size=10)
        await batcher.start()
        first = await occupy(batcher)
        work = submit(batcher, items(1, 2))
        stopping = asyncio.create_task(batcher.stop(PATIENCE_S))
        await asyncio.sleep(0)
        with pytest.raises(ModelUnavailableError):
            submit(batcher, items(3))
        model.gate.open()
        assert await results([first, *work]) == [0, 10, 20]
        await stopping

    async def test_stopping_fails_what_cannot_be_finished_in_time(self) -> None:
        model = EchoModel()
        batcher = Batcher(model, size=10)
        await batcher.start()
        first = await occupy(batcher)
        work = submit(batcher, items(1))
        await batcher.stop(0.01)
        outcomes = await results([first, *work])
        assert [type(outcome) for outcome in outcomes] == [ModelUnavailableError] * 2
        model.gate.open()
        await until(lambda: batcher._thread is not None and not batcher._thread.is_alive())
        assert model.values == [[0]]

    async def test_stopping_while_it_loads_again_leaves_it_stopped(self) -> None:
        model = EchoModel()
        async with running(model) as batcher:
            await results(submit(batcher, [Item(1, kills=True)]))
        await until(lambda: batcher._thread is not None and not batcher._thread.is_alive())
        await asyncio.sleep(0)
        assert str(batcher.state) == ModelState.STOPPED

    async def test_it_can_be_stopped_before_it_was_started(self) -> None:
        await Batcher(EchoModel(), size=1).stop(1)
