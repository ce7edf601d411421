"""The prediction cache: bounded in bytes, and one computation for equal questions."""

import asyncio
import time

import pytest

from app.inference.base import InferenceTimeoutError, ModelFailedError, ModelState
from app.inference.cache import CachingClassifier, PredictionCache
from app.inference.engine import InferenceEngine
from app.inference.joblib_pipeline import Classification
from tests.support.engines import call, serving
from tests.support.models import GatedClassifier
from tests.support.waiting import until


def classification(label: str = "yes") -> Classification:
    return Classification(label, {label: 0.75, "other": 0.25})


def caching(engine: InferenceEngine, max_bytes: int = 2**20) -> CachingClassifier:
    return CachingClassifier(engine.get("gated-text"), PredictionCache(max_bytes))


class TestPredictionCache:
    def size_of_one(self) -> int:
        cache = PredictionCache(2**20)
        cache.put(b"k", classification())
        return cache.bytes

    def test_it_remembers(self) -> None:
        cache = PredictionCache(2**20)
        assert cache.get(b"a") is None
        cache.put(b"a", classification())
        assert cache.get(b"a") == classification()
        assert (cache.stats.hits, cache.stats.misses) == (1, 1)

    def test_it_forgets_what_was_used_longest_ago_when_bytes_run_out(self) -> None:
        cache = PredictionCache(3 * self.size_of_one())
        for key in (b"a", b"b", b"c"):
            cache.put(key, classification())
        cache.get(b"a")
        cache.put(b"d", classification())
        assert [cache.get(key) is not None for key in (b"a", b"b", b"c", b"d")] == [
            True,
            False,
            True,
            True,
        ]
        assert cache.stats.evictions == 1
        assert cache.bytes <= cache.max_bytes

    def test_its_bytes_are_those_of_its_entries(self) -> None:
        cache = PredictionCache(2**20)
        for i in range(100):
            cache.put(bytes([i % 7]), classification(str(i)))
        assert len(cache) == 7
        assert cache.bytes == 7 * self.size_of_one()
        cache.clear()
        assert (len(cache), cache.bytes) == (0, 0)

    def test_what_is_larger_than_the_cache_is_not_kept_and_evicts_nothing(self) -> None:
        cache = PredictionCache(self.size_of_one())
        cache.put(b"a", classification())
        cache.put(b"b", Classification("x", {str(i): 0.0 for i in range(1000)}))
        assert cache.get(b"a") is not None
        assert cache.get(b"b") is None

    def test_no_bytes_keep_nothing(self) -> None:
        cache = PredictionCache(0)
        cache.put(b"a", classification())
        assert len(cache) == 0

    def test_a_key_is_of_one_version_and_one_text(self) -> None:
        keys = {
            PredictionCache.key(version, text)
            for version, text in [("v1", "a"), ("v2", "a"), ("v1", "b"), ("v1", ""), ("v1", "a ")]
        }
        assert len(keys) == 5

    def test_a_text_that_is_not_unicode_has_a_key(self) -> None:
        assert PredictionCache.key("v1", "\ud800") != PredictionCache.key("v1", "\ud801")


