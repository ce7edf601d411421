"""The engine: deadlines, callers who leave, bad input, and the models' life."""

import asyncio
import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from app.exceptions import UnprocessableError
from app.inference.base import (
    CallerGoneError,
    InferenceTimeoutError,
    ModelFailedError,
    ModelLoadError,
    ModelNotFoundError,
    ModelState,
    QueueFullError,
)
from app.inference.engine import InferenceEngine
from app.presence import ConnectionPresence
from tests.support.engines import call, serving
from tests.support.models import EchoModel, Item, UnloadableModel
from tests.support.waiting import Gate, until


class ParsingModel(EchoModel):
    """Its preprocessing computes, refuses the value 13 and goes through `parse_gate`."""

    preprocess_computes = True

    def __init__(self) -> None:
        super().__init__()
        self.parse_gate = Gate()
        self.parsed: list[int] = []

    def preprocess(self, item: Item) -> Item:
        self.parse_gate.go_through()
        self.parsed.append(item.value)
        if item.value == 13:
            raise UnprocessableError("The value 13 is not processed.")
        return item


@contextmanager
def no_complaints_of_the_loop() -> Iterator[None]:
    """Fail when asyncio reports an exception that nobody retrieved."""
    loop = asyncio.get_running_loop()
    complaints: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _loop, context: complaints.append(context))
    try:
        yield
        gc.collect()
    finally:
        loop.set_exception_handler(None)
    assert complaints == []


async def test_an_answer_has_its_timing() -> None:
    async with serving(EchoModel()) as engine:
        answer = await engine.get("echo").predict(Item(4), call())
    assert answer.output == 40
    timing = answer.timing
    parts = (timing.decode_ms, timing.queue_ms, timing.inference_ms)
    assert all(part >= 0 for part in parts)
    assert sum(parts) <= timing.total_ms


async def test_many_inputs_are_answered_in_order() -> None:
    model = ParsingModel()
    async with serving(model) as engine:
        answers = await engine.get("echo").predict_many([Item(3), Item(1), Item(2)], call())
    assert [answer.output for answer in answers] == [30, 10, 20]
    assert model.values == [[3, 1, 2]]


class TestDeadline:
    async def test_a_busy_model_does_not_hold_its_callers_beyond_it(self) -> None:
        model = EchoModel()
        async with serving(model) as engine:
            handle = engine.get("echo")
            model.gate.shut()
            first = asyncio.create_task(handle.predict(Item(1), call()))
            await model.gate.has_visitor()
            with pytest.raises(InferenceTimeoutError):
                await handle.predict(Item(2), call(deadline=time.monotonic() + 0.02))
            model.gate.open()
            assert (await first).output == 10
        assert model.values == [[1]]

    async def test_one_that_has_passed_costs_nothing(self) -> None:
        model = ParsingModel()
        async with serving(model) as engine:
            with pytest.raises(InferenceTimeoutError):
                await engine.get("echo").predict(Item(1), call(deadline=time.monotonic() - 1))
        assert model.parsed == []
        assert model.batches == []

    async def test_it_counts_while_decoding_waits_for_a_thread(self) -> None:
        model = ParsingModel()
        async with serving(model) as engine:
            handle = engine.get("echo")
            model.parse_gate.shut()
            first = [asyncio.create_task(handle.predict(Item(i), call())) for i in range(2)]
            await model.parse_gate.has_visitor()
            with pytest.raises(InferenceTimeoutError):
                await handle.predict(Item(9), call(deadline=time.monotonic() + 0.02))
            model.parse_gate.open()
            assert [answer.output for answer in await asyncio.gather(*first)] == [0, 10]
        assert 9 not in model.parsed


class TestCallerWhoLeaves:
    async def test_its_work_is_dropped_before_it_costs_compute(self) -> None:
        model = EchoModel()
        presence = ConnectionPresence()
        async with serving(model) as engine:
            handle = engine.get("echo")
            model.gate.shut()
            first = asyncio.create_task(handle.predict(Item(1), call()))
            await model.gate.has_visitor()
            leaving = asyncio.create_task(handle.predict(Item(2), call(presence=presence)))
            await until(lambda: len(handle.batcher) == 1)
            presence.leave()
            with pytest.raises(CallerGoneError):
                await leaving
            model.gate.open()
            await first
            assert handle.batcher.stats.cancelled == 1
        assert model.values == [[1]]

    async def test_one_that_stays_is_answered(self) -> None:
        model = EchoModel()
        async with serving(model) as engine:
            presence = ConnectionPresence()
            model.gate.shut()
            staying = call(presence=presence)
            task = asyncio.create_task(engine.get("echo").predict(Item(1), staying))
            await model.gate.has_visitor()
            model.gate.open()
            assert (await task).output == 10
            # What it does when it has its answer harms nobody.
            presence.leave()

    async def test_one_that_left_before_is_not_waited_for(self) -> None:
        model = EchoModel()
        presence = ConnectionPresence()
        presence.leave()
        async with serving(model) as engine:
            model.gate.shut()
            with pytest.raises(CallerGoneError):
                await engine.get("echo").predict(Item(1), call(presence=presence))

    async def test_a_cancelled_task_stays_cancelled(self) -> None:
        model = EchoModel()
        async with serving(model) as engine:
            model.gate.shut()
            task = asyncio.create_task(
                engine.get("echo").predict(Item(1), call(presence=ConnectionPresence()))
            )
            await model.gate.has_visitor()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert task.cancelled()


