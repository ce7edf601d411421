"""The metrics of several workers are those of the service, whichever worker is asked."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.databases import temporary_database
from tests.monitoring.support import Samples
from tests.support.gunicorn import Gunicorn, running_gunicorn
from tests.support.waiting import PATIENCE_S, until

WORKERS = 2
REQUESTS = 60


@pytest.fixture(scope="module")
async def gunicorn(
    detection_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Gunicorn]:
    folder = tmp_path_factory.mktemp("gunicorn")
    async with (
        temporary_database("sqlite") as url,
        running_gunicorn(
            url, detection_model, folder, workers=WORKERS, LOG_FORMAT="json", ACCESS_LOG="true"
        ) as running,
    ):
        assert len(list_folder(folder)) == 1
        yield running
    # gunicorn made the folder of the metrics, and takes it away again.
    assert list_folder(folder) == []


def list_folder(folder: Path) -> list[Path]:
    return list(folder.glob("lookout-metrics-*"))


async def measure(gunicorn: Gunicorn) -> Samples:
    return Samples((await gunicorn.get("/metrics")).text)


async def until_workers(gunicorn: Gunicorn, count: int) -> Samples:
    async with asyncio.timeout(6 * PATIENCE_S):
        while True:
            samples = await measure(gunicorn)
            if samples.sum("lookout_workers") == count:
                return samples
            await asyncio.sleep(0.05)


async def test_requests_are_counted_once_whoever_answered(gunicorn: Gunicorn) -> None:
    name, labels = "lookout_http_requests_total", {"route": "/health/live", "status": "200"}
    before = (await measure(gunicorn)).sum(name, **labels)
    answers = await asyncio.gather(*(gunicorn.get("/health/live") for _ in range(REQUESTS)))
    assert {answer.status_code for answer in answers} == {200}
    for _ in range(4 * WORKERS):
        assert (await measure(gunicorn)).sum(name, **labels) - before == REQUESTS


async def test_gauges_are_of_all_workers_together(gunicorn: Gunicorn) -> None:
    samples = await measure(gunicorn)
    assert samples.sum("lookout_workers") == WORKERS
    assert samples.sum("lookout_model_ready", model="newsgroups") == 1
    assert samples.sum("lookout_build_info") == 1
    one_queue = 256
    assert (
        samples.sum("lookout_inference_queue_capacity_items", model="newsgroups")
        == WORKERS * one_queue
    )


async def test_a_killed_worker_leaves_the_gauges_and_not_the_counters(gunicorn: Gunicorn) -> None:
    name, labels = "lookout_http_requests_total", {"route": "/health/live", "status": "200"}
    before = (await measure(gunicorn)).sum(name, **labels)
    killed, *_ = gunicorn.workers()
    os.kill(killed, signal.SIGKILL)
    after = await until_workers(gunicorn, WORKERS - 1)
    assert after.sum(name, **labels) == before
    # gunicorn starts another in its place, and its counts are added to those of the dead.
    back = await until_workers(gunicorn, WORKERS)
    assert back.sum(name, **labels) == before
    assert killed not in gunicorn.workers()


async def test_what_gunicorn_and_its_workers_log_are_lines_of_json(gunicorn: Gunicorn) -> None:
    assert (await gunicorn.get("/")).status_code == 200
    # Written when the answer has been sent.
    await until(lambda: '"logger": "access"' in gunicorn.log)
    lines = gunicorn.log.splitlines()
    assert all(line.startswith('{"time": "') for line in lines), gunicorn.log
    loggers = {line.split('"logger": "')[1].split('"')[0] for line in lines}
    assert loggers >= {"gunicorn.error", "uvicorn.error", "app.main", "access"}