class TestSingleFlight:
    async def test_a_hundred_equal_questions_at_once_compute_once(self) -> None:
        model = GatedClassifier()
        async with serving(model) as engine:
            texts = caching(engine)
            model.gate.shut()
            tasks = [asyncio.create_task(texts.predict("a text", call())) for _ in range(100)]
            await model.gate.has_visitor()
            model.gate.open()
            outcomes = await asyncio.gather(*tasks)
        assert model.batches == [["a text"]]
        assert {answer.output.category for answer, _ in outcomes} == {"yes"}
        assert [cached for _, cached in outcomes].count(False) == 1

    async def test_the_second_time_the_model_is_not_asked(self) -> None:
        model = GatedClassifier()
        async with serving(model) as engine:
            texts = caching(engine)
            (first, was_cached), (again, is_cached) = [
                await texts.predict("a text", call()) for _ in range(2)
            ]
        assert (was_cached, is_cached) == (False, True)
        assert first.output == again.output
        assert model.batches == [["a text"]]

    async def test_a_leader_that_fails_does_not_answer_for_the_others(self) -> None:
        model = GatedClassifier()
        async with serving(model) as engine:
            texts = caching(engine)
            model.gate.shut()
            tasks = [asyncio.create_task(texts.predict("bad", call())) for _ in range(3)]
            await model.gate.has_visitor()
            model.gate.open()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [ModelFailedError] * 3
            assert (await texts.predict("good", call()))[0].output.category == "yes"
        assert len(texts.cache) == 1

    async def test_a_leader_that_leaves_takes_the_answer_from_nobody(self) -> None:
        model = GatedClassifier()
        async with serving(model) as engine:
            texts = caching(engine)
            model.gate.shut()
            leader = asyncio.create_task(texts.predict("a text", call()))
            await model.gate.has_visitor()
            followers = [asyncio.create_task(texts.predict("a text", call())) for _ in range(3)]
            await asyncio.sleep(0)
            leader.cancel()
            await asyncio.wait([leader])
            assert leader.cancelled()
            model.gate.open()
            outcomes = await asyncio.gather(*followers)
        assert [answer.output.category for answer, _ in outcomes] == ["yes"] * 3
        assert model.batches == [["a text"]] * 2

    async def test_a_follower_that_leaves_does_not_end_the_flight(self) -> None:
        model = GatedClassifier()
        async with serving(model) as engine:
            texts = caching(engine)
            model.gate.shut()
            leader = asyncio.create_task(texts.predict("a text", call()))
            await model.gate.has_visitor()
            follower = asyncio.create_task(texts.predict("a text", call()))
            await asyncio.sleep(0)
            follower.cancel()
            model.gate.open()
            assert (await leader)[0].output.category == "yes"

    async def test_a_follower_waits_no_longer_than_its_own_deadline(self) -> None:
        model = GatedClassifier()
        async with serving(model) as engine:
            texts = caching(engine)
            model.gate.shut()
            leader = asyncio.create_task(texts.predict("a text", call()))
            await model.gate.has_visitor()
            with pytest.raises(InferenceTimeoutError):
                await texts.predict("a text", call(deadline=time.monotonic() + 0.01))
            model.gate.open()
            assert (await leader)[0].output.category == "yes"


class TestBatch:
    async def test_equal_texts_are_computed_once_and_answered_in_order(self) -> None:
        model = GatedClassifier()
        async with serving(model) as engine:
            texts = caching(engine)
            outcomes = await texts.predict_many(["b", "a", "b", "a", "c"], call())
        assert model.batches == [["b", "a", "c"]]
        assert len(outcomes) == 5

    async def test_only_what_is_not_remembered_is_computed(self) -> None:
        model = GatedClassifier()
        async with serving(model) as engine:
            texts = caching(engine)
            await texts.predict("a", call())
            outcomes = await texts.predict_many(["b", "a"], call())
        assert model.batches == [["a"], ["b"]]
        assert [cached for _, cached in outcomes] == [False, True]

    async def test_when_one_fails_none_is_answered_and_the_bad_one_not_remembered(self) -> None:
        async with serving(GatedClassifier()) as engine:
            texts = caching(engine)
            with pytest.raises(ModelFailedError):
                await texts.predict_many(["a", "bad"], call())
            assert texts.cache.get(PredictionCache.key("v1", "bad")) is None


async def test_another_version_of_the_model_answers_anew() -> None:
    model = GatedClassifier()
    async with serving(model) as engine:
        texts = caching(engine)
        await texts.predict("a", call())
        batcher = texts.handle.batcher
        batcher.restart_pause_s = 0
        # The model comes back as version 2.
        batcher._on_thread_death(asyncio.get_running_loop().create_future(), RuntimeError("dead"))
        await until(lambda: batcher.state is ModelState.READY)
        _, cached = await texts.predict("a", call())
    assert cached is False
    assert model.batches == [["a"], ["a"]]