class TestBadInput:
    async def test_it_never_reaches_the_model(self) -> None:
        model = ParsingModel()
        async with serving(model) as engine:
            with pytest.raises(UnprocessableError, match="13"):
                await engine.get("echo").predict(Item(13), call())
        assert model.batches == []

    async def test_one_bad_input_of_many_answers_none(self) -> None:
        model = ParsingModel()
        async with serving(model) as engine:
            with pytest.raises(UnprocessableError):
                await engine.get("echo").predict_many([Item(1), Item(13), Item(2)], call())
        assert model.batches == []

    async def test_failures_beside_the_first_are_not_reported_as_forgotten(self) -> None:
        async with serving(EchoModel()) as engine:
            with no_complaints_of_the_loop():
                with pytest.raises(ModelFailedError):
                    await engine.get("echo").predict_many(
                        [Item(i, fails=True) for i in (1, 2, 3)], call()
                    )
                await until(lambda: len(engine.get("echo").batcher) == 0)

    async def test_many_inputs_that_do_not_fit_the_queue_answer_none(self) -> None:
        model = EchoModel()
        async with serving(model, queue_size=2) as engine:
            handle = engine.get("echo")
            model.gate.shut()
            first = asyncio.create_task(handle.predict(Item(0), call()))
            await model.gate.has_visitor()
            second = asyncio.create_task(handle.predict(Item(1), call()))
            await until(lambda: len(handle.batcher) == 1)
            with pytest.raises(QueueFullError):
                await handle.predict_many([Item(2), Item(3)], call())
            model.gate.open()
            assert [(await task).output for task in (first, second)] == [0, 10]

    async def test_images_that_wait_for_decoding_are_bounded(self) -> None:
        model = ParsingModel()
        async with serving(model, queue_size=3) as engine:
            handle = engine.get("echo")
            model.parse_gate.shut()
            waiting = [asyncio.create_task(handle.predict(Item(i), call())) for i in range(3)]
            await model.parse_gate.has_visitor()
            with pytest.raises(QueueFullError):
                await handle.predict(Item(4), call())
            model.parse_gate.open()
            assert [answer.output for answer in await asyncio.gather(*waiting)] == [0, 10, 20]

    async def test_images_that_are_being_decoded_count_as_waiting_in_turns(self) -> None:
        model = ParsingModel()
        async with serving(model, queue_size=300) as engine:
            handle = engine.get("echo")
            # One batch teaches it the rate.
            model.gate.shut()
            first = asyncio.create_task(handle.predict(Item(0), call()))
            await model.gate.has_visitor()
            measured = time.monotonic()
            await until(lambda: time.monotonic() > measured + 0.02)
            model.gate.open()
            await first
            model.parse_gate.shut()
            now = time.monotonic()
            patient = call(flow="greedy", deadline=now + 3600)
            waiting = [
                asyncio.create_task(handle.predict(Item(i), patient)) for i in range(20, 220)
            ]
            await model.parse_gate.has_visitor()
            # All of them take four seconds and more; a turn of each flow, a fraction of one.
            with pytest.raises(QueueFullError):
                await handle.predict(Item(1), call(flow="greedy", deadline=now + 7))
            another = call(flow="modest", deadline=now + 7)
            modest = asyncio.create_task(handle.predict(Item(2), another))
            await asyncio.sleep(0)
            assert not modest.done()
            model.parse_gate.open()
            assert (await modest).output == 20
            await asyncio.gather(*waiting)


class TestLife:
    async def test_a_name_that_no_model_has(self) -> None:
        async with serving(EchoModel()) as engine:
            with pytest.raises(ModelNotFoundError, match="'nobody'"):
                engine.get("nobody")

    async def test_it_is_ready_once_started_and_not_after(self) -> None:
        async with serving(EchoModel()) as engine:
            assert engine.problems() == {}
        assert engine.problems() == {"model:echo": "is stopped"}

    async def test_it_says_which_queue_is_full(self) -> None:
        model = EchoModel()
        async with serving(model, queue_size=1) as engine:
            handle = engine.get("echo")
            model.gate.shut()
            tasks = [asyncio.create_task(handle.predict(Item(0), call()))]
            await model.gate.has_visitor()
            tasks.append(asyncio.create_task(handle.predict(Item(1), call())))
            await until(lambda: len(handle.batcher) == 1)
            assert engine.problems() == {"queue:echo": "is full"}
            model.gate.open()
            await asyncio.gather(*tasks)

    async def test_it_says_which_model_is_away_and_when_it_is_back(self) -> None:
        model = EchoModel()
        async with serving(model) as engine:
            handle = engine.get("echo")
            handle.batcher.restart_pause_s = 0
            model.load_error = OSError("the disk is gone")
            with pytest.raises(Exception, match="loaded again"):
                await handle.predict(Item(1, kills=True), call())
            assert engine.problems().keys() == {"model:echo"}
            model.load_error = None
            await until(lambda: engine.problems() == {})

    async def test_a_model_that_cannot_be_loaded_stops_the_start_and_the_others(self) -> None:
        engine = InferenceEngine(queue_size=1)
        good = EchoModel()
        good.name = "good"
        engine.add(good)
        engine.add(UnloadableModel())
        with pytest.raises(ModelLoadError, match="no such artifact"):
            await engine.start()
        assert engine.get("good").state is ModelState.STOPPED
        thread = engine.get("good").batcher._thread
        assert thread is not None
        await until(lambda: not thread.is_alive())

    async def test_what_is_known_of_a_model_is_known_after_its_start(self) -> None:
        engine = InferenceEngine(queue_size=1)
        handle = engine.add(EchoModel())
        with pytest.raises(RuntimeError, match="has not been loaded"):
            _ = handle.info
        await engine.start()
        assert handle.info.name == handle.name == "echo"
        await engine.stop(1)
