"""The worker that gunicorn starts: uvicorn, set up as `app.serve` sets it up."""

import asyncio
import signal
import socket
from types import FrameType
from typing import Any, NoReturn

from gunicorn.arbiter import Arbiter
from uvicorn_worker import UvicornWorker

from app.config import get_settings
from app.serve import rest_garbage_collector, settle_garbage_collector, uvicorn_options
from app.shutdown import GracefulServer, end_at_once

_HEARTBEAT_S = 5.0
_RETRY_PAUSE_S = 5.0


class WorkerServer(GracefulServer):
    """Ends at once only when told so: gunicorn repeats its SIGTERM when it counts its workers."""

    impatient_signals = (signal.SIGINT,)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            settle_garbage_collector()


class LookoutWorker(UvicornWorker):  # type: ignore[misc]  # it carries no types
    """Shows signs of life also while its models load, which takes longer than `timeout`, and
    while it ends."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Read here and not with the module, which SIGHUP does not read again.
        self.CONFIG_KWARGS = uvicorn_options(get_settings())
        super().__init__(*args, **kwargs)

    async def _serve(self) -> None:
        rest_garbage_collector()
        self.config.app = self.wsgi
        server = WorkerServer(self.config, self.wsgi)
        # How gunicorn says that it is in a hurry. Uvicorn's worker would do nothing.
        signal.signal(signal.SIGQUIT, _quit)
        heartbeat = asyncio.create_task(self._beat())
        try:
            await server.serve(sockets=self.sockets)
        except SystemExit:
            # Uvicorn's way to say that the application does not start.
            await self._give_up()
        heartbeat.cancel()

    async def _give_up(self) -> NoReturn:
        """At the first start, end the service: what stops it once stops it every time. Later, when
        others serve, only this worker: gunicorn starts another in its place, and another."""
        if self.age <= self.cfg.workers:
            raise SystemExit(Arbiter.WORKER_BOOT_ERROR)
        await asyncio.sleep(_RETRY_PAUSE_S)
        raise SystemExit(1)

    async def _beat(self) -> None:
        # The server's own clock calls `callback_notify` in between only.
        while True:
            self.notify()
            await asyncio.sleep(_HEARTBEAT_S)


def _quit(_number: int, _frame: FrameType | None) -> None:
    # Not as SIGQUIT itself, which leaves a core dump.
    end_at_once(signal.SIGTERM)
