"""Turns before the threads that decode."""

import asyncio
import time

import pytest

from app.inference.preprocess_pool import PreprocessPool, TurnLimiter
from tests.support.waiting import Gate, until


async def hold(limiter: TurnLimiter, flow: str, order: list[str], release: asyncio.Event) -> None:
    async with limiter.place(flow):
        order.append(flow)
        await release.wait()


async def turn_of_loop() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


class TestTurnLimiter:
    async def test_flows_take_turns_however_many_wait_in_each(self) -> None:
        limiter, order, release = TurnLimiter(1), list[str](), asyncio.Event()
        tasks = [asyncio.create_task(hold(limiter, "greedy", order, release)) for _ in range(4)]
        await turn_of_loop()
        tasks.append(asyncio.create_task(hold(limiter, "modest", order, release)))
        await turn_of_loop()
        assert order == ["greedy"]
        release.set()
        await asyncio.gather(*tasks)
        assert order == ["greedy", "greedy", "modest", "greedy", "greedy"]

    async def test_so_many_hold_a_place_at_once(self) -> None:
        limiter, order, release = TurnLimiter(2), list[str](), asyncio.Event()
        tasks = [asyncio.create_task(hold(limiter, str(i), order, release)) for i in range(5)]
        await turn_of_loop()
        assert order == ["0", "1"]
        release.set()
        await asyncio.gather(*tasks)

    async def test_who_stops_waiting_takes_nobodys_place(self) -> None:
        limiter, order, release = TurnLimiter(1), list[str](), asyncio.Event()
        tasks = [
            asyncio.create_task(hold(limiter, flow, order, release)) for flow in ("a", "b", "c")
        ]
        await turn_of_loop()
        tasks[1].cancel()
        release.set()
        assert isinstance((await asyncio.gather(*tasks, return_exceptions=True))[1], BaseException)
        assert order == ["a", "c"]

    async def test_who_leaves_in_the_turn_in_which_it_gets_the_place_passes_it_on(self) -> None:
        limiter, order = TurnLimiter(1), list[str]()
        first, second = asyncio.Event(), asyncio.Event()
        tasks = [asyncio.create_task(hold(limiter, "a", order, first))]
        await turn_of_loop()
        tasks += [asyncio.create_task(hold(limiter, flow, order, second)) for flow in ("b", "c")]
        await turn_of_loop()
        first.set()
        # The place is given to b, which has not run yet.
        await until(lambda: tasks[0].done())
        tasks[1].cancel()
        second.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert order[0] == "a"
        assert order[-1] == "c"
        # And it is free again.
        async with asyncio.timeout(5), limiter.place("d"):
            pass


class TestPool:
    async def test_a_result_comes_with_the_seconds_it_took(self) -> None:
        pool = PreprocessPool(1)

        def decode() -> int:
            time.sleep(0.02)
            return 7

        result, seconds = await pool.run("somebody", decode)
        assert result == 7
        assert seconds >= 0.02
        pool.shut_down()

    async def test_an_error_is_raised_and_gives_its_place_back(self) -> None:
        pool = PreprocessPool(1)
        for _ in range(5):
            with pytest.raises(ZeroDivisionError):
                await pool.run("somebody", lambda: 1 // 0)
        assert (await pool.run("somebody", lambda: 7))[0] == 7
        pool.shut_down()

    async def test_one_picture_of_another_caller_does_not_wait_for_all_of_the_first(self) -> None:
        pool = PreprocessPool(1)
        gate, order = Gate(), list[str]()
        gate.shut()

        def decode(name: str) -> None:
            gate.go_through()
            order.append(name)

        greedy = [asyncio.create_task(pool.run("greedy", lambda: decode("g"))) for _ in range(20)]
        await gate.has_visitor()
        modest = asyncio.create_task(pool.run("modest", lambda: decode("m")))
        await turn_of_loop()
        gate.open()
        await asyncio.gather(modest, *greedy)
        assert order.index("m") < 5
        pool.shut_down()
