"""What `python -m app.serve` does around the application."""

import asyncio
import gc
from collections.abc import Iterator

import pytest
import uvicorn
from starlette.applications import Starlette

from app.config import Settings
from app.detection.stream import StreamRegistry
from app.serve import Server, rest_garbage_collector
from tests.support.waiting import until


@pytest.fixture
def collector() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.enable()
    gc.unfreeze()
    gc.set_threshold(*thresholds)


async def test_garbage_is_collected_once_the_server_has_started(collector: None) -> None:
    rest_garbage_collector()
    app = Starlette()
    app.state.settings = Settings(_env_file=None)
    app.state.streams = StreamRegistry(max_streams=1, max_per_caller=1)
    config = uvicorn.Config(app, port=0, lifespan="off", log_config=None)
    server = Server(config, app)
    assert not gc.isenabled()
    serving = asyncio.create_task(server.serve())
    await until(lambda: server.started and gc.isenabled())
    assert gc.get_freeze_count() > 0
    server.should_exit = True
    await serving
